//! Passes a run's events on to one client, which may read as slowly as it likes.

use std::io;

use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::api::RunEvent;
use crate::api::protocol::{self, Response};

/// Bytes kept for a client that doesn't read (a terminal stopped by Ctrl-S): beyond them log lines are left
/// out, and the client is told how many. The log file has them all.
const BACKLOG: usize = 16 << 20;

/// Until the run's channel closes and the client has read everything, or has gone.
pub(super) async fn follow(stream: &UnixStream, events: UnboundedReceiver<RunEvent>) -> io::Result<()> {
    follow_within(stream, events, BACKLOG).await
}

async fn follow_within(
    stream: &UnixStream,
    mut events: UnboundedReceiver<RunEvent>,
    limit: usize,
) -> io::Result<()> {
    let mut backlog = Backlog { bytes: Vec::new(), sent: 0, lost: 0, limit };
    let mut batch = Vec::new();
    let mut open = true;
    let mut ignored = [0_u8; 512];
    while open || !backlog.is_empty() {
        tokio::select! {
            count = events.recv_many(&mut batch, 256), if open => {
                open = count > 0;
                batch.drain(..).for_each(|event| backlog.push(event));
            }
            ready = stream.writable(), if !backlog.is_empty() => {
                ready?;
                match stream.try_write(backlog.unsent()) {
                    Ok(count) => backlog.sent(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            // A client says nothing while it follows; the end of its side means that it has gone, and a run
            // that says nothing for hours must not keep its place.
            ready = stream.readable() => {
                ready?;
                match stream.try_read(&mut ignored) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
    lost: u64,
    limit: usize,
}

impl Backlog {
    fn push(&mut self, event: RunEvent) {
        let full = self.bytes.len() - self.sent >= self.limit;
        if full && matches!(event, RunEvent::Line(_)) {
            self.lost += 1;
            return;
        }
        if self.lost > 0 {
            self.bytes.extend(protocol::line(&Response::Lost(self.lost)));
            self.lost = 0;
        }
        self.bytes.extend(protocol::line(&Response::Event(event)));
    }

    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn sent(&mut self, count: usize) {
        self.sent += count;
        // Moving the rest down is worth it only when it is the smaller half.
        if self.sent * 2 >= self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;
    use crate::logs::{LogLine, Stream};
    use crate::model::{Outcome, RunId};

    fn line(text: &str) -> RunEvent {
        let time = "2026-11-22T18:00:00Z".parse().unwrap();
        RunEvent::Line(LogLine { time, run: RunId(1), stream: Stream::Stdout, text: text.into() })
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_lines_but_never_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, events) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..20_000 {
            tell.send(line(&"x".repeat(1000))).unwrap();
        }
        let ended = RunEvent::Ended { outcome: Outcome::Succeeded, reason: None, summary: None, error: None };
        tell.send(ended.clone()).unwrap();
        drop(tell);
        let followed = tokio::spawn(async move { follow_within(&ours, events, 1 << 20).await });
        // The other task runs whenever this one yields: it takes all events before the client reads a byte.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        let mut lines = BufReader::new(theirs).lines();
        let (mut received, mut lost, mut last) = (0, 0, None);
        while let Some(line) = lines.next_line().await.unwrap() {
            match serde_json::from_str(&line).unwrap() {
                Response::Lost(count) => lost += count,
                Response::Event(event) => {
                    received += u64::from(matches!(event, RunEvent::Line(_)));
                    last = Some(event);
                }
                other => panic!("{other:?}"),
            }
        }
        followed.await.unwrap().unwrap();
        assert!(lost > 15_000, "lost {lost}");
        assert_eq!(received + lost, 20_000);
        assert_eq!(last, Some(ended));
    }
}
