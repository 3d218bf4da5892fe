//! A random database, as statements: tables of many engines and all types (no CSV: the server takes its
//! own file for damaged where some values are in it), what reads and writes them, and
//! what runs by itself. A server refuses some of the statements; what it takes is the database.

use drover_mysql::ident::{ident, literal};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// What names and texts are made of. No quote and no `;;`: the stock program has its own troubles with
/// those.
const LETTERS: &[&str] =
    &["a", "b", "Z", "9", "_", " ", "$", "-", "é", "ß", "日", "ж", "%", "@", "#", ".", "`", "\\"];

/// Modes that change how a text is read.
const MODES: &[&str] = &[
    "",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "PIPES_AS_CONCAT",
    "STRICT_ALL_TABLES,NO_ZERO_DATE",
    "HIGH_NOT_PRECEDENCE,IGNORE_SPACE",
];

const CLIENTS: &[&str] =
    &["utf8mb4", "utf8mb4 COLLATE utf8mb4_bin", "latin1", "latin2", "cp1251", "utf8mb3"];

const ZONES: &[&str] = &["+00:00", "-11:30", "+05:45", "+12:45"];

/// A database on its way.
pub struct Generator {
    rng: StdRng,
    /// Of the server: character set and collation.
    collations: Vec<(String, String)>,
    pub statements: Vec<String>,
    tables: Vec<Table>,
    names: u32,
}

struct Table {
    name: String,
    columns: Vec<Column>,
    /// Whether others may refer to its first column.
    keyed: bool,
}

struct Column {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Time,
    Text,
    Choice,
    Bytes,
    Json,
    Shape,
    Uuid,
    Address,
    Computed,
}

