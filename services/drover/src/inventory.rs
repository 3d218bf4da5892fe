//! The inventory: which databases move from where to where.
//!
//! It is somebody's export, so every row is looked at and every fault is reported, with its line
//! and code, in one go. Nothing is recorded of an inventory with a fault.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use csv::{ByteRecord, ReaderBuilder, Trim};
use drover_dns::{HostName, check_host_names};
use drover_lifecycle::labels;
use drover_mysql::is_no_customers;
use drover_schemas::{CampaignName, Code, Failure, MigrationId, ServerName, v1::MigrationPlanned};

use crate::config::Config;

/// The columns that must be there; further ones become labels.
const COLUMNS: [&str; 6] = ["database", "source", "destination", "host_names", "wave", "owner"];
/// The longest name of a database, in characters: MySQL's and MariaDB's limit.
const DATABASE_CHARACTERS_MAX: usize = 64;
/// The longest e-mail address, in bytes (RFC 5321).
const OWNER_BYTES_MAX: usize = 254;
/// The longest name of a wave or text of a label, in bytes: it travels in every job.
const TEXT_BYTES_MAX: usize = 1_000;

/// A fault of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line in the file, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub failure: Failure,
}

/// A row without a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The line in the file, counted from 1.
    pub line: u64,
    /// The migration that it plans.
    pub id: MigrationId,
    /// The row itself.
    pub planned: MigrationPlanned,
}

/// Reads an inventory and checks all that can be told without asking a server: the rows without
/// a fault, and all faults.
pub fn read(text: &[u8], campaign: &CampaignName, config: &Config) -> (Vec<Row>, Vec<Fault>) {
    let mut reader = ReaderBuilder::new().trim(Trim::Headers).flexible(true).from_reader(text);
    let columns = match header(&mut reader) {
        Ok(columns) => columns,
        Err(failure) => return (Vec::new(), vec![Fault { line: 1, failure }]),
    };
    let mut checker =
        Checker { campaign, config, columns, databases: HashMap::new(), hosts: HashMap::new() };
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                match checker.row(line, &record) {
                    Ok(row) => rows.push(row),
                    Err(found) => {
                        faults.extend(found.into_iter().map(|failure| Fault { line, failure }));
                    }
                }
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                let failure = Failure::new(Code::InventoryUnreadable, error.to_string());
                faults.push(Fault { line, failure });
                break;
            }
        }
    }
    if rows.is_empty() && faults.is_empty() {
        let failure = Failure::new(Code::InventoryUnreadable, "it has no rows");
        faults.push(Fault { line: 1, failure });
    }
    (rows, faults)
}

fn header(reader: &mut csv::Reader<&[u8]>) -> Result<Vec<String>, Failure> {
    let wrong = |message: String| Failure::new(Code::InventoryHeader, message);
    let record = reader.byte_headers().map_err(|error| wrong(error.to_string()))?;
    let mut columns = Vec::new();
    for field in record {
        let name = std::str::from_utf8(field).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let name = name.trim_start_matches('\u{feff}').to_owned();
        if columns.contains(&name) {
            return Err(wrong(format!("{name:?} stands twice")));
        }
        columns.push(name);
    }
    let missing: Vec<&str> =
        COLUMNS.into_iter().filter(|name| !columns.iter().any(|column| column == name)).collect();
    if missing.is_empty() {
        Ok(columns)
    } else {
        Err(wrong(format!("missing: {}", missing.join(", "))))
    }
}

struct Checker<'a> {
    campaign: &'a CampaignName,
    config: &'a Config,
    columns: Vec<String>,
    /// On which line each database and each host name stood.
    databases: HashMap<MigrationId, u64>,
    hosts: HashMap<HostName, u64>,
}

