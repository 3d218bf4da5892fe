//! A migration's state as it is kept in its row: enough to go on folding from there.
//!
//! The phases are the lifecycle's; here they are only written down and read again. Of the facts
//! that the lifecycle remembers, a phase to come depends on three: that the host names were
//! switched, when the dump expires, and what was said of taking it or bringing it back. So a state is trimmed to these right after each event,
//! and what is in memory is always just what a row gives back.

use drover_lifecycle::{
    At, Attempt, Ending, Forward, Goal, Migration, Phase, Rehearsal, Rollback, Settlement, Undo,
    Wait,
};
use drover_schemas::{
    subjects::step_name,
    v1::{BringBackRequested, DnsSwitched, DumpPublished, MigrationPlanned},
};

use crate::Error;

/// Forgets what no later phase depends on.
pub(crate) fn trim(migration: &mut Migration) {
    migration.planned = MigrationPlanned::default();
    migration.frozen = None;
    migration.dump = None;
    migration.opened = None;
    migration.destination_shut = false;
    migration.failure = None;
    migration.deferred = None;
    if let Some(brought_back) = &mut migration.brought_back {
        *brought_back = BringBackRequested::default();
    }
    if let Some(switched) = &mut migration.switched {
        *switched = DnsSwitched::default();
    }
    if let Some(published) = &mut migration.published {
        published.link = String::new();
    }
}

/// What a row keeps of a trimmed state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) revision: u64,
    pub(crate) at_unix_ms: i64,
    pub(crate) run: u32,
    pub(crate) switched: bool,
    pub(crate) expires_at_unix_ms: Option<i64>,
    pub(crate) rollback: String,
    pub(crate) phase: String,
}

impl Kept {
    /// Of a trimmed state.
    pub(crate) fn of(migration: &Migration) -> Self {
        Self {
            revision: migration.revision,
            at_unix_ms: migration.at_unix_ms,
            run: migration.run,
            switched: migration.switched.is_some(),
            expires_at_unix_ms: migration.published.as_ref().map(|p| p.expires_at_unix_ms),
            rollback: write_rollback(migration.rollback, migration.brought_back.is_some()),
            phase: write(&migration.phase),
        }
    }

    /// The trimmed state.
    pub(crate) fn restore(self) -> Result<Migration, Error> {
        let phase = read(&self.phase)
            .ok_or_else(|| Error::Damaged { what: "a migration's state", text: self.phase })?;
        Ok(Migration {
            revision: self.revision,
            at_unix_ms: self.at_unix_ms,
            phase,
            run: self.run,
            planned: MigrationPlanned::default(),
            frozen: None,
            dump: None,
            opened: None,
            destination_shut: false,
            switched: self.switched.then(DnsSwitched::default),
            published: self.expires_at_unix_ms.map(|expires_at_unix_ms| DumpPublished {
                link: String::new(),
                expires_at_unix_ms,
            }),
            rollback: read_rollback(&self.rollback),
            brought_back: has(&self.rollback, BACK).then(BringBackRequested::default),
            failure: None,
            deferred: None,
        })
    }
}

/// What the state waits for, as the views name it.
pub(crate) fn waits_for(migration: &Migration) -> &'static str {
    match migration.wait() {
        Wait::Admission { not_before_unix_ms: 0 } => "slot",
        Wait::Admission { .. } => "time",
        Wait::Findings => "findings",
        Wait::Job { .. } => "job",
        Wait::Settlement => "settlement",
        Wait::Person => "person",
        Wait::Nothing => "nothing",
    }
}

/// Which attempt at its step it is in; 0 where there is none.
pub(crate) fn attempt(phase: &Phase) -> u32 {
    match phase.wait() {
        Wait::Job { attempt, .. } => attempt,
        Wait::Admission { .. }
        | Wait::Findings
        | Wait::Settlement
        | Wait::Person
        | Wait::Nothing => 0,
    }
}

/// The words that hold; the empty text where there was no rollback.
fn write_rollback(rollback: Rollback, brought_back: bool) -> String {
    let Rollback { discard_writes, was_complete, refused } = rollback;
    let words = [
        (discard_writes, DISCARD),
        (was_complete, COMPLETE),
        (refused, REFUSED),
        (brought_back, BACK),
    ];
    let words: Vec<&str> =
        words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
    words.join(" ")
}

fn has(text: &str, word: &str) -> bool {
    text.split(' ').any(|one| one == word)
}

fn read_rollback(text: &str) -> Rollback {
    let has = |word| has(text, word);
    Rollback { discard_writes: has(DISCARD), was_complete: has(COMPLETE), refused: has(REFUSED) }
}

