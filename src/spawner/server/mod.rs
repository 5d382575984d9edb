//! The spawner's own process: one thread, one epoll loop, no timers while nothing runs.
//!
//! Is the parent of every program and, as their subreaper, of all that they leave behind. Never reads a
//! configuration, a ledger or a log: what it knows it was told over the socket.

mod connection;
mod daemon;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod program;
mod programs;
mod record;
mod start;
mod sweep;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use self::connection::Connection;
use self::program::Program;
use self::record::Record;
use self::sweep::Sweep;
use super::protocol::{RunKey, ToDaemon};
use super::rendezvous::Places;
use crate::clock::{Clock, SystemClock};
use crate::host::cgroup::{Delegated, RunCgroup};
use crate::host::process::Process;
use crate::host::procfs;
use crate::model::Outcome;

/// The name of the first argument that leads here.
pub const VERB: &str = "__spawner";

const SIGNAL: u64 = 0;
const LISTENER: u64 = 1;
const CONNECTION: u64 = 2;
/// Of the two lowest bits of a program's event: 0 and 1 are its streams.
const STARTING: u64 = 2;

/// `args`: what follows [`VERB`]: the path of the daemon's control socket and the state directory. Standard
/// input is the connection to the daemon. Must be called before any thread is started.
pub fn main(args: &[OsString]) -> ExitCode {
    main_with(args, Box::new(SystemClock))
}

/// As [`main`], by another clock.
pub fn main_with(args: &[OsString], clock: Box<dyn Clock>) -> ExitCode {
    let [prefix, state] = args else { return ExitCode::from(2) };
    // It would be `exe`, which systemd's "left-over process" tells nobody.
    let _ = rustix::thread::set_name(c"punk-eco-spawn");
    let Ok(mut server) = Server::new(PathBuf::from(state), clock) else { return ExitCode::FAILURE };
    let places = Places { state: Path::new(state), control_socket: Path::new(prefix) };
    match places.listen(procfs::own_pid()) {
        Ok((listener, path)) => {
            server.record = Record::new(places.record_of(procfs::own_pid()));
            if let Some(delegated) = &server.delegated {
                delegated.remove_empty();
            }
            server.listen(listener, path);
        }
        Err(error) => {
            server.say(&ToDaemon::Refused { reason: format!("{error:#}"), busy: None });
            server.flush();
            return ExitCode::FAILURE;
        }
    }
    server.serve();
    ExitCode::SUCCESS
}

struct Server {
    clock: Box<dyn Clock>,
    epoll: OwnedFd,
    signals: UnixStream,
    listener: Option<(UnixListener, PathBuf)>,
    /// Whether epoll watches the listener.
    listens: bool,
    connection: Option<Connection>,
    state: PathBuf,
    record: Record,
    /// Where each run has a cgroup of its own.
    delegated: Option<Delegated>,
    /// The limits of open files for programs and for this process.
    limit: Option<(Rlimit, Rlimit)>,
    programs: HashMap<u64, Program>,
    by_pid: HashMap<i32, u64>,
    runs: HashMap<RunKey, Run>,
    sweeps: HashMap<RunKey, Sweep>,
    /// Of the process groups of all runs that are under way.
    groups: HashMap<i32, RunKey>,
    /// Children that were not started as programs, as far as it is known whose they are. Only this process reaps
    /// them, so that their numbers stay theirs.
    strays: HashMap<i32, RunKey>,
    next_id: u64,
    buffer: Box<[u8]>,
    /// Something changed that may let a sweep go on.
    look: bool,
    /// By SIGTERM, of which the host's shutdown sends one to every process.
    told_to_end: Arc<AtomicBool>,
}

/// A run from its first program until it was swept.
#[derive(Default)]
struct Run {
    /// Of its first program, since boot.
    since: Duration,
    /// Of all its processes; see `process::mark`.
    mark: u64,
    cgroup: Option<RunCgroup>,
    programs: Vec<u64>,
    /// The process groups that its programs lead or led.
    groups: Vec<i32>,
    /// Names for the answer to the daemon.
    ended: Vec<Process>,
    /// Why the daemon has it ended, where it does.
    cause: Option<Outcome>,
    /// Nothing of it runs any more; what is left is an exit that the daemon has not put on record.
    swept: bool,
}

