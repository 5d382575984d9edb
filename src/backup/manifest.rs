//! The file beside a backup that says what is in it and what has been proven about it.
//!
//! A later version may add keys; a reader passes over those it doesn't know. A number in `format_version` that is
//! higher than [`FORMAT_VERSION`] means that keys have changed their meaning.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::Compression;
use super::count::TableRows;

pub const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    /// The real name.
    pub database: String,
    /// How the name is written in file names, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_in_file_names: Option<String>,
    pub host: String,
    pub job: String,
    pub run: i64,
    pub server: Server,
    /// `pg_dump --version`'s number.
    pub client_version: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// `plain` or `custom`.
    pub format: String,
    pub compression: Compression,
    pub level: u32,
    pub file: String,
    pub bytes: u64,
    /// What pg_dump wrote; for a custom dump, which pg_dump compresses itself, the same as `bytes`.
    pub uncompressed_bytes: u64,
    pub sha256: String,
    /// The rows of all tables together.
    pub rows: u64,
    /// Each table whose data the dump holds; of a partitioned table its partitions.
    pub tables: Vec<TableRows>,
    pub roles: Option<RolesFile>,
    pub proof: Proof,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolesFile {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    /// False where the role that dumped may not read the passwords.
    pub passwords: bool,
}

/// What has been proven, in the order in which it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The newest of `events`: `written`, later `verified`.
    pub state: String,
    pub events: Vec<ProofEvent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofEvent {
    pub state: String,
    pub at: Timestamp,
    /// What was done to know it.
    pub how: String,
}

impl Proof {
    pub fn written(at: Timestamp, how: impl Into<String>) -> Self {
        let state = "written".to_owned();
        Self { state: state.clone(), events: vec![ProofEvent { state, at, how: how.into() }] }
    }

    /// Restored, and the rows counted.
    pub fn is_verified(&self) -> bool {
        self.state == "verified"
    }
}

impl Manifest {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.format_version > FORMAT_VERSION {
            return Err(format!(
                "format_version {} is newer than {FORMAT_VERSION}, the newest that this program knows",
                manifest.format_version
            ));
        }
        Ok(manifest)
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
