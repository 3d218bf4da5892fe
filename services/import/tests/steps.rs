//! All steps of source and destination, one after the other and each twice, on real servers and a
//! real store; and what is wrong in the store is refused before anything opens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic anywhere")]

use std::{fs, path::PathBuf};

use drover_bus::Bus;
use drover_dumpstore::Store;
use drover_import::Destination;
use drover_lifecycle::Conclusion;
use drover_mysql::{Server, seal};
use drover_schemas::{
    Code, MigrationId,
    v1::{self, Job, Step, migration_event::Event},
};
use drover_testbed::{
    Bed, Fleet,
    fleet::Plan,
    mariadb::{Mariadb, Settings, write_private},
    nats::Nats,
    seed::{self, Shape, Site},
};

struct World {
    _nats: Nats,
    fleet: Fleet,
    dump: drover_dump::Service,
    import: drover_import::Service,
    job: Job,
    site: Site,
}

fn server(server: &Mariadb) -> Server {
    let mut options = drover_mysql::Options::new(server.address().to_string(), server.port());
    options.password_file = server.drover_password_file();
    Server::new(server.name().parse().unwrap(), options).unwrap()
}

fn sealed(fleet: &Fleet, name: &str) -> seal::Options {
    use age::{secrecy::ExposeSecret as _, x25519::Identity};
    let identity = Identity::generate();
    let identity_file = fleet.bed.dir().join(name);
    write_private(&identity_file, identity.to_string().expose_secret()).unwrap();
    seal::Options { to: identity.to_public().to_string(), identity_file }
}

