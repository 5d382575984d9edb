//! Programs under the spawner: output, exits, and that nothing outlives its run.

mod adoption;
mod output;
mod start;
mod sweep;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use punk_eco_sched::clock::SystemClock;
use punk_eco_sched::host::process::{
    Account, Keep, Output, OutputLog, Program, ProgramContext, Programs, StartError, Status, Stdin,
};
use punk_eco_sched::host::{accounts, procfs};
use punk_eco_sched::logs::Stream;
use punk_eco_sched::model::{JobName, RunId};
use punk_eco_sched::spawner::{AdoptedProgram, Settings, Spawner};

use crate::support::daemon::processes_of;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const GRACE: Duration = Duration::from_millis(300);

/// A log that is a file a stream, so that another process can go on with it.
struct Log {
    folder: PathBuf,
    partial: Mutex<BTreeMap<String, Vec<u8>>>,
    skip: Mutex<BTreeMap<String, u64>>,
    /// Kill this very process once so many lines are written, before anybody can be told of them.
    fatal: Option<usize>,
}

impl Log {
    fn new(folder: &Path) -> Arc<Self> {
        std::fs::create_dir_all(folder).unwrap();
        Arc::new(Self {
            folder: folder.to_owned(),
            partial: Mutex::default(),
            skip: Mutex::default(),
            fatal: None,
        })
    }

    fn append(&self, stream: &str, bytes: &[u8]) {
        let mut file =
            std::fs::File::options().create(true).append(true).open(self.folder.join(stream)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn text(&self, stream: &str) -> String {
        std::fs::read_to_string(self.folder.join(stream)).unwrap_or_default()
    }
}

impl OutputLog for Log {
    fn output(&self, stream: Stream, _: Timestamp, bytes: &[u8]) -> u64 {
        let name = format!("{stream:?}");
        let mut partial = self.partial.lock().unwrap();
        let waiting = partial.entry(name.clone()).or_default();
        waiting.extend_from_slice(bytes);
        let end = waiting.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole: Vec<u8> = waiting.drain(..end).collect();
        let mut lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let made = lines.len() as u64;
        let mut skip = self.skip.lock().unwrap();
        let skip = skip.entry(name.clone()).or_default();
        let skipped = made.min(*skip);
        *skip -= skipped;
        lines.drain(..usize::try_from(skipped).unwrap());
        if !lines.is_empty() {
            self.append(&name, &lines.concat());
        }
        if self.fatal.is_some_and(|fatal| self.text(&name).lines().count() >= fatal) {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        made
    }

    fn end_output(&self, stream: Stream, _: Timestamp) {
        let name = format!("{stream:?}");
        if let Some(rest) = self.partial.lock().unwrap().remove(&name) {
            self.append(&name, &rest);
        }
    }

    fn note(&self, _: Timestamp, text: &str) {
        self.append("Note", format!("{text}\n").as_bytes());
    }

    fn lines_logged(&self, stream: Stream) -> u64 {
        self.text(&format!("{stream:?}")).lines().count() as u64
    }

    fn skip_lines(&self, stream: Stream, lines: u64) {
        self.skip.lock().unwrap().insert(format!("{stream:?}"), lines);
    }
}

struct Host {
    _leftovers: Leftovers,
    folder: tempfile::TempDir,
    spawner: Spawner,
    pid: i32,
}

/// A spawner that holds an exit waits for a next daemon; after a test none comes.
struct Leftovers(PathBuf);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for (pid, _) in processes_of(&self.0) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::new(folder.join("control.sock"), folder.to_owned());
    settings.executable = env!("CARGO_BIN_EXE_punk-eco-sched").into();
    settings
}

impl Host {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launched = Spawner::launch(settings(folder.path())).unwrap();
        let spawner = Spawner::connect(launched, Arc::new(SystemClock)).await.unwrap();
        let pid = spawner.pid().await;
        Self { _leftovers: Leftovers(folder.path().to_owned()), folder, spawner, pid }
    }

    fn log(&self, job: &str) -> Arc<Log> {
        Log::new(&self.folder.path().join(job))
    }

    fn programs(&self, job: &str) -> Programs {
        self.spawner.programs(self.context(job))
    }

    fn context(&self, job: &str) -> ProgramContext {
        context(self.log(job), job)
    }

    /// What descends from the spawner.
    fn descendants(&self) -> Vec<String> {
        let all = procfs::all();
        let family = procfs::family(&all, &[self.pid]);
        family.iter().filter(|one| one.pid != self.pid).map(|one| one.name.clone()).collect()
    }
}

fn context(log: Arc<Log>, job: &str) -> ProgramContext {
    ProgramContext::new(JobName::new(job).unwrap(), RunId(7), 1, log)
}

fn shell(script: &str) -> Program {
    program(&["sh", "-c", script])
}

fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|one| (*one).to_owned()).collect(),
        env: vec![("PATH".into(), PATH.into())],
        stdout: Output::Log { tail: 4096 },
        stderr: Output::Log { tail: 4096 },
        ..Program::default()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
