//! Who may go next: slots of the campaign, of each wave, of the source and of the destination.
//!
//! 1. Waves go in the order of their names, numbers in them by value: a wave begins once none of
//!    the waves before it waits for a slot any more. What waits for a host that was set aside holds
//!    nobody up.
//! 2. Within a wave the higher priority goes first, as far as its hosts have slots.
//! 3. Each source has its own line, and the lines take turns, so that one source with 50,000
//!    databases does not starve the others. Every [`LONGEST_EVERY`]th turn is the longest line's:
//!    otherwise the campaign's tail would be that one host alone.
//! 4. Where host names may be switched only so often a second, no more is admitted: what is open at
//!    the destination would wait there, out of its customer's reach.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use drover_schemas::{CampaignName, MigrationId, ServerName};

use crate::{
    pace::Pace,
    queue::{Queue, Queued},
    wave::Wave,
};

/// How many turns there are to one of the longest line's.
const LONGEST_EVERY: u32 = 4;

/// Of how many of those that wait at a source the sizes are told: what is so large that it decides when
/// its source is done is rare.
pub const LARGEST_MAX: usize = 16;

/// The slots of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// How many of its databases are moved away at once.
    pub as_source: u32,
    /// How many databases are brought to it at once.
    pub as_destination: u32,
}

/// Where a migration goes from and to, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The source server.
    pub source: ServerName,
    /// The destination server.
    pub destination: ServerName,
    /// Its wave.
    pub wave: Wave,
    /// Within its wave: the higher goes first.
    pub priority: i32,
    /// The database's size, in bytes; 0: not known.
    pub bytes: u64,
}

/// What holds for a campaign now. A number that is 0 limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limit {
    /// Something is admitted at all.
    pub admitting: bool,
    /// The campaign's slots; 0 is none here.
    pub in_flight_max: u32,
    /// Of this campaign at one source; never more than the source's own slots.
    pub per_source_max: u32,
    /// Of this campaign at one destination; never more than the destination's own slots.
    pub per_destination_max: u32,
    /// Of one wave.
    pub per_wave_max: u32,
    /// Admissions a second.
    pub per_second_max: u32,
    /// Waves do not wait for each other.
    pub waves_at_once: bool,
    /// No other wave is admitted.
    pub only_wave: Option<Wave>,
    /// Hosts that are set aside.
    pub quarantined: BTreeSet<ServerName>,
    /// Hosts with fewer slots than they have otherwise.
    pub host_slots: BTreeMap<ServerName, u32>,
}

/// What waits at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub source: String,
    /// How many wait.
    pub count: u64,
    /// Its slots.
    pub slots: u32,
    /// The sizes of the largest of them, in bytes, the largest first: at most [`LARGEST_MAX`].
    pub largest_bytes: Vec<u64>,
}

/// By wave, and the higher priority first.
type Rank = (Wave, Reverse<i32>);

/// One campaign's lines.
#[derive(Debug, Default)]
struct Lane {
    limit: Limit,
    in_flight: u32,
    from: HashMap<ServerName, u32>,
    to: HashMap<ServerName, u32>,
    of_wave: BTreeMap<Wave, u32>,
    queues: BTreeMap<Rank, Queue>,
    turn: u32,
    pace: Pace,
}

/// The state of all slots, over all campaigns.
#[derive(Debug, Default)]
pub struct Admission {
    slots: HashMap<ServerName, Slots>,
    from: HashMap<ServerName, u32>,
    to: HashMap<ServerName, u32>,
    lanes: BTreeMap<CampaignName, Lane>,
}

