//! The password of a database: in no command line while a dump runs, and in nothing that is written.

use std::path::Path;

use super::Shop;
use crate::support::daemon::processes_of;
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

/// The files below, and those that a process of this host holds open under no name any more, that have the text in them.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let named = files(folder).into_iter();
    let held = processes_of(folder).into_iter().flat_map(|(pid, _)| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        descriptors.filter_map(|one| Some(one.ok()?.path())).collect::<Vec<_>>()
    });
    let held = held.filter(|path| path.metadata().is_ok_and(|about| about.is_file())).filter_map(|path| {
        let content = std::fs::read(&path).ok()?;
        Some((path.display().to_string(), String::from_utf8_lossy(&content).into_owned()))
    });
    named.chain(held).filter(|(_, content)| content.contains(text)).map(|(path, _)| path).collect()
}

#[test]
fn while_an_encrypted_dump_is_made_nothing_of_it_is_on_the_disk_in_another_form() {
    const MARK: &str = "a-row-that-nobody-else-may-read";
    let shop = Shop::new();
    shop.server.sql(
        "shop",
        &format!(
            "CREATE TABLE t AS SELECT n, repeat('{MARK} ', 20) AS body FROM generate_series(1, 300000) n"
        ),
    );
    let daemon = shop.host.daemon();
    let recipient = age::x25519::Identity::generate().to_public();
    // The second shows that it would be seen.
    for (encrypt, seen) in [(format!(", encrypt_to: [{recipient}]"), false), (String::new(), true)] {
        shop.table("", &format!(", compression: none, stall: 10m, roles: false{encrypt}"), "");
        assert!(shop.host.cli(&["reload"]).status.success());
        let held = shop.hold_in_the_middle();
        let found = holding(shop.host.dir.path(), MARK);
        assert_eq!(!found.is_empty(), seen, "{found:?}");
        shop.cancel();
        drop(held);
    }
    assert!(daemon.stop().success());
}
