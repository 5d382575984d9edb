//! `command`: a program's exit code says whether all is well.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::unix::pipe;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::process::{Output, Program, Running, Status, find_program, login_path};
use crate::jobs::{HostContext, JobContext, Lack};
use crate::logs::harmless;
use crate::model::Unit;
use crate::units::HumanDuration;

/// Between TERM and KILL, once the time is up.
const GRACE: Duration = Duration::from_secs(2);
/// What is kept of the end of each stream.
const TAIL: usize = 4096;
/// Of it, what the result tells: lines, and characters of these.
const LINES: usize = 3;
const SHOWN: usize = 500;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// The program and its arguments, started without a shell; exit code 0 means that all is well.
    run: Vec<String>,
    /// After this time it has failed, and is ended with all that it started.
    #[serde(default = "thirty_seconds")]
    timeout: HumanDuration,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn thirty_seconds() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}

#[async_trait]
impl Check for Command {
    fn subject(&self) -> String {
        self.run.join(" ")
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let mut found = vec![];
        let mut say = |key: &str, message: &str, hint: Option<&str>| {
            let (key, message) = (key.to_owned(), message.to_owned());
            found.push(Invalid { key, message, hint: hint.map(str::to_owned) });
        };
        if self.run.first().is_none_or(String::is_empty) {
            say("run", "`run` names no program", Some("the first item is the program"));
        }
        if self.run.iter().any(|text| text.contains('\0')) {
            say("run", "a command can't hold a NUL character", None);
        }
        if self.timeout.0.is_zero() {
            say("timeout", "no program ends in no time", Some("as in 30s"));
        }
        found
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        if ctx.dry_run {
            return Measured::of(true, format!("would run {}", self.run.join(" ")));
        }
        let (env, home) = ctx.programs.login_environment();
        let program = Program {
            argv: self.run.clone(),
            env,
            cwd: Some(home).filter(|home| home.is_dir()),
            stdout: Output::Pipe,
            stderr: Output::Pipe,
            ..Program::default()
        };
        let mut running = match ctx.programs.start(program).await {
            Ok(running) => running,
            Err(error) => return Measured::of(false, error.to_string()),
        };
        let (mut out, mut err) = (Tail::of(running.stdout.take()), Tail::of(running.stderr.take()));
        let ended = tokio::time::timeout(self.timeout.0, finish(&mut running, &mut out, &mut err)).await;
        let status = match ended {
            Ok(status) => Some(status),
            Err(_) => {
                ctx.programs.end_one(&mut running, GRACE).await;
                None
            }
        };
        out.take_rest();
        err.take_rest();
        judge(status, self.timeout, [&err.last_lines(), &out.last_lines()])
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        let path = login_path(nix::unistd::geteuid().as_raw());
        let Err(reason) = find_program(&self.run[0], path, &PathBuf::from("/")) else { return vec![] };
        let hint = Some("give the whole path of the program".to_owned());
        vec![Lack { fatal: true, message: format!("{}: {reason}", self.run[0]), hint }]
    }
}

/// Reads along until the program ends. Not until its streams do: something that it left behind may hold them.
async fn finish(running: &mut Running, out: &mut Tail, err: &mut Tail) -> Status {
    let read = async { tokio::join!(out.read(), err.read()) };
    tokio::select! {
        exit = running.wait() => return exit.status,
        _ = read => {}
    }
    running.wait().await.status
}

/// `None`: it had not ended when its time was up.
fn judge(status: Option<Status>, timeout: HumanDuration, said: [&str; 2]) -> Measured {
    let ended = match status {
        Some(Status::Code(0)) => {
            return Measured::of(true, "exit code 0").against(0, 0).measuring(
                "exit_code",
                Unit::Count,
                0.0,
                0.0,
            );
        }
        Some(Status::Code(code)) => format!("exit code {code}"),
        Some(Status::Signal(signal)) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("ended by signal {signal} ({name})"),
            None => format!("ended by signal {signal}"),
        },
        Some(Status::Unknown) => return Measured::unknown("nobody knows how it ended: its spawner died"),
        None => format!("not done after {timeout}: ended by its timeout"),
    };
    // Plugins of monitoring programs say on stdout what is wrong, other programs on stderr.
    let words = said.into_iter().find(|said| !said.is_empty());
    let text = words.map_or_else(|| ended.clone(), |words| format!("{ended}: {words}"));
    let measured = Measured::of(false, text);
    let Some(Status::Code(code)) = status else { return measured };
    measured.against(code, 0).measuring("exit_code", Unit::Count, f64::from(code), 0.0)
}

