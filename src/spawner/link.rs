//! The daemon's end of one connection to one spawner: requests out, starts, output and exits in.

mod intake;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::intake::Intake;
use super::outgoing::{self, Outgoing};
use super::protocol::{Decoder, Listed, RunKey, Start, ToSpawner, put_message};
use crate::clock::Clock;
use crate::host::process::{OutputLog, Recorded, Status, Swept};
use crate::logs::Stream;
use crate::model::Outcome;

pub(crate) struct Link {
    out: mpsc::UnboundedSender<Outgoing>,
    state: Mutex<State>,
    /// The spawner's process.
    pid: AtomicI32,
    clock: Arc<dyn Clock>,
    died: CancellationToken,
    written_down: OnceLock<Vec<Recorded>>,
}

#[derive(Default)]
struct State {
    dead: Option<String>,
    next_id: u64,
    next_token: u64,
    programs: HashMap<u64, Arc<Watched>>,
    sweeps: HashMap<u64, oneshot::Sender<Swept>>,
    welcome: Option<oneshot::Sender<Result<Welcome, Refusal>>>,
}

#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) programs: Vec<Listed>,
}

/// How a spawner answers a hello.
pub(crate) type Answer = oneshot::Receiver<Result<Welcome, Refusal>>;

#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// The process that the spawner serves already.
    pub(crate) busy: Option<i32>,
}

/// A program to start, without what the link fills in.
pub(crate) struct Request {
    pub(crate) start: Start,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) log: Arc<dyn OutputLog>,
}

/// Why a program was not started.
pub(crate) struct NotStarted {
    pub(crate) host: bool,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) struct ProgramEnd {
    pub(crate) status: Status,
    pub(crate) at: Timestamp,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) written: u64,
    pub(crate) dropped: u64,
}

struct Watched {
    log: Arc<dyn OutputLog>,
    /// Which streams go into the log.
    logged: [bool; 2],
    answers: Mutex<Answers>,
    /// Touched by the reader alone.
    intake: Mutex<[Intake; 2]>,
}

#[derive(Default)]
struct Answers {
    started: Option<oneshot::Sender<Result<u32, NotStarted>>>,
    ended: Option<oneshot::Sender<ProgramEnd>>,
}

impl Link {
    /// Takes over a connected socket and says hello; the answer comes through the receiver.
    pub(crate) fn new(
        socket: std::os::unix::net::UnixStream,
        state: std::path::PathBuf,
        retire: bool,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(Arc<Self>, Answer)> {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UnixStream::from_std(socket)?);
        let (out, requests) = mpsc::unbounded_channel();
        let (welcome, welcomed) = oneshot::channel();
        let start = State { welcome: Some(welcome), next_id: 1, ..State::default() };
        let link = Arc::new(Self {
            out,
            state: Mutex::new(start),
            pid: AtomicI32::new(0),
            clock,
            died: CancellationToken::new(),
            written_down: OnceLock::new(),
        });
        link.send(&ToSpawner::Hello { version: super::protocol::VERSION, state, retire }, vec![]);
        tokio::spawn(outgoing::write(socket.clone(), requests));
        tokio::spawn(read(socket, Arc::downgrade(&link)));
        Ok((link, welcomed))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead.is_some()
    }

    /// Cancelled when the spawner is gone.
    pub(crate) fn died(&self) -> CancellationToken {
        self.died.clone()
    }

    /// Returns when all that was asked for is on its way, or will never be.
    pub(crate) async fn flush(&self) {
        let (sent, on_sent) = oneshot::channel();
        let _ = self.out.send(Outgoing { bytes: vec![], descriptors: vec![], sent: Some(sent) });
        // It is only ever dropped.
        let _ = on_sent.await;
    }

