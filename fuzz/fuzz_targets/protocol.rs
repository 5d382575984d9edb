//! Any bytes at the four ends of the two sockets: the daemon's control socket as server and as client, and the
//! spawner's socket on both sides. The first byte of the input says which.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use punk_eco_sched::api::client::Client;
use punk_eco_sched::api::protocol::{Frames, MAX_REQUEST, read_request};
use punk_eco_sched::api::server::Server;
use punk_eco_sched::api::{Control, NextSlot, Refused, Reloaded, Started, Status};
use punk_eco_sched::model::RunId;
use punk_eco_sched::spawner::fuzzing::{daemon_end, spawner_end};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

fuzz_target!(
    init: {
        // As in any program of Rust: who writes to one that hung up hears of it by an error.
        // SAFETY: no handler is installed, and no thread runs yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |input: &[u8]| hand_over(input)
);

fn hand_over(input: &[u8]) {
    let Some((end, bytes)) = input.split_first() else { return };
    match end % 5 {
        0 => SERVER.say(bytes),
        1 => answered_by_a_daemon(bytes),
        2 => {
            spawner_end(bytes);
        }
        3 => RUNTIME.block_on(daemon_end(bytes)),
        _ => cut(bytes),
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

static SERVER: LazyLock<Served> = LazyLock::new(Served::new);

/// A control socket that is served by a thread of this process.
struct Served {
    path: PathBuf,
}

impl Served {
    fn new() -> Self {
        let path = folder().join("control.sock");
        let (bound, is_bound) = std::sync::mpsc::channel();
        let place = path.clone();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&place).unwrap();
                bound.send(()).unwrap();
                server.serve(Arc::new(Patient), CancellationToken::new()).await;
            });
        });
        is_bound.recv().unwrap();
        Self { path }
    }

    /// Says it all, hangs up half, and reads the answers until the server hangs up: it always must.
    fn say(&self, bytes: &[u8]) {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answers = vec![];
        // Where it refused the rest of what was sent, the connection is reset.
        let _ = stream.read_to_end(&mut answers);
        assert!(
            answers.starts_with(b"{\"protocol\":1,"),
            "no hello: {:?}",
            String::from_utf8_lossy(&answers)
        );
    }
}

/// Whatever the daemon answers, a verb ends with an answer or an error.
fn answered_by_a_daemon(bytes: &[u8]) {
    static LISTENER: LazyLock<(Mutex<UnixListener>, PathBuf)> = LazyLock::new(|| {
        let path = folder().join("client.sock");
        let _ = std::fs::remove_file(&path);
        (Mutex::new(UnixListener::bind(&path).unwrap()), path)
    });
    let (listener, path) = &*LISTENER;
    let listener = listener.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            // What is asked is read, so that the end is no reset.
            let _ = stream.read_to_end(&mut vec![]);
        });
        if let Ok(mut client) = Client::connect(path) {
            let _ = client.status();
            let _ = client.reload();
            let (never, _held) = UnixStream::pair().unwrap();
            for _ in 0..20 {
                match client.next_event(std::os::fd::AsFd::as_fd(&never)) {
                    Ok(punk_eco_sched::api::client::Followed::Closed) => break,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    });
}

/// However the bytes are cut, the same lines and the same requests come out.
fn cut(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let lines = |size: usize| {
        let (mut frames, mut lines) = (Frames::new(MAX_REQUEST), vec![]);
        for piece in bytes.chunks(size) {
            frames.push(piece);
            while let Ok(Some(line)) = frames.next_line() {
                lines.push(line.to_vec());
            }
        }
        (lines, frames.half())
    };
    let (whole, half) = lines(bytes.len().max(1));
    assert_eq!((&whole, half), (&lines(usize::from(*size).max(1)).0, half));
    for line in whole {
        let _ = read_request(&line);
    }
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("punk-eco-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A daemon without jobs.
struct Patient;

#[async_trait]
impl Control for Patient {
    async fn run_now(&self, job: &str, _: bool, _: &str) -> Result<Started, Refused> {
        if job == "db" {
            return Ok(Started { run: RunId(1), events: tokio::sync::mpsc::unbounded_channel().1 });
        }
        Err(Refused::UnknownJob { name: job.to_owned(), nearest: None })
    }

    async fn cancel(&self, run: RunId, _: &str) -> Result<(), Refused> {
        Err(Refused::NotRunning { run })
    }

    async fn pause(&self, _: Option<&str>, _: Option<Timestamp>, _: &str) -> Result<(), Refused> {
        Ok(())
    }

    async fn resume(&self, _: Option<&str>, _: &str) -> Result<(), Refused> {
        Ok(())
    }

    async fn reload(&self, _: &str) -> Result<Reloaded, Refused> {
        Ok(Reloaded { jobs: 0, added: vec![], changed: vec![], removed: vec![] })
    }

    async fn status(&self) -> Status {
        Status {
            version: "0".into(),
            pid: 1,
            started_at: Timestamp::UNIX_EPOCH,
            config: "/nowhere/jobs.yaml".into(),
            config_changed: false,
            jobs: 0,
            running: vec![],
            next: Some(NextSlot { job: "db".into(), slot: Timestamp::UNIX_EPOCH }),
            paused: vec![],
            problems: vec![],
        }
    }
}
