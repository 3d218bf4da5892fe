//! What the world should look like after some steps: by what each step is for, not by what Drover
//! says of itself.

use drover_schemas::v1::Step;

/// What a customer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Nothing,
    Reads,
    Writes,
}

/// The world of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What the customer may do at the source.
    pub source: Access,
    /// And at the destination.
    pub destination: Access,
    /// The destination holds the database.
    pub copy: bool,
    /// The host name points to the destination.
    pub switched: bool,
    /// How many mails the customer has.
    pub announced: usize,
    /// The store holds its dump, or some of it.
    pub stored: bool,
    /// The store holds the customer's sealed accounts: while they may be needed, and no longer.
    pub sealed: bool,
}

impl Expected {
    /// After these steps, in this order.
    pub fn after(steps: &[Step]) -> Self {
        let mut expected = Self {
            source: Access::Writes,
            destination: Access::Nothing,
            copy: false,
            switched: false,
            announced: 0,
            stored: false,
            sealed: false,
        };
        for step in steps {
            expected.take(*step);
        }
        expected
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Freeze => self.source = Access::Reads,
            Step::Dump => (self.stored, self.sealed) = (true, true),
            Step::Import => self.copy = true,
            Step::Open => self.destination = Access::Writes,
            Step::Switch => self.switched = true,
            Step::Retire => self.source = Access::Nothing,
            Step::Announce => self.announced += 1,
            Step::Publish => self.sealed = false,
            Step::Expire => (self.stored, self.sealed) = (false, false),
            Step::Revert => self.switched = false,
            Step::Close => self.destination = Access::Nothing,
            Step::Drop => self.copy = false,
            Step::Thaw => (self.source, self.sealed) = (Access::Writes, false),
            Step::Unspecified | Step::Verify | Step::Disarm => {}
        }
    }
}
