//! Messages as they were once written, which every later version must still read.
//!
//! `schemas/examples/events/` holds one message of each event. `DROVER_BLESS=1 cargo test -p
//! drover-schemas` adds the missing ones; it never changes one that is there.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use drover_schemas::{
    envelope::{campaign_kind, migration_kind},
    v1::{self, CampaignEvent, Job, MigrationEvent, campaign_event, migration_event},
};
use prost::Message;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/events")
}

fn dns_change() -> v1::DnsChange {
    v1::DnsChange {
        host_name: "shop-17.db.example.net".into(),
        record_type: "CNAME".into(),
        old_values: vec!["src-1.example.net".into()],
        new_values: vec!["dst-1.example.net".into()],
        old_ttl_seconds: 300,
        new_ttl_seconds: 60,
    }
}

fn planned() -> v1::MigrationPlanned {
    v1::MigrationPlanned {
        campaign: "night-1".into(),
        database: "shop `17` ü".into(),
        source: "src-1".into(),
        destination: "dst-1".into(),
        host_names: vec!["shop-17.db.example.net".into()],
        wave: "cluster-3".into(),
        owner: "owner@example.org".into(),
        labels: BTreeMap::from([("plan".into(), "pro".into())]),
        rehearsal: false,
        brings_back: "00000000-0000-5000-8000-000000000000".into(),
    }
}

fn dump() -> v1::DumpStored {
    v1::DumpStored {
        dump_object: "night-1/m/1-1-00/dump.sql.zst".into(),
        manifest_object: "night-1/m/1-1-00/manifest.json".into(),
        accounts_object: "night-1/m/1-1-00/accounts.age".into(),
        dump_bytes: 31_337,
        dump_sha256: "00".repeat(32),
        manifest_sha256: "11".repeat(32),
        tables: 12,
        rows: 4_711,
    }
}

fn failed() -> v1::StepFailed {
    v1::StepFailed {
        step: v1::Step::Import.into(),
        attempt: 2,
        code: "DRV-0402".into(),
        signature: "DRV-0402 error 1153".into(),
        message: "error 1153".into(),
        transient: false,
        next_attempt_at_unix_ms: 0,
        host: "dst-1".into(),
    }
}

fn migration_events() -> Vec<migration_event::Event> {
    use migration_event::Event;
    let point = v1::ConsistencyPoint {
        gtid: "0-1-42".into(),
        binlog_file: "binlog.000003".into(),
        binlog_position: 1_234,
        at_unix_ms: 1_750_000_000_123,
    };
    vec![
        Event::MigrationPlanned(planned()),
        Event::MigrationAdmitted(v1::MigrationAdmitted { run: 1, rehearsal: false }),
        Event::SourceFrozen(v1::SourceFrozen {
            consistency_point: Some(point),
            frozen_at_unix_ms: 1_750_000_000_000,
            accounts: 2,
            sessions_ended: 3,
            scheduled_events_stopped: 1,
            thaw_at_unix_ms: 1_750_000_300_000,
            watchdog_armed: true,
        }),
        Event::DumpStored(dump()),
        Event::ImportCompleted(v1::ImportCompleted { tables: 12, dump_bytes: 31_337 }),
        Event::CopyVerified(v1::CopyVerified { tables: 12, rows: 4_711 }),
        Event::SourceDisarmed(v1::SourceDisarmed {
            disarmed_at_unix_ms: 1_750_000_000_800,
            took_us: 700,
        }),
        Event::DestinationOpened(v1::DestinationOpened {
            accounts: 2,
            opened_at_unix_ms: 1_750_000_000_900,
            took_us: 2_500,
        }),
        Event::DnsSwitched(v1::DnsSwitched { changes: vec![dns_change()] }),
        Event::SourceRetired(v1::SourceRetired { accounts: 2 }),
        Event::DumpPublished(v1::DumpPublished {
            link: "https://dumps.example.net/d".into(),
            expires_at_unix_ms: 1_752_592_000_000,
        }),
        Event::CustomerNotified(v1::CustomerNotified {
            channels: vec!["smtp".into(), "webhook".into()],
            idempotency_key: "k".into(),
        }),
        Event::MigrationCompleted(v1::MigrationCompleted {}),
        Event::DumpExpired(v1::DumpExpired {}),
        Event::StepFailed(failed()),
        Event::MigrationParked(v1::MigrationParked {
            step: v1::Step::Import.into(),
            code: failed().code,
            signature: failed().signature,
            message: failed().message,
            undone: true,
        }),
        Event::RetryRequested(v1::RetryRequested { by: "op@console".into() }),
        Event::RollbackRequested(v1::RollbackRequested {
            by: "op@console".into(),
            reason: "the customer asked".into(),
            discard_writes: true,
        }),
        Event::MigrationRolledBack(v1::MigrationRolledBack {}),
        Event::BringBackRequested(v1::BringBackRequested {
            by: "op@console".into(),
            reason: "the customer asked".into(),
            campaign: "night-1-back".into(),
            migration_id: "00000000-0000-5000-8000-000000000000".into(),
        }),
        Event::MigrationDeferred(v1::MigrationDeferred {
            step: v1::Step::Dump.into(),
            code: "DRV-0704".into(),
            signature: "DRV-0704".into(),
            message: "frozen for too long".into(),
            deferral: 1,
            not_before_unix_ms: 1_750_000_600_000,
        }),
        Event::MigrationRecalled(v1::MigrationRecalled {
            step: v1::Step::Import.into(),
            by: "op@console".into(),
            reason: "the red button".into(),
        }),
        Event::MigrationRehearsed(v1::MigrationRehearsed {}),
        Event::MigrationChecked(v1::MigrationChecked {
            blocking_codes: vec!["DRV-0240".into()],
            ignored: false,
            by: "op@console".into(),
        }),
        Event::DnsReverted(v1::DnsReverted { changes: vec![dns_change()] }),
        Event::DestinationClosed(v1::DestinationClosed { accounts: 2 }),
        Event::DestinationDropped(v1::DestinationDropped {}),
        Event::SourceThawed(v1::SourceThawed { thawed_at_unix_ms: 1_750_000_001_500, accounts: 2 }),
    ]
}

