//! Databases that aren't in UTF-8: their dumps keep the database's own encoding, and their tables' names are compared in it.

use super::{Restoring, Shop, manifest};
use crate::support::postgres::{done, feed};

/// The whole plain dump, in whatever encoding, without the tokens that differ each time.
fn dump(shop: &Shop) -> Vec<Vec<u8>> {
    let text = done(shop.server.program("pg_dump", "shop").output().unwrap());
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    lines.filter(|line| !line.starts_with(b"\\restrict ") && !line.starts_with(b"\\unrestrict ")).collect()
}

fn check(encoding: &str, names: &[&[u8]], told: &[&str]) {
    let shop = Shop::new();
    let create = format!(
        "DROP DATABASE shop; CREATE DATABASE shop TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
    );
    shop.server.sql("postgres", &create);
    let mut sql = format!("SET client_encoding = '{encoding}';\n").into_bytes();
    for (rows, name) in (7..).zip(names) {
        sql.extend(
            [&b"CREATE TABLE \""[..], name, b"\" AS SELECT n, '", name, b"'::text FROM generate_series(1, "]
                .concat(),
        );
        sql.extend(format!("{rows}) n;\n").into_bytes());
    }
    let mut psql = shop.server.program("psql", "shop");
    feed(
        {
            psql.args(["-Xq", "-v", "ON_ERROR_STOP=1"]);
            psql
        },
        &sql,
    );
    let original = dump(&shop);
    for format in ["", ", format: custom"] {
        shop.table_with(format, "");
        let file = shop.dumped();
        let tables = manifest(&file).tables;
        let tables: Vec<(&str, u64)> = tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
        let expected: Vec<(&str, u64)> = told.iter().copied().zip(7..).collect();
        assert_eq!(tables, expected, "{encoding}");
        shop.host.cli(&["run-now", "db-verify"]);
        let row = shop.host.history("db-verify").remove(0);
        assert_eq!(row["outcome"], "succeeded", "{encoding}: {row:#}");
        shop.restore_well(&[file.to_str().unwrap(), "--swap"]);
        assert!(dump(&shop) == original, "{encoding}{format}: the restored database differs");
    }
}

#[test]
fn names_in_the_encoding_of_the_database_are_found_again() {
    check("LATIN1", &[b"caf\xe8", b"caf\xe9"], &[r"caf\xe8", r"caf\xe9"]);
    check("EUC_JP", &[b"\xc6\xfc\xcb\xdc"], &[r"\xc6\xfc\xcb\xdc"]);
    // Whatever bytes, and never converted.
    check("SQL_ASCII", &[b"caf\xc3\xa8", b"caf\xe9"], &["cafè", r"caf\xe9"]);
}