impl Generator {
    pub fn new(seed: u64, collations: Vec<(String, String)>) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, collations, statements: Vec::new(), tables: Vec::new(), names: 0 }
    }

    /// Fills the database of this name, which it creates and selects.
    pub fn all(&mut self, database: &str) {
        let (_, collation) = self.collation();
        let comment = literal(&self.text(20));
        self.say(format!("CREATE DATABASE {database} COLLATE {collation} COMMENT {comment}"));
        self.say(format!("USE {database}"));
        self.settings();
        self.some(0..3, Self::sequence);
        self.some(1..6, Self::table);
        self.some(0..3, Self::foreign_key);
        for part in [Self::routine, Self::view, Self::trigger, Self::event] {
            self.some(0..4, part);
        }
        if self.one_in(4) {
            let (_, collation) = self.collation();
            self.say(format!("ALTER DATABASE {database} COLLATE {collation}"));
            self.some(1..3, Self::routine);
        }
    }

    fn some(&mut self, how_many: std::ops::Range<u32>, part: fn(&mut Self)) {
        for _ in 0..self.rng.random_range(how_many) {
            part(self);
        }
    }

    fn say(&mut self, sql: String) {
        self.statements.push(sql);
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    fn of<'a>(&mut self, some: &[&'a str]) -> &'a str {
        some[self.rng.random_range(0..some.len())]
    }

    fn collation(&mut self) -> (String, String) {
        self.collations[self.rng.random_range(0..self.collations.len())].clone()
    }

    fn text(&mut self, letters_max: usize) -> String {
        let letters = self.rng.random_range(0..=letters_max);
        (0..letters).map(|_| self.of(LETTERS)).collect()
    }

    /// A name that no other thing has.
    fn name(&mut self) -> String {
        self.names += 1;
        format!("{}{}", self.text(8).trim(), self.names)
    }

    /// What the next objects are made under.
    fn settings(&mut self) {
        let (client, mode, zone) = (self.of(CLIENTS), self.of(MODES), self.of(ZONES));
        self.say(format!("SET NAMES {client}, sql_mode = '{mode}', time_zone = '{zone}'"));
    }

    /// Under which any name is read as it is written here, and any value is taken.
    fn plain(&mut self) {
        let zone = self.of(ZONES);
        let mode = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES";
        self.say(format!("SET NAMES utf8mb4, sql_mode = '{mode}', time_zone = '{zone}'"));
    }

    fn sequence(&mut self) {
        self.plain();
        let name = ident(&self.name());
        let (by, start) = (self.rng.random_range(1..50), self.rng.random_range(-9..9_000));
        let (cycle, cache) = (self.of(&["CYCLE", "NOCYCLE"]), self.of(&["NOCACHE", "CACHE 7"]));
        self.say(format!(
            "CREATE SEQUENCE {name} START WITH {start} INCREMENT BY {by} MINVALUE -10 \
             MAXVALUE 10000 {cache} {cycle}"
        ));
        for _ in 0..self.rng.random_range(0..5) {
            self.say(format!("DO NEXTVAL({name})"));
        }
    }

    fn table(&mut self) {
        self.plain();
        let engine = self.of(&["InnoDB", "InnoDB", "InnoDB", "MyISAM", "Aria", "MEMORY"]);
        let name = self.name();
        let key = !self.one_in(4);
        let mut columns = Vec::new();
        let mut parts = Vec::new();
        if key {
            let increment = self.of(&["", " AUTO_INCREMENT"]);
            parts.push(format!("id INT{increment} PRIMARY KEY"));
            columns.push(Column { name: "id".to_owned(), kind: Kind::Number });
        }
        for _ in 0..self.rng.random_range(1..9) {
            let (column, sql) = self.column(columns.first().filter(|_| key));
            parts.push(sql);
            columns.push(column);
        }
        self.keys(&columns, &mut parts);
        let (_, collation) = self.collation();
        let comment = literal(&self.text(30));
        let mut sql = format!(
            "CREATE TABLE {} ({}) ENGINE={engine} COLLATE {collation} COMMENT {comment}",
            ident(&name),
            parts.join(", ")
        );
        let format = ["", " ROW_FORMAT=DYNAMIC", " ROW_FORMAT=COMPRESSED", " ROW_FORMAT=REDUNDANT"];
        match engine {
            "InnoDB" => sql.push_str(self.of(&format)),
            "MyISAM" => sql.push_str(self.of(&["", " CHECKSUM=1", " PACK_KEYS=1"])),
            _ => {}
        }
        let versioned = engine == "InnoDB" && self.one_in(4);
        if versioned {
            sql.push_str(" WITH SYSTEM VERSIONING");
        } else if key && engine != "MEMORY" && self.one_in(5) {
            sql.push_str(self.of(&[
                " PARTITION BY HASH (id) PARTITIONS 3",
                " PARTITION BY KEY () PARTITIONS 2",
                " PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (5), \
                 PARTITION p1 VALUES LESS THAN MAXVALUE)",
            ]));
        }
        self.say(sql);
        let table = Table { name, columns, keyed: key && engine == "InnoDB" && !versioned };
        // The time stands still, as in a trigger: what goes then has been there for no time.
        let still = versioned && self.one_in(2);
        if still {
            let (s, us) =
                (self.rng.random_range(1..1_700_000_000), self.rng.random_range(0..1_000_000));
            self.say(format!("SET timestamp = {s}.{us:06}"));
        }
        self.rows(&table);
        if versioned {
            let name = ident(&table.name);
            let change = self.change(&table);
            self.say(format!("UPDATE {name} SET {change} LIMIT 2"));
            self.say(format!("DELETE FROM {name} LIMIT 1"));
        }
        if still {
            self.say("SET timestamp = DEFAULT".to_owned());
        }
        self.tables.push(table);
    }

    fn change(&mut self, table: &Table) -> String {
        let column = &table.columns[self.rng.random_range(0..table.columns.len())];
        format!("{} = {}", ident(&column.name), self.value(column.kind))
    }

    fn column(&mut self, key: Option<&Column>) -> (Column, String) {
        use Kind::{Address, Bytes, Choice, Computed, Json, Number, Shape, Text, Time, Uuid};
        let kinds = [Number, Number, Time, Time, Text, Text, Text, Bytes];
        let odd = [Choice, Json, Shape, Uuid, Address, Computed];
        let mut kind = kinds[self.rng.random_range(0..kinds.len())];
        if self.one_in(5) {
            kind = odd[self.rng.random_range(0..odd.len())];
        }
        if kind == Computed && key.is_none() {
            kind = Number;
        }
        let name = self.name();
        let mut sql = format!("{} {}", ident(&name), self.kind(kind));
        if kind != Computed {
            sql.push_str(self.of(&["", "", "", " NOT NULL", " DEFAULT NULL"]));
            let value = self.value(kind);
            match kind {
                Number | Text if self.one_in(4) => sql.push_str(&format!(" DEFAULT {value}")),
                Number | Time | Text | Choice | Bytes | Json | Shape | Uuid | Address
                | Computed => {}
            }
            if self.one_in(8) {
                sql.push_str(" INVISIBLE");
            }
        }
        if self.one_in(4) {
            sql.push_str(&format!(" COMMENT {}", literal(&self.text(20))));
        }
        if kind == Number && self.one_in(6) {
            sql.push_str(&format!(" CHECK ({} <> 77)", ident(&name)));
        }
        (Column { name, kind }, sql)
    }

    fn kind(&mut self, kind: Kind) -> String {
        let digits = self.rng.random_range(0..=6);
        let length = self.rng.random_range(1..200);
        match kind {
            Kind::Number => self
                .of(&[
                    "TINYINT",
                    "SMALLINT UNSIGNED",
                    "MEDIUMINT",
                    "INT(8) ZEROFILL",
                    "BIGINT",
                    "BIGINT UNSIGNED",
                    "DECIMAL(65,30)",
                    "DECIMAL(7,0) UNSIGNED",
                    "FLOAT",
                    "FLOAT(9,3)",
                    "DOUBLE",
                    "DOUBLE(20,4)",
                    "BIT(17)",
                    "BIT",
                    "YEAR",
                    "BOOLEAN",
                ])
                .to_owned(),
            Kind::Time => match self.rng.random_range(0..4) {
                0 => "DATE".to_owned(),
                1 => format!("DATETIME({digits})"),
                2 => format!("TIMESTAMP({digits})"),
                _ => format!("TIME({digits})"),
            },
            Kind::Text => {
                let (charset, collation) = self.collation();
                let kind = match self.rng.random_range(0..4) {
                    0 => format!("CHAR({})", 3 + length % 40),
                    1 => self.of(&["TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"]).to_owned(),
                    _ => format!("VARCHAR({})", 3 + length),
                };
                format!("{kind} CHARACTER SET {charset} COLLATE {collation}")
            }
            Kind::Choice => {
                let kind = self.of(&["ENUM('a','ß','x y')", "SET('b','c d','é')"]);
                let (charset, collation) = self.collation();
                format!("{kind} CHARACTER SET {charset} COLLATE {collation}")
            }
            Kind::Bytes => match self.rng.random_range(0..3) {
                0 => format!("BINARY({})", 3 + length % 30),
                1 => format!("VARBINARY({})", 3 + length),
                _ => self.of(&["TINYBLOB", "BLOB", "LONGBLOB"]).to_owned(),
            },
            Kind::Json => "JSON".to_owned(),
            Kind::Shape => self.of(&["POINT", "GEOMETRY"]).to_owned(),
            Kind::Uuid => "UUID".to_owned(),
            Kind::Address => self.of(&["INET6", "INET4"]).to_owned(),
            Kind::Computed => {
                let stored = self.of(&["VIRTUAL", "STORED"]);
                format!("BIGINT GENERATED ALWAYS AS (id * 3 + 1) {stored}")
            }
        }
    }

    fn keys(&mut self, columns: &[Column], parts: &mut Vec<String>) {
        for column in columns {
            let (name, of) = (self.name(), ident(&column.name));
            let length = match column.kind {
                Kind::Text | Kind::Bytes => "(3)",
                Kind::Number
                | Kind::Time
                | Kind::Choice
                | Kind::Uuid
                | Kind::Address
                | Kind::Computed => "",
                Kind::Json | Kind::Shape => continue,
            };
            if self.one_in(4) {
                let order = self.of(&["", "", " DESC"]);
                let ignored = self.of(&["", "", " IGNORED", " COMMENT 'why'"]);
                parts.push(format!("KEY {} ({of}{length}{order}){ignored}", ident(&name)));
            }
        }
    }

    fn rows(&mut self, table: &Table) {
        let rows = self.rng.random_range(0..25);
        let columns: Vec<&Column> =
            table.columns.iter().filter(|column| column.kind != Kind::Computed).collect();
        let names: Vec<String> = columns.iter().map(|column| ident(&column.name)).collect();
        for row in 0..rows {
            let values: Vec<String> = columns
                .iter()
                .map(|c| if c.name == "id" { row.to_string() } else { self.value(c.kind) })
                .collect();
            let (name, names, values) = (ident(&table.name), names.join(","), values.join(","));
            self.say(format!("INSERT IGNORE INTO {name} ({names}) VALUES ({values})"));
        }
    }

    fn value(&mut self, kind: Kind) -> String {
        if self.one_in(8) {
            return "NULL".to_owned();
        }
        match kind {
            Kind::Number => match self.rng.random_range(0..4) {
                0 => self
                    .of(&[
                        "0",
                        "-1",
                        "127",
                        "18446744073709551615",
                        "-9223372036854775808",
                        "3.4028235e38",
                        "1e-30",
                        "5e-324",
                        "1.7976931348623157e308",
                        "0.1",
                    ])
                    .to_owned(),
                1 => self.rng.random::<i64>().to_string(),
                _ => self.rng.random::<f64>().to_string(),
            },
            Kind::Time => match self.rng.random_range(0..3) {
                0 => self
                    .of(&[
                        "'0000-00-00'",
                        "'2024-02-30 10:00:00.5'",
                        "'-838:59:59.999999'",
                        "'9999-12-31 23:59:59.999999'",
                        "'1970-01-01 12:00:00'",
                        "0",
                    ])
                    .to_owned(),
                _ => format!(
                    "FROM_UNIXTIME({}.123456)",
                    self.rng.random_range(86_400..2_000_000_000)
                ),
            },
            Kind::Text => literal(&self.text(30)),
            Kind::Choice => self.of(&["'a'", "'ß'", "'c d,é'", "''"]).to_owned(),
            Kind::Bytes => {
                let bytes: Vec<u8> =
                    (0..self.rng.random_range(0..40)).map(|_| self.rng.random()).collect();
                format!("x'{}'", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
            }
            Kind::Json => format!("JSON_ARRAY({}, NULL, 1.5)", literal(&self.text(9))),
            Kind::Shape => {
                let (x, y) = (self.rng.random::<f64>(), self.rng.random::<f64>());
                format!("POINT({x},{y}e5)")
            }
            Kind::Uuid => "UUID()".to_owned(),
            Kind::Address => self.of(&["'10.0.0.1'", "'::ffff:1.2.3.4'", "'::'"]).to_owned(),
            Kind::Computed => "DEFAULT".to_owned(),
        }
    }

    /// A table and one of its columns, quoted.
    fn place(&mut self) -> (String, String) {
        let table = &self.tables[self.rng.random_range(0..self.tables.len())];
        let column = &table.columns[self.rng.random_range(0..table.columns.len())];
        (ident(&table.name), ident(&column.name))
    }

    fn foreign_key(&mut self) {
        self.plain();
        let keyed: Vec<&Table> = self.tables.iter().filter(|table| table.keyed).collect();
        if keyed.is_empty() {
            return;
        }
        let (from, to) =
            (self.rng.random_range(0..keyed.len()), self.rng.random_range(0..keyed.len()));
        let (from, to) = (ident(&keyed[from].name), ident(&keyed[to].name));
        let (rule, name) = (self.of(&["", " ON DELETE CASCADE"]), ident(&self.name()));
        self.say("SET foreign_key_checks = 0".to_owned());
        self.say(format!(
            "ALTER TABLE {from} ADD CONSTRAINT {name} FOREIGN KEY (id) REFERENCES {to} (id){rule}"
        ));
        self.say("SET foreign_key_checks = 1".to_owned());
    }

    fn definer(&mut self) -> &'static str {
        self.of(&["", "DEFINER=nobody@nowhere ", "DEFINER=`o d-d`@`%` "])
    }

    fn view(&mut self) {
        self.settings();
        let ((table, column), name) = (self.place(), ident(&self.name()));
        let (algorithm, definer) = (self.of(&["", "ALGORITHM=MERGE "]), self.definer());
        let (security, check) =
            (self.of(&["", "SQL SECURITY INVOKER "]), self.of(&["", " WITH LOCAL CHECK OPTION"]));
        let text = self.text(6).replace(['\\', '`'], "");
        self.say(format!(
            "CREATE {algorithm}{definer}{security}VIEW {name} AS SELECT {column} AS c, '{text}' AS t \
             FROM {table} WHERE {column} IS NOT NULL{check}"
        ));
    }

    fn routine(&mut self) {
        self.settings();
        let (name, definer) = (ident(&self.name()), self.definer());
        let text = self.text(9).replace('\\', "");
        let comment = self.of(&["", "COMMENT 'why' ", "SQL SECURITY INVOKER "]);
        if self.one_in(2) {
            self.say(format!(
                "CREATE {definer}FUNCTION {name}(a INT, b VARCHAR(9)) RETURNS TEXT DETERMINISTIC \
                 {comment}RETURN CONCAT(b, '{text}')"
            ));
        } else {
            self.say(format!(
                "CREATE {definer}PROCEDURE {name}(IN a INT, OUT b TEXT) {comment}\
                 BEGIN /* {text} */ IF a > 1 THEN SET b = '{text}'; END IF; END"
            ));
        }
    }

    fn trigger(&mut self) {
        self.settings();
        let ((table, column), name) = (self.place(), ident(&self.name()));
        let (when, what) = (self.of(&["BEFORE", "AFTER"]), self.of(&["INSERT", "UPDATE"]));
        let (definer, text) = (self.definer(), self.text(9).replace('\\', ""));
        self.say(format!(
            "CREATE {definer}TRIGGER {name} {when} {what} ON {table} FOR EACH ROW \
             BEGIN SET @x = CONCAT(NEW.{column}, '{text}'); END"
        ));
    }

    fn event(&mut self) {
        self.settings();
        let (name, definer) = (ident(&self.name()), self.definer());
        let (state, keep) =
            (self.of(&["ENABLE", "DISABLE"]), self.of(&["", "ON COMPLETION PRESERVE "]));
        let every = self.of(&["2 DAY", "'1:30' DAY_HOUR", "1 YEAR"]);
        let text = self.text(9).replace('\\', "");
        self.say(format!(
            "CREATE {definer}EVENT {name} ON SCHEDULE EVERY {every} STARTS '2036-01-01' \
             {keep}{state} DO SET @y = '{text}'"
        ));
    }
}
