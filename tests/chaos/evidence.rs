//! What a job of the table does: it writes what it did to a file that the daemon knows nothing of, and holds a lock for
//! as long as it, or anything that it started, lives.
//!
//! A line is appended in one write: `S job run slot pid wall steady born flags` at the start,
//! `E job run pid wall steady code` at the end; times in microseconds, `steady` and `born` never bent.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use punk_eco_sched::clock::{Clock, SystemClock};

use crate::warp::Offsets;

pub(crate) const VERB: &str = "evidence";

/// Arguments: host, job, locks (by commas, `-`: none), behaviour, its number.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [host, job, locks, behaviour, number] = arguments else { return ExitCode::from(99) };
    let work = Work { host: PathBuf::from(host), job: job.clone() };
    let number: i64 = number.parse().unwrap_or(0);
    if behaviour == "linger" {
        work.sleep(number);
        return ExitCode::SUCCESS;
    }
    if behaviour == "stubborn" {
        let ignored = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored).unwrap();
    }
    let mut flags = vec![];
    let held: Vec<File> = locks.split(',').filter_map(|name| work.lock(name, &mut flags)).collect();
    work.start(&flags);
    let code = match behaviour.as_str() {
        "fail" => u8::try_from(number).unwrap_or(1),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number.unsigned_abs()));
            0
        }
        "long" | "stubborn" => {
            work.sleep(number);
            0
        }
        "child" => {
            work.leave_child(number);
            0
        }
        "crash" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            77
        }
        _ => 0,
    };
    work.end(code);
    drop(held);
    ExitCode::from(code)
}

pub(crate) fn steady() -> i64 {
    i64::try_from(SystemClock.awake().as_micros()).unwrap()
}

struct Work {
    host: PathBuf,
    job: String,
}

impl Work {
    fn lock(&self, name: &str, flags: &mut Vec<String>) -> Option<File> {
        if name == "-" {
            return None;
        }
        let path = self.host.join("locks").join(name);
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path).unwrap();
        if file.try_lock().is_err() {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            flags.push(format!("beside:{name}:{}", holder.trim()));
            return None;
        }
        file.set_len(0).unwrap();
        (&file).write_all(run().as_bytes()).unwrap();
        // What this process leaves behind is to hold it too.
        rustix::io::fcntl_setfd(file.as_fd(), rustix::io::FdFlags::empty()).unwrap();
        Some(file)
    }

    fn start(&self, flags: &[String]) {
        let slot = std::env::var("PUNK_ECO_SLOT").unwrap_or_default();
        let slot = if slot.is_empty() { "-".to_owned() } else { slot };
        let mut flags = flags.to_vec();
        let number: i64 = run().parse().unwrap_or(0);
        if number % 3 == 0 && !claimed(&self.host, number, &self.job) {
            flags.push("unclaimed".into());
        }
        let (offsets, pid) = (Offsets::read(&self.host), std::process::id());
        let flags = if flags.is_empty() { "-".to_owned() } else { flags.join(",") };
        let (job, run, now, born) = (&self.job, run(), offsets.now(), born());
        self.write(&format!("S {job} {run} {slot} {pid} {now} {} {born} {flags}\n", steady()));
    }

    fn end(&self, code: u8) {
        let now = Offsets::read(&self.host).now();
        self.write(&format!("E {} {} {} {now} {} {code}\n", self.job, run(), std::process::id(), steady()));
    }

    fn write(&self, line: &str) {
        let mut file = File::options().append(true).open(self.host.join("evidence")).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }

    /// For so many seconds of the host's time.
    fn sleep(&self, seconds: i64) {
        let until = Offsets::read(&self.host).since_boot() + seconds * 1_000_000;
        while Offsets::read(&self.host).since_boot() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// In a session of its own, so that only its mark tells whose it is.
    fn leave_child(&self, seconds: i64) {
        use std::os::unix::process::CommandExt;
        #[expect(clippy::disallowed_methods, reason = "a job that leaves something behind")]
        let mut command = std::process::Command::new("/proc/self/exe");
        let host = self.host.to_str().unwrap();
        command.args([VERB, host, &self.job, "-", "linger", &seconds.to_string()]).process_group(0);
        let _ = command.spawn();
    }
}

/// When this process was made, as steady time: its parent lived then. In whole ticks of 10 ms.
fn born() -> i64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: i64 = fields.split(' ').nth(19).unwrap().parse().unwrap();
    // The kernel counts from boot, suspends included.
    let suspended = SystemClock.since_boot().saturating_sub(SystemClock.awake());
    ticks * 10_000 - i64::try_from(suspended.as_micros()).unwrap()
}

fn run() -> String {
    std::env::var("PUNK_ECO_RUN").unwrap_or_default()
}

/// Whether the ledger has the run: it must, before the run's program is started.
fn claimed(host: &Path, run: i64, job: &str) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(ledger) = rusqlite::Connection::open_with_flags(host.join("state/ledger.db"), flags) else {
        return true;
    };
    let _ = ledger.busy_timeout(Duration::from_secs(5));
    let found: rusqlite::Result<i64> = ledger.query_row(
        "SELECT count(*) FROM runs JOIN attempts ON attempts.run = runs.id WHERE runs.id = ?1 AND job = ?2",
        rusqlite::params![run, job],
        |row| row.get(0),
    );
    // A ledger that can't be read proves nothing.
    found.map_or(true, |count| count > 0)
}
