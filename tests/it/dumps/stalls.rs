//! Dumps that stand still: ended, and their sessions on the server with them, whatever those wait for.

use rustix::process::{Pid, Signal, kill_process};

use super::{Shop, outcomes};
use crate::support::daemon::wait_until;

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'punk-eco-sched %'";

#[test]
fn a_pg_dump_that_is_killed_while_its_session_waits_for_a_lock_leaves_no_session() {
    let shop = Shop::new();
    shop.table("", ", lock_wait: 10m", "");
    let (lock, daemon) = shop.dump_that_waits();
    assert_eq!(shop.count(SESSIONS), 1);
    let [(pid, _)] = shop.programs()[..] else { panic!("one pg_dump: {:?}", shop.programs()) };
    // Without a word to the server, which would go on to wait.
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    shop.host.wait_for_outcome("db-backup", "failed");
    assert_eq!(shop.count(SESSIONS), 0);
    let log = shop.host.log("db-backup");
    assert!(log.contains("ended 1 session of this run on the server, whose program was gone (pid "), "{log}");
    drop(lock);
    assert_eq!(shop.run()["outcome"], "succeeded");
    assert!(daemon.stop().success());
}

#[test]
fn a_daemon_that_is_killed_leaves_a_session_that_its_next_attempt_ends() {
    let shop = Shop::new();
    shop.table("", ", lock_wait: 10m", "");
    let (lock, daemon) = shop.dump_that_waits();
    // pg_dump would cancel its query when it is told to end: here nobody gets to tell it.
    let [(pid, _)] = shop.programs()[..] else { panic!("one pg_dump: {:?}", shop.programs()) };
    daemon.kill();
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
    wait_until("no pg_dump is left", || shop.programs().is_empty());
    let daemon = shop.host.daemon();
    wait_until("the next attempt waits alone", || shop.count(SESSIONS) == 1 && !shop.programs().is_empty());
    drop(lock);
    let row = shop.host.wait_for_outcome("db-backup", "succeeded");
    assert_eq!(outcomes(&row), ["interrupted", "succeeded"], "{row:#}");
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}

#[test]
fn a_server_that_stands_still_ends_the_dump_and_is_told_to_end_its_session() {
    let shop = Shop::new();
    shop.fill();
    // Slow to compress, so that it is still under way when it is stopped, however busy the machine is; and patient enough
    // for pg_dump to say its first word there.
    shop.table("", ", level: 9, stall: 5s, roles: false", "");
    let daemon = shop.host.daemon();
    let held = shop.hold_in_the_middle();
    let row = shop.host.wait_for_outcome("db-backup", "failed");
    let error = row["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains(" was ended: no byte came for 5s, which is the limit (stall:)"), "{error}");
    assert_eq!(shop.names(), [""; 0]);
    let log = shop.host.log("db-backup");
    assert!(log.contains("the server was told to end 1 session of this run (pid "), "{log}");
    drop(held);
    shop.check_nothing_is_left();
    shop.table("", "", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    assert_eq!(shop.run()["outcome"], "succeeded");
    assert!(daemon.stop().success());
}
