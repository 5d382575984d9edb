//! Reads an archive from its first byte to its last and compares all of it with its manifest.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::anyhow;
use serde::Deserialize;

use super::make::suspicions;
use super::manifest::{Digest, Entry, EntryKind, KIND, Manifest, shown};
use super::reader::{Member, Reader, TarError};
use crate::backup::crypt::Identities;
use crate::backup::earlier;
use crate::backup::keys::Keys;
use crate::backup::manifest::{Proof, ProofEvent, State};
use crate::backup::names;
use crate::backup::publish::Directory;
use crate::backup::read::{Progress, ReadError, Reading};
use crate::backup::work::{Trouble, Work};
use crate::host::files::Owner;

/// An archive that is what its manifest says.
#[derive(Debug)]
pub struct Checked {
    pub manifest: Manifest,
    /// Of the file.
    pub bytes: u64,
    pub sha256: String,
    pub uncompressed_bytes: u64,
}

/// Whether the manifest beside a file is that of an archive, or the file's name is.
pub fn is_archive(file: &Path) -> bool {
    let name = name_of(file);
    names::is_archive(&name) || matches!(manifest_of(file), Ok(Some(_)))
}

/// What was found is recorded in the manifest, unless the work is a dry run. Blocks: not for async threads.
///
/// # Errors
/// [`Trouble::Lasting`] with every reason why the archive is not what its manifest says.
pub fn check(
    work: &Work,
    file: &Path,
    keys: Option<&Identities>,
    progress: Progress,
) -> Result<Checked, Trouble> {
    let refused = |reasons: String| Trouble::lasting(anyhow!("{}: {reasons}", file.display()));
    let since = work.clock.since_boot();
    let mut manifest = manifest_of(file).map_err(refused)?.ok_or_else(|| {
        refused(format!("its manifest {} is not there", names::manifest_of(&name_of(file))))
    })?;
    let opened = File::open(file).map_err(|error| refused(format!("can't be opened: {error}")))?;
    let reading = match Reading::open(opened, keys, progress) {
        Err(error @ ReadError::Broken { .. }) => {
            let why = error.to_string();
            record(work, file, &mut manifest, State::Damaged, &why, 0.0);
            return Err(refused(why));
        }
        other => other.map_err(|error| refused(error.to_string()))?,
    };
    let (content, sum) = reading.into_parts();
    let mut reader = Reader::new(content);
    let mut comparison = Comparison::new(&manifest);
    let read = compare_all(work, &mut reader, &mut comparison);
    let uncompressed_bytes = reader.at;
    drop(reader);
    match read {
        Ok(()) => comparison.end(),
        Err(TarError::Stopped) => return Err(Trouble::Passing(anyhow!("stopped"))),
        Err(TarError::Read(error)) => {
            return Err(Trouble::Passing(anyhow!("{} can't be read: {error}", file.display())));
        }
        Err(error) => comparison.wrong(error.to_string()),
    }
    let (bytes, sha256) = sum.finish();
    comparison.file(bytes, &sha256, uncompressed_bytes);
    let verdict = comparison.verdict();
    let seconds = work.clock.since_boot().saturating_sub(since).as_secs_f64();
    if let Some(reasons) = verdict {
        record(work, file, &mut manifest, State::Damaged, &reasons, seconds);
        return Err(refused(reasons));
    }
    let how = format!(
        "read whole: size, SHA-256, {} entries and the content of {} files are those that were written",
        manifest.entries.len(),
        manifest.files
    );
    // The content of each file is there and is the right one: that is all that a restore could show.
    record(work, file, &mut manifest, State::Verified, &how, seconds);
    Ok(Checked { manifest, bytes, sha256, uncompressed_bytes })
}

/// Where it can't be written, that is said and is no failure: the check stands.
fn record(work: &Work, file: &Path, manifest: &mut Manifest, state: State, how: &str, seconds: f64) {
    if work.dry_run {
        return;
    }
    let event = ProofEvent {
        state,
        at: work.now(),
        how: how.to_owned(),
        seconds: Some((seconds * 1000.0).round() / 1000.0),
        tools: Some(concat!("punk-eco-sched ", env!("CARGO_PKG_VERSION")).to_owned()),
    };
    let name = names::manifest_of(&name_of(file));
    let write = || {
        let folder = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let stat = std::fs::metadata(folder.join(&name))?;
        let owner = Owner { uid: stat.uid(), gid: stat.gid() };
        let (directory, _) = Directory::open(folder, owner, stat.mode() & 0o777)?;
        let mut proof = None;
        // As it is by now: others may have written to it.
        directory.change(&name, |text| {
            let mut keys = Keys::parse(text)?;
            let same = (Some(&manifest.sha256), Some(manifest.run));
            let (sha256, mut now): (Option<String>, Option<Proof>) = (keys.get("sha256"), keys.get("proof"));
            let Some(now) = now.as_mut().filter(|_| (sha256.as_ref(), keys.get("run")) == same) else {
                return Err(std::io::Error::other("it was replaced while the archive was read"));
            };
            now.record(event);
            // Again: since it was made, the manifests of others may have come back.
            if now.suspect.is_empty() {
                let earlier = earlier::archives(&directory, &manifest.name, manifest.started_at);
                now.suspect = suspicions(&earlier, manifest);
            }
            keys.set("proof", now)?;
            proof = Some(now.clone());
            Ok(keys.to_text())
        })?;
        proof.ok_or_else(|| std::io::Error::other("it was not written"))
    };
    match write() {
        Ok(proof) => manifest.proof = proof,
        Err(error) => {
            work.note(&format!("{name} can't be told that the archive is {}: {error}", state.word()));
        }
    }
}

