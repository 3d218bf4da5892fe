//! One line an event.

use chrono::{DateTime, SecondsFormat, Utc};
use drover_bus::Recorded;
use drover_lifecycle::{limits::words, promise::max_frozen_ms};
use drover_schemas::{
    subjects::{Aggregate, step_name},
    v1::{
        ConsistencyPoint, DnsChange, HostSlots, MigrationChecked, Step, StepFailed,
        campaign_event::Event as CampaignEvent, migration_event::Event as MigrationEvent,
    },
};

use super::text::{count, printable, seconds, time};

/// A history, one line an event: when, how long after the event before, what, and in a few words
/// with what outcome.
pub fn audit(history: &[Recorded]) -> String {
    let mut out = String::new();
    let mut before: Option<DateTime<Utc>> = None;
    for recorded in history {
        let now = recorded.event.time;
        let since = before
            .map(|before| format!("{:+.3}s", (now - before).num_milliseconds() as f64 / 1000.0));
        before = Some(now);
        let line = format!(
            "{}  {:>10}  {:<19}  {}",
            now.to_rfc3339_opts(SecondsFormat::Millis, true),
            since.unwrap_or_default(),
            name(recorded),
            detail(recorded)
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// One event of a campaign's stream in one line: when, whose (a migration's id, or `campaign`),
/// what, and in a few words with what outcome. Without a line's end.
pub fn event(recorded: &Recorded) -> String {
    let whose = match recorded.aggregate() {
        Aggregate::Campaign => "campaign".to_owned(),
        Aggregate::Migration(id) => id.to_string(),
    };
    let when = recorded.event.time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let line = format!("{when}  {whose:<36}  {:<19}  {}", name(recorded), detail(recorded));
    line.trim_end().to_owned()
}

fn name(recorded: &Recorded) -> String {
    let kind = recorded.event.kind.as_str();
    printable(kind.strip_prefix("drover.v1.").unwrap_or(kind)).into_owned()
}

fn detail(recorded: &Recorded) -> String {
    let detail = match recorded.aggregate() {
        Aggregate::Campaign => recorded.event.decode_campaign().map(|event| of_campaign(&event)),
        Aggregate::Migration(_) => {
            recorded.event.decode_migration().map(|event| of_migration(&event))
        }
    };
    detail.unwrap_or_else(|error| printable(&format!("cannot be decoded: {error}")).into_owned())
}

fn of_migration(event: &MigrationEvent) -> String {
    match event {
        MigrationEvent::MigrationPlanned(planned) => {
            let mut text = format!(
                "{} from {} to {}",
                printable(&planned.database),
                printable(&planned.source),
                printable(&planned.destination)
            );
            if !planned.wave.is_empty() {
                text.push_str(&format!(", wave {}", printable(&planned.wave)));
            }
            for host_name in &planned.host_names {
                text.push_str(&format!(", {}", printable(host_name)));
            }
            if !planned.brings_back.is_empty() {
                text.push_str(&format!(", brings back {}", printable(&planned.brings_back)));
            }
            text
        }
        MigrationEvent::MigrationAdmitted(admitted) => {
            let what = if admitted.rehearsal { ", a rehearsal" } else { "" };
            format!("run {}{what}", admitted.run)
        }
        MigrationEvent::SourceFrozen(frozen) => {
            let mut text = format!(
                "{}, {} ended",
                count(frozen.accounts, "account"),
                count(frozen.sessions_ended, "session")
            );
            if frozen.scheduled_events_stopped > 0 {
                let events = count(frozen.scheduled_events_stopped, "scheduled event");
                text.push_str(&format!(", {events} stopped"));
            }
            text.push_str(&point(frozen.consistency_point.as_ref()));
            if frozen.thaw_at_unix_ms > 0 {
                let watchdog = if frozen.watchdog_armed { "" } else { ", without a watchdog" };
                let until = time(frozen.thaw_at_unix_ms);
                text.push_str(&format!(", until {until}{watchdog}"));
            }
            text
        }
        MigrationEvent::DumpStored(dump) => format!(
            "{}, {}, {}",
            count(dump.tables, "table"),
            count(dump.rows, "row"),
            count(dump.dump_bytes, "byte")
        ),
        MigrationEvent::ImportCompleted(import) => {
            format!("{}, {}", count(import.tables, "table"), count(import.dump_bytes, "byte"))
        }
        MigrationEvent::CopyVerified(copy) => {
            format!("{}, {} equal", count(copy.tables, "table"), count(copy.rows, "row"))
        }
        MigrationEvent::SourceDisarmed(disarmed) => {
            format!("at {}", time(disarmed.disarmed_at_unix_ms))
        }
        MigrationEvent::DestinationOpened(opened) => {
            format!("{}, at {}", count(opened.accounts, "account"), time(opened.opened_at_unix_ms))
        }
        MigrationEvent::DnsSwitched(switched) => changes(&switched.changes),
        MigrationEvent::SourceRetired(retired) => count(retired.accounts, "account"),
        MigrationEvent::DumpPublished(published) => {
            format!("until {}", time(published.expires_at_unix_ms))
        }
        MigrationEvent::CustomerNotified(notified) => {
            let channels = notified.channels.join(" and ");
            if channels.is_empty() {
                "nobody to tell".to_owned()
            } else {
                format!("by {}", printable(&channels))
            }
        }
        MigrationEvent::MigrationCompleted(_)
        | MigrationEvent::MigrationRehearsed(_)
        | MigrationEvent::DumpExpired(_)
        | MigrationEvent::MigrationRolledBack(_)
        | MigrationEvent::DestinationDropped(_) => String::new(),
        MigrationEvent::StepFailed(failed) => failure(failed),
        MigrationEvent::MigrationParked(parked) => {
            let undone = if parked.undone { "undone" } else { "not undone" };
            format!("{undone}; {}", step_and_text(parked.step(), &parked.code, &parked.message))
        }
        MigrationEvent::MigrationRecalled(recalled) => {
            format!("at {}, {}", step_name(recalled.step()), by(&recalled.by, &recalled.reason))
        }
        MigrationEvent::MigrationDeferred(deferred) if deferred.not_before_unix_ms == 0 => {
            format!("{} {}", printable(&deferred.code), printable(&deferred.message))
        }
        MigrationEvent::MigrationDeferred(deferred) => format!(
            "deferral {}, until {}; {}",
            deferred.deferral,
            time(deferred.not_before_unix_ms),
            step_and_text(deferred.step(), &deferred.code, &deferred.message)
        ),
        MigrationEvent::MigrationChecked(checked) => of_check(checked),
        MigrationEvent::RetryRequested(retry) => format!("by {}", printable(&retry.by)),
        MigrationEvent::RollbackRequested(rollback) => {
            let said = by(&rollback.by, &rollback.reason);
            let lost = "; the destination's writes may be lost";
            if rollback.discard_writes { format!("{said}{lost}") } else { said }
        }
        MigrationEvent::BringBackRequested(back) => format!(
            "by migration {} of campaign {}, {}",
            printable(&back.migration_id),
            printable(&back.campaign),
            by(&back.by, &back.reason)
        ),
        MigrationEvent::DnsReverted(reverted) => changes(&reverted.changes),
        MigrationEvent::DestinationClosed(closed) => count(closed.accounts, "account"),
        MigrationEvent::SourceThawed(thawed) if thawed.thawed_at_unix_ms == 0 => {
            "was not frozen".to_owned()
        }
        MigrationEvent::SourceThawed(thawed) => {
            format!("{}, at {}", count(thawed.accounts, "account"), time(thawed.thawed_at_unix_ms))
        }
    }
}

fn of_check(checked: &MigrationChecked) -> String {
    let said = if checked.ignored {
        "findings ignored".to_owned()
    } else if checked.blocking_codes.is_empty() {
        "nothing blocks it".to_owned()
    } else {
        format!("held back: {}", checked.blocking_codes.join(" "))
    };
    printable(&format!("{said}, by {}", checked.by)).into_owned()
}

fn of_campaign(event: &CampaignEvent) -> String {
    match event {
        CampaignEvent::CampaignCreated(created) => {
            let policy = created.policy.clone().unwrap_or_default();
            let retry = policy.retry.unwrap_or_default();
            format!(
                "at most {} a step, {} for open sessions, {} without writes, dumps kept for {}",
                count(retry.attempts_max, "attempt"),
                seconds(f64::from(policy.session_grace_ms) / 1000.0),
                seconds(f64::from(max_frozen_ms(Some(&policy))) / 1000.0),
                count(policy.dump_retention_days, "day")
            )
        }
        CampaignEvent::CampaignStarted(started) => {
            let slots = count(started.in_flight_max, "slot");
            format!("{slots}, by {}", printable(&started.by))
        }
        CampaignEvent::ConcurrencyChanged(changed) => {
            let slots = count(changed.in_flight_max, "slot");
            format!("{slots}, {}", by(&changed.by, &changed.reason))
        }
        CampaignEvent::LimitsChanged(changed) => {
            let limits = changed.limits.clone().unwrap_or_default();
            let words = printable(&words(&limits)).into_owned();
            format!("{words}, {}", by(&changed.by, &changed.reason))
        }
        CampaignEvent::CampaignPaused(paused) if paused.recalls => {
            format!("what is under way is undone, {}", by(&paused.by, &paused.reason))
        }
        CampaignEvent::CampaignPaused(paused) => by(&paused.by, &paused.reason),
        CampaignEvent::CampaignResumed(resumed) => format!("by {}", printable(&resumed.by)),
        CampaignEvent::HostQuarantined(quarantined) => {
            format!("{}: {}", printable(&quarantined.host), printable(&quarantined.reason))
        }
        CampaignEvent::HostReleased(released) => {
            format!("{}, by {}", printable(&released.host), printable(&released.by))
        }
        CampaignEvent::HostSlotsChanged(changed) => {
            let hosts: Vec<String> = changed.hosts.iter().map(host_slots).collect();
            hosts.join("; ")
        }
        CampaignEvent::PreflightCompleted(completed) => {
            let codes: Vec<String> = completed
                .findings
                .iter()
                .map(|finding| format!("{} {}", finding.migrations, finding.code))
                .collect();
            let found =
                if codes.is_empty() { "nothing found".to_owned() } else { codes.join(", ") };
            let (looked, blocked) = (count(completed.migrations, "migration"), completed.blocked);
            format!("{looked}, {blocked} blocked; {found}; by {}", printable(&completed.by))
        }
        CampaignEvent::CampaignCompleted(completed) => {
            format!("completed {}, rolled back {}", completed.completed, completed.rolled_back)
        }
        CampaignEvent::LogRepaired(repaired) => format!(
            "the log ended at {}, revision {} had been given out, by {}",
            repaired.found_sequence,
            repaired.seen_revision,
            printable(&repaired.by)
        ),
    }
}

fn host_slots(slots: &HostSlots) -> String {
    let many = match slots.slots_max {
        0 => "all of its slots".to_owned(),
        some => count(some, "slot"),
    };
    format!("{}: {many}, {}", printable(&slots.host), printable(&slots.reason))
}

fn point(point: Option<&ConsistencyPoint>) -> String {
    match point {
        Some(point) if !point.gtid.is_empty() => format!(", at gtid {}", printable(&point.gtid)),
        Some(point) if !point.binlog_file.is_empty() => {
            format!(", at {}:{}", printable(&point.binlog_file), point.binlog_position)
        }
        Some(point) => format!(", at {}, without a binary log", time(point.at_unix_ms)),
        None => String::new(),
    }
}

fn changes(changes: &[DnsChange]) -> String {
    let change = |change: &DnsChange| {
        let text = format!(
            "{} {} {} -> {}",
            change.host_name,
            change.record_type,
            change.old_values.join(" "),
            change.new_values.join(" ")
        );
        printable(&text).into_owned()
    };
    if changes.is_empty() {
        return "no host names".to_owned();
    }
    changes.iter().map(change).collect::<Vec<_>>().join(", ")
}

fn failure(failed: &StepFailed) -> String {
    let next = match failed.next_attempt_at_unix_ms {
        0 => "not tried again".to_owned(),
        at => format!("again at {}", time(at)),
    };
    let what = step_and_text(failed.step(), &failed.code, &failed.message);
    let place = match failed.host.as_str() {
        "" => String::new(),
        host => format!(" at {}", printable(host)),
    };
    format!("attempt {}{place}, {next}; {what}", failed.attempt)
}

fn step_and_text(step: Step, code: &str, message: &str) -> String {
    format!("{}: {} {}", step_name(step), printable(code), printable(message))
}

fn by(who: &str, reason: &str) -> String {
    if reason.is_empty() {
        format!("by {}", printable(who))
    } else {
        format!("by {}: {}", printable(who), printable(reason))
    }
}
