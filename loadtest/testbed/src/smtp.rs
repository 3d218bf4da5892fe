//! A mail server that keeps what it gets: in memory for tests, as `.eml` files for people.
//!
//! It speaks enough of RFC 5321 for a real client to hold a real conversation with it, and can be
//! told to misbehave as real servers do.

mod message;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::Bed;

pub use message::Message;

/// The unprivileged port that mail servers use.
const PORT: u16 = 2525;
/// The largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most messages kept; past it they are refused for the time being.
const MESSAGES_MAX: usize = 100_000;
/// RFC 5321 wants 1000 bytes at least.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// RFC 5321 wants 100 at least.
const RECIPIENTS_MAX: usize = 100;
/// A client that says nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers RCPT with this code: 451, 550, …
    Refuse(u16),
    /// Answers RCPT with 421 and closes.
    Close,
    /// Never answers RCPT.
    Hang,
    /// Takes the message, keeps it, and closes without saying so.
    Forget,
}

#[derive(Debug)]
struct Rule {
    recipient: Option<String>,
    fault: Fault,
    times_left: u32,
}

/// The server. Ends when it is dropped.
pub struct Smtp {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    folder: PathBuf,
    credentials: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    rules: Vec<Rule>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, recipient: &str) -> Option<Fault> {
        let mut state = self.state();
        let matches = |rule: &&mut Rule| {
            rule.times_left > 0 && rule.recipient.as_ref().is_none_or(|of| of == recipient)
        };
        let rule = state.rules.iter_mut().find(matches)?;
        rule.times_left -= 1;
        Some(rule.fault)
    }

    /// Keeps a message; false where there is no room.
    fn keep(&self, message: Message) -> Result<bool> {
        let mut state = self.state();
        let number = state.messages.len();
        if number >= MESSAGES_MAX {
            return Ok(false);
        }
        fs::write(self.folder.join(format!("{number:06}.eml")), &message.data)?;
        state.messages.push(message);
        Ok(true)
    }
}

impl Smtp {
    /// A server on an address of its own in `bed`, that takes mail from everyone.
    pub async fn start(bed: &Bed) -> Result<Self> {
        Self::start_with(bed, None).await
    }

    /// A server that takes mail only from who knows `username` and `password`.
    pub async fn start_with_password(bed: &Bed, username: &str, password: &str) -> Result<Self> {
        let credentials = BASE64_STANDARD.encode(format!("\0{username}\0{password}"));
        Self::start_with(bed, Some(credentials)).await
    }

    async fn start_with(bed: &Bed, credentials: Option<String>) -> Result<Self> {
        let address = SocketAddr::new(bed.address()?, PORT);
        let folder = bed.dir().join(format!("mail-{}", address.ip()));
        fs::create_dir_all(&folder)?;
        let listener = TcpListener::bind(address).await.context("the mail server's address")?;
        let shared = Arc::new(Shared { folder, credentials, state: Mutex::default() });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the messages lie, numbered in the order in which they came.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// What has come in so far.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.state().messages.clone()
    }

    /// Lets the next `times` messages to `recipient`, or to anyone, fail.
    pub fn misbehave(&self, recipient: Option<&str>, fault: Fault, times: u32) {
        let rule = Rule { recipient: recipient.map(str::to_owned), fault, times_left: times };
        self.shared.state().rules.push(rule);
    }

    /// Takes back what [`Smtp::misbehave`] said.
    pub fn behave(&self) {
        self.shared.state().rules.clear();
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The conversations end with this set, which ends with the server.
    let mut conversations = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while conversations.try_join_next().is_some() {}
        let shared = shared.clone();
        conversations.spawn(async move {
            let mut conversation = Conversation::new(stream, shared);
            if let Err(error) = conversation.hold().await {
                tracing::debug!(%error, "a mail client went away");
            }
        });
    }
}

