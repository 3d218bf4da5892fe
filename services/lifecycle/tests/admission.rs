//! Who goes next, and that nobody is forgotten.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::collections::{BTreeSet, HashMap, VecDeque};

use drover_lifecycle::{
    admission::{Admission, Limit, Route, Slots},
    wave::Wave,
};
use drover_schemas::{CampaignName, MigrationId, ServerName};
use proptest::prelude::*;

fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

fn route(source: &str, destination: &str) -> Route {
    ranked(source, destination, "", 0)
}

fn ranked(source: &str, destination: &str, wave: &str, priority: i32) -> Route {
    let (source, destination) = (name(source), name(destination));
    Route { source, destination, wave: Wave::new(wave), priority, bytes: 0 }
}

fn campaign() -> CampaignName {
    "night".parse().unwrap()
}

fn id(n: u32) -> MigrationId {
    MigrationId::new(&campaign(), &name("s"), &n.to_string())
}

fn limit(in_flight_max: u32) -> Limit {
    Limit { admitting: true, in_flight_max, ..Limit::default() }
}

fn admission(hosts: &[&str], slots: u32, in_flight_max: u32) -> Admission {
    let slots = Slots { as_source: slots, as_destination: slots };
    let mut admission = Admission::new(hosts.iter().map(|host| (name(host), slots)).collect());
    admission.limit(&campaign(), limit(in_flight_max));
    admission
}

fn admit(admission: &mut Admission) -> Option<MigrationId> {
    admission.admit(0).map(|(_, id, _)| id)
}

#[test]
fn sources_take_turns() {
    let mut admission = admission(&["a", "b", "d"], 100, 100);
    for n in 0..10 {
        admission.enqueue(&campaign(), id(n), &route("a", "d"));
    }
    admission.enqueue(&campaign(), id(10), &route("b", "d"));
    assert_eq!([admit(&mut admission), admit(&mut admission)], [Some(id(0)), Some(id(10))]);
}

#[test]
fn a_full_destination_does_not_hold_up_the_line() {
    let mut admission = admission(&["a", "d", "e"], 2, 100);
    for n in 0..3 {
        admission.enqueue(&campaign(), id(n), &route("a", "d"));
    }
    admission.take(&campaign(), &route("x", "d"));
    admission.take(&campaign(), &route("x", "d"));
    admission.enqueue(&campaign(), id(3), &route("a", "e"));
    assert_eq!(admit(&mut admission), Some(id(3)));
    assert_eq!(admit(&mut admission), None);
}

#[test]
fn a_destination_that_is_set_aside_holds_up_nobody_however_many_wait_for_it() {
    let mut admission = admission(&["a", "d", "e"], 100, 1_000);
    for n in 0..50 {
        admission.enqueue(&campaign(), id(n), &route("a", "d"));
    }
    admission.enqueue(&campaign(), id(50), &route("a", "e"));
    let aside = Limit { quarantined: BTreeSet::from([name("d")]), ..limit(1_000) };
    admission.limit(&campaign(), aside);
    assert_eq!([admit(&mut admission), admit(&mut admission)], [Some(id(50)), None]);
    admission.limit(&campaign(), limit(1_000));
    let rest: BTreeSet<MigrationId> = std::iter::from_fn(|| admit(&mut admission)).collect();
    assert_eq!(rest.len(), 50, "all of them once it is back");
}

#[test]
fn nothing_is_admitted_while_paused_or_to_a_quarantined_host() {
    let mut admission = admission(&["a", "d"], 2, 100);
    admission.enqueue(&campaign(), id(1), &route("a", "d"));
    admission.limit(&campaign(), Limit { admitting: false, ..limit(100) });
    assert_eq!(admit(&mut admission), None);
    let aside = Limit { quarantined: BTreeSet::from([name("d")]), ..limit(100) };
    admission.limit(&campaign(), aside);
    assert_eq!(admit(&mut admission), None);
    admission.limit(&campaign(), limit(100));
    assert_eq!(admit(&mut admission), Some(id(1)));
}

#[test]
fn waves_go_in_order_and_higher_priorities_first() {
    let mut admission = admission(&["a", "b", "d"], 1, 100);
    admission.enqueue(&campaign(), id(1), &ranked("a", "d", "w10", 9));
    admission.enqueue(&campaign(), id(2), &ranked("a", "d", "w9", 0));
    admission.enqueue(&campaign(), id(3), &ranked("a", "d", "w9", 5));
    admission.enqueue(&campaign(), id(4), &ranked("b", "d", "w9", 0));
    let mut next = || {
        let (campaign, id, route) = admission.admit(0)?;
        assert_eq!(admission.admit(0), None, "one slot at the destination");
        admission.release(&campaign, &route);
        Some(id)
    };
    assert_eq!(next(), Some(id(3)));
    let both = BTreeSet::from([next(), next()]);
    assert_eq!(both, BTreeSet::from([Some(id(2)), Some(id(4))]));
    assert_eq!([next(), next()], [Some(id(1)), None]);
}

