//! One program inside a container: started, heard, waited for.
//!
//! Docker's attached stream is only a stream: closing it ends nothing inside. Whoever starts an [`Exec`] ends it with
//! [`Exec::end`] or sees it end.

use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::WaitContainerOptions;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWrite;

use super::error::status_of;
use super::{Docker, DockerError, Found};

/// What a short program, one that is only asked something, may take.
const SHORT: Duration = Duration::from_secs(30);
/// What it has between TERM and KILL.
const ENDING: Duration = Duration::from_secs(2);
/// Of what a short program prints on each stream, this much is kept.
const KEPT: usize = 64 << 10;
/// How long the engine may need to notice that a program has ended whose output has.
const SETTLING: Duration = Duration::from_secs(10);
/// Between two questions about that: the engine has a wait for containers, and none for the programs in them.
const NEXT_QUESTION: Duration = Duration::from_millis(20);
/// How much later than of a program's end the engine may hear of its container's.
const FALLING: Duration = Duration::from_secs(1);
/// Docker hands on 32 KiB at a time.
const CHUNK: usize = 256 << 10;

/// So much of a program's output is looked at for the runtime's words.
pub(super) const HEAD: usize = 1024;

/// The mark of one exec, in its environment: by it its processes are known.
pub(super) const MARKER_EXEC: &str = "PUNK_ECO_EXEC";

/// A program to run inside.
#[derive(Clone, Debug)]
pub struct Order {
    pub argv: Vec<String>,
    /// Beside what the container has.
    pub env: Vec<(String, String)>,
    pub stdin: bool,
}

/// How a short program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub code: i64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A program that was started inside a container.
#[derive(Clone, Debug)]
pub(super) struct Exec {
    pub(super) docker: Docker,
    pub(super) container: String,
    /// For messages.
    pub(super) name: String,
    pub(super) program: String,
    pub(super) id: String,
    /// The value of [`MARKER_EXEC`].
    pub(super) token: String,
}

type Frames = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// What an exec prints, as it comes.
pub(super) struct Attached {
    frames: Frames,
}

