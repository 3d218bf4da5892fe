//! From what was found at a host name to what is to be written there: without DNS, clock or
//! configuration, so that every case can be tested.

use drover_lifecycle::{
    ledger::Move,
    zone::{self, Pointed, permit},
};
use drover_schemas::MigrationId;
use hickory_proto::rr::rdata::TXT;

use crate::{
    error::Error,
    mark::{Mark, State},
    options::Target,
    records::{Change, Kind, Rrset, Values},
};

/// How many migrations' marks one host name keeps; the oldest makes room. A database moves a few
/// times in its life.
pub(crate) const MARKS_MAX: usize = 8;

/// Which order it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub migration: MigrationId,
    pub revision: u64,
    pub run: u32,
    pub now_unix_s: u64,
}

/// What the primary says of a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub host_name: String,
    /// The CNAME alone, or A and AAAA as far as there are any.
    pub sets: Vec<Rrset>,
    /// All TXT records where the marks lie, also those of others.
    pub texts: Vec<TXT>,
}

/// What is to be written at a host name, and what was thereby done in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// These take the place of what is there of the same type.
    pub replace: Vec<Rrset>,
    /// This takes the place of the migration's mark; none: all was done before.
    pub mark: Option<Mark>,
    /// Marks that make room.
    pub dropped: Vec<TXT>,
    /// What the step as a whole has changed, by this and earlier attempts.
    pub changes: Vec<Change>,
}

impl Found {
    /// The migration's mark, and what the order may do there.
    fn permit(&self, order: Order, to: Pointed) -> Result<(Move, Option<Mark>), Error> {
        let mut marks = self.texts.iter().filter_map(Mark::of_txt);
        let mark = marks.find(|mark| mark.migration == order.migration);
        match permit(to, mark.as_ref().map(Mark::of_rules), order.revision) {
            Ok(allowed) => Ok((allowed, mark)),
            Err(_) => Err(Error::Outdated {
                host_name: self.host_name.clone(),
                marked: mark.map_or(0, |mark| mark.revision),
                ordered: order.revision,
            }),
        }
    }

    fn holds<'a>(&self, mut values: impl Iterator<Item = &'a Values>) -> bool {
        values.all(|values| self.sets.iter().any(|set| set.values == *values))
    }

    fn changed(&self, found: &str) -> Error {
        Error::Changed { host_name: self.host_name.clone(), found: found.to_owned() }
    }

    /// The marks that go when one more is written: the oldest of the others.
    fn dropped(&self, order: Order) -> Vec<TXT> {
        let others = self.texts.iter().filter_map(|txt| Some((Mark::of_txt(txt)?, txt)));
        let mut others: Vec<_> =
            others.filter(|(mark, _)| mark.migration != order.migration).collect();
        others.sort_by_key(|(mark, _)| mark.at_unix_s);
        let surplus = (others.len() + 1).saturating_sub(MARKS_MAX);
        others.into_iter().take(surplus).map(|(_, txt)| txt.clone()).collect()
    }
}

/// The host name is to point to `destination`; it must point to `source`, or have been switched
/// by this migration before.
pub(crate) fn switch(
    order: Order,
    found: &Found,
    source: &Target,
    destination: &Target,
    ttl_seconds: u32,
) -> Result<Decision, Error> {
    match found.permit(order, Pointed::Switched)? {
        (Move::Again | Move::Rest, Some(mark)) => switched_before(order, found, mark),
        (Move::Begin | Move::GoOn, Some(_)) | (_, None) => {
            let changes = from_source(found, source, destination, ttl_seconds)?;
            let replace = changes.iter().map(|change| change.new.clone()).collect();
            Ok(decision(order, found, State::Switched, replace, changes))
        }
    }
}

impl Mark {
    /// What the rules look at.
    fn of_rules(&self) -> zone::Mark {
        let pointed = match self.state {
            State::Switched => Pointed::Switched,
            State::Reverted => Pointed::Reverted,
        };
        zone::Mark { pointed, revision: self.revision }
    }
}

fn switched_before(order: Order, found: &Found, mark: Mark) -> Result<Decision, Error> {
    if !found.holds(mark.changes.iter().map(|change| &change.new.values)) {
        return Err(found.changed("it was changed after this migration had switched it"));
    }
    if mark.revision == order.revision {
        return Ok(nothing(mark.changes));
    }
    Ok(decision(order, found, State::Switched, Vec::new(), mark.changes))
}

fn from_source(
    found: &Found,
    source: &Target,
    destination: &Target,
    ttl_seconds: u32,
) -> Result<Vec<Change>, Error> {
    if found.sets.is_empty() {
        return Err(Error::Missing { host_name: found.host_name.clone(), detail: "" });
    }
    let change = |old: &Rrset| {
        let kind = old.values.kind();
        if Values::of_target(source, kind).as_ref() != Some(&old.values) {
            return Err(found.changed(&format!("its {kind} record does not point to the source")));
        }
        let values = Values::of_target(destination, kind).ok_or_else(|| {
            Error::Configuration(format!(
                "{} has a {kind} record, and the destination has no {} for it",
                found.host_name,
                key(kind)
            ))
        })?;
        Ok(Change { old: old.clone(), new: Rrset { values, ttl_seconds } })
    };
    found.sets.iter().map(change).collect()
}

fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::Cname => "dns_name",
        Kind::A => "ipv4",
        Kind::Aaaa => "ipv6",
    }
}

