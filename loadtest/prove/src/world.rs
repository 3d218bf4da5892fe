//! The servers, the zone and what a service does to them, in the model.
//!
//! What may be done is decided by the real rules of the ledgers ([`drover_lifecycle::ledger`]) and
//! of the zone's mark ([`drover_lifecycle::zone`]). What an act then does to who can write is this
//! file: the one part of the proof that is not the product's own code. A step works under its
//! ledger's lock, so that here it is one action; a service that dies in the middle of it is
//! another, which leaves the intent and the worst that a part of the change can mean.

use drover_lifecycle::{
    ledger::{Act, Asked, Move, Refusal, Row, State, fence, permit, watchdog},
    zone::{self, Mark, Pointed},
};
use drover_schemas::{
    Code, Failure,
    v1::{self, Job, Step, migration_event::Event},
};

use crate::Without;

/// What became of a step that was begun.
pub type Outcome = Result<Event, Failure>;

/// Everything outside the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The source's ledger.
    pub source: Option<Row>,
    /// The customer's writes are accepted at the source.
    pub source_writes: bool,
    /// Which of its writes the source holds: one more each time that it could be written to.
    pub source_version: u8,
    /// The destination's ledger.
    pub destination: Option<Row>,
    /// The customer's writes are accepted at the destination.
    pub destination_writes: bool,
    /// What the copy holds; none where there is no whole copy.
    pub copy: Option<u8>,
    /// The copy was compared with the source.
    pub verified: bool,
    /// The mark in the zone.
    pub mark: Option<Mark>,
    /// The run of the mark, and whether it keeps what a switch changed.
    pub marked: (u32, bool),
    /// The host name points to the destination.
    pub switched: bool,
    /// The copy has been pointed to, so that it may hold writes that are nowhere else.
    pub precious: bool,
    /// The destination has taken writes that are nowhere else.
    pub written: bool,
    /// A person said that they may be lost.
    pub let_go: bool,
    /// The source was thawed all the same.
    pub forgot_writes: bool,
    /// A copy that was pointed to was dropped.
    pub lost_writes: bool,
    /// A destination was opened that was not what the source held.
    pub opened_other: bool,
    /// The job that was gone on with was another than the one that would have been ordered.
    pub went_astray: bool,
}

impl World {
    /// As nothing was ever done.
    pub fn new() -> Self {
        Self {
            source: None,
            source_writes: true,
            source_version: 0,
            destination: None,
            destination_writes: false,
            copy: None,
            verified: false,
            mark: None,
            marked: (0, false),
            switched: false,
            precious: false,
            written: false,
            let_go: false,
            forgot_writes: false,
            lost_writes: false,
            opened_other: false,
            went_astray: false,
        }
    }

    /// A service does a job's step; or it dies in the middle of it.
    pub fn work(&mut self, job: &Job, dies: bool, without: Without) -> Outcome {
        match job.step() {
            Step::Freeze => self.at_source(Act::Freeze, job, dies, without),
            Step::Dump => self.at_source(Act::Dump, job, dies, without),
            Step::Disarm => self.at_source(Act::Disarm, job, dies, without),
            Step::Retire => self.at_source(Act::Retire, job, dies, without),
            Step::Thaw => self.at_source(Act::Thaw, job, dies, without),
            Step::Import => self.at_destination(Act::Import, job, dies, without),
            Step::Verify => self.at_destination(Act::Verify, job, dies, without),
            Step::Open if job.opened.is_some() => {
                self.at_destination(Act::Reopen, job, dies, without)
            }
            Step::Open => self.at_destination(Act::Open, job, dies, without),
            Step::Close => self.at_destination(Act::Close, job, dies, without),
            Step::Drop => self.at_destination(Act::Drop, job, dies, without),
            Step::Switch | Step::Revert => self.in_zone(job, without),
            Step::Publish => Ok(Event::DumpPublished(v1::DumpPublished {
                expires_at_unix_ms: 1,
                ..Default::default()
            })),
            Step::Announce => Ok(Event::CustomerNotified(v1::CustomerNotified::default())),
            Step::Expire => Ok(Event::DumpExpired(v1::DumpExpired {})),
            Step::Unspecified => Err(Failure::new(Code::JobIncomplete, "no step")),
        }
    }

    /// The same, with other revisions in its ledgers and in the mark.
    pub(crate) fn map_revisions(&self, mut to: impl FnMut(u64) -> u64) -> Self {
        let mut world = self.clone();
        for row in [&mut world.source, &mut world.destination].into_iter().flatten() {
            row.revision = to(row.revision);
        }
        if let Some(mark) = &mut world.mark {
            mark.revision = to(mark.revision);
        }
        world
    }

