//! What the tests of the control side share: a server, migrations on it, and the whole of what its
//! grant tables say.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod proxy;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use drover_mysql::{Options, Order, Server};
use drover_schemas::{CampaignName, MigrationId, ServerName};
use drover_testbed::{
    Bed,
    mariadb::{Mariadb, Settings},
};
use mysql_async::{Conn, Row, Value, prelude::Queryable as _};
use tokio::sync::OnceCell;

/// How long an idle session or a busy one may go on in these tests.
pub const GRACE: Duration = Duration::from_millis(200);

/// A server, and Drover's way to it.
pub struct Site {
    pub mariadb: Mariadb,
    pub server: Server,
}

/// The server that the tests of one program share.
pub async fn shared() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(site).await
}

/// A server of one's own.
pub async fn site() -> Site {
    let bed = Bed::new().unwrap();
    let settings = Settings {
        relaxed_durability: true,
        more_options: vec!["--log-bin-trust-function-creators=ON".to_owned()],
    };
    let mariadb = Mariadb::start_with(&bed, "server", settings).await.unwrap();
    let server = server_at(&mariadb, &mariadb.address().to_string(), mariadb.port());
    Site { mariadb, server }
}

/// The same server by another way, such as a proxy.
pub fn server_at(mariadb: &Mariadb, host: &str, port: u16) -> Server {
    let mut options = Options::new(host, port);
    options.user = mariadb.drover_user().to_owned();
    options.password_file = mariadb.drover_password_file();
    options.sessions_end_ms_max = 10_000;
    Server::new("server".parse::<ServerName>().unwrap(), options).unwrap()
}

/// A number that no other test of this program has.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An order for a database.
pub fn order(database: &str, revision: u64) -> Order {
    order_in("night-1", database, revision)
}

/// An order of another campaign.
pub fn order_in(campaign: &str, database: &str, revision: u64) -> Order {
    let campaign: CampaignName = campaign.parse().unwrap();
    let migration = MigrationId::new(&campaign, &"server".parse().unwrap(), database);
    Order {
        campaign,
        migration,
        database: database.to_owned(),
        revision,
        run: 1,
        attempt: 1,
        destination_shut: true,
        rehearsal: false,
        brings_back: None,
        max_frozen_ms: 300_000,
        job: Vec::new(),
    }
}

/// The columns that say when and by whom a row was written last: the only things that a thaw does
/// not put back.
const WHEN_AND_BY_WHOM: &[&str] = &["Timestamp", "Grantor", "modified", "created", "last_executed"];

/// Everything that the grant tables and the scheduled events say, row by row; and what SHOW GRANTS
/// says of everyone.
pub async fn snapshot(conn: &mut Conn, of_users: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for table in ["db", "tables_priv", "columns_priv", "procs_priv", "global_priv", "roles_mapping"]
    {
        let sql = format!("SELECT * FROM mysql.{table} WHERE User LIKE '{of_users}'");
        let rows: Vec<Row> = conn.query(sql).await.unwrap();
        all.insert(table.to_owned(), texts(&rows));
    }
    let rows: Vec<Row> = conn
        .query(format!(
            "SELECT * FROM mysql.event WHERE definer LIKE '{of_users}' AND db <> 'drover'"
        ))
        .await
        .unwrap();
    all.insert("event".to_owned(), texts(&rows));
    let users: Vec<(String, String)> = conn
        .query(format!("SELECT User, Host FROM mysql.global_priv WHERE User LIKE '{of_users}'"))
        .await
        .unwrap();
    for (user, host) in users {
        let name = match host.as_str() {
            "" => drover_mysql::ident::ident(&user),
            _ => drover_mysql::ident::account(&user, &host),
        };
        let mut grants: Vec<String> = conn.query(format!("SHOW GRANTS FOR {name}")).await.unwrap();
        grants.sort();
        all.insert(format!("grants of {name}"), grants);
    }
    all
}

fn texts(rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let columns = row.columns_ref();
            let fields = columns.iter().enumerate().filter_map(|(i, column)| {
                let name = column.name_str();
                let kept = !WHEN_AND_BY_WHOM.contains(&name.as_ref());
                kept.then(|| format!("{name}={}", text(row.as_ref(i))))
            });
            fields.collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// The number of the server's error in the result of a customer's statement; 0: it was accepted.
pub fn refusal<T>(result: Result<T, mysql_async::Error>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(mysql_async::Error::Server(error)) => error.code,
        Err(_) => u16::MAX,
    }
}
