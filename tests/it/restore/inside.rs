//! The same of a server in a container, whose programs run there.

use super::{Restoring, beginning, manifest};
use crate::support::docker::{Inside, no_engine, processes_in};
use crate::support::postgres::feed;
use crate::support::shop::{self, Server};

fn dump(shop: &shop::Shop<Inside>, database: &str) -> String {
    let text = feed(Server::program(&shop.server, "pg_dump", database), b"");
    let token = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
    text.lines().filter(token).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_database_in_a_container_is_proven_and_restored() {
    if no_engine() {
        return;
    }
    let shop = shop::Shop::<Inside>::new();
    shop.fill();
    let original = dump(&shop, "shop");
    for options in ["", ", format: custom"] {
        shop.table_with(options, "");
        let file = shop.dumped();
        shop.host.cli(&["run-now", "db-verify"]);
        let row = shop.host.history("db-verify").remove(0);
        assert_eq!(row["outcome"], "succeeded", "{row:#}");
        assert!(manifest(&file).proof.is_verified());
        assert_eq!(manifest(&file).properties.unwrap().collate, "C.UTF-8");
        assert_eq!(shop.databases(), ["shop"]);

        shop.server.sql("shop", "DROP TABLE stock CASCADE; DELETE FROM sales");
        shop.restore_well(&[file.to_str().unwrap(), "--swap"]);
        assert!(dump(&shop, "shop") == original, "{options}: the restored database differs");
        let names = shop.databases();
        let before = beginning(&names, "shop_before_");
        assert_eq!(shop.server.sql(before, "SELECT count(*) FROM sales"), "0");
        shop.server.sql("postgres", &format!("DROP DATABASE {before}"));
    }
    assert_eq!(processes_in(&shop.server.container.name, "psql"), [0; 0]);
}
