use std::{net::Ipv4Addr, time::Instant};

use drover_schemas::Code;
use drover_testbed::nats::JETSTREAM;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::*;
use crate::Error;

async fn refused(options: &Options) -> Error {
    match Bus::connect(options, "test").await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// Greets as a nats-server of `version` does, and answers pings.
async fn greeter(version: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (read, mut write) = socket.split();
        let info = serde_json::json!({
            "server_id": "X", "version": version, "proto": 1, "headers": true,
            "max_payload": 1_048_576, "jetstream": true,
        });
        write.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("PING") && write.write_all(b"PONG\r\n").await.is_err() {
                break;
            }
        }
    });
    format!("nats://{address}")
}

#[tokio::test]
async fn an_old_server_is_refused_by_name() {
    let error = refused(&options(&greeter("2.9.10").await)).await;
    assert_eq!(error.code(), Code::BusTooOld);
    assert!(error.to_string().contains("2.9.10"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_in_bounded_time() {
    let start = Instant::now();
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let options = Options { connect_wait_ms: 300, ..options(&format!("nats://{address}")) };
    let error = refused(&options).await;
    assert_eq!(error.code(), Code::BusUnreachable);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let error = refused(&Options { connect_wait_ms: 0, ..options(&url) }).await;
    assert_eq!(error.code(), Code::BusUnreachable);
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_apart() {
    let bed = Bed::new().unwrap();
    let nats = Nats::start_with(&bed, "").unwrap();
    let error = refused(&options(&nats.url())).await;
    assert_eq!(error.code(), Code::BusNoJetStream, "{error}");
}

#[tokio::test]
async fn an_account_without_jetstream_is_told_apart() {
    let bed = Bed::new().unwrap();
    let config = format!(
        "{JETSTREAM}\naccounts {{ A {{ users: [{{user: u, password: p}}] }} }}\nno_auth_user: u"
    );
    let nats = Nats::start_with(&bed, &config).unwrap();
    let error = refused(&options(&nats.url())).await;
    assert_eq!(error.code(), Code::BusNoJetStream, "{error}");
}

#[tokio::test]
async fn credentials_and_subjects_are_checked() {
    let bed = Bed::new().unwrap();
    let config = format!(
        r#"{JETSTREAM}
        authorization {{ users: [
            {{user: drover, password: "s3cret"}}
            {{user: reader, password: "r34d",
              permissions: {{ publish: {{ deny: ["drover.events.>"] }} }} }}
        ] }}"#
    );
    let nats = Nats::start_with(&bed, &config).unwrap();
    let with = |user: &str, password: &str| {
        let path = bed.dir().join(format!("{user}-{password}"));
        drover_testbed::mariadb::write_private(&path, &format!("{password}\n")).unwrap();
        Options { user: Some(user.to_owned()), password_file: Some(path), ..options(&nats.url()) }
    };
    let error = refused(&with("drover", "wrong")).await;
    assert_eq!(error.code(), Code::BusDenied, "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    assert_eq!(refused(&options(&nats.url())).await.code(), Code::BusDenied);

    let bus = Bus::connect(&with("drover", "s3cret"), "test").await.unwrap();
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    bus.append(&campaign, &a, 0, &event(1)).await.unwrap();
    let reader = Bus::connect(&with("reader", "r34d"), "test").await.unwrap();
    assert_eq!(reader.history(&campaign, a.aggregate()).await.unwrap().len(), 1);
    let error = reader.append(&campaign, &History::Campaign, 0, &event(2)).await.unwrap_err();
    assert_eq!(error.code(), Code::BusDenied, "{error}");
}
