//! Host names as an inventory gives them: checked before anything is planned.

use std::{fmt, net::IpAddr};

use hickory_proto::rr::Name;

use crate::{error::Error, options::Zone};

/// How many host names one migration may have. Their switch is one message of at most 64 KiB.
pub const HOST_NAMES_MAX: usize = 32;
/// The label below a host name at which its mark lies.
pub(crate) const MARK_LABEL: &str = "_drover";
/// The longest host name in characters: 253 is the protocol's limit, the mark's label and its
/// dot are part of it.
const NAME_LENGTH_MAX: usize = 253 - MARK_LABEL.len() - 1;
const LABEL_LENGTH_MAX: usize = 63;
/// How much of a wrong name an error repeats, in characters.
const QUOTED_LENGTH_MAX: usize = 80;

/// A host name in lower case and without a final dot, in a configured zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName {
    text: String,
    zone: String,
}

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the zone that it lies in, in lower case and without a final dot.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    pub(crate) fn name(&self) -> Result<Name, Error> {
        absolute(&self.text)
    }

    pub(crate) fn mark_name(&self) -> Result<Name, Error> {
        absolute(&format!("{MARK_LABEL}.{}", self.text))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks a name's syntax and length, and finds its zone.
///
/// # Errors
/// [`Error::HostName`] says what is wrong and what to write instead.
pub fn check_host_name(name: &str, zones: &[Zone]) -> Result<HostName, Error> {
    let problem =
        |problem| Error::HostName { name: name.chars().take(QUOTED_LENGTH_MAX).collect(), problem };
    let text = canonical(name).map_err(problem)?;
    if text.split('.').any(|label| label == MARK_LABEL) {
        return Err(problem("the label _drover is kept for Drover's marks"));
    }
    let zone = zones
        .iter()
        .filter_map(|zone| canonical(&zone.name).ok())
        .filter(|zone| lies_in(&text, zone))
        .max_by_key(String::len)
        .ok_or_else(|| problem("it lies in none of [[dns.zones]]"))?;
    Ok(HostName { text, zone })
}

/// Checks all host names of one migration; the same name twice counts once.
///
/// # Errors
/// [`Error::HostName`] of the first one that is wrong, or lies in another zone than the others.
pub fn check_host_names<T: AsRef<str>>(
    names: &[T],
    zones: &[Zone],
) -> Result<Vec<HostName>, Error> {
    let mut hosts: Vec<HostName> = Vec::new();
    for name in names {
        let host = check_host_name(name.as_ref(), zones)?;
        let problem = |problem| Err(Error::HostName { name: host.text.clone(), problem });
        if hosts.first().is_some_and(|first| first.zone != host.zone) {
            return problem(
                "the host names of one migration lie in one zone, and this one does not",
            );
        }
        if hosts.contains(&host) {
            continue;
        }
        if hosts.len() == HOST_NAMES_MAX {
            return problem("one migration has at most 32 host names");
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// A name's one form: lower case, no final dot; or what is wrong with it.
pub(crate) fn canonical(name: &str) -> Result<String, &'static str> {
    if !name.is_ascii() {
        return Err("write it in its ASCII form, whose labels begin with xn-- (IDNA A-labels)");
    }
    let text = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if text.is_empty() {
        return Err("it is empty");
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err("it is an address: no DNS update can move it");
    }
    if text.len() > NAME_LENGTH_MAX {
        return Err("it is longer than 245 characters");
    }
    let labels = text.strip_prefix("*.").unwrap_or(&text);
    labels.split('.').try_for_each(check_label)?;
    Ok(text)
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("it has an empty label");
    }
    if label.len() > LABEL_LENGTH_MAX {
        return Err("it has a label of more than 63 characters");
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !label.bytes().all(known) {
        return Err("a label consists of a-z, 0-9, - and _; only the first one may be *");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("a label neither begins nor ends with a hyphen");
    }
    Ok(())
}

/// Whether a name in its one form is the zone's own or below it.
pub(crate) fn lies_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The DNS library's form of a name in its one form.
pub(crate) fn absolute(text: &str) -> Result<Name, Error> {
    Name::from_ascii(format!("{text}."))
        .map_err(|_| Error::HostName { name: text.to_owned(), problem: "it is not a host name" })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> Zone {
        Zone {
            name: name.to_owned(),
            primary: SocketAddr::from((Ipv4Addr::LOCALHOST, 53)),
            servers: Vec::new(),
            key_name: "k".to_owned(),
            key_file: "k".into(),
            algorithm: Default::default(),
            ttl_seconds: 60,
        }
    }

    fn zones() -> Vec<Zone> {
        vec![zone("example.com"), zone("Sub.Example.com."), zone("xn--bcher-kva.example")]
    }

    #[test]
    fn odd_but_legal_names_are_taken() {
        for (given, text, zone) in [
            ("www.example.com", "www.example.com", "example.com"),
            ("WWW.Example.COM.", "www.example.com", "example.com"),
            ("example.com", "example.com", "example.com"),
            ("a.sub.example.com", "a.sub.example.com", "sub.example.com"),
            ("*.example.com", "*.example.com", "example.com"),
            ("_db_1.example.com", "_db_1.example.com", "example.com"),
            ("1.2.3.4.example.com", "1.2.3.4.example.com", "example.com"),
            ("xn--mller-kva.example.com", "xn--mller-kva.example.com", "example.com"),
            ("a.xn--bcher-kva.example", "a.xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            let host = check_host_name(given, &zones()).unwrap();
            assert_eq!((host.as_str(), host.zone()), (text, zone), "{given}");
            assert_eq!(host.name().unwrap().to_ascii(), format!("{text}."));
            assert_eq!(host.mark_name().unwrap().to_ascii(), format!("_drover.{text}."));
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused_with_what_to_write() {
        let long = format!("{}.example.com", "a.".repeat(118));
        let label = format!("{}.example.com", "a".repeat(64));
        for (given, hint) in [
            ("", "empty"),
            (".", "empty"),
            ("..example.com", "empty label"),
            ("a..example.com", "empty label"),
            ("www.example.org", "[[dns.zones]]"),
            ("notexample.com", "[[dns.zones]]"),
            ("com", "[[dns.zones]]"),
            ("müller.example.com", "xn--"),
            ("192.0.2.1", "address"),
            ("2001:db8::1", "address"),
            ("a b.example.com", "consists of"),
            ("a*.example.com", "consists of"),
            ("a.*.example.com", "consists of"),
            ("a\0.example.com", "consists of"),
            ("a;b.example.com", "consists of"),
            ("-a.example.com", "hyphen"),
            ("_drover.a.example.com", "kept"),
            (long.as_str(), "longer"),
            (label.as_str(), "63"),
        ] {
            let error = check_host_name(given, &zones()).unwrap_err().to_string();
            assert!(error.contains(hint), "{given}: {error}");
        }
    }

    #[test]
    fn names_of_one_migration_lie_in_one_zone() {
        let hosts = check_host_names(&["a.example.com", "A.example.com."], &zones()).unwrap();
        assert_eq!(hosts.len(), 1);
        assert!(check_host_names(&["a.example.com", "a.sub.example.com"], &zones()).is_err());
        let many: Vec<String> = (0..=HOST_NAMES_MAX).map(|i| format!("h{i}.example.com")).collect();
        assert!(check_host_names(&many, &zones()).is_err());
        assert!(check_host_names(&many[1..], &zones()).is_ok());
    }

    proptest! {
        #[test]
        fn a_name_that_is_taken_can_be_sent(name in "\\PC{0,40}(\\.example\\.com)?") {
            if let Ok(host) = check_host_name(&name, &zones()) {
                prop_assert!(host.name().is_ok() && host.mark_name().is_ok());
                prop_assert_eq!(check_host_name(host.as_str(), &zones()).unwrap(), host);
            }
        }

        #[test]
        fn legal_labels_are_taken(labels in prop::collection::vec("[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,20}[a-z0-9])?", 1..6)) {
            let name = format!("{}.example.com", labels.join("."));
            let host = check_host_name(&name, &zones()).unwrap();
            prop_assert_eq!(host.name().unwrap().to_ascii(), format!("{}.", name.to_lowercase()));
        }
    }
}
