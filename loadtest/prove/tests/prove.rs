//! The proof at a small size, and that it can fail: each of the things that hold the rules is taken
//! out, and then a rule is broken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic anywhere")]

use drover_prove::{Bounds, Drover, Without};
use stateright::{Checker, HasDiscoveries, Model as _};

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn holds(bounds: Bounds, rehearsal: bool) {
    let model = Drover { bounds, without: Without::Nothing, rehearsal };
    let checker = model.checker().threads(threads()).spawn_bfs().join();
    println!("{bounds:?}: {} different states", checker.unique_state_count());
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (stateright::Expectation::Sometimes, None) => panic!("never: {}", property.name),
            (stateright::Expectation::Always, Some(path)) => {
                panic!(
                    "{}: {:?}\n{:#?}",
                    property.name,
                    path.clone().into_actions(),
                    path.last_state()
                )
            }
            _ => {}
        }
    }
}

/// The rules that are broken without something.
fn broken(without: Without, bounds: Bounds) -> Vec<&'static str> {
    let model = Drover { bounds, without, rehearsal: false };
    let checker = model
        .checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let properties = checker.model().properties();
    let always = properties.iter().filter(|p| p.expectation == stateright::Expectation::Always);
    always.map(|property| property.name).filter(|name| checker.discovery(name).is_some()).collect()
}

#[test]
fn the_rules_hold_in_every_state() {
    holds(Bounds { mishaps: 3, losses: 0, lost_facts_max: 0 }, false);
}

#[test]
fn the_rules_hold_when_the_log_loses_its_end() {
    holds(Bounds { mishaps: 2, losses: 1, lost_facts_max: 1 }, false);
}

#[test]
fn a_rehearsal_touches_nobody_and_leaves_nothing() {
    holds(Bounds { mishaps: 4, losses: 0, lost_facts_max: 0 }, true);
    holds(Bounds { mishaps: 2, losses: 1, lost_facts_max: 1 }, true);
}

#[test]
fn without_any_of_what_holds_them_they_are_broken() {
    for (without, mishaps) in [
        (Without::Revisions, 3),
        (Without::UndoOfTheStep, 1),
        (Without::Ledgers, 2),
        (Without::Disarming, 1),
        (Without::Comparison, 1),
    ] {
        let rules = broken(without, Bounds { mishaps, losses: 0, lost_facts_max: 0 });
        println!("without {without:?}: {rules:?}");
        assert!(!rules.is_empty(), "nobody notices that it is without {without:?}");
    }
}
