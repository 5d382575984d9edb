//! Bytes of nobody knows whom at the spawner's end; see `spawner::fuzzing`.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::epoll;

use super::super::protocol::{Decoder, Frame, HEAD, RunKey, Sink, ToSpawner, put_message};
use super::Server;
use super::connection::Connection;
use super::program::{Program, Stream};
use super::record::Record;
use crate::clock::SystemClock;
use crate::host::process::{Keep, Status};

/// At most so much is said before the spawner reads it: it fits into the socket.
const PIECE: usize = 32 * 1024;

/// What a daemon that has lost its mind says to a spawner with two programs, one of them ended. Nothing is started:
/// each start names a program that doesn't exist. Returns how many bytes were answered.
///
/// # Panics
/// Where the spawner does.
pub fn spawner_end(bytes: &[u8]) -> usize {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_nonblocking(true).expect("a socket that does not block");
    let mut server = server(ours);
    let mut answered = 0;
    let mut say = |server: &mut Server, bytes: &[u8]| {
        for piece in bytes.chunks(PIECE) {
            // It may have hung up.
            let _ = theirs.write_all(piece);
            server.receive();
            server.sweep();
            server.flush();
            let mut answer = [0; 4096];
            while let Ok(length @ 1..) = std::io::Read::read(&mut theirs, &mut answer) {
                answered += length;
            }
        }
    };
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    let mut rest = bytes;
    while let Ok(Some(frame)) = decoder.next() {
        let (whole, after) = rest.split_at(HEAD + frame.payload.len());
        rest = after;
        match harmless(&frame) {
            Some(changed) => say(&mut server, &changed),
            None => say(&mut server, whole),
        }
    }
    say(&mut server, rest);
    server.disconnect();
    server.sweep();
    answered
}

/// A start, of what isn't there and as nobody else.
fn harmless(frame: &Frame) -> Option<Vec<u8>> {
    let Some(ToSpawner::Start(mut start)) = frame.message() else { return None };
    start.path = "/nowhere/program".into();
    start.cwd = None;
    (start.user, start.nice, start.io) = (None, 0, None);
    let mut bytes = vec![];
    put_message(&mut bytes, &ToSpawner::Start(start), 0);
    Some(bytes)
}

fn server(socket: UnixStream) -> Server {
    let (signals, _) = UnixStream::pair().expect("a pair of sockets");
    signals.set_nonblocking(true).expect("a socket that does not block");
    let connection = Connection::new(socket.into()).expect("a connection");
    let programs = HashMap::from([(7, program(7, None)), (8, program(8, Some(Status::Code(0))))]);
    Server {
        record: Record::default(),
        delegated: None,
        clock: Box::new(SystemClock),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll"),
        signals,
        listener: None,
        listens: false,
        connection: Some(connection),
        state: PathBuf::from("/state"),
        limit: None,
        programs,
        by_pid: HashMap::new(),
        runs: HashMap::new(),
        sweeps: HashMap::new(),
        groups: HashMap::new(),
        strays: HashMap::new(),
        next_id: 9,
        buffer: vec![0; 64 * 1024].into_boxed_slice(),
        look: false,
        told_to_end: Arc::new(AtomicBool::new(false)),
    }
}

/// One that has written three lines and a half, in two pieces. It is no child of anybody: its run isn't known.
fn program(id: u64, exit: Option<Status>) -> Program {
    let log = || Stream::new(Sink::Log { tail: 8 }, None);
    let mut program = Program {
        id,
        run: RunKey { run: 1, job: "one".into() },
        attempt: 1,
        slot: None,
        origin: None,
        pid: i32::MAX,
        started_at: Timestamp::UNIX_EPOCH,
        started_since_boot: Duration::ZERO,
        ended_since_boot: None,
        keep: Some(Keep { success_codes: vec![0], deadline: None }),
        streams: [log(), log()],
        allowance: 1000,
        written: 0,
        dropped: 0,
        starting: None,
        exit: exit.map(|status| (status, Timestamp::UNIX_EPOCH)),
        ended_as: None,
        outlived_signal: false,
        attached: false,
        announced: false,
        swept: false,
    };
    program.take(0, Timestamp::UNIX_EPOCH, b"one\ntwo\nthr", None);
    program.take(0, Timestamp::UNIX_EPOCH, b"ee\nfo", None);
    program.take(1, Timestamp::UNIX_EPOCH, b"wrong\n", None);
    program
}
