//! Whatever others wrote, and however it was damaged: what reads it gives a value or an error, and
//! neither panics nor goes on for ever. Inventories, configurations, ranges, DNS answers and the
//! console's requests have tests of this kind beside what reads them.
//!
//! Inputs are bytes of no kind at all, and good ones that were changed in some places, which come
//! further.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::{fs, path::Path, sync::OnceLock};

use age::{secrecy::ExposeSecret as _, x25519::Identity};
use drover_dns::Mark;
use drover_dumpstore::Key;
use drover_lifecycle::{
    Command, Fact, Migration, Wait, conclude,
    steps::{host_of, step_of},
};
use drover_mysql::{Manifest, Order, seal};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    v1::{
        CampaignEvent, Job, MigrationAdmitted, MigrationEvent, MigrationPlanned, Policy,
        RetryPolicy, Signal, StepFailed, migration_event::Event,
    },
};
use proptest::prelude::*;
use prost::Message as _;

/// A change to some bytes: what is done, where, and with what.
#[derive(Debug, Clone)]
enum Edit {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        any::<prop::sample::Index>().prop_map(Edit::Cut),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(from, to)| Edit::Repeat(from, to)),
    ]
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(), 0..6)
}

fn edited(good: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for edit in edits {
        let size = bytes.len();
        if size == 0 {
            break;
        }
        match edit {
            Edit::Set(at, byte) => bytes[at.index(size)] = *byte,
            Edit::Insert(at, more) => {
                let at = at.index(size);
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Cut(at) => bytes.truncate(at.index(size)),
            Edit::Repeat(from, to) => {
                let (from, to) = (from.index(size), to.index(size));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

/// One event of each kind, as they were written once.
fn events() -> &'static [Vec<u8>] {
    static EVENTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/examples/events");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let found: Vec<_> = files
            .filter(|file| file.extension().is_some_and(|extension| extension == "binpb"))
            .map(|file| fs::read(file).unwrap())
            .collect();
        assert!(found.len() > 20);
        found
    })
}

fn event() -> impl Strategy<Value = Event> {
    let read = (any::<prop::sample::Index>(), edits()).prop_map(|(which, edits)| {
        let bytes = edited(&events()[which.index(events().len())], &edits);
        let decoded = MigrationEvent::decode(bytes.as_slice()).ok();
        decoded
            .and_then(|event| event.event)
            .unwrap_or(Event::MigrationCompleted(Default::default()))
    });
    let numbers = prop_oneof![any::<u32>(), Just(u32::MAX), 0..3u32];
    let failed = (any::<i32>(), numbers.clone(), any::<i64>()).prop_map(|(step, attempt, next)| {
        let step = step.rem_euclid(20);
        Event::StepFailed(StepFailed {
            step,
            attempt,
            next_attempt_at_unix_ms: next,
            ..StepFailed::default()
        })
    });
    let admitted = (numbers, any::<bool>()).prop_map(|(run, rehearsal)| {
        Event::MigrationAdmitted(MigrationAdmitted { run, rehearsal })
    });
    prop_oneof![6 => read, 2 => failed, 1 => admitted]
}

fn ids() -> (CampaignName, MigrationId) {
    let campaign: CampaignName = "night".parse().unwrap();
    let id = MigrationId::new(&campaign, &"a".parse().unwrap(), "db");
    (campaign, id)
}

/// The event that a state waits for.
fn fitting(state: &Migration) -> Option<Event> {
    match state.wait() {
        Wait::Job { step, .. } => events()
            .iter()
            .filter_map(|bytes| MigrationEvent::decode(bytes.as_slice()).ok()?.event)
            .find(|event| step_of(event) == Some(step)),
        Wait::Settlement => state.decide(Command::Settle).ok(),
        Wait::Admission { .. } => state.decide(Command::Admit).ok(),
        Wait::Findings => state.decide(Command::IgnoreFindings { by: String::new() }).ok(),
        Wait::Person => state.decide(Command::Retry { by: String::new() }).ok(),
        Wait::Nothing => None,
    }
}

/// Everything that is done with a state.
fn use_state(state: &Migration, now: i64) {
    let (campaign, id) = ids();
    let _ = (state.wait(), state.holds_slot(), state.has_ended());
    let _ = state.job(&campaign, id, &Policy::default(), now).map(|job| use_job(&job, now));
    let roll_back =
        Command::RollBack { by: String::new(), reason: String::new(), discard_writes: false };
    for command in
        [Command::Admit, Command::Settle, Command::Retry { by: String::new() }, roll_back]
    {
        let _ = state.decide(command);
    }
}

/// Everything that is done with a job before a server is asked.
fn use_job(job: &Job, now: i64) {
    let _ = Order::try_from(job).map(|order| order.database.len());
    let _ = job.planned.as_ref().map(|planned| host_of(job.step(), planned).is_ok());
    for code in [Code::ServerUnreachable, Code::DumpRefused] {
        let _ = conclude(job, Err(Failure::new(code, "x")), now, 0.5);
    }
}

fn identity() -> &'static (seal::Options, Vec<u8>, tempfile::TempDir) {
    static SEALED: OnceLock<(seal::Options, Vec<u8>, tempfile::TempDir)> = OnceLock::new();
    SEALED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate();
        let file = folder.path().join("identity");
        let secret = identity.to_string();
        drover_testbed::mariadb::write_private(&file, secret.expose_secret()).unwrap();
        let options = seal::Options { to: identity.to_public().to_string(), identity_file: file };
        let nobody = r#"{"accounts":[],"roles":["r"],"members":[],"grants":[],"events":[]}"#;
        let sealed = options.seal(&serde_json::from_str(nobody).unwrap()).unwrap();
        (options, sealed, folder)
    })
}

