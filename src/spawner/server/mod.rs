//! The spawner's own process: one thread, one epoll loop, no timers while nothing runs.
//!
//! Is the parent of every program and, as their subreaper, of all that they leave behind. Never reads a
//! configuration, a ledger or a log: what it knows it was told over the socket.

mod connection;
mod program;
mod start;
mod sweep;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, Rlimit, WaitOptions};

use self::connection::{Connection, Received};
use self::program::{Out, Program, Stop};
use self::sweep::{Sweep, Target};
use super::protocol::{RunKey, Start, ToDaemon, ToSpawner, VERSION, kind, put_message};
use super::rendezvous;
use crate::clock::{Clock, SystemClock};
use crate::host::process::{Process, Status};
use crate::host::procfs;
use crate::policy::TERM_GRACE;

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
    let [prefix, state] = args else { return ExitCode::from(2) };
    let Ok(mut server) = Server::new(PathBuf::from(state)) else { return ExitCode::FAILURE };
    match rendezvous::listen(Path::new(prefix), procfs::own_pid()) {
        Ok((listener, path)) => server.listen(listener, path),
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
    clock: SystemClock,
    epoll: OwnedFd,
    signals: UnixStream,
    listener: Option<(UnixListener, PathBuf)>,
    connection: Option<Connection>,
    state: PathBuf,
    /// The limits of open files for programs and for this process.
    limit: Option<(Rlimit, Rlimit)>,
    programs: HashMap<u64, Program>,
    by_pid: HashMap<i32, u64>,
    runs: HashMap<RunKey, Run>,
    sweeps: HashMap<RunKey, Sweep>,
    next_id: u64,
    buffer: Box<[u8]>,
    /// Something changed that may let a sweep go on.
    look: bool,
}

/// A run from its first program until it was swept.
#[derive(Default)]
struct Run {
    /// Of its first program, since boot.
    since: Duration,
    programs: Vec<u64>,
    /// The process groups that its programs lead or led.
    groups: Vec<i32>,
    ended: Vec<Process>,
}