struct Conversation {
    stream: BufStream<TcpStream>,
    shared: Arc<Shared>,
    known: bool,
    from: Option<String>,
    to: Vec<String>,
    forgets: bool,
}

/// Whether the conversation goes on.
type GoOn = bool;

impl Conversation {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let known = shared.credentials.is_none();
        let stream = BufStream::new(stream);
        Self { stream, shared, known, from: None, to: Vec::new(), forgets: false }
    }

    async fn hold(&mut self) -> Result<()> {
        self.say("220 drover testbed").await?;
        while let Some(line) = self.line().await? {
            let line = String::from_utf8_lossy(&line).into_owned();
            if !self.command(line.trim_end()).await? {
                break;
            }
        }
        Ok(())
    }

    async fn command(&mut self, line: &str) -> Result<GoOn> {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                let auth =
                    if self.shared.credentials.is_some() { "250-AUTH PLAIN\r\n" } else { "" };
                let size = format!("250-SIZE {MESSAGE_BYTES_MAX}\r\n{auth}250 8BITMIME");
                self.reset();
                self.say(&format!("250-testbed\r\n{size}")).await
            }
            "HELO" | "NOOP" => self.say("250 ok").await,
            "RSET" => {
                self.reset();
                self.say("250 ok").await
            }
            "QUIT" => {
                self.say("221 bye").await?;
                Ok(false)
            }
            "AUTH" => {
                let given = line.get("AUTH PLAIN ".len()..);
                self.known = self.shared.credentials.as_deref() == given;
                self.say(if self.known { "235 ok" } else { "535 wrong credentials" }).await
            }
            "MAIL" if !self.known => self.say("530 authenticate first").await,
            "MAIL" => {
                self.reset();
                self.from = Some(path_of(line));
                self.say("250 ok").await
            }
            "RCPT" => self.recipient(path_of(line)).await,
            "DATA" if self.to.is_empty() => self.say("503 whom to?").await,
            "DATA" => self.data().await,
            _ => self.say("502 not known here").await,
        }
    }

    async fn recipient(&mut self, recipient: String) -> Result<GoOn> {
        if self.from.is_none() {
            return self.say("503 from whom?").await;
        }
        if self.to.len() >= RECIPIENTS_MAX {
            return self.say("452 too many recipients").await;
        }
        match self.shared.fault(&recipient) {
            Some(Fault::Refuse(code)) => {
                return self.say(&format!("{code} not for <{recipient}>")).await;
            }
            Some(Fault::Close) => {
                self.say("421 closing").await?;
                return Ok(false);
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Forget) => self.forgets = true,
            None => {}
        }
        self.to.push(recipient);
        self.say("250 ok").await
    }

    async fn data(&mut self) -> Result<GoOn> {
        self.say("354 go on, end with a dot").await?;
        let (mut data, mut too_large) = (Vec::new(), false);
        loop {
            let Some(line) = self.line().await? else { return Ok(false) };
            if line == b".\r\n" {
                break;
            }
            let line = line.strip_prefix(b".").unwrap_or(&line);
            too_large |= data.len() + line.len() > MESSAGE_BYTES_MAX;
            if !too_large {
                data.extend_from_slice(line);
            }
        }
        if too_large {
            self.reset();
            return self.say("552 too large").await;
        }
        let from = self.from.take().unwrap_or_default();
        let message = Message { from, to: std::mem::take(&mut self.to), data };
        let kept = self.shared.keep(message)?;
        if self.forgets {
            return Ok(false);
        }
        self.say(if kept { "250 kept" } else { "452 no room" }).await
    }

    fn reset(&mut self) {
        (self.from, self.to, self.forgets) = (None, Vec::new(), false);
    }

    /// The next line with its end; none at the end of the conversation.
    async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut line);
        tokio::time::timeout(SILENCE_MAX, read).await??;
        Ok(line.ends_with(b"\n").then_some(line))
    }

    async fn say(&mut self, text: &str) -> Result<GoOn> {
        self.stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        Ok(true)
    }
}

