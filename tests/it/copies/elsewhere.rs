//! `verify` and `restore` straight from a copy's address.

use std::path::PathBuf;
use std::process::Output;

use age::secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::daemon::text;
use crate::support::job::names;
use crate::support::postgres::{PASSWORD, Postgres, USER};
use crate::support::s3::{self, Network, S3};
use crate::support::shop;

/// A host whose dump and archive, both encrypted, are in a bucket and on a share, and no longer here.
struct Elsewhere {
    shop: shop::Shop<Postgres>,
    s3: S3,
    network: Network,
    dump: String,
    archive: String,
}

impl Elsewhere {
    fn new() -> Self {
        let shop = shop::Shop::<Postgres>::new();
        let s3 = S3::start();
        let network = Network::to(s3.port, u64::MAX);
        let key = age::x25519::Identity::generate();
        std::fs::write(shop.host.path("key"), key.to_string().expose_secret()).unwrap();
        for folder in ["share", "media", "tmp"] {
            std::fs::create_dir(shop.host.path(folder)).unwrap();
        }
        std::fs::write(shop.host.path("media/a"), "content of a").unwrap();
        let noise = (0..32 << 10_u32).flat_map(|number: u32| Sha256::digest(number.to_le_bytes()));
        std::fs::write(shop.host.path("media/noise"), noise.collect::<Vec<u8>>()).unwrap();
        let mut found = Self { shop, s3, network, dump: String::new(), archive: String::new() };
        found.table(found.network.port, &key.to_public().to_string());
        found.dump = found.made("db-backup");
        found.archive = found.made("media");
        for folder in ["dumps", "archives"] {
            std::fs::remove_dir_all(found.shop.host.path(folder)).unwrap();
        }
        found
    }

