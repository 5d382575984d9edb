//! `backups` over real directories: those of the table's jobs, whether they can be read or not.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::daemon::{Host, text};
use crate::support::docker::command;
use crate::support::missing::{lacks, lacks_root};

fn table(host: &Host) {
    let job = |name: &str| {
        format!("  {name}:\n    pg_dump: {{ connection: app, directory: {} }}\n", host.path(name).display())
    };
    host.write_table(
        "postgres: { app: { host: localhost, database: shop, user: shop } }\n",
        &format!("{}{}", job("weekly"), job("nightly")),
    );
}

#[test]
fn the_backups_of_each_job_come_newest_first_and_a_directory_that_is_not_there_yet_has_none() {
    let host = Host::new("");
    table(&host);
    std::fs::create_dir(host.path("nightly")).unwrap();
    for day in [20, 22, 21] {
        std::fs::write(host.path("nightly").join(format!("shop-202611{day}T000000Z.sql.gz")), "12").unwrap();
    }
    let found = host.cli(&["backups", "--json"]);
    assert_eq!((found.status.code(), text(&found.stderr).as_str()), (Some(0), ""));
    let rows: Vec<Value> = serde_json::from_slice(&found.stdout).unwrap();
    let files: Vec<&str> = rows.iter().map(|row| row["file"].as_str().unwrap()).collect();
    let expected = [22, 21, 20].map(|day| format!("shop-202611{day}T000000Z.sql.gz"));
    assert_eq!(files, expected);
    assert_eq!(
        rows[0],
        json!({"job": "nightly", "file": expected[0], "directory": host.path("nightly"), "database": "shop",
               "time": "2026-11-22T00:00:00Z", "bytes": 2, "proof": null, "suspect": [], "restore_seconds": null,
               "copies": []})
    );
}

#[test]
fn a_directory_that_cannot_be_read_is_named_and_the_others_are_shown() {
    if lacks_root() || lacks("setpriv") {
        return;
    }
    let host = Host::new("");
    table(&host);
    for job in ["nightly", "weekly"] {
        std::fs::create_dir(host.path(job)).unwrap();
        std::fs::write(host.path(job).join("shop-20261122T000000Z.sql.gz"), "12").unwrap();
    }
    std::fs::set_permissions(host.path("weekly"), std::fs::Permissions::from_mode(0o700)).unwrap();
    // A copy where anybody may read it.
    std::fs::copy(crate::support::daemon::PROGRAM, host.path("program")).unwrap();
    for path in [host.dir.path(), &host.config()] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut backups = command("setpriv");
    backups.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(host.path("program"));
    let found = backups.arg("--config").arg(host.config()).args(["backups", "--json"]).output().unwrap();
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(
        text(&found.stderr),
        format!(
            "the directory {} of weekly can't be read: Permission denied (os error 13)\n",
            host.path("weekly").display()
        )
    );
    let rows: Vec<Value> = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["job"], "nightly");
}
