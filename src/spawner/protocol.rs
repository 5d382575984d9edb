//! What daemon and spawner say to each other, over a stream of frames on a Unix socket.
//!
//! A frame: the length of its payload (4 bytes, little endian), its kind, the number of descriptors that come
//! with it, the payload. Descriptors travel in the order of the frames that they belong to. A kind that is not
//! known is passed over, so that a newer end can talk to an older one.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::process::{Keep, Origin, Process, Status};
use crate::model::Outcome;
use crate::policy::IoClass;

pub(crate) const VERSION: u32 = 1;

/// Un-acknowledged output of one stream; beyond it the program's pipe is left to fill.
pub(crate) const WINDOW: u64 = 128 * 1024;

pub(crate) const HEAD: usize = 6;
const LONGEST: usize = 64 << 20;

pub(crate) mod kind {
    pub(crate) const MESSAGE: u8 = 0;
    pub(crate) const OUTPUT: u8 = 1;
    pub(crate) const ACK: u8 = 2;
    pub(crate) const ENDED: u8 = 3;
}

/// A run on this spawner. Its number alone won't do: it is the ledger's, and ledgers come and go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RunKey {
    pub(crate) run: i64,
    pub(crate) job: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSpawner {
    Hello {
        version: u32,
        /// The canonical state directory: the instance.
        state: PathBuf,
        /// End as soon as there is no program left: the daemon has a spawner of its own.
        retire: bool,
    },
    Start(Box<Start>),
    /// Send the output and the end of a program that another daemon started.
    Attach {
        id: u64,
    },
    EndRun {
        token: u64,
        run: RunKey,
        grace_ms: u64,
        /// What the attempt is to end as; nothing where its programs had ended by themselves.
        #[serde(default)]
        cause: Option<Outcome>,
    },
    /// The outcome is in the ledger: what is known of ended programs of this attempt is of no more use.
    Forget {
        run: RunKey,
        attempt: u32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) id: u64,
    pub(crate) run: RunKey,
    pub(crate) attempt: u32,
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<PathBuf>,
    /// A descriptor follows; else /dev/null.
    pub(crate) stdin: bool,
    pub(crate) stdout: Sink,
    pub(crate) stderr: Sink,
    pub(crate) max_output: u64,
    pub(crate) user: Option<(u32, u32, Vec<u32>)>,
    pub(crate) nice: u8,
    pub(crate) io: Option<IoClass>,
    pub(crate) keep: Option<Keep>,
    #[serde(default)]
    pub(crate) origin: Option<Origin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sink {
    Null,
    Log {
        tail: usize,
    },
    Capture {
        limit: usize,
    },
    /// A descriptor follows.
    Passed,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToDaemon {
    Welcome {
        version: u32,
        pid: i32,
        next_id: u64,
        programs: Vec<Listed>,
    },
    /// `busy`: the process that this spawner serves already.
    Refused {
        reason: String,
        busy: Option<i32>,
    },
    Started {
        id: u64,
        pid: u32,
    },
    /// `host`: the host is short of something; else no retry mends it.
    Failed {
        id: u64,
        host: bool,
        reason: String,
    },
    Swept {
        token: u64,
        ended: Vec<Process>,
        survivors: Vec<Process>,
    },
}

/// A program that outlived its daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    pub(crate) run: RunKey,
    pub(crate) attempt: u32,
    pub(crate) pid: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) keep: Keep,
    pub(crate) ended: bool,
    /// How and when, where it has ended.
    #[serde(default)]
    pub(crate) exit: Option<(Status, Timestamp)>,
    /// When it started and when it ended, counted from the boot: that puts programs in order, whatever the clock was set
    /// to meanwhile.
    #[serde(default)]
    pub(crate) started_since_boot: Option<Duration>,
    #[serde(default)]
    pub(crate) ended_since_boot: Option<Duration>,
    /// A daemon had it ended while it ran, and what for.
    #[serde(default)]
    pub(crate) ended_as: Option<Outcome>,
    /// As its mark says it.
    #[serde(default)]
    pub(crate) slot: Option<String>,
    #[serde(default)]
    pub(crate) origin: Option<Origin>,
    /// Of stdout and stderr: the first byte that is still held, and the lines that ended before it.
    pub(crate) held: [Position; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) offset: u64,
    pub(crate) lines: u64,
}

/// The head of an [`kind::ENDED`] frame; what was kept of both streams follows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) status: Status,
    pub(crate) at: Timestamp,
    pub(crate) written: u64,
    pub(crate) dropped: u64,
    pub(crate) stdout: usize,
    pub(crate) stderr: usize,
}

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) id: u64,
    /// 0: stdout, 1: stderr.
    pub(crate) stream: usize,
    pub(crate) at: Timestamp,
    pub(crate) bytes: &'a [u8],
}

/// Output was taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: u64,
    pub(crate) stream: usize,
    /// Bytes read, which opens the window.
    pub(crate) taken: u64,
    /// Where the last line that is safely in the log ends.
    pub(crate) safe: Position,
}

pub(crate) fn put_message(out: &mut Vec<u8>, message: &impl Serialize, descriptors: u8) {
    let start = begin(out, kind::MESSAGE, descriptors);
    // Serialising plain data into memory can't fail.
    let _ = serde_json::to_writer(&mut *out, message);
    finish(out, start);
}