/// What came out of a container.
pub(super) enum Piece {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

impl Docker {
    /// # Errors
    /// [`DockerError`]: the container is gone or stopped, or the engine refuses.
    pub(super) async fn start(
        &self,
        found: &Found,
        order: &Order,
    ) -> Result<(Exec, Attached, Input), DockerError> {
        let program = order.argv.first().map(String::as_str).unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        let refused = |said: String| refused(&found.name, &program, said);
        let token = token().map_err(|error| refused(format!("no token for it: {error}")))?;
        let mut env: Vec<String> = order.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.push(format!("{MARKER_EXEC}={token}"));
        let options = CreateExecOptions {
            attach_stdin: Some(order.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            env: Some(env),
            cmd: Some(order.argv.clone()),
            ..CreateExecOptions::default()
        };
        let refusal = |error: Error| match (status_of(&error), error) {
            (Some(_), Error::DockerResponseServerError { message, .. }) => Err(refused(message)),
            (_, other) => Ok(other),
        };
        let made = self.ask(
            "starting a program",
            Box::pin(async {
                match self.api.create_exec(&found.id, options).await {
                    Err(error) => refusal(error).map_or_else(|refused| Ok(Err(refused)), Err),
                    Ok(made) => Ok(Ok(made)),
                }
            }),
        );
        let id = made.await??.id;
        let options = StartExecOptions { detach: false, tty: false, output_capacity: Some(CHUNK) };
        let started = self.ask(
            "starting a program",
            Box::pin(async {
                match self.api.start_exec(&id, Some(options)).await {
                    Err(error) => refusal(error).map_or_else(|refused| Ok(Err(refused)), Err),
                    Ok(started) => Ok(Ok(started)),
                }
            }),
        );
        let StartExecResults::Attached { output, input } = started.await?? else {
            return Err(refused("it was started without a stream".to_owned()));
        };
        let exec = Exec {
            docker: self.clone(),
            container: found.id.clone(),
            name: found.name.clone(),
            program,
            id,
            token,
        };
        Ok((exec, Attached { frames: output }, input))
    }

    /// Runs a program that is soon done and hears it out; one that isn't is ended.
    ///
    /// # Errors
    /// [`DockerError`]; any exit code is an answer.
    pub async fn capture(&self, found: &Found, order: &Order) -> Result<Captured, DockerError> {
        let (exec, mut attached, _input) = self.start(found, order).await?;
        let mut guard = EndOnDrop(Some(exec.clone()));
        let (mut stdout, mut stderr) = (vec![], vec![]);
        let heard = tokio::time::timeout(SHORT, async {
            while let Some(piece) = exec.next(&mut attached).await? {
                let (kept, bytes) = match piece {
                    Piece::Out(bytes) => (&mut stdout, bytes),
                    Piece::Err(bytes) => (&mut stderr, bytes),
                };
                let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(&bytes[..room]);
            }
            exec.exit_code().await
        });
        match heard.await {
            Ok(code) => {
                guard.0 = None;
                let code = code?;
                match exec.never_ran(code, &stdout) {
                    Some(error) => Err(error),
                    None => Ok(Captured { code, stdout, stderr }),
                }
            }
            Err(_) => {
                guard.0 = None;
                // Before it is said, and while this process is still there to do it.
                let _ = exec.end(ENDING).await;
                Err(DockerError::TooLong {
                    name: exec.name.clone(),
                    program: exec.program.clone(),
                    limit: SHORT,
                })
            }
        }
    }
}

impl Exec {
    /// The next piece of output; `None` at its end.
    ///
    /// # Errors
    /// Where the stream breaks, or Docker says in it that the program was never started.
    pub(super) async fn next(&self, attached: &mut Attached) -> Result<Option<Piece>, DockerError> {
        match attached.frames.next().await {
            None => Ok(None),
            Some(Ok(LogOutput::StdOut { message })) => Ok(Some(Piece::Out(message.into()))),
            Some(Ok(LogOutput::StdErr { message })) => Ok(Some(Piece::Err(message.into()))),
            Some(Ok(LogOutput::StdIn { .. })) => Ok(Some(Piece::Err(vec![]))),
            // Text outside any frame is the runtime's own; so is what remains of a frame that was cut.
            Some(Ok(LogOutput::Console { message })) => {
                let said = String::from_utf8_lossy(&message).trim().to_owned();
                let cut = !said.contains("OCI runtime");
                let said = if cut { "its output was cut in the middle".to_owned() } else { said };
                Err(refused(&self.name, &self.program, said))
            }
            Some(Err(error)) => Err(DockerError::of("hearing a program", self.docker.socket(), error)),
        }
    }

    /// After the end of the output.
    ///
    /// # Errors
    /// An exit code that Docker doesn't have: nobody knows how the program ended.
    pub(super) async fn exit_code(&self) -> Result<i64, DockerError> {
        let unknown = |why: String| DockerError::NoExitCode {
            name: self.name.clone(),
            program: self.program.clone(),
            why,
        };
        let settled = tokio::time::Instant::now() + SETTLING;
        loop {
            let Some(seen) = self.inspect().await? else {
                return Err(unknown(self.what_of_the_container().await));
            };
            match (seen.running, seen.exit_code) {
                (false, Some(code)) => return Ok(code),
                (false, None) => return Err(unknown(self.what_of_the_container().await)),
                (true, _) if tokio::time::Instant::now() >= settled => {
                    return Err(unknown("its output has ended, but it runs".to_owned()));
                }
                (true, _) => tokio::time::sleep(NEXT_QUESTION).await,
            }
        }
    }

    /// `None` where the engine has forgotten it: its container was stopped or removed.
    pub(super) async fn inspect(&self) -> Result<Option<Seen>, DockerError> {
        let docker = &self.docker;
        let answer = docker.ask(
            "looking at a program",
            Box::pin(async {
                match docker.api.inspect_exec(&self.id).await {
                    Err(error) if matches!(status_of(&error), Some(404 | 409)) => Ok(None),
                    other => other.map(Some),
                }
            }),
        );
        let Some(seen) = answer.await? else { return Ok(None) };
        Ok(Some(Seen { running: seen.running.unwrap_or_default(), exit_code: seen.exit_code }))
    }

