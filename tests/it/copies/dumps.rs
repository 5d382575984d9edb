//! Dumps that are copied: when all goes well, when the network is cut, and when copies grow old.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use punk_eco_sched::backup::copies::{self, CopyTo, Destination};
use punk_eco_sched::backup::manifest::{Manifest, ProofEvent, State};
use punk_eco_sched::clock::{Clock, ManualClock};
use punk_eco_sched::jobs::pg_dump::PgDump;
use punk_eco_sched::jobs::{Job, JobError};
use punk_eco_sched::model::{Report, RunId};

use crate::pg_dump::{manifest, options};
use crate::support::daemon::text;
use crate::support::job::{Bench, names};
use crate::support::postgres::Postgres;
use crate::support::s3::{self, ACCESS_KEY, Network, S3, SECRET_KEY};
use crate::support::shop;

struct Copied {
    postgres: Postgres,
    s3: S3,
    network: Network,
    bench: Bench,
    clock: Arc<ManualClock>,
    share: PathBuf,
}

impl Copied {
    async fn new() -> Self {
        let postgres = Postgres::start();
        postgres.sql("postgres", "CREATE DATABASE shop");
        postgres.sql("shop", "CREATE TABLE sales AS SELECT n AS id FROM generate_series(1, 10) n");
        let s3 = S3::start();
        let network = Network::to(s3.port, u64::MAX);
        let mut bench = Bench::new().await;
        bench.connections.insert("app".into(), postgres.connection("shop"));
        let clock = Arc::new(ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap()));
        bench.clock = clock.clone();
        let share = bench.path("share");
        std::fs::create_dir(&share).unwrap();
        Self { postgres, s3, network, bench, clock, share }
    }

    fn directory(&self) -> PathBuf {
        self.bench.path("dumps")
    }

    /// To the bucket and to the share; `keep` of the bucket's.
    fn options(&self, keep: &str) -> PgDump {
        let bucket = S3::entry("shop", self.network.port, keep);
        let share = self.share.display();
        options(&self.directory(), &format!(r#", "copy_to": [{bucket}, {{"url": "file://{share}"}}]"#))
    }

    async fn run(&self, run: i64, attempt: u32, keep: &str) -> Result<Report, JobError> {
        let mut context = self.bench.context();
        (context.run, context.attempt) = (RunId(run), attempt);
        self.options(keep).run(&context).await
    }

    fn destinations(&self) -> Vec<Destination> {
        let bucket = S3::entry("shop", self.network.port, "");
        let copy_to: CopyTo =
            serde_json::from_str(&format!(r#"[{bucket}, {{"url": "file://{}"}}]"#, self.share.display()))
                .unwrap();
        copy_to.destinations()
    }
}

fn stems(names: &[String]) -> Vec<&str> {
    names.iter().filter_map(|name| name.strip_suffix(".manifest.json")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_where_it_is_wanted_and_can_be_fetched_from_there() {
    if s3::missing() {
        return;
    }
    let copied = Copied::new().await;
    let report = copied.run(7, 1, "").await.unwrap();
    let directory = copied.directory();
    let share = format!("file://{}", copied.share.display());
    assert!(
        report.summary.ends_with(&format!(", copied to s3://backups/shop, {share}")),
        "{}",
        report.summary
    );
    assert_eq!(report.facts["copies"], serde_json::json!(["s3://backups/shop", share]));
    let here = names(&directory);
    assert_eq!(here.len(), 3);
    assert_eq!(names(&copied.share), here);
    assert_eq!(copied.s3.keys(), here.iter().map(|name| format!("shop/{name}")).collect::<Vec<_>>());
    let manifest = manifest(&directory);
    let places: Vec<&str> = manifest.copies.iter().map(|copy| copy.to.as_str()).collect();
    assert_eq!(places, ["s3://backups/shop", share.as_str()]);
    for name in &here {
        let content = std::fs::read(directory.join(name)).unwrap();
        if !name.ends_with(".manifest.json") {
            assert!(copied.s3.object(&format!("shop/{name}")).unwrap() == content, "{name}");
        }
        assert!(std::fs::read(copied.share.join(name)).unwrap() == content, "{name}");
    }
    assert!(!text(&std::fs::read(directory.join(&here[0])).unwrap()).contains(SECRET_KEY));

    let work = copied.bench.context().work();
    let destinations = copied.destinations();
    for place in ["s3://backups/shop", &share] {
        let url = format!("{place}/{}", manifest.file);
        let (destination, name) = copies::locate(&url, &destinations).unwrap().unwrap();
        let fetched = copies::fetch(&work, destination, name).await.unwrap();
        let folder = fetched.folder().to_owned();
        assert_eq!(names(&folder), here);
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&folder).unwrap()) & 0o777, 0o700);
        assert!(
            std::fs::read(&fetched.path).unwrap() == std::fs::read(directory.join(&manifest.file)).unwrap()
        );
        drop(fetched);
        assert!(!folder.exists());
    }
    assert!(copies::locate("/var/backups/a.sql", &destinations).unwrap().is_none());
    let error = copies::locate("s3://other/a.sql", &destinations).err().unwrap().to_string();
    let expected = format!(
        "s3://other/a.sql is at no place that a job of this file copies to ({share}, s3://backups/shop)"
    );
    assert_eq!(error, expected);
    let (destination, _) = copies::locate("s3://backups/shop/no.sql", &destinations).unwrap().unwrap();
    let error = copies::fetch(&work, destination, "no.sql").await.err().unwrap();
    assert_eq!(error.to_string(), "s3://backups/shop/no.sql is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_leaves_the_backup_and_the_next_attempt_only_copies() {
    if s3::missing() {
        return;
    }
    let copied = Copied::new().await;
    copied
        .postgres
        .sql("shop", "CREATE TABLE noise AS SELECT md5(n::text) FROM generate_series(1, 700000) n");
    let cut = Network::to(copied.s3.port, 10 << 20);
    let broken = Copied { network: cut, ..copied };
    let error = broken.run(7, 1, "").await.unwrap_err();
    let here = names(&broken.directory());
    let stem = stems(&here)[0].to_owned();
    let begin = format!(
        "the backup {stem} is whole in {}, but the copying failed: s3://backups/shop/{stem}.sql.gz can't be reached: ",
        broken.directory().display()
    );
    assert!(error.to_string().starts_with(&begin), "{error}");
    assert!(error.to_string().ends_with("; the next attempt only copies"), "{error}");
    assert!(matches!(error, JobError::Retryable(_)));
    assert_eq!(here.len(), 3);
    // The other place has it, and nothing that counts is in the bucket.
    assert_eq!(names(&broken.share), here);
    assert!(stems(&broken.s3.keys()).is_empty());

    broken.network.mend();
    broken.postgres.sql("shop", "DROP TABLE sales");
    let report = broken.run(7, 2, "").await.unwrap();
    assert_eq!(names(&broken.directory()), here, "another dump was made");
    assert_eq!(report.facts["rows"], 700_010);
    assert_eq!(broken.s3.keys().len(), 3);
    assert_eq!(broken.s3.uploads(), [""; 0]);
    assert_eq!(names(&broken.bench.path("uploads")), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_also_copies_what_was_missed_but_nothing_that_is_old() {
    if s3::missing() {
        return;
    }
    let copied = Copied::new().await;
    let plain = options(&copied.directory(), "");
    copied.bench.run(&plain).await.unwrap();
    copied.clock.advance(Duration::from_secs(8 * 86_400));
    copied.bench.run(&plain).await.unwrap();
    copied.clock.advance(Duration::from_secs(60));
    copied.run(9, 1, "").await.unwrap();
    let here = names(&copied.directory());
    assert_eq!(stems(&here), ["shop-20261122T230000Z", "shop-20261130T230000Z", "shop-20261130T230100Z"]);
    assert_eq!(stems(&names(&copied.share)), ["shop-20261130T230000Z", "shop-20261130T230100Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_copies_go_once_a_newer_one_is_proven_and_the_newest_proven_one_stays() {
    if s3::missing() {
        return;
    }
    // Counted back from the newest one that was proven.
    const KEEP: &str = r#", "keep": "20h""#;
    let copied = Copied::new().await;
    for run in 1..=4 {
        copied.run(run, 1, KEEP).await.unwrap();
        copied.clock.advance(Duration::from_secs(86_400));
    }
    let there = || -> Vec<String> {
        let keys = copied.s3.keys();
        stems(&keys).iter().map(|stem| stem.replace("shop/shop-", "")).collect()
    };
    assert_eq!(there(), ["20261122T230000Z", "20261123T230000Z", "20261124T230000Z", "20261125T230000Z"]);
    // Nothing was proven: nothing went. Now the second was.
    prove(&copied.directory(), "shop-20261123T230000Z", copied.clock.now());
    copied.clock.advance(Duration::from_secs(60));
    copied.run(5, 1, KEEP).await.unwrap();
    assert_eq!(there(), ["20261123T230000Z", "20261124T230000Z", "20261125T230000Z", "20261126T230100Z"]);
    assert_eq!(copied.s3.keys().len(), 12);
    // What is known of it is known there, the one that went is no copy here, and the share keeps all.
    let there_too = copied.s3.object("shop/shop-20261123T230000Z.manifest.json").unwrap();
    assert_eq!(Manifest::parse(&there_too).unwrap().proof.state, State::Verified);
    let first = std::fs::read(copied.directory().join("shop-20261122T230000Z.manifest.json")).unwrap();
    let places: Vec<String> =
        Manifest::parse(&first).unwrap().copies.into_iter().map(|copy| copy.to).collect();
    assert_eq!(places, [format!("file://{}", copied.share.display())]);
    assert_eq!(stems(&names(&copied.share)).len(), 5);
    // A year later the newest proven one is still there.
    copied.clock.advance(Duration::from_secs(365 * 86_400));
    copied.run(6, 1, KEEP).await.unwrap();
    assert!(there().contains(&"20261123T230000Z".to_owned()), "{:?}", there());
}

fn prove(directory: &Path, stem: &str, at: jiff::Timestamp) {
    let path = directory.join(format!("{stem}.manifest.json"));
    let mut manifest = Manifest::parse(&std::fs::read(&path).unwrap()).unwrap();
    let how = "restored".to_owned();
    manifest.proof.record(ProofEvent { state: State::Verified, at, how, seconds: None, tools: None });
    std::fs::write(path, manifest.to_json()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_another_host_under_the_same_name_is_not_overwritten() {
    if s3::missing() {
        return;
    }
    let copied = Copied::new().await;
    let other = br#"{"host": "other", "started_at": "2026-11-22T23:00:00Z", "file": "x", "bytes": 1, "sha256": "00"}"#;
    std::fs::write(copied.share.join("shop-20261122T230000Z.manifest.json"), other).unwrap();
    let error = copied.run(7, 1, "").await.unwrap_err().to_string();
    let reason = "the store refuses: it holds another backup named shop-20261122T230000Z, of host other: give each host \
                  its own prefix";
    assert!(error.contains(reason), "{error}");
    assert_eq!(names(&copied.share).len(), 1);
    assert_eq!(copied.s3.keys().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_of_a_place_that_can_t_be_used() {
    if s3::missing() {
        return;
    }
    let copied = Copied::new().await;
    let nobody = S3::that_knows_nobody();
    copied.network.cut();
    let entries = [
        S3::entry("a", copied.network.port, ""),
        S3::entry("b", nobody.port, ""),
        r#"{"url": "file:///nowhere/at/all"}"#.to_owned(),
        format!(r#"{{"url": "file://{}"}}"#, copied.share.display()),
    ];
    let options = options(&copied.directory(), &format!(r#", "copy_to": [{}]"#, entries.join(", ")));
    let lacks = options.preflight(&copied.bench.host()).await;
    let told: Vec<(bool, &str)> = lacks.iter().map(|lack| (lack.fatal, lack.message.as_str())).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(!told[0].0 && told[0].1.starts_with("copy_to: s3://backups/a can't be reached: "), "{told:?}");
    assert!(
        told[1].0 && told[1].1.starts_with("copy_to: s3://backups/b: the store refuses: Inval"),
        "{told:?}"
    );
    assert!(
        told[2].0 && told[2].1.starts_with("copy_to: file:///nowhere/at/all can't be opened"),
        "{told:?}"
    );
    assert!(!told[3].0 && told[3].1.contains(" is on the same file system as "), "{told:?}");
}

#[test]
fn what_opens_a_store_is_shown_nowhere() {
    if s3::missing() {
        return;
    }
    let shop = shop::Shop::<Postgres>::new();
    let nobody = S3::that_knows_nobody();
    let fine = S3::start();
    std::fs::write(shop.host.path("secret"), SECRET_KEY).unwrap();
    let entry = |port: u16| {
        let secret = shop.host.path("secret");
        S3::entry("shop", port, "").replace(SECRET_KEY, &format!("${{file:{}}}", secret.display()))
    };
    std::fs::create_dir(shop.host.path("share")).unwrap();
    let daemon = shop.host.daemon();
    for (port, outcome) in [(nobody.port, "failed"), (fine.port, "succeeded")] {
        let share = shop.host.path("share");
        shop.table("", &format!(", copy_to: [{}, file://{}]", entry(port), share.display()), "");
        assert!(shop.host.cli(&["reload"]).status.success());
        assert_eq!(shop.run()["outcome"], outcome);
    }
    let error = shop::last_error(&shop.host.history("db-backup")[1]);
    assert!(error.contains(".manifest.json: the store refuses: InvalidAccessKeyId: "), "{error}");
    assert!(error.ends_with("; once that is mended, the next run copies"), "{error}");
    assert!(shop.host.log("db-backup").contains("copied shop-"), "{}", shop.host.log("db-backup"));
    for arguments in [vec!["show", "1"], vec!["logs", "db-backup"], vec!["check"]] {
        let said = shop.host.cli(&arguments);
        let said = format!("{}{}", text(&said.stdout), text(&said.stderr));
        assert!(!said.contains(SECRET_KEY) && !said.contains(ACCESS_KEY), "{arguments:?}: {said}");
    }
    assert!(daemon.stop().success());
    let mut looked_at = 0;
    for entry in walkdir::WalkDir::new(shop.host.dir.path()).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() && entry.file_name() != "secret" && entry.file_name() != "jobs.yaml" {
            let content = std::fs::read(entry.path()).unwrap();
            let shown =
                |secret: &str| content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!shown(SECRET_KEY) && !shown(ACCESS_KEY), "{}", entry.path().display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 6, "{looked_at}");
}
