//! Runs a job as the engine would: with a spawner, a clock and connections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use punk_eco_sched::clock::{Clock, SystemClock};
use punk_eco_sched::host::postgres::Connection;
use punk_eco_sched::host::process::{OutputLog, ProgramContext, Programs};
use punk_eco_sched::jobs::{HostContext, Job, JobContext, JobError};
use punk_eco_sched::logs::{RunLog, Stream};
use punk_eco_sched::model::{JobName, Report, RunId, Trigger};
use punk_eco_sched::spawner::{Settings, Spawner};
use tokio_util::sync::CancellationToken;

use super::daemon::processes_of;

/// Everything that a job needs, in a temporary folder.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connections: BTreeMap<String, Connection>,
    pub(crate) cancel: CancellationToken,
    pub(crate) dry_run: bool,
    pub(crate) said: Arc<Said>,
    spawner: Spawner,
}

/// What programs print.
#[derive(Default)]
pub(crate) struct Said(Mutex<Vec<u8>>);

impl OutputLog for Said {
    fn output(&self, _: Stream, _: Timestamp, bytes: &[u8]) -> u64 {
        self.0.lock().unwrap().extend_from_slice(bytes);
        bytes.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn end_output(&self, _: Stream, _: Timestamp) {}

    fn note(&self, _: Timestamp, text: &str) {
        self.output(Stream::Note, Timestamp::UNIX_EPOCH, text.as_bytes());
    }

    fn lines_logged(&self, _: Stream) -> u64 {
        0
    }

    fn skip_lines(&self, _: Stream, _: u64) {}
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path().join("control.sock"), folder.path().to_owned());
        settings.executable = env!("CARGO_BIN_EXE_punk-eco-sched").into();
        let launched = Spawner::launch(settings).unwrap();
        let spawner = Spawner::connect(launched, Arc::new(SystemClock)).await.unwrap();
        Self {
            folder,
            clock: Arc::new(SystemClock),
            connections: BTreeMap::new(),
            cancel: CancellationToken::new(),
            dry_run: false,
            said: Arc::default(),
            spawner,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn run(&self, job: &dyn Job) -> Result<Report, JobError> {
        job.run(&self.context()).await
    }

    pub(crate) fn context(&self) -> JobContext {
        JobContext {
            job: JobName::new("db-backup").unwrap(),
            run: RunId(7),
            attempt: 1,
            trigger: Trigger::Manual,
            slot: None,
            zone: jiff::tz::TimeZone::UTC,
            dry_run: self.dry_run,
            clock: self.clock.clone(),
            log: RunLog::memory(),
            programs: self.programs(),
            connections: Arc::new(self.connections.clone()),
            state: self.folder.path().to_owned(),
            cancel: self.cancel.clone(),
            deadline: None,
        }
    }

    pub(crate) fn host(&self) -> HostContext {
        HostContext {
            connections: Arc::new(self.connections.clone()),
            clock: self.clock.clone(),
            user: None,
            path: None,
        }
    }

    fn programs(&self) -> Programs {
        self.spawner.programs(ProgramContext::new(
            JobName::new("db-backup").unwrap(),
            RunId(7),
            1,
            self.said.clone(),
        ))
    }
}

impl Drop for Bench {
    /// A spawner that holds an exit which nobody has asked for waits for a next daemon; here none comes.
    fn drop(&mut self) {
        kill_all_of(self.folder.path());
    }
}

/// Every process that names this folder.
pub(crate) fn kill_all_of(folder: &Path) {
    for (pid, _) in processes_of(folder) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The names in a folder, hidden ones too, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A small file system of its own, where this process may mount one (root).
pub(crate) struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        Self::mount_with(at, &format!("size={size}"))
    }

    /// `options` as tmpfs(5) knows them.
    pub(crate) fn mount_with(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let data = std::ffi::CString::new(options).unwrap();
        match rustix::mount::mount(
            "none",
            at,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(data.as_c_str()),
        ) {
            Ok(()) => Some(Self(at.to_owned())),
            Err(error @ rustix::io::Errno::PERM) => {
                super::missing::skipped(&format!("no tmpfs can be mounted: {error}"));
                None
            }
            Err(error) => panic!("a tmpfs at {}: {error}", at.display()),
        }
    }
}

impl SmallDisk {
    /// What is on it stays.
    pub(crate) fn resize(&self, size: &str) {
        let data = std::ffi::CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount_remount(&self.0, rustix::mount::MountFlags::empty(), data.as_c_str()).unwrap();
    }

    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
