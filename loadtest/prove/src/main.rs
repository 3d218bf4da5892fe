//! Runs the proof and prints what it went through: see `ops/prove`.

use std::{process::ExitCode, time::Instant};

use drover_prove::{Bounds, Drover, Without};
use stateright::{Checker as _, Model as _};

/// In full: more mishaps than one life usually sees, and a log that loses its last fact.
///
/// With two facts lost rule 2 does not hold, and no step alone can make it: an opening that was found
/// before a close of the lost history, and is appended after it, lets the switch go on. It takes a
/// service that works on the lost history while the shortened log goes on; so a log that has lost
/// its end is reconciled before anything goes on.
/// A rehearsal's life is short, so that more befalls it.
const FULL: [(bool, Bounds); 5] = [
    (false, Bounds { mishaps: 4, losses: 0, lost_facts_max: 0 }),
    (false, Bounds { mishaps: 3, losses: 1, lost_facts_max: 1 }),
    (false, Bounds { mishaps: 1, losses: 2, lost_facts_max: 1 }),
    (true, Bounds { mishaps: 5, losses: 0, lost_facts_max: 0 }),
    (true, Bounds { mishaps: 4, losses: 1, lost_facts_max: 1 }),
];

fn main() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut proved = true;
    for (rehearsal, bounds) in FULL {
        let began = Instant::now();
        let model = Drover { bounds, without: Without::Nothing, rehearsal };
        let checker = model.checker().threads(threads).spawn_bfs().join();
        println!(
            "{}mishaps {}, losses {} of up to {} facts: {} states, {} of them different, {} s",
            if rehearsal { "rehearsal: " } else { "" },
            bounds.mishaps,
            bounds.losses,
            bounds.lost_facts_max,
            checker.state_count(),
            checker.unique_state_count(),
            began.elapsed().as_secs()
        );
        for property in checker.model().properties() {
            let name = property.name;
            let found = checker.discovery(name);
            let holds = match property.expectation {
                stateright::Expectation::Always => found.is_none(),
                stateright::Expectation::Sometimes => found.is_some(),
                stateright::Expectation::Eventually => found.is_none(),
            };
            proved &= holds;
            println!("  {} {name}", if holds { "holds  " } else { "BROKEN " });
            if let Some(path) = found.filter(|_| !holds) {
                for (state, action) in path.into_vec() {
                    let what = action.map(|action| state.tell(action)).unwrap_or_default();
                    println!("    {what}");
                }
            }
        }
    }
    if proved { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
