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
    /// The store holds something of it.
    pub stored: bool,
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
        };
        for step in steps {
            expected.take(*step);
        }
        expected
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Freeze => self.source = Access::Reads,
            Step::Dump => self.stored = true,
            Step::Import => self.copy = true,
            Step::Open => self.destination = Access::Writes,
            Step::Switch => self.switched = true,
            Step::Retire => self.source = Access::Nothing,
            Step::Announce => self.announced += 1,
            Step::Expire => self.stored = false,
            Step::Revert => self.switched = false,
            Step::Close => self.destination = Access::Nothing,
            Step::Drop => self.copy = false,
            Step::Thaw => self.source = Access::Writes,
            Step::Unspecified | Step::Verify | Step::Disarm | Step::Publish => {}
        }
    }
}
