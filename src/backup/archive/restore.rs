//! Puts the files of an archive back: all of them beside the folder first, compared with the manifest, then in its
//! place with one rename. The folder that was there stays beside it under another name.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use jiff::Timestamp;

use super::check::{Comparison, manifest_of, name_of};
use super::manifest::{EntryKind, Manifest};
use super::place::{Staging, before_name};
use super::reader::{Reader, TarError};
use super::unpack::Unpacker;
use super::walk::path_in_archive;
use crate::backup::crypt::Identities;
use crate::backup::read::{Progress, Reading};
use crate::backup::work::{Trouble, Work};
use crate::host::files::{self, Space};
use crate::units::Size;

/// What a restore is going to do; nothing was touched yet.
#[derive(Debug)]
pub struct Plan {
    pub file: PathBuf,
    pub file_bytes: u64,
    /// `None`: an archive of another program's, or one whose manifest was lost.
    pub manifest: Option<Manifest>,
    /// Where the files go, without symbolic links.
    pub into: PathBuf,
    /// Where the folder that is there now goes; `None`: there is none.
    pub kept_as: Option<PathBuf>,
    /// The one source whose content the folder becomes; otherwise each entry lies in it with its whole path.
    pub source: Option<String>,
    /// Bytes that the files take; without a manifest nobody knows.
    pub needed: Option<u64>,
    pub free: u64,
    parent: PathBuf,
    name: OsString,
    /// When it was made: of this time is the name that the old folder gets.
    at: Timestamp,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub entries: u64,
    pub bytes: u64,
    pub into: PathBuf,
    /// Where the folder that was there lies now.
    pub kept_as: Option<PathBuf>,
    /// What is not as it was, such as devices where root alone may make them.
    pub notes: Vec<String>,
}

/// # Errors
/// [`Trouble::Lasting`] with what is wrong with the file, the folder, or the space.
pub fn plan(file: &Path, into: &Path, now: Timestamp) -> Result<Plan, Trouble> {
    let refused = |why: String| Trouble::lasting(anyhow!(why));
    let shown = file.display();
    let about =
        std::fs::metadata(file).map_err(|error| refused(format!("{shown} can't be read: {error}")))?;
    if !about.is_file() {
        return Err(refused(format!("{shown} is no file: name the archive itself")));
    }
    let manifest = manifest_of(file).map_err(|why| refused(format!("{shown}: {why}")))?;
    let place = Place::of(into).map_err(refused)?;
    let needed = manifest.as_ref().map(|manifest| {
        let files = manifest.entries.iter().filter(|entry| entry.kind == EntryKind::File);
        files.map(|entry| entry.stored.unwrap_or(entry.size)).sum::<u64>()
    });
    let free = files::nearest_directory(&place.parent)
        .and_then(|(_, fd)| Space::of(fd))
        .map_err(|error| refused(format!("{} can't be looked at: {error}", place.parent.display())))?
        .free;
    if let Some(needed) = needed.filter(|needed| *needed > free) {
        return Err(refused(format!(
            "not started: the files take {}, and the file system of {} has {} free; the folder that is there is kept \
             beside the new one: make room, or restore into a folder elsewhere",
            Size(needed),
            place.parent.display(),
            Size(free)
        )));
    }
    Ok(Plan {
        file: file.to_owned(),
        file_bytes: about.len(),
        source: manifest.as_ref().and_then(only_folder),
        manifest,
        kept_as: place.there.then(|| place.parent.join(before_name(&place.name, now, 1))),
        into: place.parent.join(&place.name),
        needed,
        free,
        parent: place.parent,
        name: place.name,
        at: now,
    })
}

/// An archive of one folder is that folder wherever it is restored.
fn only_folder(manifest: &Manifest) -> Option<String> {
    let [source] = &manifest.sources[..] else { return None };
    let path = path_in_archive(Path::new(source));
    let is_folder =
        |entry: &super::manifest::Entry| entry.kind == EntryKind::Directory && *entry.path == *path;
    manifest.entries.first().is_some_and(is_folder).then(|| source.clone())
}

/// The folder that is to be replaced.
struct Place {
    parent: PathBuf,
    name: OsString,
    there: bool,
}

impl Place {
    fn of(into: &Path) -> Result<Self, String> {
        let shown = into.display();
        let absolute = std::path::absolute(into).map_err(|error| format!("{shown}: {error}"))?;
        if absolute.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(format!("{shown}: write it without `..`"));
        }
        // A link to a folder stays, and leads to what is restored.
        let absolute = match std::fs::canonicalize(&absolute) {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => absolute,
            Err(error) => return Err(format!("{shown} can't be looked at: {error}")),
        };
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(format!("{shown} can't be replaced: name a folder below it"));
        };
        let there = match std::fs::symlink_metadata(&absolute) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(format!("{shown} can't be looked at: {error}")),
            Ok(about) if !about.is_dir() => return Err(format!("{shown} is there, and is no folder")),
            Ok(about) => {
                use std::os::unix::fs::MetadataExt;
                let above =
                    std::fs::metadata(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
                if about.dev() != above.dev() {
                    return Err(format!(
                        "{shown} is where a file system is mounted, and can't be renamed: restore into a folder \
                         within it, and move the files"
                    ));
                }
                true
            }
        };
        Ok(Self { parent: parent.to_owned(), name: name.to_owned(), there })
    }
}

