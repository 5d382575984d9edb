//! `pg_dump` against a real PostgreSQL: what is dumped restores to the same, and what fails leaves nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use punk_eco_sched::backup::manifest::{Manifest, State};
use punk_eco_sched::clock::ManualClock;
use punk_eco_sched::host::postgres::{Connection, Tls};
use punk_eco_sched::host::secret::SecretText;
use punk_eco_sched::jobs::pg_dump::PgDump;
use punk_eco_sched::jobs::{Job, JobError};
use sha2::{Digest, Sha256};

use crate::support::job::{Bench, SmallDisk, names};
use crate::support::postgres::{Postgres, feed};

pub(crate) const SHOP: &str = r#"
CREATE SCHEMA "Boutique ""é""";
CREATE TABLE "Boutique ""é"""."Commandes; FROM stdin" (id int PRIMARY KEY, "prix (€)" numeric, "no\te" text);
INSERT INTO "Boutique ""é"""."Commandes; FROM stdin" VALUES (1, 9.99, E'\\.'), (2, NULL, E'a\nb\t\\.\n'), (3, 0, 'COPY public.x (a) FROM stdin;');
CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO events SELECT '2025-06-01'::date + n, 'e' || n FROM generate_series(1, 400) n;
CREATE TABLE boxes (w int, h int, area int GENERATED ALWAYS AS (w * h) STORED, id int GENERATED ALWAYS AS IDENTITY);
INSERT INTO boxes (w, h) SELECT n, 2 FROM generate_series(1, 50) n;
CREATE TABLE texts (body text, raw bytea);
INSERT INTO texts SELECT repeat('é' || n || E'\n', 200000), decode(repeat('00ff', 100000), 'hex') FROM generate_series(1, 3) n;
CREATE TABLE nothing (id int);
CREATE TABLE columnless ();
INSERT INTO columnless SELECT FROM generate_series(1, 5);
CREATE TABLE million AS SELECT n AS id, md5(n::text) AS hash FROM generate_series(1, 1000000) n;
CREATE FUNCTION tricky() RETURNS text LANGUAGE plpgsql AS $_$
BEGIN
  RETURN $$
COPY public.ghost (a) FROM stdin;
1
\.
$$ || 'it''s';
END $_$;
COMMENT ON TABLE nothing IS E'COPY public.ghost (a) FROM stdin;\n1\n\\.\n';
CREATE VIEW v AS SELECT * FROM million WHERE id < 10;
SELECT lo_from_bytea(4242, decode(repeat('5c2e0a', 70000), 'hex'));
"#;

async fn bench(postgres: &Postgres, database: &str) -> Bench {
    let mut bench = Bench::new().await;
    bench.connections.insert("app".into(), postgres.connection(database));
    bench
}

