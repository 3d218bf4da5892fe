//! A guarded bus, and what each of its users hears when it is refused.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerError};
use drover_bus::{Bus, Options};
use drover_schemas::{
    CampaignName, ServerName,
    streams::{Service, consumer},
    subjects::Host,
    users::User,
};
use drover_testbed::{Bed, Nats, bed::eventually, nats::bus_folder};

/// How long a refusal is waited for; many tests share a small machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct World {
    pub nats: Nats,
    pub campaign: CampaignName,
    pub bed: Bed,
}

pub fn server(name: &str) -> ServerName {
    name.parse().unwrap()
}

impl World {
    /// A bus with two sources, a destination and a campaign.
    pub async fn new() -> Self {
        let bed = Bed::new().unwrap();
        let mut users = User::COMMON.to_vec();
        users.extend(["src-1", "src-2"].map(|name| User::Dump(server(name))));
        users.push(User::Import(server("dst-1")));
        let nats = Nats::start_guarded(&bed, users).unwrap();
        let world = Self { nats, campaign: "night-1".parse().unwrap(), bed };
        let admin = world.bus(&User::Admin).await;
        admin.ensure_base().await.unwrap();
        for host in ["src-1", "src-2"] {
            let host = Host::Server(server(host));
            admin.ensure_consumer(&consumer(Service::Dump, &host, 2)).await.unwrap();
        }
        let operator = world.bus(&User::Operator).await;
        operator.ensure_campaign(&world.campaign).await.unwrap();
        world
    }

    pub fn options(&self) -> Options {
        let folder = bus_folder(&self.bed);
        Options {
            url: self.nats.url(),
            users_folder: Some(folder.join("users")),
            tls_ca_file: Some(folder.join("authority.pem")),
            connect_wait_ms: 500,
            ..Options::default()
        }
    }

    pub async fn bus(&self, user: &User) -> Bus {
        Bus::connect(&self.options().of(user).unwrap(), "test").await.unwrap()
    }

    /// A bare client, which says whatever it is told to.
    pub async fn client(&self, user: &User) -> Bare {
        let folder = bus_folder(&self.bed);
        let seed = fs::read_to_string(folder.join(format!("users/{user}.nk"))).unwrap();
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&refusals);
        let client = ConnectOptions::with_nkey(seed)
            .add_root_certificates(folder.join("authority.pem"))
            .custom_inbox_prefix(user.inbox())
            .event_callback(move |event| {
                if let Event::ServerError(ServerError::Other(text)) = event {
                    heard.lock().unwrap().push(text);
                }
                std::future::ready(())
            })
            .connect(self.nats.url())
            .await
            .unwrap();
        Bare { client, refusals }
    }
}

pub struct Bare {
    pub client: Client,
    refusals: Arc<Mutex<Vec<String>>>,
}

impl Bare {
    /// Publishes on each of these; all are refused.
    pub async fn may_not_say(&self, subjects: &[String]) {
        for subject in subjects {
            self.client.publish(subject.clone(), "x".into()).await.unwrap();
        }
        self.are_refused("Publish", subjects).await;
    }

    /// Listens on each of these; all are refused.
    pub async fn may_not_hear(&self, subjects: &[String]) {
        let mut kept = Vec::new();
        for subject in subjects {
            kept.push(self.client.subscribe(subject.clone()).await.unwrap());
        }
        self.are_refused("Subscription", subjects).await;
    }

    async fn are_refused(&self, kind: &str, subjects: &[String]) {
        self.client.flush().await.unwrap();
        let missing = || {
            let refusals = self.refusals.lock().unwrap().join("\n").to_lowercase();
            let said = |subject: &String| {
                let text = format!("permissions violation for {kind} to \"{subject}\"");
                refusals.contains(&text.to_lowercase())
            };
            subjects.iter().filter(|subject| !said(subject)).cloned().collect::<BTreeSet<_>>()
        };
        let all = eventually(DEADLINE, || async { Ok(missing().is_empty()) }).await;
        assert!(all.is_ok(), "{kind} was not refused: {:?}", missing());
    }
}
