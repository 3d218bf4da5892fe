//! Connections that have done a step and are kept for the next one, whosever database that is for: to
//! make one costs server and client as much as several small statements, and a migration has a dozen
//! sessions.
//!
//! 1. Only a session whose step came to its end is kept. One on which something failed, or whose step
//!    was dropped half-way, is closed, and with it go its locks.
//! 2. Before it is kept the server resets it: locks, transaction, settings, temporary tables are gone
//!    when that is answered. What a reset leaves is the selected database, so a session that has
//!    selected one logs in again on its connection instead, which takes that away too; one that has,
//!    and did not say so, is not used again.
//! 3. It begins as a new one does, with the same question and the same settings. One that does not
//!    answer that is closed, and a new one made: nothing of a step was said on it yet.
//! 4. It is used with the password that it was made with only, and in the runtime that it was made in,
//!    whose end is its own; it ends [`IDLE_S_MAX`] after its last
//!    step, and is not kept longer than [`AGE_S_MAX`] in any case, as what else it was made with
//!    (a certificate, Drover's own rights) may have been changed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use mysql_async::{Conn, Opts};
use tokio::runtime::{Handle, Id};

/// How many connections to a server are kept: as many as its slots usually are.
const KEPT_MAX: usize = 16;

/// How long one is kept without being used, in seconds: a few steps' time.
const IDLE_S_MAX: u64 = 5;

/// How long one is used again after it was made, in seconds.
const AGE_S_MAX: u64 = 60;

/// The connections to a server that are kept.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// The one that was used last comes last.
    kept: Vec<Kept>,
    /// The runtime in which somebody ends those that are idle.
    tended: Option<Id>,
}

#[derive(Debug)]
struct Kept {
    conn: Conn,
    made: Instant,
    used: Instant,
    runtime: Id,
}

impl Keep {
    /// The one that was used last, and when it was made.
    pub(crate) fn take(&self, opts: &Opts) -> Option<(Conn, Instant)> {
        // Those that are not good any more end when they are dropped, which is not under the lock.
        let mut ending = Vec::new();
        let mut inside = self.inside();
        let taken = loop {
            let Some(kept) = inside.kept.pop() else { break None };
            let is_here = kept.runtime == Handle::current().id();
            if is_here && !kept.is_over() && kept.conn.opts().pass() == opts.pass() {
                break Some((kept.conn, kept.made));
            }
            ending.push(kept);
        };
        drop(inside);
        taken
    }

    /// Keeps one that is as a server makes it: new, or reset.
    pub(crate) fn put(self: &Arc<Self>, conn: Conn, made: Instant) {
        let runtime = Handle::current().id();
        let kept = Kept { conn, made, used: Instant::now(), runtime };
        let mut inside = self.inside();
        if kept.is_over() || inside.kept.len() >= KEPT_MAX {
            drop(inside);
            return;
        }
        inside.kept.push(kept);
        if inside.tended != Some(runtime) {
            inside.tended = Some(runtime);
            tokio::spawn(tend(Arc::downgrade(self)));
        }
    }

    /// Ends those that are idle for long; whether there are others to be seen to here.
    fn end_idle(&self) -> bool {
        let mut inside = self.inside();
        let (over, kept) = inside.kept.drain(..).partition(Kept::is_over);
        inside.kept = kept;
        let mine = Handle::current().id();
        if inside.kept.is_empty() && inside.tended == Some(mine) {
            inside.tended = None;
        }
        let goes_on = inside.tended == Some(mine);
        drop(inside);
        let over: Vec<Kept> = over;
        drop(over);
        goes_on
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_over(&self) -> bool {
        self.used.elapsed() > Duration::from_secs(IDLE_S_MAX)
            || self.made.elapsed() > Duration::from_secs(AGE_S_MAX)
    }
}

/// Ends what is idle, as long as something is kept and somebody knows the server.
async fn tend(keep: Weak<Keep>) {
    loop {
        tokio::time::sleep(Duration::from_secs(IDLE_S_MAX)).await;
        match keep.upgrade() {
            Some(keep) if keep.end_idle() => {}
            Some(_) | None => return,
        }
    }
}
