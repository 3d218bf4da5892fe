//! No secret in anything that a campaign writes or says: the bus's files, every process's log at
//! its most talkative, the store, the SQLite file, the mails, what the commands print, and the
//! arguments of every process.
//!
//! 1. The campaign has what makes services speak: one migration that succeeds, after a receiver of
//!    the webhook that was out of order; and one that fails at its last step before the switch, with
//!    an error about an account, and is undone.
//! 2. The folder of all servers and processes is searched as it is on disk, so that what is deleted
//!    for whoever asks, but still there, is found too. Left out are only the places where secrets
//!    are at home: their own files, and the MySQL servers' data.
//! 3. Each secret is looked for in every spelling that a program may give it by chance: as it is, in
//!    hexadecimal, in base64 at any place of a longer text, as a list of numbers; in any case.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use aho_corasick::AhoCorasick;
use axum::{Router, http::StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use drover_testbed::{
    bed::eventually,
    mariadb::{Mariadb, secret, write_private},
    nats::bus_folder,
    seed::{Account, Shape, Site},
};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

use crate::world::{CAMPAIGN, DEADLINE, World};

/// How often the arguments of all processes are read: those of Drover's live far longer.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// What a row of the customer's holds. Only dumps may have it.
const ROW: &str = "what a row of the customer holds";
const ROW_NAME: &str = "a customer's row";

/// Shorter than this is no secret, but what stands around it.
const SECRET_CHARS_MIN: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_campaign_writes_holds_a_secret() {
    let reader = Account { user: "reader".into(), hosts: vec!["%".into()], password: secret() };
    let good = Site { reader: Some(reader), ..Site::new("good", Shape::Shop, 1) };
    let world = World::new(2, vec![good, Site::new("taken", Shape::Shop, 2)]).await;
    for database in ["good", "taken"] {
        let table = format!("CREATE TABLE {database}.private (a TEXT) SELECT '{ROW}' AS a");
        world.source().execute(&table).await.unwrap();
    }
    // The destination has an account of this name with another password.
    let other = secret();
    let taken = format!("CREATE USER u_taken@'%' IDENTIFIED BY '{other}'");
    world.destination().execute(&taken).await.unwrap();
    let webhook = format!("whsec_{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>()));
    let webhook_file = world.fleet.bed.dir().join("webhook.secret");
    write_private(&webhook_file, &webhook).unwrap();

    let mut secrets = secrets(&world).await;
    secrets.push(("the other account's password".into(), other.into_bytes()));
    secrets.push(("the webhook's secret".into(), webhook.into_bytes()));
    let search = Search::new(&secrets);
    let watch = Watch::begin();
    let said = campaign(&world, &webhook_file).await;
    let arguments = watch.end();

    search.finds_what_is_there(&world).await;
    let nats = files(&world.fleet.nats.dir(), &[]);
    let bus: Vec<u8> = nats.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    assert!(
        bus.windows(15).any(|window| window == b"owner1@customer"),
        "the bus's files were not read"
    );
    let mut found = BTreeSet::new();
    for (place, text) in said.iter().chain(&arguments) {
        found.extend(search.all(place, text.as_bytes()));
    }
    let home = bus_folder(&world.fleet.bed);
    let mut at_home = vec![home, webhook_file, world.fleet.bed.dir().join("link.key")];
    let bind = world.fleet.bind.folder();
    at_home.extend([world.fleet.bind.key_file(), bind.join("update.key")]);
    for server in world.fleet.servers() {
        at_home.extend([server.data(), server.drover_password_file(), server.root_options_file()]);
        at_home.push(world.fleet.bed.dir().join(format!("{}.age", server.name())));
    }
    for path in files(world.fleet.bed.dir(), &at_home) {
        found.extend(search.file(&path));
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(arguments.iter().any(|(_, text)| text.contains(" serve all")), "{arguments:?}");
}

/// Runs the campaign to its end, with every command that there is, and ends all processes. What
/// they printed.
async fn campaign(world: &World, webhook_file: &Path) -> Vec<(String, String)> {
    let address = (world.fleet.bed.address().unwrap(), 8090);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let posted = Arc::new(AtomicUsize::new(0));
    let count = posted.clone();
    let receiver = Router::new().fallback(move || async move {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        if first { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
    });
    let receiver = tokio::spawn(async move { axum::serve(listener, receiver).await });
    let url = format!("http://{}:{}/hook", address.0, address.1);
    let environment = [
        ("RUST_LOG", "debug"),
        ("DROVER_NOTIFY__WEBHOOK__URL", url.as_str()),
        ("DROVER_NOTIFY__WEBHOOK__SECRET_FILE", webhook_file.to_str().unwrap()),
    ];
    let services = world.serve_with("drover", &["all"], &environment);
    let limits = fs::read_to_string(format!("/proc/{}/limits", services.pid())).unwrap();
    world.start(4).await;
    world.until("one each", |counts| counts["completed"] == 1 && counts["parked"] == 1).await;
    assert!(posted.load(Ordering::SeqCst) >= 2, "the receiver was asked again");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "no core dump: {core}");

    let groups = world.json(&["failures", CAMPAIGN, "--json"]).await;
    let parked = groups.as_array().unwrap().iter().find(|group| group["waiting"] == 1).unwrap();
    assert_eq!(parked["code"], "DRV-0401", "{groups:#}");
    let inventory = world.inventory();
    let signature = parked["signature"].as_str().unwrap();
    let commands: [&[&str]; 16] = [
        &["--help"],
        &["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()],
        &["status", CAMPAIGN],
        &["status", CAMPAIGN, "--json"],
        &["failures", CAMPAIGN],
        &["failures", CAMPAIGN, "--json"],
        &["events", CAMPAIGN],
        &["events", CAMPAIGN, "--json"],
        &["audit", CAMPAIGN, "--database", "good"],
        &["audit", CAMPAIGN, "--database", "taken", "--json"],
        &["doctor", CAMPAIGN],
        &["doctor", CAMPAIGN, "--json"],
        &["pause", CAMPAIGN],
        &["resume", CAMPAIGN],
        &["retry", CAMPAIGN, "--signature", signature],
        &["init", "--streams"],
    ];
    let mut said = Vec::new();
    for arguments in commands {
        let printed = world.drover_with(arguments, &[("RUST_LOG", "debug")]).await;
        said.push((format!("drover {}", arguments.join(" ")), printed.out + &printed.err));
    }
    eventually(DEADLINE, || async {
        let groups = world.json(&["failures", CAMPAIGN, "--json"]).await;
        let again = |group: &&Value| group["signature"] == signature && group["count"] == 2;
        let again = groups.as_array().is_some_and(|groups| groups.iter().any(|g| again(&g)));
        Ok(again && world.counts().await["parked"] == 1)
    })
    .await
    .unwrap();
    services.stop().unwrap();
    world.fleet.nats.stop().unwrap();
    receiver.abort();
    said
}

/// Every secret that this fleet has, with its name.
async fn secrets(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut secrets = Vec::new();
    let mut add = |name: String, secret: &str| secrets.push((name, secret.as_bytes().to_vec()));
    for site in world.rows.iter().map(|row| &row.site) {
        for account in [Some(&site.owner), site.reader.as_ref()].into_iter().flatten() {
            add(format!("the password of {}", account.user), &account.password);
        }
    }
    let dir = world.fleet.bed.dir();
    let mut at_home = vec![dir.join("link.key"), world.fleet.bind.key_file()];
    for server in world.fleet.servers() {
        add(format!("root's password at {}", server.name()), server.root_password());
        at_home.push(server.drover_password_file());
    }
    at_home.push(dir.join("dst-1.age"));
    let keys = files(&bus_folder(&world.fleet.bed), &[]).into_iter();
    at_home.extend(
        keys.filter(|path| {
            path.extension().is_some_and(|ending| ending == "nk" || ending == "key")
        }),
    );
    for path in &at_home {
        let name = path.strip_prefix(dir).unwrap().display().to_string();
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with(['#', '-']));
        let lines: Vec<&str> = lines.filter(|line| line.len() >= SECRET_CHARS_MIN).collect();
        assert!(!lines.is_empty(), "{name} holds no secret");
        lines.into_iter().for_each(|line| add(name.clone(), line));
    }
    assert!(at_home.iter().filter(|path| path.extension() == Some("nk".as_ref())).count() > 5);
    for server in world.fleet.servers() {
        for (account, hash) in hashes(server).await {
            // As text, without the star before it, and as the bytes that it stands for.
            let digits = hash.trim_start_matches('*');
            let bytes = (0..digits.len()).step_by(2);
            let bytes = bytes.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            let name = format!("the hash of {account} at {}", server.name());
            secrets.push((name.clone(), bytes.collect()));
            secrets.push((name, digits.as_bytes().to_vec()));
        }
    }
    secrets
}

/// Every account's password hash.
async fn hashes(server: &Mariadb) -> Vec<(String, String)> {
    let mut root = server.root().await.unwrap();
    let hash = "JSON_VALUE(Priv, '$.authentication_string')";
    let sql = format!(
        "SELECT CONCAT(User, '@', Host), {hash} FROM mysql.global_priv WHERE {hash} LIKE '*%'"
    );
    let hashes: Vec<(String, String)> = root.query(sql).await.unwrap();
    root.disconnect().await.unwrap();
    assert!(hashes.iter().any(|(account, _)| account == "drover@127.%"), "{hashes:?}");
    hashes
}

/// Looks for all spellings of all secrets at once.
struct Search {
    spellings: AhoCorasick,
    /// The secret's name, for each spelling.
    names: Vec<String>,
}

impl Search {
    fn new(secrets: &[(String, Vec<u8>)]) -> Self {
        let (mut names, mut all) = (vec![ROW_NAME.to_owned()], vec![ROW.as_bytes().to_vec()]);
        for (name, secret) in secrets {
            for spelling in spellings(secret) {
                names.push(name.clone());
                all.push(spelling);
            }
        }
        let mut builder = AhoCorasick::builder();
        let spellings = builder.ascii_case_insensitive(true).build(all).unwrap();
        Self { spellings, names }
    }

    /// What the text holds, each with the place; never the secret itself.
    fn all(&self, place: &str, text: &[u8]) -> Vec<String> {
        let found = self.spellings.find_overlapping_iter(text);
        found.map(|at| format!("{place}: {}", self.names[at.pattern().as_usize()])).collect()
    }

    fn file(&self, path: &Path) -> Vec<String> {
        let place = path.display().to_string();
        let Ok(bytes) = fs::read(path) else { return Vec::new() };
        let mut found = self.all(&place, &bytes);
        if place.ends_with("dump.sql.zst") {
            found.extend(self.all(&place, &zstd::decode_all(bytes.as_slice()).unwrap()));
            let all = found.len();
            found.retain(|found| !found.ends_with(ROW_NAME));
            assert!(found.len() < all, "{place} was not read");
        }
        assert!(!place.ends_with("accounts.age"), "{place} is needed by nobody any more");
        found
    }

    /// A search that finds nothing may be blind: where secrets are at home it finds them.
    async fn finds_what_is_there(&self, world: &World) {
        let dir = world.fleet.bed.dir();
        for home in ["src-1.drover.password", "webhook.secret", "dst-1.age", "link.key"] {
            assert!(!self.file(&dir.join(home)).is_empty(), "nothing in {home}");
        }
        let mut root = world.source().root().await.unwrap();
        let shown: Vec<String> = root.query("SHOW CREATE USER u_good@'%'").await.unwrap();
        root.disconnect().await.unwrap();
        let found = self.all("shown", shown[0].as_bytes()).join(" ");
        assert!(found.contains("the hash of u_good@%"), "{found}");
        // The same bytes in the middle of others, in base64.
        let key = fs::read(dir.join("link.key")).unwrap();
        let one = BASE64_STANDARD.encode(&key);
        let other = BASE64_STANDARD.encode([b"1".as_slice(), &key].concat());
        assert!([one, other].iter().all(|text| !self.all("base64", text.as_bytes()).is_empty()));
    }
}

/// The ways in which a program may write a secret by chance.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let list = format!("{secret:?}");
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![
        secret.to_vec(),
        digits.into_bytes(),
        list.trim_matches(['[', ']']).replace(", ", ",").into_bytes(),
        list.trim_matches(['[', ']']).to_owned().into_bytes(),
    ];
    // In the base64 of a longer text a secret begins at one of three places in a group; the digits
    // at its ends also depend on its neighbours.
    for before in 0..3 {
        let text = BASE64_STANDARD.encode([&[0; 2][..before], secret].concat());
        let (begin, end) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
        let text = &text[begin..end];
        all.push(text.as_bytes().to_vec());
        all.push(text.replace('+', "-").replace('/', "_").into_bytes());
    }
    all
}

/// All files under a folder, except those in `left_out`.
fn files(folder: &Path, left_out: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A MySQL server's own, too: its system tables before anybody had an account, and what it
        // has no room for in memory.
        let is_servers = name.starts_with("mariadb-template") || name.ends_with(".tmp");
        if is_servers || left_out.contains(&path) {
            continue;
        }
        // The servers that still run may rename a file of theirs.
        let Ok(kind) = fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() {
            files.extend(self::files(&path, left_out));
        } else if kind.is_file() {
            files.push(path);
        }
    }
    files
}

/// Reads the arguments of all processes again and again.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn begin() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    // One that has ended meanwhile, or is no process, has none.
                    let Ok(bytes) = fs::read(entry.path().join("cmdline")) else { continue };
                    seen.insert(String::from_utf8_lossy(&bytes).replace('\0', " "));
                }
                std::thread::sleep(SAMPLE_EVERY);
            }
            seen
        });
        Self { is_over, thread }
    }

    /// The arguments that were seen.
    fn end(self) -> Vec<(String, String)> {
        self.is_over.store(true, Ordering::SeqCst);
        let seen = self.thread.join().unwrap();
        seen.into_iter().map(|text| ("the arguments of a process".to_owned(), text)).collect()
    }
}
