//! The tables and rows of each shape of site.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Shape, Site};

/// About how many bytes of rows one INSERT of a large database makes at the server.
const LARGE_STEP_BYTES: u64 = 16 << 20;
/// The bytes of a row of a large database: a fixed part, and eight times a hash in hexadecimal.
const LARGE_ROW_BYTES: u64 = 8 * 128 + 60;
/// Over how many tables a large database's rows are spread.
const LARGE_TABLES: u64 = 3;

/// The tables of a WordPress site, closely after its schema.
const WORDPRESS: &[&str] = &[
    "CREATE TABLE wp_posts (ID bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     post_author bigint(20) unsigned NOT NULL DEFAULT 0, \
     post_date datetime NOT NULL DEFAULT '1970-01-01 00:00:00', post_content longtext NOT NULL, \
     post_title text NOT NULL, post_excerpt text NOT NULL, \
     post_status varchar(20) NOT NULL DEFAULT 'publish', post_name varchar(200) NOT NULL DEFAULT '', \
     post_modified datetime NOT NULL DEFAULT '1970-01-01 00:00:00', \
     post_parent bigint(20) unsigned NOT NULL DEFAULT 0, guid varchar(255) NOT NULL DEFAULT '', \
     menu_order int(11) NOT NULL DEFAULT 0, post_type varchar(20) NOT NULL DEFAULT 'post', \
     comment_count bigint(20) NOT NULL DEFAULT 0, PRIMARY KEY (ID), KEY post_name (post_name(191)), \
     KEY type_status_date (post_type,post_status,post_date,ID), KEY post_parent (post_parent), \
     KEY post_author (post_author)) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_postmeta (meta_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     post_id bigint(20) unsigned NOT NULL DEFAULT 0, meta_key varchar(255) DEFAULT NULL, \
     meta_value longtext DEFAULT NULL, PRIMARY KEY (meta_id), KEY post_id (post_id), \
     KEY meta_key (meta_key(191))) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_options (option_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     option_name varchar(191) NOT NULL DEFAULT '', option_value longtext NOT NULL, \
     autoload varchar(20) NOT NULL DEFAULT 'yes', PRIMARY KEY (option_id), \
     UNIQUE KEY option_name (option_name), KEY autoload (autoload)) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_users (ID bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     user_login varchar(60) NOT NULL DEFAULT '', user_pass varchar(255) NOT NULL DEFAULT '', \
     user_email varchar(100) NOT NULL DEFAULT '', user_registered datetime NOT NULL \
     DEFAULT '1970-01-01 00:00:00', display_name varchar(250) NOT NULL DEFAULT '', \
     PRIMARY KEY (ID), KEY user_login_key (user_login), KEY user_email (user_email)) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_usermeta (umeta_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     user_id bigint(20) unsigned NOT NULL DEFAULT 0, meta_key varchar(255) DEFAULT NULL, \
     meta_value longtext DEFAULT NULL, PRIMARY KEY (umeta_id), KEY user_id (user_id), \
     KEY meta_key (meta_key(191))) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_terms (term_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     name varchar(200) NOT NULL DEFAULT '', slug varchar(200) NOT NULL DEFAULT '', \
     PRIMARY KEY (term_id), KEY slug (slug(191)), KEY name (name(191))) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_term_taxonomy (term_taxonomy_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     term_id bigint(20) unsigned NOT NULL DEFAULT 0, taxonomy varchar(32) NOT NULL DEFAULT '', \
     description longtext NOT NULL, parent bigint(20) unsigned NOT NULL DEFAULT 0, \
     PRIMARY KEY (term_taxonomy_id), UNIQUE KEY term_id_taxonomy (term_id,taxonomy)) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_term_relationships (object_id bigint(20) unsigned NOT NULL DEFAULT 0, \
     term_taxonomy_id bigint(20) unsigned NOT NULL DEFAULT 0, term_order int(11) NOT NULL DEFAULT 0, \
     PRIMARY KEY (object_id,term_taxonomy_id), KEY term_taxonomy_id (term_taxonomy_id)) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_termmeta (meta_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     term_id bigint(20) unsigned NOT NULL DEFAULT 0, meta_key varchar(255) DEFAULT NULL, \
     meta_value longtext DEFAULT NULL, PRIMARY KEY (meta_id), KEY term_id (term_id)) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_comments (comment_ID bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     comment_post_ID bigint(20) unsigned NOT NULL DEFAULT 0, comment_author tinytext NOT NULL, \
     comment_author_email varchar(100) NOT NULL DEFAULT '', \
     comment_date datetime NOT NULL DEFAULT '1970-01-01 00:00:00', comment_content text NOT NULL, \
     comment_approved varchar(20) NOT NULL DEFAULT '1', \
     comment_parent bigint(20) unsigned NOT NULL DEFAULT 0, PRIMARY KEY (comment_ID), \
     KEY comment_post_ID (comment_post_ID), KEY comment_author_email (comment_author_email(10))) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_commentmeta (meta_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     comment_id bigint(20) unsigned NOT NULL DEFAULT 0, meta_key varchar(255) DEFAULT NULL, \
     meta_value longtext DEFAULT NULL, PRIMARY KEY (meta_id), KEY comment_id (comment_id)) \
     DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
    "CREATE TABLE wp_links (link_id bigint(20) unsigned NOT NULL AUTO_INCREMENT, \
     link_url varchar(255) NOT NULL DEFAULT '', link_name varchar(255) NOT NULL DEFAULT '', \
     link_visible varchar(20) NOT NULL DEFAULT 'Y', PRIMARY KEY (link_id), \
     KEY link_visible (link_visible)) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci",
];

