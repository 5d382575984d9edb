//! `health_check: containers` against containers that run, stop, pause and are ill.

use serde_json::Value;

use super::compose::service;
use crate::support::daemon::{Host, wait_until};
use crate::support::docker::{Project, docker_says, no_engine};
use crate::support::missing::lacks;

#[test]
fn each_service_that_does_not_run_is_named_with_its_state() {
    if no_engine() || lacks("docker-compose") {
        return;
    }
    let sleeps = "trap 'exit 3' TERM; touch /run/well; while :; do sleep 1; done";
    let healthy = "    healthcheck: { test: [CMD, /bin/test, -e, /run/well], interval: 1s, retries: 1 }\n";
    let project = Project::up(&(service("web", "", sleeps) + &service("db", healthy, sleeps)));
    let (web, db) = (format!("{}_web_1", project.name), format!("{}_db_1", project.name));
    let host = Host::new("");
    let look = |services: &str| -> (bool, Value) {
        host.write_jobs(&format!(
            "  monitoring:\n    health_check:\n      checks:\n        - containers: {{ compose_project: {}, running: \
             [{services}] }}\n",
            project.name
        ));
        let run = host.cli(&["run-now", "monitoring"]);
        let row = host.history("monitoring").remove(0);
        (run.status.success(), row["facts"]["results"][0].clone())
    };
    let (fine, result) = look("web, db");
    assert!(fine, "{result:#}");
    assert_eq!(
        (&result["value"], &result["threshold"], &result["state"]),
        (&2.into(), &2.into(), &"ok".into())
    );
    assert_eq!(result["message"], "2 of 2 running");

    let check = |services: &str, running: u64, expected: &str| {
        let (fine, result) = look(services);
        assert!(!fine, "{result:#}");
        assert_eq!((&result["value"], &result["state"]), (&running.into(), &"failing".into()));
        let message = result["message"].as_str().unwrap();
        assert!(message.starts_with(expected), "{message}");
    };
    check("web, dbb", 1, "1 of 2 running: dbb has no container (those with one: db, web)");
    docker_says(&["exec", &db, "/bin/rm", "/run/well"]);
    wait_until("it is unhealthy", || {
        docker_says(&["inspect", "-f", "{{.State.Health.Status}}", &db]) == "unhealthy"
    });
    check("web, db", 1, "1 of 2 running: db unhealthy: its health check failed ");
    docker_says(&["pause", &web]);
    docker_says(&["kill", &db]);
    check("web, db", 0, "0 of 2 running: web paused; db exited with code 137 ");
    docker_says(&["unpause", &web]);
    docker_says(&["stop", "-t", "10", &web]);
    check("web", 0, "0 of 1 running: web exited with code 3 ");
    docker_says(&["start", &web, &db]);
    assert!(look("web, db").0);
}
