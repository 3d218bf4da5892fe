//! The steps in their order, forward and back, and where each is done.

use drover_schemas::{
    ServerName,
    names::InvalidName,
    subjects::Host,
    v1::{MigrationPlanned, Step, migration_event::Event},
};

/// A step towards the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forward {
    /// The source becomes read-only for its customers.
    Freeze,
    /// The dump goes to the object store.
    Dump,
    /// The dump is loaded where customers cannot reach it yet.
    Import,
    /// The copy is compared with the source.
    Verify,
    /// The source no longer thaws itself.
    Disarm,
    /// The customer's accounts are let in at the destination.
    Open,
    /// The host names point to the destination.
    Switch,
    /// Read access at the source is removed.
    Retire,
    /// The customer's link to the dump.
    Publish,
    /// The customer's message.
    Announce,
    /// The dump is deleted when its time is over.
    Expire,
}

/// A step back towards the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Undo {
    /// The host names point to the source again.
    Revert,
    /// The customer's accounts are kept out at the destination.
    Close,
    /// The copy is dropped.
    Drop,
    /// The source is as it was before the freeze.
    Thaw,
}

impl Forward {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Freeze,
        Self::Dump,
        Self::Import,
        Self::Verify,
        Self::Disarm,
        Self::Open,
        Self::Switch,
        Self::Retire,
        Self::Publish,
        Self::Announce,
        Self::Expire,
    ];

    /// Its name in messages.
    pub fn step(self) -> Step {
        match self {
            Self::Freeze => Step::Freeze,
            Self::Dump => Step::Dump,
            Self::Import => Step::Import,
            Self::Verify => Step::Verify,
            Self::Disarm => Step::Disarm,
            Self::Open => Step::Open,
            Self::Switch => Step::Switch,
            Self::Retire => Step::Retire,
            Self::Publish => Step::Publish,
            Self::Announce => Step::Announce,
            Self::Expire => Step::Expire,
        }
    }

    /// Whether a failure for good is undone without a person's word: up to and with the switch,
    /// whose update of the zone is all or nothing.
    pub fn is_undone_by_itself(self) -> bool {
        self <= Self::Switch
    }

    /// Where the undo begins when this step was begun, whether or not it came to its end.
    ///
    /// That of an opening begins at the host names, which it does not touch: the log may have lost
    /// that it came to its end and that the switch was ordered. The revert's mark in the zone
    /// refuses a switch that comes late, and tells whether one has been there.
    pub fn first_undo(self) -> Undo {
        match self {
            Self::Freeze | Self::Dump => Undo::Thaw,
            Self::Import | Self::Verify | Self::Disarm => Undo::Drop,
            Self::Open
            | Self::Switch
            | Self::Retire
            | Self::Publish
            | Self::Announce
            | Self::Expire => Undo::Revert,
        }
    }
}

impl Undo {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Revert, Self::Close, Self::Drop, Self::Thaw];

    /// Its name in messages.
    pub fn step(self) -> Step {
        match self {
            Self::Revert => Step::Revert,
            Self::Close => Step::Close,
            Self::Drop => Step::Drop,
            Self::Thaw => Step::Thaw,
        }
    }

    /// What follows. A copy that was switched to may hold the customer's writes: it stays,
    /// closed, and only a next import of the same migration replaces it.
    pub fn next(self, was_switched: bool) -> Option<Self> {
        match self {
            Self::Revert => Some(Self::Close),
            Self::Close if was_switched => Some(Self::Thaw),
            Self::Close => Some(Self::Drop),
            Self::Drop => Some(Self::Thaw),
            Self::Thaw => None,
        }
    }
}

/// Where a step of this migration is done; none for [`Step::Unspecified`].
///
/// # Errors
/// When the recorded server's name is not a name: the log is damaged.
pub fn host_of(step: Step, planned: &MigrationPlanned) -> Result<Option<Host>, InvalidName> {
    let server = |name: &str| name.parse::<ServerName>().map(|name| Some(Host::Server(name)));
    match step {
        Step::Freeze | Step::Dump | Step::Disarm | Step::Retire | Step::Thaw => {
            server(&planned.source)
        }
        Step::Import | Step::Verify | Step::Open | Step::Close | Step::Drop => {
            server(&planned.destination)
        }
        Step::Switch | Step::Revert => Ok(Some(Host::Dns)),
        Step::Publish | Step::Announce | Step::Expire => Ok(Some(Host::Notify)),
        Step::Unspecified => Ok(None),
    }
}

/// The step that ends in this event; none for events that end no step.
pub fn step_of(event: &Event) -> Option<Step> {
    match event {
        Event::SourceFrozen(_) => Some(Step::Freeze),
        Event::DumpStored(_) => Some(Step::Dump),
        Event::ImportCompleted(_) => Some(Step::Import),
        Event::CopyVerified(_) => Some(Step::Verify),
        Event::SourceDisarmed(_) => Some(Step::Disarm),
        Event::DestinationOpened(_) => Some(Step::Open),
        Event::DnsSwitched(_) => Some(Step::Switch),
        Event::SourceRetired(_) => Some(Step::Retire),
        Event::DumpPublished(_) => Some(Step::Publish),
        Event::CustomerNotified(_) => Some(Step::Announce),
        Event::DumpExpired(_) => Some(Step::Expire),
        Event::DnsReverted(_) => Some(Step::Revert),
        Event::DestinationClosed(_) => Some(Step::Close),
        Event::DestinationDropped(_) => Some(Step::Drop),
        Event::SourceThawed(_) => Some(Step::Thaw),
        Event::MigrationPlanned(_)
        | Event::MigrationAdmitted(_)
        | Event::MigrationCompleted(_)
        | Event::StepFailed(_)
        | Event::MigrationParked(_)
        | Event::MigrationChecked(_)
        | Event::MigrationRecalled(_)
        | Event::MigrationRehearsed(_)
        | Event::RetryRequested(_)
        | Event::RollbackRequested(_)
        | Event::BringBackRequested(_)
        | Event::MigrationRolledBack(_)
        | Event::MigrationDeferred(_) => None,
    }
}
