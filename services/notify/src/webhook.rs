//! The information system's message, by HTTP: Standard Webhooks 1.0.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use drover_schemas::codes::{chain, untrusted};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{StatusCode, header::CONTENT_TYPE, redirect};
use sha2::Sha256;
use url::Url;

use crate::{Error, Webhook, options::TIMEOUT_MS_MIN};

/// What the specification asks of a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRET_PREFIX: &str = "whsec_";

/// Posts signed messages.
pub(crate) struct Poster {
    client: reqwest::Client,
    url: Url,
    key: Hmac<Sha256>,
}

impl Poster {
    pub(crate) fn new(options: &Webhook) -> Result<Self, Error> {
        let url: Url = options.url.parse().map_err(|_| wrong("url", "not an address"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("url", "not an http or https address"));
        }
        if options.timeout_ms < TIMEOUT_MS_MIN {
            return Err(wrong("timeout_ms", &format!("at least {TIMEOUT_MS_MIN}")));
        }
        let mut builder = reqwest::Client::builder()
            .timeout(Duration::from_millis(options.timeout_ms))
            // A signed message goes to the configured address only.
            .redirect(redirect::Policy::none());
        if let Some(file) = &options.ca_file {
            let unusable = |why: &dyn std::fmt::Display| {
                wrong("ca_file", &format!("{}: {why}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem);
            let authorities = authorities.map_err(|_| unusable(&"no certificate"))?;
            builder = builder.tls_certs_merge(authorities);
        }
        let client = builder.build().map_err(|error| wrong("ca_file", &chain(&error)))?;
        let secret = drover_secrets::read(&options.secret_file)?;
        Ok(Self { client, url, key: key(secret.expose())? })
    }

    /// Posts `body` under `id`. Ok: the receiver answered 2xx.
    pub(crate) async fn post(
        &self,
        id: &str,
        body: String,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let timestamp = now.timestamp();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signature(id, timestamp, &body))
            .body(body);
        match request.send().await {
            Ok(response) => judge(response.status()),
            // The address may hold a token.
            Err(error) => {
                let reason = chain(&error.without_url());
                Err(match untrusted(&reason) {
                    Some(reason) => Error::Untrusted(format!("the webhook's receiver: {reason}")),
                    None => Error::WebhookFailed(reason),
                })
            }
        }
    }

    fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = self.key.clone();
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

fn wrong(key: &str, why: &str) -> Error {
    Error::Configuration(format!("[notify.webhook] {key}: {why}"))
}

fn key(secret: &str) -> Result<Hmac<Sha256>, Error> {
    let malformed = || wrong("secret_file", "not whsec_ and 24 to 64 bytes in base64");
    let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or_else(malformed)?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| malformed())?;
    if !SECRET_BYTES.contains(&bytes.len()) {
        return Err(malformed());
    }
    Hmac::new_from_slice(&bytes).map_err(|_| malformed())
}

/// 2xx is done; what another time may bring is tried again; the rest is for good.
fn judge(status: StatusCode) -> Result<(), Error> {
    let text = || format!("the receiver answered {}", status.as_u16());
    let passing =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_success() {
        Ok(())
    } else if status.is_server_error() || passing.contains(&status) {
        Err(Error::WebhookFailed(text()))
    } else {
        Err(Error::WebhookRefused(text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification's own libraries.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let client = reqwest::Client::builder();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let poster =
            Poster { client: client.build().unwrap(), url: "http://a/".parse().unwrap(), key };
        let body = r#"{"test": 2432232314}"#;
        assert_eq!(
            poster.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 23]));
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%", &short] {
            assert!(matches!(key(bad), Err(Error::Configuration(_))), "{bad}");
        }
    }

    #[test]
    fn answers_are_judged() {
        for code in [200, 202, 204] {
            assert!(judge(StatusCode::from_u16(code).unwrap()).is_ok());
        }
        for code in [408, 425, 429, 500, 503, 599] {
            let error = judge(StatusCode::from_u16(code).unwrap()).unwrap_err();
            assert!(error.is_transient(), "{code}");
        }
        for code in [301, 308, 400, 401, 404, 410, 422] {
            let error = judge(StatusCode::from_u16(code).unwrap()).unwrap_err();
            assert!(!error.is_transient(), "{code}");
        }
    }
}