/// Blocks: not for async threads.
///
/// # Errors
/// [`Trouble`]; the folder is as it was then, and nothing was left beside it.
pub fn restore(
    work: &Work,
    plan: &Plan,
    keys: Option<&Identities>,
    progress: Progress,
) -> Result<Restored, Trouble> {
    let shown = plan.file.display();
    let cant = |error: std::io::Error| {
        Trouble::Passing(anyhow!("nothing can be restored in {}: {error}", plan.parent.display()))
    };
    let file = File::open(&plan.file).map_err(|error| Trouble::passing(anyhow!("{shown}: {error}")))?;
    let reading = Reading::open(file, keys, progress);
    let reading = reading.map_err(|error| Trouble::lasting(anyhow!("{shown}: {error}")))?;
    std::fs::create_dir_all(&plan.parent).map_err(cant)?;
    for said in Staging::clear(&plan.parent, &plan.name).map_err(cant)? {
        work.note(&said);
    }
    let staging = Staging::make(&plan.parent, &plan.name).map_err(cant)?;
    let strip = plan.source.as_ref().map(|source| path_in_archive(Path::new(source))).unwrap_or_default();
    let root = staging.fd.try_clone().map_err(cant)?;
    let mut unpacker = Unpacker::new(root, &strip);
    let (content, sum) = reading.into_parts();
    let mut reader = Reader::new(content);
    let mut comparison = plan.manifest.as_ref().map(Comparison::new);
    let unpacked = unpack_all(work, &mut reader, &mut unpacker, comparison.as_mut());
    let uncompressed_bytes = reader.at;
    drop(reader);
    let refused = |why: String| Trouble::lasting(anyhow!("{shown}: {why}; nothing was restored"));
    let (entries, bytes) = unpacked.map_err(|error| match error {
        TarError::Stopped => Trouble::Passing(anyhow!("stopped; nothing was restored")),
        other => refused(other.to_string()),
    })?;
    if let Some(mut comparison) = comparison {
        comparison.end();
        let (bytes, sha256) = sum.finish();
        comparison.file(bytes, &sha256, uncompressed_bytes);
        comparison.verdict().map_or(Ok(()), |reasons| Err(refused(reasons)))?;
    }
    let names_root = unpacker.names_root();
    let (root, notes) = unpacker.finish().map_err(|error| refused(error.to_string()))?;
    if !names_root {
        adopt(plan, &root).map_err(cant)?;
    }
    let kept_as = staging.take_place(plan.at).map_err(cant)?.map(|name| plan.parent.join(name));
    Ok(Restored { entries, bytes, into: plan.into.clone(), kept_as, notes })
}

/// Of which the archive says nothing, the folder is open to the same people as the one whose place it takes.
fn adopt(plan: &Plan, root: &std::os::fd::OwnedFd) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Ok(about) = std::fs::metadata(&plan.into) else {
        return rustix::fs::fchmod(root, rustix::fs::Mode::from_raw_mode(0o755)).map_err(Into::into);
    };
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(root, Some(about.uid()), Some(about.gid()))?;
    }
    let mode = rustix::fs::Mode::from_raw_mode(about.permissions().mode() & 0o7777);
    rustix::fs::fchmod(root, mode).map_err(Into::into)
}

fn unpack_all(
    work: &Work,
    reader: &mut Reader<Box<dyn std::io::BufRead + Send>>,
    unpacker: &mut Unpacker,
    mut comparison: Option<&mut Comparison<'_>>,
) -> Result<(u64, u64), TarError> {
    let stop = || if work.cancel.is_cancelled() { Err(TarError::Stopped) } else { Ok(()) };
    let (mut entries, mut bytes) = (0, 0);
    while let Some(member) = reader.next()? {
        stop()?;
        let entry = comparison.as_mut().and_then(|comparison| comparison.next(&member));
        let digest = unpacker.unpack(reader, &member, entry, &stop)?;
        if let (Some(comparison), Some(digest)) = (comparison.as_mut(), digest) {
            comparison.content(&member, entry, digest);
        }
        // What is not as it should be is not restored: there is no use in going on.
        if let Some(reasons) = comparison.as_mut().and_then(|comparison| comparison.verdict()) {
            return Err(TarError::Broken { after: reader.at, why: reasons });
        }
        entries += 1;
        bytes += member.size;
    }
    reader.finish()?;
    Ok((entries, bytes))
}

impl Plan {
    /// As the operator reads it before anything is done.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let file = name_of(&self.file);
        match &self.manifest {
            Some(manifest) => {
                lines.push(format!(
                    "archive  {file}: {}, of {}, made on {} by {}",
                    Size(self.file_bytes),
                    manifest.started_at,
                    manifest.host,
                    manifest.job
                ));
                lines.push(format!(
                    "content  {} entries, {} files with {}",
                    manifest.entries.len(),
                    manifest.files,
                    Size(self.needed.unwrap_or(0))
                ));
                lines.push(format!("proof    {}; every hash is compared again", manifest.proof.state.word()));
                for (list, what) in [
                    (
                        &manifest.unreadable,
                        "could not be read when it was made, and are missing or not whole",
                    ),
                    (&manifest.changed, "were written to while they were read"),
                ] {
                    if let Some(first) = list.first() {
                        let first = super::manifest::shown(&first.path);
                        lines.push(format!("beware   {} {what}: /{first} first", list.len()));
                    }
                }
            }
            None => {
                lines.push(format!("archive  {file}: {}", Size(self.file_bytes)));
                lines.push("beware   it has no manifest beside it: nobody can tell whether its files are as they were".into());
            }
        }
        let into = self.into.display();
        match &self.source {
            Some(source) => lines.push(format!("into     {into}, which becomes what {source} was")),
            None => lines.push(format!("into     {into}, each entry with its whole path below it")),
        }
        match &self.kept_as {
            Some(kept) => lines.push(format!("kept     what is there now, as {}", kept.display())),
            None => lines.push("kept     nothing: the folder is not there yet".to_owned()),
        }
        lines.push(format!("space    {} free", Size(self.free)));
        lines
    }
}
