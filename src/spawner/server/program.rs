//! One program and its two streams: what was read, what was sent, what is still held.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use jiff::Timestamp;
use rustix::io::Errno;

use super::super::protocol::{
    Ack, Ended, Listed, Piece, Position, RunKey, Sink, WINDOW, put_ended, put_piece,
};
use crate::host::process::{Keep, Origin, Status};
use crate::model::Outcome;

pub(super) struct Program {
    pub(super) id: u64,
    pub(super) run: RunKey,
    pub(super) attempt: u32,
    /// As its mark says it.
    pub(super) slot: Option<String>,
    pub(super) origin: Option<Origin>,
    pub(super) pid: i32,
    pub(super) started_at: Timestamp,
    pub(super) keep: Option<Keep>,
    pub(super) streams: [Stream; 2],
    /// What may still be logged of both streams together.
    pub(super) allowance: u64,
    pub(super) written: u64,
    pub(super) dropped: u64,
    /// The pipe through which `__exec` says why it failed; it closes when the program runs.
    pub(super) starting: Option<OwnedFd>,
    pub(super) exit: Option<(Status, Timestamp)>,
    pub(super) started_since_boot: Duration,
    pub(super) ended_since_boot: Option<Duration>,
    /// It got a signal while it ran, since a daemon had its run ended: what for.
    pub(super) ended_as: Option<Outcome>,
    /// It ran on after a signal: an exit code is its answer to that.
    pub(super) outlived_signal: bool,
    /// The daemon that is connected now has asked for it, or started it.
    pub(super) attached: bool,
    pub(super) announced: bool,
    /// What it left behind was looked for although no daemon asked.
    pub(super) swept: bool,
}

#[derive(Default)]
pub(super) struct Stream {
    pub(super) pipe: Option<OwnedFd>,
    /// Whether epoll watches the pipe.
    pub(super) watched: bool,
    kind: Kind,
    /// The last bytes of a log, or the first of a capture.
    kept: Vec<u8>,
    /// What has not safely reached the log, for the next daemon.
    held: VecDeque<(Timestamp, Vec<u8>)>,
    begin: Position,
    end: u64,
    taken: u64,
}

#[derive(Default)]
enum Kind {
    #[default]
    None,
    Log {
        tail: usize,
    },
    Capture {
        limit: usize,
    },
}

/// Where output goes while a daemon is connected.
pub(super) struct Out<'a> {
    pub(super) bytes: Option<&'a mut Vec<u8>>,
    /// The daemon is behind with all programs together.
    pub(super) full: bool,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing more for now.
    Empty,
    /// The daemon must take something in first.
    Full,
    /// Others must have their turn.
    Turn,
    /// The writing end is closed everywhere.
    End,
}

impl Stream {
    pub(super) fn new(sink: Sink, pipe: Option<OwnedFd>) -> Self {
        let kind = match sink {
            Sink::Log { tail } => Kind::Log { tail },
            Sink::Capture { limit } => Kind::Capture { limit },
            Sink::Null | Sink::Passed => Kind::None,
        };
        Self { pipe, kind, ..Self::default() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.end - self.taken >= WINDOW
    }

    fn kept(&self) -> &[u8] {
        match self.kind {
            Kind::Log { tail } => &self.kept[self.kept.len().saturating_sub(tail)..],
            Kind::None | Kind::Capture { .. } => &self.kept,
        }
    }
}

impl Program {
    fn ended_by_itself(&self) -> bool {
        !self.outlived_signal && matches!(self.exit, Some((Status::Code(_), _)))
    }

    pub(super) fn is_live(&self) -> bool {
        self.exit.is_none()
    }

    /// Whether all that the program wrote has been read.
    pub(super) fn is_drained(&self) -> bool {
        self.streams.iter().all(|stream| stream.pipe.is_none())
    }