    /// Docker gives the runtime's words for a program that it couldn't start as the program's own output.
    pub(super) fn never_ran(&self, code: i64, stdout: &[u8]) -> Option<DockerError> {
        let said = String::from_utf8_lossy(&stdout[..stdout.len().min(HEAD)]).into_owned();
        let runtime = matches!(code, 126 | 127) && said.starts_with("OCI runtime");
        runtime.then(|| refused(&self.name, &self.program, said))
    }

    /// Whether a program that was killed was so with its whole container, which ran since `since` when it began.
    pub(super) async fn fell_with_container(&self, since: &str) -> Option<DockerError> {
        if !self.container_fell(since).await? {
            let mut stopped = self.docker.api.wait_container(&self.container, None::<WaitContainerOptions>);
            // Whatever it answers: the state tells more.
            let _ = tokio::time::timeout(FALLING, stopped.next()).await;
            if !self.container_fell(since).await? {
                return None;
            }
        }
        let (name, program) = (self.name.clone(), self.program.clone());
        Some(DockerError::Fell { name, program, why: self.what_of_the_container().await })
    }

    /// `None` where the engine can't be asked.
    async fn container_fell(&self, since: &str) -> Option<bool> {
        let container = self.docker.inspect(&self.container).await.ok()?;
        let state = container.as_ref().and_then(|container| container.state.as_ref());
        let same = state.and_then(|state| state.started_at.as_deref()) == Some(since);
        Some(!same || super::state::trouble(state, NEVER).is_some())
    }

    async fn what_of_the_container(&self) -> String {
        match self.docker.inspect(&self.container).await {
            Ok(Some(container)) => {
                let state = container.state.as_ref();
                let since = state.and_then(|state| state.started_at.clone()).unwrap_or_default();
                match super::state::trouble(state, NEVER) {
                    Some(trouble) => trouble,
                    None => format!("it runs since {since}"),
                }
            }
            Ok(None) => "it is gone".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// A time of day for texts that say what is, and not how long ago it came to be.
const NEVER: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

pub(super) struct Seen {
    pub(super) running: bool,
    pub(super) exit_code: Option<i64>,
}

/// A short program whose caller is gone is ended too.
struct EndOnDrop(Option<Exec>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let (Some(exec), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { exec.end(ENDING).await });
        }
    }
}

/// Docker's words for a program that it can't run, told apart by the runtime's (runc's and crun's).
fn refused(name: &str, program: &str, said: String) -> DockerError {
    let (name, program) = (name.to_owned(), program.to_owned());
    let absent = ["executable file not found", "no such file or directory", "permission denied: unknown"];
    let of_the_runtime = said.contains("OCI runtime") || said.contains("exec failed");
    if of_the_runtime && absent.iter().any(|text| said.contains(text)) {
        return DockerError::NoProgram { name, program, said: last_part(&said) };
    }
    DockerError::Refused { name, program, said: said.trim().to_owned() }
}

/// `exec: "pg_dump": executable file not found in $PATH` of the runtime's chain of causes.
fn last_part(said: &str) -> String {
    let said = said.trim().trim_end_matches(": unknown");
    said.rfind("exec: ").map_or(said, |at| &said[at + "exec: ".len()..]).to_owned()
}

fn token() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_the_program_is_told_from_a_refusal() {
        let said = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"pg_dump\": \
                    executable file not found in $PATH: unknown";
        let error = refused("db", "pg_dump", said.to_owned());
        assert!(error.is_lasting());
        assert_eq!(
            error.to_string(),
            "container db has no pg_dump: \"pg_dump\": executable file not found in $PATH"
        );
        let error =
            refused("db", "pg_dump", "Container 42 is paused, unpause the container first".to_owned());
        assert!(!error.is_lasting());
        assert_eq!(
            error.to_string(),
            "Docker doesn't run pg_dump in container db: Container 42 is paused, unpause the container first"
        );
    }
}
