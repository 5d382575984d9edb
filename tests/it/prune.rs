//! `prune_backups` in real folders: what goes, what stays, and that nothing outside is touched.

use std::path::Path;
use std::sync::Arc;

use punk_eco_sched::clock::ManualClock;
use punk_eco_sched::jobs::JobError;
use punk_eco_sched::jobs::prune_backups::PruneBackups;

use crate::support::job::{Bench, SmallDisk, names};

async fn bench() -> Bench {
    let mut bench = Bench::new().await;
    bench.clock = Arc::new(ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap()));
    std::fs::create_dir(bench.path("dumps")).unwrap();
    bench
}

fn options(directory: &Path, more: &str) -> PruneBackups {
    let directory = directory.to_str().unwrap();
    serde_json::from_str(&format!(
        r#"{{"directory": "{directory}", "require_newer_verified": false, "max_deletions": "100%"{more}}}"#
    ))
    .unwrap()
}

/// `shop` of each day of a month.
fn dumps(folder: &Path, month: &str, days: std::ops::RangeInclusive<u32>) {
    for day in days {
        std::fs::write(folder.join(format!("shop-2026{month}{day:02}T000000Z.sql.gz")), "1234").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backups_go_with_their_manifest_and_roles_and_the_rest_stays() {
    let bench = bench().await;
    let directory = bench.path("dumps");
    dumps(&directory, "09", 1..=3);
    dumps(&directory, "11", 1..=2);
    let stem = "shop-20260901T000000Z";
    std::fs::write(directory.join(format!("{stem}.roles.sql.gz")), "12").unwrap();
    let manifest = format!(
        r#"{{"format_version": 1, "database": "shop", "started_at": "2026-09-01T00:00:00Z", "file": "{stem}.sql.gz"}}"#
    );
    std::fs::write(directory.join(format!("{stem}.manifest.json")), &manifest).unwrap();
    std::fs::write(directory.join("shop-20270101T000000Z.sql.gz"), "").unwrap();
    std::fs::write(directory.join(".shop-20260101T000000Z.sql.gz.partial-1-1"), "").unwrap();
    std::fs::write(directory.join("notes.txt"), "").unwrap();
    let before = names(&directory);

    let dry = bench.run(&options(&directory, r#", "keep_at_least": 3, "dry_run": true"#)).await.unwrap();
    assert_eq!(dry.summary, "would delete 2 of 6 backups and keep 4; nothing was deleted");
    assert_eq!(names(&directory), before);

    let report = bench.run(&options(&directory, r#", "keep_at_least": 3"#)).await.unwrap();
    let freed = 4 + 4 + 2 + manifest.len();
    assert_eq!(report.summary, format!("deleted 2 of 6 backups ({freed} B freed), kept 4"));
    assert_eq!((&report.facts["deleted"], &report.facts["files_deleted"]), (&2.into(), &4.into()));
    let findings: Vec<_> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        findings,
        [
            "kept shop-20270101T000000Z.sql.gz: dated in the future, 2027-01-01T00:00:00Z: is the clock wrong, or was it?"
        ]
    );
    assert_eq!(
        names(&directory),
        [
            ".shop-20260101T000000Z.sql.gz.partial-1-1",
            "notes.txt",
            "shop-20260903T000000Z.sql.gz",
            "shop-20261101T000000Z.sql.gz",
            "shop-20261102T000000Z.sql.gz",
            "shop-20270101T000000Z.sql.gz",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_deletions_delete_nothing_and_unverified_backups_stay() {
    let bench = bench().await;
    let directory = bench.path("dumps");
    dumps(&directory, "08", 1..=8);
    dumps(&directory, "11", 20..=22);
    let before = names(&directory);
    let error =
        bench.run(&options(&directory, r#", "keep_at_least": 0"#).with_limit("50%")).await.unwrap_err();
    assert!(matches!(error, JobError::Permanent(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "nothing was deleted: 8 of 11 backups in {} are due to go (72.7%), and max_deletions is 50%. Look at them \
             with --dry-run; then raise max_deletions for one run, or correct older_than or the pattern",
            directory.display()
        )
    );
    assert_eq!(names(&directory), before);

    let mut verified = options(&directory, "");
    verified.require_newer_verified = true;
    let report = bench.run(&verified).await.unwrap();
    assert_eq!(report.summary, "deleted 0 of 11 backups (0 B freed), kept 11");
    assert_eq!(names(&directory), before);
}

trait WithLimit {
    fn with_limit(self, limit: &str) -> Self;
}

impl WithLimit for PruneBackups {
    fn with_limit(mut self, limit: &str) -> Self {
        self.max_deletions = limit.parse().unwrap();
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_below_are_searched_and_links_lead_nowhere() {
    let bench = bench().await;
    let directory = bench.path("dumps");
    let outside = bench.path("outside");
    std::fs::create_dir_all(directory.join("a/b")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    dumps(&directory.join("a/b"), "01", 1..=2);
    dumps(&outside, "01", 1..=2);
    std::os::unix::fs::symlink(&outside, directory.join("link")).unwrap();
    std::os::unix::fs::symlink(
        outside.join("shop-20260101T000000Z.sql.gz"),
        directory.join("shop-20260102T000000Z.sql.gz"),
    )
    .unwrap();
    let report = bench.run(&options(&directory, r#", "keep_at_least": 0"#)).await.unwrap();
    assert_eq!(report.summary, "deleted 2 of 2 backups (8 B freed), kept 0");
    assert_eq!(names(&directory), ["a", "link", "shop-20260102T000000Z.sql.gz"]);
    assert_eq!(names(&directory.join("a/b")), [""; 0]);
    assert_eq!(names(&outside).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_in_the_name_the_file_s_own_time_counts() {
    let bench = bench().await;
    let directory = bench.path("dumps");
    for (name, at) in [("old.sql.gz", "2026-10-01T00:00:00Z"), ("new.sql.gz", "2026-11-01T00:00:00Z")] {
        let at: jiff::Timestamp = at.parse().unwrap();
        std::fs::write(directory.join(name), "").unwrap();
        let file = std::fs::File::options().write(true).open(directory.join(name)).unwrap();
        file.set_modified(at.into()).unwrap();
    }
    bench.run(&options(&directory, r#", "keep_at_least": 0"#)).await.unwrap();
    assert_eq!(names(&directory), ["new.sql.gz"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_is_an_error_that_names_it() {
    let bench = bench().await;
    let directory = bench.path("nowhere");
    let error = bench.run(&options(&directory, "")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the directory {} can't be read: No such file or directory (os error 2)",
            directory.display()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_system_is_not_entered() {
    let bench = bench().await;
    let directory = bench.path("dumps");
    let Some(_disk) = SmallDisk::mount(&directory.join("disk"), "1m") else { return };
    dumps(&directory, "01", 1..=2);
    dumps(&directory.join("disk"), "01", 1..=2);
    let report = bench.run(&options(&directory, r#", "keep_at_least": 0"#)).await.unwrap();
    assert_eq!(report.facts["deleted"], 2);
    assert_eq!(names(&directory.join("disk")).len(), 2);
}

/// A dump of `shop` with a manifest that says what was proven.
fn proven(folder: &Path, day: &str, state: &str, suspect: &str) {
    let stem = format!("shop-2026{day}T000000Z");
    let time: jiff::Timestamp = format!("2026-{}-{}T00:00:00Z", &day[..2], &day[2..]).parse().unwrap();
    let manifest = format!(
        r#"{{"format_version": 1, "database": "shop", "started_at": "{time}", "file": "{stem}.sql.gz", "bytes": 4,
            "proof": {{"state": "{state}", "events": [], "suspect": [{suspect}]}}}}"#
    );
    std::fs::write(folder.join(format!("{stem}.sql.gz")), "1234").unwrap();
    std::fs::write(folder.join(format!("{stem}.manifest.json")), manifest).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_newer_verified_backup_stands_for_goes_and_both_are_named() {
    let bench = bench().await;
    let directory = bench.path("dumps");
    for day in ["0801", "0901", "1001"] {
        proven(&directory, day, "written", "");
    }
    proven(&directory, "1120", "verified", r#""its rows fell to 3""#);
    proven(&directory, "1121", "damaged", "");
    proven(&directory, "1122", "read_back", "");
    let mut options = options(&directory, r#", "keep_at_least": 0, "keep": {"monthly": 3}"#);
    options.require_newer_verified = true;
    let report = bench.run(&options).await.unwrap();
    assert_eq!(report.summary, "deleted 0 of 6 backups (0 B freed), kept 6");

    proven(&directory, "1119", "verified", "");
    let (dry, log) = {
        let ctx = bench.context();
        let log = ctx.log.clone();
        options.dry_run = true;
        (punk_eco_sched::jobs::Job::run(&options, &ctx).await.unwrap(), log)
    };
    assert_eq!(dry.summary, "would delete 1 of 7 backups and keep 6; nothing was deleted");
    let lines = |log: &punk_eco_sched::logs::RunLog| {
        let lines: Vec<String> = log.lines().into_iter().map(|line| line.text.to_string()).collect();
        lines.join("\n")
    };
    let told = "shop-20260801T000000Z.sql.gz + shop-20260801T000000Z.manifest.json: 113d old, and \
                shop-20261119T000000Z.sql.gz of 2026-11-19T00:00:00Z is newer and verified";
    assert!(lines(&log).contains(&format!("would delete {told}")), "{}", lines(&log));
    let kept = "kept shop-20261001T000000Z.sql.gz + shop-20261001T000000Z.manifest.json: the newest of month 2026-10";
    assert!(lines(&log).contains(kept), "{}", lines(&log));

    options.dry_run = false;
    let report = bench.run(&options).await.unwrap();
    assert_eq!((&report.facts["deleted"], &report.facts["files_deleted"]), (&1.into(), &2.into()));
    assert!(!names(&directory).contains(&"shop-20260801T000000Z.sql.gz".to_owned()));
}
