//! The pre-flight on real servers: for each finding a database that has it, and one that has none;
//! and the failure that was foretold, where it can be had.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod pair;

use std::collections::{BTreeMap, BTreeSet};

use drover_mysql::{
    Definers,
    preflight::{self, Finding, begin, judge},
};
use drover_schemas::Code;
use drover_testbed::{
    Bed,
    seed::{Shape, Site, sow},
};
use mysql_async::{Row, prelude::Queryable as _};
use pair::{End, Pair, end};

/// A source that allows much, and a destination that allows less.
async fn unlike() -> Pair {
    let bed = Bed::new().unwrap();
    let source = [
        "--event-scheduler=OFF",
        "--sql-mode=",
        "--innodb-strict-mode=OFF",
        "--plugin-load-add=ha_archive",
        "--plugin-load-add=ha_blackhole",
        "--plugin-load-add=auth_ed25519",
        "--log-bin-trust-function-creators=ON",
    ];
    let destination = [
        "--max-allowed-packet=2M",
        "--lower-case-table-names=1",
        "--sql-mode=STRICT_TRANS_TABLES,NO_ZERO_DATE",
    ];
    let (source, destination) =
        tokio::join!(end(&bed, "source", &source), end(&bed, "destination", &destination));
    Pair { source, destination }
}

