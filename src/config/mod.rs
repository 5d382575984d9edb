//! jobs.yaml: read, checked whole, and turned into a [`JobTable`].
//!
//! Owns every key of the file but the options of the kinds. Never fetches a secret and never asks the host about
//! anything but the file itself.

mod environment;
mod file;
mod heartbeat;
mod jobs;
mod order;
mod policies;
mod references;
mod schedules;
mod schema;
mod sections;
mod table;
mod webhook;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::document::{Collected, Parsed, Reader, Value, located, parse};
use crate::jobs::{KINDS, Kind};

pub use crate::document::{Problem, ProblemSeverity, Problems};
pub use environment::Environment;
pub use heartbeat::Heartbeat;
pub use schema::schema;
pub(crate) use table::ByName;
pub use table::*;

/// The variable that names the file where `--config` doesn't.
pub const FILE_VARIABLE: &str = "PUNK_ECO_SCHED_CONFIG";

/// `--config`, else `$PUNK_ECO_SCHED_CONFIG`, else `/etc/punk-eco-sched/jobs.yaml`, else `./jobs.yaml`.
pub fn find_file(option: Option<&Path>, environment: &Environment) -> PathBuf {
    find_among(option, environment, Path::new("/etc/punk-eco-sched/jobs.yaml"))
}

fn find_among(option: Option<&Path>, environment: &Environment, installed: &Path) -> PathBuf {
    if let Some(path) = option {
        return path.to_owned();
    }
    if let Some(path) = environment.variable(FILE_VARIABLE) {
        return path.into();
    }
    // One that can't be looked at is taken all the same: the error then says why.
    match installed.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => PathBuf::from("jobs.yaml"),
        _ => installed.to_owned(),
    }
}

/// Reads and checks the file. The table comes with the warnings.
///
/// # Errors
/// Every problem of the file, warnings included.
pub fn load(path: &Path, environment: &Environment) -> Result<(JobTable, Problems), Problems> {
    let text = file::read(path, environment)?;
    read(&text, path, environment)
}

/// As [`load`], of a text.
///
/// # Errors
/// As [`load`].
pub fn read(text: &str, file: &Path, environment: &Environment) -> Result<(JobTable, Problems), Problems> {
    read_with(text, file, environment, KINDS)
}

/// As [`read`], with other kinds than [`KINDS`].
///
/// # Errors
/// As [`load`].
pub fn read_with(
    text: &str,
    file: &Path,
    environment: &Environment,
    kinds: &'static [Kind],
) -> Result<(JobTable, Problems), Problems> {
    let parsed = parse_aside(text);
    let mut collected = Collected { problems: parsed.problems, masks: parsed.masks, ..Collected::default() };
    let table = match &parsed.root {
        Some(root) if matches!(root.value, Value::Map(_)) => {
            let collected = &mut collected;
            let zones = std::collections::HashMap::new();
            let loading = jobs::Loading { root, text, file, environment, kinds, collected, zones };
            Some(loading.table(hash(text)))
        }
        Some(root) if !root.is_nothing() => {
            let message = format!("expected a map with `jobs:`, found {}", root.found());
            let problem = located(ProblemSeverity::Error, root.place, "", message, None);
            collected.problems.push(problem);
            None
        }
        _ if collected.problems.is_empty() => {
            let hint = Some("it must hold at least `jobs:`; was it cut short by an editor?".to_owned());
            return Err(Problems::of_file(file, "the file is empty", hint));
        }
        _ => None,
    };
    let problems = Problems::new(file, text, collected.problems, &collected.masks);
    match table {
        Some(table) if !problems.has_errors() => Ok((table, problems)),
        _ => Err(problems),
    }
}

/// What [`JobTable::hash`] would be of the file as it is now.
///
/// # Errors
/// Why it can't be read.
pub fn hash_of(path: &Path, environment: &Environment) -> Result<String, Problems> {
    file::read(path, environment).map(|text| hash(&text))
}

/// On a thread of its own, for its memory: the allocator gives that thread an arena, which holds the tree and
/// nothing else and goes back to the system with it. Beside the table, the tree's memory would stay in holes.
fn parse_aside(text: &str) -> Parsed<'_> {
    std::thread::scope(|scope| scope.spawn(|| parse(text)).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The paths of a file, whatever else is wrong with it, for verbs that only read what the daemon wrote.
pub fn paths_of(path: &Path, environment: &Environment) -> Paths {
    let text = file::read_any(path).unwrap_or_default();
    paths_in(&text, path, environment)
}

fn paths_in(text: &str, file: &Path, environment: &Environment) -> Paths {
    let parsed = parse(text);
    // Not YAML as a whole: where the ledger lies must not depend on a bracket among the jobs.
    if parsed.root.is_none()
        && let Some(block) = paths_block(text).filter(|block| block.len() < text.trim_end().len())
    {
        return paths_in(&block, file, environment);
    }
    let mut collected = Collected::default();
    let keys = parsed.root.as_ref().and_then(|root| root.get("paths")).and_then(|entry| {
        Reader::new(entry, "paths".into(), &mut collected).read_beside::<sections::PathsKeys>(&[]).0
    });
    keys.unwrap_or_default().paths(file, environment)
}

/// The lines of the top-level key `paths`.
pub fn paths_block(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("paths:"));
    let first = lines.next()?;
    let rest = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#', '\r']));
    Some(std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n"))
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
