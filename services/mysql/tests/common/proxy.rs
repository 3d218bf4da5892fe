//! A proxy that cuts every connection at a given command: an end between any two statements,
//! without a hook in what is tested.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Where the command after which all is over is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never gets it.
    Before,
    /// The server has done it, and its answer gets lost.
    After,
}

/// A way to a server, over which only so many commands go.
pub struct Proxy {
    pub address: SocketAddr,
}

impl Proxy {
    /// A proxy to `server` that lets `commands` through.
    pub async fn start(server: SocketAddr, commands: i64, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicI64::new(commands));
        let over = Arc::new(Notify::new());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if left.load(Ordering::SeqCst) < 0 {
                    continue;
                }
                let upstream = TcpStream::connect(server).await.unwrap();
                tokio::spawn(forward(client, upstream, left.clone(), over.clone(), cut));
            }
        });
        Self { address }
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    left: Arc<AtomicI64>,
    over: Arc<Notify>,
    cut: Cut,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let commands = async {
        while let Some(packet) = packet(&mut from_client).await {
            // A command begins a sequence; what follows the greeting does not.
            let command = packet[3] == 0;
            let was = if command { left.fetch_sub(1, Ordering::SeqCst) } else { i64::MAX };
            if was <= 0 {
                if cut == Cut::After && was == 0 {
                    to_server.write_all(&packet).await.ok();
                    return true;
                }
                return false;
            }
            if to_server.write_all(&packet).await.is_err() {
                break;
            }
        }
        false
    };
    let answers = async {
        tokio::io::copy(&mut from_server, &mut to_client).await.ok();
    };
    let wait_for_answer = tokio::select! {
        wait = commands => wait,
        () = answers => false,
        () = over.notified() => false,
    };
    if wait_for_answer {
        from_server.read_u8().await.ok();
    }
    if left.load(Ordering::SeqCst) < 0 {
        over.notify_waiters();
    }
}

async fn packet(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await.ok()?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + length as usize, 0);
    from.read_exact(&mut packet[4..]).await.ok()?;
    Some(packet)
}