impl World {
    async fn new() -> Self {
        let settings = Settings { relaxed_durability: true, ..Settings::default() };
        let plan = Plan { sources: 1, destinations: 1, slots: 1, both_ways: false, settings };
        let fleet = Fleet::start(Bed::new().unwrap(), &plan, |_| Vec::new()).await.unwrap();
        let site = Site { has_event: true, ..Site::new("steps", Shape::Shop, 3) };
        seed::sow(&fleet.sources[0], std::slice::from_ref(&site)).await.unwrap();
        // The services want one, but a step says nothing on it.
        let nats = Nats::start(&fleet.bed).unwrap();
        let options = drover_bus::Options { url: nats.url(), ..Default::default() };
        let bus = Bus::connect(&options, "test").await.unwrap();
        let url = fleet.bed.dir().join("store").display().to_string();
        let store = Store::open(&drover_dumpstore::Options { url, ..Default::default() }).unwrap();
        let seal = sealed(&fleet, "identity");
        let source = drover_dump::Source { server: server(&fleet.sources[0]), slots: 1 };
        let destination =
            Destination { server: server(&fleet.destinations[0]), slots: 1, seal: seal.clone() };
        let [src, dst] = ["src-1", "dst-1"].map(|name| name.parse().unwrap());
        let dump = drover_dump::Service::new(
            bus.clone(),
            store.clone(),
            [(src, source)].into(),
            [("dst-1".parse().unwrap(), seal)].into(),
            "test",
        );
        let import = drover_import::Service::new(bus, store, [(dst, destination)].into(), "test");
        let campaign = "night".parse().unwrap();
        let id = MigrationId::new(&campaign, &"src-1".parse().unwrap(), &site.database);
        let job = Job {
            campaign: campaign.to_string(),
            migration_id: id.to_string(),
            run: 1,
            attempt: 1,
            planned: Some(v1::MigrationPlanned {
                campaign: campaign.to_string(),
                database: site.database.clone(),
                source: "src-1".into(),
                destination: "dst-1".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        Self { _nats: nats, fleet, dump, import, job, site }
    }

    /// A step of the next revision.
    async fn step(&mut self, step: Step) -> Conclusion {
        self.job.revision += 1;
        self.again(step).await
    }

    /// A step of the same revision: the same order given out twice.
    async fn again(&mut self, step: Step) -> Conclusion {
        self.job.step = step.into();
        let conclusion = match step {
            Step::Freeze | Step::Dump | Step::Disarm | Step::Retire | Step::Thaw => {
                self.dump.step(&self.job).await
            }
            _ => self.import.step(&self.job).await,
        };
        if let Ok(Event::DumpStored(stored)) = &conclusion {
            self.job.dump = Some(stored.clone());
        }
        conclusion
    }

    async fn twice(&mut self, step: Step) -> Event {
        let first = self.step(step).await.unwrap();
        let second = self.again(step).await.unwrap();
        if step != Step::Dump {
            assert_eq!(first, second, "{step:?}: the same order gives the same facts");
        }
        second
    }

    async fn fails(&mut self, step: Step, code: Code) {
        let failure = self.step(step).await.unwrap_err();
        assert_eq!(failure.code, code, "{step:?}: {failure}");
    }

    fn object(&self, key: &str) -> PathBuf {
        self.fleet.bed.dir().join("store").join(key)
    }

    async fn may_write(&self, server: &Mariadb) -> bool {
        let owner = &self.site.owner;
        let Ok(mut conn) = server.connect(&owner.user, &owner.password).await else { return false };
        use mysql_async::prelude::Queryable as _;
        conn.query_drop("CREATE TABLE steps.t (a INT)").await.is_ok()
            && conn.query_drop("DROP TABLE steps.t").await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_each_step_twice() {
    let mut world = World::new().await;
    world.twice(Step::Freeze).await;
    assert!(!world.may_write(&world.fleet.sources[0]).await);
    let first = world.step(Step::Dump).await.unwrap();
    let second = world.again(Step::Dump).await.unwrap();
    let (Event::DumpStored(first), Event::DumpStored(second)) = (first, second) else { panic!() };
    assert_ne!(first.dump_object, second.dump_object, "no upload overwrites another's");
    assert_eq!((first.tables, first.rows), (second.tables, second.rows));
    for step in [Step::Import, Step::Verify, Step::Disarm, Step::Open] {
        assert!(!world.may_write(&world.fleet.destinations[0]).await, "before {step:?}");
        world.twice(step).await;
    }
    assert!(world.may_write(&world.fleet.destinations[0]).await);
    world.twice(Step::Retire).await;

    // And back, from where it had come.
    let early = world.step(Step::Thaw).await.unwrap_err();
    assert_eq!(early.code, Code::DestinationUnknown, "{early}");
    world.job.destination_shut = true;
    for step in [Step::Close, Step::Drop, Step::Thaw] {
        world.twice(step).await;
    }
    assert!(world.may_write(&world.fleet.sources[0]).await);
    assert!(!world.may_write(&world.fleet.destinations[0]).await);

    // What comes late from before the undo is refused.
    let late = world.job.revision;
    world.job.revision = 3;
    for step in [Step::Freeze, Step::Import] {
        let failure = world.again(step).await.unwrap_err();
        assert_eq!(failure.code, Code::LedgerOutdated, "{step:?}: {failure}");
    }
    let failure = world.again(Step::Open).await.unwrap_err();
    assert_eq!(failure.code, Code::StoreMissing, "the thaw deleted the accounts: {failure}");
    world.job.revision = late;

    // A second run goes through.
    world.job.run = 2;
    let all = [Step::Freeze, Step::Dump, Step::Import, Step::Verify, Step::Disarm, Step::Open];
    for step in all {
        world.step(step).await.unwrap();
    }
    assert!(world.may_write(&world.fleet.destinations[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_the_store_opens_nothing() {
    let mut world = World::new().await;
    world.step(Step::Freeze).await.unwrap();
    world.step(Step::Dump).await.unwrap();
    let dump = world.job.dump.clone().unwrap();

    let path = world.object(&dump.dump_object);
    let whole = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut content = whole.clone();
        content[at] ^= 1;
        content
    };
    let wrong = [1, 9, whole.len() / 2, whole.len() - 3].map(flipped);
    for content in wrong.into_iter().chain([whole[..whole.len() - 1].to_vec()]) {
        fs::write(&path, content).unwrap();
        let failure = world.step(Step::Import).await.unwrap_err();
        let codes = [Code::StoreCorrupt, Code::DumpDamaged];
        assert!(codes.contains(&failure.code), "{failure}");
        // As the lifecycle does then; nothing of it was ever within the customer's reach.
        assert!(!world.may_write(&world.fleet.destinations[0]).await);
        world.step(Step::Drop).await.unwrap();
    }
    fs::remove_file(&path).unwrap();
    world.fails(Step::Import, Code::StoreMissing).await;
    fs::write(&path, &whole).unwrap();

    let manifest = world.object(&dump.manifest_object);
    let good = fs::read(&manifest).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    fs::write(&manifest, text.replacen("\"rows\":", "\"rows\":1", 1)).unwrap();
    world.fails(Step::Import, Code::StoreCorrupt).await;
    fs::write(&manifest, good).unwrap();
    world.step(Step::Import).await.unwrap();
    world.step(Step::Verify).await.unwrap();

    // Accounts that somebody else sealed are not those that the source sent.
    let accounts = world.object(&dump.accounts_object);
    let good = fs::read(&accounts).unwrap();
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    fs::write(&accounts, forged).unwrap();
    world.fails(Step::Open, Code::StoreCorrupt).await;
    assert!(!world.may_write(&world.fleet.destinations[0]).await);
    fs::write(&accounts, good).unwrap();
    world.step(Step::Open).await.unwrap();
    assert!(world.may_write(&world.fleet.destinations[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_somebody_else_is_refused() {
    let mut world = World::new().await;
    world.job.step = Step::Switch.into();
    assert_eq!(world.import.step(&world.job).await.unwrap_err().code, Code::JobIncomplete);
    assert_eq!(world.dump.step(&world.job).await.unwrap_err().code, Code::JobIncomplete);
    world.job.step = Step::Import.into();
    let failure = world.import.step(&world.job).await.unwrap_err();
    assert_eq!(failure.code, Code::JobIncomplete, "no dump is named: {failure}");
}
