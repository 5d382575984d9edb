//! A command of one's own as a check: its exit code, its time, and the children that it leaves.

use std::path::Path;
use std::time::{Duration, Instant};

use punk_eco_sched::host::procfs;
use punk_eco_sched::jobs::{Job, JobError};
use serde_json::json;

use super::{job, one, run};
use crate::support::job::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_by_its_exit_code_whether_all_is_well() {
    let bench = Bench::new().await;
    let check = async |run: &[&str], state: &str, text: &str| {
        let result = one(&bench, json!({"command": {"run": run, "name": "x"}})).await;
        assert_eq!((&result["state"], &result["message"]), (&json!(state), &json!(text)), "{run:?}");
    };
    check(&["true"], "ok", "exit code 0").await;
    check(&["false"], "failing", "exit code 1").await;
    check(&["sh", "-c", "echo out; echo why >&2; exit 3"], "failing", "exit code 3: why").await;
    // More than a pipe holds, so that somebody must read along.
    let much = "seq 100000; echo CRITICAL: 7 waiting; exit 2";
    check(&["sh", "-c", much], "failing", "exit code 2: 99999 / 100000 / CRITICAL: 7 waiting").await;
    check(&["sh", "-c", "kill -9 $$"], "failing", "ended by signal 9 (SIGKILL)").await;
    check(&["/no/such"], "failing", "/no/such: no such file").await;
    check(
        &["sh", "-c", "test \"$PUNK_ECO_JOB\" = db-backup && test \"$HOME\" = \"$PWD\""],
        "ok",
        "exit code 0",
    )
    .await;
    // A dry run is told what it would run: a program may change something.
    let file = bench.path("made");
    let mut dry = Bench::new().await;
    dry.dry_run = true;
    let checks = json!([{"command": {"run": ["touch", &file], "name": "x"}}]);
    let (fine, report, _) = run(&dry, checks).await;
    let text = format!("would run touch {}", file.display());
    assert_eq!((fine, &report.facts["results"][0]["message"]), (true, &json!(text)));
    assert!(!file.exists());

    let checks = json!([{"command": {"run": ["/no/such"]}}]);
    let lacks = job(&checks).preflight(&bench.host()).await;
    assert_eq!(lacks[0].message, "/no/such: no such file");
}

fn is_there(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|stat| !stat.is_zombie())
}

fn pid_in(file: &Path) -> i32 {
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_time_is_up_is_ended_with_its_children_and_nobody_elses() {
    let bench = Bench::new().await;
    let dir = bench.folder.path().display().to_string();
    // The one waits for the other's end, so that it must have been left alone.
    let stubborn = format!(
        "trap '' TERM; (trap '' TERM; echo $BASHPID > {dir}/child; sleep 600) & echo $$ > {dir}/parent; echo asking; wait"
    );
    let other = format!(
        "while [ ! -s {dir}/child ] || [ -d /proc/$(cat {dir}/child) ]; do sleep 0.05; done; echo alive >&2; exit 4"
    );
    let begun = Instant::now();
    let (fine, report, _) = run(
        &bench,
        json!([
            {"command": {"run": ["bash", "-c", stubborn], "timeout": "1s", "name": "stubborn"}},
            {"command": {"run": ["sh", "-c", other], "name": "other"}},
        ]),
    )
    .await;
    assert!(!fine);
    let messages: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        ["stubborn: not done after 1s: ended by its timeout: asking", "other: exit code 4: alive"]
    );
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    for file in ["child", "parent"] {
        assert!(!is_there(pid_in(&bench.path(file))), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_a_command_leaves_behind_holds_nothing_up_and_ends_with_the_run() {
    let bench = Bench::new().await;
    let file = bench.path("child");
    let leave = format!("sleep 600 & echo $! > {}; echo gone >&2; exit 1", file.display());
    let checks = json!([{"command": {"run": ["sh", "-c", leave], "name": "x"}}]);
    let ctx = bench.context();
    let begun = Instant::now();
    let Err(JobError::Found(report)) = job(&checks).run(&ctx).await else { panic!() };
    assert_eq!(report.findings[0].message, "x: exit code 1: gone");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let child = pid_in(&file);
    assert!(is_there(child));
    let swept = ctx.programs.end_all(Duration::from_secs(2)).await;
    let findings: Vec<String> = swept.findings().into_iter().map(|finding| finding.message).collect();
    assert_eq!(findings, [format!("left behind and ended: sleep ({child})")]);
    assert!(!is_there(child));
}
