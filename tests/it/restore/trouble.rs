//! What goes wrong with a restore: said, and nothing of it left.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::{Restoring, Shop};
use crate::support::daemon::{processes_of, text, wait_until};
use crate::support::postgres::Postgres;

/// A dump of somebody else's that takes for ever.
fn endless(shop: &Shop) -> std::path::PathBuf {
    let file = shop.host.path("endless.sql");
    std::fs::write(&file, "CREATE TABLE t (id int);\nSELECT pg_sleep(1000);\n").unwrap();
    file
}

/// The program that restores, once it waits.
fn restoring(shop: &Shop) -> Pid {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE 'shop_restored_%'";
    wait_until("the restore waits", || shop.count(waiting) == 1);
    let mut found = processes_of(format!("PGPORT={}", shop.server.port).as_ref());
    found.retain(|(_, command)| command.contains("psql"));
    let [(pid, _)] = &found[..] else { panic!("one psql: {found:?}") };
    Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap()
}

#[test]
fn a_damaged_backup_is_refused_before_anything_is_made() {
    let shop = Shop::new();
    let file = shop.dumped();
    let mut content = std::fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&file, content).unwrap();
    let said = shop.restore_badly(1, &[file.to_str().unwrap(), "--swap"]);
    assert!(said.contains("is damaged: it is not what was written: its SHA-256 is "), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
    assert_eq!(super::manifest(&file).proof.state.word(), "damaged");
}

#[test]
fn a_foreign_file_that_is_cut_or_wrong_leaves_no_database() {
    let shop = Shop::new();
    let file = shop.dumped();
    let content = std::fs::read(&file).unwrap();
    let cut = shop.host.path("cut.sql.gz");
    std::fs::write(&cut, &content[..content.len() - 20]).unwrap();
    let said = shop.restore_badly(1, &[cut.to_str().unwrap()]);
    assert!(said.contains("the file was cut"), "{said}");
    let wrong = shop.host.path("wrong.sql");
    std::fs::write(&wrong, "CREATE TABLE t (id int);\nINSERT INTO nowhere VALUES (1);\n").unwrap();
    let said = shop.restore_badly(1, &[wrong.to_str().unwrap()]);
    assert!(said.contains("relation \"nowhere\" does not exist"), "{said}");
    assert!(said.contains("the unfinished database shop_restored_"), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
}

#[test]
fn a_name_that_is_taken_or_none_and_a_connection_that_is_none_are_said() {
    let shop = Shop::new();
    let file = shop.dumped();
    let file = file.to_str().unwrap();
    let said = shop.restore_badly(1, &[file, "--into", "shop"]);
    let port = shop.server.port;
    let taken = format!(
        "there is a database shop at 127.0.0.1:{port} already: name another with --into, or leave it out"
    );
    assert!(said.contains(&taken), "{said}");
    assert!(shop.restore_badly(1, &[file, "--into", "shop", "--plan"]).contains(&taken));
    let said = shop.restore_badly(1, &[file, "--into", &"x".repeat(64)]);
    assert!(said.contains("is no name for a database: it must have 1 to 63 bytes"), "{said}");
    let other = shop.host.cli(&["restore", "db", file, "--connection", "ap"]);
    assert_eq!(other.status.code(), Some(2));
    let said = text(&other.stderr);
    assert!(said.contains("there is no connection ap under postgres:"), "{said}");
    assert!(said.contains("did you mean app?"), "{said}");
    let said = shop.restore_badly(2, &["/nowhere/shop.sql.gz"]);
    assert!(said.contains("/nowhere/shop.sql.gz can't be read: No such file"), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
}

#[test]
fn a_server_that_is_dead_and_a_user_who_may_not_are_said() {
    let shop = Shop::new();
    let file = shop.dumped();
    let file = file.to_str().unwrap();
    shop.server.sql("postgres", "CREATE ROLE clerk LOGIN");
    shop.table("", "", ", user: clerk");
    let said = shop.restore_badly(1, &[file]);
    assert!(said.contains("user clerk may not create databases at "), "{said}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    shop.table("", "", &format!(", port: {port}"));
    let said = shop.restore_badly(1, &[file]);
    assert!(said.contains(&format!("PostgreSQL at 127.0.0.1:{port} can't be reached")), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
}

#[test]
fn a_role_that_is_missing_everywhere_is_said_and_nothing_is_left() {
    let shop = Shop::new();
    shop.server.sql("shop", "CREATE ROLE owner_of_sales; ALTER TABLE sales OWNER TO owner_of_sales");
    shop.table("", ", roles: false", "");
    let file = shop.dumped();
    shop.server.sql("shop", "ALTER TABLE sales OWNER TO postgres; DROP ROLE owner_of_sales");
    let said = shop.restore_badly(1, &[file.to_str().unwrap()]);
    assert!(said.contains("role \"owner_of_sales\" does not exist"), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
}

#[test]
fn a_restore_whose_psql_is_killed_or_that_is_interrupted_takes_its_database_away() {
    let shop = Shop::new();
    let file = endless(&shop);
    for interrupted in [false, true] {
        let mut restore =
            shop.host.command(&["restore", "db", file.to_str().unwrap(), "--connection", "app"]);
        let restore = restore.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let restore = restore.spawn().unwrap();
        let psql = restoring(&shop);
        let own = Pid::from_raw(i32::try_from(restore.id()).unwrap()).unwrap();
        let half = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname LIKE 'shop_restored_%'";
        assert!(shop.server.sql("postgres", half).starts_with("half restored: punk-eco-sched began at "));
        if interrupted {
            kill_process(own, Signal::INT).unwrap();
        } else {
            kill_process(psql, Signal::KILL).unwrap();
        }
        let output = restore.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stderr);
        let expected = if interrupted { "error: stopped" } else { "was ended by signal 9 (SIGKILL)" };
        assert!(said.contains(expected), "{said}");
        assert_eq!(shop.databases(), ["shop"], "{said}");
        let left = processes_of(Path::new(&format!("PGPORT={}", shop.server.port)));
        assert!(left.iter().all(|(_, command)| !command.contains("psql")), "{left:?}");
    }
}

#[test]
fn no_password_and_no_hash_of_one_is_in_what_is_said() {
    let shop = Shop::on(Postgres::start_with("scram-sha-256"));
    shop.server.sql(
        "shop",
        "CREATE ROLE seller LOGIN PASSWORD 'p4ss of a seller'; ALTER TABLE sales OWNER TO seller",
    );
    let file = shop.dumped();
    shop.server.sql("shop", "ALTER TABLE sales OWNER TO postgres; DROP ROLE seller");
    // So that what makes the roles fails, and is told of.
    shop.server.sql("postgres", "CREATE ROLE clerk LOGIN CREATEDB PASSWORD 's3cret of the test'");
    shop.table("", "", ", user: clerk");
    let said = shop.restore_badly(1, &[file.to_str().unwrap()]);
    assert!(said.contains("the roles that are missing (seller) can't be made from "), "{said}");
    assert!(!said.contains("SCRAM-SHA-256") && !said.contains("s3cret"), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
    shop.table("", "", "");
    let said = shop.restore_well(&[file.to_str().unwrap(), "--swap"]);
    assert!(!said.contains("SCRAM-SHA-256") && !said.contains("s3cret"), "{said}");
    assert_eq!(
        shop.server.sql("shop", "SELECT relowner::regrole FROM pg_class WHERE relname = 'sales'"),
        "seller"
    );
}
