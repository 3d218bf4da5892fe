//! A link: a way to a server over TCP that can be cut, silenced and slowed down, as networks are.
//!
//! It listens on an address of its own at the server's port, so that a configuration names it in
//! the server's place. The server itself, and who reaches it another way, notice nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::Bed;

/// What is read before it is passed on, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything passes, each piece so much later. Zero: at once.
    Open(Duration),
    /// Nothing passes, and nobody is told: what was sent arrives when it opens again.
    Silent,
    /// Every connection is closed, and each new one at once.
    Cut,
}

/// The link. Its connections end with it.
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Link {
    /// An open link to `server`, on an address of its own in `bed`.
    pub async fn start(bed: &Bed, server: SocketAddr) -> Result<Self> {
        let address = SocketAddr::new(bed.address()?, server.port());
        let listener = TcpListener::bind(address).await.context("the link's address")?;
        let state = watch::Sender::new(State::Open(Duration::ZERO));
        let task = tokio::spawn(accept(listener, server, state.clone()));
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is so.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Sender<State>) {
    // The connections end with this set, which ends with the link.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (mut cut, now) = (state.subscribe(), state.subscribe());
        connections.spawn(async move {
            tokio::select! {
                // Its sender lives as long as the link; an error ends the connection as well.
                _ = cut.wait_for(|state| *state == State::Cut) => {}
                () = connect(client, server, now) => {}
            }
        });
    }
}

async fn connect(client: TcpStream, server: SocketAddr, state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    // What a proxy holds back by itself would look like a slow server.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // One end that is gone is the end of both directions, as with a server's process.
    tokio::select! {
        () = pass(from_client, to_server, state.clone()) => {}
        () = pass(from_server, to_client, state) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let now = state.wait_for(|state| *state != State::Silent).await.map(|state| *state);
        if let Ok(State::Open(delay)) = now
            && !delay.is_zero()
        {
            sleep(delay).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A server that says what it hears.
    async fn echo(bed: &Bed) -> SocketAddr {
        let listener = TcpListener::bind((bed.address().unwrap(), 7000)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn say(stream: &mut TcpStream, word: &[u8; 4]) -> std::io::Result<[u8; 4]> {
        stream.write_all(word).await?;
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await?;
        Ok(heard)
    }

    #[tokio::test]
    async fn it_passes_is_silent_and_is_cut() {
        let bed = Bed::new().unwrap();
        let link = Link::start(&bed, echo(&bed).await).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(&say(&mut stream, b"open").await.unwrap(), b"open");
        link.set(State::Silent);
        stream.write_all(b"held").await.unwrap();
        let mut heard = [0; 4];
        let silence = timeout(Duration::from_millis(200), stream.read_exact(&mut heard)).await;
        assert!(silence.is_err(), "{heard:?}");
        link.set(State::Open(Duration::from_millis(1)));
        timeout(SOON, stream.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"held");
        link.set(State::Cut);
        let over = timeout(SOON, stream.read_exact(&mut heard)).await.unwrap();
        assert!(over.is_err());
        let mut refused = TcpStream::connect(link.address()).await.unwrap();
        assert!(timeout(SOON, say(&mut refused, b"lost")).await.unwrap().is_err());
        link.set(State::Open(Duration::ZERO));
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(&say(&mut again, b"anew").await.unwrap(), b"anew");
    }
}
