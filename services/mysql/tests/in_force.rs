//! Which of an account's rows in `mysql.db` a real server takes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::cmp::Ordering;

use common::{refusal, shared, unique};
use drover_mysql::{
    Flavour,
    ident::{covers, grant_text, ident},
    precedence::order,
};
use mysql_async::prelude::Queryable as _;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// What becomes of a character of a name in a text that covers it.
#[derive(Debug, Clone, Copy)]
enum Part {
    Itself,
    AnyOne,
    AnyNumber,
}

/// A text that covers the name, by what becomes of its characters; itself where there is more of
/// the name than of the parts.
fn covering(name: &str, parts: &[Part]) -> String {
    let parts = parts.iter().copied().chain(std::iter::repeat(Part::Itself));
    name.chars()
        .zip(parts)
        .map(|(c, part)| match part {
            Part::AnyOne if c.is_ascii() => "_".to_owned(),
            Part::AnyNumber => "%".to_owned(),
            _ if matches!(c, '_' | '%' | '\\') => format!("\\{c}"),
            _ => c.to_string(),
        })
        .collect()
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part =
        prop_oneof![6 => Just(Part::Itself), 1 => Just(Part::AnyOne), 1 => Just(Part::AnyNumber)];
    prop::collection::vec(part, 0..64)
}

/// Grants `SELECT` by one text and `INSERT` by the other, and looks which of them the user has.
async fn round(name: String, one: Vec<Part>, other: Vec<Part>) {
    let site = shared().await;
    let mut root = site.mariadb.root().await.unwrap();
    let tag = format!("force{}", unique());
    let database = format!("{tag}{name}");
    let texts = [one, other].map(|parts| format!("{tag}{}", covering(&name, &parts)));
    let fits = |text: &String| text.chars().count() <= 64 && covers(text, &database);
    if !texts.iter().all(fits) || texts[0] == texts[1] {
        return;
    }
    let d = ident(&database);
    root.query_drop(format!(
        "CREATE DATABASE {d}; CREATE TABLE {d}.t (a INT); CREATE USER {tag}; \
         GRANT SELECT ON {}.* TO {tag}; GRANT INSERT ON {}.* TO {tag}",
        ident(&texts[0]),
        ident(&texts[1])
    ))
    .await
    .unwrap();
    let mut conn = site.mariadb.connect(&tag, "").await.unwrap();
    let reads = refusal(conn.query_drop(format!("SELECT * FROM {d}.t")).await) == 0;
    let writes = refusal(conn.query_drop(format!("INSERT INTO {d}.t VALUES (1)")).await) == 0;
    assert_ne!(reads, writes, "{database}: {texts:?}");
    match order(Flavour::MariaDb, &texts[0], &texts[1]) {
        Ordering::Less => assert!(reads, "{database}: {texts:?}"),
        Ordering::Greater => assert!(writes, "{database}: {texts:?}"),
        // The server keeps them in the order in which it has read or made them.
        Ordering::Equal => {}
    }
    // Drover's own row, where it is exact, is in force before any other.
    let own = grant_text(&database);
    if !texts.contains(&own) && drover_mysql::precedence::is_exact(&own) {
        root.query_drop(format!("GRANT DELETE ON {}.* TO {tag}", ident(&own))).await.unwrap();
        let sql = format!("SELECT * FROM {d}.t; INSERT INTO {d}.t VALUES (1)");
        assert_ne!(refusal(conn.query_drop(sql).await), 0, "{database}: {texts:?}");
    }
    root.query_drop(format!("DROP DATABASE {d}; DROP USER {tag}")).await.unwrap();
}

#[test]
fn the_first_row_in_order_is_in_force() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&("[a-c_%\\\\é日]{1,40}", parts(), parts()), |(name, one, other)| {
            runtime.block_on(round(name, one, other));
            Ok(())
        })
        .unwrap();
}
