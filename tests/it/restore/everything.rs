//! A database with everything that a dump and a restore can stumble over (tests/data/cycle), through its whole life: dumped,
//! proven, damaged, restored in its own place. scripts/cycle does the same with gigabytes.

use super::{Restoring, Shop, beginning, manifest};
use crate::support::docker::{Inside, no_engine};
use crate::support::shop::{self, Server};

const FILL: &str = include_str!("../../data/cycle/fill.sql");
const DAMAGE: &str = include_str!("../../data/cycle/damage.sql");
const PORTRAIT: &str = include_str!("../../data/cycle/portrait.sql");

fn portrait<S: Server>(shop: &shop::Shop<S>, database: &str) -> Vec<String> {
    shop.server.sql(database, PORTRAIT).lines().map(str::to_owned).collect()
}

/// The first few lines that only one of them has.
fn differences(one: &[String], other: &[String]) -> Vec<String> {
    let only = |of: &[String], not_of: &[String], mark: &str| -> Vec<String> {
        of.iter().filter(|line| !not_of.contains(line)).take(5).map(|line| format!("{mark} {line}")).collect()
    };
    [only(one, other, "-"), only(other, one, "+")].concat()
}

/// A server keeps a database that has a subscription.
fn drop_with_subscription<S: Server>(shop: &shop::Shop<S>, database: &str) {
    shop.server.sql(
        database,
        "ALTER SUBSCRIPTION from_elsewhere SET (slot_name = NONE); DROP SUBSCRIPTION from_elsewhere",
    );
    shop.server.sql("postgres", &format!("DROP DATABASE \"{database}\""));
}

fn check_cycle<S: Server>(shop: &shop::Shop<S>, forms: &[&str]) {
    let sizes = "\\set tables 4\n\\set megabytes 1\n\\set row_megabytes 1\n\\set objects 20\n";
    shop.server.sql("shop", &format!("{sizes}{FILL}"));
    let whole = portrait(shop, "shop");
    assert!(whole.len() > 1300, "{}", whole.len());
    for form in forms {
        shop.table_with(form, "");
        let file = shop.dumped();
        shop.host.cli(&["run-now", "db-verify"]);
        let row = shop.host.history("db-verify").remove(0);
        assert_eq!(row["outcome"], "succeeded", "{form}: {row:#}");
        assert!(manifest(&file).proof.is_verified());
        assert_eq!(shop.databases(), ["shop"], "{form}");

        shop.server.sql("shop", DAMAGE);
        let damaged = portrait(shop, "shop");
        assert_ne!(damaged, whole);
        shop.restore_well(&[file.to_str().unwrap(), "--swap"]);
        assert_eq!(differences(&whole, &portrait(shop, "shop")), [""; 0], "{form}");
        let names = shop.databases();
        let before = beginning(&names, "shop_before_");
        assert_eq!(differences(&damaged, &portrait(shop, before)), [""; 0], "{form}");
        assert_eq!(shop.server.sql(before, "SELECT body FROM wreck"), "damaged");
        drop_with_subscription(shop, before);
    }
}

#[test]
fn everything_that_a_database_holds_comes_back_after_a_bad_day() {
    let shop = Shop::new();
    check_cycle(&shop, &["", ", compression: zstd", ", format: custom"]);
}

#[test]
fn everything_that_a_database_in_a_container_holds_comes_back_after_a_bad_day() {
    if no_engine() {
        return;
    }
    check_cycle(&shop::Shop::<Inside>::new(), &["", ", format: custom"]);
}
