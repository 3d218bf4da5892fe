//! The mark: what Drover did to a host name, written into the zone by the message that did it.
//!
//! One TXT record for each migration, at `_drover.<host name>`:
//!
//! ```text
//! drover v=1 migration=<uuid> state=switched run=1 revision=12 at=1700000000
//!   change=A,300,60,192.0.2.1+192.0.2.2,198.51.100.7
//! ```
//!
//! (in one line). `change` is the type, the old and the new TTL in seconds, the old and the new
//! values; one for each type that was switched, none where nothing was. Fields are only ever
//! added: a reader skips those that it does not know. Others may write into the zone too, so that
//! whatever is not exactly a mark is nobody's, and left alone.

use std::fmt;

use drover_schemas::MigrationId;
use hickory_proto::rr::rdata::TXT;

use crate::records::{Change, Kind, Rrset, Values};

const HEAD: &str = "drover v=1";
/// A character-string of a TXT record (RFC 1035, 3.3.14), in bytes.
const STRING_BYTES_MAX: usize = 255;
/// What is read at most; a mark of the most addresses has some 2,000 bytes.
const MARK_BYTES_MAX: usize = 8 << 10;

/// What was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The host name points to the destination.
    Switched,
    /// It does not; an older switch is void.
    Reverted,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Reverted => "reverted",
        }
    }
}

/// What one migration did to one host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whose mark it is.
    pub migration: MigrationId,
    /// What was done last.
    pub state: State,
    /// The run in which it was done.
    pub run: u32,
    /// The revision of the highest order that acted.
    pub revision: u64,
    /// When, by the clock of who wrote it.
    pub at_unix_s: u64,
    /// What the switch changed; of a reverted one: what was put back.
    pub changes: Vec<Change>,
}

impl Mark {
    /// Reads a mark; none where it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MARK_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?.strip_prefix(HEAD)?;
        let (mut migration, mut state, mut run, mut revision, mut at) =
            (None, None, None, None, None);
        let mut changes = Vec::new();
        for field in text.strip_prefix(' ')?.split(' ') {
            let (key, value) = field.split_once('=')?;
            match key {
                "migration" => put(&mut migration, value.parse().ok())?,
                "state" => {
                    let known = [State::Switched, State::Reverted];
                    put(&mut state, known.into_iter().find(|it| it.name() == value))?;
                }
                "run" => put(&mut run, value.parse().ok())?,
                "revision" => put(&mut revision, value.parse().ok())?,
                "at" => put(&mut at, value.parse().ok())?,
                "change" => changes.push(parse_change(value)?),
                _ => {}
            }
        }
        Some(Self {
            migration: migration?,
            state: state?,
            run: run?,
            revision: revision?,
            at_unix_s: at?,
            changes,
        })
    }

    pub(crate) fn of_txt(txt: &TXT) -> Option<Self> {
        Self::parse(&txt.txt_data.concat())
    }

    pub(crate) fn txt(&self) -> TXT {
        TXT::from_bytes(self.to_string().as_bytes().chunks(STRING_BYTES_MAX).collect())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{HEAD} migration={} state={} run={} revision={} at={}",
            self.migration,
            self.state.name(),
            self.run,
            self.revision,
            self.at_unix_s
        )?;
        for change in &self.changes {
            write!(f, " change={}", change_text(change))?;
        }
        Ok(())
    }
}

/// A field that stands twice makes it no mark.
fn put<T>(slot: &mut Option<T>, value: Option<T>) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(value?);
    Some(())
}

fn change_text(Change { old, new }: &Change) -> String {
    format!(
        "{},{},{},{},{}",
        old.values.kind(),
        old.ttl_seconds,
        new.ttl_seconds,
        old.values.texts().join("+"),
        new.values.texts().join("+")
    )
}

