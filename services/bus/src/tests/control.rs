use bytes::Bytes;
use drover_schemas::{
    Code, ServerName, streams,
    v1::{HostLoad, ProgressSignal, Signal, signal},
};
use tokio_util::sync::CancellationToken;

use super::*;

#[tokio::test]
async fn every_instance_answers_until_it_ends() {
    let bus = shared().bus().await;
    let service = unique("service");
    assert_eq!(bus.ask(&service, Bytes::new()).await.unwrap_err().code(), Code::NoAnswer);
    let subject = drover_schemas::subjects::control(&service);
    let mut instances = Vec::new();
    for name in ["one", "two"] {
        let (bus, subject, shutdown) =
            (shared().bus().await, subject.clone(), CancellationToken::new());
        let token = shutdown.clone();
        let task = tokio::spawn(async move {
            let answer = move |request: Bytes| async move {
                Bytes::from(format!("{name} {}", String::from_utf8_lossy(&request)))
            };
            bus.serve(&subject, token, answer).await
        });
        instances.push((shutdown, task));
    }
    drover_testbed::bed::eventually(DEADLINE, || async {
        let mut answers = bus.ask(&service, "how".into()).await.unwrap_or_default();
        answers.sort();
        Ok(answers == ["one how", "two how"])
    })
    .await
    .unwrap();
    let answer = bus.ask_one(&subject, "x".into(), DEADLINE).await.unwrap();
    assert!(answer == "one x" || answer == "two x");
    for (shutdown, task) in instances {
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }
    let error = bus.ask_one(&subject, Bytes::new(), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::NoAnswer);
}

#[tokio::test]
async fn a_signal_published_twice_is_kept_once() {
    let bus = shared().bus().await;
    let campaign: CampaignName = unique("c").parse().unwrap();
    let progress = Signal { signal: Some(signal::Signal::Progress(ProgressSignal::default())) };
    for id in ["a", "a", "b"] {
        let id = format!("{campaign}-{id}");
        bus.signal(&campaign, "progress", &progress, &id).await.unwrap();
    }
    let stream = bus.stream(streams::SIGNALS).await.unwrap();
    let subject = drover_schemas::subjects::signal(&campaign, "progress");
    use futures::TryStreamExt as _;
    let counts: Vec<(String, usize)> =
        stream.info_with_subjects(&subject).await.unwrap().try_collect().await.unwrap();
    assert_eq!(counts, [(subject, 2)]);
}

#[tokio::test]
async fn what_a_server_is_under_is_heard_of_that_server_and_what_is_none_is_passed_over() {
    let (teller, hearer) = (shared().bus().await, shared().bus().await);
    let server: ServerName = unique("s").parse().unwrap();
    let load = HostLoad { threads_running: 7, replica_lag_seconds: Some(0), ..HostLoad::default() };
    let shutdown = CancellationToken::new();
    let (send, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (token, ours) = (shutdown.clone(), server.clone());
    let hearing = tokio::spawn(async move {
        let hear = move |server, load| {
            // Other tests tell of their own servers.
            if server == ours {
                let _ = send.send(load);
            }
        };
        hearer.loads(token, hear).await
    });
    let first = tokio::time::timeout(DEADLINE, async {
        loop {
            let subject = drover_schemas::subjects::load(&server);
            teller.client().publish(subject, "\u{8}".into()).await.unwrap();
            teller.tell_load(&server, &load).await.unwrap();
            let soon = tokio::time::timeout(Duration::from_millis(50), heard.recv());
            if let Ok(Some(load)) = soon.await {
                break load;
            }
        }
    });
    assert_eq!(first.await.unwrap(), load);
    shutdown.cancel();
    hearing.await.unwrap().unwrap();
}