impl Checker<'_> {
    fn row(&mut self, line: u64, record: &ByteRecord) -> Result<Row, Vec<Failure>> {
        let mut fields = self.fields(record).map_err(|failure| vec![failure])?;
        // A database's name may begin with a space; nothing else here may.
        let database = fields.remove("database").unwrap_or_default();
        let mut take = |column: &str| {
            fields.remove(column).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let planned = MigrationPlanned {
            campaign: self.campaign.to_string(),
            database,
            source: take("source"),
            destination: take("destination"),
            host_names: take("host_names").split_whitespace().map(str::to_owned).collect(),
            wave: take("wave"),
            owner: take("owner"),
            labels: fields,
            rehearsal: false,
            brings_back: String::new(),
        };
        let mut faults = Vec::new();
        let mut note = |result: Result<(), Failure>| faults.extend(result.err());
        note(check_database(&planned.database));
        note(check_owner(&planned.owner));
        note(check_texts(&planned));
        for error in labels::faults(&planned) {
            note(Err(Failure::new(Code::InventoryRow, error.to_string())));
        }
        let servers = self.servers(&planned);
        let id = servers
            .as_ref()
            .ok()
            .map(|(source, _)| MigrationId::new(self.campaign, source, &planned.database));
        note(servers.map(|_| ()));
        note(self.hosts(line, &planned));
        if let Some(id) = id
            && let Some(first) = self.databases.insert(id, line)
        {
            self.databases.insert(id, first);
            let message = format!("the database stands on line {first} already");
            note(Err(Failure::new(Code::InventoryDuplicate, message)));
        }
        match (id, faults.is_empty()) {
            (Some(id), true) => Ok(Row { line, id, planned }),
            (Some(_) | None, _) => Err(faults),
        }
    }

    fn fields(&self, record: &ByteRecord) -> Result<BTreeMap<String, String>, Failure> {
        let wrong = |message: String| Failure::new(Code::InventoryRow, message);
        let (expected, found) = (self.columns.len(), record.len());
        if expected != found {
            return Err(wrong(format!("the row has {found} fields, the header {expected}")));
        }
        let mut fields = BTreeMap::new();
        for (column, field) in self.columns.iter().zip(record) {
            let text = std::str::from_utf8(field)
                .map_err(|_| wrong(format!("the field {column:?} is not UTF-8")))?;
            fields.insert(column.clone(), text.to_owned());
        }
        Ok(fields)
    }

    fn servers(&self, planned: &MigrationPlanned) -> Result<(ServerName, ServerName), Failure> {
        let unknown = |message: String| Failure::new(Code::InventoryServerUnknown, message);
        let find = |column: &str, name: &str| {
            let known: Option<ServerName> = name.parse().ok();
            let known = known.filter(|name| self.config.servers.contains_key(name));
            known.ok_or_else(|| unknown(format!("{column} {name:?} is not in the configuration")))
        };
        let source = find("source", &planned.source)?;
        let destination = find("destination", &planned.destination)?;
        if source == destination {
            return Err(unknown(format!("source and destination are both {source}")));
        }
        for (name, slots, what) in [
            (&source, self.config.servers[&source].slots_as_source, "slots_as_source"),
            (
                &destination,
                self.config.servers[&destination].slots_as_destination,
                "slots_as_destination",
            ),
        ] {
            if slots == 0 {
                return Err(unknown(format!("server {name} has {what} = 0")));
            }
        }
        Ok((source, destination))
    }

    fn hosts(&mut self, line: u64, planned: &MigrationPlanned) -> Result<(), Failure> {
        let hosts = check_host_names(&planned.host_names, &self.config.dns.zones)?;
        for host in hosts {
            if let Some(first) = self.hosts.get(&host) {
                let message = format!("the host name {host} stands on line {first} already");
                return Err(Failure::new(Code::InventoryDuplicate, message));
            }
            self.hosts.insert(host, line);
        }
        Ok(())
    }
}

fn check_database(name: &str) -> Result<(), Failure> {
    let wrong = |message: &str| Err(Failure::new(Code::InventoryName, message));
    let characters = name.chars().count();
    if characters == 0 || characters > DATABASE_CHARACTERS_MAX {
        return wrong("a database's name has 1 to 64 characters");
    }
    if name.contains('\0') || name.chars().any(|c| u32::from(c) > 0xffff) {
        return wrong("a database's name holds no NUL and no character beyond the basic plane");
    }
    if is_no_customers(name) {
        return wrong("a system schema does not move");
    }
    Ok(())
}

/// Enough to catch a shifted column; the mail server has the last word.
fn check_owner(owner: &str) -> Result<(), Failure> {
    let sane = |c: char| !c.is_whitespace() && !c.is_control();
    let parts = owner.rsplit_once('@');
    let ok = owner.is_empty()
        || owner.len() <= OWNER_BYTES_MAX
            && owner.chars().all(sane)
            && parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if ok {
        Ok(())
    } else {
        Err(Failure::new(Code::InventoryName, "the owner is no e-mail address"))
    }
}

fn check_texts(planned: &MigrationPlanned) -> Result<(), Failure> {
    let long = planned.wave.len() > TEXT_BYTES_MAX
        || planned.labels.values().any(|label| label.len() > TEXT_BYTES_MAX);
    if long {
        let message = format!("a wave or label has at most {TEXT_BYTES_MAX} bytes");
        return Err(Failure::new(Code::InventoryRow, message));
    }
    Ok(())
}

/// Holds rows against what the campaign has planned already: the new ones, and the faults.
pub fn against_planned(
    rows: Vec<Row>,
    planned: &HashMap<MigrationId, MigrationPlanned>,
) -> (Vec<Row>, Vec<Fault>) {
    let hosts: HashMap<String, MigrationId> = planned
        .iter()
        .flat_map(|(id, row)| row.host_names.iter().map(|host| (host.to_lowercase(), *id)))
        .collect();
    let (mut new, mut faults) = (Vec::new(), Vec::new());
    for row in rows {
        let mut fault = |code, message: String| {
            faults.push(Fault { line: row.line, failure: Failure::new(code, message) });
        };
        match planned.get(&row.id) {
            Some(before) if *before == row.planned => {}
            Some(_) => fault(
                Code::InventoryConflict,
                format!("database {:?} was planned with other values", row.planned.database),
            ),
            None => {
                let taken =
                    row.planned.host_names.iter().find(|host| {
                        hosts.get(&host.to_lowercase()).is_some_and(|id| *id != row.id)
                    });
                match taken {
                    Some(host) => fault(
                        Code::InventoryDuplicate,
                        format!("the host name {host} was planned for another database"),
                    ),
                    None => new.push(row),
                }
            }
        }
    }
    (new, faults)
}