    /// Reads one stream until there is a reason to stop, and passes on what it read.
    pub(super) fn read(&mut self, stream: usize, now: Timestamp, buffer: &mut [u8], out: Out<'_>) -> Stop {
        let Out { mut bytes, full } = out;
        for _ in 0..4 {
            let one = &mut self.streams[stream];
            let Some(pipe) = &one.pipe else { return Stop::End };
            if bytes.is_some() && self.attached && (full || one.is_full()) {
                return Stop::Full;
            }
            match rustix::io::read(pipe, &mut *buffer) {
                Ok(0) => {
                    self.close(stream);
                    return Stop::End;
                }
                Ok(count) => self.take(stream, now, &buffer[..count], bytes.as_deref_mut()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Stop::Empty,
                Err(_) => {
                    self.close(stream);
                    return Stop::End;
                }
            }
        }
        Stop::Turn
    }

    /// Closing takes the pipe out of epoll as well: no other descriptor refers to its reading end.
    pub(super) fn close(&mut self, stream: usize) {
        self.streams[stream].pipe = None;
        self.streams[stream].watched = false;
    }

    pub(super) fn take(&mut self, index: usize, at: Timestamp, bytes: &[u8], out: Option<&mut Vec<u8>>) {
        self.written += bytes.len() as u64;
        let stream = &mut self.streams[index];
        let passed = match stream.kind {
            Kind::None => 0,
            Kind::Capture { limit } => {
                let room = limit.saturating_sub(stream.kept.len()).min(bytes.len());
                stream.kept.extend_from_slice(&bytes[..room]);
                self.dropped += (bytes.len() - room) as u64;
                0
            }
            Kind::Log { tail } => {
                keep_tail(&mut stream.kept, bytes, tail);
                let room = usize::try_from(self.allowance).unwrap_or(usize::MAX).min(bytes.len());
                self.allowance -= room as u64;
                self.dropped += (bytes.len() - room) as u64;
                room
            }
        };
        if passed == 0 {
            return;
        }
        let bytes = &bytes[..passed];
        stream.end += passed as u64;
        let keep = self.keep.is_some();
        if keep {
            stream.held.push_back((at, bytes.to_vec()));
        }
        match out {
            Some(out) if self.attached => put_piece(out, &Piece { id: self.id, stream: index, at, bytes }),
            // Nobody will come for it.
            _ if !keep => stream.taken = stream.end,
            _ => {}
        }
    }

    /// The inodes of its pipes that are open still.
    pub(super) fn pipes(&self) -> impl Iterator<Item = u64> {
        let open = self.streams.iter().filter_map(|stream| stream.pipe.as_ref());
        open.filter_map(|pipe| Some(rustix::fs::fstat(pipe).ok()?.st_ino))
    }

    pub(super) fn acknowledge(&mut self, ack: &Ack) {
        let stream = &mut self.streams[ack.stream];
        stream.taken = stream.taken.max(ack.taken.min(stream.end));
        while let Some((at, mut bytes)) = stream.held.pop_front() {
            let gone = ack.safe.offset.saturating_sub(stream.begin.offset);
            if gone == 0 {
                stream.held.push_front((at, bytes));
                break;
            }
            if gone < bytes.len() as u64 {
                bytes.drain(..usize::try_from(gone).unwrap_or(0));
                stream.held.push_front((at, bytes));
                stream.begin.offset = ack.safe.offset;
                break;
            }
            stream.begin.offset += bytes.len() as u64;
        }
        stream.begin.lines = stream.begin.lines.max(ack.safe.lines);
    }

    /// The daemon is gone: what it took in but did not make safe is held still.
    pub(super) fn detach(&mut self) {
        self.attached = false;
        self.announced = false;
        for stream in &mut self.streams {
            stream.taken = stream.begin.offset;
        }
    }

    pub(super) fn listed(&self) -> Option<Listed> {
        Some(Listed {
            id: self.id,
            run: self.run.clone(),
            attempt: self.attempt,
            pid: self.pid.unsigned_abs(),
            started_at: self.started_at,
            keep: self.keep.clone()?,
            ended: self.exit.is_some(),
            exit: self.exit,
            started_since_boot: Some(self.started_since_boot),
            ended_since_boot: self.ended_since_boot,
            ended_as: self.ended_as.filter(|_| !self.ended_by_itself()),
            slot: self.slot.clone(),
            origin: self.origin.clone(),
            held: [self.streams[0].begin, self.streams[1].begin],
        })
    }

    /// A new daemon takes over: everything held is sent again.
    pub(super) fn attach(&mut self, out: &mut Vec<u8>) {
        self.attached = true;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            stream.taken = stream.begin.offset;
            for (at, bytes) in &stream.held {
                put_piece(out, &Piece { id: self.id, stream: index, at: *at, bytes });
            }
        }
    }

