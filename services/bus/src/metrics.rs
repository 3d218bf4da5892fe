//! The bus's metrics, all in one place.
//!
//! | name | labels | what it counts |
//! | --- | --- | --- |
//! | `drover_steps_total` | service, step, outcome | steps that ended: `done`, `failed`, `abandoned` |
//! | `drover_step_seconds` | service, step | how long a step ran |
//! | `drover_handoff_seconds` | service, step | from the decision of a job to the start of its step |
//! | `drover_jobs_in_flight` | service | jobs in work in this process |
//! | `drover_jobs_dropped_total` | service, reason | jobs dropped because the history had moved on: `overtaken` before the step, `conflict` after it, `ahead` where the log has lost its end |
//! | `drover_jobs_given_back_total` | service | jobs given back because the bus did not take their event |
//! | `drover_undecodable_total` | kind | messages set aside: `job`, `event` |
//! | `drover_appends_total` | outcome | appends: `stored`, `recovered` (stored although no answer came), `conflict`, `failed` |
//! | `drover_bus_connections_total` | | connections made to NATS |

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

const STEPS: &str = "drover_steps_total";
const STEP_SECONDS: &str = "drover_step_seconds";
const HANDOFF_SECONDS: &str = "drover_handoff_seconds";
const IN_FLIGHT: &str = "drover_jobs_in_flight";
const DROPPED: &str = "drover_jobs_dropped_total";
const GIVEN_BACK: &str = "drover_jobs_given_back_total";
const UNDECODABLE: &str = "drover_undecodable_total";
const APPENDS: &str = "drover_appends_total";
const CONNECTIONS: &str = "drover_bus_connections_total";

/// Tells the installed recorder what each metric means. Call it once after installing one.
pub fn describe() {
    describe_counter!(STEPS, "Steps that ended, by outcome");
    describe_histogram!(STEP_SECONDS, Unit::Seconds, "How long a step ran");
    describe_histogram!(
        HANDOFF_SECONDS,
        Unit::Seconds,
        "From the decision of a job to the start of its step"
    );
    describe_gauge!(IN_FLIGHT, "Jobs in work in this process");
    describe_counter!(DROPPED, "Jobs dropped because the history had moved on");
    describe_counter!(GIVEN_BACK, "Jobs given back because the bus did not take their event");
    describe_counter!(UNDECODABLE, "Messages set aside because they cannot be decoded");
    describe_counter!(APPENDS, "Appends to histories, by outcome");
    describe_counter!(CONNECTIONS, "Connections made to NATS");
}

/// How a step ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Abandoned,
}

pub(crate) fn step_ended(
    service: &'static str,
    step: &'static str,
    outcome: Outcome,
    took: Duration,
) {
    let outcome = match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Abandoned => "abandoned",
    };
    counter!(STEPS, "service" => service, "step" => step, "outcome" => outcome).increment(1);
    histogram!(STEP_SECONDS, "service" => service, "step" => step).record(took);
}

pub(crate) fn handed_off(service: &'static str, step: &'static str, took: Duration) {
    histogram!(HANDOFF_SECONDS, "service" => service, "step" => step).record(took);
}

/// Why a job was dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dropped {
    Overtaken,
    Conflict,
    Ahead,
}

impl Dropped {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overtaken => "overtaken",
            Self::Conflict => "conflict",
            Self::Ahead => "ahead",
        }
    }
}

pub(crate) fn dropped(service: &'static str, reason: Dropped) {
    counter!(DROPPED, "service" => service, "reason" => reason.name()).increment(1);
}

pub(crate) fn given_back(service: &'static str) {
    counter!(GIVEN_BACK, "service" => service).increment(1);
}

pub(crate) fn undecodable(kind: &'static str) {
    counter!(UNDECODABLE, "kind" => kind).increment(1);
}

pub(crate) fn appended(outcome: &'static str) {
    counter!(APPENDS, "outcome" => outcome).increment(1);
}

pub(crate) fn connected() {
    counter!(CONNECTIONS).increment(1);
}

/// Counts a job as in work until it is dropped.
pub(crate) struct InFlight(&'static str);

impl InFlight {
    pub(crate) fn new(service: &'static str) -> Self {
        gauge!(IN_FLIGHT, "service" => service).increment(1);
        Self(service)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT, "service" => self.0).decrement(1);
    }
}
