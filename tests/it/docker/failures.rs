//! Bad days with Docker: each says what and where, is tried again where that may help, and leaves nothing.

use std::path::Path;

use super::{Shop, last_error, outcomes};
use crate::support::daemon::{Host, PROGRAM, text, wait_until};
use crate::support::docker::{Box, command, docker_says};
use crate::support::postgres::PASSWORD;

const THRICE: &str = "    retries: { attempts: 3, backoff: 10ms }\n";

#[test]
fn a_socket_that_is_absent_or_closed_is_named() {
    let host = Host::new("");
    let directory = host.path("dumps");
    let table = |container: &str| {
        host.write_table(
            &format!("postgres: {{ app: {{ container: {container}, database: shop, user: shop }} }}\n"),
            &format!(
                "  db-backup:\n    retries: {{ attempts: 1 }}\n    pg_dump: {{ connection: app, directory: {} }}\n",
                directory.display()
            ),
        );
    };
    table("db");
    let socket = host.path("docker.sock");
    let url = format!("unix://{}", socket.display());
    let run = host.command(&["run-now", "db-backup", "--dry-run"]).env("DOCKER_HOST", &url).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let expected = format!(
        "Docker's socket {} is absent: is Docker running? (systemctl status docker)",
        socket.display()
    );
    assert!(text(&run.stderr).contains(&expected), "{}", text(&run.stderr));
    let check = host.command(&["check"]).env("DOCKER_HOST", &url).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
    assert!(
        [check.stdout, check.stderr].concat().windows(expected.len()).any(|part| part == expected.as_bytes())
    );
    let check = host.command(&["check"]).env("DOCKER_HOST", "tcp://10.0.0.1:2375").output().unwrap();
    assert_eq!(check.status.code(), Some(2));
    let said = text(&[check.stdout, check.stderr].concat());
    assert!(
        said.contains("DOCKER_HOST is tcp://10.0.0.1:2375: only a socket of this host is spoken to"),
        "{said}"
    );

    if crate::support::missing::lacks_root() || crate::support::missing::lacks("setpriv") {
        return;
    }
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
    // A copy where anybody may read it.
    std::fs::copy(PROGRAM, host.path("program")).unwrap();
    for path in [host.dir.path(), &host.config()] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut check = command("setpriv");
    check.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(host.path("program"));
    check.arg("--config").arg(host.config()).arg("check").env("DOCKER_HOST", &url);
    let check = check.output().unwrap();
    assert_eq!(check.status.code(), Some(2), "{}", text(&check.stderr));
    let said = text(&[check.stdout, check.stderr].concat());
    let expected = format!(
        "Docker's socket {} is closed to user nobody: run as root, or add the user to the socket's group (usermod -aG docker \
         nobody)",
        socket.display()
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn an_engine_that_says_nothing_is_waited_for_no_longer_than_a_timeout() {
    let host = Host::new("");
    let socket = host.path("docker.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    host.write_table(
        "postgres: { app: { container: db, database: shop, user: shop } }\n",
        &format!(
            "  db-backup:\n    timeout: 1s\n    retries: {{ attempts: 1 }}\n    pg_dump: {{ connection: app, directory: {} \
             }}\n",
            host.path("dumps").display()
        ),
    );
    let url = format!("unix://{}", socket.display());
    let run = host.command(&["run-now", "db-backup"]).env("DOCKER_HOST", &url).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let row = &host.history("db-backup")[0];
    assert_eq!(
        (row["outcome"].as_str(), last_error(row).as_str()),
        (Some("timed_out"), "not done after 1s: ended by its timeout")
    );
}

#[test]
fn a_container_that_is_absent_stopped_or_without_pg_dump_is_told_from_a_server_that_refuses() {
    let Some(shop) = Shop::open() else { return };
    let daemon = shop.host.daemon();
    let check = |connection: &str, attempts: usize, expected: &str| {
        shop.table(THRICE, "", connection);
        assert!(shop.host.cli(&["reload"]).status.success());
        let error = shop.error();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(outcomes(&shop.host.history("db-backup")[0]), vec!["failed"; attempts], "{error}");
        assert_eq!(shop.names(), [""; 0]);
    };
    check(
        ", password: 'another s3cret'",
        1,
        "PostgreSQL at container DB refuses database shop for user postgres: connection to server on socket \
         \"/var/run/postgresql/.s.PGSQL.5432\" failed: FATAL:  password authentication failed for user \"postgres\"",
    );
    check(
        ", database: shpo",
        1,
        "PostgreSQL at container DB refuses database shpo for user postgres: connection to server on socket \
         \"/var/run/postgresql/.s.PGSQL.5432\" failed: FATAL:  database \"shpo\" does not exist",
    );
    check(
        ", port: 5433",
        3,
        "PostgreSQL at port 5433 of container DB can't be reached: connection to server on socket \
         \"/var/run/postgresql/.s.PGSQL.5433\" failed: No such file or directory; Is the server running locally",
    );
    let near = format!("{}x", shop.server.container.name);
    check(&format!(", container: {near}"), 3, "there is no container DBx: is DB meant?");
    let bare = Box::run(&["-e", "PATH=/nowhere"], "exec /usr/bin/sleep 600");
    let name = bare.name.clone();
    check(
        &format!(", container: {name}"),
        1,
        &format!(
            "container {name} has no pg_dump: \"pg_dump\": executable file not found in $PATH; its image is \
             punk-eco-sched-test:1"
        ),
    );
    docker_says(&["pause", &name]);
    check(&format!(", container: {name}"), 3, &format!("container {name} isn't running: paused"));
    docker_says(&["unpause", &name]);
    docker_says(&["kill", &name]);
    check(
        &format!(", container: {name}"),
        3,
        &format!("container {name} isn't running: exited with code 137 "),
    );
    shop.table("", "", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    let found = shop.host.cli(&["check"]);
    assert!(found.status.success(), "{}", text(&found.stderr));
    assert_eq!(shop.run()["outcome"], "succeeded");
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
    check_no_secret(&shop.host);
}

fn check_no_secret(host: &Host) {
    let read = |path: &Path| text(&std::fs::read(path).unwrap_or_default());
    let seen = [
        host.log("db-backup"),
        host.daemon_log(),
        read(&host.path("state/ledger.db")),
        read(&host.path("state/ledger.db-wal")),
    ];
    for secret in ["another s3cret", PASSWORD] {
        assert!(seen.iter().all(|text| !text.contains(secret)), "{secret} is shown");
    }
}

#[test]
fn a_container_that_is_killed_or_restarted_under_a_dump_fails_the_attempt_and_not_the_run() {
    let Some(shop) = Shop::open() else { return };
    shop.table("    retries: { attempts: 20, backoff: 200ms, max_backoff: 200ms }\n", "", "");
    let daemon = shop.host.daemon();
    let name = shop.server.container.name.clone();
    // Under a restart the container is seen ended, or running again: whichever the engine says at that moment.
    let ends: [(&str, &[&str]); 2] =
        [("kill", &["exited with code 137"]), ("restart", &["it runs since ", "exited with code 137"])];
    for (ended_by, expected) in ends {
        let lock = shop.lock();
        shop.begin();
        shop.wait_until_it_waits();
        match ended_by {
            "kill" => docker_says(&["kill", &name]),
            _ => docker_says(&["restart", "-t", "0", &name]),
        };
        drop(lock);
        if ended_by == "kill" {
            wait_until("an attempt has failed", || {
                shop.host.history("db-backup")[0]["attempts"].as_array().unwrap().len() > 1
            });
            docker_says(&["start", &name]);
        }
        let row = shop.host.wait_for("db-backup", "succeeds", |row| {
            assert_ne!(row["outcome"], "failed", "{row:#}");
            row["outcome"] == "succeeded"
        });
        let first = row["attempts"][0]["error"].as_str().unwrap();
        let begin = format!("pg_dump of shop at container {name} ");
        let why = first.strip_prefix(&begin).unwrap_or_else(|| panic!("{ended_by}: {first}"));
        let stopped = format!("failed: container {name} was stopped or restarted under pg_dump: ");
        // The server may die first, and pg_dump say so, before its own end comes.
        let unheard =
            "ended with code 1: pg_dump: error: query failed: server closed the connection unexpectedly";
        let of_container = why.strip_prefix(&stopped);
        assert!(
            of_container.is_some_and(|why| expected.iter().any(|expected| why.starts_with(expected)))
                || why.starts_with(unheard),
            "{ended_by}: {first}"
        );
        shop.check_nothing_is_left();
    }
    assert_eq!(shop.names().len(), 6, "{:?}", shop.names());
    assert!(daemon.stop().success());
}

#[test]
fn a_container_that_is_removed_under_a_dump_is_no_success() {
    let Some(shop) = Shop::open() else { return };
    let (_lock, daemon) = shop.dump_that_waits();
    docker_says(&["rm", "-f", "-v", &shop.server.container.name]);
    shop.host.wait_for_outcome("db-backup", "failed");
    assert_eq!(shop.names(), [""; 0]);
    assert!(daemon.stop().success());
}

#[test]
fn a_pg_dump_that_fails_inside_is_told_by_its_code_and_its_words() {
    let Some(shop) = Shop::open() else { return };
    let (lock, daemon) = shop.dump_that_waits();
    shop.server.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'punk-eco-sched %'",
    );
    let row = shop.host.wait_for_outcome("db-backup", "failed");
    let error = last_error(&row);
    let begin = format!(
        "pg_dump of shop at container {} ended with code 1: pg_dump: error: ",
        shop.server.container.name
    );
    assert!(error.starts_with(&begin), "{error}");
    assert!(error.contains("terminating connection due to administrator command"), "{error}");
    drop(lock);
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}