    fn table(&self, port: u16, recipient: &str) {
        let copy_to = format!("[{}, file://{}]", S3::entry("far", port, ""), self.path("share").display());
        let more = format!("min_free: 0%, encrypt_to: [{recipient}], copy_to: {copy_to}");
        let (dumps, media, archives) = (self.path("dumps"), self.path("media"), self.path("archives"));
        self.shop.host.write_table(
            &format!(
                "postgres: {{ app: {{ host: 127.0.0.1, port: {}, database: shop, user: {USER}, password: {PASSWORD} }} }}",
                self.shop.server.port
            ),
            &format!(
                "  db-backup:\n    pg_dump: {{ connection: app, directory: {}, {more} }}\n  media:\n    archive: {{ sources: \
                 [{}], name: media, directory: {}, {more} }}\n",
                dumps.display(),
                media.display(),
                archives.display()
            ),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shop.host.path(name)
    }

    fn made(&self, job: &str) -> String {
        let run = self.shop.host.cli(&["run-now", job]);
        assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
        let row: Value = self.shop.host.history(job).remove(0);
        row["facts"]["file"].as_str().unwrap().to_owned()
    }

    fn cli(&self, arguments: &[&str]) -> Output {
        let output = self.shop.host.command(arguments).env("TMPDIR", self.path("tmp")).output().unwrap();
        assert_eq!(names(&self.path("tmp")), [""; 0], "scratch files of {arguments:?} are left");
        output
    }

    /// With the key.
    fn well(&self, arguments: &[&str]) -> String {
        let key = self.path("key");
        let output = self.cli(&[arguments, &["--identity", key.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn badly(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}{said}", text(&output.stdout));
        said
    }

    /// In the bucket and on the share.
    fn urls(&self, file: &str) -> [String; 2] {
        [format!("s3://backups/far/{file}"), format!("file://{}/{file}", self.path("share").display())]
    }

    fn databases(&self) -> String {
        self.shop.server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'")
    }
}

#[test]
fn a_copy_is_verified_and_restored_by_its_address_and_nothing_of_it_stays_here() {
    if s3::missing() {
        return;
    }
    let elsewhere = Elsewhere::new();
    for (number, url) in elsewhere.urls(&elsewhere.dump).iter().enumerate() {
        assert!(elsewhere.well(&["verify", url]).contains(": good: "), "{url}");
        let said = elsewhere.badly(&["verify", url]);
        assert!(said.contains("it is encrypted, and no key was given to read it with: --identity"), "{said}");
        let into = format!("shop_{number}");
        let said = elsewhere.well(&["restore", "db", url, "--connection", "app", "--into", &into]);
        assert!(said.contains("restored: 1 table with 10 rows, in "), "{said}");
        assert_eq!(elsewhere.shop.server.sql(&into, "SELECT count(*) FROM sales"), "10");
    }
    for (number, url) in elsewhere.urls(&elsewhere.archive).iter().enumerate() {
        assert!(elsewhere.well(&["verify", url]).contains(": good: "), "{url}");
        let into = elsewhere.path(&format!("restored-{number}"));
        elsewhere.well(&["restore", "files", url, "--into", into.to_str().unwrap()]);
        assert_eq!(std::fs::read(into.join("a")).unwrap(), b"content of a");
        let said = elsewhere.well(&["restore", "files", url, "--into", into.to_str().unwrap(), "--plan"]);
        assert!(said.contains("into     "), "{said}");
    }
    assert!(!elsewhere.path("dumps").exists() && !elsewhere.path("archives").exists());
}

#[test]
fn a_copy_that_is_not_there_or_damaged_or_nowhere_known_is_told_and_leaves_nothing() {
    if s3::missing() {
        return;
    }
    let elsewhere = Elsewhere::new();
    for url in elsewhere.urls("shop-20200101T000000Z.sql.gz.age") {
        for arguments in [
            vec!["verify"],
            vec!["restore", "db", "--connection", "app"],
            vec!["restore", "files", "--into", "/x"],
        ] {
            let said = elsewhere.badly(&[arguments, vec![&url]].concat());
            assert!(said.contains(&format!("{url} is not there")), "{said}");
        }
    }
    let said = elsewhere.badly(&["verify", "s3://others/far/a.sql.gz"]);
    assert!(
        said.contains("s3://others/far/a.sql.gz is at no place that a job of this file copies to ("),
        "{said}"
    );

    let path = elsewhere.path("share").join(&elsewhere.dump);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let [_, url] = elsewhere.urls(&elsewhere.dump);
    let key = elsewhere.path("key");
    let key = ["--identity", key.to_str().unwrap()];
    let said = elsewhere.badly(&[&["verify", &url][..], &key].concat());
    assert!(said.contains("is damaged:"), "{said}");
    let said = elsewhere.badly(&[&["restore", "db", &url, "--connection", "app"][..], &key].concat());
    assert!(said.contains("breaks after 0 bytes of its content: decryption error"), "{said}");
    assert_eq!(elsewhere.databases(), "1");
}

#[test]
fn a_store_that_refuses_or_is_cut_off_is_told_and_leaves_nothing() {
    if s3::missing() {
        return;
    }
    let elsewhere = Elsewhere::new();
    let [url, _] = elsewhere.urls(&elsewhere.dump);
    elsewhere.network.cut();
    let said = elsewhere.badly(&["verify", &url]);
    assert!(said.contains("s3://backups/far can't be reached: "), "{said}");
    elsewhere.network.mend();
    elsewhere.network.answers_with(256 << 10);
    let [archive, _] = elsewhere.urls(&elsewhere.archive);
    let into = elsewhere.path("into");
    let said = elsewhere.badly(&["restore", "files", &archive, "--into", into.to_str().unwrap()]);
    assert!(said.contains(&format!("{archive} can't be reached: ")), "{said}");

    let nobody = S3::that_knows_nobody();
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    elsewhere.table(nobody.port, &recipient);
    for arguments in [
        vec!["verify", &url],
        vec!["restore", "db", &url, "--connection", "app"],
        vec!["restore", "files", &url, "--into", into.to_str().unwrap()],
    ] {
        let said = elsewhere.badly(&arguments);
        assert!(said.contains("the store refuses: InvalidAccessKeyId"), "{said}");
        assert!(!said.contains(s3::SECRET_KEY) && !said.contains(s3::ACCESS_KEY), "{said}");
    }
    assert!(!into.exists());
    assert_eq!(elsewhere.databases(), "1");
    assert!(!elsewhere.s3.keys().is_empty());
}
