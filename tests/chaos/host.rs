//! A host of its own for one seed: folders, a clock, a daemon that comes and goes, and the record of all that.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use punk_eco_sched::api::client::Client;
use rustix::process::{Pid, Signal, kill_process};

use crate::evidence::steady;
use crate::timeline::{Entry, Job, What};
use crate::warp::Offsets;

/// How long anything may take before the seed has failed; only ever reached when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) dir: PathBuf,
    pub(crate) real: bool,
    pub(crate) timeline: Vec<Entry>,
    pub(crate) daemon: Option<Child>,
    /// Each a `run-now` that needs no daemon.
    alone: Vec<Child>,
    pub(crate) frozen: bool,
    /// The state directory is a small disk of its own.
    pub(crate) small_disk: bool,
    pub(crate) full: bool,
}

impl Host {
    pub(crate) fn new(dir: &Path, real: bool) -> Self {
        for name in ["state", "logs", "locks"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        File::create(dir.join("evidence")).unwrap();
        let small_disk = rustix::process::geteuid().is_root() && {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("chaos", dir.join("state"), "tmpfs", flags, Some(c"size=12m")).is_ok()
        };
        Self {
            dir: dir.to_owned(),
            real,
            timeline: vec![],
            daemon: None,
            alone: vec![],
            frozen: false,
            small_disk,
            full: false,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        Offsets::read(&self.dir).now()
    }

    pub(crate) fn record(&mut self, wall: i64, what: What) {
        self.timeline.push(Entry { wall, steady: steady(), what });
    }

    pub(crate) fn faults(&self) -> usize {
        self.timeline.iter().filter(|entry| entry.what.is_fault()).count()
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.record(self.now(), What::Note(text.into()));
    }

    /// Time passes (all clocks), the machine sleeps (`awake` stands), or somebody sets the clock (the wall alone).
    pub(crate) fn jump(&mut self, wall: i64, boot: i64, awake: i64, how: &str) {
        let mut offsets = Offsets::read(&self.dir);
        let to = offsets.now() + wall;
        offsets.wall += wall;
        offsets.boot += boot;
        offsets.awake += awake;
        offsets.write(&self.dir);
        // Somebody may have read the old clock until now, and the new one from `to` on.
        self.record(offsets.now() - wall, What::Jumped { to, how: how.to_owned() });
    }

    fn program(&self) -> PathBuf {
        if self.real {
            PathBuf::from(env!("CARGO_BIN_EXE_punk-eco-sched"))
        } else {
            std::env::current_exe().unwrap()
        }
    }

    fn command(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut command = Command::new(self.program());
        let log = File::options().create(true).append(true).open(self.dir.join("daemon.err")).unwrap();
        if self.real {
            command.arg("--config").arg(self.dir.join("jobs.yaml")).args(["daemon", "--grace", "200ms"]);
        } else {
            command.arg("daemon").arg(self.dir.join("jobs.yaml"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        command
    }

    /// Starts the daemon and does not wait.
    pub(crate) fn spawn(&mut self, jobs: &[Job]) {
        assert!(self.daemon.is_none());
        let (accounted, tables) = self.written();
        self.record(self.now(), What::Started { jobs: jobs.to_vec(), accounted, tables });
        self.daemon = Some(self.command().spawn().unwrap());
        self.frozen = false;
    }

    /// Waits until it answers, and has dealt with all that was due.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap()) {
                return Err(format!("the daemon ended by itself at its start: {status}"));
            }
            if let Ok(mut client) = Client::connect(&self.dir.join("control.sock"))
                && Some(client.daemon_pid()) == self.daemon.as_ref().map(Child::id)
                && client.status().is_ok()
            {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err("the daemon does not answer after its start".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.record(self.now(), What::Ready);
        self.sync()
    }

    /// A second daemon on the same state: it must go, and leave the first alone.
    pub(crate) fn try_second_daemon(&mut self) -> Result<(), String> {
        let mut second = self.command().spawn().unwrap();
        let status = wait(&mut second)?;
        if status.success() {
            return Err("a second daemon on the same state ended with 0".into());
        }
        self.record(self.now(), What::SecondDaemon);
        self.sync()
    }

    /// Returns when the daemon has dealt with all that was due at the call.
    pub(crate) fn sync(&mut self) -> Result<(), String> {
        let wall = self.now();
        let mut client = self.client()?;
        // The engine takes messages in turns, and a turn is over when its slots are in the ledger: the second answer
        // comes from a later turn than the first.
        for _ in 0..2 {
            client.status().map_err(|error| format!("no status: {error}"))?;
        }
        let until = self.now();
        self.record(wall, What::Synced { until });
        Ok(())
    }

    pub(crate) fn client(&mut self) -> Result<Client, String> {
        if let Some(status) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap()) {
            return Err(format!("the daemon ended by itself: {status}"));
        }
        Client::connect(&self.dir.join("control.sock")).map_err(|error| error.to_string())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.daemon.as_ref().map(Child::id).unwrap();
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
    }

    /// Waits for the end of the daemon, that was told to end or killed.
    pub(crate) fn reap(&mut self, how: &str) -> Result<(), String> {
        let mut daemon = self.daemon.take().unwrap();
        self.frozen = false;
        wait(&mut daemon)?;
        // A killed daemon's last instant may lie after what it was told to do.
        let (wall, (accounted, tables)) = (self.now(), self.written());
        self.record(wall, What::Down { how: how.to_owned(), accounted, tables });
        Ok(())
    }

    pub(crate) fn kill_spawners(&mut self) {
        for pid in self.spawners() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        self.record(self.now(), What::SpawnerKilled);
    }

    fn spawners(&self) -> Vec<i32> {
        let ours = |(_, command): &(i32, String)| command.contains(" __spawner ");
        self.processes().into_iter().filter(ours).map(|(pid, _)| pid).collect()
    }

    /// What the ledger says of the last instant that was dealt with, and how many tables it has. From a copy, as after a power cut: opening the
    /// file itself would mend what the next daemon is to mend.
    fn written(&self) -> (Option<i64>, i64) {
        let copy = self.dir.join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        for name in ["ledger.db", "ledger.db-wal"] {
            if std::fs::copy(self.dir.join("state").join(name), copy.join(name)).is_err()
                && name == "ledger.db"
            {
                return (None, 0);
            }
        }
        let ledger = rusqlite::Connection::open(copy.join("ledger.db")).unwrap();
        let number = |sql: &str| ledger.query_row(sql, [], |row| row.get(0)).ok();
        (number("SELECT until FROM accounted"), number("SELECT count(*) FROM tables").unwrap_or(0))
    }

    /// The highest number of a row, of those that are on the disk.
    pub(crate) fn last_row(&self) -> i64 {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = rusqlite::Connection::open_with_flags(self.dir.join("state/ledger.db"), flags).unwrap();
        ledger.busy_timeout(PATIENCE).unwrap();
        ledger.query_row("SELECT ifnull(max(id), 0) FROM runs", [], |row| row.get(0)).unwrap()
    }

    /// `run-now` in a process of its own, which does not need a daemon.
    pub(crate) fn run_alone(&mut self, job: &str) {
        let program = self.program();
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut command = Command::new(program);
        let config = self.dir.join("jobs.yaml");
        if self.real {
            command.arg("--config").arg(config).args(["run-now", job]);
        } else {
            command.arg("run-now").arg(config).arg(job);
        }
        let log = File::options().create(true).append(true).open(self.dir.join("run-now.err")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.record(self.now(), What::Alone { job: job.to_owned() });
        self.alone.push(command.spawn().unwrap());
    }

    pub(crate) fn kill_alone(&mut self) {
        for mut child in self.alone.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.record(self.now(), What::AloneKilled);
    }

    pub(crate) fn wait_for_alone(&mut self) -> Result<(), String> {
        std::mem::take(&mut self.alone).iter_mut().try_for_each(|child| wait(child).map(drop))
    }

    pub(crate) fn fill_disk(&mut self) {
        use std::io::Write;
        // From here on rows may wait in memory: what begins just as the last block is taken finds no row.
        self.record(self.now(), What::DiskFull);
        if let Ok(mut ballast) = File::create(self.dir.join("state/ballast")) {
            let zeros = vec![0_u8; 1 << 16];
            while ballast.write(&zeros).is_ok_and(|written| written > 0) {}
        }
        self.full = true;
    }

    pub(crate) fn free_disk(&mut self) {
        let _ = std::fs::remove_file(self.dir.join("state/ballast"));
        self.full = false;
        self.record(self.now(), What::DiskFree);
    }

    /// Processes that mention the host's folder, itself and zombies apart.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let needle = self.dir.to_str().unwrap().as_bytes();
        let mut found = vec![];
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if command.windows(needle.len()).any(|window| window == needle) {
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
        found.retain(|(pid, _)| pid.unsigned_abs() != std::process::id());
        found
    }

    /// What the product's own audit has to say, by the program as it ships: it and the checker must agree.
    pub(crate) fn audit(&self) -> Vec<String> {
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_punk-eco-sched"));
        command.arg("--config").arg(self.dir.join("jobs.yaml")).arg("audit");
        let said = command.stdin(Stdio::null()).output().unwrap();
        if said.status.success() {
            return vec![];
        }
        let text =
            [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        std::iter::once(said.status.to_string()).chain(text.lines().take(20).map(str::to_owned)).collect()
    }

    /// The ledger as it is when nothing runs any more, for the checker and for people.
    pub(crate) fn keep_ledger(&self) -> PathBuf {
        let kept = self.dir.join("ledger");
        std::fs::create_dir_all(&kept).unwrap();
        for name in ["ledger.db", "ledger.db-wal"] {
            let _ = std::fs::copy(self.dir.join("state").join(name), kept.join(name));
        }
        kept.join("ledger.db")
    }

    /// Writes what happened where a person, or a checker run by hand, finds it.
    pub(crate) fn keep_timeline(&self) {
        let lines: Vec<String> =
            self.timeline.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
        std::fs::write(self.dir.join("schedule"), lines.join("\n") + "\n").unwrap();
    }
}

impl Drop for Host {
    /// Nothing of a seed outlives it, whatever it came to.
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for mut child in self.alone.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for (pid, _) in left {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.small_disk {
            let _ = rustix::mount::unmount(self.dir.join("state"), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus, String> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Ok(status);
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err("a daemon does not end".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