pub(crate) fn put_piece(out: &mut Vec<u8>, piece: &Piece<'_>) {
    let start = begin(out, kind::OUTPUT, 0);
    out.extend_from_slice(&piece.id.to_le_bytes());
    out.push(u8::from(piece.stream != 0));
    let nanoseconds = i64::try_from(piece.at.as_nanosecond()).unwrap_or(i64::MAX);
    out.extend_from_slice(&nanoseconds.to_le_bytes());
    out.extend_from_slice(piece.bytes);
    finish(out, start);
}

pub(crate) fn put_ack(out: &mut Vec<u8>, ack: &Ack) {
    let start = begin(out, kind::ACK, 0);
    out.push(u8::from(ack.stream != 0));
    for number in [ack.id, ack.taken, ack.safe.offset, ack.safe.lines] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    finish(out, start);
}

pub(crate) fn put_ended(out: &mut Vec<u8>, head: &Ended, stdout: &[u8], stderr: &[u8]) {
    let start = begin(out, kind::ENDED, 0);
    let json = serde_json::to_vec(head).unwrap_or_default();
    out.extend_from_slice(&u32::try_from(json.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(stdout);
    out.extend_from_slice(stderr);
    finish(out, start);
}

/// One frame that came in.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) descriptors: usize,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// `None` for a message that this version doesn't know.
    pub(crate) fn message<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.payload).ok()
    }

    pub(crate) fn piece(&self) -> Option<Piece<'_>> {
        let (id, rest) = number(&self.payload)?;
        let (stream, rest) = rest.split_first()?;
        let (nanoseconds, bytes) = number(rest)?;
        let at = Timestamp::from_nanosecond(i128::from(nanoseconds.cast_signed())).ok()?;
        Some(Piece { id, stream: usize::from(*stream != 0), at, bytes })
    }

    pub(crate) fn ack(&self) -> Option<Ack> {
        let (stream, rest) = self.payload.split_first()?;
        let (id, rest) = number(rest)?;
        let (taken, rest) = number(rest)?;
        let (offset, rest) = number(rest)?;
        let (lines, _) = number(rest)?;
        Some(Ack { id, stream: usize::from(*stream != 0), taken, safe: Position { offset, lines } })
    }

    pub(crate) fn ended(&self) -> Option<(Ended, Vec<u8>, Vec<u8>)> {
        let (length, rest) = self.payload.split_first_chunk::<4>()?;
        let (json, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let head: Ended = serde_json::from_slice(json).ok()?;
        let (stdout, stderr) = rest.split_at_checked(head.stdout)?;
        Some((head, stdout.to_vec(), stderr.to_vec()))
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    read: usize,
}

/// The other end doesn't speak this protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        } else if self.read > 256 * 1024 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Nonsense> {
        let rest = &self.bytes[self.read..];
        let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, kind, descriptors] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > LONGEST {
            return Err(Nonsense);
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { kind, descriptors: usize::from(descriptors), payload: payload.to_vec() };
        self.read += HEAD + length;
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
            // One large frame must not be paid for ever after.
            self.bytes.shrink_to(256 * 1024);
        }
        Ok(Some(frame))
    }
}

fn begin(out: &mut Vec<u8>, kind: u8, descriptors: u8) -> usize {
    out.extend_from_slice(&[0, 0, 0, 0, kind, descriptors]);
    out.len()
}

fn finish(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start - HEAD..start - HEAD + 4].copy_from_slice(&length.to_le_bytes());
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let at: Timestamp = "2026-11-22T23:00:00.123456789Z".parse().unwrap();
        let piece = Piece { id: 7, stream: 1, at, bytes: b"half a li" };
        let ack = Ack { id: 7, stream: 1, taken: 300, safe: Position { offset: 290, lines: 12 } };
        let head =
            Ended { id: 7, status: Status::Signal(9), at, written: 6, dropped: 5, stdout: 3, stderr: 2 };
        let mut bytes = vec![];
        put_message(&mut bytes, &ToSpawner::Attach { id: 9 }, 2);
        put_piece(&mut bytes, &piece);
        put_ack(&mut bytes, &ack);
        put_ended(&mut bytes, &head, b"out", b"er");
        for size in [1, 7, 1000] {
            let mut decoder = Decoder::default();
            let mut frames = vec![];
            for part in bytes.chunks(size) {
                decoder.feed(part);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames.len(), 4);
            assert_eq!(frames[0].descriptors, 2);
            assert!(matches!(frames[0].message(), Some(ToSpawner::Attach { id: 9 })));
            assert_eq!(frames[1].piece(), Some(Piece { id: 7, stream: 1, at, bytes: b"half a li" }));
            assert_eq!(frames[2].ack().as_ref(), Some(&ack));
            let (ended, stdout, stderr) = frames[3].ended().unwrap();
            assert_eq!((ended.status, ended.dropped), (Status::Signal(9), 5));
            assert_eq!((stdout.as_slice(), stderr.as_slice()), (&b"out"[..], &b"er"[..]));
        }
    }

    #[test]
    fn nonsense_and_unknown_messages_are_told_apart() {
        let mut decoder = Decoder::default();
        decoder.feed(b"GET / HTTP/1.1\r\n");
        assert_eq!(decoder.next().unwrap_err(), Nonsense);
        let mut bytes = vec![];
        put_message(&mut bytes, &serde_json::json!({"FromTheFuture": 1}), 0);
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        assert!(decoder.next().unwrap().unwrap().message::<ToSpawner>().is_none());
    }
}
