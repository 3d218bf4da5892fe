//! What will fail, or be different, when databases of a source move to a destination: a pure
//! function of what was read from both.

use std::collections::BTreeSet;

use drover_schemas::Code;

use crate::{
    Definers, Flavour,
    definers::stands_for,
    ident::ident,
    normal::normalise,
    preflight::shape::VERSIONED,
    preflight::{
        destination::{self, Destination},
        facts::{Database, Finding, Largest, Places, Settings, Wide},
        source::{self, Chunk, Source, of_server},
    },
    privileges::Grantee,
    successors::OWNER,
};

/// `sql_mode`s under which a zero date is refused.
const NO_ZERO_DATES: [&str; 2] = ["NO_ZERO_DATE", "NO_ZERO_IN_DATE"];

/// The history of a system-versioned table can be written to a dump from this version on.
const HISTORY_READ_SINCE: (u16, u16, u16) = (10, 11, 0);

/// What is left of half a page for a row, after InnoDB's own.
const PAGE_OVERHEAD_BYTES: u64 = 66;

/// The findings about these databases, were they to move there; and those about the two servers. Of
/// those that are brought `back` the destination has the name, and the accounts' roles and grants,
/// already: whether they are the retired database's own, its step looks.
pub fn judge(
    source: &Source,
    chunk: &Chunk,
    destination: &Destination,
    (policy, back): (&Definers, &BTreeSet<String>),
) -> Vec<Finding> {
    let (Some(from), Some(to)) = (&source.known, &destination.known) else { return Vec::new() };
    let mut findings = servers(&from.settings, &to.settings);
    for (name, database) in &chunk.databases {
        let comes_back = back.contains(name.as_str());
        let findings = &mut findings;
        let mut judging = Judging { name, database, from, to, policy, comes_back, findings };
        judging.all();
    }
    findings
}

/// What concerns everything that moves between two servers.
fn servers(from: &Settings, to: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pair = format!("{} to {}", from.name, to.name);
    if from.flavour != to.flavour {
        let what = format!("{pair}: {:?} to {:?}", from.flavour, to.flavour);
        findings.push(of_server(Code::KindDiffers, true, what));
    } else if (to.version.0, to.version.1) < (from.version.0, from.version.1) {
        let text = |s: &Settings| format!("{}.{}.{}", s.version.0, s.version.1, s.version.2);
        let what = format!("{pair}: {} to {}", text(from), text(to));
        findings.push(of_server(Code::VersionOlder, false, what));
    }
    if from.sql_mode != to.sql_mode {
        let list = |a: &Settings, b: &Settings| {
            let only: Vec<&str> = a.sql_mode.difference(&b.sql_mode).map(String::as_str).collect();
            if only.is_empty() { "-".to_owned() } else { only.join(",") }
        };
        let what = format!(
            "{pair}: sql_mode, only at the source: {}; only at the destination: {}",
            list(from, to),
            list(to, from)
        );
        findings.push(of_server(Code::SettingsDiffer, false, what));
    }
    if from.lower_case_table_names != 0 && to.lower_case_table_names == 0 {
        let what = format!("{pair}: the source folds names, the destination does not");
        findings.push(of_server(Code::NamesFolded, false, what));
    }
    findings
}

struct Judging<'a> {
    name: &'a str,
    database: &'a Database,
    from: &'a source::Known,
    to: &'a destination::Known,
    policy: &'a Definers,
    comes_back: bool,
    findings: &'a mut Vec<Finding>,
}

