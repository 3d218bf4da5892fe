//! What arrives: dump, import and verify between two real servers, held against what the stock
//! programs say of both sides.

mod pair;

use drover_mysql::events::ScheduledEvent;
use drover_schemas::Code;
use drover_testbed::seed::{ODD_NAMES, Shape, Site, sites, sow};
use pair::{failure, order, pair, unique};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_site_and_name_arrives_as_the_stock_program_says() {
    let pair = pair().await;
    let mut some = sites(3, "arrive", 8);
    for (i, odd) in ODD_NAMES.iter().enumerate() {
        let shape = if i % 2 == 0 { Shape::Shop } else { Shape::Forum };
        if some.iter().all(|site| site.database != *odd) {
            some.push(Site::new(odd, shape, i as u64));
        }
    }
    some.push(Site::new("arrive_empty", Shape::Empty, 5));
    some.push(Site::new("arrive_large", Shape::Large { bytes: 6 << 20 }, 5));
    sow(&pair.source.mariadb, &some).await.unwrap();
    for site in &some {
        let dumped = pair.frozen_and_dumped(&site.database).await;
        let imported = pair.import(&dumped, 3).await.unwrap();
        assert_eq!(imported.tables, dumped.contents.description.tables());
        let verified = pair.verify(&dumped, 4).await.unwrap();
        assert_eq!(verified.rows, dumped.contents.description.rows());
        assert_eq!(
            pair.source.stock_dump(&site.database),
            pair.destination.stock_dump(&site.database),
            "{}",
            site.database
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_customers_file_gives_the_same_database() {
    let pair = pair().await;
    let mut site = Site::new(&unique("file"), Shape::Shop, 9);
    site.has_event = true;
    sow(&pair.source.mariadb, std::slice::from_ref(&site)).await.unwrap();
    let before = pair.source.stock_dump(&site.database);
    pair.frozen_and_dumped(&site.database).await;
    assert_ne!(pair.source.stock_dump(&site.database), before, "the freeze stops the event");
    let enabled = ScheduledEvent {
        name: "purge".to_owned(),
        user: site.owner.user.clone(),
        host: site.owner.hosts[0].clone(),
        ..ScheduledEvent::default()
    };
    let file = pair.dump(&site.database, &[enabled]).await.text();
    assert!(file.ends_with(b"-- This dump is complete.\n"));
    let other = unique("other");
    pair.destination.mariadb.execute(&format!("CREATE DATABASE {other}")).await.unwrap();
    pair.destination.stock_load(&other, &file).await;
    assert_eq!(pair.destination.stock_dump(&other), before);
    assert!(!String::from_utf8_lossy(&file).contains(&site.owner.password));
}

/// Values of every type, at their limits; what is easily lost.
const EVERYTHING: &str = "
SET SESSION sql_mode = '', time_zone = '+02:00', system_versioning_insert_history = 1;
CREATE TABLE types (id INT PRIMARY KEY AUTO_INCREMENT, i BIGINT, u BIGINT UNSIGNED, z INT(8) ZEROFILL,
  d DECIMAL(65,30), f FLOAT, g DOUBLE, b BIT(17), e ENUM('a','','ü'), s SET('x','y'), y YEAR,
  da DATE, dt DATETIME(6), ts TIMESTAMP(6) NULL, t TIME(6), bin BINARY(4), vb VARBINARY(300),
  lb LONGBLOB, tx TEXT CHARACTER SET latin1, u3 VARCHAR(20) CHARACTER SET utf8mb3, u4 VARCHAR(20) CHARACTER SET utf8mb4,
  gb VARCHAR(10) CHARACTER SET gbk, j JSON, p POINT, uu UUID, i6 INET6, hid INT INVISIBLE DEFAULT 7,
  virt BIGINT GENERATED ALWAYS AS (i % 100) VIRTUAL, sto VARCHAR(20) GENERATED ALWAYS AS (CONCAT(tx, u3)) STORED,
  CHECK (z < 99999999)) AUTO_INCREMENT = 500 COMMENT = 'a ''quoted'' utf8 `comment` \\\\ ';
INSERT INTO types (id,i,u,z,d,f,g,b,e,s,y,da,dt,ts,t,bin,vb,lb,tx,u3,u4,gb,j,p,uu,i6,hid) VALUES
  (1,-9223372036854775808,18446744073709551615,42,99999999999999999999999999999999999.999999999999999999999999999999,
   1.17549e-38,2.2250738585072014e-308,b'10101010101010101','ü','x,y',1901,'0000-00-00','0000-00-00 00:00:00.000000',
   '2020-06-01 12:00:00.123456','-838:59:59.999999',x'00ff00',x'',REPEAT(x'001a0d0a5c27', 5000),'\\\\ \\' \\0 \\Z \\n \\r ä','日本','😀',
   _gbk x'b0a1','{\"a\": [1, null, \"ü\"]}',POINT(1.5,-2.25),'123e4567-e89b-12d3-a456-426655440000','::ffff:1.2.3.4',NULL),
  (2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1),
  (3,0,0,0,0,0.1,0.1,0,'','',2155,'2024-02-30','9999-12-31 23:59:59.999999',NULL,'00:00:00','','','','','','','',NULL,NULL,NULL,NULL,2);
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO types (id, i) VALUES (0, 5);
CREATE TABLE no_shape (id INT, p POINT NOT NULL, g GEOMETRY NOT NULL); INSERT INTO no_shape (id) VALUES (1),(2);
INSERT INTO no_shape VALUES (3,POINT(1,2),POINT(3,4)); INSERT INTO no_shape (id,p) VALUES (4,POINT(1,1));
CREATE TABLE no_key (a INT, b VARCHAR(10)); INSERT INTO no_key VALUES (1,'x'),(1,'x'),(NULL,NULL),(NULL,'');
CREATE TABLE versioned (a INT) WITH SYSTEM VERSIONING; INSERT INTO versioned VALUES (1),(2);
UPDATE versioned SET a = 3 WHERE a = 1; DELETE FROM versioned WHERE a = 2;
CREATE SEQUENCE ticket START WITH 100 INCREMENT BY 10; DO NEXTVAL(ticket); DO NEXTVAL(ticket);
CREATE TABLE from_ticket (id BIGINT DEFAULT NEXTVAL(ticket), h TIME); INSERT INTO from_ticket (h) VALUES ('10:00');
CREATE TABLE parts (k INT NOT NULL, PRIMARY KEY (k DESC)) PARTITION BY HASH (k) PARTITIONS 3; INSERT INTO parts VALUES (1),(2),(3);
CREATE TABLE isam (k INT, w TEXT, FULLTEXT (w)) ENGINE=MyISAM; INSERT INTO isam VALUES (1,'words here');
CREATE TABLE aria (k INT) ENGINE=Aria; CREATE TABLE memory (k INT) ENGINE=MEMORY; INSERT INTO memory VALUES (9);
CREATE TABLE ring_a (id INT PRIMARY KEY, b INT); CREATE TABLE ring_b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES ring_a (id));
ALTER TABLE ring_a ADD FOREIGN KEY (b) REFERENCES ring_b (id); INSERT INTO ring_a VALUES (1,NULL); INSERT INTO ring_b VALUES (1,1); UPDATE ring_a SET b = 1;
CREATE VIEW z_first AS SELECT a FROM no_key WITH CASCADED CHECK OPTION; CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW a_second AS SELECT * FROM z_first;
CREATE DEFINER=nobody@nowhere TRIGGER two BEFORE INSERT ON no_key FOR EACH ROW SET NEW.b = CONCAT(NEW.b, '2');
CREATE TRIGGER one BEFORE INSERT ON no_key FOR EACH ROW PRECEDES two SET NEW.b = 'ü''1';
CREATE EVENT once ON SCHEDULE AT '2037-01-01 00:00:00' ON COMPLETION PRESERVE COMMENT 'é' DO DELETE FROM no_key;
SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT';
CREATE FUNCTION piped(a INT) RETURNS TEXT CHARACTER SET latin1 DETERMINISTIC RETURN a || 'x';
SET SESSION sql_mode = 'ORACLE';
CREATE PACKAGE pack AS FUNCTION f RETURN INT; END;
CREATE PACKAGE BODY pack AS FUNCTION f RETURN INT AS BEGIN RETURN 1; END; END;
";

#[tokio::test(flavor = "multi_thread")]
async fn types_and_objects_of_every_kind_arrive() {
    let pair = pair().await;
    let database = unique("every kind");
    let name = drover_mysql::ident::ident(&database);
    // The definer of the trigger is nobody: that the freeze refuses is not what is shown here.
    let sql = format!(
        "CREATE DATABASE {name} CHARACTER SET latin2 COLLATE latin2_czech_cs COMMENT 'o''hara ü'; \
         USE {name}; {EVERYTHING}"
    );
    pair.source.mariadb.execute(&sql).await.unwrap();
    let dumped = pair.frozen_and_dumped(&database).await;
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    assert_eq!(pair.source.stock_dump(&database), pair.destination.stock_dump(&database));
    let history = &dumped.contents.description.tables["versioned"];
    assert!(history.system_versioned && history.rows == 3, "{history:?}");
    let comment: String = pair
        .destination
        .value(&format!(
            "SELECT CONCAT(SCHEMA_COMMENT, DEFAULT_COLLATION_NAME) \
             FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{database}'"
        ))
        .await;
    assert_eq!(comment, "o'hara ülatin2_czech_cs");
}

/// What happens to a copy, and what verification says of it.
const CORRUPTIONS: &[(&str, &str)] = &[
    ("UPDATE t SET n = n ^ 4 WHERE id = 3", "TABLE t: its rows differ"),
    ("UPDATE t SET f = 0.30000000000000004 WHERE id = 1", "TABLE t: its rows differ"),
    (
        "UPDATE t SET n = CASE id WHEN 3 THEN 40 ELSE 30 END WHERE id IN (3, 4)",
        "TABLE t: its rows differ",
    ),
    ("DELETE FROM t WHERE id = 5", "TABLE t: 4 rows instead of 5"),
    ("INSERT INTO twins SELECT * FROM twins LIMIT 1", "TABLE twins: 5 rows instead of 4"),
    ("UPDATE twins SET b = 'p' WHERE b = 'q' LIMIT 1", "TABLE twins: its rows differ"),
    ("UPDATE t SET s = '' WHERE s IS NULL", "TABLE t: its rows differ"),
    ("UPDATE t SET s = NULL WHERE s = ''", "TABLE t: its rows differ"),
    ("UPDATE t SET at = '2020-01-01 10:00:00.120' WHERE id = 1", "TABLE t: its rows differ"),
    (
        "UPDATE t SET s = CONVERT(CONVERT(s USING binary) USING latin1) WHERE id = 1",
        "TABLE t: its rows differ",
    ),
    ("UPDATE t SET s = CONCAT(s, ' ') WHERE id = 1", "TABLE t: its rows differ"),
    ("UPDATE t SET s = UPPER(s) WHERE id = 1", "TABLE t: its rows differ"),
    ("ALTER TABLE t MODIFY s VARCHAR(20) COLLATE utf8mb4_bin", "TABLE t: its definition differs"),
    ("ALTER TABLE t AUTO_INCREMENT = 1000", "TABLE t: its definition differs"),
    ("ALTER TABLE t DROP INDEX n", "TABLE t: its definition differs"),
    ("ALTER TABLE t COMMENT = 'y'", "TABLE t: its definition differs"),
    ("DROP TABLE twins", "TABLE twins is missing"),
    ("CREATE TABLE more (a INT)", "TABLE more is not at the source"),
    ("DROP VIEW v", "VIEW v is missing"),
    ("CREATE OR REPLACE VIEW v AS SELECT id, s FROM t", "VIEW v: its definition differs"),
    ("ALTER TABLE t MODIFY at DATETIME(2)", "TABLE t: its definition differs"),
    ("ALTER TABLE t MODIFY n INT COMMENT 'c'", "TABLE t: its definition differs"),
    ("ALTER TABLE t ALTER n SET DEFAULT 3", "TABLE t: its definition differs"),
    ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb3", "TABLE t: its definition differs"),
    ("ALTER TABLE of_all DROP CONSTRAINT small", "TABLE of_all: its definition differs"),
    ("ALTER TABLE of_all DROP FOREIGN KEY up", "TABLE of_all: its definition differs"),
    ("ALTER TABLE of_all MODIFY g INT", "TABLE of_all: its definition differs"),
    ("ALTER TABLE of_all MODIFY hid INT DEFAULT 1", "TABLE of_all: its definition differs"),
    ("ALTER TABLE twins ENGINE=Aria", "TABLE twins: its definition differs"),
    ("ALTER TABLE parts REMOVE PARTITIONING", "TABLE parts: its definition differs"),
    ("ALTER TABLE kept DROP SYSTEM VERSIONING", "TABLE kept: its definition differs"),
    ("DELETE HISTORY FROM kept", "TABLE kept: 1 rows instead of 2"),
    ("DROP TRIGGER tr", "TRIGGER tr is missing"),
    (
        "SET sql_mode = 'ANSI_QUOTES'; \
         CREATE OR REPLACE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x = 2",
        "TRIGGER tr: its definition differs",
    ),
    ("CREATE OR REPLACE PROCEDURE p() SELECT 2", "PROCEDURE p: its definition differs"),
    (
        "CREATE OR REPLACE DEFINER=other@nowhere PROCEDURE p() SELECT 1",
        "PROCEDURE p: its definition differs",
    ),
    ("SET sql_mode = 'ORACLE'; DROP PACKAGE BODY pk", "PACKAGE BODY pk is missing"),
    (
        "SET sql_mode = 'ORACLE'; DROP PACKAGE pk",
        "PACKAGE pk is missing; PACKAGE BODY pk is missing",
    ),
    (
        "CREATE TRIGGER tr2 BEFORE INSERT ON t FOR EACH ROW PRECEDES tr SET @x = 1",
        "TRIGGER tr: its definition differs; TRIGGER tr2 is not at the source",
    ),
    ("DROP PROCEDURE p", "PROCEDURE p is missing"),
    ("DROP FUNCTION fn", "FUNCTION fn is missing"),
    ("DROP EVENT ev", "EVENT ev is missing"),
    ("ALTER EVENT ev COMMENT 'other'", "EVENT ev: its definition differs"),
    ("DROP SEQUENCE sq", "SEQUENCE sq is missing"),
    ("DO NEXTVAL(sq)", "SEQUENCE sq: its definition differs"),
    ("ALTER DATABASE COLLATE utf8mb4_bin", "the database's collation differs"),
    ("ALTER DATABASE COMMENT = 'x'", "the database's comment differs"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_has_another_value_at_each_reading_cries_no_wolf() {
    let pair = pair().await;
    let database = unique("varying");
    let sql = format!(
        "CREATE DATABASE {database}; CREATE TABLE {database}.t (a INT, b DOUBLE AS (RAND()), \
         c DATETIME(6) AS (NOW(6)), d INT AS (a + 1)); INSERT INTO {database}.t (a) VALUES (1), (2)"
    );
    pair.source.mariadb.execute(&sql).await.unwrap();
    let dumped = pair.frozen_and_dumped(&database).await;
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    // What it is made of is compared all the same.
    let sql = format!("ALTER TABLE {database}.t MODIFY b DOUBLE AS (RAND() + 1)");
    pair.destination.mariadb.execute(&sql).await.unwrap();
    assert_eq!(failure(pair.verify(&dumped, 5).await).code, Code::CopyDiffers);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_corruption_is_caught_and_named() {
    let pair = pair().await;
    let database = unique("corrupt");
    let dumped = pair
        .dumped_from(
            &database,
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, f DOUBLE, s VARCHAR(20), \
             at DATETIME(3), KEY n (n)) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; \
             INSERT INTO t VALUES (1, 10, 0.3, 'grün', '2020-01-01 10:00:00.123'), \
             (2, 20, 1, NULL, NULL), (3, 30, 1, '', NULL), (4, 40, 1, 'x', NULL), (5, 50, 1, 'x', NULL); \
             CREATE TABLE of_all (id INT PRIMARY KEY, g INT AS (id + 1) STORED, \
             hid INT INVISIBLE DEFAULT 1, CONSTRAINT small CHECK (id < 9), \
             CONSTRAINT up FOREIGN KEY (id) REFERENCES t (id)); \
             CREATE TABLE parts (k INT PRIMARY KEY) PARTITION BY HASH (k) PARTITIONS 2; \
             CREATE TABLE kept (a INT) WITH SYSTEM VERSIONING; INSERT INTO kept VALUES (1); \
             UPDATE kept SET a = 2; \
             CREATE TABLE twins (a INT, b CHAR(1)); \
             INSERT INTO twins VALUES (1, 'p'), (1, 'p'), (1, 'q'), (1, 'q'); \
             CREATE VIEW v AS SELECT id FROM t; \
             CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x = 2; \
             CREATE PROCEDURE p() SELECT 1; CREATE FUNCTION fn() RETURNS INT DETERMINISTIC RETURN 1; \
             CREATE EVENT ev ON SCHEDULE EVERY 1 DAY DISABLE DO DO 1; \
             CREATE SEQUENCE sq NOCACHE; SET sql_mode = 'ORACLE'; \
             CREATE PACKAGE pk AS FUNCTION f RETURN INT; END; \
             CREATE PACKAGE BODY pk AS FUNCTION f RETURN INT AS BEGIN RETURN 1; END; END; \
             SET sql_mode = DEFAULT",
        )
        .await;
    for (at, (corruption, named)) in (10..).step_by(2).zip(CORRUPTIONS) {
        pair.import(&dumped, at).await.unwrap();
        pair.verify(&dumped, at + 1).await.unwrap();
        let sql = format!("USE {database}; {corruption}");
        let done = pair.destination.mariadb.execute(&sql).await;
        assert!(done.is_ok(), "{corruption}: {done:?}");
        let found = failure(pair.verify(&dumped, at + 1).await);
        assert_eq!(found.code, Code::CopyDiffers, "{corruption}");
        assert!(found.message.ends_with(named), "{corruption}: {}", found.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_kind_arrive() {
    let pair = pair().await;
    let mut runner = TestRunner::deterministic();
    // No space at the end, which servers refuse in names, and no characters beyond the basic plane.
    let names = "[a-zA-Z0-9 _%`'\"\\\\.;#/*@$é日ж-]{0,40}[a-zA-Z0-9_%`'\"\\\\.;#/*@$é日ж-]";
    for case in 0..12 {
        let mut name = || names.new_tree(&mut runner).unwrap().current();
        let quote = |text: &str| drover_mysql::ident::ident(text);
        let database = format!("{}{}", unique("n"), name());
        let (table, column, other) = (name(), name(), format!("{}2", name()));
        let (view, routine) = (format!("v{other}"), format!("r{other}"));
        let [t, c, v, r] = [&table, &column, &view, &routine].map(|text| quote(text));
        let literal = drover_mysql::ident::literal(&other);
        let dumped = pair
            .dumped_from(
                &database,
                &format!(
                    "CREATE TABLE {t} ({c} VARCHAR(200) DEFAULT {literal} COMMENT {literal}); \
                     INSERT INTO {t} VALUES ({literal}); CREATE VIEW {v} AS SELECT {c} FROM {t}; \
                     CREATE TRIGGER {r} BEFORE INSERT ON {t} FOR EACH ROW SET NEW.{c} = {literal}; \
                     CREATE PROCEDURE {r}() COMMENT {literal} SELECT {literal}; \
                     CREATE EVENT {r} ON SCHEDULE EVERY 1 DAY DO SELECT {literal}"
                ),
            )
            .await;
        pair.import(&dumped, 3).await.unwrap();
        pair.verify(&dumped, 4).await.unwrap();
        assert_eq!(
            pair.source.stock_dump(&database),
            pair.destination.stock_dump(&database),
            "case {case}: {database:?}"
        );
        drover_mysql::drop_copy(&pair.destination.server, &order(&database, 5)).await.unwrap();
        assert!(!pair.destination.has(&database).await);
    }
}