/// The host name is to hold what it held before this migration switched it. `recorded` is what
/// the history tells of the switch, for a mark that somebody has removed.
pub(crate) fn revert(order: Order, found: &Found, recorded: &[Change]) -> Result<Decision, Error> {
    let changes = match found.permit(order, Pointed::Reverted)? {
        (Move::Again | Move::Rest, Some(mark)) => {
            // Of an earlier run: nothing of this one was ever switched.
            let changes = if mark.run == order.run { mark.changes.clone() } else { Vec::new() };
            if mark.revision == order.revision {
                return Ok(nothing(changes));
            }
            return Ok(decision(order, found, State::Reverted, Vec::new(), changes));
        }
        (Move::Begin | Move::GoOn, Some(mark)) => mark.changes,
        (_, None) => recorded.to_vec(),
    };
    // By hand, or there is nothing to put back.
    if found.holds(changes.iter().map(|change| &change.old.values)) {
        return Ok(decision(order, found, State::Reverted, Vec::new(), changes));
    }
    if !found.holds(changes.iter().map(|change| &change.new.values)) {
        return Err(found.changed("it was changed after this migration had switched it"));
    }
    let replace = changes.iter().map(|change| change.old.clone()).collect();
    Ok(decision(order, found, State::Reverted, replace, changes))
}

fn decision(
    order: Order,
    found: &Found,
    state: State,
    replace: Vec<Rrset>,
    changes: Vec<Change>,
) -> Decision {
    let mark = Mark {
        migration: order.migration,
        state,
        run: order.run,
        revision: order.revision,
        at_unix_s: order.now_unix_s,
        changes: changes.clone(),
    };
    Decision { replace, mark: Some(mark), dropped: found.dropped(order), changes }
}

fn nothing(changes: Vec<Change>) -> Decision {
    Decision { replace: Vec::new(), mark: None, dropped: Vec::new(), changes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(last: u8) -> Target {
        Target { ipv4: vec![[192, 0, 2, last].into()], ..Target::default() }
    }

    fn set(last: u8) -> Rrset {
        let values = Values::A([[192, 0, 2, last].into()].into());
        Rrset { values, ttl_seconds: 300 }
    }

    fn found(last: u8) -> Found {
        Found { host_name: "h".to_owned(), sets: vec![set(last)], texts: Vec::new() }
    }

    fn order(migration: u128, revision: u64, run: u32) -> Order {
        let migration = uuid::Uuid::from_u128(migration).to_string().parse().unwrap();
        Order { migration, revision, run, now_unix_s: revision }
    }

    /// What the server makes of an update whose prerequisites hold.
    fn write(found: &mut Found, decision: &Decision) {
        for new in &decision.replace {
            found.sets.retain(|set| set.values.kind() != new.values.kind());
            found.sets.push(new.clone());
        }
        if let Some(mark) = &decision.mark {
            let own =
                |txt: &TXT| Mark::of_txt(txt).is_some_and(|it| it.migration == mark.migration);
            found.texts.retain(|txt| !own(txt) && !decision.dropped.contains(txt));
            found.texts.push(mark.txt());
        }
    }

    #[test]
    fn the_oldest_marks_make_room() {
        let mut zone = found(1);
        zone.texts.push(TXT::new(vec!["somebody's".to_owned()]));
        for migration in 0..20 {
            let order = order(migration, migration as u64 + 1, 1);
            let there = switch(order, &zone, &target(1), &target(2), 60).unwrap();
            write(&mut zone, &there);
            let back = Order { revision: 1000, ..order };
            let back = revert(back, &zone, &[]).unwrap();
            write(&mut zone, &back);
        }
        assert_eq!(zone.texts.len(), MARKS_MAX + 1);
        assert_eq!(zone.sets, [set(1)]);
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Switch(u64),
        Revert(u64),
        Meddle(u8),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => (1..20u64).prop_map(Deed::Switch),
            4 => (1..20u64).prop_map(Deed::Revert),
            1 => (1..4u8).prop_map(Deed::Meddle),
        ]
    }

    proptest! {
        /// Orders in any order, early, late and twice, and a meddler: no order acts after a later
        /// one has, nothing of the meddler's is overwritten, and what is done again is the same.
        #[test]
        fn no_order_acts_after_a_later_one(deeds in prop::collection::vec(deed(), 1..40)) {
            let mut zone = found(1);
            let (mut highest, mut is_ours) = (0, false);
            for deed in deeds {
                let (outcome, revision, forward) = match deed {
                    Deed::Meddle(last) => {
                        zone.sets = vec![set(last)];
                        is_ours = false;
                        continue;
                    }
                    Deed::Switch(revision) => {
                        let order = order(7, revision, 1);
                        (switch(order, &zone, &target(1), &target(2), 60), revision, true)
                    }
                    Deed::Revert(revision) => {
                        (revert(order(7, revision, 1), &zone, &[]), revision, false)
                    }
                };
                let before = zone.sets.clone();
                match outcome {
                    Ok(decision) => {
                        prop_assert!(revision >= highest);
                        write(&mut zone, &decision);
                        let holds = &zone.sets[0].values;
                        if forward {
                            prop_assert_eq!(holds, &set(2).values);
                            prop_assert!(before[0] == set(1) || before == zone.sets);
                        } else if !decision.changes.is_empty() && !decision.replace.is_empty() {
                            prop_assert_eq!(&zone.sets[0], &set(1));
                            prop_assert!(is_ours || before[0].values == set(2).values);
                        } else {
                            prop_assert_eq!(&before, &zone.sets);
                        }
                        highest = revision;
                        is_ours = true;
                    }
                    Err(_) => prop_assert_eq!(&before, &zone.sets),
                }
            }
        }
    }
}
