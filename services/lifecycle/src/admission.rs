//! Who may go next: slots of the campaign, of the source and of the destination.
//!
//! Each source of a campaign has its own line, and the lines take turns, so that one source with
//! 50,000 databases does not starve the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use drover_schemas::{CampaignName, MigrationId, ServerName};

/// How far a line is searched for a migration whose destination has a slot. Bounds the cost of
/// an admission where a source feeds many destinations and the first in line is full.
const LOOK_AHEAD: usize = 16;

/// The slots of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// How many of its databases are moved away at once.
    pub as_source: u32,
    /// How many databases are brought to it at once.
    pub as_destination: u32,
}

/// Where a migration goes from and to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The source server.
    pub source: ServerName,
    /// The destination server.
    pub destination: ServerName,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight_max: u32,
    in_flight: u32,
    admitting: bool,
    quarantined: BTreeSet<ServerName>,
    lines: BTreeMap<ServerName, VecDeque<(MigrationId, ServerName)>>,
    turns: VecDeque<ServerName>,
}

/// The state of all slots, over all campaigns.
#[derive(Debug, Default)]
pub struct Admission {
    slots: HashMap<ServerName, Slots>,
    from: HashMap<ServerName, u32>,
    to: HashMap<ServerName, u32>,
    lanes: BTreeMap<CampaignName, Lane>,
}

impl Admission {
    /// With these servers; one that is not named has no slot.
    pub fn new(slots: HashMap<ServerName, Slots>) -> Self {
        Self { slots, ..Self::default() }
    }

    /// Sets a campaign's limits.
    pub fn limit(
        &mut self,
        campaign: &CampaignName,
        in_flight_max: u32,
        admitting: bool,
        quarantined: &BTreeSet<ServerName>,
    ) {
        let lane = self.lanes.entry(campaign.clone()).or_default();
        lane.in_flight_max = in_flight_max;
        lane.admitting = admitting;
        lane.quarantined.clone_from(quarantined);
    }

    /// Puts a migration at the end of its source's line. It cannot be taken out again: who is
    /// given one that left for another reason releases its slots and asks again.
    pub fn enqueue(&mut self, campaign: &CampaignName, id: MigrationId, route: &Route) {
        let lane = self.lanes.entry(campaign.clone()).or_default();
        let line = lane.lines.entry(route.source.clone()).or_default();
        if line.is_empty() {
            lane.turns.push_back(route.source.clone());
        }
        line.push_back((id, route.destination.clone()));
    }

    /// Counts a migration as being in flight. [`Self::admit`] has done so for those it gave out.
    pub fn take(&mut self, campaign: &CampaignName, route: &Route) {
        self.lanes.entry(campaign.clone()).or_default().in_flight += 1;
        *self.from.entry(route.source.clone()).or_default() += 1;
        *self.to.entry(route.destination.clone()).or_default() += 1;
    }

