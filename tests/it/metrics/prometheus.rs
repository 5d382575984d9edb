//! A real Prometheus reads it, keeps its types, and the alerts that are shipped fire by it.

use crate::support::daemon::{Host, wait_until};
use crate::support::prometheus::{self, Prometheus};
use crate::support::server::free_port;

#[test]
fn an_alert_fires_after_a_failure_and_goes_with_the_next_success() {
    if prometheus::missing() {
        return;
    }
    let port = free_port();
    let host = Host::new("");
    let mood = host.path("mood");
    std::fs::write(&mood, "false").unwrap();
    host.write_table(
        &format!("dashboard: {{ listen: '127.0.0.1:{port}', token: hunter2 }}"),
        &format!(
            "  moody: {{ command: {{ shell: '$(cat {})' }} }}\n  good: {{ command: {{ run: [/bin/true] }} }}\n",
            mood.display()
        ),
    );
    let daemon = host.daemon();
    for (job, code) in [("moody", 1), ("good", 0)] {
        assert_eq!(host.cli(&["run-now", job]).status.code(), Some(code));
    }
    let prometheus = Prometheus::scraping(port, "hunter2");
    let failed = [("PunkEcoSchedJobFailed".to_owned(), "moody".to_owned())];
    wait_until("the alert fires", || prometheus.firing() == failed);
    let target = &prometheus.get("targets")["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")), "{target}");
    let ran = prometheus.query("punk_eco_sched_job_runs_total{outcome='failed',job_name='moody'}");
    assert_eq!(ran.len(), 1, "{ran:?}");
    assert_eq!((ran[0].1, ran[0].0["job"].as_str()), (1.0, Some("punk-eco-sched")));
    // The metadata that it kept: a counter and a histogram are such to it.
    let metadata = prometheus.get("metadata");
    let kind = |name: &str| metadata[format!("punk_eco_sched_{name}")][0]["type"].as_str().map(str::to_owned);
    assert_eq!(kind("job_run_duration_seconds").as_deref(), Some("histogram"));
    assert_eq!(kind("job_last_outcome").as_deref(), Some("gauge"));
    let counter = kind("job_runs_total").or_else(|| kind("job_runs"));
    assert_eq!(counter.as_deref(), Some("counter"), "{metadata}");

    std::fs::write(&mood, "true").unwrap();
    assert_eq!(host.cli(&["run-now", "moody"]).status.code(), Some(0));
    wait_until("the alert goes", || prometheus.firing().is_empty());
    assert_eq!(daemon.stop().code(), Some(0));
    let down = [("PunkEcoSchedDown".to_owned(), String::new())];
    wait_until("its absence is told", || prometheus.firing() == down);
}
