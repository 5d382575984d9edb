//! What this job remembers from run to run: which certificates were deployed last, and since when a deploy is owed.
//!
//! Without it, and without `served_at`, a deploy that failed would be forgotten as soon as certbot has nothing to do.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::JobName;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Whose certificates these are.
    pub(super) config_dir: PathBuf,
    /// The serial of each certificate that the server was last made to read.
    pub(super) deployed: BTreeMap<String, String>,
    /// When certbot renewed what has not been deployed since.
    pub(super) renewed_at: Option<Timestamp>,
}

pub(super) fn path(state: &Path, job: &JobName) -> PathBuf {
    state.join(format!("certbot_renew-{job}.json"))
}

/// `None`: there is none yet, or one of other certificates.
///
/// # Errors
/// Where there is one that can't be read.
pub(super) fn read(path: &Path, config_dir: &Path) -> Result<Option<Record>, String> {
    let cant = |why: String| format!("{} can't be read: {why}", path.display());
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| cant(error.to_string()))?,
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| cant(error.to_string()))?;
    Ok(Some(record).filter(|record| record.config_dir == config_dir))
}

/// Under another name first: a file that is there is whole.
///
/// # Errors
/// Where it can't be written.
pub(super) fn write(path: &Path, record: &Record) -> Result<(), String> {
    let part = path.with_extension("json.partial");
    let written = (|| -> io::Result<()> {
        let mut file = std::fs::File::create(&part)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    })();
    written.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        format!("{} can't be written: {error}", path.display())
    })
}
