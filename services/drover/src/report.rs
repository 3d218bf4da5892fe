//! How a person is told that something did not work: code, what happened, what to do.

use std::{fmt, process::ExitCode};

use drover_projector::render::printable;
use drover_schemas::{Code, Failure};

use crate::inventory::Fault;

/// Why a command failed.
#[derive(Debug)]
pub enum Trouble {
    /// One thing.
    Failure(Failure),
    /// An inventory with faults; nothing was recorded.
    Faults(Vec<Fault>),
}

impl<T: Into<Failure>> From<T> for Trouble {
    fn from(error: T) -> Self {
        Self::Failure(error.into())
    }
}

impl Trouble {
    /// 2 for wrong usage, the configuration's included, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failure(Failure {
                code:
                    Code::ConfigUnreadable
                    | Code::ConfigInvalid
                    | Code::SecretUnreadable
                    | Code::ServiceUnknown
                    | Code::HostUnknown
                    | Code::InitRefused,
                ..
            }) => ExitCode::from(2),
            Self::Failure(_) | Self::Faults(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(failure) => {
                let Failure { code, message } = failure;
                writeln!(f, "drover: {code} {}: {}", code.title(), printable(message))?;
                writeln!(f, "  what to do: {}", code.remedy())?;
                writeln!(f, "  more: ops/errors/{code}.md")
            }
            Self::Faults(faults) => {
                let mut codes: Vec<Code> = faults.iter().map(|fault| fault.failure.code).collect();
                codes.sort_unstable();
                codes.dedup();
                for Fault { line, failure: Failure { code, message } } in faults {
                    writeln!(f, "line {line}: {code} {}: {}", code.title(), printable(message))?;
                }
                writeln!(f, "drover: {} faults, nothing was recorded", faults.len())?;
                for code in codes {
                    writeln!(f, "  {code}: {} (ops/errors/{code}.md)", code.remedy())?;
                }
                Ok(())
            }
        }
    }
}
