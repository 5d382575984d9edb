//! The backup that is to be restored: its file, and what lies beside it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use jiff::Timestamp;

use super::feed::unreadable;
use super::roles::Roles;
use crate::backup::crypt::{self, Identities};
use crate::backup::manifest::Manifest;
use crate::backup::names::{self, ROLES_SUFFIX};
use crate::backup::read::{Examined, Form, Progress, Reading};
use crate::backup::work::{Trouble, Work};

pub(super) struct Subject {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// When it was dumped; of a foreign file, when it was last written.
    pub(super) at: Timestamp,
    pub(super) form: Form,
    /// `None`: a foreign file, of which nothing says what it should hold.
    pub(super) manifest: Option<Manifest>,
    /// The file of the roles beside it, with what it holds.
    pub(super) roles: Option<(PathBuf, Roles)>,
}

impl Subject {
    /// Blocks.
    ///
    /// # Errors
    /// Where the file, its manifest or its roles can't be read.
    pub(super) fn open(path: &Path, keys: Option<&Identities>) -> Result<Self, Trouble> {
        let lasting = |text: String| Trouble::Lasting(anyhow!(text));
        let file = File::open(path)
            .map_err(|error| lasting(format!("{} can't be opened: {error}", path.display())))?;
        let about = file.metadata().map_err(|error| lasting(format!("{}: {error}", path.display())))?;
        if !about.is_file() {
            return Err(lasting(format!("{} is not a file", path.display())));
        }
        let form =
            Reading::open(file, keys, Progress::default()).map_err(|error| unreadable(path, &error))?.form();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain_name = name.strip_suffix(crypt::SUFFIX).unwrap_or(&name);
        let manifest = read_manifest(&path.with_file_name(names::manifest_of(plain_name)), &name)?;
        let named =
            manifest.as_ref().and_then(|manifest| manifest.roles.as_ref()).map(|roles| roles.file.clone());
        let beside = format!("{}{ROLES_SUFFIX}", names::stem_of(plain_name));
        let encrypted = format!("{beside}{}", crypt::SUFFIX);
        let roles = named.into_iter().chain([beside, encrypted]).map(|name| path.with_file_name(name));
        let roles = roles.into_iter().find(|path| path.is_file());
        let roles = roles.map(|path| Roles::read(&path, keys).map(|roles| (path, roles))).transpose()?;
        let written = about.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
        let at = manifest
            .as_ref()
            .map_or(written.unwrap_or(Timestamp::UNIX_EPOCH), |manifest| manifest.started_at);
        Ok(Self { path: path.to_owned(), bytes: about.len(), at, form, manifest, roles })
    }

    /// As messages call it.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Reads a foreign file from end to end: that it can be read is all that can be known of it. Blocks.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_through(
    work: &Work,
    path: &Path,
    keys: Option<&Identities>,
    progress: Progress,
) -> Result<Examined, Trouble> {
    let file = File::open(path).map_err(|error| anyhow!("{} can't be opened: {error}", path.display()))?;
    let reading = Reading::open(file, keys, progress).map_err(|error| unreadable(path, &error))?;
    reading.examine(&work.cancel, |_| Ok(())).map_err(|error| unreadable(path, &error))
}

fn read_manifest(path: &Path, of: &str) -> Result<Option<Manifest>, Trouble> {
    let wrong = |why: String| {
        Trouble::Lasting(anyhow!(
            "the manifest {} {why}; to restore the file as one that nothing is known of, move the manifest away",
            path.display()
        ))
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("can't be read: {error}"))),
    };
    let manifest = Manifest::parse(&text).map_err(|why| wrong(format!("can't be understood: {why}")))?;
    if manifest.file != of {
        return Err(wrong(format!("is that of another file, {}", manifest.file)));
    }
    Ok(Some(manifest))
}
