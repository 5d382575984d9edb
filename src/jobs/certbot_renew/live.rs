//! The certificates that certbot keeps, as they are on disk: `<config-dir>/live/<name>`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::certificates::{self, Certificate};

/// What is on disk now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// By certbot's name for them.
    pub(super) certificates: BTreeMap<String, Certificate>,
    /// What can't be read as a certificate, in sentences that begin with the path.
    pub(super) broken: Vec<String>,
}

impl Live {
    pub(super) fn serials(&self) -> BTreeMap<String, String> {
        self.certificates.iter().map(|(name, one)| (name.clone(), one.serial.clone())).collect()
    }

    /// The newest one that covers the name, with certbot's name for it.
    pub(super) fn newest_for(&self, name: &str) -> Option<(&str, &Certificate)> {
        self.newest(|one| one.covers(name))
    }

    pub(super) fn newest(&self, fits: impl Fn(&Certificate) -> bool) -> Option<(&str, &Certificate)> {
        let fitting = self.certificates.iter().filter(|(_, one)| fits(one));
        fitting.max_by_key(|(_, one)| (one.not_before, one.not_after)).map(|(name, one)| (name.as_str(), one))
    }
}

/// # Errors
/// Where the folder can't be read, in a sentence that begins with its path. One that isn't there holds nothing.
pub(super) async fn read(config_dir: &Path) -> Result<Live, String> {
    let folder = config_dir.join("live");
    let read = tokio::task::spawn_blocking(move || {
        let cant = |error: io::Error| format!("{} can't be read: {error}", folder.display());
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Live::default()),
            other => other.map_err(cant)?,
        };
        let mut live = Live::default();
        for entry in entries {
            let path = entry.map_err(cant)?.path();
            // A README lies beside the folders.
            if !path.is_dir() {
                continue;
            }
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                live.broken.push(format!("{} is not UTF-8", path.display()));
                continue;
            };
            match lineage(&path, &mut live.broken) {
                Some(certificate) => drop(live.certificates.insert(name, certificate)),
                None => continue,
            }
        }
        live.broken.sort();
        Ok(live)
    });
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Servers are given `fullchain.pem`, certbot itself looks at `cert.pem`: both must be what they say.
fn lineage(folder: &Path, broken: &mut Vec<String>) -> Option<Certificate> {
    let mut read = |name: &str| -> Option<Certificate> {
        let path: PathBuf = folder.join(name);
        match certificates::read_file(&path) {
            Ok(chain) => chain.into_iter().next(),
            Err(why) => {
                broken.push(format!("{} {why}", path.display()));
                None
            }
        }
    };
    let (full, leaf) = (read("fullchain.pem"), read("cert.pem"));
    full.or(leaf)
}
