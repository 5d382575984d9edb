//! What is dumped inside a container restores to the same, counted and summed as on the host.

use std::collections::BTreeMap;
use std::path::Path;

use punk_eco_sched::host::postgres::Connection;
use punk_eco_sched::jobs::Job;

use crate::pg_dump::{FORMATS, SHOP, gunzip, manifest, options};
use crate::support::docker::{Inside, no_engine, processes_in};
use crate::support::job::{Bench, names};
use crate::support::postgres::{Postgres, feed};

async fn bench(connection: Connection) -> Bench {
    let mut bench = Bench::new().await;
    bench.connections.insert("app".into(), connection);
    bench
}

fn without_tokens(text: &str) -> String {
    let token = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
    text.lines().filter(token).collect::<Vec<_>>().join("\n")
}

fn dump_of(inside: &Inside, database: &str) -> String {
    without_tokens(&feed(inside.program("pg_dump", database), b""))
}

/// Into another server: what a dump is for.
fn restore(postgres: &Postgres, file: &Path, database: &str) {
    let content = std::fs::read(file).unwrap();
    let text = match file.extension().unwrap().to_str().unwrap() {
        "dump" => {
            let mut restore = postgres.program("pg_restore", database);
            restore.args(["--exit-on-error", "--dbname", database]);
            feed(restore, &content);
            return;
        }
        "gz" => gunzip(&content),
        "zst" => zstd::decode_all(&content[..]).unwrap(),
        _ => content,
    };
    let mut psql = postgres.program("psql", database);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    feed(psql, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_restores_to_the_same_database_from_a_server_without_a_network() {
    if no_engine() {
        return;
    }
    let inside = Inside::start();
    let other = Postgres::start();
    inside.sql("postgres", "CREATE DATABASE shop");
    // A tenth of the million: that it streams is seen without it.
    inside.sql("shop", &SHOP.replace("generate_series(1, 1000000)", "generate_series(1, 100000)"));
    let original = dump_of(&inside, "shop");
    let bench = bench(inside.connection("shop")).await;
    for (number, more) in FORMATS.into_iter().enumerate() {
        let directory = bench.path(&format!("dumps/{number}"));
        let report = bench.run(&options(&directory, more)).await.unwrap();
        let manifest = manifest(&directory);
        assert_eq!(report.facts["tables"], 8);
        assert_eq!(report.facts["rows"], 3 + 400 + 50 + 3 + 5 + 100_000);
        let rows: BTreeMap<&str, u64> =
            manifest.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
        assert_eq!((rows["Commandes; FROM stdin"], rows["nothing"], rows["million"]), (3, 0, 100_000));
        assert_eq!(manifest.server.host, format!("container {}", inside.container.name));
        assert_eq!(manifest.server.version, inside.sql("shop", "SHOW server_version"));
        let roles = manifest.roles.as_ref().unwrap();
        let roles = gunzip(&std::fs::read(directory.join(&roles.file)).unwrap());
        assert!(String::from_utf8(roles).unwrap().contains("CREATE ROLE postgres;"));
        assert_eq!(names(&directory).len(), 3, "{:?}", names(&directory));

        let restored = format!("restored_{number}");
        other.sql("postgres", &format!("CREATE DATABASE {restored}"));
        restore(&other, &directory.join(&manifest.file), &restored);
        assert!(other.dump(&restored) == original, "{more}: the restored database differs");
    }
    assert_eq!(processes_in(&inside.container.name, "pg_dump"), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_at_its_container_s_address_and_pg_dump_goes_where_it_is_told_inside() {
    if no_engine() {
        return;
    }
    let inside = Inside::start_with_address();
    if inside.container.address().is_empty() {
        crate::support::missing::skipped("containers have no network here");
        return;
    }
    let mut connection = inside.connection("postgres");
    connection.host = "127.0.0.1".into();
    let bench = bench(connection.clone()).await;
    let directory = bench.path("dumps");
    bench.run(&options(&directory, "")).await.unwrap();
    let said = manifest(&directory).server.host;
    assert_eq!(said, format!("127.0.0.1 in container {}", inside.container.name));
    assert_eq!(options(&directory, "").preflight(&bench.host()).await, []);
    let logged = std::fs::read_to_string(inside.container.data().join("log")).unwrap();
    assert!(
        logged.contains(
            "connection authorized: user=postgres database=postgres application_name=punk-eco-sched"
        ),
        "{logged}"
    );
    let hosts: Vec<&str> = logged
        .lines()
        .filter_map(|line| line.split_once("connection received: host="))
        .map(|(_, rest)| rest.split(' ').next().unwrap())
        .collect();
    // Ours comes from the host's side of the bridge; the dump's and the roles' from within.
    assert!(hosts.iter().any(|host| *host != "127.0.0.1" && *host != "[local]"), "{hosts:?}");
    assert!(hosts.contains(&"127.0.0.1"), "{hosts:?}");
}
