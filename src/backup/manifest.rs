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
    /// How the database was made: `bytes` and `sha256` say what is in it, this what it is restored into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Properties>,
    /// The age recipients of the dump and the roles; empty: they are not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypted_to: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Copied>,
    pub proof: Proof,
}

/// Of a database, as `CREATE DATABASE` takes them (pg_database).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// `UTF8`
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// Of a database whose collations are ICU's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_locale: Option<String>,
    pub owner: String,
}

/// A copy elsewhere, complete and compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Of the folder that it lies in, without what opens it: `s3://bucket/prefix`.
    pub to: String,
    pub at: Timestamp,
    pub bytes: u64,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    pub state: State,
    pub events: Vec<ProofEvent>,
    /// Why someone should look at it before it is trusted, such as rows that fell to a half.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspect: Vec<String>,
}

/// How much is known of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is not what was written: nothing can be expected of it.
    Damaged,
    /// Complete, on the disk, and the disk gave back what was written.
    Written,
    /// Read again later, whole, with the same hash and the same rows.
    ReadBack,
    /// Restored into a scratch database, and the rows counted there; of an archive, each entry read and compared.
    Verified,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofEvent {
    pub state: State,
    pub at: Timestamp,
    /// What was done to know it, or what was found.
    pub how: String,
    /// How long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The versions of the programs and the server that took part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Written => "written",
            Self::ReadBack => "read_back",
            Self::Verified => "verified",
        }
    }
}

impl Proof {
    pub fn written(at: Timestamp, how: impl Into<String>) -> Self {
        let event = ProofEvent { state: State::Written, at, how: how.into(), seconds: None, tools: None };
        Self { state: State::Written, events: vec![event], suspect: vec![] }
    }

    /// Reading again takes nothing from what a restore has shown; damage takes all, and a later proof gives it back.
    pub fn record(&mut self, event: ProofEvent) {
        if event.state != State::ReadBack || self.state != State::Verified {
            self.state = event.state;
        }
        // Of many in a row that found the same, the first and the newest tell it.
        if let [.., before, last] = self.events.as_slice()
            && before.state == event.state
            && last.state == event.state
        {
            self.events.pop();
        }
        self.events.push(event);
    }

    /// Restored, the rows counted, and nothing about it that someone should look at first.
    pub fn is_verified(&self) -> bool {
        self.state == State::Verified && self.suspect.is_empty()
    }
}

/// The files of a backup as the manifest of any kind of backup names them.
#[derive(Debug, Deserialize)]
pub struct Files {
    pub format_version: u32,
    pub file: String,
    pub bytes: u64,
    pub roles: Option<RolesFile>,
}

impl Files {
    /// `None`: the text is not whole, or of a later version.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let files: Self = serde_json::from_slice(text).ok()?;
        (files.format_version <= FORMAT_VERSION).then_some(files)
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

/// One of an empty database, with these keys instead.
#[cfg(test)]
pub(super) fn sample(keys: serde_json::Value) -> Manifest {
    let mut manifest = serde_json::json!({
        "format_version": 1, "database": "shop", "host": "web1", "job": "db-backup", "run": 1,
        "server": {"host": "db", "port": 5432, "version": "15"}, "client_version": "15",
        "started_at": "2026-11-22T23:00:00Z", "finished_at": "2026-11-22T23:01:00Z", "format": "plain",
        "compression": "gzip", "level": 6, "file": "shop.sql.gz", "bytes": 1, "uncompressed_bytes": 1,
        "sha256": "", "rows": 0, "tables": [], "roles": null,
        "proof": {"state": "written", "events": []},
    });
    if let (Some(all), serde_json::Value::Object(keys)) = (manifest.as_object_mut(), keys) {
        all.extend(keys);
    }
    serde_json::from_value(manifest).expect("the keys are those of a manifest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_that_is_renewed_each_night_does_not_grow_for_ever() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut proof = Proof::written(at(0), "dumped");
        let mut record = |second: i64, state: State| {
            let event = ProofEvent { state, at: at(second), how: String::new(), seconds: None, tools: None };
            proof.record(event);
            let told = proof.events.iter().map(|event| (event.at.as_second(), event.state.word()));
            (proof.state, told.collect::<Vec<_>>())
        };
        record(1, State::ReadBack);
        record(2, State::ReadBack);
        let (state, told) = record(3, State::ReadBack);
        assert_eq!(
            (state, told),
            (State::ReadBack, vec![(0, "written"), (1, "read_back"), (3, "read_back")])
        );
        record(4, State::Verified);
        let (state, told) = record(5, State::ReadBack);
        assert_eq!(state, State::Verified);
        assert_eq!(told[2..], [(3, "read_back"), (4, "verified"), (5, "read_back")]);
        assert_eq!(record(6, State::Damaged).0, State::Damaged);
        assert_eq!(record(7, State::ReadBack).0, State::ReadBack);
    }
}
