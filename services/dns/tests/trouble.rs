//! Switch and revert when something happens between reading and writing, or to the servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic anywhere")]

mod support;

use std::{
    process::Command,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use drover_dns::{Error, Options};
use drover_schemas::{Code, Failure};
use drover_testbed::{Bed, Bind, Follow, bed::find_program};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use support::{Act, DESTINATION, SOURCE, add, answer, at, job, service, shared, through};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::LocalSet,
};

#[tokio::test]
async fn a_change_between_reading_and_writing_is_not_overwritten() {
    let test = async {
        add(&["between.example.test 300 A 192.0.2.1"]);
        let proxy = support::proxy(shared().primary.address(), async || {
            let changes = &shared().primary;
            changes.update(&["update delete between.example.test A"]).unwrap();
            add(&["between.example.test 300 A 203.0.113.9"]);
            Act::Forward
        });
        let refused = through(proxy.await).switch(&job(&["between.example.test"])).await;
        assert!(matches!(refused, Err(Error::Changed { .. })), "{refused:?}");
        assert_eq!(answer("between.example.test", "A"), ["203.0.113.9"]);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_address_added_between_reading_and_writing_is_seen() {
    let test = async {
        add(&["added.example.test 300 A 192.0.2.1"]);
        let proxy = support::proxy(shared().primary.address(), async || {
            add(&["added.example.test 300 AAAA 2001:db8::9"]);
            Act::Forward
        });
        let refused = through(proxy.await).switch(&job(&["added.example.test"])).await;
        assert!(matches!(refused, Err(Error::Changed { .. })), "{refused:?}");
        assert_eq!(answer("added.example.test", "A"), [SOURCE]);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_update_whose_answer_was_lost_is_found_by_its_mark() {
    let test = async {
        add(&["answer.example.test 300 A 192.0.2.1"]);
        let updates = Arc::new(AtomicU32::new(0));
        let count = updates.clone();
        let proxy = support::proxy(shared().primary.address(), async move || {
            count.fetch_add(1, Ordering::Relaxed);
            Act::LoseAnswer
        });
        let (job, service) = (job(&["answer.example.test"]), through(proxy.await));
        let lost = service.switch(&job).await.unwrap_err();
        assert!(matches!(lost, Error::Unreachable { .. }), "{lost}");
        assert_eq!(updates.load(Ordering::Relaxed), 1, "an update is sent once");
        let done = service.switch(&job).await.unwrap();
        assert_eq!(done.changes[0].old_values, [SOURCE]);
        assert_eq!(done.changes[0].old_ttl_seconds, 300);

        let lost = service.revert(&at(&job, 20)).await.unwrap_err();
        assert!(matches!(lost, Error::Unreachable { .. }), "{lost}");
        assert_eq!(service.revert(&at(&job, 20)).await.unwrap().changes.len(), 1);
        assert_eq!(answer("answer.example.test", "A"), [SOURCE]);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_switch_that_slept_through_its_undo_does_no_harm() {
    let test = async {
        add(&["slept.example.test 300 A 192.0.2.1"]);
        let (asleep, wake) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (sleeps, woken) = (asleep.clone(), wake.clone());
        let proxy = support::proxy(shared().primary.address(), async move || {
            sleeps.notify_one();
            woken.notified().await;
            Act::Forward
        });
        let (job, sleeper) = (job(&["slept.example.test"]), through(proxy.await));
        let (refused, ()) = tokio::join!(sleeper.switch(&job), async {
            asleep.notified().await;
            service().revert(&at(&job, 20)).await.unwrap();
            wake.notify_one();
        });
        assert!(matches!(refused, Err(Error::Outdated { marked: 20, .. })), "{refused:?}");
        assert_eq!(answer("slept.example.test", "A"), [SOURCE]);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_key_that_the_server_does_not_take_is_refused_and_the_undo_goes_on() {
    add(&["key.example.test 300 A 192.0.2.1"]);
    let job = job(&["key.example.test"]);
    let right = support::options(&shared().primary, &[]);
    let unknown = |options: &mut Options| options.zones[0].key_name = "unknown".to_owned();
    let other = |options: &mut Options| {
        let file = shared().bed.dir().join("other.key");
        drover_testbed::mariadb::write_private(&file, "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldA==\n")
            .unwrap();
        options.zones[0].key_file = file;
    };
    for wrong in [&unknown as &dyn Fn(&mut Options), &other] {
        let mut options = right.clone();
        wrong(&mut options);
        let service = support::service_with(options);
        let refused = service.switch(&job).await.unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
        assert_eq!(Failure::from(refused).code, Code::DnsRefused);
        // Nothing was switched: the customer need not stay read-only.
        assert!(service.revert(&at(&job, 20)).await.unwrap().changes.is_empty());
    }
    service().switch(&job).await.unwrap();
    let mut options = right.clone();
    unknown(&mut options);
    let refused = support::service_with(options).revert(&at(&job, 30)).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(answer("key.example.test", "A"), [DESTINATION]);
}

#[tokio::test]
async fn a_key_file_is_checked_at_start_and_never_quoted() {
    let dir = shared().bed.dir();
    drover_testbed::mariadb::write_private(&dir.join("bad.key"), "c2VjcmV0 secret!").unwrap();
    for name in ["bad.key", "absent.key"] {
        let mut options = support::options(&shared().primary, &[]);
        options.zones[0].key_file = dir.join(name);
        let error = drover_dns::Service::new(options, support::targets()).err().unwrap();
        let failure = Failure::from(error);
        assert_eq!(failure.code, Code::SecretUnreadable);
        assert!(!failure.message.contains("c2VjcmV0"), "{failure}");
    }
}

#[tokio::test]
async fn a_zone_that_the_server_does_not_have_is_named() {
    let mut options = support::options(&shared().primary, &[]);
    options.zones[0].name = "example.org".to_owned();
    let refused = support::service_with(options).switch(&job(&["www.example.org"])).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back() {
    let bed = Bed::new().unwrap();
    let primary = Bind::start(&bed, "back.test", &["www 300 A 192.0.2.1"]).unwrap();
    let service = support::service_with(support::options(&primary, &[]));
    let job = job(&["www.back.test"]);
    primary.kill().unwrap();
    let gone = service.switch(&job).await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone}");
    primary.restart().unwrap();
    let first = service.switch(&job).await.unwrap();
    // Its journal holds what it acknowledged; connections that waited are opened again.
    primary.kill().unwrap();
    primary.restart().unwrap();
    assert_eq!(service.switch(&job).await.unwrap(), first);
    service.revert(&at(&job, 20)).await.unwrap();
    assert_eq!(primary.answer("www", "A").unwrap(), [SOURCE]);

    // It hangs.
    let hasty = Options { answer_wait_ms: 200, ..support::options(&primary, &[]) };
    primary.signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    let hangs = support::service_with(hasty).switch(&at(&job, 30)).await.unwrap_err();
    assert!(hangs.to_string().contains("no answer within 200 ms"), "{hangs}");
    primary.signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    service.switch(&at(&job, 30)).await.unwrap();
}

#[tokio::test]
async fn a_step_ends_when_the_last_server_gives_the_answer() {
    let bed = Bed::new().unwrap();
    let primary = Bind::start(&bed, "lag.test", &["www 300 A 192.0.2.1"]).unwrap();
    let secondary = primary.secondary(Follow::AtStart).unwrap();
    let options =
        Options { seen_wait_ms: 300, ..support::options(&primary, &[&primary, &secondary]) };
    let service = support::service_with(options);
    let job = job(&["www.lag.test"]);
    let lags = service.switch(&job).await.unwrap_err();
    let Error::NotSeen { server, .. } = &lags else { unreachable!("{lags}") };
    assert_eq!(*server, secondary.address());
    assert!(Failure::from(lags).code.is_transient());
    // The primary has it; the next attempt only looks.
    assert_eq!(primary.answer("www", "A").unwrap(), [DESTINATION]);
    secondary.restart().unwrap();
    let done = service.switch(&at(&job, 11)).await.unwrap();
    assert_eq!(done.changes[0].old_ttl_seconds, 300);
}

#[tokio::test]
async fn a_switched_name_still_validates() {
    add(&["signed.example.test 300 A 192.0.2.1"]);
    service().switch(&job(&["signed.example.test"])).await.unwrap();
    let server = &shared().primary;
    let key = server.answer("@", "DNSKEY").unwrap();
    let fields: Vec<&str> = key[0].split_whitespace().collect();
    let (head, material) = fields.split_at(3);
    let anchor = format!(
        "trust-anchors {{ \"example.test\" static-key {} \"{}\"; }};\n",
        head.join(" "),
        material.concat()
    );
    let file = server.folder().join("anchor");
    std::fs::write(&file, anchor).unwrap();
    let output = Command::new(find_program(&["delv"]).unwrap())
        .arg(format!("@{}", server.address().ip()))
        .args(["-p", &server.address().port().to_string(), "-a"])
        .arg(&file)
        .args(["+root=example.test", "signed.example.test", "A"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("fully validated") && text.contains(DESTINATION), "{text}");
}

#[tokio::test]
async fn updates_keep_to_their_rate() {
    let options =
        Options { updates_per_second_max: 20, ..support::options(&shared().primary, &[]) };
    let service = support::service_with(options);
    let names: Vec<String> = (0..5).map(|i| format!("rate{i}.example.test")).collect();
    let lines: Vec<String> = names.iter().map(|name| format!("{name} 300 A 192.0.2.1")).collect();
    add(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let start = std::time::Instant::now();
    let all = names.iter().map(|name| {
        let (service, job) = (service.clone(), job(&[name]));
        async move { service.switch(&job).await }
    });
    futures::future::try_join_all(all).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
}

/// A server that answers every question with what a test makes of a good answer. Ends with the
/// runtime.
async fn answering(answers: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut size = [0; 2];
            while client.read_exact(&mut size).await.is_ok() {
                let mut question = vec![0; usize::from(u16::from_be_bytes(size))];
                if client.read_exact(&mut question).await.is_err() {
                    break;
                }
                let answer = answers(&question);
                if client.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_and_nothing_more() {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let kept = prop_oneof![Just(0usize), Just(2), Just(12), Just(usize::MAX)];
    let answers = (bytes, kept, any::<bool>());
    let mut runner = TestRunner::default();
    for _ in 0..40 {
        let (bytes, kept, honest) = answers.new_tree(&mut runner).unwrap().current();
        let context = format!("{bytes:?} {kept} {honest}");
        // So much of the question, as an answer, and then anything.
        let server = answering(move |question| {
            let mut answer = question[..kept.min(question.len())].to_vec();
            if let Some(flags) = answer.get_mut(2) {
                *flags |= 0x84;
            }
            answer.extend(&bytes);
            let size = if honest { answer.len() as u16 } else { u16::MAX };
            [size.to_be_bytes().as_slice(), &answer].concat()
        });
        let mut options = support::options(&shared().primary, &[&shared().primary]);
        (options.answer_wait_ms, options.seen_wait_ms) = (200, 200);
        options.zones[0].primary = server.await;
        let service = support::service_with(options);
        let job = job(&["garbage.example.test"]);
        let both = async { (service.switch(&job).await, service.revert(&job).await) };
        let (switched, reverted) =
            tokio::time::timeout(Duration::from_secs(30), both).await.expect(&context);
        assert!(switched.is_err() && reverted.is_err(), "{context}");
    }
}
