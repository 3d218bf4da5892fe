//! Three nats-servers that keep every stream three times, as a real campaign has them.
//!
//! 1. Each reaches each other one over a link of its own, so that one of them can be parted from
//!    the rest. What they tell each other of their addresses leads nowhere, so that they find no
//!    way around a link that is cut.
//! 2. They flush every message to the disk before they acknowledge it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::spawn_blocking;

use crate::{
    Bed, Link, Nats,
    bed::{DEADLINE, wait_until},
    link::State,
};

/// How many servers there are: the fewest of which one may fail.
pub const SERVERS: usize = 3;
const ROUTE_PORT: u16 = 6222;
const MONITOR_PORT: u16 = 8222;
/// How long one question to the monitor may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// The ways between the servers. They end with it.
pub struct Cluster {
    monitors: Vec<SocketAddr>,
    /// From, to, and the link.
    routes: Vec<(usize, usize, Link)>,
}

impl Cluster {
    /// Starts the servers; returns when all are well.
    pub async fn start(bed: &Bed) -> Result<(Vec<Nats>, Self)> {
        let addresses: Vec<IpAddr> = (0..SERVERS).map(|_| bed.address()).collect::<Result<_>>()?;
        let nowhere = bed.address()?;
        let mut routes = Vec::new();
        for from in 0..SERVERS {
            for (to, address) in addresses.iter().enumerate().filter(|(to, _)| *to != from) {
                let link = Link::start(bed, SocketAddr::new(*address, ROUTE_PORT)).await?;
                routes.push((from, to, link));
            }
        }
        let monitors = addresses.iter().map(|it| SocketAddr::new(*it, MONITOR_PORT)).collect();
        let cluster = Self { monitors, routes };
        let mut servers = Vec::new();
        for (n, address) in addresses.into_iter().enumerate() {
            let config = cluster.config(n, address, nowhere);
            let bed = bed.clone();
            servers.push(spawn_blocking(move || Nats::start_at(&bed, address, &config)).await??);
        }
        for n in 0..SERVERS {
            cluster.wait_healthy(n, DEADLINE).await?;
        }
        Ok((servers, cluster))
    }

    fn config(&self, n: usize, address: IpAddr, nowhere: IpAddr) -> String {
        let from_here = self.routes.iter().filter(|(from, ..)| *from == n);
        let routes: Vec<String> =
            from_here.map(|(.., link)| format!("\"nats://{}\"", link.address())).collect();
        let routes = routes.join(", ");
        format!(
            "server_name: nats-{}\n\
             http: \"{address}:{MONITOR_PORT}\"\n\
             jetstream {{ store_dir: \"$DIR/store\", sync_interval: always }}\n\
             cluster {{\n  name: testbed\n  listen: \"{address}:{ROUTE_PORT}\"\n  \
             advertise: \"{nowhere}:{ROUTE_PORT}\"\n  no_advertise: true\n  \
             routes: [{routes}]\n}}",
            n + 1
        )
    }

    /// Sets every way from and to this server.
    pub fn set(&self, server: usize, state: State) {
        for (from, to, link) in &self.routes {
            if *from == server || *to == server {
                link.set(state);
            }
        }
    }

    /// Waits until this server says that all its streams and consumers are current.
    ///
    /// # Errors
    /// When `deadline` is over.
    pub async fn wait_healthy(&self, server: usize, deadline: Duration) -> Result<()> {
        let monitor = self.monitors[server];
        let healthy = move || Ok(is_healthy(monitor).unwrap_or(false));
        let waited = spawn_blocking(move || wait_until(deadline, healthy)).await?;
        waited.with_context(|| format!("the nats-server at {} is not well", monitor.ip()))
    }
}

fn is_healthy(monitor: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&monitor, ANSWER_WAIT)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/"), "no answer");
    Ok(answer.split(' ').nth(1) == Some("200"))
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::{self, stream::Config};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_two_of_them_have_stays_when_the_third_is_lost() {
        let bed = Bed::new().unwrap();
        let (servers, cluster) = Cluster::start(&bed).await.unwrap();
        let client = async_nats::connect(servers[0].url()).await.unwrap();
        let context = jetstream::new(client);
        let config = Config { name: "S".to_owned(), num_replicas: SERVERS, ..Config::default() };
        let stream = context.create_stream(config).await.unwrap();
        assert_eq!(stream.cached_info().cluster.as_ref().unwrap().replicas.len(), SERVERS - 1);
        context.publish("S", "kept".into()).await.unwrap().await.unwrap();
        servers[1].kill().unwrap();
        std::fs::remove_dir_all(servers[1].dir().join("store")).unwrap();
        tokio::task::block_in_place(|| servers[1].restart()).unwrap();
        cluster.wait_healthy(1, DEADLINE).await.unwrap();
    }
}
