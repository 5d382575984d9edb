//! Waits for the end of a program whose parent can't tell of it, and reads on what it writes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags};
use tokio::net::unix::pipe;

use super::super::{OutputLog, ends};
use super::{DIED, Leader, Orphan};
use crate::clock::Clock;
use crate::host::procfs;
use crate::logs::Stream;

/// What a process that has hung up may take until it is gone.
const DYING: Duration = Duration::from_secs(5);

pub(in super::super) struct Watch {
    orphan: Arc<Orphan>,
    log: Arc<dyn OutputLog>,
    clock: Arc<dyn Clock>,
    outputs: Option<[Option<Reading>; 2]>,
    /// Of the output that is read here, what may still be logged.
    allowance: u64,
    dropped: u64,
}

struct Reading {
    stream: Stream,
    pipe: pipe::Receiver,
}

impl Watch {
    pub(in super::super) fn new(
        orphan: Arc<Orphan>,
        log: Arc<dyn OutputLog>,
        clock: Arc<dyn Clock>,
        allowance: u64,
    ) -> Self {
        Self { orphan, log, clock, outputs: None, allowance, dropped: 0 }
    }

    /// Returns when the run's programs have ended, with the moment. May be dropped and called again.
    pub(in super::super) async fn wait(&mut self) -> Timestamp {
        if self.outputs.is_none() {
            self.let_the_spawner_die().await;
            let readings = [Stream::Stdout, Stream::Stderr].map(|stream| self.reading(stream));
            self.log.note(self.clock.now(), &self.first_words(&readings));
            self.outputs = Some(readings);
        }
        let orphan = self.orphan.clone();
        let ended = gone(&orphan);
        tokio::pin!(ended);
        loop {
            let [stdout, stderr] = self.outputs.get_or_insert_default();
            let stream = tokio::select! {
                biased;
                () = &mut ended => break,
                () = readable(stdout.as_ref()) => Stream::Stdout,
                () = readable(stderr.as_ref()) => Stream::Stderr,
            };
            self.read(stream, false);
        }
        let at = self.clock.now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            // What it wrote last; what it started may write on, and is not waited for.
            self.read(stream, true);
            self.log.end_output(stream, at);
        }
        if std::mem::take(&mut self.dropped) > 0 {
            self.log.note(at, "output was dropped: more than is kept of a program without a spawner");
        }
        at
    }

    /// The kernel closes a dying process's connections first: for a moment it still holds the other end of the output.
    async fn let_the_spawner_die(&self) {
        let dying = procfs::stat(self.orphan.spawner).filter(|_| self.orphan.trouble == DIED);
        if let Some(dying) = dying {
            let _ = tokio::time::timeout(DYING, ends::of(Leader::of(&dying))).await;
        }
    }

    fn first_words(&self, readings: &[Option<Reading>; 2]) -> String {
        let Orphan { spawner, trouble, .. } = &*self.orphan;
        let who = self.orphan.pid().map_or_else(|| "what it started".to_owned(), |pid| format!("pid {pid}"));
        let output = if readings.iter().any(Option::is_some) {
            "output that the spawner held is lost, what comes from now on is read"
        } else {
            "its further output can't be read"
        };
        format!(
            "the spawner (pid {spawner}) {trouble}: {who} is watched to its end, its exit status will not be known, \
             {output}"
        )
    }

    /// The other end of a program's output, where that is the pipe which its spawner has made for it.
    fn reading(&self, stream: Stream) -> Option<Reading> {
        // A living spawner reads it.
        let leader = self.orphan.leaders.first().filter(|_| self.orphan.spawner_is_dead())?;
        let pipe = our_pipe(*leader, if stream == Stream::Stdout { 1 } else { 2 }).ok()?;
        Some(Reading { stream, pipe: pipe::Receiver::from_owned_fd(pipe).ok()? })
    }

    /// Takes in what is there now. `last`: whether or not the kernel has told of it.
    fn read(&mut self, stream: Stream, last: bool) {
        let mut buffer = [0; 16 * 1024];
        let Some(outputs) = &mut self.outputs else { return };
        let Some(slot) = outputs.iter_mut().find(|one| one.as_ref().is_some_and(|one| one.stream == stream))
        else {
            return;
        };
        loop {
            let Some(one) = slot else { return };
            let got = if last {
                rustix::io::read(&one.pipe, &mut buffer).map_err(io::Error::from)
            } else {
                one.pipe.try_read(&mut buffer)
            };
            match got {
                Ok(0) => *slot = None,
                Ok(count) => {
                    let kept = usize::try_from(self.allowance).unwrap_or(usize::MAX).min(count);
                    self.allowance -= kept as u64;
                    self.dropped += (count - kept) as u64;
                    if kept > 0 {
                        self.log.output(stream, self.clock.now(), &buffer[..kept]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => *slot = None,
            }
        }
    }
}

/// Returns when there is something to read, or nothing more will come.
async fn readable(reading: Option<&Reading>) {
    let Some(reading) = reading else { return std::future::pending().await };
    // What is wrong with it, reading tells.
    let _ = reading.pipe.readable().await;
}

/// Opened anew through the program's own descriptor. A pipe that is open for both reading and writing is the spawner's
/// work; what the program has redirected elsewhere has another reader, from whom nothing must be taken.
fn our_pipe(leader: Leader, number: u8) -> io::Result<OwnedFd> {
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", leader.pid))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
    let flags = flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    let path = format!("/proc/{}/fd/{number}", leader.pid);
    let is_pipe = std::fs::read_link(&path)?.to_string_lossy().starts_with("pipe:[");
    if flags & OFlags::ACCMODE.bits() != OFlags::RDWR.bits() || !is_pipe || !leader.is_alive() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Returns when all programs of the run have ended; where it isn't known which they are, when all its processes have.
async fn gone(orphan: &Arc<Orphan>) {
    for leader in &orphan.leaders {
        ends::of(*leader).await;
    }
    if !orphan.leaders.is_empty() {
        return;
    }
    let mut known = std::collections::HashSet::new();
    while let Some(one) = orphan.left(&mut known).await.first() {
        ends::of(Leader::of(one)).await;
    }
}
