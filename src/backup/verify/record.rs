//! Writes into the manifest what a check has found.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Place, Verdict};
use crate::backup::keys::Keys;
use crate::backup::manifest::{Manifest, Proof, ProofEvent, State};
use crate::backup::publish::Directory;
use crate::backup::work::Work;
use crate::backup::{earlier, suspect};
use crate::host::files::Owner;

/// Where it can't be written, that is said and is no failure: the check stands.
pub(super) fn record(
    work: &Work,
    place: &Place,
    verdict: &mut Verdict,
    pg_restore: Option<String>,
    seconds: f64,
) {
    // The manifest of another file learns nothing from this one.
    let Some(manifest) = verdict.manifest.as_ref().filter(|manifest| manifest.file == place.name) else {
        return;
    };
    let (state, how) = match (verdict.damage.is_empty(), &verdict.hindrance) {
        (true, Some(_)) => return,
        (true, None) => (State::ReadBack, said_of_good(manifest)),
        (false, _) => (State::Damaged, verdict.damage.join("; ")),
    };
    let own = concat!("punk-eco-sched ", env!("CARGO_PKG_VERSION"));
    let tools = pg_restore.map_or_else(|| own.to_owned(), |version| format!("{own}, pg_restore {version}"));
    let seconds = Some((seconds * 1000.0).round() / 1000.0);
    let event = ProofEvent { state, at: work.now(), how, seconds, tools: Some(tools) };
    if work.dry_run {
        return;
    }
    match write(place, manifest, |proof| proof.record(event)) {
        Ok(now) => verdict.manifest = Some(now),
        Err(error) => work.note(&format!(
            "{} can't be told that the backup is {}: {error}",
            place.directory.join(place.manifest_name()).display(),
            state.word()
        )),
    }
}

fn said_of_good(manifest: &Manifest) -> String {
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    format!(
        "read whole: size, SHA-256, {} with {} rows{} are those that were written",
        count(manifest.tables.len(), "table"),
        manifest.rows,
        if manifest.roles.is_some() { " and the roles" } else { "" }
    )
}

/// Adds what else was found of a backup that was checked, such as what its restore has shown.
///
/// # Errors
/// Where the manifest can't be written, or is another's by now.
pub fn add(file: &Path, checked: &Manifest, event: ProofEvent) -> io::Result<Manifest> {
    let place = Place::of(file).map_err(io::Error::other)?;
    write(&place, checked, |proof| proof.record(event))
}

/// Compares a backup that was checked with those before it, as was done when it was dumped: since then the manifests of
/// others may have come back, or this one may be of a version that didn't look. What it finds is recorded, and what was
/// found before stays.
///
/// # Errors
/// As [`add`].
pub fn look_again(file: &Path, checked: &Manifest) -> io::Result<Manifest> {
    if !checked.proof.suspect.is_empty() {
        return Ok(checked.clone());
    }
    let place = Place::of(file).map_err(io::Error::other)?;
    let (directory, _) = Directory::open(&place.directory, Owner::own(), 0o600)?;
    let earlier = earlier::of(&directory, &checked.database, checked.started_at);
    let reasons = suspect::reasons(&earlier, checked);
    if reasons.is_empty() {
        return Ok(checked.clone());
    }
    write(&place, checked, |proof| proof.suspect = reasons)
}

/// The manifest as it is by now, which others may have written to, and only its proof changed: what a later version
/// has put into it stays.
fn write(place: &Place, checked: &Manifest, change: impl FnOnce(&mut Proof)) -> io::Result<Manifest> {
    let name = place.manifest_name();
    let stat = std::fs::metadata(place.directory.join(&name))?;
    let owner = Owner { uid: stat.uid(), gid: stat.gid() };
    let (directory, _) = Directory::open(&place.directory, owner, stat.mode() & 0o777)?;
    let mut written = None;
    directory.change(&name, |text| {
        let mut manifest = Manifest::parse(text).map_err(io::Error::other)?;
        if (manifest.sha256.as_str(), manifest.run) != (checked.sha256.as_str(), checked.run) {
            return Err(io::Error::other("it was replaced while the backup was read"));
        }
        change(&mut manifest.proof);
        let mut keys = Keys::parse(text)?;
        keys.set("proof", &manifest.proof)?;
        written = Some(manifest);
        Ok(keys.to_text())
    })?;
    written.ok_or_else(|| io::Error::other("it was not written"))
}