#[test]
fn a_wave_begins_when_those_before_it_wait_for_no_slot() {
    let mut admission = admission(&["a", "b", "d"], 9, 100);
    admission.limit(&campaign(), Limit { per_source_max: 1, ..limit(100) });
    admission.enqueue(&campaign(), id(1), &ranked("a", "d", "w1", 0));
    admission.enqueue(&campaign(), id(2), &ranked("a", "d", "w1", 0));
    admission.enqueue(&campaign(), id(3), &ranked("b", "d", "w2", 0));
    assert_eq!([admit(&mut admission), admit(&mut admission)], [Some(id(1)), None]);
    let at_once = Limit { per_source_max: 1, waves_at_once: true, ..limit(100) };
    admission.limit(&campaign(), at_once);
    assert_eq!(admit(&mut admission), Some(id(3)), "unless waves do not wait for each other");
    admission.enqueue(&campaign(), id(4), &ranked("b", "d", "w2", 0));
    let aside = Limit { quarantined: BTreeSet::from([name("a")]), ..limit(100) };
    admission.limit(&campaign(), aside);
    assert_eq!(admit(&mut admission), Some(id(4)), "a host that was set aside holds up no wave");
}

#[test]
fn the_canary_goes_alone_and_a_wave_has_its_own_slots() {
    let mut admission = admission(&["a", "d"], 9, 100);
    for n in 0..4 {
        admission.enqueue(&campaign(), id(n), &ranked("a", "d", "w1", 0));
    }
    admission.enqueue(&campaign(), id(9), &ranked("a", "d", "w2", 0));
    let canary = Limit { only_wave: Some(Wave::new("w2")), ..limit(100) };
    admission.limit(&campaign(), canary);
    assert_eq!([admit(&mut admission), admit(&mut admission)], [Some(id(9)), None]);
    admission.limit(&campaign(), Limit { per_wave_max: 2, ..limit(100) });
    assert_eq!(std::iter::from_fn(|| admit(&mut admission)).count(), 2);
}

#[test]
fn no_more_are_admitted_in_a_second_than_may_be_switched() {
    let mut admission = admission(&["a", "d"], 100, 100);
    for n in 0..20 {
        admission.enqueue(&campaign(), id(n), &route("a", "d"));
    }
    admission.limit(&campaign(), Limit { per_second_max: 4, ..limit(100) });
    let mut count = 0;
    for now in (0..2_000).step_by(10) {
        while admission.admit(now).is_some() {
            count += 1;
        }
        assert!(admission.next_turn(now).is_some_and(|at| at > now));
    }
    assert_eq!(count, 8);
}

/// One source has most, some have few: by when each of the few is through, in admissions.
#[test]
fn one_source_with_fifty_thousand_starves_no_other() {
    let sources: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
    let hosts: Vec<&str> = sources.iter().map(String::as_str).chain(["d"]).collect();
    let slots =
        |host: &&str| Slots { as_source: 4, as_destination: if *host == "d" { 1_000 } else { 4 } };
    let mut admission =
        Admission::new(hosts.iter().map(|host| (name(host), slots(host))).collect());
    admission.limit(&campaign(), limit(40));
    let mut of = HashMap::new();
    for n in 0..51_980_u32 {
        let source = if n < 50_000 { 0 } else { 1 + (n % 99) as usize };
        of.insert(id(n), source);
        admission.enqueue(&campaign(), id(n), &route(&sources[source], "d"));
    }
    let mut flying = VecDeque::new();
    let (mut few_left, mut admissions, mut of_large) = (1_980, 0, 0);
    while few_left > 0 {
        while let Some((campaign, id, route)) = admission.admit(0) {
            let large = of[&id] == 0;
            (few_left, of_large) = (few_left - i32::from(!large), of_large + i32::from(large));
            admissions += 1;
            flying.push_back((campaign, route));
        }
        let (campaign, route) = flying.pop_front().unwrap();
        admission.release(&campaign, &route);
    }
    // The large one has its four slots of forty all the time, and no more.
    assert!(admissions <= 1_980 * 10 / 9 + 100, "{admissions}");
    assert!(of_large >= 1_980 / 10, "and is not put off to the campaign's tail: {of_large}");
}

