//! The options of the kind, from jobs.yaml to the files.

use std::os::unix::fs::MetadataExt;

use super::Shop;

#[test]
fn every_format_and_compression_of_the_file_is_what_comes_out() {
    let shop = Shop::new();
    let daemon = shop.host.daemon();
    let check = |options: &str, suffix: &str, begin: &[u8], files: usize| {
        shop.table("", options, "");
        assert!(shop.host.cli(&["reload"]).status.success());
        let row = shop.run();
        assert_eq!(row["outcome"], "succeeded", "{row:#}");
        let manifest = shop.manifest();
        assert!(manifest.file.ends_with(suffix), "{options}: {}", manifest.file);
        let content = std::fs::read(shop.directory().join(&manifest.file)).unwrap();
        assert!(content.starts_with(begin), "{options}");
        assert_eq!(manifest.bytes, content.len() as u64);
        assert_eq!((manifest.rows, manifest.tables.len()), (10, 1));
        assert_eq!((&row["facts"]["rows"], &row["facts"]["bytes"]), (&10.into(), &manifest.bytes.into()));
        assert_eq!(shop.names().len(), files, "{:?}", shop.names());
        std::fs::remove_dir_all(shop.directory()).unwrap();
    };
    const GZIP: &[u8] = &[0x1f, 0x8b, 8];
    check("", "Z.sql.gz", GZIP, 3);
    check(", roles: false, level: 1", "Z.sql.gz", GZIP, 2);
    check(", compression: zstd, level: 19", "Z.sql.zst", &[0x28, 0xb5, 0x2f, 0xfd], 3);
    check(", compression: none", "Z.sql", b"--\n-- PostgreSQL database dump\n", 3);
    check(", format: custom", "Z.dump", b"PGDMP", 3);
    check(", format: custom, compression: none", "Z.dump", b"PGDMP", 3);
    assert!(daemon.stop().success());
}

#[test]
fn files_get_their_owner_and_mode_and_too_little_space_is_no_start() {
    let shop = Shop::new();
    let daemon = shop.host.daemon();
    let root = rustix::process::geteuid().is_root();
    let account = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let owner = if root { ", owner: nobody" } else { "" };
    shop.table("", &format!(", mode: \"0640\"{owner}"), "");
    assert!(shop.host.cli(&["reload"]).status.success());
    assert_eq!(shop.run()["outcome"], "succeeded");
    for name in shop.names() {
        let data = std::fs::metadata(shop.directory().join(&name)).unwrap();
        assert_eq!(data.mode() & 0o7777, 0o640, "{name}");
        if root {
            assert_eq!((data.uid(), data.gid()), (account.uid.as_raw(), account.gid.as_raw()), "{name}");
        }
    }
    let before = shop.names();
    shop.table("", ", min_free: 100%", "");
    assert!(shop.host.cli(&["reload"]).status.success());
    let error = shop.error();
    let begin = format!("not started: the file system of {} has ", shop.directory().display());
    assert!(error.starts_with(&begin), "{error}");
    assert!(error.ends_with("; min_free is 100%: make room, or lower min_free"), "{error}");
    assert_eq!(shop.names(), before);
    assert!(daemon.stop().success());
}
