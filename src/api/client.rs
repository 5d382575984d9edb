//! The client's end of the socket, blocking: `run-now` of a short job must cost no more than the job, so
//! there is no runtime here and no thread.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};

use super::protocol::{self, Envelope, Frames, Hello, MAX_RESPONSE, Request, Response, VERSION};
use super::{Refused, Reloaded, RunEvent, Status};
use crate::model::RunId;

/// How long the daemon may take to greet, and to answer: a reload reads files, nothing takes minutes.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no daemon answers on {}: {reason}", path.display())]
    NoDaemon { path: PathBuf, reason: String },
    #[error("you may not use {}{}", path.display(), group.as_ref().map(|group| format!(": it is for root and the group {group}")).unwrap_or_default())]
    Denied { path: PathBuf, group: Option<String> },
    #[error(
        "the daemon {version} speaks protocol {spoken}, this program protocol {VERSION}: restart the daemon after an upgrade"
    )]
    OtherProtocol { version: String, spoken: u32 },
    /// It answered before and is gone now, or says what we don't understand.
    #[error("the daemon on {} went away: {reason}", path.display())]
    Lost { path: PathBuf, reason: String },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the daemon did not take the request: {0}")]
    BadRequest(String),
}

/// What comes while a run is followed.
#[derive(Debug, PartialEq)]
pub enum Followed {
    Event(RunEvent),
    /// So many lines were left out, since we read too slowly.
    Lost(u64),
    /// The descriptor given as `wake` became readable.
    Woken,
    /// The daemon ended the connection; after the run's end, or because the daemon ended.
    Closed,
}

#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    frames: Frames,
    path: PathBuf,
    daemon: Hello,
}

