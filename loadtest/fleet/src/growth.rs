//! How costs grow with a campaign's size.
//!
//! Between the two largest sizes, as the exponent `e` of a power of the size: a cost that is
//! linear in it has 1, one that does not depend on it 0, and more than 1 is more than linear.

use serde_json::{Map, Value, json};

use crate::trial::round;

/// Costs of a campaign that runs.
const RUNNING: [&[&str]; 7] = [
    &["plan_seconds"],
    &["run_seconds"],
    &["orchestrator", "cpu_seconds"],
    &["projector", "cpu_seconds"],
    &["nats_server", "cpu_seconds"],
    &["orchestrator", "memory_mb_max"],
    &["nats_server", "memory_mb_max"],
];
/// Costs of a campaign that waits.
const PLANNED: [&[&str]; 5] = [
    &["projected_seconds"],
    &["orchestrator_replay_seconds"],
    &["orchestrator_mb"],
    &["projector_mb"],
    &["nats_server_mb"],
];

/// The exponents of the last two of these campaigns, by the cost's name.
pub fn exponents(campaigns: &[Value], planned: &[Value]) -> Value {
    let mut exponents = Map::new();
    for (name, runs, costs) in
        [("run", campaigns, RUNNING.as_slice()), ("planned", planned, PLANNED.as_slice())]
    {
        let [.., smaller, larger] = runs else { continue };
        for path in costs {
            if let Some(exponent) = exponent(smaller, larger, path) {
                let name = format!("{name}.{}", path.join("."));
                exponents.insert(name, json!(round(exponent)));
            }
        }
    }
    Value::Object(exponents)
}

/// None where one of them does not say, or cost nothing.
fn exponent(smaller: &Value, larger: &Value, path: &[&str]) -> Option<f64> {
    let grown = |path: &[&str]| {
        let cost = |run| path.iter().try_fold(run, |value: &Value, key| value.get(key));
        let ratio = cost(larger)?.as_f64()? / cost(smaller)?.as_f64()?;
        Some(ratio.ln()).filter(|ratio| ratio.is_finite())
    };
    Some(grown(path)? / grown(&["migrations"])?).filter(|exponent| exponent.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_that_is_linear_in_the_size_has_exponent_one() {
        let run = |migrations: u64, seconds: f64, memory: f64| {
            json!({
                "migrations": migrations,
                "run_seconds": seconds,
                "orchestrator": { "memory_mb_max": memory },
            })
        };
        let runs = [run(7, 0.0, 0.0), run(1_000, 2.0, 50.0), run(10_000, 20.0, 50.0)];
        let wanted = json!({ "run.run_seconds": 1.0, "run.orchestrator.memory_mb_max": 0.0 });
        assert_eq!(exponents(&runs, &[]), wanted);
    }
}
