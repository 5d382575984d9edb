//! `--swap`: the restored database takes the name of the one in use, with all that a dump doesn't hold.

use std::process::Stdio;

use super::{Restoring, Shop, beginning};
use crate::support::daemon::wait_until;

const ACCESS: &str = r#"
CREATE ROLE "Vendeur ""é""" LOGIN PASSWORD 'p4ss of a seller' VALID UNTIL '2040-01-01';
CREATE ROLE readers NOLOGIN;
GRANT readers TO "Vendeur ""é""";
ALTER ROLE readers SET work_mem = '9MB';
ALTER TABLE sales OWNER TO "Vendeur ""é""";
GRANT SELECT ON stock TO readers;
ALTER DATABASE shop OWNER TO "Vendeur ""é""";
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, TEMP ON DATABASE shop TO readers WITH GRANT OPTION;
ALTER DATABASE shop SET search_path TO "$user", public, "Boutique ""é""";
ALTER DATABASE shop SET "shop.greeting" TO 'it''s \ an "é"';
ALTER ROLE readers IN DATABASE shop SET statement_timeout TO '9s';
ALTER DATABASE shop CONNECTION LIMIT 40;
COMMENT ON DATABASE shop IS 'the shop''s';
"#;

/// What belongs to a database and is in no dump of it.
fn told(shop: &Shop, database: &str) -> String {
    let query = "SELECT pg_get_userbyid(datdba), datacl, datconnlimit, datallowconn, encoding, datcollate,
 shobj_description(oid, 'pg_database'),
 (SELECT string_agg(setrole::regrole::text || ' ' || setconfig::text, ' / ' ORDER BY setrole) FROM pg_db_role_setting
  WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = ";
    shop.server.sql("postgres", &format!("{query}'{database}'"))
}

#[test]
fn a_damaged_database_is_replaced_and_kept_and_everything_is_as_it_was() {
    let shop = Shop::new();
    shop.fill();
    shop.server.sql("shop", ACCESS);
    let (original, access) = (shop.server.dump("shop"), told(&shop, "shop"));
    let file = shop.dumped();
    shop.server.sql("shop", "DROP TABLE stock CASCADE; DELETE FROM sales; CREATE TABLE wreck ()");
    let wreck = shop.server.dump("shop");

    let said = shop.restore_well(&[file.to_str().unwrap(), "--swap"]);
    let names = shop.databases();
    let before = beginning(&names, "shop_before_");
    assert_eq!(names, ["shop", before]);
    assert!(shop.server.dump("shop") == original, "the restored database differs");
    assert_eq!(told(&shop, "shop"), access);
    assert_eq!((shop.server.dump(before), told(&shop, before)), (wreck, access));
    assert!(said.contains(&format!("the database that had this name is {before} now")), "{said}");
    assert_eq!(shop.server.sql("shop", "SHOW shop.greeting"), "it's \\ an \"é\"");
}

#[test]
fn a_database_that_is_gone_and_its_roles_come_back() {
    let shop = Shop::new();
    shop.fill();
    shop.server.sql("shop", ACCESS);
    let original = shop.server.dump("shop");
    let roles = "SELECT rolname, rolcanlogin, rolpassword, rolvaliduntil, (SELECT array_agg(roleid::regrole) FROM \
                 pg_auth_members WHERE member = a.oid), (SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid \
                 AND setdatabase = 0) FROM pg_authid a ORDER BY 1";
    let known = shop.server.sql("postgres", roles);
    let file = shop.dumped();
    shop.server.sql("postgres", "DROP DATABASE shop");
    shop.server.sql("postgres", r#"DROP ROLE "Vendeur ""é"""; DROP ROLE readers"#);

    let said = shop.restore_well(&[file.to_str().unwrap(), "--swap"]);
    assert!(said.contains("roles      missing there, and made first: Vendeur \"é\", readers\n"), "{said}");
    assert!(said.contains("swap       there is no database shop now: shop_restored_"), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
    assert!(shop.server.dump("shop") == original, "the restored database differs");
    assert_eq!(shop.server.sql("postgres", roles), known);
    assert!(told(&shop, "shop").starts_with("Vendeur \"é\"|"), "{}", told(&shop, "shop"));
}

/// An application that connects again at once, whenever it is thrown out.
#[test]
fn sessions_that_come_again_and_again_don_t_keep_the_names_from_being_exchanged() {
    let shop = Shop::new();
    let file = shop.dumped();
    shop.server.sql("shop", "CREATE TABLE of_before ()");
    let mut idle = shop.server.program("psql", "shop");
    let mut idle = idle.arg("-Xq").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'";
    wait_until("a session is open", || shop.count(sessions) > 0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let done = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(done) {
                    let mut psql = shop.server.program("psql", "shop");
                    psql.args(["-Xq", "-c", "SELECT pg_sleep(10)"])
                        .stdout(Stdio::null())
                        .stderr(Stdio::null());
                    psql.status().unwrap();
                }
            });
        }
        let said = shop.restore(&[file.to_str().unwrap(), "--swap"]);
        stop.store(true, done);
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'shop'";
        wait_until("they are thrown out for the last time", || shop.count(end) == 0);
        assert!(said.status.success(), "{said:?}");
    });
    drop(idle.stdin.take());
    idle.wait().unwrap();
    let names = shop.databases();
    let wrecked = "SELECT count(*) FROM pg_class WHERE relname = 'of_before'";
    assert_eq!(shop.server.sql("shop", wrecked), "0");
    assert_eq!(shop.server.sql(beginning(&names, "shop_before_"), wrecked), "1");
}

/// Whoever restores may not end the superuser's session: nothing has changed then but that the restored one is there.
#[test]
fn an_exchange_that_fails_leaves_both_as_they_were() {
    let shop = Shop::new();
    shop.server.sql(
        "shop",
        "CREATE ROLE app LOGIN CREATEDB; ALTER DATABASE shop OWNER TO app; ALTER TABLE sales OWNER TO app",
    );
    shop.table("", "", ", user: app");
    let file = shop.dumped();
    let lock = shop.lock();
    let said = shop.restore_badly(1, &[file.to_str().unwrap(), "--swap"]);
    let names = shop.databases();
    let restored = beginning(&names, "shop_restored_");
    assert_eq!(names, ["shop", restored]);
    assert!(said.contains("the names could not be exchanged: shop is in use as before, and "), "{said}");
    assert!(said.contains(&format!("ALTER DATABASE \"{restored}\" RENAME TO \"shop\";")), "{said}");
    assert!(said.contains("is being accessed by other users"), "{said}");
    drop(lock);
    for database in ["shop", restored] {
        assert_eq!(shop.server.sql(database, "SELECT count(*) FROM sales"), "10");
    }
}
