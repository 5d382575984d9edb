//! The daemon's end of the socket: binds it safely, and answers any number of clients at once.
//!
//! Whatever a client sends, or fails to read, costs it its own connection and nothing else: requests are
//! bounded in size and time, and what a slow follower leaves unread is bounded too. Decides nothing: that is
//! [`Control`]. Needs a runtime with I/O and time enabled.

mod bind;
mod follow;
mod sniff;
#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::bind::BindError;
use self::bind::BoundPath;
use super::Control;
use super::http::{self, Pages};
use super::protocol::{self, Frames, Hello, MAX_REQUEST, Request, Response, VERSION};

/// How long a client may take over one request, and over reading one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections at once: half of the usual limit of open files, so that jobs keep theirs.
const MAX_CLIENTS: usize = 512;

/// Before another client is accepted, where one could not be. What was lacking (a descriptor, most likely) is given back
/// by anybody on this host, of which nothing tells; and the client still knocks, so that an accept would fail at once.
const TAKE_BREATH: Duration = Duration::from_millis(100);

/// After the stop, how long clients have to take what was already said to them.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bound socket. The file goes away with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: BoundPath,
    /// Answered to clients that speak HTTP.
    router: Option<axum::Router>,
}

impl Server {
    /// Binds the socket at `path`: mode 0660 and the group of its directory (made where missing, 0755).
    ///
    /// # Errors
    /// [`BindError`]; a socket on which another daemon answers is left alone.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let (listener, path) = bind::bind(path)?;
        Ok(Self { listener, path, router: None })
    }

    /// Answers HTTP as well, for `curl --unix-socket`: the socket's mode says who may ask.
    #[must_use]
    pub fn with_pages(self, pages: Arc<dyn Pages>) -> Self {
        Self { router: Some(http::router(pages)), ..self }
    }

    /// Answers clients until `stop`; then removes the socket, and leaves those who follow a run a moment to
    /// read the end of what they were told. To be stopped after the runs have ended, not before.
    pub async fn serve(self, control: Arc<dyn Control>, stop: CancellationToken) {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = clients.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("{}: a client could not be accepted: {error}", self.path);
                    tokio::time::sleep(TAKE_BREATH).await;
                    continue;
                }
            };
            let (control, router, stop) = (control.clone(), self.router.clone(), stop.clone());
            let welcome = clients.len() < MAX_CLIENTS;
            clients.spawn(async move {
                if let Some(router) = router
                    && sniff::speaks_http(&stream).await
                {
                    match welcome {
                        true => http::converse(stream, router, |_| None, stop).await,
                        false => http::turn_away(stream).await,
                    }
                    return;
                }
                let client = Client { stream, control, stop };
                // A client that goes away is nobody's problem: there is no one left to tell.
                let _ = if welcome { client.converse().await } else { client.turn_away().await };
            });
        }
        drop(self);
        let _ = tokio::time::timeout(FAREWELL, async { while clients.join_next().await.is_some() {} }).await;
    }
}

struct Client {
    stream: UnixStream,
    control: Arc<dyn Control>,
    stop: CancellationToken,
}

impl Client {
    async fn converse(&self) -> io::Result<()> {
        let hello =
            Hello { protocol: VERSION, version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id() };
        self.send_line(&protocol::line(&hello)).await?;
        let mut frames = Frames::new(MAX_REQUEST);
        loop {
            let line = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                read = tokio::time::timeout(PATIENCE, self.read_line(&mut frames)) => match read {
                    Ok(Ok(Some(line))) => line,
                    Ok(Ok(None)) => return Ok(()),
                    Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                        return self.send(&Response::BadRequest(error.to_string())).await;
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {
                        let message = format!("no whole request came within {} s", PATIENCE.as_secs());
                        return self.send(&Response::BadRequest(message)).await;
                    }
                },
            };
            match protocol::read_request(&line) {
                Ok(Request::RunNow { job, dry_run, follow: true }) => {
                    return self.run_and_follow(&job, dry_run).await;
                }
                Ok(request) => {
                    let response = self.answer(request).await;
                    self.send(&response).await?;
                }
                Err(message) => return self.send(&Response::BadRequest(message)).await,
            }
        }
    }

    async fn turn_away(&self) -> io::Result<()> {
        let hello =
            Hello { protocol: VERSION, version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id() };
        self.send_line(&protocol::line(&hello)).await?;
        let message = format!("the daemon has {MAX_CLIENTS} clients already: try again when one has gone");
        self.send(&Response::BadRequest(message)).await
    }

    async fn answer(&self, request: Request) -> Response {
        let control = &self.control;
        let answer = match request {
            Request::Status => return Response::Status(control.status().await),
            Request::RunNow { job, dry_run, follow: _ } => control
                .run_now(&job, dry_run, &self.who().await)
                .await
                .map(|started| Response::Started { run: started.run }),
            Request::Cancel { run } => control.cancel(run, &self.who().await).await.map(|()| Response::Done),
            Request::Pause { job, until } => {
                control.pause(job.as_deref(), until, &self.who().await).await.map(|()| Response::Done)
            }
            Request::Resume { job } => {
                control.resume(job.as_deref(), &self.who().await).await.map(|()| Response::Done)
            }
            Request::Reload => control.reload(&self.who().await).await.map(Response::Reloaded),
        };
        answer.unwrap_or_else(Response::Refused)
    }

    async fn run_and_follow(&self, job: &str, dry_run: bool) -> io::Result<()> {
        match self.control.run_now(job, dry_run, &self.who().await).await {
            Ok(started) => {
                self.send(&Response::Started { run: started.run }).await?;
                follow::follow(&self.stream, started.events).await
            }
            Err(refused) => self.send(&Response::Refused(refused)).await,
        }
    }

    /// Who is at the other end, as the kernel tells it: `root (uid 0)`.
    async fn who(&self) -> String {
        let Ok(credentials) = self.stream.peer_cred() else { return "unknown".into() };
        let uid = credentials.uid();
        if uid == 0 {
            return "root (uid 0)".into();
        }
        // The user database may be a server on the network, which must not hold up other clients.
        tokio::task::spawn_blocking(move || crate::api::name_of(uid))
            .await
            .unwrap_or_else(|_| format!("uid {uid}"))
    }

    /// The next line; `None` when the client has ended.
    async fn read_line(&self, frames: &mut Frames) -> io::Result<Option<Vec<u8>>> {
        let mut piece = [0_u8; 4096];
        loop {
            match frames.next_line() {
                Ok(Some(line)) => return Ok(Some(line.to_vec())),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            self.stream.readable().await?;
            match self.stream.try_read(&mut piece) {
                Ok(0) if frames.half() => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the request ended half-way: end it with a newline",
                    ));
                }
                Ok(0) => return Ok(None),
                Ok(count) => frames.push(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(&self, response: &Response) -> io::Result<()> {
        self.send_line(&protocol::line(response)).await
    }

    async fn send_line(&self, mut line: &[u8]) -> io::Result<()> {
        let sent = async {
            while !line.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(line) {
                    Ok(count) => line = &line[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, sent).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
