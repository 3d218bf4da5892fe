//! A whole zone from a real BIND, of more than one message.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

mod support;

use drover_testbed::{Bed, Bind};
use support::{DESTINATION, SOURCE, options, service_with};

/// More than a message of 64 KiB holds.
const NAMES: usize = 6_000;

#[tokio::test]
async fn all_names_that_point_to_a_server_are_found() {
    let bed = Bed::new().unwrap();
    let records: Vec<String> = (0..NAMES)
        .map(|n| match n % 4 {
            0 => format!("n{n} A {SOURCE}"),
            1 => format!("n{n} CNAME dst.example.net."),
            2 => format!("n{n} AAAA 2001:db8::1"),
            _ => format!("n{n} A 203.0.113.9"),
        })
        .chain([format!("both A {DESTINATION}"), "both AAAA 2001:db8::d".to_owned()])
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let bind = Bind::start(&bed, "big.test", &records).unwrap();
    let options = options(&bind, &[]);
    let service = service_with(options.clone());
    let found = service.pointing(&options.zones[0]).await.unwrap();
    assert_eq!(found.len(), NAMES / 4 * 3 + 1);
    let server = |name: &str| {
        let found = found.iter().find(|(text, _)| text == name);
        found.map(|(_, server)| server.to_string())
    };
    assert_eq!(server("n0.big.test").as_deref(), Some("src"));
    assert_eq!(server("n1.big.test").as_deref(), Some("dst"));
    assert_eq!(server("n2.big.test").as_deref(), Some("src"));
    assert_eq!(server("both.big.test").as_deref(), Some("dst"));
    assert_eq!(server("n3.big.test"), None);

    // Another key than the zone's: the server refuses it, and nothing is taken for the zone.
    let mut wrong = options;
    wrong.zones[0].key_file = bed.dir().join("other");
    let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(&wrong.zones[0].key_file, secret).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&wrong.zones[0].key_file, private).unwrap();
    let service = service_with(wrong.clone());
    assert!(service.pointing(&wrong.zones[0]).await.is_err());
}
