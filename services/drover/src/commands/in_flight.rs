//! `--max-in-flight N|auto`, with what `auto` keeps between: of `drover start` and `drover tune`.

use std::str::FromStr;

use drover_lifecycle::concurrency::Range;
use drover_schemas::{Code, Failure};

/// How many are in flight where nothing is said.
pub const IN_FLIGHT: u32 = 400;

/// The most that may be in flight.
pub const IN_FLIGHT_MAX: u32 = 100_000;

/// What auto keeps between where nothing is said.
const FLOOR: u32 = 20;
const CEILING: u32 = 800;

/// How many migrations are in flight at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// At most so many.
    Fixed(u32),
    /// As many as is best, by what is seen.
    Auto,
}

impl FromStr for InFlight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (1..=IN_FLIGHT_MAX).contains(&number) => Ok(Self::Fixed(number)),
            Err(_) if text == "auto" => Ok(Self::Auto),
            Ok(_) | Err(_) => Err(format!("a number from 1 to {IN_FLIGHT_MAX}, or auto")),
        }
    }
}

#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub struct Wanted {
    /// How many migrations are in flight at once; what is in flight beyond it finishes. With auto as
    /// many as is best by the servers' latency, between --floor and --ceiling, and at each server by what
    /// it is under (--threads-running and others of drover tune).
    #[arg(long, value_name = "N|auto")]
    pub max_in_flight: Option<InFlight>,
    /// The fewest that auto allows.
    #[arg(long, value_name = "N", default_value_t = FLOOR, requires = "max_in_flight")]
    floor: u32,
    /// The most that auto allows.
    #[arg(long, value_name = "N", default_value_t = CEILING, requires = "max_in_flight")]
    ceiling: u32,
}

impl Wanted {
    /// At most so many.
    pub fn fixed(number: u32) -> Self {
        Self { max_in_flight: Some(InFlight::Fixed(number)), floor: FLOOR, ceiling: CEILING }
    }

    /// Between what auto keeps.
    ///
    /// # Errors
    /// [`Code::LimitsInvalid`].
    pub fn range(&self) -> Result<Range, Failure> {
        let Self { floor, ceiling, .. } = *self;
        if floor < 1 || floor > ceiling || ceiling > IN_FLIGHT_MAX {
            let message = format!("--floor {floor} --ceiling {ceiling}");
            return Err(Failure::new(Code::LimitsInvalid, message));
        }
        Ok(Range { floor, ceiling })
    }

    /// For [`Adjust`](drover_lifecycle::limits::Adjust): nothing where nothing was said; then whether the
    /// number moves by itself.
    ///
    /// # Errors
    /// [`Code::LimitsInvalid`].
    pub fn auto(&self) -> Result<Option<Option<Range>>, Failure> {
        let range = self.range()?;
        Ok(self.max_in_flight.map(|wanted| match wanted {
            InFlight::Fixed(_) => None,
            InFlight::Auto => Some(range),
        }))
    }
}