    /// Gives its slots back.
    pub fn release(&mut self, campaign: &CampaignName, route: &Route) {
        if let Some(lane) = self.lanes.get_mut(campaign) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        for (used, host) in [(&mut self.from, &route.source), (&mut self.to, &route.destination)] {
            if let Some(count) = used.get_mut(host) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// How many migrations of a campaign are in flight.
    pub fn in_flight(&self, campaign: &CampaignName) -> u32 {
        self.lanes.get(campaign).map_or(0, |lane| lane.in_flight)
    }

    /// The next migration for which there is a slot everywhere; its slots are taken.
    pub fn admit(&mut self) -> Option<(CampaignName, MigrationId, Route)> {
        let Self { slots, from, to, lanes } = self;
        let (campaign, (id, route)) = lanes.iter_mut().find_map(|(campaign, lane)| {
            lane.next(slots, from, to).map(|next| (campaign.clone(), next))
        })?;
        self.take(&campaign, &route);
        Some((campaign, id, route))
    }
}

impl Lane {
    fn next(
        &mut self,
        slots: &HashMap<ServerName, Slots>,
        from: &HashMap<ServerName, u32>,
        to: &HashMap<ServerName, u32>,
    ) -> Option<(MigrationId, Route)> {
        if !self.admitting || self.in_flight >= self.in_flight_max {
            return None;
        }
        for _ in 0..self.turns.len() {
            let source = self.turns.pop_front()?;
            let free = |host: &ServerName, used: &HashMap<ServerName, u32>, max: u32| {
                !self.quarantined.contains(host) && used.get(host).copied().unwrap_or(0) < max
            };
            let as_source = slots.get(&source).map_or(0, |slots| slots.as_source);
            let line = self.lines.get_mut(&source)?;
            let found = if free(&source, from, as_source) {
                line.iter().take(LOOK_AHEAD).position(|(_, destination)| {
                    let slots = slots.get(destination).map_or(0, |slots| slots.as_destination);
                    free(destination, to, slots)
                })
            } else {
                None
            };
            let chosen = found.and_then(|at| line.remove(at));
            if !line.is_empty() {
                self.turns.push_back(source.clone());
            }
            if let Some((id, destination)) = chosen {
                return Some((id, Route { source, destination }));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ServerName {
        text.parse().unwrap()
    }

    fn route(source: &str, destination: &str) -> Route {
        Route { source: name(source), destination: name(destination) }
    }

    fn campaign() -> CampaignName {
        "night".parse().unwrap()
    }

    fn id(n: u32) -> MigrationId {
        MigrationId::new(&campaign(), &name("s"), &n.to_string())
    }

    fn admission(hosts: &[&str], slots: u32, in_flight_max: u32) -> Admission {
        let slots = Slots { as_source: slots, as_destination: slots };
        let mut admission = Admission::new(hosts.iter().map(|host| (name(host), slots)).collect());
        admission.limit(&campaign(), in_flight_max, true, &BTreeSet::new());
        admission
    }

    fn admit(admission: &mut Admission) -> Option<MigrationId> {
        admission.admit().map(|(_, id, _)| id)
    }

    #[test]
    fn sources_take_turns() {
        let mut admission = admission(&["a", "b", "d"], 100, 100);
        for n in 0..10 {
            admission.enqueue(&campaign(), id(n), &route("a", "d"));
        }
        admission.enqueue(&campaign(), id(10), &route("b", "d"));
        assert_eq!([admit(&mut admission), admit(&mut admission)], [Some(id(0)), Some(id(10))]);
    }

    #[test]
    fn a_full_destination_does_not_hold_up_the_line() {
        let mut admission = admission(&["a", "d", "e"], 2, 100);
        for n in 0..3 {
            admission.enqueue(&campaign(), id(n), &route("a", "d"));
        }
        admission.take(&campaign(), &route("x", "d"));
        admission.take(&campaign(), &route("x", "d"));
        admission.enqueue(&campaign(), id(3), &route("a", "e"));
        assert_eq!(admit(&mut admission), Some(id(3)));
        assert_eq!(admit(&mut admission), None);
    }

    #[test]
    fn nothing_is_admitted_while_paused_or_to_a_quarantined_host() {
        let mut admission = admission(&["a", "d"], 2, 100);
        admission.enqueue(&campaign(), id(1), &route("a", "d"));
        admission.limit(&campaign(), 100, false, &BTreeSet::new());
        assert_eq!(admit(&mut admission), None);
        admission.limit(&campaign(), 100, true, &BTreeSet::from([name("d")]));
        assert_eq!(admit(&mut admission), None);
        admission.limit(&campaign(), 100, true, &BTreeSet::new());
        assert_eq!(admit(&mut admission), Some(id(1)));
    }

    proptest! {
        #[test]
        fn no_limit_is_ever_exceeded_and_all_are_admitted_in_the_end(
            routes in prop::collection::vec((0u8..4, 0u8..4), 1..60),
            slots in 1u32..4, in_flight_max in 1u32..8, order: u64
        ) {
            let hosts = ["s0", "s1", "s2", "s3", "d0", "d1", "d2", "d3"];
            let mut admission = admission(&hosts, slots, in_flight_max);
            let routes: Vec<Route> =
                routes.iter().map(|(s, d)| route(&format!("s{s}"), &format!("d{d}"))).collect();
            let ids: HashMap<MigrationId, usize> =
                (0..routes.len()).map(|n| (id(n as u32), n)).collect();
            for (n, route) in routes.iter().enumerate() {
                admission.enqueue(&campaign(), id(n as u32), route);
            }
            let (mut flying, mut admitted, mut random) = (Vec::new(), 0, order | 1);
            while admitted < routes.len() {
                while let Some(id) = admit(&mut admission) {
                    flying.push(ids[&id]);
                    admitted += 1;
                }
                prop_assert!(!flying.is_empty(), "stuck");
                prop_assert!(flying.len() <= in_flight_max as usize);
                for host in hosts {
                    let touches = |n: &&usize| routes[**n].source.as_str() == host
                        || routes[**n].destination.as_str() == host;
                    prop_assert!(flying.iter().filter(touches).count() <= slots as usize);
                }
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                let landed = flying.swap_remove((random >> 33) as usize % flying.len());
                admission.release(&campaign(), &routes[landed]);
            }
        }
    }
}