/// A database, what is in it, and what is to be found: the code, and whether it blocks.
type Case = (&'static str, &'static str, &'static [(u16, bool)]);

const CASES: &[Case] = &[
    ("clean", "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)", &[]),
    ("engine", "CREATE TABLE t (a INT) ENGINE=ARCHIVE", &[(240, true)]),
    (
        "plugin",
        "GRANT SELECT ON plugin.* TO p@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x')",
        &[(243, true)],
    ),
    (
        "definer",
        "CREATE TABLE t (a INT); CREATE DEFINER=gone@'%' VIEW v AS SELECT a FROM t",
        &[(244, false)],
    ),
    ("refers", "CREATE VIEW v AS SELECT a FROM clean.t", &[(245, true)]),
    (
        "follows",
        "CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES clean.t (a) ON DELETE CASCADE)",
        &[(211, true), (245, true)],
    ),
    (
        "broken",
        "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t; DROP TABLE t",
        &[(303, false)],
    ),
    (
        "trigger",
        "CREATE TABLE t (a INT, gone INT); CREATE TABLE u (a INT, gone INT); \
         CREATE TRIGGER sound BEFORE INSERT ON u FOR EACH ROW SET NEW.A = 'new.b', NEW.gone = 1; \
         CREATE TRIGGER broken BEFORE INSERT ON t FOR EACH ROW SET NEW.gone = NEW.a; \
         ALTER TABLE t DROP COLUMN gone",
        &[(439, true)],
    ),
    (
        "sequence",
        "CREATE SEQUENCE s; CREATE SEQUENCE there; CREATE TABLE t (a INT DEFAULT NEXTVAL(s), \
         b INT DEFAULT (NEXTVAL(there) + 1)); DROP SEQUENCE s",
        &[(439, true)],
    ),
    ("lost", "CREATE TABLE t (a INT) ENGINE=BLACKHOLE", &[(240, true), (247, true)]),
    ("zero", "CREATE TABLE t (d DATE NOT NULL DEFAULT '0000-00-00')", &[(249, false)]),
    (
        "packet",
        "CREATE TABLE t (b LONGBLOB); INSERT INTO t VALUES (REPEAT('x', 3000000)); ANALYZE TABLE t",
        &[(251, true)],
    ),
    (
        "perhaps",
        "SET group_concat_max_len = 2000000; CREATE TABLE t (b LONGBLOB COMPRESSED); \
         INSERT INTO t SELECT GROUP_CONCAT(UNHEX(SHA2(seq, 512)) SEPARATOR '') FROM seq_1_to_24000; \
         ANALYZE TABLE t",
        &[(251, false)],
    ),
    (
        "joined",
        "CREATE TABLE t (a LONGBLOB, b LONGBLOB); \
         INSERT INTO t VALUES (REPEAT('x', 2000000), REPEAT('x', 2000000)); ANALYZE TABLE t",
        &[],
    ),
    (
        "counter",
        "CREATE TABLE t (a INT, b INT AUTO_INCREMENT NULL UNIQUE); \
         INSERT INTO t VALUES (1, 1), (2, 2); UPDATE t SET b = NULL WHERE a = 2",
        &[(438, true)],
    ),
    (
        "counting",
        "CREATE TABLE t (a INT AUTO_INCREMENT NULL UNIQUE); INSERT INTO t VALUES (1)",
        &[],
    ),
    (
        "counted",
        "CREATE TABLE t (a BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY) ENGINE = MEMORY; \
         INSERT INTO t VALUES (18446744073709551615); ALTER TABLE t PARTITION BY KEY ()",
        &[(438, true)],
    ),
    ("Upper", "CREATE TABLE t (a INT)", &[(252, true)]),
    ("upper_table", "CREATE TABLE T (a INT)", &[(252, true)]),
    ("written", "CREATE TABLE t (a INT)", &[(211, true)]),
    ("taken", "CREATE TABLE t (a INT)", &[(400, true)]),
    ("account", "GRANT SELECT ON account.* TO a@'%' IDENTIFIED BY 'one'", &[(401, true)]),
    ("reached", "CREATE TABLE t (a INT)", &[(407, true)]),
];

/// What is at the destination, and in another database of the source.
const THERE: &str = "CREATE DATABASE taken; CREATE USER a@'%' IDENTIFIED BY 'another'; \
     GRANT SELECT ON reached.* TO early@'%' IDENTIFIED BY 'x'";
const ELSEWHERE: &str = "CREATE DATABASE elsewhere; \
     CREATE PROCEDURE elsewhere.p() INSERT INTO written.t VALUES (1)";

async fn prepare(pair: &Pair) {
    for (name, sql, _) in CASES {
        let sql = format!("CREATE DATABASE `{name}`; USE `{name}`; {sql}");
        pair.source.mariadb.execute(&sql).await.unwrap();
    }
    let columns: Vec<String> = (0..40).map(|n| format!("c{n} VARCHAR(250)")).collect();
    let sql = format!(
        "CREATE DATABASE rows_; CREATE TABLE rows_.t ({}) CHARACTER SET latin1; {ELSEWHERE}; \
         UNINSTALL SONAME 'ha_blackhole'",
        columns.join(", ")
    );
    pair.source.mariadb.execute(&sql).await.unwrap();
    let site = Site::new("site", Shape::Shop, 3);
    sow(&pair.source.mariadb, std::slice::from_ref(&site)).await.unwrap();
    pair.destination.mariadb.execute(THERE).await.unwrap();
}

/// All that a pre-flight must not change.
async fn state(end: &End) -> Vec<String> {
    let mut root = end.mariadb.root().await.unwrap();
    let mut all = Vec::new();
    for sql in [
        "SELECT * FROM mysql.global_priv ORDER BY User, Host",
        "SELECT * FROM mysql.db ORDER BY Host, Db, User",
        "SELECT TABLE_SCHEMA, TABLE_NAME, CREATE_TIME, UPDATE_TIME FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql') ORDER BY 1, 2",
        "SELECT @@gtid_binlog_pos",
    ] {
        let rows: Vec<Row> = root.query(sql).await.unwrap();
        all.extend(rows.into_iter().map(|row| format!("{:?}", row.unwrap())));
    }
    all
}

async fn look(pair: &Pair, databases: &[String]) -> Vec<Finding> {
    look_under(pair, databases, &Definers::Keep).await
}

async fn look_under(pair: &Pair, databases: &[String], policy: &Definers) -> Vec<Finding> {
    let source = begin(&pair.source.server).await.unwrap();
    let destination = preflight::destination(&pair.destination.server).await.unwrap();
    let chunk = source.read(databases).await.unwrap();
    let mut findings = source.findings.clone();
    findings.extend(destination.findings.clone());
    findings.extend(chunk.findings.clone());
    findings.extend(judge(&source, &chunk, &destination, (policy, &[].into())));
    findings
}

type Codes = BTreeMap<Option<String>, BTreeSet<(u16, bool)>>;

fn codes(findings: &[Finding]) -> Codes {
    let mut codes = Codes::new();
    for Finding { code, blocking, database, .. } in findings {
        codes.entry(database.clone()).or_default().insert((code.number(), *blocking));
    }
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_finding_is_found_where_it_is_and_nowhere_else() {
    let pair = unlike().await;
    prepare(&pair).await;
    let names = CASES.iter().map(|(name, ..)| *name).chain(["rows_", "site", "missing"]);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let before = (state(&pair.source).await, state(&pair.destination).await);
    let findings = look(&pair, &names).await;
    let after = (state(&pair.source).await, state(&pair.destination).await);
    assert_eq!(before, after, "a pre-flight changes nothing");

    let mut expected = Codes::new();
    for (name, _, found) in CASES.iter().filter(|(_, _, found)| !found.is_empty()) {
        expected.insert(Some((*name).to_owned()), found.iter().copied().collect());
    }
    expected.insert(Some("rows_".to_owned()), BTreeSet::from([(250, false)]));
    expected.insert(Some("missing".to_owned()), BTreeSet::from([(210, true)]));
    expected.insert(None, BTreeSet::from([(248, false), (257, false)]));
    assert_eq!(codes(&findings), expected, "{findings:#?}");
    let text = format!("{findings:?}");
    for secret in ["*", "one", "another"] {
        assert!(!text.contains(&format!("'{secret}")), "no hash, no password");
    }
    successors(&pair).await;
    foretold(&pair).await;
}

/// What the pre-flight says becomes of a definer that is missing, by the campaign's policy.
async fn successors(pair: &Pair) {
    let map = |was: &str| Definers::Map([(was.to_owned(), "new@%".to_owned())].into());
    for (policy, told) in [
        (Definers::Keep, "definer gone@%: view `v`"),
        (map("other@%"), "definer gone@%: view `v`"),
        (map("gone@%"), "definer gone@%: view `v`, becomes new@%"),
        (Definers::Replace("site@%".to_owned()), "definer gone@%: view `v`, becomes site@%"),
        (
            Definers::Replace("owner".to_owned()),
            "definer gone@%: view `v`, becomes the account that holds the most on the database",
        ),
    ] {
        let findings = look_under(pair, &["definer".to_owned()], &policy).await;
        let missing: Vec<&Finding> =
            findings.iter().filter(|finding| finding.code == Code::DefinerMissing).collect();
        assert_eq!(missing.len(), 1, "{policy:?}: {missing:?}");
        assert!(missing[0].what.ends_with(told) && !missing[0].blocking, "{missing:?}");
    }
}

/// What the pre-flight said would fail does.
async fn foretold(pair: &Pair) {
    for (database, codes) in [
        // Without NO_ENGINE_SUBSTITUTION another engine takes its place, which the comparison finds.
        ("engine", [Code::CopyDiffers, Code::CopyDiffers]),
        ("packet", [Code::PacketTooSmall, Code::PacketTooSmall]),
        ("trigger", [Code::ReferenceMissing, Code::ReferenceMissing]),
        ("sequence", [Code::ReferenceMissing, Code::ReferenceMissing]),
        ("counter", [Code::CopyDiffers, Code::CopyDiffers]),
        ("counted", [Code::CopyDiffers, Code::CopyDiffers]),
    ] {
        let dumped = pair.frozen_and_dumped(database).await;
        let failed = match pair.import(&dumped, 3).await {
            Ok(_) => pair.verify(&dumped, 4).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let Err(error) = failed else { panic!("{database} moved") };
        assert!(codes.contains(&error.code()), "{database}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_told_with_the_statement_that_gives_it() {
    let bed = Bed::new().unwrap();
    let end = end(&bed, "poor", &[]).await;
    let whole = begin(&end.server).await.unwrap();
    assert_eq!(codes(&whole.findings), Codes::new(), "{:?}", whole.findings);
    end.mariadb.execute("REVOKE RELOAD, PROCESS ON *.* FROM drover@'127.%'").await.unwrap();
    let findings = begin(&end.server).await.unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let Finding { code, blocking, what, .. } = &findings[0];
    assert_eq!((*code, *blocking), (Code::ServerRightMissing, true));
    assert!(what.contains("PROCESS, RELOAD missing"), "{what}");
    let (_, grant) = what.split_once("needed: ").unwrap();
    end.mariadb.execute(grant).await.unwrap();
    assert_eq!(begin(&end.server).await.unwrap().findings, []);
}
