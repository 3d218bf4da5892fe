//! What a pre-flight found, gathered by code: bounded, however many migrations there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use drover_mysql::preflight::Finding;
use drover_projector::render::printable;
use drover_schemas::{
    Code, Failure, MigrationId,
    v1::{PreflightCompleted, PreflightFinding},
};
use serde::Serialize;

/// How many examples of a code are kept: enough to see what is meant.
const EXAMPLES_MAX: usize = 5;
/// How long an example in the log is, in characters; on the terminal it is whole.
const EXAMPLE_CHARS_MAX: usize = 300;

/// A kind of finding: what blocks and what only warns are told apart.
type Kind = (Code, bool);

/// The findings so far.
#[derive(Debug, Default)]
pub struct Report {
    looked_at: u64,
    of: HashMap<MigrationId, BTreeSet<Kind>>,
    examples: BTreeMap<Kind, Vec<String>>,
}

/// The report as a document.
#[derive(Debug, Serialize)]
pub struct Document {
    campaign: String,
    migrations: u64,
    blocked: u64,
    findings: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    code: String,
    title: &'static str,
    blocking: bool,
    migrations: u64,
    examples: Vec<String>,
    remedy: &'static str,
    page: String,
}

impl Report {
    /// About so many migrations.
    pub fn new(looked_at: usize) -> Self {
        Self { looked_at: looked_at as u64, ..Self::default() }
    }

    /// Takes in a finding about some migrations; about none it says nothing.
    pub fn add(&mut self, finding: &Finding, migrations: impl IntoIterator<Item = MigrationId>) {
        let kind = (finding.code, finding.blocking);
        let mut any = false;
        for id in migrations {
            any = true;
            self.of.entry(id).or_default().insert(kind);
        }
        let examples = self.examples.entry(kind).or_default();
        if any && examples.len() < EXAMPLES_MAX && !examples.contains(&finding.what) {
            examples.push(finding.what.clone());
        }
    }

    /// The same for what stopped the reading, which blocks.
    pub fn add_failure(
        &mut self,
        failure: Failure,
        migrations: impl IntoIterator<Item = MigrationId>,
    ) {
        let Failure { code, message: what } = failure;
        self.add(&Finding { code, blocking: true, database: None, what }, migrations);
    }

    /// The codes that block a migration, each once.
    pub fn blocking_codes(&self, id: MigrationId) -> Vec<String> {
        let kinds = self.of.get(&id).into_iter().flatten();
        kinds.filter(|(_, blocking)| *blocking).map(|(code, _)| code.to_string()).collect()
    }

    /// How many migrations are blocked.
    pub fn blocked(&self) -> u64 {
        let blocks = |kinds: &&BTreeSet<Kind>| kinds.iter().any(|(_, blocking)| *blocking);
        self.of.values().filter(blocks).count() as u64
    }

    fn counts(&self) -> BTreeMap<Kind, u64> {
        let mut counts = BTreeMap::new();
        for kind in self.of.values().flatten() {
            *counts.entry(*kind).or_default() += 1;
        }
        counts
    }

    /// As it is kept with the campaign.
    pub fn event(&self, by: String) -> PreflightCompleted {
        let finding = |((code, blocking), migrations): (Kind, u64)| PreflightFinding {
            code: code.to_string(),
            blocking,
            migrations,
            examples: self.examples_of((code, blocking), EXAMPLE_CHARS_MAX),
        };
        PreflightCompleted {
            migrations: self.looked_at,
            blocked: self.blocked(),
            findings: self.counts().into_iter().map(finding).collect(),
            by,
        }
    }

    fn examples_of(&self, kind: Kind, chars_max: usize) -> Vec<String> {
        let examples = self.examples.get(&kind).into_iter().flatten();
        examples.map(|text| text.chars().take(chars_max).collect()).collect()
    }

    /// As one document: what blocks first, then what warns, each with the most frequent first.
    pub fn document(&self, campaign: &str) -> Document {
        let group = |((code, blocking), migrations): (Kind, u64)| Group {
            code: code.to_string(),
            title: code.title(),
            blocking,
            migrations,
            examples: self.examples_of((code, blocking), usize::MAX),
            remedy: code.remedy(),
            page: format!("ops/errors/{code}.md"),
        };
        let mut findings: Vec<Group> = self.counts().into_iter().map(group).collect();
        findings.sort_by_key(|group| (!group.blocking, std::cmp::Reverse(group.migrations)));
        Document {
            campaign: campaign.to_owned(),
            migrations: self.looked_at,
            blocked: self.blocked(),
            findings,
        }
    }
}

impl Document {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for group in &self.findings {
            let Group { code, title, blocking, migrations, examples, remedy, page } = group;
            let word = if *blocking { "blocks" } else { "warns of" };
            text.push_str(&format!("{code} {word} {migrations}: {title}\n"));
            for example in examples {
                text.push_str(&format!("    {}\n", printable(example)));
            }
            text.push_str(&format!("  what to do: {remedy}\n  more: {page}\n\n"));
        }
        let Self { campaign, migrations, blocked, .. } = self;
        text.push_str(&format!(
            "{campaign}: {migrations} migrations looked at, {blocked} blocked\n"
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_by_migration_and_examples_are_few() {
        let campaign = "night".parse().unwrap();
        let source = "src-1".parse().unwrap();
        let id = |n: u32| MigrationId::new(&campaign, &source, &n.to_string());
        let mut report = Report::new(100);
        for n in 0..100 {
            let finding = |blocking, what: String| Finding {
                code: Code::EngineMissing,
                blocking,
                database: None,
                what,
            };
            report.add(&finding(true, format!("{n} {}", "x".repeat(1_000))), [id(n)]);
            report.add(&finding(true, format!("{n} again")), [id(n)]);
        }
        let event = report.event("me".into());
        assert_eq!((event.migrations, event.blocked, event.findings.len()), (100, 100, 1));
        assert_eq!((event.findings[0].migrations, event.findings[0].examples.len()), (100, 5));
        assert!(event.findings[0].examples.iter().all(|text| text.len() <= EXAMPLE_CHARS_MAX));
        assert_eq!(report.blocking_codes(id(7)), ["DRV-0240"]);
        report.add(
            &Finding {
                code: Code::PluginMissing,
                blocking: true,
                database: None,
                what: "x".into(),
            },
            [],
        );
        assert_eq!(report.event("me".into()).findings.len(), 1, "about nobody");
    }
}
