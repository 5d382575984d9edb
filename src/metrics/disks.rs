//! What `/metrics` tells of files: the newest backup of each job, the ledger, the logs, jobs.yaml. Reads manifests and
//! sizes, never a backup; whoever asks is not kept waiting by a file system that does not answer.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::look::{Ages, Looks};
use crate::backup::newest::newest;
use crate::clock::Clock;
use crate::config::{self, Environment, JobTable};
use crate::jobs::Backs;
use crate::model::JobName;

/// A folder's names and sizes are not asked for with each scrape.
const FRESH: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(300);
/// Of one scrape, for all of them together: Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// A folder that has not changed is read again after this time: a backup dated in the future comes of age.
const UNCHANGED: Duration = Duration::from_secs(600);

/// What a scrape tells of files; what could not be read in time is missing.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Of each job that makes backups; none: its folder can't be read.
    pub(super) backups: BTreeMap<JobName, Option<Newest>>,
    /// Of the database, and of its log of changes.
    pub(super) ledger: Option<[u64; 2]>,
    pub(super) logs: Option<u64>,
    pub(super) config_changed: Option<bool>,
}

/// What is known of a job's newest backup, if there is any.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Newest {
    None,
    One { begun: Timestamp, bytes: Option<u64>, proof: String },
}

/// What was looked at so far.
pub(super) struct Disks {
    backups: Arc<Looks<Folder, Found>>,
    sizes: Arc<Looks<PathBuf, Option<u64>>>,
    logs: Arc<Looks<PathBuf, Option<u64>>>,
    config: Arc<Looks<PathBuf, Option<Text>>>,
}

/// A folder, and the backups to look for in it: of which job, and what they are of.
pub(super) type Folder = (PathBuf, Vec<(String, String)>);

pub(super) struct Found {
    stamp: Option<Stamp>,
    at: Duration,
    pub(super) newest: Vec<Option<Newest>>,
}

/// jobs.yaml when it looked so.
struct Text {
    stamp: Stamp,
    hash: String,
}

/// Tells whether a file or folder is still as it was.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a further change would show: the kernel's time stamps move on in steps.
    fn is_settled(&self, now: Timestamp) -> bool {
        now.as_second() - self.changed.0 > 2
    }
}

impl Disks {
    pub(super) fn new() -> Self {
        Self { backups: Looks::new(), sizes: Looks::new(), logs: Looks::new(), config: Looks::new() }
    }

    pub(super) async fn look(
        &self,
        table: &Arc<JobTable>,
        environment: &Environment,
        clock: &Arc<dyn Clock>,
    ) -> Files {
        let folders = Ages { now: clock.since_boot(), fresh: FRESH, stale: STALE, patience: PATIENCE };
        let files = Ages { fresh: Duration::ZERO, ..folders };
        let state = &table.paths.state;
        let ledger = [state.join("ledger.db"), state.join("ledger.db-wal")];
        let (backups, sizes, logs, config) = tokio::join!(
            self.backups(table, folders, clock.now()),
            self.sizes.at(ledger.to_vec(), files, |path, _| size(path)),
            self.logs.at(vec![table.paths.logs.clone()], folders, |folder, _| logs_in(folder).ok()),
            self.config(table, files, environment, clock.now()),
        );
        let sizes = ledger.map(|path| sizes.get(&path).and_then(|size| **size));
        Files {
            backups,
            ledger: if let [Some(database), Some(changes)] = sizes {
                Some([database, changes])
            } else {
                None
            },
            logs: logs.get(&table.paths.logs).and_then(|size| **size),
            config_changed: config,
        }
    }

    async fn backups(
        &self,
        table: &JobTable,
        ages: Ages,
        now: Timestamp,
    ) -> BTreeMap<JobName, Option<Newest>> {
        let mut folders: HashMap<PathBuf, Vec<(String, String)>> = HashMap::new();
        let mut jobs = vec![];
        for spec in &table.jobs {
            let Some(kept) = spec.job.keeps(spec.name.as_str()) else { continue };
            let of = match &kept.of {
                Backs::Files(name) => name.clone(),
                Backs::Database(connection) => match table.connections.get(connection.as_str()) {
                    Some(connection) => connection.database.clone(),
                    None => continue,
                },
            };
            let folder = folders.entry(kept.directory.clone()).or_default();
            jobs.push((spec.name.clone(), kept.directory, folder.len()));
            folder.push((kept.job, of));
        }
        let wanted: Vec<Folder> = folders.into_iter().collect();
        let found =
            self.backups.at(wanted, ages, move |folder, before| look_for(folder, before, ages.now, now));
        let found: HashMap<PathBuf, Arc<Found>> =
            found.await.into_iter().map(|((path, _), found)| (path, found)).collect();
        let newest = |(job, folder, at): (JobName, PathBuf, usize)| {
            (job, found.get(&folder).and_then(|found| found.newest.get(at).cloned().flatten()))
        };
        jobs.into_iter().map(newest).collect()
    }

    async fn config(
        &self,
        table: &JobTable,
        ages: Ages,
        environment: &Environment,
        now: Timestamp,
    ) -> Option<bool> {
        let environment = environment.clone();
        let read = move |path: &PathBuf, before: Option<&Option<Text>>| {
            let stamp = Stamp::of(&fs::metadata(path).ok()?);
            if let Some(Some(before)) = before
                && before.stamp == stamp
                && stamp.is_settled(now)
            {
                return Some(Text { stamp, hash: before.hash.clone() });
            }
            Some(Text { stamp, hash: config::hash_of(path, &environment).ok()? })
        };
        let found = self.config.at(vec![table.file.clone()], ages, read).await;
        let found = found.into_values().next()?;
        Some(found.as_ref().as_ref().is_none_or(|text| text.hash != table.hash))
    }
}

pub(super) fn look_for((path, jobs): &Folder, before: Option<&Found>, at: Duration, now: Timestamp) -> Found {
    let stamp = fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
    if let Some(before) = before
        && before.stamp == stamp
        && stamp.is_some_and(|stamp| stamp.is_settled(now))
        && at.saturating_sub(before.at) < UNCHANGED
    {
        return Found { stamp, at: before.at, newest: before.newest.clone() };
    }
    let look = |(job, of): &(String, String)| match newest(path, of, job, now, |_| {}) {
        Ok(None) => Some(Newest::None),
        Ok(Some(head)) => Some(Newest::One {
            begun: head.started_at,
            bytes: head.bytes,
            proof: head.proof.map_or_else(|| "written".to_owned(), |proof| proof.state),
        }),
        Err(error) => {
            tracing::debug!("metrics: {error}");
            None
        }
    };
    Found { stamp, at, newest: jobs.iter().map(look).collect() }
}

fn size(path: &Path) -> Option<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Some(metadata.len()),
        // The log of changes comes and goes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
        Err(_) => None,
    }
}

/// `<job>.log`, `<job>.log.1` and so on; others may keep theirs in the same folder.
fn logs_in(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_log = match name.rsplit_once(".log") {
            Some((_, "")) => true,
            Some((_, rest)) => rest.strip_prefix('.').is_some_and(is_number),
            None => false,
        };
        if is_log && let Ok(metadata) = entry.metadata() {
            sum += metadata.len();
        }
    }
    Ok(sum)
}
