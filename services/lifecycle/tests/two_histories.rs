//! A migration is brought back by another one, while its own log has lost that: it is rolled back, its
//! writes discarded, at the same time. Every order of the two, with each order late and twice, against
//! the real rules of the ledgers: at no time do both ends take writes, and nothing that takes writes is
//! put in another's place. Of the rules that hold between the two migrations each is needed.

use std::collections::HashSet;

use drover_lifecycle::{
    Forward, Undo,
    ledger::{Act, Asked, Move, Row, State, fence, permit},
};

/// The rules between the two, which services/mysql applies under the database's lock.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Only what is retired is set aside, and its row says so.
    aside: bool,
    /// A copy that was frozen or retired since is not closed.
    moved_on: bool,
}

/// An order of the migration that brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Order {
    act: Act,
    revision: u64,
    run: u32,
    destination_shut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Going {
    Forth(Forward),
    Back(Undo),
    Home,
    Arrived,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// The old source: the first migration's row, the other one's, and whether the customer writes.
    retired: Row,
    imported: Option<Row>,
    writes_here: bool,
    /// The old destination: the same.
    opened: Row,
    frozen: Option<Row>,
    writes_there: bool,
    /// The other one's freeze found that the customer might write.
    took: bool,
    /// The other one's history, and all orders that it ever gave.
    going: Going,
    run: u32,
    revision: u64,
    shut: bool,
    switched: bool,
    orders: Vec<Order>,
    /// Whether the current order was done.
    done: bool,
    /// How far the first one is rolled back: closed, thawed.
    rolled_back: u8,
    /// What the customer wrote at the old source was replaced by a copy.
    replaced: bool,
}

const RUNS_MAX: u32 = 2;

fn act_of(going: Going) -> Option<Act> {
    match going {
        Going::Forth(step) => match step {
            Forward::Freeze => Some(Act::Freeze),
            Forward::Dump => Some(Act::Dump),
            Forward::Import => Some(Act::Import),
            Forward::Verify => Some(Act::Verify),
            Forward::Disarm => Some(Act::Disarm),
            Forward::Open => Some(Act::Open),
            Forward::Retire => Some(Act::Retire),
            Forward::Switch | Forward::Publish | Forward::Announce | Forward::Expire => None,
        },
        Going::Back(undo) => match undo {
            Undo::Close => Some(Act::Close),
            Undo::Drop => Some(Act::Drop),
            Undo::Thaw => Some(Act::Thaw),
            Undo::Revert => None,
        },
        Going::Home | Going::Arrived => None,
    }
}

impl World {
    fn begin() -> Self {
        let row = |state| Row { state, revision: 5, run: 1 };
        let mut world = Self {
            retired: row(State::Retired),
            imported: None,
            writes_here: false,
            opened: row(State::Open),
            frozen: None,
            writes_there: true,
            took: false,
            going: Going::Forth(Forward::Freeze),
            run: 1,
            revision: 1,
            shut: false,
            switched: false,
            orders: Vec::new(),
            done: false,
            rolled_back: 0,
            replaced: false,
        };
        world.give_order();
        world
    }

    fn give_order(&mut self) {
        self.done = false;
        if let Some(act) = act_of(self.going) {
            let Self { revision, run, shut: destination_shut, .. } = *self;
            self.orders.push(Order { act, revision, run, destination_shut });
        }
    }

    fn goes(&self, going: Going) -> Self {
        let mut next = self.clone();
        (next.going, next.revision) = (going, next.revision + 1);
        next.give_order();
        next
    }

