//! The `command` kind with real programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use punk_eco_sched::clock::SystemClock;
use punk_eco_sched::host::process::ProgramContext;
use punk_eco_sched::jobs::command::Command;
use punk_eco_sched::jobs::{Job, JobContext, JobError};
use punk_eco_sched::logs::RunLog;
use punk_eco_sched::model::{JobName, Report, RunId, Trigger};
use punk_eco_sched::spawner::{Settings, Spawner};
use serde_json::{Value, json};

use crate::support::job::kill_all_of;

async fn run(folder: &Path, options: Value, env: &[(&str, &str)]) -> Result<Report, JobError> {
    let mut settings = Settings::new(folder.join("control.sock"), folder.to_owned());
    settings.executable = env!("CARGO_BIN_EXE_punk-eco-sched").into();
    let launched = Spawner::launch(settings).unwrap();
    let spawner = Spawner::connect(launched, Arc::new(SystemClock)).await.unwrap();
    let (job, run, log) = (JobName::new("one").unwrap(), RunId(7), RunLog::memory());
    let slot = "2026-11-22T23:00:00Z".parse().ok();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let context = ProgramContext::new(job.clone(), run, 1, Arc::new(log.clone()));
    let programs = spawner.programs(ProgramContext { slot, env, ..context });
    let ctx = JobContext {
        job,
        run,
        attempt: 1,
        trigger: Trigger::Schedule,
        slot,
        deadline: None,
        zone: jiff::tz::TimeZone::UTC,
        dry_run: false,
        clock: Arc::new(SystemClock),
        log,
        programs,
        connections: Arc::new(BTreeMap::new()),
        state: folder.to_owned(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let command: Command = serde_json::from_value(options).unwrap();
    let ended = command.run(&ctx).await;
    // The spawner holds the exit, which nobody here puts on record, for a next daemon.
    kill_all_of(folder);
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_succeeds_by_its_code_and_counts_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let options = json!({"shell": "cat; exit 24", "stdin": "four", "success_codes": [0, 24]});
    let report = run(folder.path(), options, &[]).await.unwrap();
    assert_eq!(report.summary, "exit code 24");
    assert_eq!(Value::from(report.facts), json!({"exit_code": 24, "output_bytes": 4}));
    assert_eq!(report.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_the_environment_of_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let options = json!({"run": ["sh", "-c", format!("pwd > {0}; env | sort >> {0}", seen.display())]});
    run(folder.path(), options, &[("LANG", "fr_MA.UTF-8"), ("SECRET", "x")]).await.unwrap();
    let account = punk_eco_sched::host::accounts::own().unwrap();
    let home = account.home.to_str().unwrap();
    let path = punk_eco_sched::host::process::login_path(account.uid);
    let name = &account.name;
    let expected = format!(
        "{home}\nHOME={home}\nLANG=fr_MA.UTF-8\nLOGNAME={name}\nPATH={path}\nPUNK_ECO_JOB=one\nPUNK_ECO_RUN=7\n\
         PUNK_ECO_SLOT=2026-11-22T23:00:00Z\nPWD={home}\nSECRET=x\nSHELL=/bin/sh\nUSER={name}\n"
    );
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected);
    // As in a crontab, the job's own HOME is where it works; and nobody can take another run's marks.
    let own = folder.path().canonicalize().unwrap();
    let own = own.to_str().unwrap();
    let options =
        json!({"shell": format!("pwd > {0}; umask >> {0}; echo $PUNK_ECO_JOB >> {0}", seen.display())});
    run(folder.path(), options, &[("HOME", own), ("PUNK_ECO_JOB", "two")]).await.unwrap();
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), format!("{own}\n0022\none\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_whether_a_retry_may_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |options: Value, permanent: bool, expected: &str| {
        let error = run(folder.path(), options, &[("PATH", "/usr/bin:/bin")]).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(matches!(error, JobError::Permanent(_)), permanent, "{expected}");
    };
    let said = "exit code 3: no disk";
    check(json!({"shell": "echo no disk >&2; exit 3"}), false, said).await;
    check(json!({"shell": "kill -SEGV $$"}), false, "ended by signal 11 (SIGSEGV)").await;
    check(json!({"run": ["no-such"]}), true, "no-such: no such program in PATH (/usr/bin:/bin)").await;
    let absent = "true: working folder /no/such: No such file or directory (os error 2)";
    check(json!({"run": ["true"], "cwd": "/no/such"}), true, absent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    // Until it has its own name.
    let script = "sleep 1000 & while test \"$(cat /proc/$!/comm)\" != sleep; do :; done";
    let report = run(folder.path(), json!({"shell": script}), &[]).await.unwrap();
    assert_eq!(report.findings.len(), 1);
    let message = &report.findings[0].message;
    assert!(message.starts_with("left behind and ended: sleep ("), "{message}");
}
