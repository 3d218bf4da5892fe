//! The records that Drover changes: a host name's CNAME, or its A and AAAA records.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use drover_schemas::v1;
use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME},
};

use crate::{
    error::Error,
    names::{absolute, canonical},
    options::Target,
};

/// The most addresses of one type at one host name: the mark keeps all of them.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Another name.
    Cname,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl Kind {
    pub(crate) const ADDRESSES: [Self; 2] = [Self::A, Self::Aaaa];

    pub(crate) fn record_type(self) -> RecordType {
        match self {
            Self::Cname => RecordType::CNAME,
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cname => "CNAME",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        })
    }
}

impl FromStr for Kind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "CNAME" => Ok(Self::Cname),
            "A" => Ok(Self::A),
            "AAAA" => Ok(Self::Aaaa),
            _ => Err(()),
        }
    }
}

/// All values of one type at one name. Names are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// The one name.
    Cname(Name),
    /// IPv4 addresses, at least one.
    A(BTreeSet<Ipv4Addr>),
    /// IPv6 addresses, at least one.
    Aaaa(BTreeSet<Ipv6Addr>),
}

impl Values {
    /// Their type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Cname(_) => Kind::Cname,
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
        }
    }

    /// As text, in a fixed order.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Cname(name) => vec![name.to_ascii()],
            Self::A(addresses) => addresses.iter().map(ToString::to_string).collect(),
            Self::Aaaa(addresses) => addresses.iter().map(ToString::to_string).collect(),
        }
    }

    /// From text; none where a value is not of this type, or there is none or too many.
    pub fn parse<'a>(kind: Kind, texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        fn all<'a, T: FromStr + Ord>(texts: impl Iterator<Item = &'a str>) -> Option<BTreeSet<T>> {
            let values: BTreeSet<T> = texts.map(|text| text.parse().ok()).collect::<Option<_>>()?;
            (1..=ADDRESSES_MAX).contains(&values.len()).then_some(values)
        }
        let mut texts = texts.into_iter();
        match kind {
            Kind::A => all(texts).map(Self::A),
            Kind::Aaaa => all(texts).map(Self::Aaaa),
            Kind::Cname => match (texts.next(), texts.next()) {
                (Some(name), None) => Some(Self::Cname(absolute(&canonical(name).ok()?).ok()?)),
                (None, _) | (Some(_), Some(_)) => None,
            },
        }
    }

    /// What a host name of this type holds that points to `target`; none where it has no such
    /// value.
    pub(crate) fn of_target(target: &Target, kind: Kind) -> Option<Self> {
        match kind {
            Kind::Cname => Self::parse(kind, target.dns_name.as_deref()),
            Kind::A if target.ipv4.is_empty() => None,
            Kind::A => Some(Self::A(target.ipv4.iter().copied().collect())),
            Kind::Aaaa if target.ipv6.is_empty() => None,
            Kind::Aaaa => Some(Self::Aaaa(target.ipv6.iter().copied().collect())),
        }
    }

    /// Takes the values of this type out of an answer; none where there is none.
    pub(crate) fn of_answer(kind: Kind, records: &[&Record]) -> Option<Rrset> {
        let ttl_seconds = records.iter().map(|record| record.ttl).min()?;
        let (mut names, mut v4, mut v6) = (None, BTreeSet::new(), BTreeSet::new());
        for record in records {
            match &record.data {
                RData::CNAME(CNAME(name)) => names = Some(name.clone()),
                RData::A(A(address)) => _ = v4.insert(*address),
                RData::AAAA(AAAA(address)) => _ = v6.insert(*address),
                _ => {}
            }
        }
        let values = match kind {
            Kind::Cname => Self::Cname(names?),
            Kind::A => Self::A(v4),
            Kind::Aaaa => Self::Aaaa(v6),
        };
        Some(Rrset { values, ttl_seconds })
    }

    pub(crate) fn data(&self) -> Vec<RData> {
        match self {
            Self::Cname(name) => vec![RData::CNAME(CNAME(name.clone()))],
            Self::A(addresses) => addresses.iter().map(|it| RData::A(A(*it))).collect(),
            Self::Aaaa(addresses) => addresses.iter().map(|it| RData::AAAA(AAAA(*it))).collect(),
        }
    }
}

/// Values and how long resolvers keep them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrset {
    /// The values.
    pub values: Values,
    /// In seconds.
    pub ttl_seconds: u32,
}

/// What a switch changed at one host name, for one type; old and new are of the same type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The source's.
    pub old: Rrset,
    /// The destination's.
    pub new: Rrset,
}

impl Change {
    /// As the event of the switch tells it.
    pub(crate) fn switched(&self, host_name: &str) -> v1::DnsChange {
        event(host_name, &self.old, &self.new)
    }

    /// As the event of the undo tells it: from new to old.
    pub(crate) fn reverted(&self, host_name: &str) -> v1::DnsChange {
        event(host_name, &self.new, &self.old)
    }

    /// Reads what [`Change::switched`] wrote.
    pub(crate) fn from_event(change: &v1::DnsChange) -> Result<Self, Error> {
        let values = |texts: &[String]| {
            let kind = change.record_type.parse().ok()?;
            Values::parse(kind, texts.iter().map(String::as_str))
        };
        let lacking = || Error::Incomplete("DNS values");
        Ok(Self {
            old: Rrset {
                values: values(&change.old_values).ok_or_else(lacking)?,
                ttl_seconds: change.old_ttl_seconds,
            },
            new: Rrset {
                values: values(&change.new_values).ok_or_else(lacking)?,
                ttl_seconds: change.new_ttl_seconds,
            },
        })
    }
}

fn event(host_name: &str, old: &Rrset, new: &Rrset) -> v1::DnsChange {
    v1::DnsChange {
        host_name: host_name.to_owned(),
        record_type: old.values.kind().to_string(),
        old_values: old.values.texts(),
        new_values: new.values.texts(),
        old_ttl_seconds: old.ttl_seconds,
        new_ttl_seconds: new.ttl_seconds,
    }
}
