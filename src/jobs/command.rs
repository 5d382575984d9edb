//! `command`: any program or shell line of a crontab.
//!
//! Runs as the job's `user` in a login's environment; goes on when the daemon ends, for the next one to adopt.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{HostContext, Job, JobContext, JobError, KindOptions, Lack};
use crate::document::Invalid;
use crate::host::accounts;
use crate::host::process::{Keep, Output, Program, Stdin, find_program, judge, login_path};
use crate::logs::Level;
use crate::model::Report;
use crate::policy::{Interrupted, TERM_GRACE};
use crate::units::Size;

/// What is kept of each stream for the message of a failure.
const TAIL: usize = 4096;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments, started without a shell.
    run: Option<Vec<String>>,
    /// A line for `sh -c`; instead of `run`.
    shell: Option<String>,
    /// The working folder; default: the home of the user.
    cwd: Option<PathBuf>,
    /// What the program reads; default: nothing.
    stdin: Option<String>,
    /// Exit codes that count as success.
    #[serde(default = "success_codes")]
    success_codes: Vec<i32>,
    /// Output beyond this many bytes is read and dropped.
    #[serde(default = "max_output")]
    max_output: Size,
}

impl KindOptions for Command {
    const NAME: &'static str = "command";
    const SUMMARY: &'static str = "runs a program or a shell line";
    const INTERRUPTED: Interrupted = Interrupted::Leave;

    fn invalid(&self) -> Vec<Invalid> {
        let mut invalid = vec![];
        let mut say = |key: &str, message: &str, hint: &str| {
            let hint = (!hint.is_empty()).then(|| hint.to_owned());
            invalid.push(Invalid { key: key.to_owned(), message: message.to_owned(), hint });
        };
        match (&self.run, &self.shell) {
            (None, None) => say("", "a command needs `run` or `shell`", "run: [\"/usr/bin/rsync\", \"-a\"]"),
            (Some(_), Some(_)) => say("shell", "`run` and `shell` exclude each other", "keep one of them"),
            (Some(argv), None) if argv.first().is_none_or(String::is_empty) => {
                say("run", "`run` names no program", "the first item is the program");
            }
            (None, Some(line)) if line.trim().is_empty() => say("shell", "`shell` is empty", ""),
            _ => {}
        }
        if self.run.iter().flatten().chain(&self.shell).any(|text| text.contains('\0')) {
            say("", "a command can't hold a NUL character", "");
        }
        if self.cwd.as_ref().is_some_and(|cwd| !cwd.is_absolute()) {
            say("cwd", "`cwd` must be an absolute path", "");
        }
        if self.success_codes.is_empty() {
            say("success_codes", "without a success code no run can succeed", "success_codes: [0]");
        }
        if self.success_codes.iter().any(|code| !(0..=255).contains(code)) {
            say("success_codes", "an exit code lies between 0 and 255", "");
        }
        invalid
    }
}

