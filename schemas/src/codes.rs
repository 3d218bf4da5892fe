//! The codes under which Drover reports what went wrong: `DRV-0000`, stable for ever.
//!
//! A code says three things: what kind of thing happened, whether it may go away by itself
//! (transient), and what to do about it now. Each has a page under `ops/errors/`, which a test
//! holds against this list. A code is never given a second meaning; a new meaning is a new code.
//!
//! | numbers | what they are about |
//! | --- | --- |
//! | 0001-0099 | the command line, the configuration, the inventory |
//! | 0100-0199 | the bus and the event log |
//! | 0200-0299 | MySQL and MariaDB servers in general; freeze, thaw, retire; pre-flight (0240-0299) |
//! | 0300-0399 | dump and object store |
//! | 0400-0499 | import, verify, open, close, drop |
//! | 0500-0599 | DNS |
//! | 0600-0699 | notification and publishing |
//! | 0700-0799 | the orchestrator and the lifecycle |
//! | 0800-0899 | the sandbox |

use std::{fmt, str::FromStr};

macro_rules! codes {
    ($($number:literal $class:ident $name:ident $title:literal $remedy:literal;)*) => {
        /// The code of a failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }

        impl Code {
            /// All codes, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What happened, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to do now.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }

            /// Whether it may go away by itself, so that the step is worth trying again.
            pub fn is_transient(self) -> bool {
                match self { $(Self::$name => codes!(@ $class),)* }
            }
        }
    };
    (@ transient) => { true };
    (@ permanent) => { false };
}

