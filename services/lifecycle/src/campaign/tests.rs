use super::*;

fn campaign() -> Campaign {
    let event = Event::CampaignCreated(CampaignCreated { policy: Some(Policy::default()) });
    Campaign::begin(Fact { revision: 1, event }).unwrap()
}

fn apply(campaign: &mut Campaign, command: Command) -> bool {
    match campaign.decide(command).unwrap() {
        Some(event) => {
            let fact = Fact { revision: campaign.revision + 1, event };
            campaign.evolve(fact).unwrap();
            true
        }
        None => false,
    }
}

fn start(in_flight_max: u32) -> Command {
    Command::Start { in_flight_max, by: "me".into() }
}

fn pause() -> Command {
    Command::Pause { reason: "night is over".into(), by: "me".into(), recalls: false }
}

fn resume() -> Command {
    Command::Resume { by: "me".into() }
}

#[test]
fn the_red_button_and_back() {
    let mut campaign = campaign();
    assert!(apply(&mut campaign, start(400)));
    assert!(apply(&mut campaign, pause()));
    assert_eq!(campaign.phase, Phase::Paused);
    assert!(!apply(&mut campaign, pause()), "pressed twice, recorded once");
    assert!(campaign.decide(start(400)).is_err(), "a pause is ended by resume only");
    assert!(apply(&mut campaign, resume()));
    assert!(!apply(&mut campaign, resume()));
    assert_eq!((campaign.phase, campaign.in_flight_max), (Phase::Running, 400));
}

#[test]
fn a_pause_can_be_sharpened_until_it_is_ended() {
    let mut campaign = campaign();
    apply(&mut campaign, start(400));
    apply(&mut campaign, pause());
    assert_eq!(campaign.recall, None);
    let now = Command::Pause { reason: "stop".into(), by: "me".into(), recalls: true };
    assert!(apply(&mut campaign, now.clone()));
    assert!(campaign.recall.is_some());
    assert!(!apply(&mut campaign, now), "pressed twice, recorded once");
    assert!(!apply(&mut campaign, pause()), "it is not blunted again");
    apply(&mut campaign, resume());
    assert_eq!((campaign.phase, campaign.recall), (Phase::Running, None));
}

#[test]
fn paused_before_its_start_it_still_waits_for_its_start() {
    let mut campaign = campaign();
    apply(&mut campaign, pause());
    apply(&mut campaign, resume());
    assert_eq!(campaign.phase, Phase::Created);
}

#[test]
fn starting_again_changes_the_limit_only() {
    let mut campaign = campaign();
    apply(&mut campaign, start(400));
    assert!(!apply(&mut campaign, start(400)));
    assert!(apply(&mut campaign, start(250)));
    assert_eq!((campaign.phase, campaign.in_flight_max), (Phase::Running, 250));
}

#[test]
fn a_limit_and_the_hosts_set_aside_change_while_it_runs_or_is_paused() {
    let mut campaign = campaign();
    let tune =
        |in_flight_max| Command::Tune { in_flight_max, reason: "busy".into(), by: "me".into() };
    assert!(campaign.decide(tune(5)).is_err(), "it has no limit before its start");
    apply(&mut campaign, start(400));
    assert!(apply(&mut campaign, tune(250)));
    assert!(!apply(&mut campaign, tune(250)));
    apply(&mut campaign, pause());
    assert!(apply(&mut campaign, tune(100)));
    assert_eq!((campaign.phase, campaign.in_flight_max), (Phase::Paused, 100));
    let host: ServerName = "src-1".parse().unwrap();
    let quarantine = Command::Quarantine { host: host.clone(), reason: "dead".into() };
    assert!(apply(&mut campaign, quarantine.clone()));
    assert!(!apply(&mut campaign, quarantine));
    assert!(campaign.quarantined.contains(&host));
    let release = Command::Release { host, by: "me".into() };
    assert!(apply(&mut campaign, release.clone()));
    assert!(!apply(&mut campaign, release));
    assert!(campaign.quarantined.is_empty());
}

