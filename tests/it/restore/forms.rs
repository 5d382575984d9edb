//! Every form of a dump comes back as it was: the product's own, and others' without a manifest.

use std::io::Write;

use age::secrecy::ExposeSecret;
use punk_eco_sched::backup::crypt::Recipients;

use super::{Restoring, Shop, beginning};

#[test]
fn every_form_of_a_dump_restores_to_the_same_database() {
    let shop = Shop::new();
    shop.fill();
    let original = shop.server.dump("shop");
    for (into, options) in [
        ("gzip", ""),
        ("zstd", ", compression: zstd"),
        ("none", ", compression: none"),
        ("custom", ", format: custom, level: 1"),
    ] {
        shop.table("", options, "");
        let file = shop.dumped();
        let said = shop.restore_well(&[file.to_str().unwrap(), "--into", into]);
        assert!(shop.server.dump(into) == original, "{into}: the restored database differs");
        for part in [
            "backup     ",
            "proof: written, ",
            "holds      database shop of 127.0.0.1, PostgreSQL ",
            ": 12 tables with 3072 rows",
            &format!("into       new database {into}, which will belong to postgres"),
            "swap       no: shop stays as it is",
            &format!("restored: 12 tables with 3072 rows, in {into}, after "),
            &format!("ALTER DATABASE \"{into}\" RENAME TO \"shop\";"),
        ] {
            assert!(said.contains(part), "{into}: {part}: {said}");
        }
        assert!(!said.contains("warning"), "{said}");
        // The statistics are those of what is in it.
        let analyzed = "SELECT reltuples FROM pg_class WHERE relname = 'million'";
        assert_eq!(shop.server.sql(into, analyzed), "2000");
        assert_eq!(shop.server.sql(into, "SELECT nextval('\"N°\"')"), "7007");
        assert_eq!(shop.server.sql(into, "SELECT length(lo_get(4242))"), "210000");
    }
    assert_eq!(shop.databases(), ["custom", "gzip", "none", "shop", "zstd"]);
    assert_eq!(shop.server.dump("shop"), original);
}

#[test]
fn a_file_without_a_manifest_is_restored_with_a_warning_and_its_counts() {
    let shop = Shop::new();
    shop.fill();
    let original = shop.server.dump("shop");
    let plain =
        super::super::support::postgres::done(shop.server.program("pg_dump", "shop").output().unwrap());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let custom = shop.server.program("pg_dump", "shop").arg("--format=custom").output().unwrap();
    let key = age::x25519::Identity::generate();
    let recipients = Recipients::parse(&[key.to_public().to_string()]).unwrap();
    let mut encrypted = recipients.encrypt(Vec::new()).unwrap();
    encrypted.write_all(&plain).unwrap();
    let key_file = shop.host.path("key");
    std::fs::write(&key_file, key.to_string().expose_secret()).unwrap();

    let files = [
        ("theirs.sql", plain.clone()),
        ("theirs.sql.gz", gzip.finish().unwrap()),
        ("theirs.sql.zst", zstd::encode_all(&plain[..], 1).unwrap()),
        ("theirs.dump", super::super::support::postgres::done(custom)),
        ("theirs.sql.age", encrypted.finish().unwrap()),
    ];
    for (name, content) in files {
        let file = shop.host.path(name);
        std::fs::write(&file, content).unwrap();
        let into = name.replace('.', "_");
        let mut arguments = vec![file.to_str().unwrap(), "--into", &into];
        if name.ends_with(".age") {
            let said = shop.restore_badly(1, &arguments);
            assert!(said.contains("is encrypted, and no key was given to read it with"), "{said}");
            arguments.extend(["--identity", key_file.to_str().unwrap()]);
        }
        let said = shop.restore_well(&arguments);
        let warning = format!("there is no manifest beside {name}: nothing says what it should hold");
        assert!(said.contains(&warning), "{said}");
        assert!(said.contains(&format!("restored: 12 tables with 3072 rows, in {into}, ")), "{said}");
        assert!(shop.server.dump(&into) == original, "{name}: the restored database differs");
    }
}

#[test]
fn the_plan_does_nothing() {
    let shop = Shop::new();
    let file = shop.dumped();
    let before = (shop.names(), std::fs::read(&file).unwrap());
    let said = shop.restore_well(&[file.to_str().unwrap(), "--swap", "--plan"]);
    assert!(said.contains("swap       shop becomes shop_before_"), "{said}");
    assert!(said.contains("; 0 sessions in shop now will be ended"), "{said}");
    assert_eq!(shop.databases(), ["shop"]);
    assert_eq!((shop.names(), std::fs::read(&file).unwrap()), before);
    assert_eq!(super::manifest(&file).proof.state.word(), "written");
}

#[test]
fn without_a_name_the_new_database_says_what_it_is_and_when() {
    let shop = Shop::new();
    let file = shop.dumped();
    shop.restore_well(&[file.to_str().unwrap()]);
    shop.restore_well(&[file.to_str().unwrap()]);
    let names = shop.databases();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names[1].starts_with("shop_restored_20") && names[2].starts_with("shop_restored_20"),
        "{names:?}"
    );
    shop.server.sql("postgres", &format!("DROP DATABASE {}", names[1]));
    let left = shop.databases();
    assert_eq!(shop.server.sql(beginning(&left, "shop_restored_"), "SELECT sum(id) FROM sales"), "55");
}
