//! The lines of one wave and priority: one for each source.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use drover_schemas::{MigrationId, ServerName};

/// How far a line is searched for a migration whose destination has a slot. Bounds the cost of
/// an admission where a source feeds many destinations and the first in line is full.
const LOOK_AHEAD: usize = 16;

/// How far a line is searched for one that leaves it unasked. Whom another orchestrator has admitted
/// stands near the front, unless many before it wait for a destination that was set aside.
const LEAVING_AHEAD: usize = 4 * LOOK_AHEAD;

/// What a line asks of the hosts.
pub(crate) trait Hosts {
    /// Nothing is admitted from or to it.
    fn is_set_aside(&self, host: &ServerName) -> bool;
    /// One more may go from it.
    fn has_source_slot(&self, host: &ServerName) -> bool;
    /// One more may come to it.
    fn has_destination_slot(&self, host: &ServerName) -> bool;
}

/// One that waits.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) id: MigrationId,
    pub(crate) destination: ServerName,
    /// Its size, in bytes; 0: not known.
    pub(crate) bytes: u64,
}

/// The lines.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: BTreeMap<ServerName, VecDeque<Queued>>,
    turns: VecDeque<ServerName>,
    /// Those whose destination is set aside: out of the others' way until that changes.
    shelf: Vec<(ServerName, Queued)>,
}

impl Queue {
    /// Puts one at the end of its source's line.
    pub(crate) fn push(&mut self, source: &ServerName, queued: Queued) {
        let line = match self.lines.get_mut(source) {
            Some(line) => line,
            None => self.lines.entry(source.clone()).or_default(),
        };
        if line.is_empty() {
            self.turns.push_back(source.clone());
        }
        line.push_back(queued);
    }

    /// Puts those whose destination was set aside in line again.
    pub(crate) fn unshelve(&mut self) {
        for (source, queued) in std::mem::take(&mut self.shelf) {
            self.push(&source, queued);
        }
    }

    /// Takes one out of its source's line, where it stands near to the front.
    pub(crate) fn leave(&mut self, source: &ServerName, id: MigrationId) {
        let Some(line) = self.lines.get_mut(source) else { return };
        let at = line.iter().take(LEAVING_AHEAD).position(|queued| queued.id == id);
        if at.and_then(|at| line.remove(at)).is_some() && line.is_empty() {
            self.turns.retain(|turn| turn != source);
        }
    }

    /// Who waits, by source; not those whose destination is set aside.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&ServerName, &VecDeque<Queued>)> {
        self.lines.iter()
    }

    /// Nobody is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.shelf.is_empty() && self.lines.values().all(VecDeque::is_empty)
    }

    /// Whether somebody waits for a slot, and not for a host that was set aside.
    pub(crate) fn waits(&self, set_aside: &BTreeSet<ServerName>) -> bool {
        self.lines.iter().any(|(source, line)| !line.is_empty() && !set_aside.contains(source))
    }

    /// The next one with a slot at both ends: of the longest line that has one, or of the line
    /// whose turn it is.
    pub(crate) fn next(
        &mut self,
        hosts: &impl Hosts,
        longest_first: bool,
    ) -> Option<(ServerName, Queued)> {
        if longest_first {
            let open = self.lines.iter().filter(|(source, line)| {
                !line.is_empty() && !hosts.is_set_aside(source) && hosts.has_source_slot(source)
            });
            let longest = open.max_by_key(|(_, line)| line.len()).map(|(source, _)| source.clone());
            if let Some(source) = longest
                && let Some(queued) = self.of(&source, hosts)
            {
                // Its turn comes round as before.
                if self.lines.get(&source).is_some_and(VecDeque::is_empty) {
                    self.turns.retain(|turn| *turn != source);
                }
                return Some((source, queued));
            }
        }
        for _ in 0..self.turns.len() {
            let source = self.turns.pop_front()?;
            let queued = if !hosts.is_set_aside(&source) && hosts.has_source_slot(&source) {
                self.of(&source, hosts)
            } else {
                None
            };
            if self.lines.get(&source).is_some_and(|line| !line.is_empty()) {
                self.turns.push_back(source.clone());
            }
            if let Some(queued) = queued {
                return Some((source, queued));
            }
        }
        None
    }

    /// The first of a line whose destination has a slot.
    fn of(&mut self, source: &ServerName, hosts: &impl Hosts) -> Option<Queued> {
        let line = self.lines.get_mut(source)?;
        let mut at = 0;
        while at < line.len().min(LOOK_AHEAD) {
            let destination = &line.get(at)?.destination;
            if hosts.is_set_aside(destination) {
                self.shelf.extend(line.remove(at).map(|queued| (source.clone(), queued)));
            } else if hosts.has_destination_slot(destination) {
                return line.remove(at);
            } else {
                at += 1;
            }
        }
        None
    }
}
