//! Bad days: each dump that fails says what and where, is tried again where that may help, and leaves nothing.

use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};

use super::{Shop, outcomes};
use crate::support::daemon::wait_until;
use crate::support::job::SmallDisk;
use crate::support::postgres::{PASSWORD, Postgres};

const THRICE: &str = "    retries: { attempts: 3, backoff: 10ms }\n";

#[test]
fn a_server_that_is_away_is_asked_again_and_one_that_refuses_is_not() {
    let shop = Shop::on(Postgres::start_with("scram-sha-256"));
    let daemon = shop.host.daemon();
    let port = shop.server.port;
    let check = |connection: &str, attempts: usize, expected: &str| {
        shop.table(THRICE, "", connection);
        assert!(shop.host.cli(&["reload"]).status.success());
        assert_eq!(shop.error(), expected);
        let row = &shop.host.history("db-backup")[0];
        assert_eq!(outcomes(row), vec!["failed"; attempts], "{row:#}");
    };
    let free = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    check(
        &format!(", port: {free}"),
        3,
        &format!(
            "PostgreSQL at 127.0.0.1:{free} can't be reached: error connecting to server: Connection refused (os error 111)"
        ),
    );
    check(
        ", password: 'another s3cret'",
        1,
        "PostgreSQL at 127.0.0.1:PORT refuses database shop for user postgres: password authentication failed for user \
         \"postgres\" (28P01)",
    );
    check(
        ", database: shpo",
        1,
        "PostgreSQL at 127.0.0.1:PORT refuses database shpo for user postgres: database \"shpo\" does not exist (3D000)",
    );
    shop.table("", "", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    assert_eq!(shop.run()["outcome"], "succeeded", "the right password for {port}");
    assert!(daemon.stop().success());

    // What a person or a program may look at, the file with the secret itself aside.
    let ledger = ["state/ledger.db", "state/ledger.db-wal"].map(|name| std::fs::read(shop.host.path(name)));
    let ledger: Vec<u8> = ledger.into_iter().flatten().flatten().collect();
    let seen =
        [shop.host.log("db-backup"), shop.host.daemon_log(), String::from_utf8_lossy(&ledger).into_owned()];
    for secret in ["another s3cret", PASSWORD] {
        assert!(seen.iter().all(|text| !text.contains(secret)), "{secret} is shown");
    }
}

/// A stand-in for pg_dump that the daemon's PATH names.
fn stand_in(shop: &Shop, script: &str) -> std::ffi::OsString {
    let folder = shop.host.path("bin");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("pg_dump"), script).unwrap();
    std::fs::set_permissions(folder.join("pg_dump"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = folder.into_os_string();
    path.push(":/usr/bin:/bin");
    path
}

#[test]
fn a_server_newer_than_pg_dump_and_a_pg_dump_that_lies_are_found_out() {
    let shop = Shop::new();
    shop.table(THRICE, ", roles: false", "");
    let old = "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n";
    let path = stand_in(&shop, old);
    let daemon = shop.host.spawn_daemon_with(|command| {
        command.env("PATH", &path);
    });
    wait_until("the daemon answers", || shop.host.cli(&["status"]).status.success());
    let program = shop.host.path("bin/pg_dump").display().to_string();
    let version = shop.server.sql("shop", "SHOW server_version");
    let major = version.split('.').next().unwrap();
    assert_eq!(
        shop.error(),
        format!(
            "PostgreSQL at 127.0.0.1:PORT is version {version}, and {program} is 9.6.24, which can't dump a newer server: \
             install the package postgresql-client-{major}"
        )
    );
    assert_eq!(outcomes(&shop.host.history("db-backup")[0]), ["failed"]);
    assert_eq!(shop.names(), [""; 0]);

    // It ends well, but what it wrote breaks off.
    let lie = "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'pg_dump (PostgreSQL) 99.1'; exit; }\necho 'SET a = 1;'\n";
    std::fs::write(shop.host.path("bin/pg_dump"), lie).unwrap();
    let error = shop.error();
    let begin = "pg_dump ended with code 0, but its output breaks off before its closing comment: shop-";
    assert!(error.starts_with(begin), "{error}");
    assert_eq!(outcomes(&shop.host.history("db-backup")[0]), ["failed"; 3]);
    assert_eq!(shop.names(), [""; 0]);
    assert!(daemon.stop().success());
}

#[test]
fn a_pg_dump_that_is_killed_half_way_is_named_with_its_signal_and_tried_again() {
    let shop = Shop::new();
    shop.fill();
    shop.table(THRICE, "", "");
    let daemon = shop.host.daemon();
    let held = shop.hold_in_the_middle();
    let [(pid, _)] = shop.programs()[..] else { panic!("one pg_dump: {:?}", shop.programs()) };
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    drop(held);
    let row = shop.host.wait_for("db-backup", "ends", |row| row["outcome"] != "running");
    assert_eq!(outcomes(&row), ["failed", "succeeded"], "{row:#}");
    assert_eq!(
        row["attempts"][0]["error"].as_str().unwrap().replace(&shop.server.port.to_string(), "PORT"),
        "pg_dump of shop at 127.0.0.1:PORT was ended by signal 9 (SIGKILL): it said nothing"
    );
    assert_eq!(shop.names().len(), 3, "{:?}", shop.names());
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_named_with_its_bytes() {
    let shop = Shop::new();
    shop.fill();
    let directory = shop.directory();
    let Some(_disk) = SmallDisk::mount(&directory, "4m") else { return };
    let daemon = shop.host.daemon();
    let error = shop.error();
    let begin = format!("no space is left in {}: the dump stopped after ", directory.display());
    let rest = error.strip_prefix(&begin).unwrap_or_else(|| panic!("{error}"));
    let (written, rest) = rest.split_once(" bytes with ").unwrap();
    assert!((1 << 20..=4 << 20).contains(&written.parse::<u64>().unwrap()), "{error}");
    assert!(rest.contains(" bytes free; the database has "), "{error}");
    assert_eq!(shop.names(), [""; 0]);
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}

#[test]
fn a_lock_that_is_held_too_long_and_a_silent_pg_dump_are_told_apart() {
    let shop = Shop::new();
    let _lock = shop.lock();
    let daemon = shop.host.daemon();
    let check = |options: &str, expected: &str| {
        shop.table("", options, "");
        assert!(shop.host.cli(&["reload"]).status.success());
        let error = shop.error();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(shop.names(), [""; 0]);
        shop.check_nothing_is_left();
    };
    check(
        ", lock_wait: 100ms",
        "pg_dump of shop at 127.0.0.1:PORT ended with code 1: pg_dump: error: query failed: ERROR:  canceling statement",
    );
    check(
        ", stall: 300ms",
        "pg_dump of shop at 127.0.0.1:PORT was ended: no byte came for 300ms, which is the limit (stall:); does it wait \
         for a lock?",
    );
    assert!(daemon.stop().success());
}
