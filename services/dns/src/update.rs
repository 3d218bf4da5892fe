//! The UPDATE message (RFC 2136): what must be so, and what is then to be so.

use hickory_proto::{
    op::{Message, OpCode, Query, UpdateMessage},
    rr::{DNSClass, Name, RData, Record, RecordType},
};

use crate::{
    decide::{Decision, Found},
    error::Error,
    mark::Mark,
    names::HostName,
    records::Kind,
};

/// How long resolvers may keep a mark, in seconds. Nobody but Drover asks for it, at the primary.
const MARK_TTL_SECONDS: u32 = 60;

/// One message for all host names; it changes nothing unless each of them is as it was found.
pub(crate) fn message(zone: Name, hosts: &[(HostName, Found, Decision)]) -> Result<Message, Error> {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_zone(Query::query(zone, RecordType::SOA));
    for (host, found, decision) in hosts {
        let Some(mark) = &decision.mark else { continue };
        require_records(&mut message, &host.name()?, found, decision);
        replace_records(&mut message, &host.name()?, decision);
        replace_mark(&mut message, &host.mark_name()?, found, mark, decision);
    }
    Ok(message)
}

fn require_records(message: &mut Message, name: &Name, found: &Found, decision: &Decision) {
    if decision.replace.is_empty() {
        return;
    }
    for set in &found.sets {
        for data in set.values.data() {
            // RFC 2136, 2.4.2: the RRset exists with exactly these values.
            message.add_pre_requisite(Record::from_rdata(name.clone(), 0, data));
        }
    }
    // No address of the other type has come beside it; beside a CNAME there can be none.
    for kind in Kind::ADDRESSES {
        if found.sets.iter().all(|set| !matches!(set.values.kind(), Kind::Cname))
            && found.sets.iter().all(|set| set.values.kind() != kind)
        {
            message.add_pre_requisite(absent(name, kind.record_type()));
        }
    }
}

fn replace_records(message: &mut Message, name: &Name, decision: &Decision) {
    for set in &decision.replace {
        message.add_update(empty(name, set.values.kind().record_type(), DNSClass::ANY));
        for data in set.values.data() {
            message.add_update(Record::from_rdata(name.clone(), set.ttl_seconds, data));
        }
    }
}

fn replace_mark(
    message: &mut Message,
    name: &Name,
    found: &Found,
    mark: &Mark,
    decision: &Decision,
) {
    if found.texts.is_empty() {
        message.add_pre_requisite(absent(name, RecordType::TXT));
    }
    for txt in &found.texts {
        message.add_pre_requisite(Record::from_rdata(name.clone(), 0, RData::TXT(txt.clone())));
        let own = Mark::of_txt(txt).is_some_and(|it| it.migration == mark.migration);
        if own || decision.dropped.contains(txt) {
            // RFC 2136, 2.5.4: this one record goes, others of the set stay.
            let mut gone = Record::from_rdata(name.clone(), 0, RData::TXT(txt.clone()));
            gone.dns_class = DNSClass::NONE;
            message.add_update(gone);
        }
    }
    let new = Record::from_rdata(name.clone(), MARK_TTL_SECONDS, RData::TXT(mark.txt()));
    message.add_update(new);
}

/// RFC 2136, 2.4.3: no record of this type.
fn absent(name: &Name, kind: RecordType) -> Record {
    empty(name, kind, DNSClass::NONE)
}

fn empty(name: &Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = class;
    record
}