const SHOP: &[&str] = &[
    "CREATE TABLE customers (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, name varchar(100) NOT NULL, \
     email varchar(100) DEFAULT NULL, joined date NOT NULL, UNIQUE KEY (email)) \
     DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE products (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, title varchar(120) NOT NULL, \
     price decimal(12,4) NOT NULL, tax float NOT NULL, stock int NOT NULL DEFAULT 0, \
     gross decimal(14,4) GENERATED ALWAYS AS (price * 1.2) STORED, picture mediumblob DEFAULT NULL, \
     kind enum('book','food','tool') NOT NULL, flags set('new','sale','last') NOT NULL DEFAULT '', \
     CHECK (price >= 0)) DEFAULT CHARSET=latin1",
    "CREATE TABLE orders (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id int NOT NULL, \
     placed timestamp(3) NOT NULL DEFAULT current_timestamp(3), note text DEFAULT NULL, \
     CONSTRAINT orders_customer FOREIGN KEY (customer_id) REFERENCES customers (id) \
     ON DELETE CASCADE)",
    "CREATE TABLE order_lines (order_id int NOT NULL, line smallint NOT NULL, product_id int NOT NULL, \
     quantity int NOT NULL, price decimal(12,4) NOT NULL, PRIMARY KEY (order_id, line), \
     CONSTRAINT line_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE, \
     CONSTRAINT line_product FOREIGN KEY (product_id) REFERENCES products (id))",
];

const FORUM: &[&str] = &[
    "CREATE TABLE threads (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, title varchar(200) NOT NULL, \
     opened datetime NOT NULL, FULLTEXT KEY title (title)) DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE posts (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, thread_id int NOT NULL, \
     author varchar(60) NOT NULL, body mediumtext NOT NULL, address varbinary(16) DEFAULT NULL, \
     KEY thread_id (thread_id), FULLTEXT KEY body (body)) DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE sessions (id char(32) NOT NULL PRIMARY KEY, data blob DEFAULT NULL, \
     seen int unsigned NOT NULL, KEY seen (seen)) ENGINE=MyISAM DEFAULT CHARSET=latin1",
    "CREATE TABLE log (at datetime NOT NULL, what varchar(200) NOT NULL, KEY at (at)) \
     ENGINE=Aria DEFAULT CHARSET=utf8mb4",
];

/// The statements that make the tables, rows and objects of a site.
pub(super) fn statements(site: &Site) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(site.seed);
    match site.shape {
        Shape::Wordpress => wordpress(&mut random),
        Shape::Shop => shop(&mut random, &site.definer()),
        Shape::Forum => forum(&mut random),
        Shape::Empty => Vec::new(),
        Shape::Large { bytes } => large(site.seed, bytes),
    }
}

/// What the site's scheduled event does.
pub(super) fn purge(shape: Shape) -> &'static str {
    match shape {
        Shape::Wordpress => "DELETE FROM wp_options WHERE option_name LIKE '\\_transient\\_%'",
        Shape::Shop => "UPDATE products SET flags = '' WHERE stock = 0",
        Shape::Forum => "DELETE FROM sessions WHERE seen < 1000",
        Shape::Empty | Shape::Large { .. } => "DO 1",
    }
}