    /// An order of the one that brings back is carried out.
    fn carried_out(&self, order: Order, rules: Rules) -> Option<Self> {
        let mut next = self.clone();
        let Order { act, revision, run, destination_shut } = order;
        let asked = Asked { revision, run, destination_shut, rehearsal: false };
        let at_source =
            matches!(act, Act::Freeze | Act::Dump | Act::Disarm | Act::Retire | Act::Thaw);
        let row = if at_source { self.frozen } else { self.imported };
        fence(row, asked).ok()?;
        let moves = permit(act, row, asked).ok()?;
        let mut becomes = |state| {
            let row = Some(Row { state, revision, run });
            if at_source { next.frozen = row } else { next.imported = row }
        };
        match (act, moves) {
            (Act::Dump | Act::Verify, _) => {}
            (_, Move::Rest) => becomes(row.map_or(State::Thawed, |row| row.state)),
            (Act::Freeze, _) => {
                becomes(State::Frozen);
                if moves == Move::Begin {
                    next.took = self.writes_there;
                }
                next.writes_there = false;
            }
            (Act::Disarm, _) => becomes(State::Disarmed),
            (Act::Retire, _) => becomes(State::Retired),
            (Act::Thaw, _) => {
                becomes(State::Thawed);
                if moves == Move::GoOn {
                    next.writes_there |= self.took;
                }
            }
            (Act::Import, Move::Again) => becomes(State::Imported),
            (Act::Import, _) => {
                becomes(State::Imported);
                next.replaced |= self.writes_here;
                if rules.aside {
                    match self.retired.state {
                        State::Retired => next.retired.state = State::Aside,
                        State::Aside => {}
                        _ => return None,
                    }
                }
            }
            (Act::Open | Act::Reopen, _) => {
                becomes(State::Open);
                next.writes_here = true;
            }
            (Act::Close, _) => {
                becomes(State::Closed);
                next.writes_here = false;
            }
            (Act::Drop, _) => {
                becomes(State::Dropped);
                if self.retired.state == State::Aside {
                    next.retired.state = State::Retired;
                }
            }
        }
        if self.orders.last() == Some(&order) {
            next.done = true;
        }
        Some(next)
    }

    /// The history of the one that brings back goes on.
    fn told(&self) -> Vec<Self> {
        let mut all = Vec::new();
        match self.going {
            Going::Forth(step) => {
                if self.done || act_of(self.going).is_none() {
                    let at = Forward::ALL.iter().position(|it| *it == step).unwrap_or(0);
                    let mut next = self.clone();
                    next.switched |= step == Forward::Switch;
                    let going = match step {
                        Forward::Retire => Going::Arrived,
                        _ => Going::Forth(Forward::ALL[at + 1]),
                    };
                    all.push(next.goes(going));
                }
                // It fails for good, or a person takes it back.
                all.push(self.goes(Going::Back(step.first_undo())));
            }
            Going::Back(undo) if self.done || act_of(self.going).is_none() => {
                let mut next = self.clone();
                next.shut |= matches!(undo, Undo::Close | Undo::Drop);
                let going = undo.next(self.switched).map_or(Going::Home, Going::Back);
                all.push(next.goes(going));
            }
            Going::Home if self.run < RUNS_MAX => {
                let mut next = self.clone();
                (next.run, next.shut, next.switched) = (self.run + 1, false, false);
                all.push(next.goes(Going::Forth(Forward::Freeze)));
            }
            Going::Arrived => all.push(self.goes(Going::Back(Undo::Revert))),
            Going::Back(_) | Going::Home => {}
        }
        all
    }

    /// The first migration is rolled back by a log that has lost its end.
    fn rolled_back(&self, rules: Rules) -> Option<Self> {
        let mut next = self.clone();
        let asked = Asked {
            revision: 10 + u64::from(self.rolled_back),
            run: 1,
            destination_shut: true,
            rehearsal: false,
        };
        match self.rolled_back {
            0 => {
                let held = self.frozen.is_some_and(|row| row.state != State::Thawed);
                if rules.moved_on && held {
                    return None;
                }
                permit(Act::Close, Some(self.opened), asked).ok()?;
                next.opened.state = State::Closed;
                next.writes_there = false;
            }
            1 => {
                permit(Act::Thaw, Some(self.retired), asked).ok()?;
                next.retired.state = State::Thawed;
                next.writes_here = true;
            }
            _ => return None,
        }
        next.rolled_back += 1;
        Some(next)
    }

    fn next(&self, rules: Rules) -> Vec<Self> {
        let mut all = self.told();
        all.extend(self.orders.iter().filter_map(|order| self.carried_out(*order, rules)));
        all.extend(self.rolled_back(rules));
        all
    }
}

/// How many states there are, and whether one of them breaks a promise.
fn explore(rules: Rules) -> (usize, bool) {
    let first = World::begin();
    let (mut seen, mut todo) = (HashSet::from([first.clone()]), vec![first]);
    while let Some(world) = todo.pop() {
        if world.writes_here && world.writes_there || world.replaced {
            return (seen.len(), true);
        }
        for next in world.next(rules) {
            if seen.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    (seen.len(), false)
}

#[test]
fn a_lost_word_never_opens_both_ends_and_each_rule_is_needed() {
    let (states, broken) = explore(Rules { aside: true, moved_on: true });
    assert!(!broken, "both ends take writes, or what takes writes was replaced");
    println!("{states} states");
    assert!(states > 1_000, "{states} states are too few to show anything");
    for rules in [Rules { aside: false, moved_on: true }, Rules { aside: true, moved_on: false }] {
        assert!(explore(rules).1, "{rules:?} would do as well");
    }
}
