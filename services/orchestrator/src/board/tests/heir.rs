//! What an orchestrator knows that takes over, from the log alone.

use super::*;

/// A log, read by an orchestrator that was there and by one that takes over.
struct Heir {
    there: Log,
    facts: Vec<(Key, u64, i64, Event)>,
}

impl Heir {
    fn new(limits: v1::Limits) -> Self {
        let mut there = Log::new(1000, 100);
        there.campaign(limited(limits));
        Self { there, facts: Vec::new() }
    }

    /// One that goes all the way in so many milliseconds a step, or fails to be imported.
    fn one(&mut self, n: u32, at_unix_ms: i64, step_ms: i64, fails: bool) {
        let key = self.there.plan(n);
        let mut happen = |steps: i64, event: Event| {
            let at_unix_ms = at_unix_ms + steps * step_ms;
            self.there.sequence += 1;
            let sequence = self.there.sequence;
            self.there.board.take_migration(&key, sequence, at_unix_ms, event.clone()).unwrap();
            self.facts.push((key.clone(), sequence, at_unix_ms, event));
        };
        happen(0, Event::MigrationAdmitted(v1::MigrationAdmitted { run: 1, rehearsal: false }));
        happen(1, Event::SourceFrozen(v1::SourceFrozen::default()));
        happen(2, Event::DumpStored(v1::DumpStored::default()));
        if fails {
            let step = Step::Import.into();
            let signature = "DRV-0402 refused".to_owned();
            let host = "b".to_owned();
            let failed = v1::StepFailed { step, attempt: 1, signature, host, ..Default::default() };
            return happen(3, Event::StepFailed(failed));
        }
        happen(3, Event::ImportCompleted(v1::ImportCompleted::default()));
        happen(4, Event::CopyVerified(v1::CopyVerified::default()));
        happen(5, Event::SourceDisarmed(v1::SourceDisarmed::default()));
        happen(6, Event::DestinationOpened(v1::DestinationOpened::default()));
        happen(7, Event::DnsSwitched(v1::DnsSwitched::default()));
    }

    /// One that takes over reads all of it.
    fn takes_over(&self, limits: v1::Limits, now_unix_ms: i64) -> Log {
        let mut heir = Log::new(1000, 100);
        let name = heir.campaign.clone();
        heir.board.herds.get_mut(&name).unwrap().live = false;
        heir.board.tell_time(now_unix_ms);
        heir.campaign(limited(limits));
        let planned =
            self.facts.iter().filter(|(.., event)| matches!(event, Event::MigrationAdmitted(_)));
        for n in 0..planned.count() {
            heir.plan(n as u32);
        }
        for (key, sequence, at_unix_ms, event) in &self.facts {
            let sequence = heir.sequence.max(*sequence) + 1;
            heir.sequence = sequence;
            heir.board.take_migration(key, sequence, *at_unix_ms, event.clone()).unwrap();
        }
        heir.board.go_live(&name);
        heir
    }
}

#[test]
fn who_takes_over_knows_what_has_failed_of_late() {
    let mut night = Heir::new(v1::Limits::default());
    for n in 0..60 {
        night.one(n, i64::from(n) * 1_000, 10, n % 5 != 0);
    }
    let name = night.there.campaign.clone();
    let there = night.there.board.judge(&name);
    assert!(
        matches!(&there, Some(Verdict::Pause { reason }) if reason.contains("DRV-0402 refused"))
    );
    let heir = night.takes_over(v1::Limits::default(), 61_000);
    assert_eq!(heir.board.judge(&name), there);
    let waiting = heir.board.admission.waiting(&name);
    assert_eq!(
        waiting.iter().map(|waiting| waiting.count).sum::<u64>(),
        0,
        "all have left the line"
    );
    // What was long ago is not looked at.
    let late = night.takes_over(v1::Limits::default(), 61_000 + 2 * SEEN_MS);
    assert_eq!(late.board.judge(&name), None);
}

#[test]
fn who_takes_over_knows_the_latency_without_a_queue() {
    let auto = || v1::Limits { in_flight_floor: 10, in_flight_ceiling: 200, ..Default::default() };
    let mut night = Heir::new(auto());
    for n in 0..600 {
        night.one(n, i64::from(n) * 200, 100, false);
    }
    // From here on everything takes three times as long: a queue, for whoever knows what came before.
    let lower = |log: &mut Log, from: u32| {
        let mut last = None;
        for n in from..from + 400 {
            let at_unix_ms = 120_000 + i64::from(n - from) * 200;
            let mut slow =
                Heir { there: std::mem::replace(log, Log::new(1, 1)), facts: Vec::new() };
            slow.one(n, at_unix_ms, 300, false);
            *log = slow.there;
            let moved = log.board.retune(at_unix_ms).pop();
            last = last.or(moved.map(|(_, _, change)| change));
        }
        last
    };
    let mut heir = night.takes_over(auto(), 120_000);
    let moved = lower(&mut heir, 1_000).expect("the queue is seen");
    assert!(moved.in_flight_max < 100 && moved.reason.contains("fewer"), "{moved:?}");
    let mut ignorant = Log::new(1000, 100);
    ignorant.campaign(limited(auto()));
    let moved = lower(&mut ignorant, 1_000);
    assert!(moved.is_none_or(|moved| moved.in_flight_max >= 100), "it cannot know");
}
