//! MySQL servers with TLS: their certificates are checked before a password is sent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic anywhere")]

use std::path::Path;

use drover_mysql::{Options, Server, Tls, existing};
use drover_schemas::Code;
use drover_testbed::{
    Bed,
    mariadb::{Mariadb, Settings},
    tls::Identity,
};

const NAME: &str = "db.example";

async fn start(bed: &Bed, name: &str, options: Vec<String>) -> Mariadb {
    let settings = Settings { relaxed_durability: true, more_options: options };
    Mariadb::start_with(bed, name, settings).await.unwrap()
}

async fn reached(mariadb: &Mariadb, authority: Option<&Path>, name: Option<&str>) -> Option<Code> {
    let mut options = Options::new(mariadb.address().to_string(), mariadb.port());
    options.password_file = mariadb.drover_password_file();
    options.tls =
        Some(Tls { ca_file: authority.map(Path::to_owned), server_name: name.map(str::to_owned) });
    let server = Server::new(mariadb.name().parse().unwrap(), options).unwrap();
    existing(&server, &[]).await.err().map(|error| error.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_with_the_right_certificate_is_spoken_to() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().unwrap();
    let mut names = vec![NAME.to_owned()];
    names.extend(bed.addresses().map(|address| address.to_string()));
    let identity = Identity::new(&bed, "db", &names).unwrap();
    let stranger = Identity::new(&bed, "stranger", &names).unwrap();
    let with_tls = vec![
        format!("--ssl-cert={}", identity.certificate.display()),
        format!("--ssl-key={}", identity.key.display()),
        // Nobody gets in without.
        "--require-secure-transport=ON".to_owned(),
    ];
    let (secure, plain) = tokio::join!(
        start(&bed, "secure", with_tls),
        start(&bed, "plain", vec!["--skip-ssl".to_owned()])
    );
    let authority = Some(identity.authority.as_path());
    assert_eq!(reached(&secure, authority, None).await, None, "by its address");
    assert_eq!(reached(&secure, authority, Some(NAME)).await, None, "by its name");
    let refused = Some(Code::PeerUntrusted);
    assert_eq!(reached(&secure, authority, Some("other.example")).await, refused);
    assert_eq!(reached(&secure, Some(&stranger.authority), None).await, refused);
    assert_eq!(reached(&secure, None, None).await, refused, "of no system's authority");
    assert_eq!(reached(&plain, authority, None).await, refused, "no TLS");
}
