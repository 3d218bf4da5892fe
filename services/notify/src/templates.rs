//! The texts, from templates: built in, or the operator's own.

use std::{fs, path::Path};

use minijinja::{Environment, UndefinedBehavior, value::Serde};

use crate::{
    Error,
    message::{Message, visible},
};

const SUBJECT: &str = "mail.subject.txt";
const BODY: &str = "mail.body.txt";
const WEBHOOK: &str = "webhook.json";

const BUILT_IN: [(&str, &str); 3] = [
    (SUBJECT, include_str!("../templates/mail.subject.txt")),
    (BODY, include_str!("../templates/mail.body.txt")),
    (WEBHOOK, include_str!("../templates/webhook.json")),
];

/// The largest template, in bytes, and the largest text made of one.
const BYTES_MAX: usize = 256 << 10;
/// The longest subject, in characters: what mail programs show of one, and more.
const SUBJECT_CHARS_MAX: usize = 200;

/// The templates, each tried once with an example.
pub(crate) struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    pub(crate) fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // A name that is mistyped is an error, not an empty place in a customer's mail.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, built_in) in BUILT_IN {
            let own = folder.map(|folder| read(folder, name)).transpose()?.flatten();
            let source = own.unwrap_or_else(|| built_in.to_owned());
            let added = environment.add_template_owned(name, source);
            added.map_err(|error| invalid(name, &error))?;
        }
        let templates = Self { environment };
        let example = Message::example();
        templates.subject(&example)?;
        templates.body(&example)?;
        templates.webhook(&example)?;
        Ok(templates)
    }

    /// The subject: one line, whatever the names in it hold.
    pub(crate) fn subject(&self, message: &Message) -> Result<String, Error> {
        let text = self.render(SUBJECT, &message.visible())?;
        let subject = visible(text.trim()).chars().take(SUBJECT_CHARS_MAX).collect::<String>();
        if subject.is_empty() {
            return Err(problem(SUBJECT, "gives an empty subject"));
        }
        Ok(subject)
    }

    pub(crate) fn body(&self, message: &Message) -> Result<String, Error> {
        self.render(BODY, &message.visible())
    }

    /// The webhook's body, JSON.
    pub(crate) fn webhook(&self, message: &Message) -> Result<String, Error> {
        let text = self.render(WEBHOOK, message)?;
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(value) => Ok(value.to_string()),
            // The parser's words quote none of the text.
            Err(error) => Err(problem(WEBHOOK, &format!("gives no JSON: {error}"))),
        }
    }

    fn render(&self, name: &'static str, message: &Message) -> Result<String, Error> {
        let template = self.environment.get_template(name).map_err(|e| invalid(name, &e))?;
        let text = template.render(Serde(message)).map_err(|error| invalid(name, &error))?;
        if text.len() > BYTES_MAX {
            return Err(problem(name, "gives more than 256 KiB"));
        }
        Ok(text)
    }
}

fn read(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    let path = folder.join(name);
    let unusable = |why: &dyn std::fmt::Display| {
        Error::Configuration(format!("templates: {}: {why}", path.display()))
    };
    if !folder.is_dir() {
        return Err(unusable(&"there is no such folder"));
    }
    match fs::read_to_string(&path) {
        Ok(text) if text.len() > BYTES_MAX => Err(unusable(&"over 256 KiB")),
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&error)),
    }
}

/// The engine's own words on what is wrong, with the line; never the values it was given.
fn invalid(name: &'static str, error: &minijinja::Error) -> Error {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    problem(name, &format!("{line}{}{detail}", error.kind()))
}

fn problem(name: &'static str, problem: &str) -> Error {
    Error::Template { name, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(database: &str) -> Message {
        Message { database: database.to_owned(), ..Message::example() }
    }

    fn with(name: &str, source: &str) -> Result<Templates, Error> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), source).unwrap();
        Templates::load(Some(folder.path()))
    }

    #[test]
    fn the_built_in_texts_say_what_matters() {
        let templates = Templates::load(None).unwrap();
        let message = Message::example();
        assert_eq!(
            templates.subject(&message).unwrap(),
            "Your database Müllers \"shop\" has moved"
        );
        let body = templates.body(&message).unwrap();
        for part in [&message.link, "until 2030-01-31,", "\n  shop.example.org\n"] {
            assert!(body.contains(part), "{part}\n{body}");
        }
        let nameless = Message { host_names: Vec::new(), ..message.clone() };
        assert!(templates.body(&nameless).unwrap().contains("rights are the same.\n"));
        let webhook: serde_json::Value =
            serde_json::from_str(&templates.webhook(&message).unwrap()).unwrap();
        assert_eq!(webhook["data"]["database"], message.database);
        assert_eq!(webhook["data"]["dump_link"], message.link);
        assert_eq!(webhook["data"]["host_names"][0], "shop.example.org");
    }

    #[test]
    fn a_name_cannot_forge_lines() {
        let templates = Templates::load(None).unwrap();
        let message = named("a\r\nBcc: x@y.z\n\nClick\u{202e} here");
        let subject = templates.subject(&message).unwrap();
        assert!(!subject.contains(['\r', '\n', '\u{202e}']), "{subject:?}");
        let body = templates.body(&message).unwrap();
        assert!(body.lines().all(|line| !line.starts_with("Bcc") && !line.starts_with("Click")));
    }

    #[test]
    fn own_templates_take_the_built_in_ones_place() {
        let templates =
            with(SUBJECT, "{{ labels.customer | default('you') }}: {{ wave }}").unwrap();
        assert_eq!(templates.subject(&Message::example()).unwrap(), "you: cluster-7");
        assert!(templates.body(&Message::example()).is_ok());
    }

    #[test]
    fn a_wrong_template_is_found_when_it_is_loaded() {
        for (name, source, word) in [
            (SUBJECT, "{{ databse }}", "undefined"),
            (SUBJECT, "\n", "empty"),
            (BODY, "a\n{% if %}", "line 2"),
            (WEBHOOK, "{{ key }} {{ key }}", "JSON"),
            (BODY, "{% for i in range(9000) %}{{ '%0100d' | format(i) }}{% endfor %}", "template"),
        ] {
            let error = with(name, source).err().map(|error| error.to_string()).unwrap();
            assert!(error.contains(name) && error.contains(word), "{error}");
        }
        assert!(matches!(Templates::load(Some(Path::new("/no"))), Err(Error::Configuration(_))));
    }

    proptest! {
        #[test]
        fn any_name_gives_a_subject_of_one_line_and_json(database: String) {
            let templates = Templates::load(None).unwrap();
            let message = named(&database);
            let subject = templates.subject(&message).unwrap();
            prop_assert!(!subject.chars().any(char::is_control));
            let webhook = templates.webhook(&message).unwrap();
            let webhook: serde_json::Value = serde_json::from_str(&webhook).unwrap();
            prop_assert_eq!(&webhook["data"]["database"], &database);
        }
    }
}
