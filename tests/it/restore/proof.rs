//! `verify_backup`: the latest backup, restored, counted, and what the manifest then says.

use punk_eco_sched::backup::manifest::State;
use serde_json::Value;

use super::{Restoring, Shop, manifest};
use crate::support::daemon::{text, wait_until};
use crate::support::shop::last_error;

trait Proving {
    fn prove(&self) -> Value;
}

impl Proving for Shop {
    fn prove(&self) -> Value {
        self.host.cli(&["run-now", "db-verify"]);
        self.host.history("db-verify").remove(0)
    }
}

fn slow(shop: &Shop, seconds: &str) {
    shop.server.sql("postgres", &format!("ALTER ROLE postgres SET shop.slow = '{seconds}'"));
}

#[test]
fn the_latest_backup_is_restored_and_counted_and_its_manifest_tells_the_story() {
    let shop = Shop::new();
    shop.fill();
    let mut rows = 3072;
    for options in ["", ", format: custom"] {
        shop.table_with(options, "");
        shop.server.sql("shop", "INSERT INTO sales VALUES (1)");
        rows += 1;
        let file = shop.dumped();
        let row = shop.prove();
        assert_eq!(row["outcome"], "succeeded", "{row:#}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(row["facts"]["file"], name);
        assert_eq!((&row["facts"]["tables"], &row["facts"]["rows"]), (&12.into(), &rows.into()));
        assert_eq!(row["facts"]["bytes"], std::fs::metadata(&file).unwrap().len());
        assert!(row["facts"]["seconds"].as_f64().unwrap() > 0.0);
        let proof = manifest(&file).proof;
        let states: Vec<State> = proof.events.iter().map(|event| event.state).collect();
        assert_eq!(states, [State::Written, State::ReadBack, State::Verified]);
        assert_eq!((proof.state, proof.is_verified()), (State::Verified, true));
        let last = proof.events.last().unwrap();
        assert_eq!(last.seconds, row["facts"]["seconds"].as_f64());
        assert!(last.tools.as_ref().unwrap().contains("server 1"), "{last:?}");
        assert_eq!(shop.databases(), ["shop"]);
    }
}

#[test]
fn a_backup_that_is_only_to_be_read_is_read_and_not_verified() {
    let shop = Shop::new();
    shop.table_with("", ", restore: false");
    let file = shop.dumped();
    let row = shop.prove();
    assert_eq!(row["outcome"], "succeeded", "{row:#}");
    assert_eq!(manifest(&file).proof.state, State::ReadBack);
}

#[test]
fn what_fell_is_found_when_it_is_proven_too_where_the_dump_could_not_see_it() {
    for verify in ["", ", restore: false"] {
        let shop = Shop::new();
        shop.server.sql("shop", "INSERT INTO sales SELECT n FROM generate_series(11, 2000) n");
        shop.table_with("", verify);
        let before = shop.dumped();
        let name = punk_eco_sched::backup::names::manifest_of(before.file_name().unwrap().to_str().unwrap());
        let aside = shop.host.path("aside");
        std::fs::rename(before.with_file_name(name), &aside).unwrap();
        shop.server.sql("shop", "DELETE FROM sales WHERE id > 10");
        let file = shop.dumped();
        assert_eq!(manifest(&file).proof.suspect, [""; 0]);
        std::fs::rename(&aside, file.with_file_name("shop-20200101T000000Z.manifest.json")).unwrap();

        let row = shop.prove();
        assert_eq!(row["outcome"], "succeeded", "{row:#}");
        let proof = manifest(&file).proof;
        let fell = "its rows fell to 10, from 2000 in the dump before";
        assert!(proof.suspect.iter().any(|why| why == fell), "{:?}", proof.suspect);
        assert!(!proof.is_verified());
        let name = file.file_name().unwrap().to_str().unwrap();
        let finding =
            serde_json::json!({"severity": "warning", "message": format!("{name} is suspect: {fell}")});
        assert!(row["findings"].as_array().unwrap().contains(&finding), "{row:#}");
        let state = if verify.is_empty() { "verified, suspect" } else { "read back, suspect" };
        let shown = text(&shop.host.cli(&["backups"]).stdout);
        assert!(shown.contains(state) && shown.contains(&format!("{name} is suspect: {fell}")), "{shown}");
        // Once is enough.
        shop.prove();
        assert_eq!(manifest(&file).proof.suspect, proof.suspect);
    }
}

#[test]
fn no_backup_at_all_is_a_failure_and_so_is_a_job_that_makes_none() {
    let shop = Shop::new();
    shop.table_with("", "");
    let row = shop.prove();
    assert_eq!(row["outcome"], "failed");
    let said = last_error(&row);
    assert!(said.starts_with("there is no backup of db-backup in "), "{said}");

    let table = std::fs::read_to_string(shop.host.config()).unwrap();
    let wrong = format!(
        "{table}  other:\n    verify_backup: {{ of: db-verify }}\n  third:\n    verify_backup: {{ of: db-bakup }}\n"
    );
    std::fs::write(shop.host.config(), wrong).unwrap();
    let checked = shop.host.cli(&["check", "--no-host"]);
    assert_eq!(checked.status.code(), Some(2));
    let said = text(&checked.stdout) + &text(&checked.stderr);
    let expected = "job `db-verify` is of the kind `verify_backup`, which makes no backup";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("name a job of the kind `pg_dump` or `archive`"), "{said}");
    assert!(said.contains("unknown job `db-bakup`") && said.contains("did you mean `db-backup`?"), "{said}");
}

