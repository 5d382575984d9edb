//! Copies of backups elsewhere: a backup counts there once its manifest is there, which is sent last.
//!
//! What was copied is recorded in the manifest here, so that a backup that lacks a wanted copy is found by the next
//! run and copied then. Nothing here makes a backup, and a copy that fails takes nothing from the backup.

mod fetch;
mod options;
mod thin;

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

pub use fetch::{Fetched, fetch, locate};
pub use options::{CopyTo, Destination};

use super::keys::Keys;
use super::manifest::{Copied, Proof, RolesFile};
use super::names::{self, MANIFEST_SUFFIX};
use super::publish::Directory;
use super::work::{Trouble, Work};
use crate::host::objects::{Content, ObjectError, Store};

/// Backups that are older are not copied any more: who adds a place for copies doesn't mean all of them.
const RECENT: Duration = Duration::from_secs(7 * 86_400);

/// The keys of a manifest, whatever its kind, that copies are about.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Head {
    /// Of a dump.
    pub(super) database: Option<String>,
    /// Of an archive.
    name: Option<String>,
    #[serde(default)]
    host: String,
    #[serde(default)]
    job: String,
    pub(super) started_at: Timestamp,
    pub(super) file: String,
    bytes: u64,
    sha256: String,
    roles: Option<RolesFile>,
    #[serde(default)]
    copies: Vec<Copied>,
    pub(super) proof: Option<Proof>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Brought {
    /// The places and how many backups went there.
    pub copies: Vec<Copied>,
    /// What someone should look at, though the copies are there.
    pub warnings: Vec<String>,
}

impl Head {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// What it is a backup of.
    pub(super) fn of(&self) -> &str {
        self.database.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }

    /// In the order in which they are sent; the dump itself is the last of them.
    pub(super) fn files(&self) -> Vec<(&str, Content)> {
        let roles = self.roles.as_ref().map(|roles| (&roles.file, roles.bytes, &roles.sha256));
        let all = roles.into_iter().chain([(&self.file, self.bytes, &self.sha256)]);
        all.map(|(file, bytes, sha256)| (file.as_str(), Content { bytes, sha256: sha256.clone() })).collect()
    }

    fn copy_at(&self, url: &str) -> Option<&Copied> {
        self.copies.iter().find(|copied| copied.to == url)
    }

    /// What became known of the backup since it was copied.
    fn has_news_for(&self, copied: &Copied) -> bool {
        let last = self.proof.as_ref().and_then(|proof| proof.events.last());
        last.is_some_and(|event| event.at > copied.at)
    }
}

