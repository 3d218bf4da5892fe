//! Switch and revert on a real BIND with a signed zone: each done, done again, done at the same
//! time, after a death between update and event, and refused where it must be.

mod support;

use drover_dns::{Error, Mark, State};
use drover_schemas::v1::{DnsChange, Job};
use support::{DESTINATION, SOURCE, add, answer, at, job, job_between, service, shared};

fn change(host: &str, kind: &str, old: &[&str], new: &[&str], ttls: (u32, u32)) -> DnsChange {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    DnsChange {
        host_name: host.to_owned(),
        record_type: kind.to_owned(),
        old_values: own(old),
        new_values: own(new),
        old_ttl_seconds: ttls.0,
        new_ttl_seconds: ttls.1,
    }
}

fn mark(host: &str) -> Option<Mark> {
    answer(&format!("_drover.{host}"), "TXT").iter().find_map(|it| Mark::parse(it.as_bytes()))
}

#[tokio::test]
async fn all_types_are_switched_together_and_put_back_exactly() {
    add(&[
        "c.all.example.test 301 CNAME src.example.net.",
        "a.all.example.test 302 A 192.0.2.1",
        "b.all.example.test 303 A 192.0.2.1",
        "b.all.example.test 304 AAAA 2001:db8::1",
    ]);
    let job = job(&["c.all.example.test", "A.All.Example.Test.", "b.all.example.test"]);
    let done = service().switch(&job).await.unwrap();
    let (v6, d6) = ("2001:db8::1", "2001:db8::d");
    let names = ("src.example.net.", "dst.example.net.");
    assert_eq!(
        done.changes,
        [
            change("c.all.example.test", "CNAME", &[names.0], &[names.1], (301, 30)),
            change("a.all.example.test", "A", &[SOURCE], &[DESTINATION], (302, 30)),
            change("b.all.example.test", "A", &[SOURCE], &[DESTINATION], (303, 30)),
            change("b.all.example.test", "AAAA", &[v6], &[d6], (304, 30)),
        ]
    );
    for server in [&shared().primary, &shared().secondary] {
        assert_eq!(server.answer("c.all", "CNAME").unwrap(), ["dst.example.net."]);
        assert_eq!(server.answer("a.all", "A").unwrap(), [DESTINATION]);
        assert_eq!(server.answer("b.all", "AAAA").unwrap(), ["2001:db8::d"]);
        assert_eq!(server.ttl("a.all", "A").unwrap(), Some(30));
    }

    let undone = service().revert(&at(&job, 20)).await.unwrap();
    assert_eq!(
        undone.changes[1],
        change("a.all.example.test", "A", &[DESTINATION], &[SOURCE], (30, 302))
    );
    for server in [&shared().primary, &shared().secondary] {
        assert_eq!(server.answer("c.all", "CNAME").unwrap(), ["src.example.net."]);
        assert_eq!(server.ttl("c.all", "CNAME").unwrap(), Some(301));
        assert_eq!(server.answer("b.all", "A").unwrap(), [SOURCE]);
        assert_eq!(server.ttl("b.all", "AAAA").unwrap(), Some(304));
    }
    assert_eq!(mark("a.all.example.test").unwrap().state, State::Reverted);
}

#[tokio::test]
async fn sets_of_addresses_are_switched_whole() {
    add(&["m.example.test 300 A 192.0.2.1", "m.example.test 300 A 192.0.2.2"]);
    let job = job_between("src2", "dst4", &["m.example.test"]);
    let done = service().switch(&job).await.unwrap();
    assert_eq!(done.changes[0].old_values, [SOURCE, "192.0.2.2"]);
    assert_eq!(answer("m.example.test", "A"), ["198.51.100.4", "198.51.100.5"]);
    service().revert(&at(&job, 11)).await.unwrap();
    assert_eq!(answer("m.example.test", "A"), [SOURCE, "192.0.2.2"]);
}

