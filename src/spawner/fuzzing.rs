//! Bytes of nobody knows whom, handed to both ends of the spawner's socket: the seam for `fuzz/` and for the tests
//! of what it found. Not part of the product; starts no program and ends none.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::link::{Link, Request};
use super::protocol::{Listed, Position, RunKey, Sink, Start, ToDaemon, VERSION, put_message};
pub use super::server::fuzzing::spawner_end;
use crate::clock::SystemClock;
use crate::host::process::{Keep, OutputLog};
use crate::logs::Stream;

/// What fits into the socket with nobody reading yet.
const MOST: usize = 64 * 1024;

/// What a spawner that has lost its mind says to a daemon that has two programs with it and adopted a third. The
/// first bytes say how far the third one's output had got. Returns when nobody waits for anything any more.
///
/// # Panics
/// Where the daemon's end does.
pub async fn daemon_end(bytes: &[u8]) {
    let (position, bytes) = bytes.split_first_chunk::<16>().unwrap_or((&[0; 16], bytes));
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| position[at + byte]));
    let adopted = Listed {
        id: 7,
        run: RunKey { run: 3, job: "three".into() },
        attempt: 1,
        pid: 4,
        started_at: Timestamp::UNIX_EPOCH,
        keep: Keep { success_codes: vec![0], deadline: None },
        ended: false,
        exit: None,
        started_since_boot: None,
        ended_since_boot: None,
        ended_as: None,
        slot: None,
        origin: None,
        held: [Position { offset: number(0), lines: number(8) }; 2],
    };
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let (link, welcomed) =
        Link::new(ours, PathBuf::from("/state"), false, Arc::new(SystemClock)).expect("a link");
    let one = link.start(request("one", Sink::Log { tail: 64 }));
    let two = link.start(request("two", Sink::Capture { limit: 64 }));
    let swept = link.end_run(RunKey { run: 1, job: "one".into() }, Duration::from_secs(1), None);

    let mut welcome = vec![];
    put_message(
        &mut welcome,
        &ToDaemon::Welcome { version: VERSION, pid: 4, next_id: 8, programs: vec![adopted] },
        0,
    );
    theirs.write_all(&welcome).expect("room in the socket");
    let welcomed = welcomed.await.ok().and_then(Result::ok).expect("a welcome");
    let three = link.attach(&welcomed.programs[0], Arc::new(Nowhere));
    // The link may have hung up in the midst of it.
    let _ = theirs.write_all(&bytes[..bytes.len().min(MOST)]);
    let _ = theirs.shutdown(std::net::Shutdown::Write);

    link.died().cancelled().await;
    let _ = swept.await;
    let _ = three.await;
    for (started, ended) in [one, two] {
        let _ = started.await;
        let _ = ended.await;
    }
}

fn request(job: &str, sink: Sink) -> Request {
    let start = Start {
        id: 0,
        run: RunKey { run: 1, job: job.into() },
        attempt: 1,
        path: "/nowhere/program".into(),
        argv: vec!["program".into()],
        env: vec![],
        cwd: None,
        stdin: false,
        stdout: sink,
        stderr: sink,
        max_output: 1024,
        user: None,
        nice: 0,
        io: None,
        keep: None,
        origin: None,
    };
    Request { start, descriptors: vec![], log: Arc::new(Nowhere) }
}

struct Nowhere;

impl OutputLog for Nowhere {
    fn output(&self, _: Stream, _: Timestamp, bytes: &[u8]) -> u64 {
        bytes.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn end_output(&self, _: Stream, _: Timestamp) {}

    fn note(&self, _: Timestamp, _: &str) {}

    fn lines_logged(&self, _: Stream) -> u64 {
        3
    }

    fn skip_lines(&self, _: Stream, _: u64) {}
}

/// What the fuzzer found.
#[cfg(test)]
mod tests {
    use super::super::protocol::ToSpawner;
    use super::*;

    #[test]
    fn a_start_without_arguments_is_refused() {
        let mut bytes = vec![];
        put_message(
            &mut bytes,
            &ToSpawner::Hello { version: VERSION, state: PathBuf::from("/state"), retire: false },
            0,
        );
        let greeted = spawner_end(&bytes);
        let mut start = request("one", Sink::Null).start;
        start.argv = vec![];
        put_message(&mut bytes, &ToSpawner::Start(Box::new(start)), 0);
        assert!(spawner_end(&bytes) > greeted);
    }
}
