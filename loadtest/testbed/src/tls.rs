//! TLS in front of a server that speaks none, and certificates for those that do.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use drover_access::Authority;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional,
    },
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{Bed, mariadb::write_private};

/// A certificate, its key and its authority, as files.
pub struct Identity {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Identity {
    /// A certificate for these names, by an authority of its own; `stem` begins the files' names.
    pub fn new(bed: &Bed, stem: &str, names: &[String]) -> Result<Self> {
        let file = |ending: &str| bed.dir().join(format!("{stem}.{ending}"));
        let identity = Self {
            authority: file("authority.pem"),
            certificate: file("certificate.pem"),
            key: file("key.pem"),
        };
        let authority = Authority::of_key(&Authority::new_key()?)?;
        let key = Authority::new_key()?;
        fs::write(&identity.authority, authority.certificate())?;
        fs::write(&identity.certificate, authority.certify(&key, names)?)?;
        write_private(&identity.key, &key)?;
        Ok(identity)
    }

    fn acceptor(&self) -> Result<TlsAcceptor> {
        let certificate = CertificateDer::from_pem_file(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// How a conversation goes over to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With its first byte.
    AtOnce,
    /// After SMTP's STARTTLS, without which nothing is passed on.
    StartTls,
}

/// Listens on an address of its own, and passes on to a server what came over TLS. Ends when it is
/// dropped.
pub struct Front {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    /// A front of `server`, on `address`, with this certificate.
    pub async fn start(
        address: SocketAddr,
        server: SocketAddr,
        identity: &Identity,
        begin: Begin,
    ) -> Result<Self> {
        let (listener, acceptor) = (TcpListener::bind(address).await?, identity.acceptor()?);
        let task = tokio::spawn(async move {
            // The conversations end with this set, which ends with the front.
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                conversations.spawn(async move {
                    if let Err(error) = pass(client, server, &acceptor, begin).await {
                        tracing::debug!(%error, "a client went away");
                    }
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut client: TcpStream,
    server: SocketAddr,
    acceptor: &TlsAcceptor,
    begin: Begin,
) -> Result<()> {
    let mut server = TcpStream::connect(server).await?;
    if begin == Begin::StartTls {
        client = start_tls(client, &mut server).await?;
    }
    let mut client = acceptor.accept(client).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// SMTP up to the moment where TLS begins, with the server's greeting.
async fn start_tls(client: TcpStream, server: &mut TcpStream) -> Result<TcpStream> {
    let mut greeting = vec![0; 512];
    let length = server.read(&mut greeting).await?;
    let mut client = BufReader::new(client);
    client.write_all(&greeting[..length]).await?;
    let mut line = String::new();
    while client.read_line(&mut line).await? > 0 && !line.starts_with("STARTTLS") {
        let answer: &[u8] = if line.starts_with("EHLO") {
            b"250-testbed\r\n250 STARTTLS\r\n"
        } else {
            b"530 begin TLS first\r\n"
        };
        client.write_all(answer).await?;
        line.clear();
    }
    client.write_all(b"220 go on\r\n").await?;
    Ok(client.into_inner())
}
