//! Dumps that only the holder of a key can read.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret;
use punk_eco_sched::backup::crypt::Identities;
use punk_eco_sched::backup::read::{Progress, ReadError, Reading};
use tokio_util::sync::CancellationToken;

use crate::pg_dump::{manifest, options};
use crate::support::daemon::{Host, text};
use crate::support::job::{Bench, names};
use crate::support::postgres::{Postgres, bin};

const MARK: &str = "a-row-that-nobody-else-may-read";

fn holds(file: &[u8], text: &str) -> bool {
    file.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_the_disk_is_encrypted_and_the_key_opens_all_of_it() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql(
        "shop",
        &format!("CREATE TABLE t AS SELECT n, '{MARK}' AS body FROM generate_series(1, 200000) n"),
    );
    postgres.sql("shop", "CREATE TABLE empty (id int); CREATE ROLE somebody PASSWORD 'hunter2'");
    let key = age::x25519::Identity::generate();
    let identities = Identities::parse(key.to_string().expose_secret()).unwrap();
    let recipient = key.to_public().to_string();
    let mut bench = Bench::new().await;
    bench.connections.insert("app".into(), postgres.connection("shop"));
    for (number, (more, suffix)) in [
        ("", ".sql.gz.age"),
        (r#", "compression": "none""#, ".sql.age"),
        (r#", "compression": "zstd""#, ".sql.zst.age"),
        (r#", "format": "custom""#, ".dump.age"),
        (r#", "format": "custom", "compression": "none""#, ".dump.age"),
    ]
    .into_iter()
    .enumerate()
    {
        let directory = bench.path(&format!("dumps/{number}"));
        let more = format!(r#"{more}, "encrypt_to": ["{recipient}"]"#);
        bench.run(&options(&directory, &more)).await.unwrap();
        let manifest = manifest(&directory);
        assert!(manifest.file.ends_with(suffix), "{}", manifest.file);
        assert_eq!(manifest.encrypted_to, std::slice::from_ref(&recipient));
        assert_eq!(manifest.rows, 200_000);
        assert!(manifest.tables.iter().any(|table| table.name == "t" && table.rows == 200_000));
        assert!(manifest.roles.as_ref().unwrap().file.ends_with(".roles.sql.gz.age"));
        assert_eq!(names(&directory).len(), 3);
        for name in names(&directory).iter().filter(|name| name.ends_with(".age")) {
            let content = std::fs::read(directory.join(name)).unwrap();
            assert!(content.starts_with(b"age-encryption.org/v1"), "{name}");
            assert!(
                !holds(&content, MARK) && !holds(&content, "PGDMP") && !holds(&content, "somebody"),
                "{name}"
            );
        }

        let path = directory.join(&manifest.file);
        let open = |keys| Reading::open(File::open(&path).unwrap(), keys, Progress::default());
        assert!(matches!(open(None), Err(ReadError::NoKey)));
        let mut plain = Vec::new();
        let examined = open(Some(&identities))
            .unwrap()
            .examine(&CancellationToken::new(), |piece| plain.write_all(piece));
        let examined = examined.unwrap();
        assert_eq!((&examined.sha256, examined.bytes), (&manifest.sha256, manifest.bytes));
        if number < 3 {
            assert_eq!(examined.counted.tables, manifest.tables);
            assert_eq!(examined.uncompressed_bytes, manifest.uncompressed_bytes);
            assert!(holds(&plain, MARK));
        } else {
            assert!(plain.starts_with(b"PGDMP"));
            #[expect(clippy::disallowed_methods, reason = "what reads the dump elsewhere")]
            let mut restore = Command::new(bin().join("pg_restore"));
            restore.args(["--list"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut restore = restore.spawn().unwrap();
            // It reads no more than it needs.
            let _ = restore.stdin.take().unwrap().write_all(&plain);
            let said = restore.wait_with_output().unwrap();
            assert!(text(&said.stdout).contains("TABLE DATA public t "), "{}", text(&said.stdout));
        }
        let roles = directory.join(&manifest.roles.unwrap().file);
        let reading =
            Reading::open(File::open(roles).unwrap(), Some(&identities), Progress::default()).unwrap();
        let mut roles = String::new();
        reading.into_content().read_to_string(&mut roles).unwrap();
        assert!(roles.contains("CREATE ROLE somebody"), "{roles}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_that_pg_restore_can_t_read_is_no_backup() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql("shop", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 200000) n");
    let mut bench = Bench::new().await;
    let mut connection = postgres.connection("shop");
    // The server refuses the dump in its middle: the rows of this view's table can't be read.
    postgres.sql("shop", "CREATE ROLE poor LOGIN; GRANT SELECT ON t TO poor; CREATE TABLE z AS SELECT 1");
    connection.user = "poor".into();
    bench.connections.insert("app".into(), connection);
    let key = age::x25519::Identity::generate().to_public().to_string();
    let directory = bench.path("dumps");
    let more = format!(r#", "roles": false, "format": "custom", "encrypt_to": ["{key}"]"#);
    let error = bench.run(&options(&directory, &more)).await.unwrap_err().to_string();
    assert!(error.contains("permission denied for table z"), "{error}");
    assert_eq!(names(&directory), [""; 0]);
}

#[test]
fn a_secret_key_in_the_place_of_a_recipient_is_refused_and_shown_nowhere() {
    let key = age::x25519::Identity::generate();
    let key = key.to_string().expose_secret().to_owned();
    let host = Host::new("");
    for list in [format!("[{key}]"), format!("\n        - {key}\n      ")] {
        host.write_table(
            "postgres: { app: { database: shop, user: me } }",
            &format!("  db-backup:\n    pg_dump:\n      connection: app\n      directory: /var/backups/shop\n      encrypt_to: {list}\n"),
        );
        let checked = host.cli(&["check", "--no-host"]);
        let said = format!("{}{}", text(&checked.stdout), text(&checked.stderr));
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains("is a secret key: it must not stand here"), "{said}");
        assert!(!said.contains(&key) && !said.contains(&key[20..40]), "{said}");
    }
}