impl Server {
    fn new(state: PathBuf) -> io::Result<Self> {
        let connection = Connection::new(connection::inherited()?)?;
        detach_from_daemon(&connection)?;
        let (signals, pipe) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, pipe)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &signals, EventData::new_u64(SIGNAL), EventFlags::IN)?;
        epoll::add(&epoll, &connection.socket, EventData::new_u64(CONNECTION), EventFlags::IN)?;
        Ok(Self {
            clock: SystemClock,
            epoll,
            signals,
            listener: None,
            connection: Some(connection),
            state,
            limit: raise_limit(),
            programs: HashMap::new(),
            by_pid: HashMap::new(),
            runs: HashMap::new(),
            sweeps: HashMap::new(),
            next_id: 1,
            buffer: vec![0; 64 * 1024].into_boxed_slice(),
            look: false,
        })
    }

    fn listen(&mut self, listener: UnixListener, path: PathBuf) {
        let _ = listener.set_nonblocking(true);
        let _ = epoll::add(&self.epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN);
        self.listener = Some((listener, path));
    }

    fn serve(&mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        while !self.is_over() {
            let timeout = self.next_look().map(|wait| rustix::event::Timespec {
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
            self.flush();
        }
        if let Some((_, path)) = self.listener.take() {
            let _ = std::fs::remove_file(path);
        }
    }

    fn is_over(&self) -> bool {
        let wanted = self.connection.as_ref().is_some_and(|connection| {
            !connection.retire || !connection.greeted || connection.sent < connection.out.len()
        });
        !wanted && self.programs.is_empty() && self.sweeps.is_empty()
    }

    // ---- the daemon

    fn accept(&mut self) {
        let Some((listener, _)) = &self.listener else { return };
        let Ok((socket, _)) = listener.accept() else { return };
        // The end of the daemon before this one may not have been noticed yet.
        self.receive();
        let Ok(mut new) = Connection::new(socket.into()) else { return };
        let uid = rustix::net::sockopt::socket_peercred(&new.socket).map(|peer| peer.uid);
        let refused = match (&self.connection, uid) {
            (Some(other), _) => Some(("another process is connected".to_owned(), Some(other.peer))),
            (_, Ok(uid)) if uid == rustix::process::geteuid() || uid.is_root() => None,
            _ => Some(("this spawner belongs to another user".to_owned(), None)),
        };
        if let Some((reason, busy)) = refused {
            put_message(&mut new.out, &ToDaemon::Refused { reason, busy }, 0);
            new.flush();
            return;
        }
        let _ = epoll::add(&self.epoll, &new.socket, EventData::new_u64(CONNECTION), EventFlags::IN);
        self.connection = Some(new);
    }

    fn receive(&mut self) {
        loop {
            let Some(connection) = &mut self.connection else { return };
            match connection.receive(&mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.disconnect(),
                Received::Some => {}
            }
            loop {
                let Some(connection) = &mut self.connection else { return };
                match connection.next() {
                    Ok(None) => break,
                    Err(_) => return self.disconnect(),
                    Ok(Some((frame, descriptors))) => match frame.kind {
                        kind::ACK => self.acknowledge(frame.ack()),
                        kind::MESSAGE => {
                            if let Some(message) = frame.message() {
                                self.obey(message, descriptors);
                            }
                        }
                        _ => {}
                    },
                }
            }
            self.flush();
        }
    }

    fn obey(&mut self, message: ToSpawner, descriptors: Vec<OwnedFd>) {
        let greeted = self.connection.as_ref().is_some_and(|connection| connection.greeted);
        match message {
            ToSpawner::Hello { version, state, retire } => self.greet(version, &state, retire),
            _ if !greeted => self.disconnect(),
            ToSpawner::Start(request) => self.start(&request, descriptors),
            ToSpawner::Attach { id } => {
                if let (Some(program), Some(connection)) = (self.programs.get_mut(&id), &mut self.connection)
                {
                    program.attach(&mut connection.out);
                    self.read(id, 0);
                    self.read(id, 1);
                    self.settle(id);
                }
            }
            ToSpawner::EndRun { token, run, grace_ms } => {
                self.begin_sweep(&run, Target::All, Duration::from_millis(grace_ms), Some(token));
            }
            ToSpawner::Forget { run, attempt } => {
                let done = |program: &Program| {
                    program.run == run && program.attempt == attempt && program.exit.is_some()
                };
                let gone: Vec<u64> =
                    self.programs.values().filter(|one| done(one)).map(|program| program.id).collect();
                gone.into_iter().for_each(|id| self.forget(id));
            }
        }
    }

    fn greet(&mut self, version: u32, state: &Path, retire: bool) {
        let wrong = if version != VERSION {
            Some(format!("it speaks version {VERSION} of the protocol, not {version}"))
        } else if state != self.state {
            Some(format!("it serves the state directory {}", self.state.display()))
        } else {
            None
        };
        if let Some(reason) = wrong {
            self.say(&ToDaemon::Refused { reason, busy: None });
            self.flush();
            return self.disconnect();
        }
        if let Some(connection) = &mut self.connection {
            connection.greeted = true;
            connection.retire = retire;
        }
        let mut programs: Vec<_> = self.programs.values().filter_map(Program::listed).collect();
        programs.sort_by_key(|program| program.id);
        let pid = procfs::own_pid();
        self.say(&ToDaemon::Welcome { version: VERSION, pid, next_id: self.next_id, programs });
    }

    fn disconnect(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        drop(connection);
        let runs: Vec<RunKey> = self.runs.keys().cloned().collect();
        let keeps = |server: &Self, run: &RunKey| server.of_run(run).any(|program| program.keep.is_some());
        for run in runs {
            let target = if keeps(self, &run) { Target::Unkept } else { Target::All };
            self.begin_sweep(&run, target, TERM_GRACE, None);
        }
        let all: Vec<u64> = self.programs.keys().copied().collect();
        for id in all {
            if let Some(program) = self.programs.get_mut(&id) {
                program.detach();
            }
            // Whatever waited for the daemon is held here now.
            self.read(id, 0);
            self.read(id, 1);
            self.settle(id);
        }
    }

    fn say(&mut self, message: &ToDaemon) {
        if let Some(connection) = &mut self.connection {
            put_message(&mut connection.out, message, 0);
        }
    }

    fn flush(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let was_full = connection.is_full();
        if !connection.flush() {
            return self.disconnect();
        }
        let waits = connection.sent < connection.out.len();
        if waits != connection.waits_to_send {
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _ = epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(CONNECTION), flags);
            connection.waits_to_send = waits;
        }
        if was_full && !connection.is_full() {
            let all: Vec<u64> = self.programs.keys().copied().collect();
            for id in all {
                self.watch(id);
            }
        }
    }

    // ---- programs

    fn start(&mut self, request: &Start, descriptors: Vec<OwnedFd>) {
        let id = request.id;
        self.next_id = self.next_id.max(id + 1);
        let started = match start::start(request, descriptors, self.limit.as_ref()) {
            Ok(started) => started,
            Err(failure) => {
                return self.say(&ToDaemon::Failed { id, host: failure.host, reason: failure.reason });
            }
        };
        let since = self.clock.since_boot();
        let fresh = || Run { since, ..Run::default() };
        let run = self.runs.entry(request.run.clone()).or_insert_with(fresh);
        run.programs.push(id);
        run.groups.push(started.pid);
        self.by_pid.insert(started.pid, id);
        if let Some(pipe) = &started.starting {
            let data = EventData::new_u64((id << 2) | STARTING);
            let _ = epoll::add(&self.epoll, pipe, data, EventFlags::IN);
        } else {
            self.say(&ToDaemon::Started { id, pid: started.pid.unsigned_abs() });
        }
        let program = Program {
            id,
            run: request.run.clone(),
            attempt: request.attempt,
            pid: started.pid,
            started_at: self.clock.now(),
            keep: request.keep.clone(),
            streams: started.streams,
            allowance: request.max_output,
            written: 0,
            dropped: 0,
            starting: started.starting,
            exit: None,
            attached: true,
            announced: false,
            swept: false,
        };
        self.programs.insert(id, program);
        self.watch(id);
    }

    /// `__exec` has become the program, or says why not.
    fn hear_of_start(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        let Some(pipe) = &program.starting else { return };
        let mut reason = [0; 1024];
        let length = match rustix::io::read(pipe, &mut reason) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => 0,
            Ok(length) => length,
        };
        program.starting = None;
        let pid = program.pid.unsigned_abs();
        if length == 0 {
            self.say(&ToDaemon::Started { id, pid });
            return self.settle(id);
        }
        // Its process is reaped like any other; nobody hears of its exit.
        self.forget(id);
        let reason = String::from_utf8_lossy(&reason[..length]).into_owned();
        self.say(&ToDaemon::Failed { id, host: false, reason });
    }

    fn reap(&mut self) {
        let mut drained = [0; 512];
        while matches!(rustix::io::read(&self.signals, &mut drained), Ok(1..)) {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.look = true;
            let Some(id) = self.by_pid.remove(&pid.as_raw_nonzero().get()) else { continue };
            let Some(program) = self.programs.get_mut(&id) else { continue };
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Status::Code(code),
                (_, Some(signal)) => Status::Signal(signal),
                _ => Status::Unknown,
            };
            program.exit = Some((status, self.clock.now()));
            self.hear_of_start(id);
            self.settle(id);
        }
    }

    fn read(&mut self, id: u64, stream: usize) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        program.read(stream, self.clock.now(), &mut self.buffer, out_of(&mut self.connection));
        if program.exit.is_some() {
            self.settle(id);
        } else {
            self.watch(id);
        }
    }

    fn acknowledge(&mut self, ack: Option<super::protocol::Ack>) {
        let Some(ack) = ack else { return };
        let Some(program) = self.programs.get_mut(&ack.id) else { return };
        program.acknowledge(&ack);
        if program.exit.is_some() { self.settle(ack.id) } else { self.watch(ack.id) }
    }

    /// Lets epoll watch exactly the pipes that may be read now.
    fn watch(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        let full = self.connection.as_ref().is_some_and(Connection::is_full);
        let attached = program.attached && self.connection.is_some();
        for (index, stream) in program.streams.iter_mut().enumerate() {
            let Some(pipe) = &stream.pipe else { continue };
            let wanted = !(attached && (full || stream.is_full()));
            if wanted && !stream.watched {
                let data = EventData::new_u64((id << 2) | index as u64);
                stream.watched = epoll::add(&self.epoll, pipe, data, EventFlags::IN).is_ok();
            } else if !wanted && stream.watched {
                // Not `modify` to nothing: a hang-up is reported even then, over and over.
                let _ = epoll::delete(&self.epoll, pipe.as_fd());
                stream.watched = false;
            }
        }
    }

    /// A program that ended: reads what is left, ends what holds its output open, and reports it.
    fn settle(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        if program.exit.is_none() || program.starting.is_some() {
            return;
        }
        let now = self.clock.now();
        let mut waits = false;
        for stream in 0..2 {
            let stop = program.read(stream, now, &mut self.buffer, out_of(&mut self.connection));
            waits |= matches!(stop, Stop::Full | Stop::Turn);
        }
        if !program.is_drained() {
            let run = program.run.clone();
            self.watch(id);
            if waits || self.sweeps.contains_key(&run) {
                return;
            }
            // Something else holds the pipe, and is not to outlive the program.
            return self.begin_sweep(&run, Target::Strays, TERM_GRACE, None);
        }
        self.report(id);
    }

    fn report(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        if let Some(connection) = &mut self.connection {
            program.announce(&mut connection.out);
        }
        if program.keep.is_none() {
            return self.forget(id);
        }
        if self.connection.is_none() && !program.swept {
            program.swept = true;
            let run = program.run.clone();
            self.begin_sweep(&run, Target::Strays, TERM_GRACE, None);
        }
    }

    /// Nothing that can be ended holds the pipes of this ended program any more.
    fn close_pipes(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        let now = self.clock.now();
        for stream in 0..2 {
            let stop = program.read(stream, now, &mut self.buffer, out_of(&mut self.connection));
            if stop == Stop::Empty {
                program.close(stream);
            }
        }
        self.settle(id);
    }

    fn forget(&mut self, id: u64) {
        let Some(program) = self.programs.remove(&id) else { return };
        if let Some(run) = self.runs.get_mut(&program.run) {
            run.programs.retain(|one| *one != id);
        }
    }

    fn of_run(&self, run: &RunKey) -> impl Iterator<Item = &Program> {
        let ids = self.runs.get(run).map_or(&[][..], |run| run.programs.as_slice());
        ids.iter().filter_map(|id| self.programs.get(id))
    }
}

fn out_of(connection: &mut Option<Connection>) -> Out<'_> {
    match connection {
        None => Out { bytes: None, full: false },
        Some(connection) => {
            let full = connection.is_full();
            Out { bytes: Some(&mut connection.out), full }
        }
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
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
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
