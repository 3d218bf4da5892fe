//! Hosts that say what they are under.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    per_source_max: 0,
    per_destination_max: 0,
    per_wave_max: 0,
    dns_per_second_max: 0,
    notices_per_second_max: 0,
    waves_at_once: false,
    canary_wave: String::new(),
    in_flight_floor: 0,
    in_flight_ceiling: 0,
    windows: Vec::new(),
    dates_left_out: Vec::new(),
    wave_failures_max: 0,
    source_failures_max: 0,
    destination_failures_max: 0,
    threads_running_max: 20,
    flush_backlog_percent_max: 80,
    replica_lag_seconds_max: 10,
    disk_free_percent_min: 5,
};

fn host() -> ServerName {
    "dst-1".parse().unwrap()
}

fn threads(threads_running: u32) -> HostLoad {
    HostLoad { threads_running, ..HostLoad::default() }
}

/// A host that says something every four seconds, and has as many in flight as it has slots.
struct One {
    slots: Watched,
    now_unix_ms: i64,
    own: u32,
    slots_max: u32,
    in_flight: u32,
}

impl One {
    fn new(own: u32) -> Self {
        let slots = Watched::default();
        Self { slots, now_unix_ms: 1_000_000, own, slots_max: 0, in_flight: own }
    }

    fn says(&mut self, load: &HostLoad) -> Option<HostSlots> {
        self.now_unix_ms += 4_000;
        self.slots.take(self.now_unix_ms, &host(), true, load, &LIMITS);
        let Self { own, slots_max, in_flight, .. } = *self;
        let standing = |_: &ServerName| Standing { own, slots_max, in_flight };
        let held = (slots_max > 0).then(host);
        let change = self.slots.decide(self.now_unix_ms, &LIMITS, &held, standing).pop();
        if let Some(change) = &change {
            self.slots_max = change.slots_max;
        }
        change
    }

    /// What changes until something does, within so many words; what is in flight comes down at once.
    fn hears(&mut self, load: &HostLoad, words: usize) -> Option<(u32, String)> {
        for _ in 0..words {
            if let Some(change) = self.says(load) {
                self.in_flight = if self.slots_max == 0 { self.own } else { self.slots_max };
                return Some((change.slots_max, change.reason));
            }
        }
        None
    }
}

#[test]
fn past_a_bound_a_host_gets_fewer_and_gets_them_back_one_by_one() {
    let mut host = One::new(8);
    assert_eq!(host.hears(&threads(20), 20), None, "at the bound nothing changes");
    let (slots, reason) = host.hears(&threads(25), 4).unwrap();
    assert_eq!((slots, reason.as_str()), (6, "25 threads run, at most 20"));
    assert_eq!(host.hears(&threads(400), 8).unwrap().0, 3, "not below half at once");
    assert_eq!(host.hears(&threads(400), 8).unwrap().0, 1);
    assert_eq!(host.hears(&threads(400), 20), None, "one always remains");
    assert_eq!(host.hears(&threads(18), 20), None, "near a bound nothing changes");
    for slots in [2, 3, 4, 5, 6, 7, 0] {
        assert_eq!(host.hears(&threads(4), 4).unwrap().0, slots);
    }
    assert_eq!(host.hears(&threads(4), 20), None);
}

#[test]
fn a_moment_is_no_reason() {
    let mut host = One::new(8);
    for n in 0..60 {
        assert_eq!(host.says(&threads(if n % 3 == 0 { 300 } else { 5 })), None);
    }
}

#[test]
fn it_goes_down_again_only_when_as_few_are_in_flight_as_are_allowed_and_up_before_that() {
    let mut host = One::new(8);
    assert_eq!(host.hears(&threads(40), 4).unwrap().0, 4);
    host.in_flight = 7;
    for _ in 0..20 {
        assert_eq!(host.says(&threads(40)), None, "what is in flight is still ending");
    }
    host.in_flight = 4;
    assert_eq!(host.hears(&threads(40), 8).unwrap().0, 2);
    host.in_flight = 3;
    assert_eq!(host.hears(&threads(1), 4).unwrap().0, 3, "what is still there does no harm");
}

#[test]
fn slots_that_nobody_uses_are_not_what_it_goes_down_from_and_do_not_grow() {
    let mut host = One::new(8);
    host.in_flight = 2;
    assert_eq!(host.hears(&threads(21), 4).unwrap().0, 1);
    host.in_flight = 0;
    assert_eq!(host.hears(&threads(1), 20), None);
}

