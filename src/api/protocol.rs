//! What is said on the socket, and how: one JSON document a line, UTF-8, both ways.
//!
//! The server opens with [`Hello`], once the client has said [`FIRST_WORD`] or nothing for a moment: one that speaks HTTP is
//! answered in that ([`super::http`]). The client sends [`Envelope`]s, each answered by [`Response`]s. Owns the
//! shapes and the framing for both ends; opens no socket.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Refused, Reloaded, RunEvent, Status};
use crate::model::RunId;

/// Goes up with every change that an older peer would misunderstand.
pub const VERSION: u32 = 1;

/// What a client says before it is greeted: white space, which stands before a JSON document as well as not.
pub const FIRST_WORD: &[u8] = b" ";

/// Bytes of one request: far above any real one, far below what could hurt.
pub const MAX_REQUEST: usize = 1 << 20;

/// Bytes of one response, as a client accepts it: a log line or a list of problems may be long.
pub const MAX_RESPONSE: usize = 64 << 20;

/// The first line of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// The daemon's version.
    pub version: String,
    pub pid: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub protocol: u32,
    pub request: Request,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answered by `Started`; with `follow` by every `Event` of the run after it, and the end of the connection.
    RunNow {
        job: String,
        dry_run: bool,
        follow: bool,
    },
    Cancel {
        run: RunId,
    },
    Pause {
        job: Option<String>,
        until: Option<Timestamp>,
    },
    Resume {
        job: Option<String>,
    },
    Reload,
    Status,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Done,
    Started {
        run: RunId,
    },
    Event(RunEvent),
    /// So many lines of the log were left out, since the client reads too slowly.
    Lost(u64),
    Reloaded(Reloaded),
    Status(Status),
    Refused(Refused),
    /// The request was not understood; the connection ends.
    BadRequest(String),
}

/// Reads one request.
///
/// # Errors
/// What is wrong with it, for the one who sent it.
pub fn read_request(line: &[u8]) -> Result<Request, String> {
    let document: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| format!("the request is not JSON: {error}"))?;
    // The version comes first: a later protocol may have requests of any shape.
    match document.get("protocol").and_then(serde_json::Value::as_u64) {
        Some(spoken) if spoken == u64::from(VERSION) => {}
        Some(spoken) => {
            return Err(format!(
                "the client speaks protocol {spoken}, this daemon ({}) protocol {VERSION}: restart the daemon after \
                 an upgrade",
                env!("CARGO_PKG_VERSION")
            ));
        }
        None => return Err(format!("the request names no protocol: send \"protocol\": {VERSION}")),
    }
    let envelope: Envelope = serde_json::from_value(document)
        .map_err(|error| format!("the request is not one of protocol {VERSION}: {error}"))?;
    Ok(envelope.request)
}

/// One message as a line.
pub fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // Our messages are structs of text and numbers, which serialise always.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Cuts a stream of bytes into lines, none longer than the limit.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
    /// Up to here there is no line end.
    searched: usize,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is longer than {limit} bytes")]
pub struct TooLong {
    pub limit: usize,
}

impl Frames {
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, searched: 0, limit }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// Where the line under way is too long already.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(self.buffer.len(), |end| self.searched + end) - self.start;
        if length > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = self.start..self.searched + end;
        self.start = line.end + 1;
        self.searched = self.start;
        Ok(Some(&self.buffer[line]))
    }

    /// Whether a message was begun and not ended.
    pub fn half(&self) -> bool {
        self.start < self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_bytes_were() {
        let mut frames = Frames::new(5);
        let mut seen = Vec::new();
        for piece in ["a", "b\n", "\ncde\nfg", "hij", "\n"] {
            frames.push(piece.as_bytes());
            while let Some(line) = frames.next_line().unwrap() {
                seen.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        assert_eq!(seen, ["ab", "", "cde", "fghij"]);
        assert!(!frames.half());
        frames.push(b"12345");
        assert_eq!(frames.next_line(), Ok(None));
        assert!(frames.half());
        frames.push(b"6");
        assert_eq!(frames.next_line(), Err(TooLong { limit: 5 }));
    }

    #[test]
    fn the_words_of_the_protocol() {
        let check = |request: Request, expected: &str| {
            let line = line(&Envelope { protocol: VERSION, request: request.clone() });
            assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{expected}\n"));
            assert_eq!(read_request(&line), Ok(request));
        };
        check(
            Request::RunNow { job: "db".into(), dry_run: false, follow: true },
            r#"{"protocol":1,"request":{"run_now":{"job":"db","dry_run":false,"follow":true}}}"#,
        );
        check(Request::Cancel { run: RunId(7) }, r#"{"protocol":1,"request":{"cancel":{"run":7}}}"#);
        check(Request::Status, r#"{"protocol":1,"request":"status"}"#);
    }

    #[test]
    fn a_request_that_is_none_says_why() {
        let check =
            |line: &str, expected: &str| assert_eq!(read_request(line.as_bytes()), Err(expected.into()));
        check("GET / HTTP/1.1", "the request is not JSON: expected value at line 1 column 1");
        check("{}", "the request names no protocol: send \"protocol\": 1");
        check(
            r#"{"protocol":2,"request":{"new":1}}"#,
            "the client speaks protocol 2, this daemon (0.1.0) protocol 1: restart the daemon after an upgrade",
        );
        check(
            r#"{"protocol":1,"request":"launch"}"#,
            "the request is not one of protocol 1: unknown variant `launch`, expected one of `run_now`, `cancel`, \
             `pause`, `resume`, `reload`, `status`",
        );
    }
}