const DISCARD: &str = "discard";
const COMPLETE: &str = "complete";
const REFUSED: &str = "refused";
const BACK: &str = "back";

fn write(phase: &Phase) -> String {
    match phase {
        Phase::Planned { not_before_unix_ms } => format!("planned {not_before_unix_ms}"),
        Phase::Held { not_before_unix_ms } => format!("held {not_before_unix_ms}"),
        Phase::Doing(forward, attempt) => {
            format!("doing {} {}", step_name(forward.step()), write_attempt(*attempt))
        }
        Phase::Undoing(undo, attempt, goal) => {
            let (step, attempt) = (step_name(undo.step()), write_attempt(*attempt));
            format!("undoing {step} {attempt} {}", write_goal(*goal))
        }
        Phase::Rehearsing(rehearsal, attempt) => {
            format!("rehearsing {} {}", write_rehearsal(*rehearsal), write_attempt(*attempt))
        }
        Phase::Settling(Settlement::Rehearse) => "settling rehearse".to_owned(),
        Phase::Settling(Settlement::Complete) => "settling complete".to_owned(),
        Phase::Settling(Settlement::Defer) => "settling defer".to_owned(),
        Phase::Settling(Settlement::Recall) => "settling recall".to_owned(),
        Phase::Settling(Settlement::RollBack) => "settling rollback".to_owned(),
        Phase::Settling(Settlement::Park { at, undone }) => {
            format!("settling park {} {undone}", write_at(*at))
        }
        Phase::Parked { at, undone } => format!("parked {} {undone}", write_at(*at)),
        Phase::RolledBack => "rolledback".to_owned(),
        Phase::Rehearsed => "rehearsed".to_owned(),
        Phase::Completed(attempt) => format!("completed {}", write_attempt(*attempt)),
        Phase::ExpiryFailed => "expiryfailed".to_owned(),
        Phase::Expired => "expired".to_owned(),
    }
}

fn write_attempt(attempt: Attempt) -> String {
    format!("{} {}", attempt.number, attempt.not_before_unix_ms)
}

fn write_goal(goal: Goal) -> &'static str {
    match goal {
        Goal::Park => "park",
        Goal::Defer => "defer",
        Goal::Recall => "recall",
        Goal::RollBack => "rollback",
    }
}

fn write_at(at: At) -> String {
    match at {
        At::Forward(forward) => format!("forward {}", step_name(forward.step())),
        At::Undo(undo, goal) => format!("undo {} {}", step_name(undo.step()), write_goal(goal)),
        At::Rehearsal(rehearsal) => format!("rehearsal {}", write_rehearsal(rehearsal)),
    }
}

fn write_rehearsal(rehearsal: Rehearsal) -> String {
    match rehearsal {
        Rehearsal::Dump => "dump".to_owned(),
        Rehearsal::Import => "import".to_owned(),
        Rehearsal::Verify => "verify".to_owned(),
        Rehearsal::Drop(ending) => format!("drop {}", write_ending(ending)),
        Rehearsal::Sweep(ending) => format!("sweep {}", write_ending(ending)),
    }
}

fn write_ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Rehearsed => "rehearsed",
        Ending::Park => "park",
        Ending::Recall => "recall",
        Ending::RollBack => "rollback",
    }
}

fn read(text: &str) -> Option<Phase> {
    let mut words = text.split(' ');
    let phase = match words.next()? {
        "planned" => Phase::Planned { not_before_unix_ms: words.next()?.parse().ok()? },
        "held" => Phase::Held { not_before_unix_ms: words.next()?.parse().ok()? },
        "doing" => Phase::Doing(read_forward(&mut words)?, read_attempt(&mut words)?),
        "undoing" => Phase::Undoing(
            read_undo(&mut words)?,
            read_attempt(&mut words)?,
            read_goal(&mut words)?,
        ),
        "rehearsing" => Phase::Rehearsing(read_rehearsal(&mut words)?, read_attempt(&mut words)?),
        "settling" => Phase::Settling(match words.next()? {
            "rehearse" => Settlement::Rehearse,
            "complete" => Settlement::Complete,
            "rollback" => Settlement::RollBack,
            "defer" => Settlement::Defer,
            "recall" => Settlement::Recall,
            "park" => {
                Settlement::Park { at: read_at(&mut words)?, undone: words.next()?.parse().ok()? }
            }
            _ => return None,
        }),
        "parked" => Phase::Parked { at: read_at(&mut words)?, undone: words.next()?.parse().ok()? },
        "rolledback" => Phase::RolledBack,
        "rehearsed" => Phase::Rehearsed,
        "completed" => Phase::Completed(read_attempt(&mut words)?),
        "expiryfailed" => Phase::ExpiryFailed,
        "expired" => Phase::Expired,
        _ => return None,
    };
    words.next().is_none().then_some(phase)
}

