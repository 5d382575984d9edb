//! What becomes of a dump when the daemon dies or stops, or a person or its timeout ends it.

use super::{Shop, outcomes};
use crate::support::daemon::{Daemon, text};

/// After the daemon's end in the middle of the first attempt: nothing is published, and the next daemon makes the
/// same run whole.
fn check_goes_on(shop: &Shop, run: &serde_json::Value) {
    let visible: Vec<_> = shop.names().into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(visible, [""; 0]);
    let daemon = shop.host.daemon();
    let row = shop.host.wait_for_outcome("db-backup", "succeeded");
    assert_eq!(row["run"], *run);
    assert_eq!(shop.host.history("db-backup").len(), 1);
    assert_eq!(outcomes(&row), ["interrupted", "succeeded"], "{row:#}");
    assert_eq!((&row["attempts"][0]["number"], &row["attempts"][1]["number"]), (&1.into(), &2.into()));
    assert_eq!(shop.names().len(), 3, "{:?}", shop.names());
    shop.check_nothing_is_left();
    let rows = shop.count("SELECT 1") + 9;
    let sales = shop.manifest().tables.into_iter().find(|table| table.name == "sales").unwrap();
    assert_eq!(sales.rows, rows);

    let shown = text(&shop.host.cli(&["show", &run.to_string()]).stdout);
    for part in ["interrupted", "succeeded", "removed .shop-"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let told = text(&shop.host.cli(&["history", "db-backup"]).stdout);
    assert!(told.contains("succeeded") && told.contains("dumped shop: "), "{told}");
    assert!(daemon.stop().success());
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_dump_leaves_the_rest_to_the_next() {
    let shop = Shop::new();
    shop.fill();
    let daemon = shop.host.daemon();
    let held = shop.hold_in_the_middle();
    let run = shop.host.history("db-backup")[0]["run"].clone();
    daemon.kill();
    drop(held);
    check_goes_on(&shop, &run);
    let big = shop.manifest().tables.into_iter().find(|table| table.name == "big").unwrap();
    assert_eq!(big.rows, 1_000_000);
}

#[test]
fn a_daemon_killed_while_pg_dump_waits_for_a_lock_leaves_no_pg_dump() {
    let shop = Shop::new();
    let lock = shop.lock();
    let daemon = shop.host.daemon();
    shop.begin();
    shop.wait_until_it_waits();
    let run = shop.host.history("db-backup")[0]["run"].clone();
    daemon.kill();
    crate::support::daemon::wait_until("no pg_dump is left", || shop.programs().is_empty());
    drop(lock);
    check_goes_on(&shop, &run);
}

#[test]
fn a_daemon_stopped_in_the_middle_of_a_dump_ends_it_after_its_grace() {
    let shop = Shop::new();
    let lock = shop.lock();
    let daemon = short_of_patience(&shop);
    shop.begin();
    shop.wait_until_it_waits();
    let run = shop.host.history("db-backup")[0]["run"].clone();
    assert!(daemon.stop().success());
    shop.check_nothing_is_left();
    assert_eq!(outcomes(&shop.host.history("db-backup")[0]), ["interrupted"]);
    drop(lock);
    let daemon = shop.host.daemon();
    let row = shop.host.wait_for_outcome("db-backup", "succeeded");
    assert_eq!((&row["run"], outcomes(&row)), (&run, vec!["interrupted", "succeeded"]), "{row:#}");
    assert_eq!(shop.names().len(), 3);
    assert!(daemon.stop().success());
}

fn short_of_patience(shop: &Shop) -> Daemon<'_> {
    let daemon = shop.host.spawn_daemon_with(|command| {
        command.args(["--grace", "100ms"]);
    });
    crate::support::daemon::wait_until("the daemon answers", || shop.host.cli(&["status"]).status.success());
    daemon
}

#[test]
fn a_dump_that_is_cancelled_or_takes_too_long_leaves_nothing() {
    let shop = Shop::new();
    let _lock = shop.lock();
    let daemon = shop.host.daemon();
    shop.begin();
    shop.wait_until_it_waits();
    let run = shop.host.history("db-backup")[0]["run"].to_string();
    assert!(shop.host.cli(&["cancel", &run]).status.success());
    let row = shop.host.wait_for_outcome("db-backup", "cancelled");
    assert_eq!(row["attempts"][0]["error"], "cancelled");
    assert_eq!(shop.names(), [""; 0]);
    shop.check_nothing_is_left();

    shop.table("    timeout: 1s\n", "", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    let row = shop.run();
    assert_eq!(row["outcome"], "timed_out", "{row:#}");
    assert_eq!(row["attempts"][0]["error"], "not done after 1s: ended by its timeout");
    assert_eq!(shop.names(), [""; 0]);
    shop.check_nothing_is_left();
    assert!(daemon.stop().success());
}