    /// Whether a job can change nothing here any more: something later has acted where it would.
    pub(crate) fn is_past(&self, job: &Job, without: Without) -> bool {
        let acted = match job.step() {
            Step::Freeze | Step::Dump | Step::Disarm | Step::Retire | Step::Thaw => {
                self.source.map(|row| row.revision)
            }
            Step::Import | Step::Verify | Step::Open | Step::Close | Step::Drop => {
                self.destination.map(|row| row.revision)
            }
            Step::Switch | Step::Revert => self.mark.map(|mark| mark.revision),
            Step::Publish | Step::Announce | Step::Expire | Step::Unspecified => return true,
        };
        without != Without::Ledgers && acted.is_some_and(|revision| revision > job.revision)
    }

    /// A customer writes where the host name points to.
    pub fn write(&mut self) {
        self.written |= self.switched && self.destination_writes;
    }

    /// What the watchdog can do now.
    pub fn watchdog_may(&self) -> Option<Move> {
        self.source.and_then(|row| watchdog(row.state))
    }

    /// The watchdog begins, or comes to its end.
    pub fn watch(&mut self) {
        let may = self.watchdog_may();
        let Some(row) = &mut self.source else { return };
        match may {
            Some(Move::Begin) => row.state = State::Lapsing,
            Some(Move::GoOn) => row.state = State::Lapsed,
            Some(Move::Again | Move::Rest) | None => return,
        }
        self.source_opens();
    }

    fn source_opens(&mut self) {
        if !self.source_writes {
            self.source_writes = true;
            self.source_version += 1;
        }
    }

    fn at_source(&mut self, act: Act, job: &Job, dies: bool, without: Without) -> Outcome {
        let asked = asked(job);
        let done = |state| Some(Row { state, revision: asked.revision, run: asked.run });
        let allowed = allowed(act, self.source, asked, without)?;
        let whole = matches!(allowed, Move::Begin | Move::GoOn);
        Ok(match act {
            Act::Freeze => {
                if whole && dies {
                    self.source = done(State::Freezing);
                } else {
                    self.source = done(State::Frozen);
                    self.source_writes &= !whole;
                }
                Event::SourceFrozen(v1::SourceFrozen { thaw_at_unix_ms: 1, ..Default::default() })
            }
            Act::Dump => Event::DumpStored(v1::DumpStored {
                tables: self.source_version.into(),
                ..Default::default()
            }),
            Act::Disarm => {
                if without != Without::Disarming {
                    self.source = done(State::Disarmed);
                }
                Event::SourceDisarmed(v1::SourceDisarmed::default())
            }
            Act::Retire => {
                self.source = done(if whole && dies { State::Retiring } else { State::Retired });
                Event::SourceRetired(v1::SourceRetired::default())
            }
            Act::Thaw => {
                self.source = done(if whole && dies { State::Thawing } else { State::Thawed });
                if whole {
                    self.forgot_writes |= self.written && !self.let_go;
                    self.source_opens();
                }
                Event::SourceThawed(v1::SourceThawed::default())
            }
            Act::Import | Act::Verify | Act::Open | Act::Reopen | Act::Close | Act::Drop => {
                return Err(Failure::new(Code::JobIncomplete, "not at the source"));
            }
        })
    }

    fn at_destination(&mut self, act: Act, job: &Job, dies: bool, without: Without) -> Outcome {
        let asked = asked(job);
        let row = self.destination;
        let done = |state| Some(Row { state, revision: asked.revision, run: asked.run });
        let allowed = allowed(act, row, asked, without)?;
        let whole = matches!(allowed, Move::Begin | Move::GoOn);
        Ok(match act {
            Act::Import => {
                if whole {
                    self.lost_writes |= self.precious && self.copy.is_some();
                    (self.copy, self.verified, self.precious) = (None, false, false);
                    (self.written, self.let_go) = (false, false);
                    self.destination = done(State::Importing);
                    if !dies {
                        let dump = job.dump.as_ref().map_or(u32::MAX, |dump| dump.tables);
                        self.copy = u8::try_from(dump).ok();
                    }
                }
                if !dies {
                    self.destination = done(State::Imported);
                }
                Event::ImportCompleted(v1::ImportCompleted::default())
            }
            Act::Verify => {
                let dump = job.dump.as_ref().map_or(u32::MAX, |dump| dump.tables);
                if self.copy.map(u32::from) != Some(dump) {
                    return Err(Failure::new(Code::CopyDiffers, "another copy"));
                }
                self.verified = true;
                self.destination = done(State::Imported);
                Event::CopyVerified(v1::CopyVerified::default())
            }
            Act::Open => {
                if whole {
                    self.opened_other |= self.copy != Some(self.source_version);
                    self.destination_writes = true;
                }
                self.destination = done(if whole && dies { State::Opening } else { State::Open });
                Event::DestinationOpened(v1::DestinationOpened::default())
            }
            Act::Reopen => {
                if whole && dies {
                    self.destination = done(row.map_or(State::Opening, |row| row.state));
                } else {
                    self.destination = done(State::Open);
                    self.destination_writes = true;
                }
                Event::DestinationOpened(v1::DestinationOpened::default())
            }
            Act::Close if whole && !dies && self.keeps(job, without) => {
                let opened = job.opened.is_some();
                self.destination = done(if opened { State::Open } else { State::Opening });
                self.destination_writes = true;
                return Err(Failure::new(Code::DestinationWritten, "written since it opened"));
            }
            Act::Close => {
                // Half closed is still open.
                if whole && dies {
                    self.destination = done(State::Closing);
                } else {
                    let rests = row.filter(|_| allowed == Move::Rest).map(|row| row.state);
                    self.destination = done(rests.unwrap_or(State::Closed));
                    self.destination_writes &= !whole;
                    // It was compared, and holds nothing that is nowhere else.
                    self.precious &= !job.keep_writes;
                }
                Event::DestinationClosed(v1::DestinationClosed::default())
            }
            Act::Drop => {
                self.lost_writes |= self.precious && self.copy.is_some();
                (self.copy, self.verified, self.precious) = (None, false, false);
                self.destination = done(if dies { State::Dropping } else { State::Dropped });
                Event::DestinationDropped(v1::DestinationDropped {})
            }
            Act::Freeze | Act::Dump | Act::Disarm | Act::Retire | Act::Thaw => {
                return Err(Failure::new(Code::JobIncomplete, "not at the destination"));
            }
        })
    }