/// The address in `MAIL FROM:<a@b> SIZE=1`.
fn path_of(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map(|(path, _)| path.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says each line, and gives the codes of the answers.
    async fn converse(server: &Smtp, lines: &[&str]) -> Vec<String> {
        let mut stream = BufStream::new(TcpStream::connect(server.address()).await.unwrap());
        let mut codes = Vec::new();
        for line in std::iter::once(&"").chain(lines) {
            if !line.is_empty() {
                stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
            loop {
                let mut answer = String::new();
                stream.read_line(&mut answer).await.unwrap();
                if answer.get(3..4) != Some("-") {
                    codes.push(answer.get(..3).unwrap_or("").to_owned());
                    break;
                }
            }
        }
        codes
    }

    const MESSAGE: &str = "Subject: a\r\n b\r\n\r\n..hidden dot\r\nend\r\n.";

    #[tokio::test]
    async fn a_message_is_kept_as_it_was_meant() {
        let bed = Bed::new().unwrap();
        let server = Smtp::start(&bed).await.unwrap();
        let codes = converse(
            &server,
            &["EHLO me", "MAIL FROM:<a@b> SIZE=9", "RCPT TO:<c@d>", "DATA", MESSAGE, "QUIT"],
        )
        .await;
        assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"]);
        let [message] = &server.messages()[..] else { panic!("{:?}", server.messages()) };
        assert_eq!((message.from.as_str(), &message.to[..]), ("a@b", &["c@d".to_owned()][..]));
        assert_eq!(message.header("subject").unwrap(), "a b");
        assert_eq!(message.text(), ".hidden dot\nend\n");
        let file = fs::read(server.folder().join("000000.eml")).unwrap();
        assert_eq!(file, message.data);
    }

    #[tokio::test]
    async fn it_misbehaves_as_told_and_as_often() {
        let bed = Bed::new().unwrap();
        let server = Smtp::start(&bed).await.unwrap();
        server.misbehave(Some("c@d"), Fault::Refuse(451), 1);
        let to = "RCPT TO:<c@d>";
        let codes = converse(&server, &["MAIL FROM:<>", "RCPT TO:<x@y>", to, to]).await;
        assert_eq!(codes, ["220", "250", "250", "451", "250"]);
        server.misbehave(None, Fault::Close, 9);
        assert_eq!(converse(&server, &["MAIL FROM:<>", to]).await.last().unwrap(), "421");
        server.behave();
        server.misbehave(None, Fault::Forget, 1);
        let codes = converse(&server, &["MAIL FROM:<>", to, "DATA", MESSAGE]).await;
        assert_eq!(codes.last().unwrap(), "");
        assert_eq!(server.messages().len(), 1);
    }

    #[tokio::test]
    async fn what_is_out_of_order_or_too_large_is_refused() {
        let bed = Bed::new().unwrap();
        let server = Smtp::start(&bed).await.unwrap();
        let large = format!("{}.", format!("{}\r\n", "x".repeat(1000)).repeat(1100));
        let codes = converse(
            &server,
            &["RCPT TO:<a@b>", "DATA", "WHAT", "MAIL FROM:<>", "RCPT TO:<a@b>", "DATA", &large],
        )
        .await;
        assert_eq!(codes, ["220", "503", "503", "502", "250", "250", "354", "552"]);
        assert!(server.messages().is_empty());
    }

    #[tokio::test]
    async fn a_password_is_asked_for() {
        let bed = Bed::new().unwrap();
        let server = Smtp::start_with_password(&bed, "drover", "secret").await.unwrap();
        let right = format!("AUTH PLAIN {}", BASE64_STANDARD.encode("\0drover\0secret"));
        let lines = ["MAIL FROM:<>", "AUTH PLAIN AAAA", &right, "MAIL FROM:<>"];
        assert_eq!(converse(&server, &lines).await, ["220", "530", "535", "235", "250"]);
    }
}
