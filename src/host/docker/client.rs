//! `__in_container`: a program inside a container as a program of this host.
//!
//! A child of the spawner like any other: what the program inside prints comes out here, its exit code is this one's,
//! and when this process is told to end, or nobody reads it any more, it ends the program inside first. So a job's
//! timeout, its cancel and the death of its daemon reach into the container.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use super::exec::{Attached, HEAD, Input, Piece};
use super::{Docker, DockerError, Exec, Found, Order, Owner};
use crate::host::process::{MARKER_JOB, MARKER_RUN};
use crate::policy::TERM_GRACE;

/// The name of the first argument that leads here.
pub const VERB: &str = "__in_container";

/// Exit codes beside the program's own, as `docker exec` has them.
pub const FAILED: i32 = 125;
pub const NO_PROGRAM: i32 = 127;

/// The spawner kills after the whole of it: what is inside must be gone by then.
const GRACE: Duration = Duration::from_millis(TERM_GRACE.as_millis() as u64 * 7 / 10);

#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    socket: PathBuf,
    id: String,
    name: String,
    stdin: bool,
    /// What of this process's environment the program inside gets.
    env: Vec<String>,
}

/// The arguments that make this program, `executable`, run `order` inside; `order.env` is to be its environment, where
/// only the same user and root can read it.
pub fn arguments(executable: String, docker: &Docker, found: &Found, order: &Order) -> Vec<String> {
    let settings = Settings {
        socket: docker.socket().to_owned(),
        id: found.id.clone(),
        name: found.name.clone(),
        stdin: order.stdin,
        env: order.env.iter().map(|(name, _)| name.clone()).collect(),
    };
    let settings = serde_json::to_string(&settings).unwrap_or_default();
    [vec![executable, VERB.to_owned(), settings], order.argv.clone()].concat()
}

/// `args`: what follows [`VERB`].
pub fn main(args: &[OsString]) -> ExitCode {
    let [settings, argv @ ..] = args else { return ExitCode::from(2) };
    let Ok(settings) = serde_json::from_slice::<Settings>(settings.as_bytes()) else {
        return ExitCode::from(2);
    };
    let argv = argv.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&error.to_string(), FAILED),
    };
    match runtime.block_on(carry(settings, argv)) {
        Ok(code) => exit(i32::try_from(code).unwrap_or(FAILED)),
        Err(error @ DockerError::NoProgram { .. }) => tell(&error.to_string(), NO_PROGRAM),
        Err(error) => tell(&error.to_string(), FAILED),
    }
}

async fn carry(settings: Settings, argv: Vec<String>) -> Result<i64, DockerError> {
    let local = |error: std::io::Error| DockerError::Refused {
        name: settings.name.clone(),
        program: argv.first().cloned().unwrap_or_default(),
        said: error.to_string(),
    };
    let mut term = signal(SignalKind::terminate()).map_err(local)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(local)?;
    let out = std::io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd);
    let mut out = out.map_err(local)?;

    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let mut env: Vec<_> = settings.env.iter().map(|name| (name.clone(), variable(name))).collect();
    env.extend(Owner { job: variable(MARKER_JOB), run: variable(MARKER_RUN) }.marks());
    let order = Order { argv: argv.clone(), env, stdin: settings.stdin };
    let found = Found {
        id: settings.id.clone(),
        name: settings.name.clone(),
        image: String::new(),
        addresses: vec![],
        pid: None,
        chosen: None,
    };
    let docker = Docker::at(settings.socket.clone()).await?;
    let container = docker.inspect(&found.id).await?;
    let since = container.and_then(|container| container.state?.started_at).unwrap_or_default();
    let (exec, attached, input) = docker.start(&found, &order).await?;
    let mut head = vec![];
    let heard = async {
        match hear(&exec, attached, input, &mut out, &mut head, settings.stdin).await? {
            Ok(()) => Some(exec.exit_code().await),
            Err(error) => Some(Err(error)),
        }
    };
    let ended = tokio::select! {
        done = heard => done,
        _ = term.recv() => None,
        _ = interrupt.recv() => None,
    };
    match ended {
        Some(Ok(code)) => {
            if let Some(error) = exec.never_ran(code, &head) {
                return Err(error);
            }
            match code {
                137 | 143 => exec.fell_with_container(&since).await.map_or(Ok(code), Err),
                _ => Ok(code),
            }
        }
        // Nobody hears it any more: it must not go on.
        Some(Err(error)) => {
            let _ = exec.end(GRACE).await;
            Err(error)
        }
        None => {
            exec.end(GRACE).await.map_err(|said| local(std::io::Error::other(said)))?;
            Ok(128 + 15)
        }
    }
}

/// Carries what the program prints to this process's own streams. `None` where nobody reads them.
async fn hear(
    exec: &Exec,
    mut attached: Attached,
    input: Input,
    out: &mut pipe::Sender,
    head: &mut Vec<u8>,
    stdin: bool,
) -> Option<Result<(), DockerError>> {
    let fed = async {
        if stdin {
            feed(input).await;
        }
        std::future::pending::<()>().await;
    };
    let heard = async {
        loop {
            let piece = tokio::select! {
                piece = exec.next(&mut attached) => piece,
                // The reading end of the pipe is closed.
                _ = out.ready(Interest::ERROR) => return None,
            };
            match piece {
                Ok(None) => return Some(Ok(())),
                Ok(Some(Piece::Out(bytes))) => {
                    let room = HEAD.saturating_sub(head.len()).min(bytes.len());
                    head.extend_from_slice(&bytes[..room]);
                    out.write_all(&bytes).await.ok()?;
                }
                Ok(Some(Piece::Err(bytes))) => std::io::stderr().write_all(&bytes).ok()?,
                Err(error) => return Some(Err(error)),
            }
        }
    };
    tokio::select! {
        heard = heard => heard,
        () = fed => None,
    }
}

/// This process's standard input to the program's. A program that doesn't read to the end holds nobody up.
async fn feed(mut input: Input) {
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    // A thread of its own: standard input may be a file, which can't be waited for. It ends with the process.
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut piece = vec![0; 64 << 10];
            match stdin.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(count) => piece.truncate(count),
            }
            if sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    while let Some(piece) = pieces.recv().await {
        if input.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

fn tell(text: &str, code: i32) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    exit(code)
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