    pub(super) fn announce(&mut self, out: &mut Vec<u8>) {
        let (Some((status, at)), true, false) = (self.exit, self.attached, self.announced) else { return };
        let [stdout, stderr] = self.streams.each_ref().map(Stream::kept);
        let head = Ended {
            id: self.id,
            status,
            at,
            written: self.written,
            dropped: self.dropped,
            stdout: stdout.len(),
            stderr: stderr.len(),
        };
        put_ended(out, &head, stdout, stderr);
        self.announced = true;
    }
}

fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8], tail: usize) {
    let bytes = &bytes[bytes.len().saturating_sub(tail)..];
    // Cut only now and then: shifting the tail for each short line would cost more than reading it.
    if kept.len() + bytes.len() > tail.saturating_mul(2) {
        let excess = (kept.len() + bytes.len()).saturating_sub(tail).min(kept.len());
        kept.drain(..excess);
    }
    kept.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(max_output: u64, keep: bool) -> Program {
        let log = || Stream::new(Sink::Log { tail: 4 }, None);
        Program {
            id: 1,
            run: RunKey { run: 1, job: "one".into() },
            attempt: 1,
            slot: None,
            origin: None,
            pid: 100,
            started_at: Timestamp::UNIX_EPOCH,
            started_since_boot: Duration::ZERO,
            ended_since_boot: None,
            keep: keep.then(|| Keep { success_codes: vec![0], deadline: None }),
            streams: [log(), log()],
            allowance: max_output,
            written: 0,
            dropped: 0,
            starting: None,
            exit: None,
            ended_as: None,
            outlived_signal: false,
            attached: true,
            announced: false,
            swept: false,
        }
    }

    fn held(program: &Program) -> Vec<u8> {
        program.streams[0].held.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    #[test]
    fn only_what_is_not_safe_is_held_and_only_for_a_program_that_may_outlive_the_daemon() {
        let mut out = vec![];
        let mut one = program(1000, true);
        one.take(0, Timestamp::UNIX_EPOCH, b"first\nsecond\nthi", Some(&mut out));
        one.take(0, Timestamp::UNIX_EPOCH, b"rd\n", Some(&mut out));
        let ack = |offset, lines, taken| Ack { id: 1, stream: 0, taken, safe: Position { offset, lines } };
        one.acknowledge(&ack(13, 2, 16));
        assert_eq!(held(&one), b"third\n");
        one.detach();
        assert_eq!(one.listed().unwrap().held[0], Position { offset: 13, lines: 2 });
        assert_eq!(one.streams[0].taken, 13);
        one.acknowledge(&ack(19, 3, 19));
        assert_eq!(held(&one), b"");

        let mut other = program(1000, false);
        other.take(0, Timestamp::UNIX_EPOCH, b"first\n", Some(&mut out));
        assert_eq!(held(&other), b"");
    }

    #[test]
    fn beyond_the_allowance_only_the_tail_is_kept() {
        let mut out = vec![];
        let mut one = program(6, true);
        one.take(0, Timestamp::UNIX_EPOCH, b"abcd", Some(&mut out));
        one.take(1, Timestamp::UNIX_EPOCH, b"efgh", Some(&mut out));
        one.take(0, Timestamp::UNIX_EPOCH, b"ijklmnopq", Some(&mut out));
        assert_eq!(held(&one), b"abcd");
        assert_eq!(one.dropped, 11);
        assert_eq!(one.streams[0].kept(), b"nopq");
        assert_eq!(one.streams[1].kept(), b"efgh");
        assert!(one.streams[0].kept.len() <= 8);
    }
}
