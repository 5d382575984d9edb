//! Deletes copies that have grown too old, by the rules by which backups are deleted here.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::{Destination, Head, record};
use crate::backup::manifest::{Proof, State};
use crate::backup::names::{self, MANIFEST_SUFFIX};
use crate::backup::publish::Directory;
use crate::backup::retention::{self, Candidate, Keep, Policy, Standing};
use crate::backup::work::Work;
use crate::host::objects::{Listed, ObjectError, Store};
use crate::units::Percent;

/// What is kept though it is old, for a reason that someone should look at.
pub(super) async fn thin(
    work: &Work,
    directory: &Arc<Directory>,
    of: &str,
    destination: &Destination,
    keep: Duration,
    store: &Store,
) -> Result<Vec<String>, ObjectError> {
    let now = work.now();
    let limit = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    let is_old = |name: &str| names::time_in(name).is_none_or(|time| now.duration_since(time) > limit);
    let mut there = store.list().await?;
    there.retain(|listed| belongs(of, &listed.name));
    if !there.iter().any(|listed| is_old(&listed.name)) {
        return Ok(vec![]);
    }
    let mut units = Vec::new();
    for manifest in there.iter().filter(|listed| listed.name.ends_with(MANIFEST_SUFFIX)) {
        // Gone meanwhile: then it is no copy.
        let Some(text) = store.read(&manifest.name).await? else { continue };
        units.push((manifest.name.as_str(), Head::parse(&text)));
    }
    let candidates: Vec<Candidate> =
        units.iter().map(|(manifest, head)| candidate(of, manifest, head)).collect();
    // Of a copy, the newest is kept whatever its age; and nothing goes but for a newer one that was proven.
    let policy = Policy {
        older_than: keep,
        keep_at_least: 1,
        keep: Keep::default(),
        zone: TimeZone::UTC,
        // Archives need not be proven, and of many a host nobody does: theirs go by age.
        require_newer_verified: units
            .iter()
            .any(|(_, head)| matches!(head, Ok(head) if head.database.is_some())),
        max_deletions: Percent(100.0),
    };
    let plan = retention::plan(&candidates, &policy, now);
    let mut odd = Vec::new();
    let url = &destination.place.url;
    for ((manifest, _), reason) in units.iter().zip(&plan.reasons) {
        let stem = names::stem_of(manifest);
        if reason.is_odd() {
            odd.push(format!("kept the copy {stem} at {url}: {reason}"));
        }
        if !reason.deletes() {
            continue;
        }
        // Without its manifest it is no copy any more, wherever this ends.
        store.delete(manifest).await?;
        if directory.read(manifest).is_ok() {
            record(directory, manifest, url, None)?;
        }
        for listed in
            there.iter().filter(|listed| is_content(&listed.name) && names::stem_of(&listed.name) == stem)
        {
            store.delete(&listed.name).await?;
        }
        work.note(&format!("deleted the copy {stem} at {url}: {reason}"));
    }
    for listed in alone(&there).into_iter().filter(|listed| is_old(&listed.name)) {
        store.delete(&listed.name).await?;
        work.note(&format!("deleted {} at {url}: an old file without a manifest", listed.name));
    }
    Ok(odd)
}

fn candidate(of: &str, manifest: &str, head: &Result<Head, String>) -> Candidate {
    let (time, standing) = match head {
        Ok(head) if head.of() != of => (Err(format!("it is a backup of {}", head.of())), Standing::Unproven),
        Ok(head) => (Ok(head.started_at), standing(head.proof.as_ref())),
        Err(reason) => (Err(format!("its manifest can't be read: {reason}")), Standing::Unproven),
    };
    let name = names::stem_of(manifest).into();
    Candidate { name, database: of.into(), time: time.map_err(Into::into), standing }
}

fn standing(proof: Option<&Proof>) -> Standing {
    match proof {
        Some(proof) if proof.is_verified() => Standing::Verified,
        Some(proof) if proof.state == State::Damaged || !proof.suspect.is_empty() => Standing::Doubtful,
        _ => Standing::Unproven,
    }
}

/// By its name it is a file of a backup of that: nothing else is touched.
fn belongs(of: &str, name: &str) -> bool {
    let Some(time) = names::time_in(name) else { return false };
    let stem = names::stem_of(name);
    let first = names::stem(of, time, 1);
    let is_numbered = |rest: &str| {
        rest.strip_prefix('-').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    stem != name && stem.strip_prefix(first.as_str()).is_some_and(|rest| rest.is_empty() || is_numbered(rest))
}

fn is_content(name: &str) -> bool {
    !name.ends_with(MANIFEST_SUFFIX)
}

/// Those that an end in the middle has left.
fn alone(there: &[Listed]) -> Vec<&Listed> {
    let with: std::collections::HashSet<&str> = there
        .iter()
        .filter(|listed| !is_content(&listed.name))
        .map(|listed| names::stem_of(&listed.name))
        .collect();
    let contents = there.iter().filter(|listed| is_content(&listed.name));
    contents.filter(|listed| !with.contains(names::stem_of(&listed.name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_database_s_backups_are_touched() {
        let check = |name: &str, expected: bool| assert_eq!(belongs("shop", name), expected, "{name}");
        check("shop-20261122T230000Z.sql.gz", true);
        check("shop-20261122T230000Z-2.roles.sql.gz.age", true);
        check("shop-20261122T230000Z.manifest.json", true);
        check("shop-eu-20261122T230000Z.sql.gz", false);
        check("shop-20261122T230000Z-eu.sql.gz", false);
        check("shop-20261122T230000Z.txt", false);
        check("shop.sql.gz", false);
    }
}