#[tokio::test]
async fn a_step_done_again_changes_nothing_and_says_the_same() {
    add(&["twice.example.test 300 A 192.0.2.1"]);
    let job = job(&["twice.example.test"]);
    let first = service().switch(&job).await.unwrap();
    assert_eq!(service().switch(&job).await.unwrap(), first);
    // The service died before its event, and the order came again after a failure was recorded.
    assert_eq!(service().switch(&at(&job, 12)).await.unwrap(), first);
    assert_eq!(mark("twice.example.test").unwrap().revision, 12);

    let undone = service().revert(&at(&job, 15)).await.unwrap();
    assert_eq!(service().revert(&at(&job, 15)).await.unwrap(), undone);
    assert_eq!(service().revert(&at(&job, 16)).await.unwrap(), undone);
    assert_eq!(undone.changes.len(), 1);
}

#[tokio::test]
async fn both_steps_may_run_twice_at_the_same_time() {
    let hosts = ["p1.example.test", "p2.example.test"];
    add(&["p1.example.test 300 A 192.0.2.1", "p2.example.test 300 A 192.0.2.1"]);
    let job = job(&hosts);
    let (a, b) = (service(), service());
    let (first, second) = tokio::join!(a.switch(&job), b.switch(&job));
    assert_eq!(first.unwrap(), second.unwrap());
    let later = at(&job, 20);
    let (first, second) = tokio::join!(a.revert(&later), b.revert(&later));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(answer(hosts[0], "A"), [SOURCE]);
}

#[tokio::test]
async fn after_an_undo_an_older_switch_is_refused_and_a_newer_one_is_done() {
    add(&["stale.example.test 300 A 192.0.2.1"]);
    let job = job(&["stale.example.test"]);
    // Nothing had been switched: the undo leaves its mark all the same.
    assert!(service().revert(&at(&job, 20)).await.unwrap().changes.is_empty());
    for revision in [10, 20] {
        let refused = service().switch(&at(&job, revision)).await.unwrap_err();
        assert!(matches!(refused, Error::Outdated { marked: 20, .. }), "{refused}");
    }
    assert_eq!(answer("stale.example.test", "A"), [SOURCE]);

    let again = Job { run: 2, ..at(&job, 30) };
    service().switch(&again).await.unwrap();
    assert_eq!(answer("stale.example.test", "A"), [DESTINATION]);
    let refused = service().revert(&at(&job, 20)).await.unwrap_err();
    assert!(matches!(refused, Error::Outdated { marked: 30, ordered: 20, .. }), "{refused}");
    assert_eq!(answer("stale.example.test", "A"), [DESTINATION]);

    let undone = service().revert(&Job { run: 2, ..at(&job, 40) }).await.unwrap();
    assert_eq!(undone.changes.len(), 1);
    // The next run fails before its switch: its undo has nothing to tell.
    let undone = service().revert(&Job { run: 3, ..at(&job, 50) }).await.unwrap();
    assert!(undone.changes.is_empty());
}

#[tokio::test]
async fn what_somebody_else_changed_is_left_alone() {
    add(&["own.example.test 300 A 203.0.113.9", "other.example.test 300 A 192.0.2.1"]);
    let job = job(&["other.example.test", "own.example.test"]);
    let refused = service().switch(&job).await.unwrap_err();
    assert!(refused.to_string().contains("own.example.test: its A record"), "{refused}");
    // All or none.
    assert_eq!(answer("other.example.test", "A"), [SOURCE]);
    service().revert(&at(&job, 20)).await.unwrap();
    assert_eq!(answer("own.example.test", "A"), ["203.0.113.9"]);

    // Put right, it goes on.
    shared().primary.update(&["update delete own.example.test A"]).unwrap();
    add(&["own.example.test 300 A 192.0.2.1"]);
    service().switch(&at(&job, 30)).await.unwrap();

    // Changed after the switch: neither done again nor undone.
    shared().primary.update(&["update delete own.example.test A"]).unwrap();
    add(&["own.example.test 300 A 203.0.113.9"]);
    for refused in [
        service().switch(&at(&job, 30)).await.unwrap_err(),
        service().revert(&at(&job, 40)).await.unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Changed { .. }), "{refused}");
    }
    assert_eq!(answer("own.example.test", "A"), ["203.0.113.9"]);
    assert_eq!(answer("other.example.test", "A"), [DESTINATION]);

    // Put back by hand: the undo finds nothing left to do.
    shared().primary.update(&["update delete own.example.test A"]).unwrap();
    shared().primary.update(&["update delete other.example.test A"]).unwrap();
    add(&["own.example.test 300 A 192.0.2.1", "other.example.test 300 A 192.0.2.1"]);
    service().revert(&at(&job, 50)).await.unwrap();
    assert_eq!(answer("own.example.test", "A"), [SOURCE]);
}

