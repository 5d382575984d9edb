//! The checks of the host: each fails and passes against the machine's own disks, cores, memory and programs.

mod command;
mod disk;
mod load;
mod runs;

use std::time::Duration;

use punk_eco_sched::jobs::health_check::HealthCheck;
use punk_eco_sched::jobs::{Job, JobError};
use punk_eco_sched::logs::RunLog;
use punk_eco_sched::model::Report;
use serde_json::{Value, json};

use crate::support::job::Bench;

fn job(checks: &Value) -> HealthCheck {
    serde_json::from_value(json!({ "checks": checks })).unwrap()
}

/// Whether the run succeeds, its report, and what it logged.
async fn run(bench: &Bench, checks: Value) -> (bool, Report, String) {
    let job = job(&checks);
    let mut ctx = bench.context();
    ctx.log = RunLog::memory();
    let result = job.run(&ctx).await;
    ctx.programs.end_all(Duration::from_secs(2)).await;
    let log: Vec<String> = ctx.log.lines().into_iter().map(|line| line.text).collect();
    match result {
        Ok(report) => (true, report, log.join("\n")),
        Err(JobError::Found(report)) => (false, *report, log.join("\n")),
        Err(other) => panic!("{other}"),
    }
}

/// The result of the one check.
async fn one(bench: &Bench, check: Value) -> Value {
    let (_, report, _) = run(bench, json!([check])).await;
    report.facts["results"][0].clone()
}

fn said(program: &str, arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "what the check is compared with")]
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number(text: &str) -> f64 {
    text.trim().trim_end_matches('%').parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}
