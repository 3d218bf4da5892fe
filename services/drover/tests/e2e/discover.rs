//! An inventory that is made of what is on the servers, and planned as it was written.

use drover_testbed::seed::{Shape, Site};

use crate::world::{CAMPAIGN, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_sources_is_found_and_can_be_planned() {
    // The test's zone has a name db0, db1, … for each, which points to the source.
    let sites = ["db0", "db1", "other"].map(|name| Site::new(name, Shape::Shop, 3));
    let world = World::new(2, sites.into()).await;
    let file = world.fleet.bed.dir().join("found.csv");
    let path = file.to_str().unwrap();
    let said = world.ok(&["plan", CAMPAIGN, "--discover", path]).await;
    assert!(
        said.contains("3 databases; sources 1, destinations 1, of which none is fit for 0"),
        "{said}"
    );
    assert!(said.contains("2 of 3 host names"), "{said}");
    let mut reader = csv::Reader::from_path(&file).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let row = |n: usize| rows[n].iter().take(5).map(str::to_owned).collect::<Vec<_>>();
    let host = &world.rows[0].host_name;
    assert_eq!(row(0), ["db0", "src-1", "dst-1", host.as_str(), "src-1"]);
    assert_eq!(row(2), ["other", "src-1", "dst-1", "", "src-1"]);
    assert!(rows[0][6].parse::<u64>().unwrap() > 0, "{:?}", rows[0]);
    assert!(rows[0][7].contains(&world.rows[0].site.owner.user), "{:?}", rows[0]);
    // A person's edits are not overwritten.
    let again = world.drover(&["plan", CAMPAIGN, "--discover", path]).await;
    assert!(again.code == 1 && again.err.contains("DRV-0010"), "{again:?}");
    let said = world.ok(&["plan", CAMPAIGN, "--inventory", path]).await;
    assert!(said.contains("3 migrations planned"), "{said}");
}
