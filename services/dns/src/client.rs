//! Questions and updates to DNS servers: over TCP, on connections that are used again, each with
//! one question at a time.
//!
//! TCP, because an answer is never cut short there, and because UDP would have to send an update
//! again when its answer is lost, whose prerequisites then fail.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use hickory_net::{
    BufDnsStreamHandle, DnsStreamHandle as _, NetError,
    runtime::{RuntimeProvider, TokioRuntimeProvider},
    tcp::TcpClientStream,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode, SerialMessage},
    rr::{Name, Record, RecordType, TSigner},
};
use tokio::time::timeout;

use crate::error::Error;

/// How long a connection may wait for its next question. BIND closes one after 30 s.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How many connections to one server wait for their next question.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Updated {
    Done,
    /// Something is not as it was found; nothing was changed.
    NotAsFound,
}

#[derive(Clone)]
pub(crate) struct Client {
    idle: Arc<Mutex<HashMap<SocketAddr, Vec<Connection>>>>,
    wait: Duration,
}

struct Connection {
    stream: TcpClientStream<<TokioRuntimeProvider as RuntimeProvider>::Tcp>,
    sender: BufDnsStreamHandle,
    used_at: Instant,
}

/// An answer, and the bytes that its signature was made of.
struct Reply {
    message: Message,
    bytes: Vec<u8>,
}

impl Client {
    pub fn new(wait: Duration) -> Self {
        Self { idle: Arc::default(), wait }
    }

    /// The records that `server` gives for `name`: of the type asked for, or the CNAME in its
    /// place. Empty where there are none.
    pub async fn ask(
        &self,
        server: SocketAddr,
        zone: &str,
        name: &Name,
        kind: RecordType,
        signer: Option<&TSigner>,
    ) -> Result<Vec<Record>, Error> {
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        message.add_query(Query::query(name.clone(), kind));
        let message = self.exchange(server, zone, message, signer, unix_s()).await?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(bad_answer(server, zone, code)),
        }
        if !message.metadata.authoritative {
            return Err(Error::Configuration(format!(
                "{server} is not authoritative for {name}, which lies in the zone {zone}"
            )));
        }
        let mut records = message.answers;
        records.retain(|record| {
            record.name == *name && [kind, RecordType::CNAME].contains(&record.record_type())
        });
        Ok(records)
    }

    /// Goes through all records of a zone, of as many messages as it takes; each bears the signature.
    pub async fn transfer(
        &self,
        server: SocketAddr,
        (zone, name): (&str, &Name),
        signer: &TSigner,
        mut take: impl FnMut(&Record),
    ) -> Result<(), Error> {
        let failed = |reason: String| Error::Failed { server, reason };
        let unreachable =
            |error: NetError| Error::Unreachable { server, reason: error.to_string() };
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        message.add_query(Query::query(name.clone(), RecordType::AXFR));
        let signed = message.finalize(signer, unix_s()).map_err(|e| failed(e.to_string()))?;
        let mut verifier = signed.ok_or_else(|| failed("it is not signed".to_owned()))?;
        let bytes = message.to_vec().map_err(|error| failed(error.to_string()))?;
        let mut connection = Connection::open(server, self.wait).await.map_err(unreachable)?;
        let question = SerialMessage::new(bytes, server);
        connection.sender.send(question).map_err(unreachable)?;
        // It begins and ends with the zone's own record.
        let mut ends = 0;
        while ends < 2 {
            let answer = timeout(self.wait, connection.stream.next()).await;
            let silent = || format!("no answer within {} ms", self.wait.as_millis());
            let answer = answer.map_err(|_| Error::Unreachable { server, reason: silent() })?;
            let answer = answer.ok_or_else(|| failed("it ended in the middle".to_owned()))?;
            let bytes = answer.map_err(unreachable)?.into_parts().0;
            let reply = Message::from_vec(&bytes).map_err(|error| failed(error.to_string()))?;
            match reply.metadata.response_code {
                ResponseCode::NoError => {}
                code => return Err(bad_answer(server, zone, code)),
            }
            if verifier.verify(&bytes).is_err() {
                let reason = "its answer does not bear the key's signature";
                return Err(failed(reason.to_owned()));
            }
            if reply.answers.is_empty() {
                return Err(failed("it sends no records".to_owned()));
            }
            for record in &reply.answers {
                ends += u32::from(record.record_type() == RecordType::SOA);
                take(record);
            }
        }
        Ok(())
    }

    /// Sends an update once, signed as of `signed_at_unix_s`.
    pub async fn update(
        &self,
        server: SocketAddr,
        zone: &str,
        message: Message,
        signer: &TSigner,
        signed_at_unix_s: u64,
    ) -> Result<Updated, Error> {
        let reply = self.exchange(server, zone, message, Some(signer), signed_at_unix_s).await?;
        match reply.metadata.response_code {
            ResponseCode::NoError => Ok(Updated::Done),
            ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::YXDomain => Ok(Updated::NotAsFound),
            code => Err(bad_answer(server, zone, code)),
        }
    }

    async fn exchange(
        &self,
        server: SocketAddr,
        zone: &str,
        mut message: Message,
        signer: Option<&TSigner>,
        signed_at_unix_s: u64,
    ) -> Result<Message, Error> {
        let is_question = message.metadata.op_code == OpCode::Query;
        let failed = |error: &dyn std::error::Error| Error::Failed {
            server,
            reason: format!("the message cannot be made: {error}"),
        };
        let verifier = match signer {
            Some(signer) => {
                message.finalize(signer, signed_at_unix_s).map_err(|error| failed(&error))?
            }
            None => None,
        };
        let bytes = message.to_vec().map_err(|error| failed(&error))?;
        let reply = self.send(server, &bytes, message.metadata.id, is_question).await?;
        if let Some(mut verifier) = verifier {
            let signature = reply.message.signature();
            if let Some(error) = signature.and_then(|it| it.data.error.as_ref()) {
                let answer = format!("{} ({error:?})", reply.message.metadata.response_code);
                return Err(Error::Refused { server, zone: zone.to_owned(), answer });
            }
            let code = reply.message.metadata.response_code;
            if signature.is_none() && code != ResponseCode::NoError {
                return Err(bad_answer(server, zone, code));
            }
            if verifier.verify(&reply.bytes).is_err() {
                let reason = "its answer does not bear the key's signature".to_owned();
                return Err(Error::Failed { server, reason });
            }
        }
        Ok(reply.message)
    }

    async fn send(
        &self,
        server: SocketAddr,
        bytes: &[u8],
        id: u16,
        is_question: bool,
    ) -> Result<Reply, Error> {
        let work = async {
            if let Some(mut connection) = self.take(server) {
                match connection.exchange(server, bytes, id).await {
                    // The server may have closed a connection that waited. An update is not sent
                    // twice: what became of the first is for the mark to say.
                    Err(_) if is_question => {}
                    outcome => return outcome.inspect(|_| self.put_back(server, connection)),
                }
            }
            let mut connection = Connection::open(server, self.wait).await?;
            let reply = connection.exchange(server, bytes, id).await?;
            self.put_back(server, connection);
            Ok::<_, NetError>(reply)
        };
        match timeout(self.wait, work).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(Error::Unreachable { server, reason: error.to_string() }),
            Err(_) => {
                let reason = format!("no answer within {} ms", self.wait.as_millis());
                Err(Error::Unreachable { server, reason })
            }
        }
    }

    fn take(&self, server: SocketAddr) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(&server)?;
        connections.retain(|connection| connection.used_at.elapsed() < IDLE_MAX);
        connections.pop()
    }

    fn put_back(&self, server: SocketAddr, mut connection: Connection) {
        connection.used_at = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(server).or_default();
        if connections.len() < IDLE_CONNECTIONS_MAX {
            connections.push(connection);
        }
    }
}

