//! Nothing outlives its run inside a container either: whoever dies, the program there and its server process end.

use rustix::process::{Pid, Signal, kill_process};

use super::{Shop, last_error, outcomes};
use crate::support::daemon::{PROGRAM, text, wait_until};
use crate::support::docker::{Box, IMAGE, LABEL, command, docker_says, path_variable};
use crate::support::postgres::PASSWORD;

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_dump_that_is_cancelled_or_takes_too_long_ends_inside_and_its_password_is_in_no_argument() {
    let Some(shop) = Shop::open() else { return };
    let (_lock, daemon) = shop.dump_that_waits();
    assert_eq!(shop.dumping().len(), 1);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!text(&command).contains(PASSWORD), "{}: {}", entry.path().display(), text(&command));
    }
    shop.cancel();
    // At once, and not some time after: the run has ended.
    assert_eq!(shop.dumping(), [0; 0]);
    assert_eq!(shop.names(), [""; 0]);
    shop.check_nothing_is_left();

    shop.table("    timeout: 3s\n", "", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    let row = shop.run();
    assert_eq!(row["outcome"], "timed_out", "{row:#}");
    assert_eq!(last_error(&row), "not done after 3s: ended by its timeout");
    assert_eq!(shop.dumping(), [0; 0]);
    shop.check_nothing_is_left();

    shop.table("", ", stall: 500ms", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    let error = shop.error();
    assert_eq!(
        error,
        "pg_dump of shop at container DB was ended: no byte came for 500ms, which is the limit (stall:); does it wait for \
         a lock?"
    );
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
    for said in [shop.host.log("db-backup"), shop.host.daemon_log()] {
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

#[test]
fn a_daemon_killed_in_the_middle_leaves_no_pg_dump_and_the_next_makes_the_run_whole() {
    let Some(shop) = Shop::open() else { return };
    let (lock, daemon) = shop.dump_that_waits();
    let run = shop.host.history("db-backup")[0]["run"].clone();
    daemon.kill();
    shop.wait_until_none_dumps();
    drop(lock);
    let daemon = shop.host.daemon();
    let row = shop.host.wait_for_outcome("db-backup", "succeeded");
    assert_eq!((&row["run"], outcomes(&row)), (&run, vec!["interrupted", "succeeded"]), "{row:#}");
    assert_eq!(shop.names().len(), 3, "{:?}", shop.names());
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}

/// What comes after it would be thrown away at the end: it is not waited for.
#[test]
fn a_dump_whose_spawner_is_killed_is_ended_at_once_and_tried_again() {
    let Some(shop) = Shop::open() else { return };
    shop.table("    retries: { attempts: 2, backoff: 10ms }\n", "", "");
    let (lock, daemon) = shop.dump_that_waits();
    let left = shop.dump();
    let spawner = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.strip_prefix("spawner-")?.strip_suffix(".sock")?.parse().ok()
    };
    let spawners = std::fs::read_dir(shop.host.path("state")).unwrap().flatten().filter_map(spawner);
    let [spawner] = spawners.collect::<Vec<i32>>()[..] else { panic!("one spawner") };
    kill(spawner);
    shop.wait_until_another_dumps(left);
    drop(lock);
    let row = shop.check_was_retried();
    let name = &shop.server.container.name;
    assert_eq!(
        row["attempts"][0]["error"],
        format!("pg_dump of shop at container {name} ended, and nobody knows how: it said nothing")
    );
    assert!(daemon.stop().success());
}

#[test]
fn what_a_killed_client_leaves_inside_is_ended_before_the_next_attempt_begins() {
    let Some(shop) = Shop::open() else { return };
    shop.table("    retries: { attempts: 3, backoff: 10ms }\n", "", "");
    let (lock, daemon) = shop.dump_that_waits();
    let [client] = shop.clients()[..] else { panic!("one client: {:?}", shop.clients()) };
    let left = shop.dump();
    kill(client);
    shop.wait_until_another_dumps(left);
    shop.wait_until_it_waits();
    assert_eq!(shop.count("SELECT count(*) FROM pg_locks WHERE NOT granted"), 1);
    drop(lock);
    let row = shop.check_was_retried();
    let name = &shop.server.container.name;
    assert_eq!(
        row["attempts"][0]["error"],
        format!("pg_dump of shop at container {name} was ended by signal 9 (SIGKILL): it said nothing")
    );
    // Its session first, whose end is that of the pg_dump inside.
    let log = shop.host.log("db-backup");
    assert!(log.contains("ended 1 session of this run on the server, whose program was gone (pid "), "{log}");
    assert_eq!(shop.names().len(), 3, "{:?}", shop.names());
    assert!(daemon.stop().success());
}

/// In a pid namespace of its own the daemon sees no process of the container: a shell inside ends it.
#[test]
fn a_daemon_that_doesn_t_see_the_container_s_processes_ends_them_too() {
    let Some(shop) = Shop::open_unseen() else { return };
    let _lock = shop.lock();
    let daemon = shop.daemon_that_sees_nothing();
    shop.begin();
    shop.wait_until_it_waits();
    assert_eq!(shop.dumping().len(), 1);
    shop.cancel();
    assert_eq!(shop.dumping(), [0; 0]);
    shop.check_nothing_is_left();
    daemon.kill();
}

#[test]
fn of_two_dumps_in_one_container_only_the_one_that_is_cancelled_ends() {
    let Some(shop) = Shop::open() else { return };
    let table = std::fs::read_to_string(shop.host.config()).unwrap();
    let other = shop.host.path("others").display().to_string();
    let other = format!("  other:\n    pg_dump: {{ connection: app, directory: {other}, min_free: 0% }}\n");
    std::fs::write(shop.host.config(), table + &other).unwrap();
    let lock = shop.lock();
    let daemon = shop.host.daemon();
    shop.begin();
    assert!(shop.host.cli(&["run-now", "other", "--detach"]).status.success());
    wait_until("both wait", || shop.count("SELECT count(*) FROM pg_locks WHERE NOT granted") == 2);
    assert_eq!(shop.dumping().len(), 2);
    shop.cancel();
    assert_eq!(shop.dumping().len(), 1);
    drop(lock);
    shop.host.wait_for_outcome("other", "succeeded");
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}

#[test]
fn a_dump_that_does_not_listen_to_term_is_killed_inside() {
    let Some(shop) = Shop::open() else { return };
    let (lock, daemon) = shop.dump_that_waits();
    let dump = shop.dump();
    // Stopped, it takes no signal but KILL.
    kill_process(Pid::from_raw(dump).unwrap(), Signal::STOP).unwrap();
    shop.cancel();
    assert_eq!(shop.dumping(), [0; 0]);
    // Its server process waits on: nobody told it to stop.
    drop(lock);
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}

/// As above, where a shell inside must find and end it.
#[test]
fn what_a_killed_client_leaves_is_also_ended_where_it_can_t_be_seen() {
    let Some(shop) = Shop::open_unseen() else { return };
    shop.table("    retries: { attempts: 3, backoff: 10ms }\n", "", "");
    let lock = shop.lock();
    let daemon = shop.daemon_that_sees_nothing();
    shop.begin();
    shop.wait_until_it_waits();
    let [client] = shop.clients()[..] else { panic!("one client: {:?}", shop.clients()) };
    let left = shop.dump();
    kill(client);
    shop.wait_until_another_dumps(left);
    drop(lock);
    shop.check_was_retried();
    daemon.kill();
}

/// An image of few programs: that nothing can be looked for in it is said, and is no failure.
#[test]
fn an_image_without_a_shell_is_worked_in_also_where_its_processes_are_not_seen() {
    let Some(shop) = Shop::open_unseen() else { return };
    let bare = Box::new();
    let (label, path) = (format!("{LABEL}={}", std::process::id()), path_variable());
    let mut run =
        vec!["run", "-d", "--name", &bare.name, "--label", &label, "--network", "none", "-e", &path];
    run.extend(["-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v", "/dev/null:/usr/bin/dash:ro"]);
    run.extend([IMAGE, "/usr/bin/sleep", "600"]);
    docker_says(&run);
    shop.table("", "", &format!(", container: {}", bare.name));
    let mut run = command("unshare");
    run.args(["--pid", "--fork", "--kill-child", "--mount-proc", PROGRAM, "--config"]);
    let run = run.arg(shop.host.config()).args(["run-now", "db-backup"]).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", text(&run.stderr));
    // There is no server in it, and that is as far as one gets.
    let error = last_error(&shop.host.history("db-backup")[0]);
    assert!(error.starts_with(&format!("PostgreSQL at container {} can't be reached", bare.name)), "{error}");
    let note = format!(
        "what an earlier attempt may have left in container {} can't be looked for: its processes aren't seen from here, \
         and it has no shell (",
        bare.name
    );
    let log = shop.host.log("db-backup");
    assert!(log.contains(&note), "{log}");
}

#[test]
fn a_pg_dump_that_is_killed_inside_while_it_waits_for_a_lock_leaves_no_session() {
    let Some(shop) = Shop::open() else { return };
    shop.table("", ", lock_wait: 10m", "");
    let (_lock, daemon) = shop.dump_that_waits();
    // Without a word to the server, which would go on to wait.
    kill(shop.dump());
    shop.host.wait_for_outcome("db-backup", "failed");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'punk-eco-sched %'";
    assert_eq!(shop.count(sessions), 0);
    assert_eq!(shop.names(), [""; 0]);
    assert!(daemon.stop().success());
}