#[test]
fn a_damaged_backup_is_recorded_as_damaged_and_a_dead_server_is_not_held_against_it() {
    let shop = Shop::new();
    shop.table_with("", "");
    let file = shop.dumped();
    let table = std::fs::read_to_string(shop.host.config()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = table.replace(&format!("port: {}", shop.server.port), &format!("port: {port}"));
    std::fs::write(shop.host.config(), away).unwrap();
    let row = shop.prove();
    assert!(last_error(&row).contains("can't be reached"), "{row:#}");
    assert_eq!(manifest(&file).proof.state, State::ReadBack);

    std::fs::write(shop.host.config(), table).unwrap();
    let content = std::fs::read(&file).unwrap();
    std::fs::write(&file, &content[..content.len() - 1]).unwrap();
    let row = shop.prove();
    assert!(last_error(&row).contains("is damaged: "), "{row:#}");
    assert_eq!(manifest(&file).proof.state, State::Damaged);
    std::fs::write(&file, content).unwrap();
    assert_eq!(shop.prove()["outcome"], "succeeded");
    assert!(manifest(&file).proof.is_verified());
    assert_eq!(shop.databases(), ["shop"]);
}

/// The file is what was written, and still something is missing in what comes of it.
#[test]
fn rows_that_are_not_there_after_the_restore_are_held_against_the_backup() {
    let shop = Shop::new();
    shop.server.sql(
        "shop",
        "CREATE TABLE few (id int); INSERT INTO few VALUES (1), (2), (3);
         CREATE FUNCTION emptied(t text) RETURNS int LANGUAGE plpgsql AS
         $$ BEGIN EXECUTE 'DELETE FROM public.few WHERE ' || quote_literal(current_database()) || ' <> ''shop'''; RETURN 1; END $$;
         CREATE MATERIALIZED VIEW wrecks AS SELECT public.emptied('few') AS n",
    );
    shop.table_with("", "");
    let file = shop.dumped();
    let row = shop.prove();
    assert_eq!(row["outcome"], "failed", "{row:#}");
    let said = last_error(&row);
    let expected = "the restored database does not hold what was dumped: public.few has 0 of 3 rows";
    assert_eq!(said, expected);
    let proof = manifest(&file).proof;
    assert_eq!((proof.state, proof.events.last().unwrap().how.as_str()), (State::Damaged, expected));
    assert_eq!(shop.databases(), ["shop"]);
    let said = shop.restore_badly(1, &[file.to_str().unwrap(), "--swap"]);
    assert!(said.contains(expected), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
}

#[test]
fn what_a_killed_daemon_left_is_dropped_by_the_next_and_what_another_uses_is_not() {
    let shop = Shop::new();
    shop.fill();
    shop.table_with("", "");
    let file = shop.dumped();
    slow(&shop, "1000");
    // Another verification, that of another host.
    shop.server.sql("postgres", "CREATE DATABASE punk_eco_verify_20260101t000000z");
    let mut other = shop.server.program("psql", "postgres");
    let mut other = other.args(["-Xq"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let lock =
        b"SELECT pg_advisory_lock(1886744171, hashtext('punk_eco_verify_20260101t000000z')) \\g /dev/null\n";
    std::io::Write::write_all(other.stdin.as_mut().unwrap(), lock).unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    wait_until("the other one has its lock", || shop.count(locks) == 1);

    let daemon = shop.host.daemon();
    assert!(shop.host.cli(&["run-now", "db-verify", "--detach"]).status.success());
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE 'punk_eco_verify_%'";
    wait_until("the restore waits", || shop.count(waiting) == 1);
    let left = shop.databases();
    assert_eq!(left.len(), 3, "{left:?}");
    daemon.kill();
    wait_until("the lock of the dead one is free", || shop.count(locks) == 1);
    assert_eq!(shop.databases(), left);
    slow(&shop, "0");

    let daemon = shop.host.daemon();
    let row = shop.host.wait_for_outcome("db-verify", "succeeded");
    let log = text(&shop.host.cli(&["show", &row["run"].to_string()]).stdout);
    assert!(log.contains(&format!("dropped {}, which a process that is gone left behind", left[1])), "{log}");
    assert_eq!(shop.databases(), ["punk_eco_verify_20260101t000000z", "shop"]);
    assert!(manifest(&file).proof.is_verified());

    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(shop.host.cli(&["run-now", "db-verify"]).status.success());
    assert_eq!(shop.databases(), ["shop"]);
    assert!(daemon.stop().success());
}

#[test]
fn a_cancelled_verification_takes_its_database_away() {
    let shop = Shop::new();
    shop.fill();
    shop.table_with("", "");
    let file = shop.dumped();
    slow(&shop, "1000");
    let daemon = shop.host.daemon();
    assert!(shop.host.cli(&["run-now", "db-verify", "--detach"]).status.success());
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE 'punk_eco_verify_%'";
    wait_until("the restore waits", || shop.count(waiting) == 1);
    let run = shop.host.history("db-verify")[0]["run"].to_string();
    assert!(shop.host.cli(&["cancel", &run]).status.success());
    shop.host.wait_for_outcome("db-verify", "cancelled");
    wait_until("nothing is left", || shop.databases() == ["shop"]);
    assert_eq!(manifest(&file).proof.state, State::ReadBack);
    assert!(daemon.stop().success());
}

/// On a server that knows none of the shop's roles.
#[test]
fn roles_that_the_server_lacks_are_stood_in_for_and_gone_after() {
    let shop = Shop::new();
    shop.server.sql("shop", "CREATE ROLE seller LOGIN; ALTER TABLE sales OWNER TO seller");
    shop.table_with("", "");
    let file = shop.dumped();
    shop.server.sql("shop", "ALTER TABLE sales OWNER TO postgres; DROP ROLE seller");
    let row = shop.prove();
    assert_eq!(row["outcome"], "succeeded", "{row:#}");
    assert!(manifest(&file).proof.is_verified());
    assert_eq!(shop.count("SELECT count(*) FROM pg_roles WHERE rolname = 'seller'"), 0);
}
