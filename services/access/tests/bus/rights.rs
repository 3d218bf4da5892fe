//! Each user of the bus tries what it must not. That each may do what it must is shown by the
//! campaigns of the other tests, which run with these rights and no others.

use std::time::Duration;

use crate::world::{DEADLINE, World, server};
use async_nats::jetstream::{self, ErrorCode};
use chrono::Utc;
use drover_schemas::{
    Code, MigrationId,
    envelope::CloudEvent,
    streams::{self, LEASES, SIGNALS, Service, consumer},
    subjects::{self, Aggregate, History, Host},
    users::User,
    v1::{HostLoad, MigrationAdmitted, Step, migration_event},
};
use drover_testbed::bed::eventually;
use serde_json::json;

fn texts<const N: usize>(subjects: [&str; N]) -> Vec<String> {
    subjects.map(str::to_owned).to_vec()
}

/// What nobody but the administrator may ask of JetStream.
fn changes_of_streams(stream: &str) -> Vec<String> {
    let mut subjects: Vec<String> =
        ["DELETE", "PURGE", "UPDATE", "MSG.DELETE", "SNAPSHOT", "RESTORE"]
            .map(|request| format!("$JS.API.STREAM.{request}.{stream}"))
            .to_vec();
    subjects.push(format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"));
    subjects
}

/// What takes others' jobs from the queue, or reads them.
fn ways_to_jobs() -> Vec<String> {
    let other = consumer(Service::Dump, &Host::Server(server("src-2")), 1);
    let (queue, name, filter) = (other.queue, other.name, other.filter);
    let job = job(Step::Dump, "src-2");
    let mut subjects = vec![
        format!("$JS.API.CONSUMER.CREATE.{queue}.thief"),
        format!("$JS.API.CONSUMER.CREATE.{queue}.thief.{filter}"),
        format!("$JS.API.CONSUMER.CREATE.{queue}.{name}.{filter}"),
        format!("$JS.API.CONSUMER.CREATE.{queue}.{name}"),
        format!("$JS.API.CONSUMER.CREATE.{queue}"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.{queue}.thief"),
        format!("$JS.API.CONSUMER.DELETE.{queue}.{name}"),
        format!("$JS.API.CONSUMER.PAUSE.{queue}.{name}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{queue}.{name}"),
        format!("$JS.API.DIRECT.GET.{queue}"),
        format!("$JS.API.DIRECT.GET.{queue}.{job}"),
        format!("$JS.ACK.{queue}.{name}.1.1.1.1.0"),
        format!("$JS.ACK._.hash.{queue}.{name}.1.1.1.1.0"),
    ];
    subjects.extend(changes_of_streams(&queue));
    subjects
}

/// A job's subject.
fn job(step: Step, host: &str) -> String {
    let migration = MigrationId::new(&"night-1".parse().unwrap(), &server(host), "x");
    subjects::job(step, &Host::Server(server(host)), migration)
}

/// Where the events stand of a database that is moved between these.
fn history(source: &str, destination: &str) -> History {
    let id = MigrationId::new(&"night-1".parse().unwrap(), &server("src-1"), "shop");
    History::Migration { id, source: server(source), destination: server(destination) }
}

fn event() -> CloudEvent {
    let admitted = MigrationAdmitted { run: 1, rehearsal: false };
    let event = migration_event::Event::MigrationAdmitted(admitted);
    CloudEvent::migration(event, "drover/test/1", Utc::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_steps_appends_to_the_histories_of_its_host_only() {
    let world = World::new().await;
    let own = history("src-1", "dst-1");
    let mut revision = 0;
    for (user, others) in [
        (User::Dump(server("src-1")), vec![("src-2", "dst-1"), ("src-2", "src-1"), ("x", "y")]),
        (User::Import(server("dst-1")), vec![("src-1", "dst-2"), ("dst-1", "dst-2"), ("x", "y")]),
        (User::Dns, vec![]),
        (User::Notify, vec![]),
    ] {
        let mut subjects = texts(["drover.events.night-1.campaign"]);
        for (source, destination) in others {
            let other = subjects::event(&world.campaign, &history(source, destination));
            subjects.push(format!("$JS.API.DIRECT.GET.DROVER_EVENTS_night-1.{other}"));
            subjects.push(other);
        }
        world.client(&user).await.may_not_say(&subjects).await;
        // Its own it reads and appends to.
        let bus = world.bus(&user).await;
        revision = bus.append(&world.campaign, &own, revision, &event()).await.unwrap();
        let last = bus.last(&world.campaign, &own).await.unwrap();
        assert_eq!(last.map(|last| last.sequence), Some(revision));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_steps_takes_its_own_jobs_and_appends_to_no_campaigns_history() {
    let world = World::new().await;
    let workers =
        [User::Dump(server("src-1")), User::Import(server("dst-1")), User::Dns, User::Notify];
    for user in workers {
        let bare = world.client(&user).await;
        let stream = streams::events_name(&world.campaign);
        let mut subjects = ways_to_jobs();
        subjects.extend(changes_of_streams(&stream));
        subjects.extend(changes_of_streams(&format!("KV_{LEASES}")));
        subjects.extend(texts([
            // Histories: none of a campaign, and none read as a whole.
            "drover.events.night-1.campaign",
            "$JS.API.STREAM.CREATE.DROVER_EVENTS_night-2",
            "$JS.API.CONSUMER.CREATE.DROVER_EVENTS_night-1.thief",
            "$JS.API.STREAM.MSG.GET.KV_DROVER_LEASES",
            "$JS.API.CONSUMER.CREATE.DROVER_EVENTS_night-1.notify_operators",
            "$JS.API.CONSUMER.CREATE.DROVER_EVENTS_night-1.notify_operators.drover.events.night-1.x",
            "$JS.API.CONSUMER.CREATE.DROVER_EVENTS_night-1.notify_operators.drover.events.night-1.*",
            // Orders, signals, the lease, and requests to services.
            "drover.signals.night-1.failure",
            "$KV.DROVER_LEASES.orchestrator",
            "drover.control.orchestrator",
            "drover.control.projector.query",
            "_INBOX.orchestrator.x",
            "drover.load.src-2",
            "elsewhere",
        ]));
        if user != User::Notify {
            // Who tells the operators takes campaigns' own facts, one after the other.
            subjects.extend(texts([
                "$JS.API.STREAM.NAMES",
                "$JS.API.CONSUMER.MSG.NEXT.DROVER_EVENTS_night-1.notify_operators",
            ]));
        }
        subjects.extend(streams::queues().map(|it| format!("$JS.API.STREAM.MSG.GET.{}", it.name)));
        subjects.push(job(Step::Freeze, "src-1"));
        bare.may_not_say(&subjects).await;
        bare.may_not_hear(&texts([
            ">",
            "drover.jobs.>",
            "drover.events.>",
            "_INBOX.>",
            "_INBOX.dump.src-2.>",
            "$JS.>",
            "drover.control.orchestrator",
            "drover.load.*",
        ]))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_steps_tells_what_its_own_server_is_under_and_the_orchestrator_hears_it() {
    let world = World::new().await;
    let (send, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let orchestrator = world.bus(&User::Orchestrator).await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let token = shutdown.clone();
    let hearing = tokio::spawn(async move {
        orchestrator.loads(token, move |server, load| drop(send.send((server, load)))).await
    });
    for user in [User::Dump(server("src-1")), User::Import(server("dst-1"))] {
        let (User::Dump(host) | User::Import(host)) = &user else { continue };
        let (bus, load) =
            (world.bus(&user).await, HostLoad { threads_running: 3, ..<_>::default() });
        let told = tokio::time::timeout(DEADLINE, async {
            loop {
                bus.tell_load(host, &load).await.unwrap();
                let soon = tokio::time::timeout(Duration::from_millis(50), heard.recv());
                match soon.await {
                    Ok(Some((of, load))) if of == *host => break load,
                    Ok(_) | Err(_) => {}
                }
            }
        });
        assert_eq!(told.await.unwrap(), load);
        // Of another server it tells nothing, and learns so.
        eventually(DEADLINE, || async {
            let refused = bus.tell_load(&server("elsewhere"), &load).await;
            Ok(refused.is_err_and(|error| error.code() == Code::BusDenied))
        })
        .await
        .unwrap();
    }
    shutdown.cancel();
    hearing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn consoles_and_readers_only_read_and_the_projector_decides_nothing() {
    let world = World::new().await;
    for user in [User::Console, User::Reader, User::Projector] {
        let bare = world.client(&user).await;
        let mut subjects = ways_to_jobs();
        subjects.extend(changes_of_streams(&streams::events_name(&world.campaign)));
        subjects.extend(changes_of_streams(SIGNALS));
        subjects.extend(texts([
            "drover.events.night-1.campaign",
            "drover.events.night-1.x.src-1.dst-1",
            "drover.signals.night-1.failure",
            "$KV.DROVER_LEASES.orchestrator",
            "$JS.API.STREAM.CREATE.DROVER_EVENTS_night-2",
            "drover.control.orchestrator.x",
            "_INBOX.dump.src-1.x",
        ]));
        if user != User::Reader {
            subjects.extend(texts(["drover.control.orchestrator"]));
        }
        subjects.push(job(Step::Freeze, "src-1"));
        bare.may_not_say(&subjects).await;
        bare.may_not_hear(&texts([">", "drover.jobs.>", "_INBOX.operator.>", "$KV.>"])).await;
        let bus = world.bus(&user).await;
        assert_eq!(bus.campaigns().await.unwrap(), std::slice::from_ref(&world.campaign));
        assert!(bus.history(&world.campaign, Aggregate::Campaign).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orchestrator_and_operator_change_no_stream() {
    let world = World::new().await;
    for user in [User::Orchestrator, User::Operator] {
        let bare = world.client(&user).await;
        let mut subjects = ways_to_jobs();
        subjects.retain(|subject| !subject.contains("STREAM.MSG.GET"));
        subjects.extend(changes_of_streams(&streams::events_name(&world.campaign)));
        subjects.extend(texts(["$JS.API.STREAM.CREATE.KV_DROVER_LEASES", "_INBOX.dump.src-1.x"]));
        subjects.extend(streams::queues().map(|it| format!("$JS.API.STREAM.CREATE.{}", it.name)));
        bare.may_not_say(&subjects).await;
        bare.may_not_hear(&texts([">", "drover.jobs.>", "_INBOX.>", "_INBOX.reader.>"])).await;
    }
    let operator = world.client(&User::Operator).await;
    let mut subjects = texts(["drover.signals.night-1.failure", "$KV.DROVER_LEASES.orchestrator"]);
    subjects.push(job(Step::Freeze, "src-1"));
    operator.may_not_say(&subjects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_even_the_administrator_deletes_from_a_history() {
    let world = World::new().await;
    let bare = world.client(&User::Admin).await;
    bare.may_not_say(&[
        "drover.events.night-1.x.src-1.dst-1".to_owned(),
        job(Step::Freeze, "src-1"),
    ])
    .await;
    let name = streams::events_name(&world.campaign);
    let context = jetstream::new(bare.client.clone());
    let error = context.get_stream(&name).await.unwrap().purge().await.unwrap_err();
    assert!(error.to_string().contains("purge"), "{error}");
    let error = context.get_stream(&name).await.unwrap().delete_message(1).await.unwrap_err();
    assert!(error.to_string().contains("delete"), "{error}");
    // A stream cannot be made to forget either, once it is made so that it does not.
    let mut config = context.get_stream(&name).await.unwrap().cached_info().config.clone();
    config.deny_purge = false;
    let error = context.update_stream(config).await.unwrap_err();
    let code = match error.kind() {
        jetstream::context::UpdateStreamErrorKind::JetStream(error) => error.error_code(),
        other => panic!("{other}"),
    };
    assert_eq!(code, ErrorCode::STREAM_INVALID_CONFIG);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_steps_makes_its_own_consumer_and_reaches_no_other_jobs_with_it() {
    let world = World::new().await;
    let user = User::Dump(server("src-1"));
    let worker = world.bus(&user).await;
    worker.ensure_base().await.unwrap();
    let of = |host| consumer(Service::Dump, &Host::Server(server(host)), 2);
    worker.ensure_consumer(&of("src-1")).await.unwrap();
    let error = worker.ensure_consumer(&of("src-2")).await.unwrap_err();
    assert!(matches!(error.code(), Code::BusNotPrepared | Code::BusDenied), "{error}");
    // The filter of the body is the subject's, or the server refuses it.
    let (own, other) = (of("src-1"), of("src-2"));
    let ask = format!("$JS.API.CONSUMER.CREATE.{}.{}.{}", own.queue, own.name, own.filter);
    for body in [
        json!({ "filter_subject": other.filter }),
        json!({ "filter_subjects": [other.filter] }),
        json!({ "filter_subject": "drover.jobs.>" }),
        json!({}),
    ] {
        let mut config = json!({ "durable_name": own.name, "ack_policy": "explicit" });
        config.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let request = json!({ "stream_name": own.queue, "config": config }).to_string();
        let bare = world.client(&user).await;
        let answer = bare.client.request(ask.clone(), request.into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_object(), "{answer}");
    }
}

/// JetStream sends what it is asked for wherever it is told to, and asks nobody for the right to.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_sent_into_a_history_is_no_event() {
    let world = World::new().await;
    let operator = world.bus(&User::Operator).await;
    let history = history("src-1", "dst-1");
    operator.append(&world.campaign, &history, 0, &event()).await.unwrap();

    let into = subjects::event(&world.campaign, &History::Campaign);
    let stored = subjects::event(&world.campaign, &history);
    let stream = streams::events_name(&world.campaign);
    let thief = world.client(&User::Dump(server("src-1"))).await;
    let ask = format!("$JS.API.DIRECT.GET.{stream}.{stored}");
    thief.client.publish_with_reply(ask, into.clone(), "".into()).await.unwrap();
    let read = || operator.history(&world.campaign, Aggregate::Campaign);
    eventually(DEADLINE, || async { Ok(read().await.ok() != Some(Vec::new())) }).await.unwrap();
    let error = read().await.unwrap_err();
    assert_eq!(error.code(), Code::EventUndecodable, "{error}");
    assert!(error.to_string().contains(&into), "{error}");
}