    /// Whether a close finds what it must keep.
    fn keeps(&self, job: &Job, without: Without) -> bool {
        job.keep_writes && self.written && without != Without::Comparison
    }

    /// An update of the zone is all or nothing, with its mark.
    fn in_zone(&mut self, job: &Job, without: Without) -> Outcome {
        let to = match job.step() {
            Step::Switch => Pointed::Switched,
            _ => Pointed::Reverted,
        };
        let allowed = match zone::permit(to, self.mark, job.revision) {
            Err(Refusal::Outdated) if without == Without::Ledgers => Move::Begin,
            Err(_) => return Err(Failure::new(Code::DnsOutdated, "the mark is ahead")),
            Ok(allowed) => allowed,
        };
        let changed = match (to, self.mark) {
            (Pointed::Switched, _) => true,
            (Pointed::Reverted, None) => job.switched.is_some(),
            (Pointed::Reverted, Some(mark)) => {
                let same_run = self.marked.0 == job.run;
                self.marked.1 && (mark.pointed == Pointed::Switched || same_run)
            }
        };
        self.marked = (job.run, changed);
        self.mark = Some(Mark { pointed: to, revision: job.revision });
        let whole = matches!(allowed, Move::Begin | Move::GoOn);
        Ok(match to {
            Pointed::Switched => {
                if whole {
                    (self.switched, self.precious) = (true, true);
                }
                Event::DnsSwitched(v1::DnsSwitched { changes: vec![v1::DnsChange::default()] })
            }
            Pointed::Reverted => {
                self.switched &= !whole;
                let changes = vec![v1::DnsChange::default(); usize::from(changed)];
                Event::DnsReverted(v1::DnsReverted { changes })
            }
        })
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn asked(job: &Job) -> Asked {
    let rehearsal = job.planned.as_ref().is_some_and(|planned| planned.rehearsal);
    let Job { revision, run, destination_shut, .. } = *job;
    Asked { revision, run, destination_shut, rehearsal }
}

fn allowed(act: Act, row: Option<Row>, asked: Asked, without: Without) -> Result<Move, Failure> {
    let answer = match without {
        Without::Ledgers => Ok(Move::Begin),
        Without::Nothing
        | Without::Revisions
        | Without::UndoOfTheStep
        | Without::Disarming
        | Without::Comparison => fence(row, asked).and_then(|()| permit(act, row, asked)),
    };
    // A source that was not disarmed at all is neither retired nor told from one that was.
    let answer = match answer {
        Err(Refusal::NotDisarmed) if without == Without::Disarming => Ok(Move::Begin),
        other => other,
    };
    answer.map_err(|refusal| {
        let code = match refusal {
            Refusal::Outdated => Code::LedgerOutdated,
            Refusal::NotFrozen => Code::NotFrozen,
            Refusal::Lapsed => Code::WatchdogFired,
            Refusal::TooLate => Code::FrozenTooLong,
            Refusal::NotDisarmed => Code::NotDisarmed,
            Refusal::DestinationUnknown => Code::DestinationUnknown,
            Refusal::Rehearsal => Code::RehearsalOnly,
        };
        Failure::new(code, "refused by the ledger")
    })
}