codes! {
    // ---- command line, configuration, inventory
    1 permanent ConfigUnreadable "the configuration cannot be read" "Check the path and that it is a TOML file.";
    2 permanent ConfigInvalid "the configuration is wrong" "Correct the key that is named.";
    3 permanent SecretUnreadable "a secret's file cannot be used" "Create the file with the secret in it, mode 0600, owned by Drover's user.";
    4 permanent ServiceUnknown "there is no such service" "Use one of: orchestrator dump import dns notify projector console, or all.";
    10 permanent InventoryUnreadable "the inventory cannot be read" "Give a CSV file in UTF-8 with a header line.";
    11 permanent InventoryHeader "the inventory's header is wrong" "The header names at least: database, source, destination, host_names, wave, owner.";
    12 permanent InventoryRow "an inventory row cannot be read" "Correct the row: as many fields as the header, in UTF-8; whole numbers in priority and bytes.";
    13 permanent InventoryServerUnknown "an inventory row names an unknown server" "Add the server to the configuration, or correct the row.";
    14 permanent InventoryDuplicate "an inventory row stands twice" "Keep one row for each database of a source, and one for each host name.";
    15 permanent InventoryHostName "a host name is malformed or outside the configured zones" "Correct the name, or add its zone to [[dns.zones]]; all names of one database lie in one zone.";
    16 permanent InventoryDatabaseMissing "the database does not exist at the source" "Correct the row, or remove it.";
    17 permanent InventoryNameTaken "the database's name is taken at the destination" "Choose another destination, or remove what is there.";
    18 permanent InventoryConflict "the database was planned before, otherwise" "Plan the changed rows in a new campaign.";
    19 permanent InventoryName "a database's or owner's name is not usable" "A name has 1 to 64 characters without NUL; system schemas do not move; an owner is an e-mail address or empty.";
    20 permanent CampaignUnknown "there is no such campaign" "See the name's spelling, or plan it first.";
    21 permanent MigrationUnknown "there is no such migration" "See the ids with: drover status CAMPAIGN --json.";
    22 permanent NothingToDo "nothing matches" "See what there is with: drover failures CAMPAIGN.";
    23 permanent InitFailed "the bus's configuration cannot be written" "Give a folder that this user may write to; files that are there are never changed.";
    24 permanent InitRefused "the bus's configuration cannot be made of what is given" "Correct what the message names.";
    25 transient PeerUntrusted "a peer's certificate is not accepted, or it has none" "Give its authority (ca_file, tls_ca_file) and the name in its certificate; see the page.";
    26 permanent HostUnknown "there is no such server in the configuration" "Use a name that stands under [servers].";

    // ---- bus
    100 transient BusUnreachable "NATS cannot be reached" "Check [nats] url and that nats-server runs.";
    101 permanent BusTooOld "nats-server is older than 2.12" "Install nats-server 2.12 or newer: older ones ignore options that Drover depends on.";
    102 permanent BusNoJetStream "nats-server runs without JetStream" "Start nats-server with JetStream enabled (-js, or jetstream {} in its configuration).";
    103 permanent BusConfiguration "a stream or consumer is not as it must be" "Something else made or changed it; see the page.";
    104 transient BusFailed "NATS did not do what was asked" "Look at nats-server's log; Drover tries again.";
    105 transient BusConflict "the history has moved on" "Nothing: it is read again and decided again.";
    106 permanent EventUndecodable "a message cannot be decoded" "Upgrade this service: the message is of a newer version, or not Drover's.";
    107 permanent BusDenied "NATS refused the credentials or a subject" "Check the [nats] credentials and the account's permissions.";
    108 permanent HistoryShortened "the event log has lost its end" "The bus was restored from older data: run drover reconcile CAMPAIGN --repair, then start the service again.";
    109 permanent BusNotPrepared "a stream or consumer is missing, and this user may not make it" "As the administrator of the bus: drover init --streams.";

    // ---- MySQL in general, freeze, thaw, retire
    200 transient ServerUnreachable "a MySQL server cannot be reached" "Check that it runs, and its host and port in the configuration.";
    201 permanent ServerDenied "a MySQL server refused Drover's account" "Check the account's user name and password file in the configuration.";
    202 permanent ServerRightMissing "Drover's account lacks a right" "Grant what the message names.";
    203 transient ServerFailed "a MySQL server failed a statement" "See the error number in the message; Drover tries again.";
    204 permanent ServerRefused "a MySQL server refused a statement" "See the error number in the message.";
    205 permanent LedgerOutdated "the server's ledger is ahead of this order" "Nothing where another instance was faster; otherwise the log has lost events.";
    206 transient LedgerBusy "another instance is working on this migration" "Nothing: it is tried again.";
    207 permanent ServerUnsupported "the server is too old or of another kind" "Drover moves databases of MariaDB 10.5 or newer and MySQL 8.0.22 or newer; the message says what it lacks.";
    210 permanent DatabaseMissing "the database is not at the source" "See whether it was dropped or renamed since it was planned.";
    211 permanent ForeignWriter "something outside the database may write to it with another's rights" "See the page: remove the object or right that the message names, or list the account under trusted_accounts.";
    212 permanent PreparedTransactions "the source holds prepared XA transactions" "Commit or roll them back (XA RECOVER lists them).";
    213 transient SessionsRemain "sessions older than the freeze do not end" "Look for a long rollback in SHOW PROCESSLIST; Drover tries again.";
    214 permanent SourceIsReplica "the source takes in writes by replication" "Name the primary as the source, or stop replication into this database.";
    215 permanent NotFrozen "the source is not frozen by this migration" "Run: drover reconcile.";
    216 permanent DatabaseHeld "another migration holds this database" "Finish or roll back the other migration first; the message names it.";
    217 permanent WatchdogFired "the source has thawed itself" "Nothing: the migration is undone and tried again later; see the page if it comes again.";
    218 permanent FrozenTooLong "the source has been frozen for longer than was promised" "Nothing: the migration is undone and tried again later; see the page if it comes again.";
    219 permanent NotDisarmed "the source may still thaw itself" "Run: drover reconcile.";
    220 permanent DestinationUnknown "the source cannot be thawed while the destination may be open" "The log has lost events: run drover reconcile CAMPAIGN --repair.";
    230 permanent BodyAmbiguous "a routine, trigger or scheduled event holds code for certain versions" "Have it written without such code, as the page says; then: drover retry.";
    231 permanent TableElsewhere "a table hands out the rows of another database" "Drop the MERGE table that the message names, or make it a view; then: drover retry.";

    // ---- pre-flight
    240 permanent EngineMissing "the destination lacks a storage engine" "Install the engine at the destination, or convert the table at the source (ALTER TABLE … ENGINE=InnoDB).";
    241 permanent CollationMissing "the destination lacks a collation" "Convert the table or column at the source to a collation that both servers have.";
    242 permanent TypeMissing "the destination lacks a column type" "Choose a destination of a version that has the type, or convert the column at the source.";
    243 permanent PluginMissing "the destination lacks an account's authentication plugin" "Install the plugin at the destination, or give the account a password of another kind.";
    244 permanent DefinerMissing "a definer does not exist at the destination" "Nothing where the object is not used; otherwise create the account at the destination, or redefine the object at the source.";
    245 permanent ReferenceElsewhere "the database refers to another database" "Move both to the same destination, the other one first, or remove the reference.";
    247 permanent TableUnreadable "a table cannot be read at the source" "Repair the table, or bring its engine back.";
    248 permanent SettingsDiffer "servers are set differently" "Set the destination as the source is, or tell the customers.";
    249 permanent ZeroDates "the destination's sql_mode refuses zero dates" "Take NO_ZERO_DATE and NO_ZERO_IN_DATE out of the destination's sql_mode.";
    250 permanent RowTooLarge "a table's row is too large for the destination" "Choose a destination of the same page size; or give the table fewer or longer columns.";
    251 permanent PacketTooSmall "a value is larger than the destination's max_allowed_packet" "Raise max_allowed_packet at the destination (at most 1 GB).";
    252 permanent NamesFolded "names that differ in case only are one at the destination" "Choose a destination with the same lower_case_table_names.";
    253 permanent RoomUnknown "the destination's disk room cannot be seen" "See to the room yourself, or install the plugin `disks` and grant FILE.";
    254 permanent DestinationFull "the destination has no room for what moves to it" "Make room, or choose another destination for some of the databases.";
    255 permanent StoreFull "the store may have no room for the dumps" "Make room in the store's folder.";
    256 permanent ClocksDiffer "clocks differ" "Set the clock (NTP) of the server that is named.";
    257 permanent SchedulerOff "the event scheduler does not run at the source" "SET GLOBAL event_scheduler = ON at the source.";
    258 permanent VersionOlder "the destination's version is older than the source's" "Choose a destination of the same version or a newer one.";
    259 permanent KindDiffers "source and destination are of different kinds" "Move within MariaDB, or within MySQL.";
    260 permanent NoHostName "a database has no host name" "See whether its customer uses an address; move that by other means.";
    261 permanent PreflightBlocks "the pre-flight found what blocks migrations" "Mend what is listed and run drover doctor again; or go on with: drover start CAMPAIGN --ignore-findings.";
    262 permanent KindOfObjectMissing "the destination lacks a kind of object" "Remove the object at the source, or choose a destination that has it.";

    // ---- dump, store
    300 transient DumpFailed "the dump stopped" "See the message; Drover tries again.";
    301 permanent DumpRefused "this database cannot be dumped" "See the page for what the message names.";
    303 permanent ViewBroken "a view reads what is no longer there" "Repair or drop the view that the message names, then: drover retry.";
    310 transient StoreFailed "the object store failed" "Check that it can be reached and has room.";
    311 permanent StoreCorrupt "an object is not what was written" "The stored object differs from its checksum; the migration starts again with: drover retry.";
    312 permanent StoreMissing "an object is missing from the store" "See whether something else deletes from the store.";
    313 permanent StoreConfiguration "the object store's configuration is wrong" "Correct [store].";
    314 permanent StoreTooLarge "an object is larger than the store takes" "Move this database by hand; see the page for the limit.";

    // ---- import, verify, open
    400 permanent NameTaken "the destination has a database of this name" "Remove or rename it if it is not needed, then: drover retry.";
    401 permanent AccountTaken "the destination has an account of this name with another password" "Rename one of the two accounts, then: drover retry.";
    402 permanent ImportRefused "the destination refused the dump" "See the error number in the message.";
    403 transient ImportFailed "the import stopped" "Look at the destination's error log; Drover tries again.";
    404 permanent CopyDiffers "the copy is not equal to the source" "See the tables named in the message.";
    405 permanent AccountUnsupported "the destination cannot hold an account as it is" "See the page: the account's plugin or options are not known there.";
    406 permanent SealUnreadable "the accounts' seal cannot be opened" "Check seal_to and seal_identity_file of the destination.";
    407 permanent ReachableEarly "an account at the destination reaches the database before it opens" "Revoke the grant that the message names.";
    408 permanent DestinationWritten "the destination has taken writes since it opened" "See what would be lost: drover rollback names it. To lose it all the same: drover rollback --discard-writes; to lose nothing: --bring-back.";
    409 permanent NotBroughtBack "this migration cannot be brought back" "See the message: a migration is brought back once it is completed; before that, drover rollback takes it back.";
    410 permanent BroughtBack "this migration is brought back by another one" "Follow, retry or roll back the migration that the message names, in its own campaign.";
    411 permanent WayBackClosed "a server is not set up for the way back" "Set in its part of the configuration what the message names, run drover init, and start its services again.";
    412 permanent NotRetired "the old source does not hold the database as the migration has retired it" "See the page: the message says what the server's ledger shows.";
    413 permanent DumpDamaged "the stored dump is not what its manifest says" "See whether something else writes to the store; the migration starts again with: drover retry.";
    420 permanent DefinerTaken "a definer at the destination is somebody else" "Change the definer at the source, or rename the account at the destination; then: drover retry.";
    435 permanent SyntaxUnknown "the destination does not understand a statement of the dump" "Choose a destination of the source's version or a newer one.";
    436 permanent TableFull "a table is full at the destination" "Make room at the destination, or raise the limit that the page names; then: drover retry.";
    437 permanent KeyTwice "two rows have the same key at the destination" "See the page: the collation's order differs between the two versions.";
    438 permanent ValueRefused "the destination does not take a value" "See the error number in the message.";
    439 permanent ReferenceMissing "a definition refers to what is not at the destination" "Move, or create, what it refers to; then: drover retry.";
    440 permanent ViewRefused "the destination cannot make a view" "See the error number in the message; repair or drop the view at the source, then: drover retry.";
    441 permanent DefinerRefused "the campaign's policy names a definer that must not be one" "Name another account in campaign.definers, and plan a campaign of what is left.";
    442 permanent GrantsDiffer "the accounts may not do at the destination what they might at the source" "Grant or revoke at the destination what the message names, or find who changed it; then: drover retry.";

    // ---- DNS
    500 transient DnsUnreachable "a DNS server cannot be reached" "Check that it runs, and its address in [[dns.zones]].";
    501 permanent DnsRefused "the DNS server refused the update" "Check the TSIG key and the zone's update policy.";
    502 permanent DnsChanged "the record was changed by someone else" "Put the record right, then: drover retry.";
    503 permanent DnsMissing "the host name has no record" "Create the record, or remove the name from the inventory.";
    504 transient DnsNotSeen "an authoritative server does not give the new answer yet" "Look at the zone's transfer; Drover tries again.";
    505 transient DnsFailed "the DNS server failed" "Look at its log; Drover tries again.";
    506 permanent DnsOutdated "the zone's mark is ahead of this order" "Nothing where another instance was faster; otherwise the log has lost events.";
    507 permanent DnsConfiguration "the DNS configuration is wrong" "Correct [[dns.zones]] or the server's address.";

    // ---- notify, publish
    600 transient MailFailed "the mail server did not take the message" "Look at the mail server; Drover tries again.";
    601 permanent MailRefused "the mail server refused the message for good" "Check the owner's address.";
    602 transient WebhookFailed "the webhook did not take the message" "Look at the receiver; Drover tries again.";
    603 permanent WebhookRefused "the webhook refused the message for good" "Look at the receiver: it answered that the message is wrong.";
    604 permanent TemplateInvalid "a message's template is wrong" "Correct the template that is named.";
    605 permanent NotifyConfiguration "the notification's configuration is wrong" "Correct [notify].";

    // ---- orchestrator, lifecycle
    700 permanent TransitionNotAllowed "the migration is not in a state for this" "See its state with: drover audit.";
    701 permanent JobAbandoned "the job was given out many times and never ended" "See the services' logs for what ends them, then: drover retry.";
    702 transient NoAnswer "no running service answers" "Start the service with: drover serve.";
    703 permanent JobIncomplete "the job lacks what its step needs" "The log is damaged or of another version; run: drover audit.";
    704 permanent PromiseBroken "the time without writes would become too long" "Nothing: the migration is undone and tried again later; see the page if it comes again.";
    710 permanent LogBehind "the log lacks what was done" "Run: drover reconcile CAMPAIGN --repair.";
    711 permanent LogForgot "the log does not know a migration that was begun" "Run: drover reconcile CAMPAIGN --repair.";
    712 permanent SequenceBehind "revisions above the log's end were given out" "Run: drover reconcile CAMPAIGN --repair.";
    713 permanent OrphanFrozen "a source is out of its customer's reach without a live migration" "See the migration with: drover audit; then retry it, or roll it back.";
    714 permanent OrphanCopy "a copy at a destination belongs to no live migration" "See the page: the message names the server.";
    715 permanent OrphanJob "an order on the queue belongs to no migration" "See the page; a service drops it when it comes to it.";
    716 permanent OrphanObject "objects in the store belong to no migration" "See the page: the message names the folder.";
    717 permanent EffectMissing "a server does not show what the log tells" "The server was put back to older data: see the page.";
    718 permanent UndoneUnseen "it was undone, and the log has lost why" "See what the log lost with: drover reconcile; then: drover retry.";
    719 permanent HistoryUnknown "what cannot be known from servers, zone, store and queue" "See the page for what to do about each.";
    720 transient ProjectionFailed "the projections' file failed" "Check the disk under [projector] database; the file can be deleted, it is rebuilt from the log.";
    721 permanent ProjectionForeign "the projections' file belongs to another program" "Name another file in [projector] database.";
    750 permanent AsideDiffers "what was set aside is not as it was" "See the page: nothing is lost, and the message names what differs.";
    760 permanent Recalled "the migration was called back by a pause" "Nothing: it is admitted again after: drover resume.";
    761 permanent LimitsInvalid "the limits contradict each other" "Give a floor of at least 1 and a ceiling that is not below it.";
    762 permanent WindowInvalid "these are not hours, or not a date" "Write hours as 22:00-06:00 Europe/Paris, and a date as 2026-12-24.";
    763 permanent RehearsalOnly "a rehearsal does nothing of the kind" "Nothing was done: see the page.";
    764 permanent RehearsalUnfinished "a rehearsal has not come to its end" "Wait for it, or end it: see the page.";
    765 permanent RehearsalTooLate "it is too late for a rehearsal" "Rehearse before the start, or while the campaign is paused.";
    766 permanent RehearsalName "the name belongs to a campaign of rehearsals" "Give a name of at most 53 characters that does not end with -rehearsal.";

    // ---- sandbox
    800 permanent SandboxProgramMissing "a program that the sandbox needs is not installed" "Run ops/setup, or install the package that is named.";
    801 permanent SandboxFailed "the sandbox did not come up" "See the log that is named.";
    802 permanent CampaignIncomplete "not every migration completed" "See: drover failures.";
    803 permanent CheckFailed "a check after the campaign failed" "See the databases that are named.";
}