/// A table that a narrow account may read, and a column of it that it may change.
pub(super) fn narrow(shape: Shape) -> Option<(&'static str, &'static str)> {
    match shape {
        Shape::Wordpress => Some(("wp_users", "display_name")),
        Shape::Shop => Some(("customers", "email")),
        Shape::Forum => Some(("threads", "title")),
        Shape::Empty | Shape::Large { .. } => None,
    }
}

fn owned(tables: &[&str]) -> Vec<String> {
    tables.iter().map(|table| (*table).to_owned()).collect()
}

fn wordpress(random: &mut StdRng) -> Vec<String> {
    let mut all = owned(WORDPRESS);
    all.push(insert("wp_posts", 60, |i| {
        let (title, body) = (words(random, 6), words(random, 500));
        format!(
            "({i},{},{},{},{},'','publish','post-{i}',{},0,'https://site.example/?p={i}',0,'post',{})",
            i % 3 + 1,
            date(random),
            quote(&body),
            quote(&title),
            date(random),
            i % 5
        )
    }));
    all.push(insert("wp_postmeta", 300, |i| {
        let text = words(random, 6);
        let value = format!("a:1:{{s:5:\"value\";s:{}:\"{text}\";}}", text.len());
        format!("({i},{},'_meta_{}',{})", i / 5 + 1, i % 9, quote(&value))
    }));
    all.push(insert("wp_options", 150, |i| {
        let name = if i % 10 == 0 { format!("_transient_{i}") } else { format!("option_{i}") };
        format!("({i},'{name}',{},'yes')", quote(&words(random, 30)))
    }));
    all.push(insert("wp_users", 3, |i| {
        let hash = format!("$P$B{:032x}", random.random::<u128>());
        format!("({i},'user{i}','{hash}','user{i}@example.org',{},'Üser {i} 😀')", date(random))
    }));
    all.push(insert("wp_usermeta", 45, |i| {
        format!("({i},{},'key_{}',{})", i % 3 + 1, i / 3, quote(&words(random, 4)))
    }));
    all.push(insert("wp_terms", 20, |i| format!("({i},{},'term-{i}')", quote(&words(random, 1)))));
    all.push(insert("wp_term_taxonomy", 20, |i| format!("({i},{i},'category','',0)")));
    all.push(insert("wp_term_relationships", 60, |i| format!("({i},{},0)", i % 20 + 1)));
    all.push(insert("wp_comments", 120, |i| {
        let approved = if i % 7 == 0 { "spam" } else { "1" };
        format!(
            "({i},{},'guest','guest{i}@example.org',{},{},'{approved}',0)",
            i % 60 + 1,
            date(random),
            quote(&words(random, 50))
        )
    }));
    all.push(insert("wp_commentmeta", 30, |i| format!("({i},{},'rating',NULL)", i * 4)));
    all.push(insert("wp_links", 5, |i| format!("({i},'https://example.net/{i}','Link {i}','Y')")));
    all
}

fn shop(random: &mut StdRng, definer: &str) -> Vec<String> {
    let mut all = owned(SHOP);
    all.push(insert("customers", 80, |i| {
        let email = if i % 9 == 0 { "NULL".to_owned() } else { format!("'c{i}@example.org'") };
        format!("({i},{},{email},'2017-0{}-1{}')", quote(&words(random, 2)), i % 9 + 1, i % 10)
    }));
    all.push(insert("products (id,title,price,tax,stock,picture,kind,flags)", 60, |i| {
        let picture: String = (0..64).map(|_| format!("{:02x}", random.random::<u8>())).collect();
        format!(
            "({i},{},{}.{:04},0.{},{},x'{picture}','{}','new,last')",
            quote(&words(random, 3).replace(|c: char| !c.is_ascii(), "?")),
            random.random_range(0..5000),
            random.random_range(0..10_000),
            random.random_range(1..99),
            random.random_range(100..1000),
            ["book", "food", "tool"][i % 3]
        )
    }));
    all.push(insert("orders", 150, |i| {
        let note = if i % 4 == 0 { quote(&words(random, 8)) } else { "NULL".to_owned() };
        format!("({i},{},{},{note})", random.random_range(1..=80), date(random))
    }));
    all.push(insert("order_lines", 400, |i| {
        let price = random.random_range(0..100_000);
        format!(
            "({},{},{},{},{}.{:04})",
            i % 150 + 1,
            i / 150 + 1,
            random.random_range(1..=60),
            random.random_range(1..5),
            price / 100,
            price % 100
        )
    }));
    all.push(format!(
        "CREATE DEFINER={definer} TRIGGER line_added AFTER INSERT ON order_lines FOR EACH ROW \
         UPDATE products SET stock = stock - NEW.quantity WHERE id = NEW.product_id"
    ));
    all.push(format!(
        "CREATE DEFINER={definer} VIEW order_totals AS SELECT o.id, c.name, \
         SUM(l.quantity * l.price) AS total FROM orders o JOIN customers c ON c.id = o.customer_id \
         JOIN order_lines l ON l.order_id = o.id GROUP BY o.id, c.name"
    ));
    all.push(format!(
        "CREATE DEFINER={definer} FUNCTION with_tax(net DECIMAL(12,4)) RETURNS DECIMAL(12,4) \
         DETERMINISTIC RETURN net * 1.2"
    ));
    all.push(format!(
        "CREATE DEFINER={definer} PROCEDURE orders_of(IN who INT) READS SQL DATA COMMENT 'a''b' \
         BEGIN SELECT id, with_tax(total) FROM order_totals WHERE id IN \
         (SELECT id FROM orders WHERE customer_id = who); END"
    ));
    all
}

