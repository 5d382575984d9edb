//! The password of a database: in no command line while a dump runs, and in nothing that is written.

use std::path::Path;

use super::Shop;
use crate::support::postgres::{PASSWORD, Postgres};

/// Every process of the machine by its arguments, as `ps` shows them to anybody.
fn command_lines() -> Vec<String> {
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

/// Each file below, as text.
fn files(folder: &Path) -> Vec<(String, String)> {
    let walk = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let files = walk.filter(|entry| entry.file_type().is_file());
    files
        .filter_map(|entry| {
            let content = std::fs::read(entry.path()).ok()?;
            Some((entry.path().display().to_string(), String::from_utf8_lossy(&content).into_owned()))
        })
        .collect()
}

#[test]
fn the_password_shows_nowhere_while_a_dump_runs_fails_and_succeeds() {
    let shop = Shop::on(Postgres::start_with("scram-sha-256"));
    shop.fill();
    let daemon = shop.host.daemon();
    let check = |when: &str| {
        for line in command_lines() {
            assert!(!line.contains(PASSWORD), "{when}: {line}");
        }
        let mut seen = files(shop.host.dir.path());
        // Where the operator wrote it.
        seen.retain(|(name, _)| *name != shop.host.config().display().to_string());
        assert!(seen.iter().any(|(name, _)| name.ends_with("ledger.db")), "{when}");
        assert!(seen.iter().any(|(name, _)| name.ends_with("db-backup.log")), "{when}");
        for (name, content) in seen {
            assert!(!content.contains(PASSWORD), "{when}: {name}");
        }
        for arguments in
            [&["history", "--json"][..], &["list", "--json"], &["status"], &["logs", "db-backup"]]
        {
            let told = shop.host.cli(arguments);
            let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
            assert!(!told.contains(PASSWORD), "{when}: {arguments:?}: {told}");
        }
    };
    let held = shop.hold_in_the_middle();
    assert!(command_lines().iter().any(|line| line.contains("pg_dump")), "a dump runs");
    check("while it runs");
    drop(held);
    shop.host.wait_for_outcome("db-backup", "succeeded");
    check("after it succeeded");
    let manifest = shop.names().into_iter().find(|name| name.ends_with(".manifest.json")).unwrap();
    assert!(!std::fs::read_to_string(shop.directory().join(manifest)).unwrap().contains(PASSWORD));

    shop.server.sql("postgres", "ALTER DATABASE shop RENAME TO gone");
    assert_eq!(shop.run()["outcome"], "failed");
    check("after it failed");
    assert!(daemon.stop().success());
}
