//! The configuration: one TOML file, every key of it overridable from the environment.
//!
//! A key's variable is `DROVER_` and its path, the parts joined by two underscores, in capitals:
//! `DROVER_NATS__URL`, `DROVER_SERVERS__SRC_1__MYSQL__PORT`. Where a part of the path stands in
//! the file, it may be written with an underscore for whatever is neither letter nor digit.
//! Unknown keys are refused, in the file and in the environment.

mod environment;

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use drover_lifecycle::{admission::Slots, promise::MAX_FROZEN_MS};
use drover_schemas::{
    Code, Failure, ServerName,
    v1::{self, Policy, RetryPolicy},
};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// All of it. Each part is documented where it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How to reach NATS.
    #[serde(default)]
    pub nats: drover_bus::Options,
    /// The object store.
    pub store: drover_dumpstore::Options,
    /// The MySQL and MariaDB servers, by the names that inventories use.
    pub servers: BTreeMap<ServerName, Server>,
    /// The zones of the host names.
    #[serde(default)]
    pub dns: drover_dns::Options,
    /// Customers' links to their dumps.
    pub links: drover_dumpstore::link::Options,
    /// Customers' messages and the information system's.
    #[serde(default)]
    pub notify: drover_notify::Options,
    /// The orchestrator.
    #[serde(default)]
    pub orchestrator: drover_orchestrator::Options,
    /// The projections.
    #[serde(default)]
    pub projector: drover_projector::Options,
    /// The HTTP service for customers' dumps.
    #[serde(default)]
    pub console: drover_console::Options,
    /// What a new campaign is given.
    #[serde(default)]
    pub campaign: Campaign,
    /// Metrics for Prometheus; none without this part.
    #[serde(default)]
    pub metrics: Option<Metrics>,
}

/// One MySQL or MariaDB server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// How many of its databases are moved away at once. 0: it is no source.
    #[serde(default = "slots")]
    pub slots_as_source: u32,
    /// How many databases are brought to it at once. 0: it is no destination.
    #[serde(default = "slots")]
    pub slots_as_destination: u32,
    /// How to reach it.
    pub mysql: drover_mysql::Options,
    /// What a host name must hold to point to it.
    #[serde(default)]
    pub dns: drover_dns::Target,
    /// How accounts are sealed to it.
    #[serde(default)]
    pub seal: drover_mysql::seal::Options,
}

/// Four side by side used two cores of a server best, with databases of some 300 KB (field
/// measurement on MariaDB 10.11).
fn slots() -> u32 {
    4
}

/// What a new campaign is given; recorded when it is planned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Campaign {
    /// Attempts of one step in one run, the first included.
    pub attempts_max: u32,
    /// The backoff before the second attempt, in milliseconds; it doubles with each.
    pub backoff_base_ms: u32,
    /// The longest backoff, in milliseconds.
    pub backoff_max_ms: u32,
    /// How long open sessions may go on after the freeze has begun, in milliseconds.
    pub session_grace_ms: u32,
    /// How long the customer may fetch the dump, in days.
    pub dump_retention_days: u32,
    /// The longest time without writes, from the freeze to the opened destination, in milliseconds;
    /// at least 1. What would take longer is undone and tried again later.
    pub max_frozen_ms: u32,
    /// Who is the definer, at the destination, of what another defined at the source.
    pub definers: Definers,
}

/// What becomes of definers; an account is written `user@host`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Definers {
    /// They stay who they are.
    #[default]
    Keep,
    /// These become others.
    Map(BTreeMap<String, String>),
    /// Who neither comes with a database nor is at its destination becomes this account; or, where it
    /// is `owner`, the account that comes with the database and holds the most on it.
    Replace(String),
}

impl From<&Definers> for Option<v1::Definers> {
    fn from(definers: &Definers) -> Self {
        let change = |(was, becomes): (&String, &String)| v1::DefinerChange {
            was: was.clone(),
            becomes: becomes.clone(),
        };
        match definers {
            Definers::Keep => None,
            Definers::Map(map) => {
                let map = map.iter().map(change).collect();
                Some(v1::Definers { map, replace: String::new() })
            }
            Definers::Replace(by) => Some(v1::Definers { map: Vec::new(), replace: by.clone() }),
        }
    }
}