#[test]
fn each_signal_counts_and_the_nearest_bound_is_named() {
    let calm = threads(3);
    for (load, word) in [
        (HostLoad { flush_backlog_percent: Some(90), ..calm.clone() }, "90 % of the redo log"),
        (HostLoad { replica_lag_seconds: Some(60), ..calm.clone() }, "60 s that a replica"),
        (HostLoad { silent_replica: "10.0.0.9:3306".into(), ..calm.clone() }, "10.0.0.9:3306"),
    ] {
        let (slots, reason) = One::new(8).hears(&load, 4).unwrap();
        assert!(slots < 8 && reason.contains(word), "{slots} {reason}");
    }
}

#[test]
fn what_was_heard_while_nobody_decided_is_forgotten() {
    let mut slots = Watched::default();
    for n in 0..10_000 {
        slots.take(n * 100, &host(), true, &threads(400), &LIMITS);
    }
    assert!(slots.windows[&host()].heard.len() <= HEARD_MAX);
    let calm_since = 10_000 * 100 + HEARD_MS;
    for n in 0..4 {
        slots.take(calm_since + n * 3_000, &host(), true, &threads(1), &LIMITS);
    }
    let standing = |_: &ServerName| Standing { own: 8, slots_max: 0, in_flight: 8 };
    assert!(slots.decide(calm_since + WINDOW_MS, &LIMITS, &None, standing).is_empty());
}

#[test]
fn without_bounds_nothing_is_held_down() {
    let mut slots = Watched::default();
    let standing = |_: &ServerName| Standing { own: 8, slots_max: 2, in_flight: 2 };
    let none = Limits { threads_running_max: 0, flush_backlog_percent_max: 0, ..LIMITS };
    let none = Limits { replica_lag_seconds_max: 0, ..none };
    slots.take(0, &host(), true, &threads(500), &none);
    let changes = slots.decide(0, &none, &Some(host()), standing);
    assert_eq!(changes.iter().map(|change| change.slots_max).collect::<Vec<_>>(), [0]);
    assert!(slots.decide(60_000, &none, &None, standing).is_empty());
}

#[test]
fn a_destination_without_room_is_set_aside_and_again_after_a_release_in_vain() {
    let mut slots = Watched::default();
    let full = HostLoad { disk_free_percent: Some(4), ..HostLoad::default() };
    let nobody = BTreeSet::new();
    slots.take(0, &host(), false, &full, &LIMITS);
    assert_eq!(slots.judge(&nobody), None, "at a source nothing grows");
    slots.take(0, &host(), true, &full, &LIMITS);
    let Some(Verdict::Quarantine { host: named, reason }) = slots.judge(&nobody) else {
        panic!("it is to be set aside")
    };
    assert_eq!((named, reason.contains("4 % of its disk")), (host(), true));
    assert_eq!(slots.judge(&[host()].into()), None, "it is set aside already");
    slots.release("dst-1");
    assert_eq!(slots.judge(&nobody), None, "what was heard before does not count");
    slots.take(0, &host(), true, &full, &LIMITS);
    assert!(slots.judge(&nobody).is_some());
    slots.take(0, &host(), true, &HostLoad { disk_free_percent: Some(5), ..full }, &LIMITS);
    assert_eq!(slots.judge(&nobody), None, "there is room again");
}

proptest! {
    #[test]
    fn whatever_a_host_says_it_keeps_one_slot_and_never_has_more_than_its_own(
        own in 1..40_u32,
        words in prop::collection::vec((0..60_u32, prop::option::of(0..200_u32), 0..50_u32), 1..200),
    ) {
        let mut host = One::new(own);
        for (threads_running, replica_lag_seconds, in_flight) in words {
            let load = HostLoad { threads_running, replica_lag_seconds, ..HostLoad::default() };
            let before = host.slots_max;
            host.in_flight = in_flight.min(own);
            if let Some(change) = host.says(&load) {
                prop_assert_ne!(change.slots_max, before, "a change changes something");
                prop_assert!(change.slots_max < own);
                let gets_all = change.slots_max == 0;
                prop_assert!(!gets_all || before + 1 >= own, "all of {own} after {before}");
            }
        }
    }

    /// Whatever a host's slots, its neighbours, and what a migration takes: it comes to just below its bound.
    #[test]
    fn a_host_is_held_near_its_bound(own in 2..64_u32, each in 1..4_u32, neighbours in 0..12_u32) {
        let mut host = One::new(own);
        for _ in 0..400 {
            let load = threads(neighbours + host.in_flight * each);
            host.says(&load);
            host.in_flight = if host.slots_max == 0 { own } else { host.slots_max };
        }
        let runs = neighbours + host.in_flight * each;
        prop_assert!(runs <= 20 || host.in_flight == 1, "{runs} run with {}", host.in_flight);
        prop_assert!(runs * 10 >= 20 * 9 || host.in_flight == own, "{runs} run");
    }
}