proptest! {
    #[test]
    fn no_limit_is_ever_exceeded_and_all_are_admitted_in_the_end(
        routes in prop::collection::vec((0u8..4, 0u8..4, 0u8..3, 0i32..3), 1..60),
        slots in 1u32..4, in_flight_max in 1u32..8, per_wave_max in 0u32..4,
        waves_at_once: bool, order: u64
    ) {
        let hosts = ["s0", "s1", "s2", "s3", "d0", "d1", "d2", "d3"];
        let mut admission = admission(&hosts, slots, in_flight_max);
        admission.limit(&campaign(), Limit { per_wave_max, waves_at_once, ..limit(in_flight_max) });
        let routes: Vec<Route> = routes
            .iter()
            .map(|(s, d, w, p)| ranked(&format!("s{s}"), &format!("d{d}"), &format!("w{w}"), *p))
            .collect();
        let ids: HashMap<MigrationId, usize> =
            (0..routes.len()).map(|n| (id(n as u32), n)).collect();
        for (n, route) in routes.iter().enumerate() {
            admission.enqueue(&campaign(), id(n as u32), route);
        }
        let (mut flying, mut admitted, mut random) = (Vec::new(), 0, order | 1);
        let mut last_wave = Wave::new("");
        while admitted < routes.len() {
            while let Some((_, id, route)) = admission.admit(0) {
                prop_assert_eq!(&route, &routes[ids[&id]]);
                prop_assert!(waves_at_once || route.wave >= last_wave, "waves in order");
                last_wave = route.wave;
                flying.push(ids[&id]);
                admitted += 1;
            }
            prop_assert!(!flying.is_empty(), "stuck");
            prop_assert!(flying.len() <= in_flight_max as usize);
            for host in hosts {
                let touches = |n: &&usize| routes[**n].source.as_str() == host
                    || routes[**n].destination.as_str() == host;
                prop_assert!(flying.iter().filter(touches).count() <= slots as usize);
            }
            for wave in ["w0", "w1", "w2"] {
                let count = flying.iter().filter(|n| routes[**n].wave.as_str() == wave).count();
                prop_assert!(per_wave_max == 0 || count <= per_wave_max as usize);
            }
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            let landed = flying.swap_remove((random >> 33) as usize % flying.len());
            admission.release(&campaign(), &routes[landed]);
        }
    }

    #[test]
    fn who_reads_of_admissions_has_the_same_lines_as_who_admits(
        routes in prop::collection::vec((0u8..4, 0u8..4, 0u8..3, 0i32..3), 1..60),
        slots in 1u32..4, in_flight_max in 1u32..8
    ) {
        let hosts = ["s0", "s1", "s2", "s3", "d0", "d1", "d2", "d3"];
        let [mut active, mut heir] = [(); 2].map(|()| admission(&hosts, slots, in_flight_max));
        for (n, (s, d, w, p)) in routes.iter().enumerate() {
            let route = ranked(&format!("s{s}"), &format!("d{d}"), &format!("w{w}"), *p);
            active.enqueue(&campaign(), id(n as u32), &route);
            heir.enqueue(&campaign(), id(n as u32), &route);
        }
        let (mut flying, mut begun) = (VecDeque::new(), BTreeSet::new());
        while begun.len() < routes.len() / 2 {
            let Some((_, id, route)) = active.admit(0) else {
                let landed: Route = flying.pop_front().unwrap();
                active.release(&campaign(), &landed);
                heir.release(&campaign(), &landed);
                continue;
            };
            heir.leave(&campaign(), id, &route);
            heir.take(&campaign(), &route);
            begun.insert(id);
            flying.push_back(route);
            prop_assert_eq!(active.waiting(&campaign()), heir.waiting(&campaign()));
        }
        // It takes over: what has not begun begins, once.
        while begun.len() < routes.len() {
            match heir.admit(0) {
                Some((_, id, route)) => {
                    prop_assert!(begun.insert(id));
                    flying.push_back(route);
                }
                None => heir.release(&campaign(), &flying.pop_front().unwrap()),
            }
        }
    }
}

#[test]
fn a_host_that_is_held_down_has_as_many_as_it_is_held_to_and_others_go_on() {
    let mut admission = admission(&["a", "b", "d", "e"], 3, 100);
    for n in 0..8 {
        let source = if n % 2 == 0 { "a" } else { "b" };
        admission.enqueue(&campaign(), id(n), &route(source, if n < 4 { "d" } else { "e" }));
    }
    let held = Limit { host_slots: [(name("a"), 1), (name("e"), 2)].into(), ..limit(100) };
    admission.limit(&campaign(), held.clone());
    let mut admitted = Vec::new();
    while let Some((_, _, route)) = admission.admit(0) {
        admitted.push((route.source, route.destination));
    }
    let of = |host: &str| {
        admitted.iter().filter(|(from, to)| [from.as_str(), to.as_str()].contains(&host)).count()
    };
    assert_eq!((of("a"), of("b"), admission.in_flight_at(&name("a"))), (1, 3, 1));
    assert!(of("e") <= 2, "{admitted:?}");
    let slots: Vec<u32> = admission.waiting(&campaign()).iter().map(|it| it.slots).collect();
    assert_eq!(slots, [1, 3], "a forecast knows");
    // The campaign's own limit counts as well, and the lower of the two.
    admission.limit(&campaign(), Limit { per_source_max: 2, ..held });
    let slots: Vec<u32> = admission.waiting(&campaign()).iter().map(|it| it.slots).collect();
    assert_eq!(slots, [1, 2]);
    admission.limit(&campaign(), limit(100));
    assert!(admission.admit(0).is_some(), "nothing holds it down any more");
}
