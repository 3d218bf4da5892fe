//! One migration, driven by the real state machine on a real log, with a hand on every step; and
//! the world as its customer sees it, which is what is checked.

use std::{collections::BTreeSet, sync::Arc, sync::atomic::Ordering, time::Duration};

use chrono::Utc;
use drover_lifecycle::{
    Command, Fact, Forward, Migration, Phase, Undo, Wait,
    onward::step_after,
    steps::{host_of, step_of},
};
use drover_schemas::{
    CampaignName, MigrationId,
    envelope::CloudEvent,
    subjects::{Aggregate, History},
    v1::{Job, MigrationPlanned, Policy, Step, migration_event::Event},
};
use drover_testbed::{Mariadb, bed::eventually, fleet::ZONE, seed::Site};
use mysql_async::prelude::Queryable as _;
use tokio::time::timeout;

use crate::{
    expect::{Access, Expected},
    life::{Life, Place, give_out_again},
    world::{Lane, World},
};

/// How long anything may take here. Generous: many tests share a small machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// One migration, and the steps whose effect its world shows.
pub struct Case {
    pub world: Arc<World>,
    pub lane: Arc<Lane>,
    campaign: CampaignName,
    id: MigrationId,
    site: Site,
    host_name: String,
    /// The source's privileges before anything was done.
    before: Vec<String>,
    /// The steps that had an effect, in order.
    done: Vec<Step>,
    /// A dump that died in the middle has left the sealed accounts, which a later step deletes.
    half_sealed: bool,
    /// For a failed case: what befell whom.
    pub story: Vec<String>,
}

impl Case {
    /// Plans and admits the migration of a site.
    pub async fn plan(world: Arc<World>, lane: Arc<Lane>, site: Site, host_name: String) -> Self {
        let campaign: CampaignName = format!("night-{}", site.database).parse().unwrap();
        lane.bus.ensure_campaign(&campaign).await.unwrap();
        let id = MigrationId::new(&campaign, &"src-1".parse().unwrap(), &site.database);
        let planned = MigrationPlanned {
            campaign: campaign.to_string(),
            database: site.database.clone(),
            source: "src-1".into(),
            destination: "dst-1".into(),
            host_names: vec![host_name.clone()],
            owner: format!("{}@customers.example", site.database),
            ..Default::default()
        };
        let before = world.privileges(world.source(), &site).await;
        let (done, half_sealed, story) = (Vec::new(), false, Vec::new());
        let case =
            Self { world, lane, campaign, id, site, host_name, before, done, half_sealed, story };
        case.append(0, Event::MigrationPlanned(planned)).await;
        case.command(Command::Admit).await;
        case
    }

    /// From here on it is about a rehearsal of the same database, admitted.
    pub async fn rehearse(&mut self) {
        self.campaign = self.campaign.rehearsal().unwrap();
        self.lane.bus.ensure_campaign(&self.campaign).await.unwrap();
        self.id = MigrationId::new(&self.campaign, &"src-1".parse().unwrap(), &self.site.database);
        let planned = MigrationPlanned {
            campaign: self.campaign.to_string(),
            database: self.site.database.clone(),
            source: "src-1".into(),
            destination: "dst-1".into(),
            rehearsal: true,
            ..Default::default()
        };
        self.append(0, Event::MigrationPlanned(planned)).await;
        self.command(Command::Admit).await;
    }

    async fn append(&self, revision: u64, event: Event) {
        let event = CloudEvent::migration(event, "test", Utc::now());
        let (source, destination) = ("src-1".parse().unwrap(), "dst-1".parse().unwrap());
        let history = History::Migration { id: self.id, source, destination };
        self.lane.bus.append(&self.campaign, &history, revision, &event).await.unwrap();
    }

    async fn events(&self) -> Vec<Fact> {
        let history = self.lane.bus.history(&self.campaign, Aggregate::Migration(self.id)).await;
        let fact = |recorded: drover_bus::Recorded| Fact {
            revision: recorded.sequence,
            at_unix_ms: recorded.event.time.timestamp_millis(),
            event: recorded.event.decode_migration().unwrap(),
        };
        history.unwrap().into_iter().map(fact).collect()
    }

    pub async fn migration(&self) -> Migration {
        Migration::replay(self.events().await).unwrap().unwrap()
    }

    async fn command(&self, command: Command) {
        let migration = self.migration().await;
        self.append(migration.revision, migration.decide(command).unwrap()).await;
    }