impl Server {
    fn new(state: PathBuf, clock: Box<dyn Clock>) -> io::Result<Self> {
        let connection = Connection::new(connection::inherited()?)?;
        detach_from_daemon(&connection)?;
        let (signals, pipe) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        let told_to_end = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTERM, told_to_end.clone())?;
        signal_hook::low_level::pipe::register(SIGTERM, pipe.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGCHLD, pipe)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &signals, EventData::new_u64(SIGNAL), EventFlags::IN)?;
        epoll::add(&epoll, &connection.socket, EventData::new_u64(CONNECTION), EventFlags::IN)?;
        Ok(Self {
            clock,
            epoll,
            signals,
            listener: None,
            listens: false,
            connection: Some(connection),
            state,
            record: Record::default(),
            delegated: Delegated::own(),
            limit: raise_limit(),
            programs: HashMap::new(),
            by_pid: HashMap::new(),
            runs: HashMap::new(),
            sweeps: HashMap::new(),
            groups: HashMap::new(),
            strays: HashMap::new(),
            next_id: 1,
            buffer: vec![0; 64 * 1024].into_boxed_slice(),
            look: false,
            told_to_end,
        })
    }

    fn listen(&mut self, listener: UnixListener, path: PathBuf) {
        let _ = listener.set_nonblocking(true);
        self.listener = Some((listener, path));
    }

    fn serve(&mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        while !self.is_over() {
            let wait = self.end_silence().into_iter().chain(self.next_look()).min();
            let timeout = wait.map(|wait| rustix::event::Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            });
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
            for event in &events {
                let flags = event.flags;
                match event.data.u64() {
                    SIGNAL => self.reap(),
                    LISTENER => self.accept(),
                    CONNECTION => {
                        if flags.contains(EventFlags::OUT) {
                            self.flush();
                        }
                        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                            self.receive();
                        }
                    }
                    data if data & 3 == STARTING => self.hear_of_start(data >> 2),
                    data => self.read(data >> 2, usize::from(data & 3 == 1)),
                }
            }
            self.sweep();
            self.give_up();
            self.flush();
        }
        if let Some((_, path)) = self.listener.take() {
            let _ = std::fs::remove_file(path);
        }
        self.record.remove();
    }

    /// Told to end and left by its daemon, it holds no exit for one that may never come: the last process that waits
    /// would keep the host from going down. What still runs is not ended here, and is waited for.
    fn give_up(&mut self) {
        let alone = self.connection.is_none() && self.told_to_end.load(Ordering::Relaxed);
        let idle = self.sweeps.is_empty() && self.programs.values().all(|program| !program.is_live());
        if alone && idle && !self.programs.is_empty() {
            self.programs.clear();
            self.end_the_unknown();
        }
    }

    fn is_over(&self) -> bool {
        let wanted = self.connection.as_ref().is_some_and(|connection| {
            !connection.retire || !connection.greeted || connection.sent < connection.out.len()
        });
        !wanted && self.programs.is_empty() && self.sweeps.is_empty()
    }
}

/// Nothing of the daemon is to be held: no terminal, no folder, no descriptor, no signal meant for its group.
fn detach_from_daemon(connection: &Connection) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    // What the daemon itself was started with and never knew of.
    let listed: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in listed {
        if number > 2 && number != connection.socket.as_raw_fd() {
            let _ = nix::unistd::close(number);
        }
    }
    // Caught, not ignored: an ignored signal would stay ignored in every program.
    for signal in [SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// A thousand programs with two pipes each need more than the usual 1024; programs get the usual ones back.
fn raise_limit() -> Option<(Rlimit, Rlimit)> {
    let usual = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: usual.maximum, maximum: usual.maximum };
    if usual.current == usual.maximum {
        return None;
    }
    rustix::process::setrlimit(Resource::Nofile, raised).ok().map(|()| (usual, raised))
}