#[test]
fn what_is_adjusted_changes_and_the_rest_stays() {
    let mut campaign = campaign();
    let limit = |adjust| Command::Limit { adjust, reason: "busy".into(), by: "me".into() };
    let sources = Adjust { per_source_max: Some(2), ..Adjust::default() };
    assert!(apply(&mut campaign, limit(sources.clone())), "also before its start");
    assert!(!apply(&mut campaign, limit(sources)));
    let canary = Adjust { canary_wave: Some("w0".into()), ..Adjust::default() };
    assert!(apply(&mut campaign, limit(canary)));
    let Limits { per_source_max, canary_wave, .. } = &campaign.limits;
    assert_eq!((*per_source_max, canary_wave.as_str()), (2, "w0"));
    assert!(apply(&mut campaign, limit(Adjust { per_source_max: Some(0), ..Adjust::default() })));
    assert_eq!(campaign.limits.per_source_max, 0);
}

#[test]
fn a_known_fact_changes_nothing() {
    let mut campaign = campaign();
    apply(&mut campaign, start(400));
    let before = campaign.clone();
    let event = campaign.decide(pause()).unwrap().unwrap();
    campaign.evolve(Fact { revision: 1, event }).unwrap();
    assert_eq!(campaign, before);
}

#[test]
fn hosts_are_held_down_and_let_go_and_what_is_so_already_is_no_event() {
    let slots = |host: &str, slots_max| HostSlots {
        host: host.into(),
        slots_max,
        reason: "40 threads run, at most 25".into(),
    };
    let mut campaign = campaign();
    apply(&mut campaign, start(400));
    let held = |campaign: &Campaign| -> Vec<(String, u32)> {
        campaign.host_slots.iter().map(|(host, slots)| (host.to_string(), *slots)).collect()
    };
    assert!(apply(&mut campaign, Command::TuneHosts(vec![slots("a", 3), slots("b", 1)])));
    assert_eq!(held(&campaign), [("a".into(), 3), ("b".into(), 1)]);
    let again = Command::TuneHosts(vec![slots("a", 3), slots("b", 0), slots("c", 0)]);
    let Some(Event::HostSlotsChanged(changed)) = campaign.decide(again.clone()).unwrap() else {
        panic!("one of them changes")
    };
    assert_eq!(changed.hosts, [slots("b", 0)]);
    assert!(apply(&mut campaign, again.clone()));
    assert_eq!(held(&campaign), [("a".into(), 3)]);
    assert!(!apply(&mut campaign, again));
}

#[test]
fn servers_are_bounded_when_the_slots_begin_to_move_by_themselves_unless_somebody_said_otherwise() {
    use crate::{concurrency::Range, host_slots::BOUNDS};
    let mut campaign = campaign();
    let auto = || Some(Some(Range { floor: 20, ceiling: 800 }));
    let limit = |campaign: &mut Campaign, adjust: Adjust| {
        apply(campaign, Command::Limit { adjust, reason: String::new(), by: "me".into() });
        let Limits { threads_running_max, replica_lag_seconds_max, .. } = campaign.limits;
        (threads_running_max, replica_lag_seconds_max)
    };
    let usual = (BOUNDS.threads_running_max, BOUNDS.replica_lag_seconds_max);
    assert_eq!(limit(&mut campaign, Adjust::default()), (0, 0));
    let threads = Adjust { auto: auto(), threads_running_max: Some(60), ..Adjust::default() };
    assert_eq!(limit(&mut campaign, threads), (60, usual.1));
    let none = Adjust { replica_lag_seconds_max: Some(0), ..Adjust::default() };
    assert_eq!(limit(&mut campaign, none), (60, 0));
    let again = Adjust { auto: auto(), ..Adjust::default() };
    assert_eq!(limit(&mut campaign, again), (60, 0), "it moves by itself already");
}
