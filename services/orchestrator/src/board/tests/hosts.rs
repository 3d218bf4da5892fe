//! Hosts that say what they are under.

use drover_lifecycle::{breaker::Verdict, host_slots::WINDOW_MS};

use super::*;

fn bounded(log: &mut Log) {
    let limits =
        v1::Limits { threads_running_max: 10, disk_free_percent_min: 5, ..v1::Limits::default() };
    let (limits, reason, by) = (Some(limits), String::new(), "me".to_owned());
    log.campaign(campaign_event::Event::LimitsChanged(v1::LimitsChanged { limits, reason, by }));
}

/// A host says this for a whole window; what its slots become of it.
fn says(log: &mut Log, from_ms: i64, load: &HostLoad) -> (i64, Vec<HostSlots>) {
    let host: ServerName = "a".parse().unwrap();
    let mut now = from_ms;
    for _ in 0..5 {
        now += WINDOW_MS / 4;
        log.board.hear(&host, load, now);
        let moved = log.board.retune_hosts(now, |_| true);
        if let Some((_, campaign, hosts)) = moved.into_iter().next() {
            let event = campaign.decide(campaign::Command::TuneHosts(hosts.clone())).unwrap();
            log.campaign(event.unwrap());
            return (now, hosts);
        }
    }
    (now, Vec::new())
}

#[test]
fn a_host_past_its_bound_admits_fewer_and_more_again_below_it() {
    let mut log = Log::new(2, 10);
    let keys: Vec<Key> = (1..=6).map(|n| log.plan(n)).collect();
    bounded(&mut log);
    assert_eq!(
        [log.admit(), log.admit(), log.admit()],
        [Some(keys[0].clone()), Some(keys[1].clone()), None]
    );
    let busy = HostLoad { threads_running: 40, ..HostLoad::default() };
    let (now, hosts) = says(&mut log, 0, &busy);
    assert_eq!((hosts[0].host.as_str(), hosts[0].slots_max), ("a", 1), "{hosts:?}");
    let through = |log: &mut Log, key: &Key| {
        for event in opened() {
            log.migration(key, event);
        }
        log.migration(key, Event::DnsSwitched(v1::DnsSwitched::default()));
    };
    through(&mut log, &keys[0]);
    assert_eq!(log.admit(), None, "the other one is the one that may be there");
    through(&mut log, &keys[1]);
    assert_eq!([log.admit(), log.admit()], [Some(keys[2].clone()), None]);
    let calm = HostLoad { threads_running: 1, ..HostLoad::default() };
    let (_, hosts) = says(&mut log, now, &calm);
    assert_eq!(hosts[0].slots_max, 0, "{hosts:?}");
    assert_eq!(log.admit(), Some(keys[3].clone()));
}

#[test]
fn a_destination_without_room_is_to_be_set_aside() {
    let mut log = Log::new(2, 10);
    log.plan(1);
    bounded(&mut log);
    let host: ServerName = "b".parse().unwrap();
    let name = log.campaign.clone();
    let full = HostLoad { disk_free_percent: Some(1), ..HostLoad::default() };
    assert_eq!(log.board.hear(&host, &full, 0), std::slice::from_ref(&name));
    let Some(Verdict::Quarantine { host: named, reason }) = log.board.judge(&name) else {
        panic!("it is to be set aside")
    };
    assert_eq!(named, host);
    let (host, by) = (host.to_string(), "me".to_owned());
    let set = v1::HostQuarantined { host: host.clone(), reason };
    log.campaign(campaign_event::Event::HostQuarantined(set));
    assert!(log.board.judge(&name).is_none());
    assert_eq!(log.admit(), None);
    log.campaign(campaign_event::Event::HostReleased(v1::HostReleased { host, by }));
    assert!(log.board.judge(&name).is_none(), "what it said before does not count");
    assert!(log.admit().is_some());
}
