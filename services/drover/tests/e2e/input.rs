//! Bad input: a code, what happened, what to do, and nothing half done.

use drover_testbed::seed::{Shape, Site};

use crate::world::{CAMPAIGN, Said, World};

/// Each code that the text names, in order.
fn codes(text: &str) -> Vec<String> {
    let starts = text.match_indices("DRV-");
    starts.map(|(at, _)| text[at..].chars().take(8).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_faulty_row_is_listed_and_nothing_is_recorded() {
    let site = |name: &str| Site::new(name, Shape::Empty, 1);
    let world = World::new(2, vec![site("one"), site("two"), site("taken")]).await;
    world.destination().execute("CREATE DATABASE taken").await.unwrap();
    let text = b"database,source,destination,host_names,wave,owner
one,src-1,dst-1,db0.sandbox.example,,a@customers.example
two,src-9,dst-1,,,
two,src-1,src-1,,,
one,src-1,dst-1,,,
gone,src-1,dst-1,,,
taken,src-1,dst-1,,,
two,src-1,dst-1,-bad-.sandbox.example,,
two,src-1,dst-1,db.elsewhere.example,,
two,src-1,dst-1,db0.sandbox.example,,
mysql,src-1,dst-1,,,
two,src-1,dst-1
tw\xff,src-1,dst-1,,,
two,src-1,dst-1,,,no-address
";
    let inventory = world.write("bad.csv", text);
    let said = world.drover(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    assert_eq!(said.code, 1, "{said:?}");
    for (line, code) in [
        (3, "DRV-0013"),
        (4, "DRV-0013"),
        (5, "DRV-0014"),
        (6, "DRV-0016"),
        (7, "DRV-0017"),
        (8, "DRV-0015"),
        (9, "DRV-0015"),
        (10, "DRV-0014"),
        (11, "DRV-0019"),
        (12, "DRV-0012"),
        (13, "DRV-0012"),
        (14, "DRV-0019"),
    ] {
        let wanted = format!("line {line}: {code}");
        assert!(said.err.contains(&wanted), "{wanted} is missing:\n{}", said.err);
    }
    assert!(!said.err.contains("line 2:"), "the good row is no fault:\n{}", said.err);
    assert!(said.err.contains("nothing was recorded"), "{}", said.err);
    let said = world.drover(&["status", CAMPAIGN]).await;
    assert_eq!(codes(&said.err).first().map(String::as_str), Some("DRV-0020"), "{said:?}");

    wrong_files(&world).await;
    planned_otherwise(&world).await;
    wrong_configuration(&world).await;
    servers_that_refuse(&world).await;
}

async fn wrong_files(world: &World) {
    for (name, content, code) in [
        ("header.csv", b"database,source,target\n".as_slice(), "DRV-0011"),
        ("utf8.csv", b"datab\xffse,source,destination,host_names,wave,owner\n", "DRV-0011"),
        ("empty.csv", b"", "DRV-0011"),
        ("rows.csv", b"database,source,destination,host_names,wave,owner\n", "DRV-0010"),
    ] {
        let path = world.write(name, content);
        let said = world.drover(&["plan", CAMPAIGN, "--inventory", path.to_str().unwrap()]).await;
        assert_eq!((said.code, codes(&said.err)[0].as_str()), (1, code), "{name}: {said:?}");
    }
    let said = world.drover(&["plan", CAMPAIGN, "--inventory", "/nowhere.csv"]).await;
    assert_eq!((said.code, codes(&said.err)[0].as_str()), (1, "DRV-0010"), "{said:?}");
}

async fn planned_otherwise(world: &World) {
    let plan = |rows: &str| {
        let text = format!("database,source,destination,host_names,wave,owner\n{rows}\n");
        world.write("other.csv", text.as_bytes())
    };
    let path = plan("one,src-1,dst-1,,w1,");
    world.ok(&["plan", "other", "--inventory", path.to_str().unwrap()]).await;
    let path = plan("one,src-1,dst-1,,w2,");
    let said = world.drover(&["plan", "other", "--inventory", path.to_str().unwrap()]).await;
    assert!(said.err.contains("line 2: DRV-0018"), "{said:?}");
}

async fn wrong_configuration(world: &World) {
    let complaint = |said: Said, code: &str, exit: i32| {
        assert_eq!((said.code, codes(&said.err)[0].as_str()), (exit, code), "{said:?}");
        assert!(said.err.contains("what to do:") && said.err.contains("ops/errors/"), "{said:?}");
    };
    let said = world.drover(&["status", CAMPAIGN, "--config", "/nowhere.toml"]).await;
    complaint(said, "DRV-0001", 2);
    let status = ["status", CAMPAIGN];
    let said = world.drover_with(&status, &[("DROVER_NATS__COLOUR", "blue")]).await;
    complaint(said, "DRV-0002", 2);
    let said = world.drover(&["serve", "dumb"]).await;
    complaint(said, "DRV-0004", 2);
    let nowhere =
        [("DROVER_NATS__URL", "nats://127.0.0.1:1"), ("DROVER_NATS__CONNECT_WAIT_MS", "500")];
    let said = world.drover_with(&status, &nowhere).await;
    complaint(said, "DRV-0100", 1);
    let said = world.drover(&["start"]).await;
    assert_eq!(said.code, 2, "wrong usage: {said:?}");
    let said = world.drover(&["status", "NO SUCH NAME"]).await;
    assert_eq!(said.code, 2, "wrong usage: {said:?}");
}

async fn servers_that_refuse(world: &World) {
    let text = "database,source,destination,host_names,wave,owner\ntwo,src-1,dst-1,,,\n";
    let path = world.write("two.csv", text.as_bytes());
    let plan = ["plan", "refused", "--inventory", path.to_str().unwrap()];
    let port = [("DROVER_SERVERS__SRC_1__MYSQL__PORT", "1")];
    let said = world.drover_with(&plan, &port).await;
    assert_eq!((said.code, codes(&said.err)[0].as_str()), (1, "DRV-0200"), "{said:?}");
    let user = [("DROVER_SERVERS__SRC_1__MYSQL__USER", "nobody")];
    let said = world.drover_with(&plan, &user).await;
    assert_eq!((said.code, codes(&said.err)[0].as_str()), (1, "DRV-0201"), "{said:?}");
    let file = [("DROVER_SERVERS__SRC_1__MYSQL__PASSWORD_FILE", "/nowhere")];
    let said = world.drover_with(&plan, &file).await;
    assert_eq!((said.code, codes(&said.err)[0].as_str()), (2, "DRV-0003"), "{said:?}");

    // A right that no step has asked for yet is named all the same, with the statement that gives
    // all of them; with it the same plan is taken.
    let destination = world.destination();
    destination.execute("REVOKE EVENT, DELETE HISTORY ON *.* FROM drover@'127.%'").await.unwrap();
    let said = world.drover(&plan).await;
    assert_eq!((said.code, codes(&said.err)[0].as_str()), (1, "DRV-0202"), "{said:?}");
    assert!(said.err.contains("DELETE HISTORY, EVENT missing"), "{said:?}");
    let grant = drover_mysql::grants_needed("drover", "127.%");
    assert!(said.err.contains(&grant), "{said:?}");
    destination.execute(&grant).await.unwrap();
    world.ok(&plan).await;
}
