//! Messages by SMTP: the customers', and the operators'.

use std::time::Duration;

use drover_schemas::codes::{chain, untrusted};
use lettre::{
    Address,
    message::{Mailbox, Message as Mail, header::ContentType},
    transport::smtp::{
        self,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
    },
};

use crate::{
    Error, Smtp, Tls,
    message::{Message, visible},
    options::TIMEOUT_MS_MIN,
    templates::Templates,
};

/// How much of a mail server's answer is repeated, in characters.
const ANSWER_CHARS_MAX: usize = 200;
/// How long the goodbye after an accepted message may take.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Sends mail, each over a connection of its own: one that was given up in the middle of a
/// conversation must never serve the next message, and a pool cannot tell.
pub(crate) struct Mailer {
    host: String,
    port: u16,
    protection: Protection,
    credentials: Option<Credentials>,
    hello: ClientId,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    timeout: Duration,
}

enum Protection {
    None,
    StartTls(TlsParameters),
    Tls(TlsParameters),
}

impl Mailer {
    pub(crate) fn new(options: &Smtp) -> Result<Self, Error> {
        if options.timeout_ms < TIMEOUT_MS_MIN {
            return Err(wrong("timeout_ms", &format!("at least {TIMEOUT_MS_MIN}")));
        }
        let mailbox = |key: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|_| wrong(key, "not a mail address"))
        };
        Ok(Self {
            host: options.host.clone(),
            port: options.port.unwrap_or(options.tls.default_port()),
            protection: protection(options)?,
            credentials: credentials(options)?,
            hello: ClientId::default(),
            from: mailbox("from", &options.from)?,
            reply_to: options.reply_to.as_deref().map(|to| mailbox("reply_to", to)).transpose()?,
            timeout: Duration::from_millis(options.timeout_ms),
        })
    }

    /// Sends the message to its owner. Ok: a mail server has taken responsibility for it.
    pub(crate) async fn send(&self, message: &Message, texts: &Templates) -> Result<(), Error> {
        let owner: Address = message.owner.trim().parse().map_err(|_| {
            Error::MailRefused("the owner in the inventory is not a mail address".to_owned())
        })?;
        let to = [Mailbox::new(None, owner)];
        self.tell(&message.key, &to, &texts.subject(message)?, texts.body(message)?).await
    }

    /// Sends a text; `key` is part of its `Message-ID`. Ok: a mail server has taken responsibility for
    /// it.
    pub(crate) async fn tell(
        &self,
        key: &str,
        to: &[Mailbox],
        subject: &str,
        body: String,
    ) -> Result<(), Error> {
        let mail = self.mail(key, to, subject, body)?;
        match tokio::time::timeout(self.timeout, self.converse(&mail)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => {
                let ms = self.timeout.as_millis();
                Err(Error::MailFailed(format!("the mail server did not take it within {ms} ms")))
            }
        }
    }

    async fn converse(&self, mail: &Mail) -> Result<(), smtp::Error> {
        let server = (self.host.as_str(), self.port);
        let (timeout, hello) = (Some(self.timeout), &self.hello);
        let at_once = match &self.protection {
            Protection::Tls(parameters) => Some(parameters.clone()),
            Protection::None | Protection::StartTls(_) => None,
        };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, timeout, hello, at_once, None).await?;
        if let Protection::StartTls(parameters) = &self.protection {
            connection.starttls(parameters.clone(), hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        connection.send(mail.envelope(), &mail.formatted()).await?;
        // The message is accepted; how the goodbye goes does not change that.
        tokio::spawn(tokio::time::timeout(GOODBYE_MAX, async move { connection.abort().await }));
        Ok(())
    }

    fn mail(&self, key: &str, to: &[Mailbox], subject: &str, body: String) -> Result<Mail, Error> {
        let id = format!("<{key}@{}>", self.from.email.domain());
        let mut builder = Mail::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(id))
            // Keeps holiday notes and mailing lists from answering (RFC 3834).
            .raw_header(auto_submitted())
            .header(ContentType::TEXT_PLAIN);
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        for mailbox in to {
            builder = builder.to(mailbox.clone());
        }
        let mail = builder.body(body);
        mail.map_err(|error| Error::MailRefused(format!("no mail can be made: {error}")))
    }
}

fn auto_submitted() -> lettre::message::header::HeaderValue {
    use lettre::message::header::{HeaderName, HeaderValue};
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    HeaderValue::new(name, "auto-generated".to_owned())
}

fn wrong(key: &str, why: &str) -> Error {
    Error::Configuration(format!("[notify.smtp] {key}: {why}"))
}

fn credentials(options: &Smtp) -> Result<Option<Credentials>, Error> {
    match (&options.username, &options.password_file) {
        (None, None) => Ok(None),
        (Some(username), Some(file)) => {
            let address = options.host.parse::<std::net::IpAddr>();
            let here = options.host == "localhost" || address.is_ok_and(|at| at.is_loopback());
            if options.tls == Tls::None && !here {
                return Err(wrong("tls", "a password is not sent in plain text over a network"));
            }
            let password = drover_secrets::read(file)?.expose().to_owned();
            Ok(Some(Credentials::new(username.clone(), password)))
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(wrong("username", "username and password_file belong together"))
        }
    }
}

fn protection(options: &Smtp) -> Result<Protection, Error> {
    let parameters = || {
        let mut builder = TlsParameters::builder(options.host.clone());
        if let Some(file) = &options.ca_file {
            let unusable = |why: &dyn std::fmt::Display| {
                wrong("ca_file", &format!("{}: {why}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
            let authority = Certificate::from_pem(&pem).map_err(|_| unusable(&"no certificate"))?;
            builder = builder.add_root_certificate(authority);
        }
        builder.build_rustls().map_err(|error| wrong("host", &chain(&error)))
    };
    Ok(match options.tls {
        Tls::None => Protection::None,
        Tls::StartTls => Protection::StartTls(parameters()?),
        Tls::Tls => Protection::Tls(parameters()?),
    })
}

/// 5xx is for good, all else may go away by itself.
fn classify(error: &smtp::Error) -> Error {
    let words = answer(&chain(error));
    match error.status() {
        Some(code) if error.is_permanent() => {
            Error::MailRefused(format!("the mail server answered {code}: {words}"))
        }
        Some(code) => Error::MailFailed(format!("the mail server answered {code}: {words}")),
        None => match untrusted(&chain(error)) {
            Some(reason) => Error::Untrusted(format!("the mail server: {}", answer(&reason))),
            None => Error::MailFailed(words),
        },
    }
}

/// A mail server's words without addresses, on one line, of bounded length.
fn answer(text: &str) -> String {
    let words = text.split_whitespace();
    let words: Vec<&str> = words.map(|word| if word.contains('@') { "…" } else { word }).collect();
    visible(&words.join(" ")).chars().take(ANSWER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_nobody() {
        assert_eq!(answer("550 no\r\n such user <a@b.c>, sorry"), "550 no such user … sorry");
        assert!(answer(&"x ".repeat(1000)).chars().count() <= ANSWER_CHARS_MAX);
    }
}