impl Default for Campaign {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            backoff_base_ms: 1_000,
            backoff_max_ms: 120_000,
            session_grace_ms: 1_000,
            dump_retention_days: 30,
            max_frozen_ms: MAX_FROZEN_MS,
            definers: Definers::Keep,
        }
    }
}

impl From<&Campaign> for Policy {
    fn from(campaign: &Campaign) -> Self {
        Self {
            retry: Some(RetryPolicy {
                attempts_max: campaign.attempts_max,
                backoff_base_ms: campaign.backoff_base_ms,
                backoff_max_ms: campaign.backoff_max_ms,
            }),
            session_grace_ms: campaign.session_grace_ms,
            dump_retention_days: campaign.dump_retention_days,
            max_frozen_ms: campaign.max_frozen_ms,
            definers: (&campaign.definers).into(),
        }
    }
}

/// Metrics for Prometheus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Where `/metrics` is answered.
    pub listen: SocketAddr,
}

impl Config {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// [`Code::ConfigUnreadable`] and [`Code::ConfigInvalid`], naming the key.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        let at = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Code::ConfigUnreadable, format!("{at}: {error}")))?;
        Self::parse(&text, environment)
            .map_err(|message| Failure::new(Code::ConfigInvalid, format!("{at}: {message}")))
    }

    pub(crate) fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let mut table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
        environment::apply(&mut table, environment)?;
        let config: Self = serde_path_to_error::deserialize(Value::Table(table))
            .map_err(|error| format!("{}: {}", error.path(), error.inner().message()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.servers.is_empty() {
            return Err("servers: name at least one".to_owned());
        }
        if self.campaign.attempts_max == 0 {
            return Err("campaign.attempts_max: at least 1".to_owned());
        }
        if self.campaign.max_frozen_ms == 0 {
            return Err("campaign.max_frozen_ms: at least 1".to_owned());
        }
        self.check_definers()?;
        for (name, server) in &self.servers {
            if server.slots_as_destination > 0 && server.seal.to.is_empty() {
                return Err(format!(
                    "servers.{name}.seal.to: a destination needs an age public key (age-keygen)"
                ));
            }
        }
        Ok(())
    }

    /// Definers that could be none, or would be Drover, are refused before anything is planned.
    fn check_definers(&self) -> Result<(), String> {
        let named: Vec<&String> = match &self.campaign.definers {
            Definers::Keep => Vec::new(),
            Definers::Map(map) => map.values().collect(),
            Definers::Replace(by) if by == drover_mysql::successors::OWNER => Vec::new(),
            Definers::Replace(by) => vec![by],
        };
        for name in named {
            let (user, host) = name.rsplit_once('@').unwrap_or((name, ""));
            if user.is_empty() || host.is_empty() || name.contains('\0') {
                return Err(format!("campaign.definers: {name:?} is not an account, as user@host"));
            }
            if self.servers.values().any(|server| server.mysql.user == user) {
                return Err(format!("campaign.definers: {name:?} is Drover's own account"));
            }
        }
        Ok(())
    }

    /// The slots of each server, for admission.
    pub fn slots(&self) -> std::collections::HashMap<ServerName, Slots> {
        let slots = |server: &Server| Slots {
            as_source: server.slots_as_source,
            as_destination: server.slots_as_destination,
        };
        self.servers.iter().map(|(name, server)| (name.clone(), slots(server))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = r#"
        [store]
        url = "/var/lib/drover/store"
        [links]
        public_url = "https://dumps.example.net"
        key_file = "/etc/drover/link.key"
        [servers.src-1]
        slots_as_destination = 0
        [servers.src-1.mysql]
        host = "127.0.0.1"
    "#;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Config::parse(text, environment)
    }

    #[test]
    fn the_environment_overrides_every_key() {
        let config = load(
            MINIMAL,
            &[
                ("DROVER_SERVERS__SRC_1__MYSQL__PORT", "3307"),
                ("DROVER_SERVERS__SRC_1__SLOTS_AS_SOURCE", "9"),
                ("DROVER_STORE__URL", "s3://bucket/prefix"),
                ("DROVER_DATABASES", "not a key of the configuration"),
                ("HOME", "/home/operator"),
            ],
        )
        .unwrap();
        let server = &config.servers[&"src-1".parse().unwrap()];
        assert_eq!((server.mysql.port, server.slots_as_source), (3307, 9));
        assert_eq!(config.store.url, "s3://bucket/prefix");
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        for (text, environment, place) in [
            (format!("{MINIMAL}\n[surprise]\na = 1"), vec![], "surprise"),
            (format!("{MINIMAL}\ncolour = 1"), vec![], "servers.src-1.mysql"),
            (MINIMAL.to_owned(), vec![("DROVER_NATS__COLOUR", "1")], "nats"),
            (MINIMAL.to_owned(), vec![("DROVER_SERVERS__SRC_1__MYSQL__PORT", "many")], "port"),
        ] {
            let error = load(&text, &environment).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn no_time_without_writes_is_no_promise() {
        let error = load(MINIMAL, &[("DROVER_CAMPAIGN__MAX_FROZEN_MS", "0")]).unwrap_err();
        assert!(error.contains("max_frozen_ms"), "{error}");
        assert_eq!(load(MINIMAL, &[]).unwrap().campaign.max_frozen_ms, 300_000);
    }

    #[test]
    fn definers_become_accounts_that_are_not_drover() {
        for (definers, wrong) in [
            ("'keep'", None),
            ("{ replace = 'owner' }", None),
            ("{ replace = 'site@%' }", None),
            ("{ map = { 'old@%' = 'new@10.%' } }", None),
            ("{ replace = 'site' }", Some("user@host")),
            ("{ replace = '@%' }", Some("user@host")),
            ("{ map = { 'old@%' = 'drover@localhost' } }", Some("Drover's own")),
        ] {
            let loaded = load(MINIMAL, &[("DROVER_CAMPAIGN__DEFINERS", definers)]);
            match (loaded, wrong) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => assert!(error.contains(part), "{error}"),
                (other, _) => panic!("{definers}: {:?}", other.map(|config| config.campaign)),
            }
        }
    }

    #[test]
    fn the_example_files_are_right() {
        let examples = [
            include_str!("../../../ops/drover.toml"),
            include_str!("../../../compose/drover.toml"),
        ];
        for text in examples {
            let config = load(text, &[]).unwrap();
            assert!(config.servers.values().any(|server| server.slots_as_source > 0));
            assert!(config.servers.values().any(|server| server.slots_as_destination > 0));
            assert_eq!(config.dns.zones.len(), 1);
        }
    }

    #[test]
    fn the_example_and_the_tests_grant_drover_what_is_printed_and_no_more() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let grants = words(include_str!("../../../compose/mariadb/1-grants.sql"));
        let tested = words(drover_testbed::mariadb::DROVER_RIGHTS);
        assert!(grants.contains(&format!("GRANT {tested} ON *.* TO drover@'%'")), "{tested}");
        let printed = words(&drover_mysql::grants_needed("drover", "%"));
        assert_eq!(printed, format!("GRANT {tested} ON *.* TO `drover`@`%` WITH GRANT OPTION"));
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let error = load("[store]\nurl = \n", &[]).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_no_configuration_is_refused_and_nothing_more(
            text: String, name in "[A-Z_0-9]{0,30}", value: String, at: prop::sample::Index,
        ) {
            let environment = [(format!("DROVER_{name}"), value)];
            let _ = Config::parse(&text, environment.iter().cloned());
            let at = at.index(MINIMAL.len());
            let damaged = format!("{}{text}{}", &MINIMAL[..at], &MINIMAL[at..]);
            let _ = Config::parse(&damaged, environment.into_iter());
        }
    }
}
