//! A dump of a database that lost most of its rows: published, and told as what someone should look at.

use super::Shop;

#[test]
fn a_dump_that_fell_sharply_is_suspect_and_a_first_one_is_not() {
    let shop = Shop::new();
    shop.server
        .sql("shop", "CREATE TABLE orders AS SELECT n AS id, md5(n::text) FROM generate_series(1, 5000) n");
    let daemon = shop.host.daemon();
    for _ in 0..2 {
        let row = shop.run();
        assert_eq!((&row["outcome"], &row["findings"]), (&"succeeded".into(), &serde_json::json!([])));
    }
    shop.server.sql("shop", "DELETE FROM orders WHERE id > 10");
    let row = shop.run();
    assert_eq!(row["outcome"], "succeeded");
    let file = row["facts"]["file"].as_str().unwrap();
    let findings: Vec<&str> =
        row["findings"].as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert!(findings[0].starts_with(&format!("{file} is suspect: its size fell to ")), "{findings:#?}");
    assert_eq!(
        findings[1..],
        [
            format!("{file} is suspect: its rows fell to 20, from 5010 in the middle of the last 2 dumps"),
            format!(
                "{file} is suspect: table public.orders fell to 10 rows, from 5000 rows in the middle of the last 2 dumps"
            ),
        ]
    );
    let manifest = shop.directory().join(row["facts"]["manifest"].as_str().unwrap());
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["proof"]["suspect"].as_array().unwrap().len(), 3);
    assert_eq!(manifest["proof"]["state"], "written");
    assert!(daemon.stop().success());
}
