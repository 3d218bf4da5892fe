//! Secrets come from files that nobody else can read, and are never shown.

use std::{
    fmt, fs, io,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The largest secret, in bytes: far above any key or password, far below a file named by mistake.
const BYTES_MAX: u64 = 64 << 10;

/// A secret. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself. Not for logs, errors, events or arguments of processes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path} may be read by others than its owner (mode {mode:04o})")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Empty, too large, or not text.
    #[error("{0} does not hold a secret: it is empty, over 64 KiB, or not text in UTF-8")]
    NotASecret(PathBuf),
}

impl From<Error> for drover_schemas::Failure {
    fn from(error: Error) -> Self {
        Self::new(drover_schemas::Code::SecretUnreadable, error.to_string())
    }
}

/// Reads the secret in `path`, without the line's end that editors put behind it.
pub fn read(path: &Path) -> Result<Secret, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let too_large = bytes.len() as u64 > BYTES_MAX;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || too_large {
        return Err(Error::NotASecret(path.to_owned()));
    }
    Ok(Secret(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_secret_is_read_without_its_line_end_and_never_shown() {
        let secret = read(file(b"s3cret \n", 0o600).path()).unwrap();
        assert_eq!(secret.expose(), "s3cret ");
        assert!(!format!("{secret:?}").contains("s3cret"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o644] {
            assert!(matches!(read(file(b"x", mode).path()), Err(Error::Open { .. })));
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for content in [b"".as_slice(), b"\n", b"\xff\xfe", &[b'a'; 70_000]] {
            assert!(matches!(read(file(content, 0o600).path()), Err(Error::NotASecret(_))));
        }
        assert!(matches!(read(Path::new("/nowhere")), Err(Error::Unreadable { .. })));
    }
}