impl Connection {
    async fn open(server: SocketAddr, wait: Duration) -> Result<Self, NetError> {
        let provider = TokioRuntimeProvider::new();
        let (stream, sender) = TcpClientStream::new(server, None, Some(wait), provider);
        Ok(Self { stream: stream.await?, sender, used_at: Instant::now() })
    }

    async fn exchange(
        &mut self,
        server: SocketAddr,
        bytes: &[u8],
        id: u16,
    ) -> Result<Reply, NetError> {
        self.sender.send(SerialMessage::new(bytes.to_vec(), server))?;
        while let Some(answer) = self.stream.next().await {
            let bytes = answer?.into_parts().0;
            let message = Message::from_vec(&bytes).map_err(|error| error.to_string())?;
            let metadata = &message.metadata;
            if metadata.id == id && metadata.message_type == MessageType::Response {
                return Ok(Reply { message, bytes });
            }
        }
        Err(NetError::from("the connection was closed"))
    }
}

fn bad_answer(server: SocketAddr, zone: &str, code: ResponseCode) -> Error {
    match code {
        ResponseCode::Refused
        | ResponseCode::NotAuth
        | ResponseCode::NotZone
        | ResponseCode::NotImp
        | ResponseCode::FormErr => {
            Error::Refused { server, zone: zone.to_owned(), answer: code.to_string() }
        }
        code => Error::Failed { server, reason: format!("it answers {code} for the zone {zone}") },
    }
}

/// Seconds since 1970 by this machine's clock.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use drover_testbed::{Bed, Bind};

    use super::*;
    use crate::{
        keys,
        names::absolute,
        options::{Algorithm, Zone},
    };

    #[tokio::test]
    async fn an_update_that_was_signed_too_long_ago_is_refused() {
        let bed = Bed::new().unwrap();
        let bind = Bind::start(&bed, "old.test", &[]).unwrap();
        let zone = Zone {
            name: bind.zone().to_owned(),
            primary: bind.address(),
            servers: Vec::new(),
            key_name: bind.key_name().to_owned(),
            key_file: bind.key_file(),
            algorithm: Algorithm::HmacSha256,
            ttl_seconds: 60,
        };
        let signer = keys::signer(&zone).unwrap();
        let client = Client::new(Duration::from_secs(5));
        let name = absolute(bind.zone()).unwrap();
        let send = async |age_s: u64| {
            let nothing = crate::update::message(name.clone(), &[]).unwrap();
            client.update(bind.address(), "old.test", nothing, &signer, unix_s() - age_s).await
        };
        assert_eq!(send(0).await, Ok(Updated::Done));
        assert_eq!(send(200).await, Ok(Updated::Done));
        let refused = send(400).await.unwrap_err();
        assert!(refused.to_string().contains("BadTime"), "{refused}");
    }
}