fn campaign_events() -> Vec<campaign_event::Event> {
    use campaign_event::Event;
    let retry = v1::RetryPolicy { attempts_max: 5, backoff_base_ms: 500, backoff_max_ms: 300_000 };
    let policy = v1::Policy {
        retry: Some(retry),
        session_grace_ms: 2_000,
        dump_retention_days: 30,
        max_frozen_ms: 300_000,
        definers: Some(v1::Definers { map: Vec::new(), replace: "owner".to_owned() }),
    };
    let by = || "op@console".to_owned();
    vec![
        Event::CampaignCreated(v1::CampaignCreated { policy: Some(policy) }),
        Event::CampaignStarted(v1::CampaignStarted { in_flight_max: 400, by: by() }),
        Event::ConcurrencyChanged(v1::ConcurrencyChanged {
            in_flight_max: 250,
            reason: "started again with another limit".into(),
            by: by(),
        }),
        Event::CampaignPaused(v1::CampaignPaused {
            reason: "the red button".into(),
            by: by(),
            recalls: true,
        }),
        Event::CampaignResumed(v1::CampaignResumed { by: by() }),
        Event::HostQuarantined(v1::HostQuarantined {
            host: "src-9".into(),
            reason: "20 of 20 failed".into(),
        }),
        Event::HostReleased(v1::HostReleased { host: "src-9".into(), by: by() }),
        Event::HostSlotsChanged(v1::HostSlotsChanged {
            hosts: vec![v1::HostSlots {
                host: "src-9".into(),
                slots_max: 2,
                reason: "40 threads run, at most 25".into(),
            }],
        }),
        Event::CampaignCompleted(v1::CampaignCompleted { completed: 199, rolled_back: 1 }),
        Event::PreflightCompleted(v1::PreflightCompleted {
            migrations: 200,
            blocked: 1,
            findings: vec![v1::PreflightFinding {
                code: "DRV-0240".into(),
                blocking: true,
                migrations: 1,
                examples: vec!["src-1: `shop`: table `t` is of the engine CONNECT".into()],
            }],
            by: by(),
        }),
        Event::LimitsChanged(v1::LimitsChanged {
            limits: Some(v1::Limits { per_source_max: 2, ..v1::Limits::default() }),
            reason: "the sources are busy".into(),
            by: by(),
        }),
        Event::LogRepaired(v1::LogRepaired {
            by: by(),
            repair: "0b1c2d3e".into(),
            found_sequence: 4_000,
            seen_revision: 4_711,
            complete: true,
        }),
    ]
}

fn examples() -> BTreeMap<String, Vec<u8>> {
    let migration = migration_events().into_iter().map(|event| {
        let name = migration_kind(&event).to_owned();
        (name, MigrationEvent { event: Some(event) }.encode_to_vec())
    });
    let campaign = campaign_events().into_iter().map(|event| {
        let name = campaign_kind(&event).to_owned();
        (name, CampaignEvent { event: Some(event) }.encode_to_vec())
    });
    migration.chain(campaign).collect()
}

/// Decodes and encodes again. What a version does not know is lost on the way, so that the
/// bytes are the same only when every field was understood.
fn through(name: &str, bytes: &[u8]) -> Vec<u8> {
    if migration_events().iter().any(|event| migration_kind(event) == name) {
        MigrationEvent::decode(bytes).unwrap().encode_to_vec()
    } else {
        CampaignEvent::decode(bytes).unwrap().encode_to_vec()
    }
}

#[test]
fn every_event_that_was_ever_written_is_still_read() {
    let bless = env::var_os("DROVER_BLESS").is_some();
    fs::create_dir_all(folder()).unwrap();
    for (name, bytes) in examples() {
        let file = folder().join(format!("{name}.binpb"));
        if bless && !file.exists() {
            fs::write(&file, &bytes).unwrap();
        }
        let written = fs::read(&file).unwrap();
        assert_eq!(through(&name, &written), written, "{name}");
    }
}

#[test]
fn the_examples_are_of_every_kind_of_event() {
    let set = prost_types::FileDescriptorSet::decode(drover_schemas::DESCRIPTOR).unwrap();
    let messages = set.file.iter().flat_map(|file| &file.message_type);
    let kinds: usize = messages
        .filter(|message| ["MigrationEvent", "CampaignEvent"].contains(&message.name()))
        .map(|message| message.field.len())
        .sum();
    assert_eq!(examples().len(), kinds);
}

#[test]
fn fields_of_a_newer_version_do_not_disturb() {
    let mut bytes = Job { campaign: "night-1".into(), ..Job::default() }.encode_to_vec();
    bytes.extend([0xfa, 0x3e, 3, b'n', b'e', b'w']);
    assert_eq!(Job::decode(bytes.as_slice()).unwrap().campaign, "night-1");
}
