//! Random databases: the stock program says the same of the source, of the copy, and of a third server
//! into which the stock client loaded the dump.
//!
//! A usual run makes the same few, so that a change is judged by itself and not by its luck.
//! `DROVER_DATABASES` says how many others, and `DROVER_SEED` the first one's seed; each has the next.
//! A failure names its seed:
//!
//!     DROVER_SEED=SEED DROVER_DATABASES=1 cargo test -p drover-mysql --test random

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

#[path = "random/generate.rs"]
mod generate;
mod pair;
#[path = "random/whole.rs"]
mod whole;

use generate::Generator;
use mysql_async::prelude::Queryable as _;
use pair::{End, Pair, pair, third};
use whole::moved;

/// How many without a word: some seconds.
const DATABASES: u64 = 8;
/// The first seed without a word.
const SEED: u64 = 1;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Every collation that a table may have here.
async fn collations(end: &End) -> Vec<(String, String)> {
    let mut root = end.mariadb.root().await.unwrap();
    let sql = "SELECT CHARACTER_SET_NAME, FULL_COLLATION_NAME \
               FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY \
               WHERE CHARACTER_SET_NAME <> 'binary' ORDER BY 2";
    root.query(sql).await.unwrap()
}

/// Makes a database at the source; how many of its statements were taken, and refused.
async fn make(pair: &Pair, statements: &[String]) -> (u32, u32) {
    let mut root = pair.source.mariadb.root().await.unwrap();
    let mut counts = (0, 0);
    for statement in statements {
        match root.query_drop(statement).await {
            Ok(()) => counts.0 += 1,
            Err(mysql_async::Error::Server(_)) => counts.1 += 1,
            Err(other) => panic!("{statement}: {other}"),
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn random_databases_arrive_as_the_stock_program_says() {
    let (pair, third) = (pair().await, third().await);
    let collations = collations(&pair.source).await;
    let first = number("DROVER_SEED").unwrap_or(SEED);
    let (mut taken, mut refused, mut failures) = (0, 0, Vec::new());
    for i in 0..number("DROVER_DATABASES").unwrap_or(DATABASES) {
        let seed = first.wrapping_add(i);
        let database = format!("random_{i}");
        let mut generator = Generator::new(seed, collations.clone());
        generator.all(&database);
        let counts = make(pair, &generator.statements).await;
        (taken, refused) = (taken + counts.0, refused + counts.1);
        if let Err(what) = moved(pair, &third, &database).await {
            failures.push(format!("DROVER_SEED={seed}: {what}"));
        }
    }
    println!("first seed {first}: {taken} statements taken, {refused} refused");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(refused < taken, "what is made is hardly random any more");
}
