//! The newest backup of a job, by the manifests in its directory. Reads no backup itself.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::catalogue::Head;
use super::names::{self, MANIFEST_SUFFIX};

#[derive(Debug, thiserror::Error)]
pub enum NewestError {
    #[error("the directory {} can't be read: {error}", path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("the manifest {} can't be read: {error}", path.display())]
    Manifest { path: PathBuf, error: io::Error },
}

/// By the time in the name, which is that of the manifest. `of`: the database, or the archive's name; `future`: told of
/// each that is dated after `now`, by a clock that was wrong, and is passed over: it would be the newest for years.
///
/// # Errors
/// [`NewestError`]; a directory that is not there yet has no backup.
pub fn newest(
    directory: &Path,
    of: &str,
    job: &str,
    now: Timestamp,
    mut future: impl FnMut(&Head),
) -> Result<Option<Head>, NewestError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(NewestError::Directory { path: directory.to_owned(), error }),
    };
    let begin = format!("{}-", names::file_safe(of));
    let mut found: Vec<(Timestamp, String)> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&begin) && name.ends_with(MANIFEST_SUFFIX))
        .filter_map(|name| Some((names::time_in(&name)?, name)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    for (_, name) in found {
        let path = directory.join(name);
        let text = std::fs::read(&path);
        let head = text.and_then(|text| Ok(serde_json::from_slice::<Head>(&text)?));
        let head = head.map_err(|error| NewestError::Manifest { path, error })?;
        if head.job.as_deref() != Some(job) {
            continue;
        }
        if head.started_at > now {
            future(&head);
            continue;
        }
        return Ok(Some(head));
    }
    Ok(None)
}
