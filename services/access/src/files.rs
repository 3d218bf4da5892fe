//! Files that are written once and never changed.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::Error;

/// Only the owner may read it.
const SECRET: u32 = 0o600;
/// Everybody may read it.
const PUBLIC: u32 = 0o644;
/// Only the owner may look into it: it holds secrets.
const FOLDER: u32 = 0o700;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is new.
    New(PathBuf),
    /// It is there, as it would be written now.
    Same(PathBuf),
    /// It is there otherwise; what would be written now is beside it, here.
    Beside(PathBuf),
}

/// A folder into which files are put.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    written: Vec<Written>,
}

impl Folder {
    /// The folder, made where it is missing.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(path: &Path) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(FOLDER).create(path);
        made.map_err(|source| Error::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), written: Vec::new() })
    }

    /// What was written so far.
    pub fn written(self) -> Vec<Written> {
        self.written
    }

    /// Where a file lies, by its path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts a text that everybody may read into the folder.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn public(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.place(name)?;
        let written = match write_new(&path, text, PUBLIC) {
            Ok(()) => Written::New(path),
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                let there = fs::read_to_string(&path);
                if there.map_err(|source| Error::File { path: path.clone(), source })? == text {
                    Written::Same(path)
                } else {
                    let beside = self.path(&format!("{name}.new"));
                    let _ = fs::remove_file(&beside);
                    write_new(&beside, text, PUBLIC)?;
                    Written::Beside(beside)
                }
            }
            Err(error) => return Err(error),
        };
        self.written.push(written);
        Ok(())
    }

    /// The secret in a file of the folder: the one that is there, or what `make` makes.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Secret`]; those of `make`.
    pub fn secret(
        &mut self,
        name: &str,
        make: impl FnOnce() -> Result<String, Error>,
    ) -> Result<String, Error> {
        let path = self.place(name)?;
        if path.exists() {
            let secret = drover_secrets::read(&path)?.expose().to_owned();
            self.written.push(Written::Same(path));
            return Ok(secret);
        }
        let secret = make()?;
        write_new(&path, &secret, SECRET)?;
        self.written.push(Written::New(path));
        Ok(secret)
    }

    /// The path of a file, its folder made.
    fn place(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(FOLDER).create(parent);
            made.map_err(|source| Error::File { path: parent.to_owned(), source })?;
        }
        Ok(path)
    }
}

/// Writes a file that is not there; one that another makes at the same moment stays.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