fn read_attempt<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Attempt> {
    let number = words.next()?.parse().ok()?;
    Some(Attempt { number, not_before_unix_ms: words.next()?.parse().ok()? })
}

fn read_goal<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Goal> {
    match words.next()? {
        "park" => Some(Goal::Park),
        "defer" => Some(Goal::Defer),
        "recall" => Some(Goal::Recall),
        "rollback" => Some(Goal::RollBack),
        _ => None,
    }
}

fn read_at<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<At> {
    match words.next()? {
        "forward" => Some(At::Forward(read_forward(words)?)),
        "undo" => Some(At::Undo(read_undo(words)?, read_goal(words)?)),
        "rehearsal" => Some(At::Rehearsal(read_rehearsal(words)?)),
        _ => None,
    }
}

fn read_rehearsal<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Rehearsal> {
    match words.next()? {
        "dump" => Some(Rehearsal::Dump),
        "import" => Some(Rehearsal::Import),
        "verify" => Some(Rehearsal::Verify),
        "drop" => Some(Rehearsal::Drop(read_ending(words)?)),
        "sweep" => Some(Rehearsal::Sweep(read_ending(words)?)),
        _ => None,
    }
}

fn read_ending<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Ending> {
    let word = words.next()?;
    Ending::ALL.into_iter().find(|ending| write_ending(*ending) == word)
}

fn read_forward<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Forward> {
    let name = words.next()?;
    Forward::ALL.into_iter().find(|forward| step_name(forward.step()) == name)
}

fn read_undo<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Undo> {
    let name = words.next()?;
    Undo::ALL.into_iter().find(|undo| step_name(undo.step()) == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempts() -> impl Strategy<Value = Attempt> {
        (any::<u32>(), any::<i64>())
            .prop_map(|(number, not_before_unix_ms)| Attempt { number, not_before_unix_ms })
    }

    fn goals() -> impl Strategy<Value = Goal> {
        prop::sample::select(vec![Goal::Park, Goal::Defer, Goal::Recall, Goal::RollBack])
    }

    fn rehearsals() -> impl Strategy<Value = Rehearsal> {
        let endings = || prop::sample::select(&Ending::ALL[..]);
        prop_oneof![
            Just(Rehearsal::Dump),
            Just(Rehearsal::Import),
            Just(Rehearsal::Verify),
            endings().prop_map(Rehearsal::Drop),
            endings().prop_map(Rehearsal::Sweep),
        ]
    }

    fn ats() -> impl Strategy<Value = At> {
        prop_oneof![
            prop::sample::select(&Forward::ALL[..]).prop_map(At::Forward),
            (prop::sample::select(&Undo::ALL[..]), goals()).prop_map(|(u, g)| At::Undo(u, g)),
            rehearsals().prop_map(At::Rehearsal),
        ]
    }

    fn phases() -> impl Strategy<Value = Phase> {
        prop_oneof![
            any::<i64>().prop_map(|not_before_unix_ms| Phase::Planned { not_before_unix_ms }),
            any::<i64>().prop_map(|not_before_unix_ms| Phase::Held { not_before_unix_ms }),
            (prop::sample::select(&Forward::ALL[..]), attempts())
                .prop_map(|(forward, attempt)| Phase::Doing(forward, attempt)),
            (prop::sample::select(&Undo::ALL[..]), attempts(), goals())
                .prop_map(|(undo, attempt, goal)| Phase::Undoing(undo, attempt, goal)),
            Just(Phase::Settling(Settlement::Complete)),
            Just(Phase::Settling(Settlement::RollBack)),
            Just(Phase::Settling(Settlement::Recall)),
            Just(Phase::Settling(Settlement::Defer)),
            (ats(), any::<bool>())
                .prop_map(|(at, undone)| Phase::Settling(Settlement::Park { at, undone })),
            (ats(), any::<bool>()).prop_map(|(at, undone)| Phase::Parked { at, undone }),
            Just(Phase::RolledBack),
            attempts().prop_map(Phase::Completed),
            (rehearsals(), attempts()).prop_map(|(r, a)| Phase::Rehearsing(r, a)),
            Just(Phase::Settling(Settlement::Rehearse)),
            Just(Phase::Rehearsed),
            Just(Phase::ExpiryFailed),
            Just(Phase::Expired),
        ]
    }

    proptest! {
        #[test]
        fn a_phase_is_read_as_it_was_written(phase in phases()) {
            prop_assert_eq!(read(&write(&phase)), Some(phase));
        }

        #[test]
        fn no_text_is_more_than_refused(text: String) {
            let _ = read(&text);
        }
    }
}
