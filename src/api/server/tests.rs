use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Plain;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::api::client::{Client as Caller, ClientError, Followed};
use crate::api::{Refused, Reloaded, RunEvent, Started, Status};
use crate::model::{Outcome, RunId};

/// Writes down what it is asked; a run's events are the test's to send.
#[derive(Default)]
pub(in crate::api) struct Fake {
    asked: Mutex<Vec<String>>,
    events: Mutex<Option<UnboundedReceiver<RunEvent>>>,
}

impl Fake {
    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

#[async_trait]
impl Control for Fake {
    async fn run_now(&self, job: &str, dry_run: bool, by: &str) -> Result<Started, Refused> {
        self.note(format!("run {job} {dry_run} {by}"));
        if job != "true" {
            return Err(Refused::UnknownJob { name: job.into(), nearest: Some("true".into()) });
        }
        let events = self.events.lock().unwrap().take().unwrap_or_else(|| unbounded_channel().1);
        Ok(Started { run: RunId(7), events })
    }

    async fn cancel(&self, run: RunId, by: &str) -> Result<(), Refused> {
        self.note(format!("cancel {run} {by}"));
        Err(Refused::NotRunning { run })
    }

    async fn pause(&self, job: Option<&str>, until: Option<Timestamp>, by: &str) -> Result<(), Refused> {
        self.note(format!("pause {job:?} {until:?} {by}"));
        Ok(())
    }

    async fn resume(&self, job: Option<&str>, by: &str) -> Result<(), Refused> {
        self.note(format!("resume {job:?} {by}"));
        Ok(())
    }

    async fn reload(&self, by: &str) -> Result<Reloaded, Refused> {
        self.note(format!("reload {by}"));
        Ok(Reloaded { jobs: 1, added: vec!["a".into()], changed: vec![], removed: vec![] })
    }

    async fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 1,
            started_at: Timestamp::UNIX_EPOCH,
            config: "/x".into(),
            config_changed: false,
            jobs: 1,
            running: vec![],
            next: None,
            paused: vec![],
            problems: vec![],
            incidents: vec![],
        }
    }
}

/// A server on a thread of its own; clients are blocking.
struct Running {
    directory: tempfile::TempDir,
    fake: Arc<Fake>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn start() -> (Running, UnboundedSender<RunEvent>) {
    let directory = tempfile::tempdir().unwrap();
    let (tell, events) = unbounded_channel();
    let fake = Arc::new(Fake { events: Mutex::new(Some(events)), ..Fake::default() });
    let stop = CancellationToken::new();
    let (bound, ready) = std::sync::mpsc::channel();
    let thread = std::thread::spawn({
        let (path, fake, stop) = (directory.path().join("run/control.sock"), fake.clone(), stop.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&path).unwrap();
                bound.send(()).unwrap();
                server.serve(fake, stop).await;
            });
        }
    });
    ready.recv().unwrap();
    (Running { directory, fake, stop, thread: Some(thread) }, tell)
}

impl Running {
    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("run/control.sock")
    }

    fn connect(&self) -> Caller {
        Caller::connect(&self.path()).unwrap()
    }

    /// Sends bytes as they are, ends its side, and returns what came back after the greeting.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = Plain::connect(self.path()).unwrap();
        // The server may hang up before it has read all of it.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        answer.split_once('\n').unwrap().1.to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn me() -> String {
    crate::api::name_of(rustix::process::getuid().as_raw())
}

#[test]
fn each_request_reaches_the_daemon_with_the_name_of_who_asks() {
    let (server, _tell) = start();
    let mut caller = server.connect();
    assert_eq!(caller.daemon_pid(), std::process::id());
    caller.pause(Some("a"), Some(Timestamp::UNIX_EPOCH)).unwrap();
    caller.resume(None).unwrap();
    assert_eq!(caller.reload().unwrap().added, ["a"]);
    assert_eq!(caller.status().unwrap().config, "/x");
    assert_eq!(caller.cancel(RunId(3)).unwrap_err().to_string(), "run 3 is not running");
    assert_eq!(caller.run_now("true", true, false).unwrap(), RunId(7));
    let me = me();
    assert_eq!(
        *server.fake.asked.lock().unwrap(),
        [
            format!("pause Some(\"a\") Some(1970-01-01T00:00:00Z) {me}"),
            format!("resume None {me}"),
            format!("reload {me}"),
            format!("cancel 3 {me}"),
            format!("run true true {me}"),
        ]
    );
}

