//! What a server says of its own settings.

use crate::{Error, Session, preflight::facts::Settings};

/// `sql_mode`, strict mode, page, packet, scheduler.
type Said = (String, bool, u64, u64, String);

pub(crate) async fn settings(session: &mut Session) -> Result<Settings, Error> {
    let sql = "SELECT @@GLOBAL.sql_mode, @@GLOBAL.innodb_strict_mode, @@GLOBAL.innodb_page_size, \
               @@GLOBAL.max_allowed_packet, @@GLOBAL.event_scheduler";
    let (sql_mode, strict, page_bytes, packet_bytes, scheduler): Said =
        session.one("reading the settings", sql).await?;
    let about = session.about();
    Ok(Settings {
        name: session.server().name().to_string(),
        flavour: about.flavour,
        version: about.version,
        lower_case_table_names: about.lower_case_table_names,
        sql_mode: sql_mode.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
        strict,
        page_bytes,
        packet_bytes,
        scheduler_runs: scheduler == "ON",
    })
}

/// How far the server's clock is ahead of this machine's, in milliseconds; the time that the
/// question took is not counted against it.
pub(crate) async fn clock_ahead_ms(session: &mut Session) -> Result<i64, Error> {
    let before = unix_ms();
    let there = session.now_unix_ms().await?;
    let after = unix_ms();
    Ok(if there < before { there - before } else { (there - after).max(0) })
}

fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
