//! The servers' own programs, `mariadb-dump` and `mariadb`: found on PATH, run without a shell,
//! with the password in neither arguments nor environment nor a named file.
//!
//! The program reads its options from an unlinked file that it inherits as one of its standard
//! streams; nothing is left behind whoever dies when. Only the fixed arguments, and the database's
//! name, are on the command line.

use std::{
    ffi::OsString,
    fs::File,
    io::{Seek as _, Write as _},
    path::PathBuf,
    process::Stdio,
};

use drover_schemas::Code;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

use crate::{
    Error, Flavour, Server,
    error::{is_transient, scrub},
};

/// How much of the end of what a program says is kept, in bytes.
const SAID_BYTES_MAX: usize = 4 << 10;

/// The largest packet that the programs may send or take: the protocol's limit.
const PACKET_BYTES_MAX: u32 = 1 << 30;

/// What the lines that tell of an error begin with.
const ERROR_LINES: [&str; 3] = ["ERROR ", "mariadb-dump: ", "mysqldump: "];

/// The numbers below this are the server's; from here on, up to [`CLIENT_NUMBER_MAX`], the
/// client library's: a connection that was lost or not made.
const CLIENT_NUMBER_MIN: u16 = 2000;
const CLIENT_NUMBER_MAX: u16 = 2999;

/// What dumps databases of this kind of server, the better one first.
pub(crate) fn dump_names(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MariaDb => &["mariadb-dump", "mysqldump"],
        Flavour::MySql => &["mysqldump", "mariadb-dump"],
    }
}

/// What loads them.
pub(crate) fn client_names(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MariaDb => &["mariadb", "mysql"],
        Flavour::MySql => &["mysql", "mariadb"],
    }
}

/// Which of its standard streams a program reads its options from.
#[derive(Clone, Copy)]
pub(crate) enum OptionsFrom {
    /// Standard input: the program takes in nothing else.
    Input,
    /// Standard output: the program has nothing to say there.
    Output,
}

/// A program, ready to be given its arguments: with the options file as its first.
pub(crate) fn command(
    server: &Server,
    names: &[&str],
    from: OptionsFrom,
) -> Result<Command, Error> {
    let program = find(names).ok_or_else(|| {
        let what = format!("{} is not on PATH", names.join(" or "));
        server.found(Code::ProgramMissing, what)
    })?;
    let file = options_file(server)?;
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").kill_on_drop(true).stderr(Stdio::piped());
    match from {
        OptionsFrom::Input => {
            command.arg("--defaults-file=/proc/self/fd/0").stdin(file).stdout(Stdio::piped())
        }
        OptionsFrom::Output => {
            command.arg("--defaults-file=/proc/self/fd/1").stdout(file).stdin(Stdio::piped())
        }
    };
    // Its own group: Ctrl-C at a terminal is for Drover, which ends in good order.
    command.process_group(0);
    command
        .arg("--default-character-set=utf8mb4")
        .arg(format!("--max-allowed-packet={PACKET_BYTES_MAX}"));
    Ok(command)
}

fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// The connection's options in a file without a name, of mode 0600.
fn options_file(server: &Server) -> Result<File, Error> {
    let failed = |e: std::io::Error| {
        server.found(Code::DumpFailed, format!("no temporary file for a program's options: {e}"))
    };
    let options = server.options();
    let mut text = String::from("[client]\nprotocol=tcp\n");
    for (key, value) in [
        ("host", options.host.clone()),
        ("port", options.port.to_string()),
        ("user", options.user.clone()),
        ("password", options.password()?.unwrap_or_default()),
    ] {
        text.push_str(&format!("{key}={}\n", option_value(&value)));
    }
    match &options.tls {
        // Each flavour's programs know one of the two words.
        None => text.push_str("loose-skip-ssl\nloose-ssl-mode=DISABLED\n"),
        Some(tls) => {
            text.push_str("loose-ssl\nloose-ssl-verify-server-cert\n");
            text.push_str("loose-ssl-mode=VERIFY_IDENTITY\n");
            if let Some(file) = &tls.ca_file {
                let file = option_value(&file.to_string_lossy());
                text.push_str(&format!("ssl-ca={file}\n"));
            }
        }
    }
    let mut file = tempfile::tempfile().map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file)
}

/// A value as the option files have it: in quotes, in which a backslash escapes.
fn option_value(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// What a program said about its failure: the error's number, when it named one, and its text
/// without what it quotes.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) number: Option<u16>,
    pub(crate) text: String,
}

impl Said {
    /// Whether the same may go well another time. A program that was killed says nothing.
    pub(crate) fn is_transient(&self) -> bool {
        self.number.is_none_or(|number| {
            is_transient(number) || (CLIENT_NUMBER_MIN..=CLIENT_NUMBER_MAX).contains(&number)
        })
    }
}

/// Takes in all of a program's standard error, and keeps the last line that tells of an error.
///
/// Only such lines are of use: the client prints the statement that failed as well, with rows and
/// all, and warns of options that only the other flavour's programs know.
pub(crate) async fn listen(stream: Option<impl AsyncRead + Unpin>) -> Said {
    let Some(mut stream) = stream else { return Said::default() };
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(length) = stream.read(&mut piece).await {
        if length == 0 {
            break;
        }
        kept.extend_from_slice(&piece[..length]);
        kept.drain(..kept.len().saturating_sub(SAID_BYTES_MAX));
    }
    let kept = String::from_utf8_lossy(&kept);
    let tells = |line: &&str| ERROR_LINES.iter().any(|start| line.starts_with(start));
    let line = kept.lines().rev().find(tells).unwrap_or_default();
    Said { number: number(line), text: scrub(line.trim()) }
}

/// The error's number: `ERROR 1062 (23000) at line 7: …` of the client, `Got error: 2003: …` and
/// `…: Couldn't execute '…': … (1356)` of the dump program.
fn number(text: &str) -> Option<u16> {
    let leading = |rest: &str| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    ["ERROR ", "Got error: ", "Error "]
        .iter()
        .find_map(|word| text.find(word).and_then(|at| leading(&text[at + word.len()..])))
        .or_else(|| {
            let inside = text.trim_end().strip_suffix(')')?;
            leading(&inside[inside.rfind('(')? + 1..])
        })
}

/// Waits for a program's end: whether it went well, and how it ended otherwise.
pub(crate) async fn end(child: &mut Child) -> Result<(), String> {
    match child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_programs_say() {
        for (text, expected) in [
            ("ERROR 1062 (23000) at line 7: Duplicate entry 'a (12)' for key 'b'", Some(1062)),
            ("mariadb-dump: Got error: 1049: \"Unknown database 'x'\" when selecting", Some(1049)),
            (
                "mariadb-dump: Couldn't execute 'SHOW': View 'd.v' references invalid (1356)",
                Some(1356),
            ),
            ("mariadb-dump: Error 2013: Lost connection to server during query", Some(2013)),
            ("Killed", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn option_values_are_quoted() {
        assert_eq!(option_value("a#b\"c\\d"), "\"a#b\\\"c\\\\d\"");
    }
}
