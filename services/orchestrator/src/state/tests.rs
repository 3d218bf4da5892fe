use drover_lifecycle::Attempt;
use drover_schemas::v1::{ConsistencyPoint, DnsChange, migration_event::Event};
use proptest::{collection::vec, option, prelude::*};

use super::*;

fn attempt() -> impl Strategy<Value = Attempt> {
    (1..9u32, any::<i64>())
        .prop_map(|(number, not_before_unix_ms)| Attempt { number, not_before_unix_ms })
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        any::<i64>().prop_map(|not_before_unix_ms| Phase::Planned { not_before_unix_ms }),
        any::<i64>().prop_map(|not_before_unix_ms| Phase::Held { not_before_unix_ms }),
        Just(Phase::Rehearsed),
        attempt().prop_map(Phase::Completed),
        Just(Phase::Expired),
    ]
}

fn planned() -> impl Strategy<Value = MigrationPlanned> {
    let labels = prop::collection::btree_map("[a-z]{1,9}", ".{0,40}", 0..3);
    ("[a-z0-9]{1,20}", ".{0,64}", vec("[a-z.]{1,60}", 0..4), labels, any::<bool>()).prop_map(
        |(server, database, host_names, labels, rehearsal)| MigrationPlanned {
            campaign: "night".into(),
            database,
            source: server.clone(),
            destination: server,
            host_names,
            labels,
            rehearsal,
            ..Default::default()
        },
    )
}

fn frozen() -> impl Strategy<Value = SourceFrozen> {
    (".{0,60}", any::<i64>(), any::<u32>(), any::<bool>()).prop_map(
        |(gtid, at_unix_ms, accounts, watchdog_armed)| SourceFrozen {
            consistency_point: Some(ConsistencyPoint { gtid, at_unix_ms, ..Default::default() }),
            frozen_at_unix_ms: at_unix_ms,
            accounts,
            watchdog_armed,
            ..Default::default()
        },
    )
}

fn dump() -> impl Strategy<Value = DumpStored> {
    ("[0-9a-f-]{36}", "[0-9a-f]{64}", any::<u64>()).prop_map(|(id, sum, bytes)| DumpStored {
        dump_object: format!("night/{id}/1-1/dump.sql.zst"),
        manifest_object: format!("night/{id}/1-1/manifest"),
        accounts_object: format!("night/{id}/1-1/accounts"),
        dump_bytes: bytes,
        dump_sha256: sum.chars().rev().collect(),
        manifest_sha256: sum,
        ..Default::default()
    })
}

fn switched() -> impl Strategy<Value = DnsSwitched> {
    let change = ("[a-z.]{1,60}", vec("[0-9.]{7,15}", 0..3), any::<u32>()).prop_map(
        |(host_name, values, ttl)| DnsChange {
            host_name,
            old_values: values.clone(),
            new_values: values,
            old_ttl_seconds: ttl,
            ..Default::default()
        },
    );
    vec(change, 0..4).prop_map(|changes| DnsSwitched { changes })
}

fn rollback() -> impl Strategy<Value = Rollback> {
    any::<[bool; 3]>().prop_map(|[discard_writes, was_complete, refused]| Rollback {
        discard_writes,
        was_complete,
        refused,
    })
}

prop_compose! {
    /// A migration at rest, with anything that may be kept of one.
    fn migration()(
        (revision, at_unix_ms, run, destination_shut) in any::<(u64, i64, u32, bool)>(),
        (phase, rollback, planned) in (phase(), rollback(), planned()),
        (frozen, dump) in (option::of(frozen()), option::of(dump())),
        opened in option::of(any::<(u32, i64, u64)>()),
        switched in option::of(switched()),
        published in option::of((".{0,99}", any::<i64>())),
    ) -> Migration {
        let event = Event::MigrationPlanned(planned);
        let begun = Migration::begin(Fact { revision, at_unix_ms, event });
        Migration {
            phase,
            run,
            frozen,
            dump,
            opened: opened.map(|(accounts, opened_at_unix_ms, took_us)| DestinationOpened {
                accounts,
                opened_at_unix_ms,
                took_us,
            }),
            destination_shut,
            switched,
            published: published.map(|(link, expires_at_unix_ms)| DumpPublished {
                link,
                expires_at_unix_ms,
            }),
            rollback,
            ..begun.unwrap()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_rests_comes_back_as_it_was(migrations in vec(migration(), 1..12)) {
        let mut press = Press::default();
        let states: Vec<State> =
            migrations.iter().map(|one| State::of(one.clone(), &mut press)).collect();
        for (state, migration) in states.iter().zip(&migrations) {
            prop_assert!(matches!(state, State::Asleep(_)));
            prop_assert_eq!(&*state.migration(), migration);
            prop_assert_eq!(state.revision(), migration.revision);
            prop_assert_eq!(state.phase(), &migration.phase);
            prop_assert_eq!(state.deadline_unix_ms(), migration.deadline_unix_ms());
        }
    }
}

#[test]
fn what_rests_takes_the_next_fact_as_if_it_had_not() {
    let planned = MigrationPlanned { database: "shop".into(), ..Default::default() };
    let fact = |revision, event| Fact { revision, at_unix_ms: 9, event };
    let migration = Migration::begin(fact(7, Event::MigrationPlanned(planned))).unwrap();
    let mut press = Press::default();
    let mut state = State::of(migration.clone(), &mut press);
    let admitted = Event::MigrationAdmitted(drover_schemas::v1::MigrationAdmitted {
        run: 1,
        rehearsal: false,
    });
    let mut wanted = migration;
    wanted.evolve(fact(8, admitted.clone())).unwrap();
    state.evolve(fact(8, admitted), &mut press).unwrap();
    assert_eq!(*state.migration(), wanted);
    assert!(matches!(state.phase().wait(), Wait::Job { .. }));
    assert!(size_of::<State>() <= 56, "{}", size_of::<State>());
}
