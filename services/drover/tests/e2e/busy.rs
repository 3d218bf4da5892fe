//! Servers that say what they are under: whoever is past a bound gets fewer migrations at once, whoever
//! has no room none, and both go on when it has passed.

use drover_testbed::{
    Mariadb,
    bed::eventually,
    seed::{Shape, Site},
};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

use crate::world::{CAMPAIGN, DEADLINE, World};

const DATABASES: usize = 4;

/// Everything but what imports, and what switches host names: so the campaign goes on for as long as
/// the test needs it.
const OTHERS: [&str; 5] = ["orchestrator", "dump", "notify", "projector", "console"];

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_source_gets_fewer_at_once_and_a_full_destination_none_until_it_has_passed() {
    let site = |n| Site::new(&format!("b{n}"), Shape::Empty, n as u64);
    let world = World::new(2, (0..DATABASES).map(site).collect()).await;
    let _services = world.serve("drover-1", &OTHERS);
    world.start(2).await;
    world.until("two are frozen", |counts| counts["phases"]["import"] == 2).await;

    let neighbours = Neighbours::at(world.source(), 5).await;
    let said = world.ok(&["tune", CAMPAIGN, "--threads-running", "4"]).await;
    assert!(said.contains("at most 4 threads at a server"), "{said}");
    let told = hosts_until(&world, |hosts| hosts.len() == 1).await;
    assert_eq!((&told[0]["host"], &told[0]["slots_max"]), (&"src-1".into(), &1.into()), "{told:?}");
    assert!(told[0]["reason"].as_str().unwrap().contains("threads run, at most 4"), "{told:?}");
    let said = world.ok(&["hosts", CAMPAIGN]).await;
    assert!(said.contains("src-1  1 at once since"), "{said}");
    neighbours.leave().await;
    // Nobody needs to say so.
    hosts_until(&world, <[Value]>::is_empty).await;

    // A bound that no disk can keep stands for one that is full.
    let full = "INSTALL SONAME 'disks'; GRANT FILE ON *.* TO drover@'127.%'";
    world.destination().execute(full).await.unwrap();
    world.ok(&["tune", CAMPAIGN, "--disk-free", "99"]).await;
    let _import = world.serve("drover-import-1", &["import"]);
    let told = hosts_until(&world, |hosts| hosts.len() == 1).await;
    assert_eq!(told[0]["slots_max"], Value::Null, "{told:?}");
    assert!(told[0]["reason"].as_str().unwrap().contains("of its disk are free"), "{told:?}");
    world.ok(&["tune", CAMPAIGN, "--disk-free", "0"]).await;
    world.ok(&["hosts", CAMPAIGN, "--release", "dst-1"]).await;
    let _dns = world.serve("drover-dns-1", &["dns"]);
    world.until("all completed", |counts| counts["completed"] == DATABASES).await;
}

/// Waits until these hosts are set aside or held down.
async fn hosts_until(world: &World, so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let hosts = || async {
        let told = world.json(&["hosts", CAMPAIGN, "--json"]).await;
        told.as_array().cloned().unwrap()
    };
    eventually(DEADLINE, || async { Ok(so(&hosts().await)) }).await.unwrap();
    hosts().await
}

/// Sessions that work at a server.
struct Neighbours {
    at: Vec<(mysql_async::Conn, u32)>,
    busy: Vec<tokio::task::JoinHandle<Result<(), mysql_async::Error>>>,
}

impl Neighbours {
    async fn at(server: &Mariadb, count: usize) -> Self {
        let (mut at, mut busy) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut conn = server.root().await.unwrap();
            at.push((server.root().await.unwrap(), conn.id()));
            busy.push(tokio::spawn(async move { conn.query_drop("DO SLEEP(3600)").await }));
        }
        Self { at, busy }
    }

    async fn leave(self) {
        for (mut other, id) in self.at {
            other.query_drop(format!("KILL {id}")).await.unwrap();
        }
        for busy in self.busy {
            busy.await.unwrap().unwrap_err();
        }
    }
}