/// Who asks whether a host has room: all that is known of the slots in use.
struct Room<'a> {
    slots: &'a HashMap<ServerName, Slots>,
    /// Over all campaigns, and of this one.
    from: [&'a HashMap<ServerName, u32>; 2],
    to: [&'a HashMap<ServerName, u32>; 2],
    limit: &'a Limit,
}

impl Admission {
    /// With these servers; one that is not named has no slot.
    pub fn new(slots: HashMap<ServerName, Slots>) -> Self {
        Self { slots, ..Self::default() }
    }

    /// Sets what holds for a campaign from now on.
    pub fn limit(&mut self, campaign: &CampaignName, limit: Limit) {
        let lane = self.lanes.entry(campaign.clone()).or_default();
        if lane.limit.quarantined != limit.quarantined {
            lane.queues.values_mut().for_each(Queue::unshelve);
        }
        lane.limit = limit;
    }

    /// Puts a migration at the end of its source's line.
    pub fn enqueue(&mut self, campaign: &CampaignName, id: MigrationId, route: &Route) {
        let lane = self.lanes.entry(campaign.clone()).or_default();
        let queue = lane.queues.entry(route.rank()).or_default();
        let (destination, bytes) = (route.destination.clone(), route.bytes);
        queue.push(&route.source, Queued { id, destination, bytes });
    }

    /// Takes one out of its line that [`Self::admit`] has not given out, where it is soon found. What is
    /// not is given out all the same: whoever gets it then releases its slots and asks again.
    pub fn leave(&mut self, campaign: &CampaignName, id: MigrationId, route: &Route) {
        let Some(lane) = self.lanes.get_mut(campaign) else { return };
        let rank = route.rank();
        if let Some(queue) = lane.queues.get_mut(&rank) {
            queue.leave(&route.source, id);
            forget_empty(&mut lane.queues, &rank);
        }
    }

    /// Counts a migration as being in flight. [`Self::admit`] has done so for those it gave out.
    pub fn take(&mut self, campaign: &CampaignName, route: &Route) {
        let lane = self.lanes.entry(campaign.clone()).or_default();
        lane.in_flight += 1;
        *lane.of_wave.entry(route.wave.clone()).or_default() += 1;
        for (used, host) in [
            (&mut self.from, &route.source),
            (&mut lane.from, &route.source),
            (&mut self.to, &route.destination),
            (&mut lane.to, &route.destination),
        ] {
            *used.entry(host.clone()).or_default() += 1;
        }
    }

    /// Gives its slots back.
    pub fn release(&mut self, campaign: &CampaignName, route: &Route) {
        let less = |count: Option<&mut u32>| {
            if let Some(count) = count {
                *count = count.saturating_sub(1);
            }
        };
        less(self.from.get_mut(&route.source));
        less(self.to.get_mut(&route.destination));
        if let Some(lane) = self.lanes.get_mut(campaign) {
            less(Some(&mut lane.in_flight));
            less(lane.from.get_mut(&route.source));
            less(lane.to.get_mut(&route.destination));
            less(lane.of_wave.get_mut(&route.wave));
        }
    }

    /// How many migrations of a campaign are in flight.
    pub fn in_flight(&self, campaign: &CampaignName) -> u32 {
        self.lanes.get(campaign).map_or(0, |lane| lane.in_flight)
    }

    /// How many migrations are in flight from a server, or to it, whichever are more; of all campaigns.
    pub fn in_flight_at(&self, host: &ServerName) -> u32 {
        let of = |used: &HashMap<ServerName, u32>| used.get(host).copied().unwrap_or(0);
        of(&self.from).max(of(&self.to))
    }

    /// A server's own slots; none where it is not known.
    pub fn slots_at(&self, host: &ServerName) -> Option<Slots> {
        self.slots.get(host).copied()
    }

    /// What is left of a campaign by source: how many wait, and its slots. What waits for a host
    /// that was set aside is not in it.
    pub fn waiting(&self, campaign: &CampaignName) -> Vec<Waiting> {
        self.waiting_where(campaign, |_| true)
    }

    /// The waves of a campaign that have something waiting, in their order, each with what is left of it
    /// and of those before it; none where they do not wait for each other.
    pub fn waiting_by_wave(
        &self,
        campaign: &CampaignName,
        waves_max: usize,
    ) -> Vec<(String, Vec<Waiting>)> {
        let Some(lane) = self.lanes.get(campaign).filter(|lane| !lane.limit.waves_at_once) else {
            return Vec::new();
        };
        let waiting = lane.queues.iter().filter(|(_, queue)| !queue.is_empty());
        let waves: BTreeSet<&Wave> = waiting.map(|((wave, _), _)| wave).collect();
        let up_to = |wave: &Wave| (wave.to_string(), self.waiting_where(campaign, |it| it <= wave));
        waves.into_iter().take(waves_max).map(up_to).collect()
    }

    fn waiting_where(
        &self,
        campaign: &CampaignName,
        is_meant: impl Fn(&Wave) -> bool,
    ) -> Vec<Waiting> {
        let Some(lane) = self.lanes.get(campaign) else { return Vec::new() };
        let flying = lane.from.iter().filter(|(_, count)| **count > 0);
        let mut by_source: BTreeMap<&ServerName, (u64, Vec<u64>)> =
            flying.map(|(source, _)| (source, Default::default())).collect();
        let meant = lane.queues.iter().filter(|((wave, _), _)| is_meant(wave));
        for (source, line) in meant.flat_map(|(_, queue)| queue.lines()) {
            let (count, bytes) = by_source.entry(source).or_default();
            *count += line.len() as u64;
            bytes.extend(line.iter().map(|queued| queued.bytes).filter(|bytes| *bytes > 0));
        }
        let limit = &lane.limit;
        let line = |(source, (count, bytes)): (&ServerName, (u64, Vec<u64>))| {
            let own = self.slots.get(source).map_or(0, |slots| slots.as_source);
            let slots = slots_of(own, limit.at_once(source, limit.per_source_max));
            let source = source.to_string();
            Waiting { source, count, slots, largest_bytes: largest(bytes) }
        };
        let open = by_source.into_iter().filter(|(source, _)| !limit.quarantined.contains(source));
        open.map(line).collect()
    }

    /// The next migration for which there is a slot everywhere; its slots are taken.
    pub fn admit(&mut self, now_unix_ms: i64) -> Option<(CampaignName, MigrationId, Route)> {
        let Self { slots, from, to, lanes } = self;
        let (campaign, (id, route)) = lanes.iter_mut().find_map(|(campaign, lane)| {
            lane.next(slots, from, to, now_unix_ms).map(|next| (campaign.clone(), next))
        })?;
        self.take(&campaign, &route);
        Some((campaign, id, route))
    }

    /// When the next turn is, where only the limit of admissions a second stands against one.
    pub fn next_turn(&self, now_unix_ms: i64) -> Option<i64> {
        let paced = self.lanes.values().filter(|lane| {
            lane.limit.per_second_max > 0
                && lane.limit.admitting
                && lane.in_flight < lane.limit.in_flight_max
                && !lane.queues.is_empty()
        });
        paced.map(|lane| lane.pace.next_unix_ms()).filter(|at| *at > now_unix_ms).min()
    }
}

impl Lane {
    fn next(
        &mut self,
        slots: &HashMap<ServerName, Slots>,
        from: &HashMap<ServerName, u32>,
        to: &HashMap<ServerName, u32>,
        now_unix_ms: i64,
    ) -> Option<(MigrationId, Route)> {
        let Self { limit, in_flight, queues, turn, pace, of_wave, .. } = self;
        let paced = limit.per_second_max > 0 && pace.next_unix_ms() > now_unix_ms;
        if !limit.admitting || *in_flight >= limit.in_flight_max || paced {
            return None;
        }
        let room = Room { slots, from: [from, &self.from], to: [to, &self.to], limit };
        *turn = turn.wrapping_add(1);
        let longest_first = turn.is_multiple_of(LONGEST_EVERY);
        let mut begun: Option<&Wave> = None;
        let mut found = None;
        for ((wave, priority), queue) in queues.iter_mut() {
            if !limit.waves_at_once && begun.is_some_and(|begun| begun != wave) {
                break;
            }
            if !limit.lets_in(wave) {
                continue;
            }
            let of_wave = of_wave.get(wave).copied().unwrap_or(0);
            let full = limit.per_wave_max > 0 && of_wave >= limit.per_wave_max;
            if !full && let Some((source, queued)) = queue.next(&room, longest_first) {
                let Queued { id, destination, bytes } = queued;
                let (wave, priority) = (wave.clone(), priority.0);
                found = Some((id, Route { source, destination, wave, priority, bytes }));
                break;
            }
            if queue.waits(&limit.quarantined) {
                begun = Some(wave);
            }
        }
        let (id, route) = found?;
        forget_empty(queues, &route.rank());
        if limit.per_second_max > 0 {
            pace.take(now_unix_ms, limit.per_second_max);
        }
        Some((id, route))
    }
}

impl Route {
    fn rank(&self) -> Rank {
        (self.wave.clone(), Reverse(self.priority))
    }
}

fn forget_empty(queues: &mut BTreeMap<Rank, Queue>, rank: &Rank) {
    if queues.get(rank).is_some_and(Queue::is_empty) {
        queues.remove(rank);
    }
}

impl Limit {
    /// Of this campaign at a host, where it may have so many at one; 0: any number.
    fn at_once(&self, host: &ServerName, campaign_max: u32) -> u32 {
        match (self.host_slots.get(host).copied().unwrap_or(0), campaign_max) {
            (0, only) | (only, 0) => only,
            (held, campaign_max) => held.min(campaign_max),
        }
    }

    fn lets_in(&self, wave: &Wave) -> bool {
        self.only_wave.as_ref().is_none_or(|only| only == wave)
    }
}

impl crate::queue::Hosts for Room<'_> {
    fn is_set_aside(&self, host: &ServerName) -> bool {
        self.limit.quarantined.contains(host)
    }

    fn has_source_slot(&self, host: &ServerName) -> bool {
        let own = self.slots.get(host).map_or(0, |slots| slots.as_source);
        has_slot(host, self.from, own, self.limit.at_once(host, self.limit.per_source_max))
    }

    fn has_destination_slot(&self, host: &ServerName) -> bool {
        let own = self.slots.get(host).map_or(0, |slots| slots.as_destination);
        has_slot(host, self.to, own, self.limit.at_once(host, self.limit.per_destination_max))
    }
}

/// The largest of these sizes, the largest first.
pub fn largest(mut bytes: Vec<u64>) -> Vec<u64> {
    if bytes.len() > LARGEST_MAX {
        bytes.select_nth_unstable_by(LARGEST_MAX, |a, b| b.cmp(a));
        bytes.truncate(LARGEST_MAX);
    }
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes
}

/// The slots that a campaign has of a server's own; `campaign_max` is its limit, 0 for none.
pub fn slots_of(own: u32, campaign_max: u32) -> u32 {
    if campaign_max == 0 { own } else { own.min(campaign_max) }
}

fn has_slot(
    host: &ServerName,
    [all, campaign]: [&HashMap<ServerName, u32>; 2],
    own: u32,
    campaign_max: u32,
) -> bool {
    let used = |of: &HashMap<ServerName, u32>| of.get(host).copied().unwrap_or(0);
    used(all) < own && (campaign_max == 0 || used(campaign) < campaign_max)
}