#[test]
fn a_run_is_followed_to_its_end() {
    let (server, tell) = start();
    let mut caller = server.connect();
    assert_eq!(caller.run_now("true", false, true).unwrap(), RunId(7));
    let ended = RunEvent::Ended {
        outcome: Outcome::Failed,
        reason: None,
        summary: None,
        error: Some("exit status 1".into()),
    };
    tell.send(RunEvent::Waiting("for the group backups".into())).unwrap();
    tell.send(ended.clone()).unwrap();
    drop(tell);
    let (wake, _never) = Plain::pair().unwrap();
    let mut next = || caller.next_event(std::os::fd::AsFd::as_fd(&wake)).unwrap();
    assert_eq!(next(), Followed::Event(RunEvent::Waiting("for the group backups".into())));
    assert_eq!(next(), Followed::Event(ended));
    assert_eq!(next(), Followed::Closed);
}

#[test]
fn an_interrupt_wakes_a_client_that_follows() {
    let (server, _tell) = start();
    let mut caller = server.connect();
    caller.run_now("true", false, true).unwrap();
    let (wake, mut press) = Plain::pair().unwrap();
    press.write_all(b"x").unwrap();
    assert_eq!(caller.next_event(std::os::fd::AsFd::as_fd(&wake)).unwrap(), Followed::Woken);
}

#[test]
fn a_client_that_goes_away_ends_only_its_own_connection() {
    let (server, tell) = start();
    let mut caller = server.connect();
    caller.run_now("true", false, true).unwrap();
    drop(caller);
    // The server drops the run's events once it has noticed, though the run says nothing.
    while !tell.is_closed() {
        std::thread::yield_now();
    }
    assert_eq!(server.connect().status().unwrap().jobs, 1);
}

#[test]
fn what_is_no_request_is_answered_with_the_reason() {
    let (server, _tell) = start();
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(server.send(bytes), format!("{{\"bad_request\":\"{expected}\"}}\n"));
    };
    check(b"GET / HTTP/1.1\r\n\r\n", "the request is not JSON: expected value at line 1 column 1");
    check(&[0xff, 0, 0xfe, b'\n'], "the request is not JSON: expected value at line 1 column 1");
    check(b"{\"protocol\":1,\"requ", "the request ended half-way: end it with a newline");
    check(&vec![b'['; MAX_REQUEST + 100_000], "the message is longer than 1048576 bytes");
    assert_eq!(server.send(b""), "");
    let unknown = server.connect().run_now("tru", false, true).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no job named `tru`: did you mean `true`?");
    assert_eq!(server.connect().status().unwrap().jobs, 1);
}

#[test]
fn two_hundred_clients_at_once() {
    let (server, _tell) = start();
    let mut callers: Vec<Caller> = (0..200).map(|_| server.connect()).collect();
    for caller in &mut callers {
        assert_eq!(caller.status().unwrap().jobs, 1);
    }
    // One too many is told so; it costs nobody else anything.
    let more: Vec<Caller> = (200..MAX_CLIENTS).map(|_| server.connect()).collect();
    assert_eq!(
        server.connect().status().unwrap_err().to_string(),
        "the daemon did not take the request: the daemon has 512 clients already: try again when one has gone"
    );
    assert_eq!(callers[0].status().unwrap().jobs, 1);
    drop(more);
}

#[test]
fn the_socket_is_for_its_owner_and_the_group_of_its_directory_and_goes_away() {
    let (server, _tell) = start();
    let path = server.path();
    let directory = std::fs::metadata(path.parent().unwrap()).unwrap();
    let socket = std::fs::metadata(&path).unwrap();
    assert_eq!(format!("{:o}", socket.permissions().mode()), "140660");
    assert_eq!(socket.gid(), directory.gid());
    assert_eq!(format!("{:o}", directory.permissions().mode()), "40755");
    let kept = server.directory.path().to_owned();
    server.stop.cancel();
    while path.exists() {
        std::thread::yield_now();
    }
    assert_eq!(std::fs::read_dir(kept.join("run")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_living_one_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = Server::bind(&path).unwrap();
    assert_eq!(
        Server::bind(&path).unwrap_err().to_string(),
        format!(
            "{}: another daemon answers on this socket (pid {}): stop it first, or give this one its own paths.socket",
            path.display(),
            std::process::id()
        )
    );
    // A socket that is no longer ours is not removed by us.
    std::fs::remove_file(&path).unwrap();
    let second = Server::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(
        Server::bind(&path).unwrap_err().to_string(),
        format!(
            "{}: there is something else than a socket here: move it away, or set paths.socket",
            path.display()
        )
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(Server::bind(&long).unwrap_err(), BindError::Io { what: "bound", .. }));
}

#[test]
fn without_a_daemon_the_client_says_where_it_looked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let check = |expected: &str| {
        let error = Caller::connect(&path).unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon { .. }));
        assert_eq!(error.to_string(), format!("no daemon answers on {}: {expected}", path.display()));
    };
    check("there is no such socket");
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || other.accept().unwrap().0.write_all(b"220 smtp\n").unwrap());
    check("it is no punk-eco-sched");
    thread.join().unwrap();
    check("the socket is a dead daemon's");
}