/// Holds rows against what is on the servers: `there` are the databases that were found, as
/// server and name.
pub fn against_servers(rows: &[Row], there: &BTreeSet<(String, String)>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for row in rows {
        let MigrationPlanned { database, source, destination, .. } = &row.planned;
        let mut fault = |code, message: String| {
            faults.push(Fault { line: row.line, failure: Failure::new(code, message) });
        };
        if !there.contains(&(source.clone(), database.clone())) {
            let message = format!("database {database:?} is not on {source}");
            fault(Code::InventoryDatabaseMissing, message);
        }
        if there.contains(&(destination.clone(), database.clone())) {
            let message = format!("{destination} has a database {database:?}");
            fault(Code::InventoryNameTaken, message);
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "database,source,destination,host_names,wave,owner,plan\n";

    fn config() -> Config {
        let server = |name: &str, source: u32, destination: u32| {
            format!(
                "[servers.{name}]\nslots_as_source = {source}\n\
                 slots_as_destination = {destination}\nmysql.host = \"x\"\nseal.to = \"age1\"\n"
            )
        };
        let text = format!(
            "[store]\n[links]\npublic_url = \"https://d.example\"\nkey_file = \"k\"\n\
             [[dns.zones]]\nname = \"z.example\"\nprimary = \"192.0.2.1:53\"\nkey_name = \"k\"\n\
             key_file = \"k\"\n{}{}",
            server("src", 1, 0),
            server("dst", 0, 1)
        );
        Config::parse(&text, []).unwrap()
    }

    fn campaign() -> CampaignName {
        "night".parse().unwrap()
    }

    fn codes(text: &[u8]) -> Vec<(u64, Code)> {
        let (_, faults) = read(text, &campaign(), &config());
        faults.iter().map(|fault| (fault.line, fault.failure.code)).collect()
    }

    #[test]
    fn further_columns_become_labels() {
        let text = format!("{HEADER}shop,src,dst,a.z.example b.z.example,w1,o@x.example,pro\n");
        let (rows, faults) = read(text.as_bytes(), &campaign(), &config());
        assert_eq!(faults, []);
        assert_eq!(rows[0].planned.labels["plan"], "pro");
        assert_eq!(rows[0].planned.host_names, ["a.z.example", "b.z.example"]);
    }

    #[test]
    fn what_is_heeded_in_further_columns_is_a_number_or_nothing() {
        let head = "database,source,destination,host_names,wave,owner,priority,bytes\n";
        let rows = "a,src,dst,,,,-3,9\nb,src,dst,,,, ,\nc,src,dst,,,,high,\nd,src,dst,,,,1e3,1.5\n";
        let (rows, faults) = read(format!("{head}{rows}").as_bytes(), &campaign(), &config());
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [4, 5, 5]);
        assert!(faults.iter().all(|fault| fault.failure.code == Code::InventoryRow));
        assert!(faults[0].failure.message.starts_with("priority \"high\" is not a whole number"));
    }

    #[test]
    fn the_roles_of_servers_are_held() {
        let rows = "a,dst,src,,,,\nb,src,src,,,,\nc,src,gone,,,,\n";
        let unknown = Code::InventoryServerUnknown;
        let text = format!("{HEADER}{rows}");
        assert_eq!(codes(text.as_bytes()), [(2, unknown), (3, unknown), (4, unknown)]);
    }

    #[test]
    fn a_row_with_several_faults_has_them_all() {
        let text = format!("{HEADER}mysql,src,gone,-.z.example,,nobody,\n");
        let found: Vec<Code> = codes(text.as_bytes()).into_iter().map(|(_, code)| code).collect();
        for code in [Code::InventoryName, Code::InventoryServerUnknown, Code::InventoryHostName] {
            assert!(found.contains(&code), "{code}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_that_a_server_takes_is_taken(name in "[^\\x00\\u{10000}-\\u{10ffff}]{1,64}") {
            prop_assume!(!is_no_customers(&name));
            let mut writer = csv::Writer::from_writer(HEADER.as_bytes().to_vec());
            writer.write_record([name.as_str(), "src", "dst", "", "", "", ""])?;
            let text = writer.into_inner().map_err(|e| TestCaseError::fail(e.to_string()))?;
            let (rows, faults) = read(&text, &campaign(), &config());
            prop_assert_eq!(faults, vec![]);
            prop_assert_eq!(&rows[0].planned.database, &name);
        }

        #[test]
        fn what_is_no_inventory_is_refused_and_nothing_more(bytes: Vec<u8>) {
            let mut text = HEADER.as_bytes().to_vec();
            text.extend(bytes);
            for input in [&text[HEADER.len()..], &text] {
                let (rows, faults) = read(input, &campaign(), &config());
                prop_assert!(rows.len() + faults.len() > 0);
            }
        }
    }
}