#[async_trait]
impl Job for Command {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        if ctx.dry_run {
            return Ok(Report::new(format!("would run {}", self.argv().join(" "))));
        }
        let (env, home) = ctx.programs.login_environment();
        let cwd = match &self.cwd {
            Some(cwd) => cwd.clone(),
            None if home.is_dir() => home,
            None => {
                let text = format!("the home {} is absent: the working folder is /", home.display());
                ctx.log.note_as(ctx.clock.now(), Level::Warn, &text);
                PathBuf::from("/")
            }
        };
        let keep = Keep { success_codes: self.success_codes.clone(), deadline: ctx.deadline };
        let program = Program {
            argv: self.argv(),
            env,
            cwd: Some(cwd),
            stdin: self.stdin.as_ref().map_or(Stdin::Null, |text| Stdin::Bytes(text.clone().into_bytes())),
            stdout: Output::Log { tail: TAIL },
            stderr: Output::Log { tail: TAIL },
            max_output: Some(self.max_output.0),
            account: ctx.programs.account().cloned(),
            keep: Some(keep.clone()),
        };
        let mut running = ctx.programs.start(program).await?;
        let exit = running.wait().await;
        let swept = ctx.programs.end_all(TERM_GRACE).await;
        let mut report = judge(&exit, &keep).map_err(anyhow::Error::msg)?;
        report.findings = swept.findings();
        Ok(report)
    }

    fn outlives_daemon(&self) -> bool {
        true
    }

    async fn preflight(&self, ctx: &HostContext) -> Vec<Lack> {
        let mut lacks = vec![];
        let mut lack = |message: String, hint: Option<String>| {
            lacks.push(Lack { fatal: true, message, hint });
        };
        let account = match ctx.user.as_deref().map(accounts::by_name).unwrap_or_else(accounts::own) {
            Ok(account) => Some(account),
            Err(message) => {
                lack(message, None);
                None
            }
        };
        let own = nix::unistd::geteuid();
        if let Some(account) = &account
            && account.uid != own.as_raw()
            && !own.is_root()
        {
            let message = format!("user {}: only root can run a program as another user", account.name);
            lack(message, None);
        }
        if let Some(cwd) = self.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            lack(format!("cwd {}: no such folder", cwd.display()), None);
        }
        let uid = account.as_ref().map_or(own.as_raw(), |account| account.uid);
        let home = account.map(|account| account.home);
        let cwd = self.cwd.clone().or(home).unwrap_or_else(|| "/".into());
        let argv = self.argv();
        let path = ctx.path.as_deref().unwrap_or_else(|| login_path(uid));
        if let Err(reason) = find_program(&argv[0], path, &cwd) {
            lack(format!("{}: {reason}", argv[0]), Some("give the whole path of the program".to_owned()));
        }
        lacks
    }

    fn can_dry_run(&self) -> bool {
        true
    }
}

impl Command {
    fn argv(&self) -> Vec<String> {
        match (&self.run, &self.shell) {
            (Some(argv), _) => argv.clone(),
            (None, Some(line)) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            // `invalid` lets none of these through.
            (None, None) => vec![String::new()],
        }
    }
}

fn success_codes() -> Vec<i32> {
    vec![0]
}

fn max_output() -> Size {
    Size(10 << 20)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;

    fn options(json: serde_json::Value) -> Command {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn options_that_make_no_sense_together_are_told() {
        let check = |json: serde_json::Value, expected: &[(&str, &str)]| {
            let invalid = options(json).invalid();
            let found: Vec<_> = invalid.iter().map(|one| (one.key.as_str(), one.message.as_str())).collect();
            assert_eq!(found, expected);
        };
        check(serde_json::json!({"run": ["true"]}), &[]);
        check(serde_json::json!({"shell": "true"}), &[]);
        check(serde_json::json!({}), &[("", "a command needs `run` or `shell`")]);
        check(
            serde_json::json!({"run": ["true"], "shell": "true"}),
            &[("shell", "`run` and `shell` exclude each other")],
        );
        check(serde_json::json!({"run": []}), &[("run", "`run` names no program")]);
        check(serde_json::json!({"shell": " "}), &[("shell", "`shell` is empty")]);
        check(
            serde_json::json!({"run": ["a\u{0}b"], "cwd": "tmp", "success_codes": [256]}),
            &[
                ("", "a command can't hold a NUL character"),
                ("cwd", "`cwd` must be an absolute path"),
                ("success_codes", "an exit code lies between 0 and 255"),
            ],
        );
    }

    #[tokio::test]
    async fn what_the_host_lacks_is_found_before_the_first_run() {
        let check = async |json: serde_json::Value, user: Option<&str>, expected: &[&str]| {
            let ctx = HostContext {
                connections: Arc::new(BTreeMap::new()),
                clock: Arc::new(SystemClock),
                user: user.map(str::to_owned),
                path: Some("/usr/bin:/bin".into()),
            };
            let lacks = options(json).preflight(&ctx).await;
            let messages: Vec<_> = lacks.iter().map(|lack| lack.message.as_str()).collect();
            assert_eq!(messages, expected);
        };
        check(serde_json::json!({"run": ["env"]}), None, &[]).await;
        check(serde_json::json!({"shell": "no-such"}), None, &[]).await;
        check(
            serde_json::json!({"run": ["no-such"], "cwd": "/no-such"}),
            Some("no-such-user"),
            &[
                "there is no user no-such-user on this host",
                "cwd /no-such: no such folder",
                "no-such: no such program in PATH (/usr/bin:/bin)",
            ],
        )
        .await;
    }
}
