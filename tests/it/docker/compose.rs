//! The container is found by its Compose project and service: the real docker-compose makes them.

use crate::pg_dump::{manifest, options};
use crate::support::docker::{IMAGE, Inside, Project, docker_says, no_engine, path_variable, server_script};
use crate::support::job::Bench;
use crate::support::missing::lacks;
use crate::support::postgres::{USER, account};
use punk_eco_sched::host::postgres::{Connection, Container};

/// A service made of the host's own programs.
pub(super) fn service(name: &str, more: &str, script: &str) -> String {
    let user = account().map_or_else(String::new, |(uid, gid)| format!("    user: \"{uid}:{gid}\"\n"));
    let script = serde_json::to_string(&script.replace('$', "$$")).unwrap();
    format!(
        "  {name}:\n    image: {IMAGE}\n    network_mode: none\n    stop_grace_period: 1s\n{user}    volumes: \
         [\"/usr:/usr:ro\", \"/etc:/etc:ro\"]\n    tmpfs: [/tmp, /run, /data]\n{more}    command: [\"/bin/sh\", \"-c\", \
         {script}]\n"
    )
}

fn wait_until_ready(container: &str) {
    crate::support::daemon::wait_until("the service's PostgreSQL takes connections", || {
        let mut ready = crate::support::docker::docker(&["exec", container, "pg_isready", "-q", "-U", USER]);
        ready.output().unwrap().status.success()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_dumped_where_it_runs_and_of_several_containers_the_first_that_does() {
    if no_engine() || lacks("docker-compose") {
        return;
    }
    let path = format!("    environment: [\"{}\"]\n", path_variable());
    let project = Project::up(&service("db", &path, &server_script("")));
    let first = format!("{}_db_1", project.name);
    wait_until_ready(&first);
    let mut bench = Bench::new().await;
    let connection = |service: &str| Connection {
        container: Some(Container::Compose { project: project.name.clone(), service: service.into() }),
        ..Inside::connection_in(&first, "postgres")
    };
    bench.connections.insert("app".into(), connection("db"));
    let directory = bench.path("one");
    bench.run(&options(&directory, "")).await.unwrap();
    assert_eq!(manifest(&directory).server.host, format!("container {first}"));

    project.compose(&["up", "-d", "--scale", "db=2"]);
    let second = format!("{}_db_2", project.name);
    wait_until_ready(&second);
    // A container of the service, but not the service.
    project.compose(&[
        "run",
        "-d",
        "--name",
        &format!("{}_once", project.name),
        "db",
        "/bin/sh",
        "-c",
        "sleep 600",
    ]);
    let directory = bench.path("two");
    bench.run(&options(&directory, "")).await.unwrap();
    assert_eq!(manifest(&directory).server.host, format!("container {first}"));
    docker_says(&["kill", &first]);
    let directory = bench.path("three");
    bench.run(&options(&directory, "")).await.unwrap();
    assert_eq!(manifest(&directory).server.host, format!("container {second}"));
    docker_says(&["kill", &second]);
    let error = bench.run(&options(&directory, "")).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("container {first} isn't running: exited with code 137 ")), "{error}");

    bench.connections.insert("app".into(), connection("dbs"));
    let error = bench.run(&options(&directory, "")).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "service dbs of the Compose project {} has no container: its services with containers are db",
            project.name
        )
    );
    docker_says(&["rm", "-f", &format!("{}_once", project.name)]);
}