fn compare_all(
    work: &Work,
    reader: &mut Reader<Box<dyn std::io::BufRead + Send>>,
    comparison: &mut Comparison<'_>,
) -> Result<(), TarError> {
    while let Some(member) = reader.next()? {
        let stop = || if work.cancel.is_cancelled() { Err(TarError::Stopped) } else { Ok(()) };
        stop()?;
        let entry = comparison.next(&member);
        if member.kind == Some(EntryKind::File) {
            let digest = reader.content(&member, |_, _| stop())?;
            comparison.content(&member, entry, digest);
        }
    }
    reader.finish()
}

/// The manifest beside an archive; `None`: there is none.
///
/// # Errors
/// Why it can't be used.
pub(super) fn manifest_of(file: &Path) -> Result<Option<Manifest>, String> {
    #[derive(Deserialize)]
    struct Head {
        kind: Option<String>,
        database: Option<String>,
    }
    let name = names::manifest_of(&name_of(file));
    let text = match std::fs::read(file.with_file_name(&name)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("its manifest {name} can't be read: {error}")),
    };
    let wrong = |why: String| format!("its manifest {name} can't be understood: {why}");
    let head: Head = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if let (None, Some(database)) = (&head.kind, &head.database) {
        return Err(format!("it is a dump of the database {database}, no {KIND}: use `restore db`"));
    }
    let manifest = Manifest::parse(&text).map_err(wrong)?;
    if manifest.file != name_of(file) {
        return Err(format!("its manifest {name} is that of another file, {}", manifest.file));
    }
    Ok(Some(manifest))
}

pub(super) fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is read, beside what the manifest says; both are in the same order.
pub(super) struct Comparison<'m> {
    manifest: &'m Manifest,
    left: std::slice::Iter<'m, Entry>,
    /// After an entry that is not the one expected, nothing more can be compared.
    lost: bool,
    reasons: Vec<String>,
    more: usize,
}

/// Reasons that are told; the rest is counted.
const TOLD: usize = 10;

impl<'m> Comparison<'m> {
    pub(super) fn new(manifest: &'m Manifest) -> Self {
        Self { manifest, left: manifest.entries.iter(), lost: false, reasons: vec![], more: 0 }
    }

    pub(super) fn next(&mut self, member: &Member) -> Option<&'m Entry> {
        if self.lost {
            return None;
        }
        let path = member.path.strip_suffix(b"/").unwrap_or(&member.path);
        let entry = self.left.next().filter(|entry| *entry.path == *path);
        let Some(entry) = entry else {
            self.lost = true;
            self.wrong(format!("{} is not what the manifest has in its place", shown(path)));
            return None;
        };
        let differs = |what: &str| format!("{}: its {what} is not that of the manifest", shown(path));
        let target = entry.target.as_deref().unwrap_or_default();
        let has_target = matches!(entry.kind, EntryKind::Symlink | EntryKind::HardLink);
        for (same, what) in [
            (member.kind == Some(entry.kind), "type"),
            (member.size == entry.size, "size"),
            (member.mode == entry.mode, "mode"),
            ((member.uid, member.gid) == (entry.uid, entry.gid), "owner"),
            (!has_target || *target == *member.target, "target"),
            (entry.modified_parts().is_none_or(|(seconds, _)| seconds == member.modified.0), "time"),
            (entry.device.is_none_or(|device| device == member.device), "device number"),
        ] {
            if !same {
                self.wrong(differs(what));
            }
        }
        Some(entry)
    }

    pub(super) fn content(&mut self, member: &Member, entry: Option<&Entry>, digest: Digest) {
        if entry.is_some_and(|entry| entry.sha256 != Some(digest)) {
            self.wrong(format!("{}: its content is not that of the manifest (SHA-256)", shown(&member.path)));
        }
    }

    /// After the last entry.
    pub(super) fn end(&mut self) {
        let missing = self.left.len();
        if let Some(first) = self.left.next().filter(|_| !self.lost) {
            self.wrong(format!(
                "{missing} entries of the manifest are missing, {} first",
                shown(&first.path)
            ));
        }
    }

    pub(super) fn file(&mut self, bytes: u64, sha256: &str, uncompressed_bytes: u64) {
        let manifest = self.manifest;
        if bytes != manifest.bytes {
            self.wrong(format!("it has {bytes} bytes, the manifest says {}", manifest.bytes));
        } else if sha256 != manifest.sha256 {
            self.wrong(format!("its SHA-256 is {sha256}, the manifest says {}", manifest.sha256));
        }
        if uncompressed_bytes != manifest.uncompressed_bytes && self.reasons.is_empty() {
            let expected = manifest.uncompressed_bytes;
            self.wrong(format!("it holds {uncompressed_bytes} bytes, the manifest says {expected}"));
        }
    }

    pub(super) fn wrong(&mut self, reason: String) {
        if self.reasons.len() < TOLD {
            self.reasons.push(reason);
        } else {
            self.more += 1;
        }
    }

    /// `None`: all is as it should be.
    pub(super) fn verdict(&mut self) -> Option<String> {
        if self.reasons.is_empty() {
            return None;
        }
        let more = if self.more > 0 { format!("; and {} reasons more", self.more) } else { String::new() };
        Some(std::mem::take(&mut self.reasons).join("; ") + &more)
    }
}

impl From<ReadError> for TarError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Read(error) => Self::Read(error),
            other => Self::Broken { after: 0, why: other.to_string() },
        }
    }
}