const MARK: &str = "drover v=1 migration=6ba7b810-9dad-51d1-80b4-00c04fd430c8 state=switched run=1 \
    revision=12 at=1700000000 change=A,300,60,192.0.2.1+192.0.2.2,198.51.100.7 \
    change=AAAA,300,60,2001:db8::1,2001:db8::2 change=CNAME,1,60,a.example.,b.example.";

const MANIFEST: &str = r#"{"version":1,"description":{"server_version":"10.11.14-MariaDB",
    "defaults":{"charset":"utf8mb4","collation":"utf8mb4_bin","comment":""},
    "tables":{"t":{"definition":"CREATE TABLE `t` (`a` int)","rows":3,
    "digest":"000102030405060708090a0b0c0d0e0f","system_versioned":false}},
    "objects":[{"kind":"view","name":"v","definition":"x"}]},
    "loaded_bytes":10,"sql_bytes":18446744073709551615,"accounts_sha256":"00","frames":[]}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn protobuf_messages(bytes: Vec<u8>, which: prop::sample::Index, edits in edits()) {
        let damaged = edited(&events()[which.index(events().len())], &edits);
        for bytes in [bytes.as_slice(), &damaged] {
            let _ = MigrationEvent::decode(bytes);
            let _ = CampaignEvent::decode(bytes);
            let _ = Signal::decode(bytes);
            if let Ok(job) = Job::decode(bytes) {
                use_job(&job, 0);
            }
        }
    }

    #[test]
    fn histories(
        events in prop::collection::vec((prop::option::of(event()), any::<i64>()), 0..40),
        skip in 1..9u64,
    ) {
        let begin = Event::MigrationPlanned(MigrationPlanned::default());
        let first = Fact { revision: 1, at_unix_ms: 0, event: begin };
        let mut state = Migration::begin(first).unwrap();
        for (event, at_unix_ms) in events {
            let Some(event) = event.or_else(|| fitting(&state)) else { continue };
            let revision = state.revision.saturating_add(skip);
            let before = state.clone();
            if state.evolve(Fact { revision, at_unix_ms, event }).is_err() {
                prop_assert_eq!(&state, &before, "what is not allowed changes nothing");
            }
            use_state(&state, at_unix_ms);
        }
    }

    #[test]
    fn policies(attempt: u32, max: u32, base: u32, most: u32, now: i64, step in 0..20i32) {
        let retry = RetryPolicy { attempts_max: max, backoff_base_ms: base, backoff_max_ms: most };
        let policy = Some(Policy { retry: Some(retry), ..Policy::default() });
        use_job(&Job { step, attempt, policy, ..Job::default() }, now);
    }

    #[test]
    fn marks(bytes: Vec<u8>, edits in edits()) {
        let _ = Mark::parse(&bytes);
        if let Some(mark) = Mark::parse(&edited(MARK.as_bytes(), &edits)) {
            let again = Mark::parse(mark.to_string().as_bytes());
            prop_assert_eq!(again, Some(mark), "a mark is read as it is written");
        }
    }

    #[test]
    fn manifests(bytes: Vec<u8>, edits in edits()) {
        let _ = Manifest::from_json(&bytes);
        let _ = Manifest::from_json(&edited(MANIFEST.as_bytes(), &edits));
        // Deep nesting must not take the stack.
        let _ = Manifest::from_json("[".repeat(bytes.len() * 4_000).as_bytes());
    }

    #[test]
    fn keys_and_names(text: String, edits in edits()) {
        let (campaign, id) = ids();
        let good = format!("{campaign}/{id}/1-1/dump.sql.zst");
        let damaged = edited(good.as_bytes(), &edits);
        for text in [text.as_str(), &String::from_utf8_lossy(&damaged)] {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert!(!key.to_string().contains(".."), "a key stays in its store");
            }
            let _ = (text.parse::<CampaignName>(), text.parse::<MigrationId>());
            let _ = text.parse::<Code>();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sealed_accounts(bytes: Vec<u8>, edits in edits()) {
        let (options, sealed, _folder) = identity();
        prop_assert!(options.open(&bytes).is_err());
        let damaged = edited(sealed, &edits);
        prop_assert_eq!(options.open(&damaged).is_ok(), damaged == *sealed);
    }
}