/// The end of what a stream said.
#[derive(Default)]
struct Tail {
    pipe: Option<pipe::Receiver>,
    bytes: Vec<u8>,
}

impl Tail {
    fn of(pipe: Option<OwnedFd>) -> Self {
        Self { pipe: pipe.and_then(|pipe| pipe::Receiver::from_owned_fd(pipe).ok()), bytes: vec![] }
    }

    /// Until the stream ends. Loses nothing when it is dropped between.
    async fn read(&mut self) {
        while let Some(pipe) = &self.pipe {
            if pipe.readable().await.is_err() || self.take().is_none() {
                self.pipe = None;
            }
        }
    }

    /// What is there now, and no more: whoever holds the stream open may never end. Asks the pipe itself, which doesn't
    /// block: tokio only knows of what it was told since, and on a busy host that is nothing yet.
    fn take_rest(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let mut buffer = [0; 4096];
        for _ in 0..64 {
            match rustix::io::read(&pipe, &mut buffer) {
                Ok(length) if length > 0 => self.keep(&buffer[..length]),
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
    }

    /// How much was there; `None`: there will be no more.
    fn take(&mut self) -> Option<usize> {
        let mut buffer = [0; 4096];
        match self.pipe.as_ref()?.try_read(&mut buffer) {
            Ok(0) => None,
            Ok(length) => {
                self.keep(&buffer[..length]);
                Some(length)
            }
            Err(error) => (error.kind() == std::io::ErrorKind::WouldBlock).then_some(0),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.drain(..self.bytes.len().saturating_sub(TAIL));
    }

    fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = harmless(&lines[lines.len().saturating_sub(LINES)..].join(" / "));
        match last.char_indices().rev().nth(SHOWN - 1) {
            Some((from, _)) if from > 0 => format!("…{}", &last[from..]),
            _ => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::health_check::check::State;

    #[test]
    fn an_end_is_told_with_its_last_words() {
        let check = |status: Option<Status>, said: [&str; 2], state: State, text: &str| {
            let measured = judge(status, HumanDuration(Duration::from_secs(30)), said);
            assert_eq!((measured.state, measured.text.as_str()), (state, text));
        };
        check(Some(Status::Code(0)), ["a warning", ""], State::Ok, "exit code 0");
        check(
            Some(Status::Code(2)),
            ["", "CRITICAL: no reply"],
            State::Failing,
            "exit code 2: CRITICAL: no reply",
        );
        check(Some(Status::Code(1)), ["why", "what"], State::Failing, "exit code 1: why");
        check(Some(Status::Signal(9)), ["", ""], State::Failing, "ended by signal 9 (SIGKILL)");
        check(None, ["", "asking"], State::Failing, "not done after 30s: ended by its timeout: asking");
        let unknown = "nobody knows how it ended: its spawner died";
        check(Some(Status::Unknown), ["", ""], State::Unknown, unknown);
    }

    #[tokio::test]
    async fn what_nobody_has_told_of_yet_is_read_all_the_same() {
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let mut tail = Tail::of(Some(ours));
        assert_eq!(rustix::io::write(&theirs, b"gone\n"), Ok(5));
        // Without a wait between, tokio's reactor has not had its turn.
        tail.take_rest();
        assert_eq!(tail.last_lines(), "gone");
    }

    #[test]
    fn the_last_lines_stand_on_one() {
        let tail = Tail { pipe: None, bytes: b"1\n2\r\n\n 3\n4\n\n".to_vec() };
        assert_eq!(tail.last_lines(), "2 / 3 / 4");
        assert_eq!(Tail::default().last_lines(), "");
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(Tail { pipe: None, bytes: bytes.to_vec() }.last_lines(), expected);
        };
        // Neither a terminal nor a ledger is to suffer from it.
        check(b"\x1b[31mno\x00\xff", "\\x1b[31mno\\x00\u{fffd}");
        check(&[0; 4096], &format!("…{}", "\\x00".repeat(125)));
        check("é".repeat(500).as_bytes(), &"é".repeat(500));
    }
}