fn forum(random: &mut StdRng) -> Vec<String> {
    let mut all = owned(FORUM);
    all.push(insert("threads", 40, |i| {
        format!("({i},{},{})", quote(&words(random, 5)), date(random))
    }));
    all.push(insert("posts", 300, |i| {
        let address = if i % 6 == 0 {
            "NULL".to_owned()
        } else {
            format!("x'{:08x}'", random.random::<u32>())
        };
        format!("({i},{},'member{}',{},{address})", i % 40 + 1, i % 17, quote(&words(random, 40)))
    }));
    all.push(insert("sessions", 60, |i| {
        format!("('{:032x}',x'00ff{i:04x}',{})", random.random::<u128>(), 1_500_000_000 + i)
    }));
    all.push(insert("log", 200, |_| format!("({},{})", date(random), quote(&words(random, 3)))));
    all
}

/// Rows made at the server, as sending them would be most of the work.
fn large(seed: u64, bytes: u64) -> Vec<String> {
    let mut all = Vec::new();
    let rows = bytes / LARGE_TABLES / LARGE_ROW_BYTES;
    let step = LARGE_STEP_BYTES / LARGE_ROW_BYTES;
    for table in 1..=LARGE_TABLES {
        all.push(format!(
            "CREATE TABLE large_{table} (id bigint NOT NULL PRIMARY KEY, code char(32) NOT NULL, \
             at datetime(6) NOT NULL, number double NOT NULL, body text NOT NULL, KEY code (code))"
        ));
        let mut from = 1;
        while from <= rows {
            let to = rows.min(from + step - 1);
            all.push(format!(
                "INSERT INTO large_{table} SELECT seq, MD5(seq + {}), \
                 TIMESTAMPADD(MICROSECOND, seq * 1000003, '2019-01-01'), SQRT(seq), \
                 REPEAT(SHA2(seq + {table}, 512), 8) FROM seq_{from}_to_{to}",
                seed % 1_000_000
            ));
            from = to + 1;
        }
    }
    all
}

/// One INSERT of `number` rows, counted from 1.
fn insert(into: &str, number: usize, row: impl FnMut(usize) -> String) -> String {
    let rows: Vec<String> = (1..=number).map(row).collect();
    format!("INSERT INTO {into} VALUES {}", rows.join(","))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn date(random: &mut StdRng) -> String {
    format!(
        "'20{:02}-{:02}-{:02} {:02}:{:02}:{:02}'",
        random.random_range(10..19),
        random.random_range(1..13),
        random.random_range(1..29),
        random.random_range(4..24),
        random.random_range(0..60),
        random.random_range(0..60)
    )
}

fn words(random: &mut StdRng, number: usize) -> String {
    const WORDS: &[&str] = &[
        "herd",
        "drover",
        "ox",
        "cart",
        "it's",
        "market",
        "of",
        "the",
        "and",
        "night",
        "road",
        "crossing",
        "café",
        "river",
        "<p>",
        "</p>",
        "bridge",
        "a",
        "in",
        "field",
        "“quoted”",
        "path\\to",
        "gate",
        "east",
        "before",
        "morning",
        "wagon",
        "😀",
    ];
    let some: Vec<&str> = (0..number).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
    some.join(" ")
}