#[tokio::test]
async fn an_address_of_the_other_family_that_is_not_the_sources_is_seen() {
    add(&["six.example.test 300 A 192.0.2.1", "six.example.test 300 AAAA 2001:db8::9"]);
    let refused = service().switch(&job(&["six.example.test"])).await.unwrap_err();
    assert!(refused.to_string().contains("AAAA"), "{refused}");

    add(&["fam.example.test 300 A 192.0.2.1", "fam.example.test 300 AAAA 2001:db8::1"]);
    let job = job_between("src", "dst4", &["fam.example.test"]);
    let refused = service().switch(&job).await.unwrap_err();
    assert!(matches!(refused, Error::Configuration(_)), "{refused}");
}

#[tokio::test]
async fn names_without_a_record_of_their_own_are_missing() {
    add(&["mailonly.example.test 300 MX 10 mx.example.net."]);
    for host in ["nowhere.example.test", "mailonly.example.test"] {
        let refused = service().switch(&job(&[host])).await.unwrap_err();
        assert!(matches!(refused, Error::Missing { detail: "", .. }), "{refused}");
    }
    // The wildcard's answer is the source's, but there is no record to replace.
    let refused = service().switch(&job(&["x.wild.example.test"])).await.unwrap_err();
    assert!(refused.to_string().contains("wildcard"), "{refused}");
    assert_eq!(answer("x.wild.example.test", "A"), [SOURCE]);
    // The wildcard itself can be named.
    let job = job(&["*.wild.example.test"]);
    service().switch(&job).await.unwrap();
    assert_eq!(answer("x.wild.example.test", "A"), [DESTINATION]);
    service().revert(&at(&job, 11)).await.unwrap();
}

#[tokio::test]
async fn a_migration_without_host_names_needs_no_dns() {
    let job = job(&[]);
    let mut options = support::options(&shared().primary, &[]);
    options.zones[0].primary = "127.0.0.1:9".parse().unwrap();
    let service = support::service_with(options);
    assert!(service.switch(&job).await.unwrap().changes.is_empty());
    assert!(service.revert(&at(&job, 11)).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn others_texts_at_the_marks_name_stay() {
    add(&["txt.example.test 300 A 192.0.2.1", "_drover.txt.example.test 300 TXT \"not a mark\""]);
    let (mine, other) = (job(&["txt.example.test"]), job(&["txt.example.test"]));
    service().switch(&mine).await.unwrap();
    service().revert(&at(&mine, 11)).await.unwrap();
    // Another migration of the same name keeps a mark of its own.
    service().switch(&other).await.unwrap();
    assert!(service().switch(&at(&mine, 10)).await.is_err());
    let texts = answer("_drover.txt.example.test", "TXT");
    assert_eq!(texts.len(), 3);
    assert!(texts.contains(&"not a mark".to_owned()), "{texts:?}");
}

#[tokio::test]
async fn a_lost_mark_is_made_up_for_by_the_history() {
    add(&["lost.example.test 300 A 192.0.2.1"]);
    let mut job = job(&["lost.example.test"]);
    job.switched = Some(service().switch(&job).await.unwrap());
    shared().primary.update(&["update delete _drover.lost.example.test TXT"]).unwrap();
    let undone = service().revert(&at(&job, 20)).await.unwrap();
    assert_eq!(undone.changes.len(), 1);
    assert_eq!(answer("lost.example.test", "A"), [SOURCE]);
    assert_eq!(mark("lost.example.test").unwrap().state, State::Reverted);
}