impl Judging<'_> {
    fn all(&mut self) {
        if !self.comes_back {
            self.name_free();
            self.held_by_others();
        }
        self.shape();
        self.sizes();
        self.names_folded();
        self.accounts();
        self.definers();
        self.references();
    }

    fn tell(&mut self, code: Code, blocking: bool, what: &str) {
        let (from, to) = (&self.from.settings.name, &self.to.settings.name);
        let what = format!("{from} to {to}: {}: {what}", ident(self.name));
        self.findings.push(Finding { code, blocking, database: Some(self.name.to_owned()), what });
    }

    fn tell_places(&mut self, code: Code, kind: &str, name: &str, places: &Places) {
        self.tell(code, true, &format!("{kind} {name}: {}", places.text()));
    }

    fn name_free(&mut self) {
        let folded = self.to.settings.lower_case_table_names != 0;
        let same = |there: &String| {
            there == self.name || folded && there.to_lowercase() == self.name.to_lowercase()
        };
        if self.to.databases.iter().any(same) {
            self.tell(Code::NameTaken, true, "there is a database of this name");
        }
    }

    fn held_by_others(&mut self) {
        let holders = self.to.grants.on(self.name, &self.to.logins);
        let not_made = |(user, host): (&String, &String)| {
            !self.to.made.contains(&(user.clone(), host.clone()))
        };
        let early = holders.iter().find(|grantee| not_made((&grantee.user, &grantee.host)));
        if let Some(grantee) = early {
            let what = format!("{} has a grant that covers its name", grantee.sql());
            self.tell(Code::ReachableEarly, true, &what);
        }
    }

    fn shape(&mut self) {
        let (database, to) = (self.database, self.to);
        for (engine, places) in &database.engines {
            if !to.engines.contains(&engine.to_uppercase()) {
                self.tell_places(Code::EngineMissing, "engine", engine, places);
            }
        }
        for (collation, places) in &database.collations {
            if !to.collations.contains(&normalise(collation)) {
                self.tell_places(Code::CollationMissing, "collation", collation, places);
            }
        }
        for (kind, places) in &database.types {
            if !has_type(&to.settings, kind) {
                self.tell_places(Code::TypeMissing, "type", kind, places);
            }
        }
        for (kind, places) in &database.own_kinds {
            let settings = &self.from.settings;
            if *kind == VERSIONED && settings.version < HISTORY_READ_SINCE {
                self.tell_places(Code::DumpRefused, "before MariaDB 10.11", kind, places);
            }
            if to.settings.flavour == Flavour::MySql {
                self.tell_places(Code::KindOfObjectMissing, "kind", kind, places);
            }
        }
        let refuses = |settings: &Settings| {
            NO_ZERO_DATES.iter().any(|mode| settings.sql_mode.contains(*mode))
        };
        if let Some(places) = &database.zero_dates
            && refuses(&to.settings)
            && !refuses(&self.from.settings)
        {
            self.tell(Code::ZeroDates, false, &format!("a default is zero: {}", places.text()));
        }
    }

    fn sizes(&mut self) {
        let (database, to) = (self.database, &self.to.settings);
        let row_bytes_max = to.page_bytes / 2 - PAGE_OVERHEAD_BYTES;
        for (table, bytes) in &database.rows {
            // The dump is loaded without the strict mode; a smaller page refuses it all the same.
            let smaller_page = to.page_bytes < self.from.settings.page_bytes;
            if (to.strict || smaller_page) && *bytes > row_bytes_max {
                let what = format!("table {}: about {bytes} bytes", ident(table));
                self.tell(Code::RowTooLarge, smaller_page, &what);
            }
        }
        for (table, wide) in &database.wide {
            self.packet(&ident(table), wide);
        }
    }

    fn packet(&mut self, table: &str, wide: &Wide) {
        let packet_bytes = self.to.settings.packet_bytes;
        let Some(Largest { value_bytes, whole_bytes }) = wide.largest else {
            if wide.bytes >= packet_bytes {
                let what = format!("table {table}: its largest value could not be told in time");
                self.tell(Code::PacketTooSmall, false, &what);
            }
            return;
        };
        // It goes there in pieces, which the destination joins.
        if value_bytes > packet_bytes {
            let what = format!("table {table}: a value has {value_bytes} bytes");
            self.tell(Code::PacketTooSmall, true, &what);
        }
        if whole_bytes >= packet_bytes {
            let what = format!("table {table}: a row has {whole_bytes} bytes");
            self.tell(Code::PacketTooSmall, true, &what);
        } else if whole_bytes.saturating_mul(2) >= packet_bytes {
            let what =
                format!("table {table}: a row has {whole_bytes} bytes, twice that if binary");
            self.tell(Code::PacketTooSmall, false, &what);
        }
    }

    fn names_folded(&mut self) {
        let folds = self.from.settings.lower_case_table_names == 0
            && self.to.settings.lower_case_table_names != 0;
        if !folds {
            return;
        }
        if self.name.to_lowercase() != self.name {
            self.tell(Code::NamesFolded, true, "the database's own name");
        } else if let Some(places) = &self.database.upper_case {
            self.tell(Code::NamesFolded, true, &format!("table {}", places.text()));
        }
    }

    fn accounts(&mut self) {
        let (database, from, to) = (self.database, self.from, self.to);
        for grantee in database.grantees.iter().filter(|grantee| !grantee.is_public()) {
            let Some(login) = from.logins.get(grantee) else { continue };
            let name = grantee.sql();
            for plugin in login.plugins.iter().filter(|plugin| !to.plugins.contains(*plugin)) {
                self.tell(Code::PluginMissing, true, &format!("{name}: plugin {plugin}"));
            }
            let made = to.made.contains(&(grantee.user.clone(), grantee.host.clone()));
            let taken = match to.logins.get(grantee) {
                None => false,
                // A role has no password: it is the same when Drover made it.
                Some(_) if grantee.role => !made && !self.comes_back,
                // The retired database's own gets out of the way where it holds nothing else.
                Some(_) if self.comes_back && !to.grants.has_any(grantee) => false,
                Some(there) => there.plugins != login.plugins || there.secret != login.secret,
            };
            if taken {
                self.tell(Code::AccountTaken, true, &name);
            }
        }
    }

    /// A definer that neither moves with the database nor is at the destination, and one that the
    /// policy puts another in the place of.
    fn definers(&mut self) {
        let (database, to) = (self.database, self.to);
        for (definer, places) in &database.definers {
            let (user, host) = definer.rsplit_once('@').unwrap_or((definer, ""));
            let stands = |other: &Grantee| other.user == user && stands_for(&other.host, host);
            let known = database.grantees.iter().chain(to.logins.keys()).any(stands);
            let becomes = match self.policy {
                Definers::Map(map) => map.get(definer).map(String::as_str),
                Definers::Replace(by) if !known && by == OWNER => {
                    Some("the account that holds the most on the database")
                }
                Definers::Replace(by) if !known => Some(by.as_str()),
                Definers::Keep | Definers::Replace(_) => None,
            };
            let what = format!("definer {definer}: {}", places.text());
            match becomes {
                Some(becomes) => {
                    self.tell(Code::DefinerMissing, false, &format!("{what}, becomes {becomes}"));
                }
                None if known => {}
                None => self.tell(Code::DefinerMissing, false, &what),
            }
        }
    }

    fn references(&mut self) {
        let (database, to) = (self.database, self.to);
        for (other, (places, must_exist)) in &database.references {
            let blocking = *must_exist && !to.databases.contains(other);
            let what = format!("{} names {}", places.text(), ident(other));
            self.tell(Code::ReferenceElsewhere, blocking, &what);
        }
    }
}

/// Whether a server knows a column type: all know what is not named here.
fn has_type(server: &Settings, kind: &str) -> bool {
    let since = match (server.flavour, kind) {
        (Flavour::MariaDb, "inet6") => (10, 5, 0),
        (Flavour::MariaDb, "uuid") => (10, 7, 0),
        (Flavour::MariaDb, "inet4") => (10, 10, 0),
        (Flavour::MariaDb, "vector") => (11, 7, 0),
        (Flavour::MySql, "vector") => (9, 0, 0),
        (Flavour::MySql, "inet6" | "inet4" | "uuid") => return false,
        (_, _) => return true,
    };
    server.version >= since
}