    /// On a person's word; with `discard_writes` the dump, by which writes are found, may be gone.
    pub async fn roll_back(&mut self, discard_writes: bool) {
        self.story.push("rolled back".into());
        self.command(Command::RollBack {
            by: "test".into(),
            reason: String::new(),
            discard_writes,
        })
        .await;
    }

    pub async fn retry(&mut self) {
        self.story.push("tried again".into());
        self.command(Command::Retry { by: "test".into() }).await;
        self.command(Command::Admit).await;
    }

    /// The migration, once it waits for a step or for nobody.
    async fn settled(&self) -> Migration {
        if matches!(self.migration().await.phase, Phase::Settling(_)) {
            self.command(Command::Settle).await;
        }
        self.migration().await
    }

    /// Orders the step that the migration waits for, as an orchestrator does; none when it waits
    /// for something else. A time before which it may not be done is not waited for.
    pub async fn order(&self) -> Option<Job> {
        let policy =
            Policy { session_grace_ms: 200, dump_retention_days: 30, ..Default::default() };
        let now = Utc::now().timestamp_millis();
        let job = self.settled().await.job(&self.campaign, self.id, &policy, now)?;
        let host = host_of(job.step(), job.planned.as_ref().unwrap()).unwrap().unwrap();
        self.lane.bus.order(&job, &host).await.unwrap();
        Some(job)
    }

    /// Does the next step, whatever befalls its service; the step comes to its end all the same,
    /// and the world is as it should be, before and after.
    pub async fn step(&mut self, place: Place) -> Option<Step> {
        let job = self.order().await?;
        let step = job.step();
        self.story.push(format!("{step:?} {place:?}"));
        match &place {
            Place::Calm | Place::Twice => {
                let life = self.begin(&job, place.clone()).await;
                self.until_done(&job).await;
                life.end().await;
            }
            Place::AtOnce(_) => {
                let first = self.begin(&job, place.clone()).await;
                until("the first instance has the job", || async {
                    first.told.begun.load(Ordering::SeqCst) == 1
                })
                .await;
                give_out_again(&self.lane, &job).await;
                let second = self.begin(&job, place.clone()).await;
                self.until_done(&job).await;
                first.end().await;
                second.end().await;
            }
            Place::BeforeEffect | Place::Midway(_) | Place::AfterEffect | Place::AfterEvent => {
                self.die(&job, &place).await;
                give_out_again(&self.lane, &job).await;
                let heir = self.begin(&job, Place::Calm).await;
                self.until_done(&job).await;
                let again = heir.told.begun.load(Ordering::SeqCst);
                let expected = usize::from(!matches!(place, Place::AfterEvent));
                assert_eq!(again, expected, "a job whose event is stored is dropped");
                heir.end().await;
            }
            Place::Asleep(_) => panic!("who sleeps is left to the test"),
        }
        self.never_drop_what_was_switched_to(step);
        self.done.push(step);
        self.half_sealed &= !matches!(step, Step::Publish | Step::Expire | Step::Thaw);
        self.check(&format!("after {step:?}")).await;
        Some(step)
    }

    /// Does the next step and goes on with the one after it, in which its service dies; another goes
    /// on from there.
    pub async fn step_onward(&mut self, place: Place) {
        let job = self.order().await.unwrap();
        let (first, second) = (job.step(), step_after(job.step()).unwrap());
        self.story.push(format!("{first:?}, and on with {second:?} {place:?}"));
        let life = Life::begin_onward(self.world.clone(), &self.lane, &job, place.clone()).await;
        timeout(DEADLINE, life.told.reached.notified()).await.expect("the place is reached");
        drop(life);
        give_out_again(&self.lane, &job).await;
        let heir = Life::begin_onward(self.world.clone(), &self.lane, &job, Place::Calm).await;
        self.until_idle().await;
        let event = self.events().await.pop().unwrap().event;
        assert_eq!(step_of(&event), Some(second), "{event:?}");
        let expected = usize::from(!matches!(place, Place::AfterEvent));
        assert_eq!(heir.told.begun.load(Ordering::SeqCst), expected, "only the second is done");
        heir.end().await;
        self.done.extend([first, second]);
        self.check(&format!("after {first:?} and {second:?}")).await;
    }

    /// A row of the customer's at the destination.
    pub async fn write(&self) {
        let Site { database, owner, .. } = &self.site;
        let conn = self.world.destination().connect(&owner.user, &owner.password).await;
        let mut conn = conn.unwrap();
        conn.query_drop(format!("CREATE TABLE `{database}`.kept (a INT PRIMARY KEY)"))
            .await
            .unwrap();
        conn.query_drop(format!("INSERT INTO `{database}`.kept VALUES (1)")).await.unwrap();
    }