    pub(crate) fn spawner_pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// What this spawner wrote down of its programs, kept from its end on, when its file may go.
    pub(crate) fn written_down(&self) -> &[Recorded] {
        self.written_down.get().map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn remember(&self, written_down: impl FnOnce() -> Vec<Recorded>) {
        self.written_down.get_or_init(written_down);
    }

    /// Asks for a start; the receivers tell of it and of the end. The first one is closed where the spawner has died
    /// before it answered: the program may have been started.
    pub(crate) fn start(
        &self,
        request: Request,
    ) -> (oneshot::Receiver<Result<u32, NotStarted>>, oneshot::Receiver<ProgramEnd>) {
        use super::protocol::Sink;

        let Request { mut start, descriptors, log } = request;
        let (started, on_start) = oneshot::channel();
        let (ended, on_end) = oneshot::channel();
        let logged = [start.stdout, start.stderr].map(|sink| matches!(sink, Sink::Log { .. }));
        {
            let mut state = self.state();
            if let Some(reason) = &state.dead {
                let _ = started.send(Err(NotStarted { host: true, reason: reason.clone() }));
                return (on_start, on_end);
            }
            start.id = state.next_id;
            state.next_id += 1;
            let answers = Mutex::new(Answers { started: Some(started), ended: Some(ended) });
            let watched = Watched { log, logged, answers, intake: Mutex::default() };
            state.programs.insert(start.id, Arc::new(watched));
        }
        self.send(&ToSpawner::Start(Box::new(start)), descriptors);
        (on_start, on_end)
    }

    /// Takes over a program that the welcome listed.
    pub(crate) fn attach(&self, listed: &Listed, log: Arc<dyn OutputLog>) -> oneshot::Receiver<ProgramEnd> {
        let (ended, on_end) = oneshot::channel();
        let intake = [Stream::Stdout, Stream::Stderr].map(|stream| {
            let held = listed.held[stream as usize];
            log.skip_lines(stream, log.lines_logged(stream).saturating_sub(held.lines));
            Intake { taken: held.offset, lines: held.lines, safe: held }
        });
        let answers = Mutex::new(Answers { started: None, ended: Some(ended) });
        let watched = Watched { log, logged: [true; 2], answers, intake: Mutex::new(intake) };
        let mut state = self.state();
        if state.dead.is_none() {
            state.programs.insert(listed.id, Arc::new(watched));
            drop(state);
            self.send(&ToSpawner::Attach { id: listed.id }, vec![]);
        }
        on_end
    }

    /// `None` through the receiver (closed) where the spawner is gone.
    pub(crate) fn end_run(
        &self,
        run: RunKey,
        grace: std::time::Duration,
        cause: Option<Outcome>,
    ) -> oneshot::Receiver<Swept> {
        let (swept, on_swept) = oneshot::channel();
        let token = {
            let mut state = self.state();
            if state.dead.is_some() {
                return on_swept;
            }
            state.next_token += 1;
            let token = state.next_token;
            state.sweeps.insert(token, swept);
            token
        };
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.send(&ToSpawner::EndRun { token, run, grace_ms, cause }, vec![]);
        on_swept
    }

    pub(crate) fn forget(&self, run: RunKey, attempt: u32) {
        self.send(&ToSpawner::Forget { run, attempt }, vec![]);
    }

    fn send(&self, message: &ToSpawner, descriptors: Vec<OwnedFd>) {
        let mut bytes = vec![];
        put_message(&mut bytes, message, u8::try_from(descriptors.len()).unwrap_or(u8::MAX));
        // Fails only when the writer is gone, which the reader tells everybody.
        let _ = self.out.send(Outgoing { bytes, descriptors, sent: None });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody who waits hears that the spawner is gone.
    fn die(&self, reason: &str) {
        let (programs, welcome) = {
            let mut state = self.state();
            state.dead.get_or_insert_with(|| reason.to_owned());
            state.sweeps.clear();
            (std::mem::take(&mut state.programs), state.welcome.take())
        };
        self.died.cancel();
        if let Some(welcome) = welcome {
            let _ = welcome.send(Err(Refusal { reason: reason.to_owned(), busy: None }));
        }
        let at = self.clock.now();
        for program in programs.into_values() {
            let mut answers = lock(&program.answers);
            // Whether it was started, nobody has heard: neither answer would be true.
            answers.started = None;
            if let Some(ended) = answers.ended.take() {
                for (index, _) in program.logged.iter().enumerate().filter(|(_, logged)| **logged) {
                    program.log.end_output(stream(index), at);
                }
                let _ = ended.send(ProgramEnd {
                    status: Status::Unknown,
                    at,
                    stdout: vec![],
                    stderr: vec![],
                    written: 0,
                    dropped: 0,
                });
            }
        }
    }
}

async fn read(socket: Arc<UnixStream>, link: std::sync::Weak<Link>) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 * 1024].into_boxed_slice();
    let reason = loop {
        if let Err(error) = socket.readable().await {
            break error.to_string();
        }
        let count = match socket.try_read(&mut buffer) {
            Ok(0) => break "the spawner has ended".to_owned(),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => break format!("the connection to the spawner broke: {error}"),
        };
        let Some(link) = link.upgrade() else { return };
        decoder.feed(&buffer[..count]);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => link.take_frame(&frame),
                Ok(None) => break,
                Err(_) => return link.die("the spawner speaks another protocol"),
            }
        }
    };
    if let Some(link) = link.upgrade() {
        link.die(&reason);
    }
}

fn stream(index: usize) -> Stream {
    if index == 0 { Stream::Stdout } else { Stream::Stderr }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
