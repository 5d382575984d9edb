//! A real daemon in a temporary directory, and its command line.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_punk-eco-sched");

/// How long anything may take before a test gives up; only ever reached when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host's folders: configuration, state, logs, socket. Daemons come and go on it.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
}

impl Host {
    /// `jobs` is what stands under `jobs:`, indented by two spaces.
    pub(crate) fn new(jobs: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("pes-").tempdir().unwrap();
        let host = Self { dir };
        host.write_jobs(jobs);
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("jobs.yaml")
    }

    pub(crate) fn write_jobs(&self, jobs: &str) {
        self.write_table("", jobs);
    }

    /// `top` is what stands beside `jobs:`.
    pub(crate) fn write_table(&self, top: &str, jobs: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "timezone: UTC\npaths: {{ state: {dir}/state, logs: {dir}/logs, socket: {dir}/control.sock }}\n{top}\njobs:\n{jobs}\n"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// Starts a daemon and waits until it answers.
    pub(crate) fn daemon(&self) -> Daemon<'_> {
        let daemon = self.spawn_daemon();
        wait_until("the daemon answers", || self.cli(&["status"]).status.success());
        daemon
    }

    pub(crate) fn spawn_daemon(&self) -> Daemon<'_> {
        self.spawn(&[], |_| {})
    }

    /// `change` adds arguments or variables.
    pub(crate) fn spawn_daemon_with(&self, change: impl FnOnce(&mut Command)) -> Daemon<'_> {
        self.spawn(&[], change)
    }

    /// `wrapper`: a program that becomes the daemon, with its arguments.
    pub(crate) fn spawn_daemon_under(&self, wrapper: &[&str]) -> Daemon<'_> {
        self.spawn(wrapper, |_| {})
    }

    fn spawn(&self, wrapper: &[&str], change: impl FnOnce(&mut Command)) -> Daemon<'_> {
        let words = [wrapper, &[PROGRAM]].concat();
        let log = std::fs::File::options().create(true).append(true).open(self.path("daemon.err")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut daemon = Command::new(words[0]);
        daemon
            .args(&words[1..])
            .args(["--config", self.config().to_str().unwrap(), "daemon"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        change(&mut daemon);
        Daemon { child: daemon.spawn().unwrap(), host: self }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(self.config()).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a verb that must succeed, and reads what it prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output.stdout)))
    }

    /// Rows of a job, newest first; none where there is no ledger yet.
    pub(crate) fn history(&self, job: &str) -> Vec<Value> {
        let output = self.cli(&["history", job, "--json"]);
        serde_json::from_slice::<Value>(&output.stdout)
            .ok()
            .and_then(|rows| rows.as_array().cloned())
            .unwrap_or_default()
    }

    /// Waits until the newest row of a job satisfies a condition.
    pub(crate) fn wait_for(&self, job: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        wait_until(&format!("{job}: {what}"), || {
            found = self.history(job).into_iter().next().unwrap_or(Value::Null);
            !found.is_null() && condition(&found)
        });
        found
    }

    pub(crate) fn wait_for_outcome(&self, job: &str, outcome: &str) -> Value {
        self.wait_for(job, outcome, |row| row["outcome"] == outcome)
    }

    pub(crate) fn log(&self, job: &str) -> String {
        std::fs::read_to_string(self.path(&format!("logs/{job}.log"))).unwrap_or_default()
    }

    pub(crate) fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.err")).unwrap_or_default()
    }

    /// Everything that was left behind of this host: processes that mention its folder.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        processes_of(self.dir.path())
    }
}

pub(crate) struct Daemon<'a> {
    child: Child,
    host: &'a Host,
}

impl Daemon<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// As a power cut for the daemon, and for it alone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut ended = None;
        wait_until("the daemon ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- the daemon said:\n{}", self.host.daemon_log());
        }
    }
}

impl Drop for Host {
    /// What a test that failed left behind is ended by pid, spawners included.
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Processes whose command line, environment or working folder mentions a path. Zombies mention nothing.
pub(crate) fn processes_of(path: &Path) -> Vec<(u32, String)> {
    let needle = path.to_str().unwrap().as_bytes();
    let mentions = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        if mentions(&command) || mentions(&read("environ")) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// Waits on a condition, never on a time.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