impl Code {
    /// The number in the code.
    pub fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DRV-{:04}", self.number())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.to_string() == text)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// Not a code of this version.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a code of this version")]
pub struct UnknownCode(String);

/// What every crate's errors become before they leave it: a code, and what happened to which
/// thing. The message never holds a secret or a row of a customer's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {title}: {message}", title = code.title())]
pub struct Failure {
    /// The kind of failure.
    pub code: Code,
    /// What happened, to which thing.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// How much of what is said about a certificate is repeated, in characters: it lists all names.
const UNTRUSTED_CHARS_MAX: usize = 200;

/// What is to be said of an error's text where a TLS handshake ended because of the certificate, or
/// because the peer speaks no TLS; none of any other error. A handshake that is cut off, as by a
/// server that ends, says neither.
pub fn untrusted(text: &str) -> Option<String> {
    let is = ["certificate", "InvalidContentType", "STARTTLS is not supported"]
        .iter()
        .any(|sign| text.contains(sign));
    is.then(|| text.chars().take(UNTRUSTED_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn numbers_are_unique_and_in_order() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
    }

    #[test]
    fn codes_are_read_as_they_are_written() {
        for code in Code::ALL {
            assert_eq!(code.to_string().parse::<Code>().unwrap(), *code);
        }
    }

    #[test]
    fn each_code_has_a_page_and_each_page_a_code() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/errors");
        let pages: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("DRV-"))
            .collect();
        let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
        assert_eq!(pages, codes);
    }
}