impl Client {
    /// # Errors
    /// [`ClientError::NoDaemon`], [`ClientError::Denied`], [`ClientError::OtherProtocol`]
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let no_daemon = |reason: String| ClientError::NoDaemon { path: path.to_owned(), reason };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ClientError::Denied { path: path.to_owned(), group: group_of(path) });
            }
            Err(error) => return Err(no_daemon(reason(&error))),
        };
        let daemon = Hello { protocol: 0, version: String::new(), pid: 0 };
        let mut client = Self { stream, frames: Frames::new(MAX_RESPONSE), path: path.to_owned(), daemon };
        // Begins the first request, and tells the daemon at once that this is no HTTP client: it need not wait for
        // what we say. Where it hung up on us already, what it said before is still to be read.
        let _ = client.stream.write_all(protocol::FIRST_WORD);
        let hello = client.line(None).map_err(|error| no_daemon(reason(&error)))?;
        let hello = match hello {
            Line::Text(line) => {
                serde_json::from_slice(&line).map_err(|_| no_daemon("it is no punk-eco-sched".into()))
            }
            Line::Woken | Line::End => Err(no_daemon("it hung up at once".into())),
        };
        client.daemon = hello?;
        if client.daemon.protocol != VERSION {
            let Hello { version, protocol: spoken, .. } = client.daemon;
            return Err(ClientError::OtherProtocol { version, spoken });
        }
        Ok(client)
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.pid
    }

    /// With `follow`, call [`Self::next_event`] from here on, and nothing else.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn run_now(&mut self, job: &str, dry_run: bool, follow: bool) -> Result<RunId, ClientError> {
        match self.ask(Request::RunNow { job: job.into(), dry_run, follow })? {
            Response::Started { run } => Ok(run),
            other => Err(self.unexpected(&other)),
        }
    }

    /// # Errors
    /// [`ClientError`]
    pub fn cancel(&mut self, run: RunId) -> Result<(), ClientError> {
        self.done(Request::Cancel { run })
    }

    /// # Errors
    /// [`ClientError`]
    pub fn pause(&mut self, job: Option<&str>, until: Option<Timestamp>) -> Result<(), ClientError> {
        self.done(Request::Pause { job: job.map(str::to_owned), until })
    }

    /// # Errors
    /// [`ClientError`]
    pub fn resume(&mut self, job: Option<&str>) -> Result<(), ClientError> {
        self.done(Request::Resume { job: job.map(str::to_owned) })
    }

    /// # Errors
    /// [`ClientError`]
    pub fn reload(&mut self) -> Result<Reloaded, ClientError> {
        match self.ask(Request::Reload)? {
            Response::Reloaded(reloaded) => Ok(reloaded),
            other => Err(self.unexpected(&other)),
        }
    }

    /// # Errors
    /// [`ClientError`]
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.ask(Request::Status)? {
            Response::Status(status) => Ok(status),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits for what comes next of the run that is followed, or for `wake` to become readable.
    ///
    /// # Errors
    /// [`ClientError::Lost`]
    pub fn next_event(&mut self, wake: BorrowedFd<'_>) -> Result<Followed, ClientError> {
        match self.line(Some(wake)).map_err(|error| self.lost(reason(&error)))? {
            Line::Woken => Ok(Followed::Woken),
            Line::End => Ok(Followed::Closed),
            Line::Text(line) => match self.parse(&line)? {
                Response::Event(event) => Ok(Followed::Event(event)),
                Response::Lost(count) => Ok(Followed::Lost(count)),
                other => Err(self.unexpected(&other)),
            },
        }
    }

    /// Whether more was received already: worth printing before waiting.
    pub fn has_more(&self) -> bool {
        self.frames.half()
    }

    fn done(&mut self, request: Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Response, ClientError> {
        let request = protocol::line(&Envelope { protocol: VERSION, request });
        // Where the daemon hung up on us, what it said before is still to be read and tells more.
        let written = self.stream.write_all(&request);
        let line = match (self.line(None), written) {
            (Ok(Line::Text(line)), _) => line,
            (_, Err(error)) | (Err(error), Ok(())) => return Err(self.lost(reason(&error))),
            (Ok(Line::Woken | Line::End), Ok(())) => {
                return Err(self.lost("it hung up without an answer".into()));
            }
        };
        match self.parse(&line)? {
            Response::Refused(refused) => Err(refused.into()),
            Response::BadRequest(message) => Err(ClientError::BadRequest(message)),
            response => Ok(response),
        }
    }

    fn parse(&self, line: &[u8]) -> Result<Response, ClientError> {
        serde_json::from_slice(line)
            .map_err(|error| self.lost(format!("its answer is not understood: {error}")))
    }

    fn unexpected(&self, response: &Response) -> ClientError {
        self.lost(format!("its answer is not one to this question: {response:?}"))
    }

    fn lost(&self, reason: String) -> ClientError {
        ClientError::Lost { path: self.path.clone(), reason }
    }

    /// The next line. With `wake` it waits as long as it takes, without for [`PATIENCE`].
    fn line(&mut self, wake: Option<BorrowedFd<'_>>) -> io::Result<Line> {
        loop {
            match self.frames.next_line() {
                Ok(Some(line)) => return Ok(Line::Text(line.to_vec())),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            if self.wait(wake)? {
                return Ok(Line::Woken);
            }
            let mut piece = [0_u8; 64 * 1024];
            match io::Read::read(&mut &self.stream, &mut piece) {
                Ok(0) => return Ok(Line::End),
                Ok(count) => self.frames.push(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether `wake` is readable; otherwise the socket is.
    fn wait(&self, wake: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let stream = PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN);
        let mut watched = match wake {
            Some(wake) => vec![stream, PollFd::from_borrowed_fd(wake, PollFlags::IN)],
            None => vec![stream],
        };
        let patience = rustix::time::Timespec::try_from(PATIENCE).ok().filter(|_| wake.is_none());
        match poll(&mut watched, patience.as_ref()) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not answer within {} s", PATIENCE.as_secs()),
            )),
            Ok(_) => Ok(watched.get(1).is_some_and(|wake| !wake.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => self.wait(wake),
            Err(error) => Err(error.into()),
        }
    }
}

enum Line {
    Text(Vec<u8>),
    Woken,
    End,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".into(),
        io::ErrorKind::ConnectionRefused => "the socket is a dead daemon's".into(),
        _ => error.to_string(),
    }
}

/// Who besides the owner may connect; of the directory where the socket can't even be seen.
fn group_of(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).or_else(|_| std::fs::metadata(path.parent().unwrap_or(path)));
    let gid = metadata.ok()?.gid();
    let group = nix::unistd::Group::from_gid(gid.into()).ok().flatten();
    Some(group.map_or_else(|| gid.to_string(), |group| group.name))
}