    /// Closing is refused, after its service has died in the middle of it.
    pub async fn refused(&mut self, place: &Place) {
        let job = self.order().await.unwrap();
        assert_eq!(job.step(), Step::Close);
        self.story.push(format!("Close, refused {place:?}"));
        self.die(&job, place).await;
        give_out_again(&self.lane, &job).await;
        let heir = self.begin(&job, Place::Calm).await;
        until("the event is stored", || async { self.migration().await.revision > job.revision })
            .await;
        self.until_idle().await;
        heir.end().await;
        match self.events().await.pop().unwrap().event {
            Event::StepFailed(failed) => assert_eq!(failed.code, "DRV-0408", "{failed:?}"),
            other => panic!("{other:?}"),
        }
        self.check("after the close was refused").await;
    }

    /// A copy may hold its customer's writes from when the host names pointed to it.
    fn never_drop_what_was_switched_to(&self, step: Step) {
        let run = self.done.iter().rposition(|done| *done == Step::Freeze).unwrap_or(0);
        let was_switched = self.done[run..].contains(&Step::Switch);
        assert!(step != Step::Drop || !was_switched, "dropped after {:?}", self.done);
    }

    pub async fn begin(&self, job: &Job, place: Place) -> Life {
        Life::begin(self.world.clone(), &self.lane, job, place).await
    }

    /// A service that gets the job and dies at this place; the world is as it should be then.
    pub async fn die(&mut self, job: &Job, place: &Place) {
        let life = self.begin(job, place.clone()).await;
        timeout(DEADLINE, life.told.reached.notified()).await.expect("the place is reached");
        drop(life);
        let mut expected = Expected::after(&self.done);
        match place {
            Place::BeforeEffect => {}
            Place::AfterEffect | Place::AfterEvent => {
                expected = Expected::after(&[self.done.as_slice(), &[job.step()]].concat());
            }
            // How far it came is not known, only that rule 1 holds.
            Place::Midway(_) => return self.check_one_side().await,
            Place::Calm | Place::Twice | Place::AtOnce(_) | Place::Asleep(_) => {
                panic!("nobody dies of {place:?}")
            }
        }
        self.compare(&expected, &format!("when {:?} has died {place:?}", job.step())).await;
    }

    /// The step's event is in the log, and its job is off the queue.
    pub async fn until_done(&self, job: &Job) {
        until("the event is stored", || async { self.migration().await.revision > job.revision })
            .await;
        let event = self.events().await.pop().unwrap().event;
        assert_eq!(step_of(&event), Some(job.step()), "{event:?}");
        self.until_idle().await;
    }

    async fn until_idle(&self) {
        until("the queue is empty", || async { self.lane.bus.queue_length().await.unwrap() == 0 })
            .await;
    }

    /// Steps towards the destination, up to and with the last one before `step`.
    pub async fn forward_to(&mut self, step: Step) {
        while !self.waits_for(step).await {
            self.step(Place::Calm).await.expect("the step is on the way");
        }
    }

    async fn waits_for(&self, wanted: Step) -> bool {
        matches!(self.settled().await.wait(), Wait::Job { step, .. } if step == wanted)
    }