/// Brings the backups of `of` (a database, or an archive by its name) that this job has made lately to every place
/// where they are wanted, and deletes the copies there that have grown too old.
///
/// # Errors
/// Which places have no copy of which backup, and why; the backups themselves are whole.
pub async fn bring(
    work: &Work,
    directory: &Arc<Directory>,
    of: &str,
    destinations: &[Destination],
) -> Result<Brought, Trouble> {
    let mut brought = Brought::default();
    let mut failures = Vec::new();
    for destination in destinations {
        match bring_to(work, directory, of, destination).await {
            Ok((copies, warnings)) => {
                brought.copies.extend(copies);
                brought.warnings.extend(warnings);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        return Ok(brought);
    }
    let lasting = failures.iter().all(|failure| failure.error.is_lasting());
    let told: Vec<String> = failures.iter().map(|failure| failure.error.to_string()).collect();
    let stems: std::collections::BTreeSet<&str> =
        failures.iter().filter_map(|failure| failure.manifest.as_deref()).map(names::stem_of).collect();
    let backups = match stems.into_iter().collect::<Vec<_>>().as_slice() {
        [] => "the backups are whole".to_owned(),
        [one] => format!("the backup {one} is whole"),
        more => format!("the backups {} are whole", more.join(", ")),
    };
    let next =
        if lasting { "once that is mended, the next run copies" } else { "the next attempt only copies" };
    let error = anyhow!(
        "{backups} in {}, but the copying failed: {}; {next}",
        directory.path.display(),
        told.join("; ")
    );
    Err(if lasting { Trouble::Lasting(error) } else { Trouble::Passing(error) })
}

struct Unsent {
    manifest: Option<String>,
    error: ObjectError,
}

async fn bring_to(
    work: &Work,
    directory: &Arc<Directory>,
    of: &str,
    destination: &Destination,
) -> Result<(Vec<Copied>, Vec<String>), Unsent> {
    let nothing = |error| Unsent { manifest: None, error };
    let here = backups(work, directory, of).map_err(nothing)?;
    let wanted: Vec<&(String, Head)> =
        here.iter().filter(|(_, head)| destination.wants(head, work.now())).collect();
    let first = || wanted.first().map(|(name, _)| name.clone());
    let store = Store::open(&destination.place).await.map_err(|error| Unsent { manifest: first(), error })?;
    let names: Vec<String> = wanted
        .iter()
        .flat_map(|(_, head)| head.files().into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
        .collect();
    match bounded(work, store.clear(&names, &uploads(work))).await {
        Ok(said) => said.iter().for_each(|said| work.note(said)),
        // It is tried again by the next run; a store that is away is told by what comes now.
        Err(error) => work.note(&format!("what was left half-done could not be cleared: {error}")),
    }
    let way = Way { work, directory, destination, store: &store };
    let mut copies = Vec::new();
    for (name, head) in wanted {
        let sent = bounded(work, way.send(name, head)).await;
        copies.push(sent.map_err(|error| Unsent { manifest: Some(name.clone()), error })?);
    }
    for (name, head) in &here {
        if head.copy_at(&destination.place.url).is_some_and(|copied| head.has_news_for(copied)) {
            let renewed = bounded(work, way.send_manifest(name, head)).await;
            renewed.map_err(nothing)?;
            work.note(&format!("what is known of {name} was sent to {}", destination.place.url));
        }
    }
    let mut warnings = Vec::new();
    if let Some(keep) = destination.keep {
        let thinned = bounded(work, thin::thin(work, directory, of, destination, keep, &store)).await;
        match thinned {
            Ok(odd) => warnings.extend(odd),
            Err(error) => warnings.push(format!("old copies could not be deleted: {error}")),
        }
    }
    Ok((copies, warnings))
}

/// Copies one backup, by the name of its manifest, whatever its age.
///
/// # Errors
/// Why it isn't there; the next try goes on where this one ended.
pub async fn send(
    work: &Work,
    directory: &Arc<Directory>,
    manifest: &str,
    destination: &Destination,
) -> Result<Copied, Trouble> {
    let head = read(directory, manifest).map_err(trouble)?;
    let store = Store::open(&destination.place).await.map_err(trouble)?;
    let way = Way { work, directory, destination, store: &store };
    bounded(work, way.send(manifest, &head)).await.map_err(trouble)
}

pub(super) fn trouble(error: ObjectError) -> Trouble {
    if error.is_lasting() { Trouble::lasting(error) } else { Trouble::passing(error) }
}

/// From the folder here to one place elsewhere.
struct Way<'a> {
    work: &'a Work,
    directory: &'a Arc<Directory>,
    destination: &'a Destination,
    store: &'a Store,
}

impl Way<'_> {
    async fn send(&self, manifest: &str, head: &Head) -> Result<Copied, ObjectError> {
        let Self { work, directory, destination, store } = self;
        let url = &destination.place.url;
        let there = store.read(manifest).await?.map(|text| Head::parse(&text));
        if let Some(Ok(other)) = &there
            && (&other.sha256, &other.host) != (&head.sha256, &head.host)
        {
            let reason = format!(
                "it holds another backup named {}, of host {}: give each host its own prefix",
                names::stem_of(manifest),
                other.host
            );
            return Err(ObjectError::Refused { url: url.clone(), reason });
        }
        for (name, content) in head.files() {
            if store.has(name, &content).await? {
                continue;
            }
            let opened = directory.open_file(name);
            let file = opened.map_err(|error| local(directory, name, error))?;
            store.put(name, file, &content, &uploads(work)).await?;
        }
        let copied = self.send_manifest(manifest, head).await?;
        work.note(&format!("copied {} to {url}, and compared it there", names::stem_of(manifest)));
        Ok(copied)
    }

    /// Sends the manifest as it is now, and records that it was sent.
    async fn send_manifest(&self, manifest: &str, head: &Head) -> Result<Copied, ObjectError> {
        let Self { work, directory, destination, store } = self;
        let bytes = head.files().iter().map(|(_, content)| content.bytes).sum();
        let url = &destination.place.url;
        let mut copied = Copied { to: url.clone(), at: work.now(), bytes };
        let failed = |error| local(directory, manifest, error);
        for _ in 0..TRIES {
            let text = directory.read(manifest).map_err(failed)?;
            let sent = with_copy(&text, url, Some(&copied)).map_err(failed)?;
            store.put_small(manifest, sent).await?;
            if record(directory, manifest, url, Some(&copied))? == proof_in(&text) {
                break;
            }
            // Something became known of the backup meanwhile, which the copy is to tell as well.
            copied.at = work.now();
        }
        Ok(copied)
    }
}

/// How often a manifest is sent that is changed while it is on its way; the next run sends what comes after.
const TRIES: usize = 3;

/// Notes in the manifest here that there is a copy at the place, or that there is none any more; what the manifest then
/// tells of the proof.
pub(super) fn record(
    directory: &Arc<Directory>,
    manifest: &str,
    url: &str,
    copied: Option<&Copied>,
) -> Result<Option<Value>, ObjectError> {
    let mut proof = None;
    let changed = directory.change(manifest, |text| {
        proof = proof_in(text);
        with_copy(text, url, copied)
    });
    changed.map(|()| proof).map_err(|error| local(directory, manifest, error))
}

fn proof_in(text: &[u8]) -> Option<Value> {
    Keys::parse(text).ok()?.get("proof")
}

fn with_copy(text: &[u8], url: &str, copied: Option<&Copied>) -> std::io::Result<Vec<u8>> {
    let mut keys = Keys::parse(text)?;
    let mut copies: Vec<Value> = keys.get("copies").unwrap_or_default();
    copies.retain(|one| one.get("to").and_then(Value::as_str) != Some(url));
    copies.extend(copied.and_then(|copied| serde_json::to_value(copied).ok()));
    keys.set("copies", &copies)?;
    Ok(keys.to_text())
}

/// The manifests of this job's backups here, the newest first.
fn backups(work: &Work, directory: &Directory, of: &str) -> Result<Vec<(String, Head)>, ObjectError> {
    let begin = format!("{}-", names::file_safe(of));
    let all = directory.names().map_err(|error| local(directory, "", error))?;
    let manifests =
        all.into_iter().filter(|name| name.starts_with(&begin) && name.ends_with(MANIFEST_SUFFIX));
    // What can't be read is told by whoever looks through the backups; it can't be copied.
    let read = manifests.filter_map(|name| Some((read(directory, &name).ok()?, name)));
    let mut own: Vec<(String, Head)> = read
        .filter(|(head, _)| head.of() == of && head.job == work.job)
        .map(|(head, name)| (name, head))
        .collect();
    own.sort_by_key(|(name, head)| (std::cmp::Reverse(head.started_at), name.clone()));
    Ok(own)
}

fn read(directory: &Directory, manifest: &str) -> Result<Head, ObjectError> {
    let failed = |error: std::io::Error| local(directory, manifest, error);
    let text = directory.read(manifest).map_err(failed)?;
    Head::parse(&text).map_err(|reason| failed(std::io::Error::other(reason)))
}

fn local(directory: &Directory, name: &str, error: std::io::Error) -> ObjectError {
    ObjectError::File { what: directory.path.join(name).display().to_string(), error }
}

/// Where uploads that are under way are remembered.
fn uploads(work: &Work) -> std::path::PathBuf {
    work.state.join("uploads")
}

/// Ends with the work: what is half-done stays remembered, and the next try goes on with it.
async fn bounded<T>(
    work: &Work,
    sending: impl Future<Output = Result<T, ObjectError>>,
) -> Result<T, ObjectError> {
    tokio::select! {
        done = sending => done,
        () = work.cancel.cancelled() => {
            Err(ObjectError::Away { url: "the store".to_owned(), reason: "the run was stopped".to_owned() })
        }
    }
}

impl Destination {
    /// A copy that is missing, of a backup that isn't too old to be copied.
    fn wants(&self, head: &Head, now: Timestamp) -> bool {
        let age = now.duration_since(head.started_at);
        let limit = self.keep.map_or(RECENT, |keep| keep.min(RECENT));
        let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
        head.copy_at(&self.place.url).is_none() && age <= limit
    }
}
