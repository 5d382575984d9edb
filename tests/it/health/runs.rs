//! A run of many checks, one that is stopped, and one on a host that lacks what is checked.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use punk_eco_sched::jobs::Job;
use serde_json::json;

use super::{job, run};
use crate::support::job::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn where_systemd_does_not_run_a_service_is_unknown() {
    // Then `systemd::jobs::the_service_check_tells_units_that_run_from_those_that_do_not` has it on a host of its own.
    if Path::new("/run/systemd/system").is_dir() {
        let _ = writeln!(std::io::stderr(), "nothing to see: systemd runs here");
        return;
    }
    let bench = Bench::new().await;
    let checks = json!([{"service": {"unit": "nginx"}}]);
    let (fine, report, log) = run(&bench, checks.clone()).await;
    assert!(!fine);
    let absent = "systemd doesn't run here (/run/systemd/system is absent)";
    let text = format!("service nginx.service: {absent}: nothing can be said of nginx.service");
    assert_eq!(report.findings[0].message, text);
    assert_eq!(log, format!("unknown {text}"));
    let lacks = job(&checks).preflight(&bench.host()).await;
    assert_eq!(lacks[0].message, format!("service nginx.service: {absent}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_says_which_checks_had_no_result() {
    let bench = Bench::new().await;
    let ctx = bench.context();
    let begun = bench.path("begun");
    let wait = format!("touch {}; sleep 600", begun.display());
    let checks = job(&json!([
        {"command": {"run": ["sh", "-c", wait], "timeout": "10m", "name": "slow"}},
        {"memory": {"below": "100%"}},
    ]));
    let cancel = bench.cancel.clone();
    let stop = tokio::spawn(async move {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    });
    let Err(error) = checks.run(&ctx).await else { panic!() };
    stop.await.unwrap();
    assert_eq!(error.to_string(), "stopped before these had a result: slow");
    let log: Vec<String> = ctx.log.lines().into_iter().map(|line| line.text).collect();
    assert!(log[0].starts_with("ok      memory in use: "), "{log:?}");
    assert_eq!(log[1], "stopped before these had a result: slow");
    ctx.programs.end_all(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_checks_of_one_job_each_have_their_result() {
    let bench = Bench::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection)
        }
    });
    let check = |at: usize| match at % 2 {
        0 => {
            json!({"tcp": {"address": format!("127.0.0.1:{port}"), "name": format!("server {at}"), "timeout": "60s"}})
        }
        _ => json!({"disk": {"path": "/", "free": "0%", "inodes_free": "0%", "name": format!("disk {at}")}}),
    };
    let (fine, report, log) = run(&bench, (0..1000).map(check).collect()).await;
    assert!(fine, "{}", report.summary);
    assert_eq!(report.summary, "all 1000 checks are fine");
    let results = report.facts["results"].as_array().unwrap();
    let names: Vec<&str> = results.iter().map(|result| result["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0], names[999]), (1000, "server 0", "disk 999"));
    assert_eq!(log.lines().count(), 1000);
}