    /// All steps that the migration waits for, each with its service at this place.
    pub async fn all(&mut self, mut place: impl FnMut() -> Place) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.step(place()).await {
            steps.push(step);
        }
        steps
    }

    /// All steps back, after the service of `job` died with it: when it is given out again it is
    /// dropped, and nothing of it is begun.
    pub async fn take_back(&mut self, job: &Job) {
        give_out_again(&self.lane, job).await;
        let life = self.begin(job, Place::Calm).await;
        self.until_idle().await;
        assert_eq!(life.told.begun.load(Ordering::SeqCst), 0, "an overtaken job is not begun");
        life.end().await;
        self.all(|| Place::Calm).await;
    }

    /// Notes that a step was done, whose service died after that. One that died in the middle may
    /// have done what no undo takes back.
    pub async fn note(&mut self, step: Step, place: &Place) {
        let with = Expected::after(&[self.done.as_slice(), &[step]].concat());
        let was_done = match place {
            Place::BeforeEffect => false,
            Place::AfterEffect | Place::AfterEvent => true,
            Place::Midway(_) => {
                let found = self.look().await;
                self.half_sealed = found.sealed && !Expected::after(&self.done).sealed;
                found == with
            }
            Place::Calm | Place::Twice | Place::AtOnce(_) | Place::Asleep(_) => {
                panic!("nobody dies of {place:?}")
            }
        };
        if was_done {
            self.done.push(step);
        }
    }

    /// Each event once, and no step that failed.
    pub async fn check_log(&self) {
        let events = self.events().await;
        let mut run = 0;
        let mut seen = BTreeSet::new();
        for fact in &events {
            if let Event::MigrationAdmitted(admitted) = &fact.event {
                run = admitted.run;
            }
            let kind = drover_schemas::envelope::migration_kind(&fact.event);
            assert_ne!(kind, "StepFailed", "{:?}", fact.event);
            assert!(seen.insert((run, kind)), "{kind} stands twice in run {run}");
        }
    }

    /// Holds the world against what the steps that were done have made of it.
    pub async fn check(&self, when: &str) {
        let mut expected = Expected::after(&self.done);
        expected.sealed |= self.half_sealed;
        self.compare(&expected, when).await;
    }

    async fn compare(&self, expected: &Expected, when: &str) {
        let (world, found) = (&self.world, self.look().await);
        assert_eq!(&found, expected, "{when}");
        let privileges = world.privileges(world.source(), &self.site).await;
        let as_before = privileges == self.before;
        let thawed = expected.source == Access::Writes;
        assert_eq!(as_before, thawed, "{when}: {privileges:#?} instead of {:#?}", self.before);
    }

    async fn look(&self) -> Expected {
        let world = &self.world;
        let (source, destination) =
            (self.access(world.source()).await, self.access(world.destination()).await);
        let answer = world.fleet.bind.answer(&format!("{}.", self.host_name), "CNAME").unwrap();
        let mails: Vec<String> = world
            .fleet
            .smtp
            .messages()
            .iter()
            .filter(|message| message.to == [format!("{}@customers.example", self.site.database)])
            .map(|message| message.header("Message-ID").unwrap())
            .collect();
        // Who dies between the mail and its note sends it again, with the same key.
        let keys: BTreeSet<&String> = mails.iter().collect();
        assert!(mails.len() <= keys.len() + 1, "{mails:?}");
        Expected {
            source,
            destination,
            copy: self.has_copy().await,
            switched: answer == [format!("dst-1.{ZONE}.")],
            announced: keys.len(),
            stored: self.stored().iter().any(|path| !path.contains("accounts.age")),
            sealed: self.stored().iter().any(|path| path.contains("accounts.age")),
        }
    }

    async fn check_one_side(&self) {
        let world = &self.world;
        let sides = (self.access(world.source()).await, self.access(world.destination()).await);
        assert_ne!(sides, (Access::Writes, Access::Writes), "{:?}", self.story);
    }

    /// What the customer may do there, who has the old name and password.
    async fn access(&self, server: &Mariadb) -> Access {
        let Site { database, owner, .. } = &self.site;
        let Ok(mut conn) = server.connect(&owner.user, &owner.password).await else {
            return Access::Nothing;
        };
        if conn.query_drop(format!("USE `{database}`")).await.is_err() {
            return Access::Nothing;
        }
        let write = "CREATE TABLE probe (a INT); INSERT INTO probe VALUES (1); DROP TABLE probe";
        if conn.query_drop(write).await.is_ok() {
            return Access::Writes;
        }
        match conn.query::<String, _>("SHOW TABLES").await {
            Ok(tables) if !tables.is_empty() => Access::Reads,
            Ok(_) | Err(_) => Access::Nothing,
        }
    }

    async fn has_copy(&self) -> bool {
        let mut root = self.world.destination().root().await.unwrap();
        let sql = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?";
        root.exec_first(sql, (&self.site.database,)).await.unwrap() == Some(1)
    }

    /// The files that the store has of this migration.
    fn stored(&self) -> Vec<String> {
        let mut stored = Vec::new();
        let mut folders = vec![self.world.fleet.bed.dir().join("store")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let text = path.to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if text.contains(&self.id.to_string()) {
                    stored.push(text);
                }
            }
        }
        stored
    }
}

/// All steps towards the destination, and all back.
pub fn steps() -> impl Iterator<Item = Step> {
    Forward::ALL.map(Forward::step).into_iter().chain(Undo::ALL.map(Undo::step))
}

async fn until<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    let mut condition = condition;
    let waited = eventually(DEADLINE, || {
        let so = condition();
        async { anyhow::Ok(so.await) }
    })
    .await;
    assert!(waited.is_ok(), "never: {what}");
}