pub(crate) fn options(directory: &Path, more: &str) -> PgDump {
    let directory = directory.to_str().unwrap();
    let min_free = if more.contains("min_free") { "" } else { r#", "min_free": "0%""# };
    serde_json::from_str(&format!(r#"{{"connection": "app", "directory": "{directory}"{min_free}{more}}}"#))
        .unwrap()
}

pub(crate) fn manifest(directory: &Path) -> Manifest {
    let name = names(directory).into_iter().find(|name| name.ends_with(".manifest.json")).unwrap();
    Manifest::parse(&std::fs::read(directory.join(name)).unwrap()).unwrap()
}

/// The ways to write a dump, as options beside those that every dump has.
pub(crate) const FORMATS: [&str; 4] =
    ["", r#", "compression": "zstd""#, r#", "compression": "none""#, r#", "format": "custom", "level": 1"#];

pub(crate) fn permanent(error: &JobError) -> bool {
    matches!(error, JobError::Permanent(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_restores_to_the_same_database_and_counts_its_rows() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql("shop", SHOP);
    let mut original = postgres.dump("shop");
    let bench = bench(&postgres, "shop").await;
    for (number, more) in FORMATS.into_iter().enumerate() {
        let directory = bench.path(&format!("dumps/{number}"));
        let report = bench.run(&options(&directory, more)).await.unwrap();
        let manifest = manifest(&directory);
        check_manifest(&postgres, &directory, &manifest);
        assert_eq!(report.facts["rows"], manifest.rows);
        assert_eq!(report.facts["tables"], 8);
        assert_eq!(names(&directory).len(), 3, "{:?}", names(&directory));

        let restored = format!("restored_{number}");
        postgres.sql("postgres", &format!("CREATE DATABASE {restored}"));
        restore(&postgres, &directory.join(&manifest.file), &restored);
        assert!(postgres.dump(&restored) == original, "{more}: the restored database differs");
        if number == 0 {
            // A million rows need to pass once.
            postgres.sql("shop", "DELETE FROM million WHERE id > 1000");
            original = postgres.dump("shop");
        }
    }
}

fn check_manifest(postgres: &Postgres, directory: &Path, manifest: &Manifest) {
    let counted: BTreeMap<(String, String), u64> = manifest
        .tables
        .iter()
        .map(|table| ((table.schema.clone(), table.name.clone()), table.rows))
        .collect();
    let mut expected = BTreeMap::new();
    let tables = postgres.sql(
        "shop",
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename), schemaname, tablename FROM pg_tables \
         JOIN pg_class ON oid = format('%I.%I', schemaname, tablename)::regclass \
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND relkind = 'r'",
    );
    for line in tables.lines() {
        let columns: Vec<&str> = line.split('|').collect();
        let rows = postgres.sql("shop", &format!("SELECT count(*) FROM {}", columns[0]));
        expected.insert((columns[1].to_owned(), columns[2].to_owned()), rows.parse::<u64>().unwrap());
    }
    assert_eq!(counted, expected);
    assert_eq!(expected[&("Boutique \"é\"".to_owned(), "Commandes; FROM stdin".to_owned())], 3);
    assert_eq!(manifest.rows, expected.values().sum::<u64>());
    let roles = manifest.roles.as_ref().unwrap();
    for (file, bytes, sha256) in
        [(&manifest.file, manifest.bytes, &manifest.sha256), (&roles.file, roles.bytes, &roles.sha256)]
    {
        let content = std::fs::read(directory.join(file)).unwrap();
        assert_eq!(content.len() as u64, bytes);
        let hash: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hash, sha256);
    }
    assert_eq!((manifest.database.as_str(), manifest.run, manifest.job.as_str()), ("shop", 7, "db-backup"));
    assert_eq!(manifest.proof.state, State::Written);
}

fn restore(postgres: &Postgres, file: &Path, database: &str) {
    let content = std::fs::read(file).unwrap();
    if file.extension().unwrap() == "dump" {
        let mut restore = postgres.program("pg_restore", database);
        restore.args(["--exit-on-error", "--dbname", database]);
        feed(restore, &content);
        return;
    }
    let text = match file.extension().unwrap().to_str().unwrap() {
        "gz" => gunzip(&content),
        "zst" => zstd::decode_all(&content[..]).unwrap(),
        _ => content,
    };
    let mut psql = postgres.program("psql", database);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    feed(psql, &text);
}

pub(crate) fn gunzip(content: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(content).read_to_end(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_an_odd_name_is_dumped_under_a_safe_one_and_twice_within_a_second() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE \"../we=ird 'é\"");
    postgres.sql("../we=ird 'é", "CREATE TABLE t AS SELECT 1 AS a");
    let mut bench = bench(&postgres, "../we=ird 'é").await;
    bench.connections.get_mut("app").unwrap().host = postgres.socket_directory().to_str().unwrap().into();
    bench.clock = Arc::new(ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap()));
    let directory = bench.path("dumps");
    let report = bench.run(&options(&directory, "")).await.unwrap();
    assert!(
        report.summary.ends_with(" in 1 table to _._we=ird__é-20261122T230000Z.sql.gz"),
        "{}",
        report.summary
    );
    assert_eq!(manifest(&directory).database_in_file_names.as_deref(), Some("_._we=ird__é"));
    bench.run(&options(&directory, r#", "roles": false"#)).await.unwrap();
    assert_eq!(
        names(&directory),
        [
            "_._we=ird__é-20261122T230000Z-2.manifest.json",
            "_._we=ird__é-20261122T230000Z-2.sql.gz",
            "_._we=ird__é-20261122T230000Z.manifest.json",
            "_._we=ird__é-20261122T230000Z.roles.sql.gz",
            "_._we=ird__é-20261122T230000Z.sql.gz",
        ]
    );
    let mode = |path: &Path| std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o7777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("_._we=ird__é-20261122T230000Z.sql.gz")), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_dumped_with_passwords_only_by_a_superuser() {
    let postgres = Postgres::start_with("scram-sha-256");
    postgres.sql("postgres", "CREATE ROLE shop LOGIN PASSWORD 'shop'; CREATE DATABASE shop OWNER shop");
    let mut bench = bench(&postgres, "shop").await;
    for (user, password, passwords) in [("postgres", None, true), ("shop", Some("shop"), false)] {
        let connection = bench.connections.get_mut("app").unwrap();
        connection.user = user.into();
        if let Some(password) = password {
            connection.password = Some(SecretText::parse(password).unwrap());
        }
        let directory = bench.path(user);
        bench.run(&options(&directory, "")).await.unwrap();
        let roles = manifest(&directory).roles.unwrap();
        assert_eq!(roles.passwords, passwords);
        let text = String::from_utf8(gunzip(&std::fs::read(directory.join(&roles.file)).unwrap())).unwrap();
        assert!(text.contains("CREATE ROLE shop;"), "{text}");
        assert_eq!(text.contains("SCRAM-SHA-256$"), passwords);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_told_apart_from_one_that_is_away() {
    let postgres = Postgres::start_with("scram-sha-256");
    let mut bench = Bench::new().await;
    let directory = bench.path("dumps");
    let port = postgres.port;
    let mut check = async |change: &dyn Fn(&mut Connection), lasting: bool, expected: &str| {
        let mut connection = postgres.connection("postgres");
        change(&mut connection);
        bench.connections.insert("app".into(), connection);
        let error = bench.run(&options(&directory, "")).await.unwrap_err();
        assert_eq!(error.to_string().replace(&port.to_string(), "PORT"), expected);
        assert_eq!(permanent(&error), lasting, "{expected}");
    };
    let wrong = |connection: &mut Connection| connection.password = Some(SecretText::parse("wrong").unwrap());
    check(
        &wrong,
        true,
        "PostgreSQL at 127.0.0.1:PORT refuses database postgres for user postgres: password authentication failed \
         for user \"postgres\" (28P01)",
    )
    .await;
    check(
        &|connection| connection.password = None,
        true,
        "PostgreSQL at 127.0.0.1:PORT asks user postgres for a password, and the connection has none: add password:",
    )
    .await;
    check(
        &|connection| connection.database = "shpo".into(),
        true,
        "PostgreSQL at 127.0.0.1:PORT refuses database shpo for user postgres: database \"shpo\" does not exist \
         (3D000)",
    )
    .await;
    check(
        &|connection| connection.tls = Tls::Require,
        false,
        "PostgreSQL at 127.0.0.1:PORT can't be reached: error performing TLS handshake: server does not support TLS",
    )
    .await;
    check(
        &|connection| connection.host = "${file:/nowhere/host}".into(),
        true,
        "connection app: host: ${file:/nowhere/host}: /nowhere/host can't be read: No such file or directory (os error 2)",
    )
    .await;
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_be_written_in_a_file_of_its_own() {
    let postgres = Postgres::start();
    let mut bench = bench(&postgres, "postgres").await;
    let (directory, file) = (bench.path("dumps"), bench.path("host"));
    std::fs::write(&file, "127.0.0.1\n").unwrap();
    let host = format!("${{file:{}}}", file.display());
    bench.connections.insert("app".into(), Connection { host, ..postgres.connection("postgres") });
    let options = options(&directory, "");
    assert!(options.preflight(&bench.host()).await.is_empty());
    bench.run(&options).await.unwrap();
    // What connected, and not what was written.
    assert_eq!(manifest(&directory).server.host, "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_fails_stalls_or_is_cancelled_leaves_nothing() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    let mut locker = postgres.program("psql", "postgres");
    let mut locker = locker.arg("-X").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut lock = locker.stdin.take().unwrap();
    std::io::Write::write_all(&mut lock, b"BEGIN; LOCK TABLE t;\n").unwrap();
    let locked =
        || postgres.sql("postgres", "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'");
    while locked() == "0" {
        tokio::task::yield_now().await;
    }
    let bench = bench(&postgres, "postgres").await;
    let directory = bench.path("dumps");
    let port = postgres.port;

    let error = bench.run(&options(&directory, r#", "lock_wait": "100ms""#)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("pg_dump of postgres at 127.0.0.1:{port} ended with code 1: pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout; pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE")),
        "{text}"
    );
    assert!(!permanent(&error));
    assert_eq!(names(&directory), [""; 0]);

    let error = bench.run(&options(&directory, r#", "stall": "300ms""#)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "pg_dump of postgres at 127.0.0.1:{port} was ended: no byte came for 300ms, which is the limit (stall:); \
             does it wait for a lock?"
        )
    );
    assert_eq!(names(&directory), [""; 0]);

    let cancel = bench.cancel.clone();
    let waiting = || postgres.sql("postgres", "SELECT count(*) FROM pg_locks WHERE NOT granted");
    let cancelling = async {
        while waiting() == "0" {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let dump = options(&directory, "");
    let (error, ()) = tokio::join!(bench.run(&dump), cancelling);
    assert_eq!(error.unwrap_err().to_string(), "pg_dump of postgres: stopped");
    assert_eq!(names(&directory), [""; 0]);
    drop(lock);
    locker.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_preflight_say_and_do_nothing() {
    let postgres = Postgres::start();
    let mut bench = bench(&postgres, "postgres").await;
    bench.dry_run = true;
    bench.clock = Arc::new(ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap()));
    let directory = bench.path("a/dumps");
    let dump = options(&directory, "");
    let summary = bench.run(&dump).await.unwrap().summary;
    assert!(summary.starts_with("would dump postgres ("), "{summary}");
    assert!(summary.contains("dumps/postgres-20261122T230000Z.sql.gz and the roles to "), "{summary}");
    assert_eq!(dump.preflight(&bench.host()).await, []);
    assert!(!bench.path("a").exists());

    let error = bench.run(&options(&directory, r#", "min_free": "100%""#)).await.unwrap_err();
    assert!(permanent(&error));
    let text = error.to_string();
    assert!(text.starts_with("not started: the file system of "), "{text}");
    assert!(text.ends_with("; min_free is 100%: make room, or lower min_free"), "{text}");

    std::fs::write(bench.path("file"), "").unwrap();
    let lacks = options(&bench.path("file/below"), "").preflight(&bench.host()).await;
    assert_eq!(lacks.len(), 1);
    bench.connections.clear();
    let lacks = dump.preflight(&bench.host()).await;
    assert_eq!(lacks[0].message, "connection app is not among those under postgres: (there are none)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_named_with_what_was_needed_and_keeps_no_partial_file() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE TABLE t AS SELECT md5(n::text) FROM generate_series(1, 100000) n");
    let bench = bench(&postgres, "postgres").await;
    let directory = bench.path("disk");
    let Some(_disk) = SmallDisk::mount(&directory, "1m") else { return };
    let error = bench.run(&options(&directory, r#", "compression": "none""#)).await.unwrap_err();
    let text = error.to_string();
    let begin = format!("no space is left in {}: the dump stopped after ", directory.display());
    assert!(text.starts_with(&begin), "{text}");
    assert!(text.contains(" bytes free; the database has "), "{text}");
    assert_eq!(names(&directory), [""; 0]);
}