/// Only the text that is written for a change is read as it: a name without its final dot may
/// have lost more than that.
fn parse_change(text: &str) -> Option<Change> {
    let mut parts = text.split(',');
    let kind: Kind = parts.next()?.parse().ok()?;
    let (old_ttl, new_ttl) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let mut rrset = |ttl_seconds| {
        Some(Rrset { values: Values::parse(kind, parts.next()?.split('+'))?, ttl_seconds })
    };
    let change = Change { old: rrset(old_ttl)?, new: rrset(new_ttl)? };
    (parts.next().is_none() && change_text(&change) == text).then_some(change)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn pair(kind: Kind) -> BoxedStrategy<(Values, Values)> {
        fn both<T: fmt::Debug>(
            values: impl Strategy<Value = T> + Clone,
        ) -> impl Strategy<Value = (T, T)> {
            (values.clone(), values)
        }
        let v4 = prop::collection::btree_set(any::<Ipv4Addr>(), 1..=16).prop_map(Values::A);
        let v6 = prop::collection::btree_set(any::<Ipv6Addr>(), 1..=16).prop_map(Values::Aaaa);
        let name = "[a-zA-Z0-9_]{1,30}(\\.[a-z0-9]{1,30}){0,6}"
            .prop_filter_map("a name", |it| Values::parse(Kind::Cname, [it.as_str()]));
        match kind {
            Kind::A => both(v4.boxed()).boxed(),
            Kind::Aaaa => both(v6.boxed()).boxed(),
            Kind::Cname => both(name.boxed()).boxed(),
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        let kind = prop::sample::select(vec![Kind::Cname, Kind::A, Kind::Aaaa]);
        (kind.prop_flat_map(pair), any::<u32>(), any::<u32>()).prop_map(|((old, new), a, b)| {
            Change {
                old: Rrset { values: old, ttl_seconds: a },
                new: Rrset { values: new, ttl_seconds: b },
            }
        })
    }

    prop_compose! {
        fn mark()(
            id: u128, reverted: bool, run: u32, revision: u64, at: u64,
            changes in prop::collection::vec(change(), 0..=2),
        ) -> Mark {
            Mark {
                migration: uuid::Uuid::from_u128(id).to_string().parse().unwrap(),
                state: if reverted { State::Reverted } else { State::Switched },
                run, revision, at_unix_s: at, changes,
            }
        }
    }

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_was_written(mark in mark()) {
            prop_assert_eq!(Mark::of_txt(&mark.txt()), Some(mark.clone()));
            let newer = format!("{mark} note=x");
            prop_assert_eq!(Mark::parse(newer.as_bytes()), Some(mark));
        }

        #[test]
        fn what_others_wrote_is_read_without_harm(text: Vec<u8>, tail: String) {
            prop_assert_eq!(Mark::parse(&text), None);
            let _ = Mark::parse(format!("{HEAD} {tail}").as_bytes());
        }

        #[test]
        fn a_cut_mark_lacks_its_end(mark in mark(), at: prop::sample::Index) {
            let text = mark.to_string();
            let cut = &text.as_bytes()[..at.index(text.len())];
            prop_assert!(Mark::parse(cut) != Some(mark));
        }
    }

    #[test]
    fn a_mark_looks_as_the_page_says() {
        let text = "drover v=1 migration=0d807e80-4d69-4772-8174-696f6e732121 state=switched run=1 \
                    revision=12 at=1700000000 change=A,300,60,192.0.2.1+192.0.2.2,198.51.100.7";
        let mark = Mark::parse(text.as_bytes()).unwrap();
        assert_eq!(mark.to_string(), text);
        assert_eq!(mark.changes[0].old.values.texts(), ["192.0.2.1", "192.0.2.2"]);
        for wrong in [
            text.replace("v=1", "v=2"),
            text.replace("run=1", "run=1 run=1"),
            text.replace("state=switched", "state=other"),
            text.replace(",198.51.100.7", ""),
            text.replace("198.51.100.7", "2001:db8::1"),
            text.replace("192.0.2.1+192.0.2.2", ""),
            text.replace("revision=12 ", ""),
        ] {
            assert_eq!(Mark::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
