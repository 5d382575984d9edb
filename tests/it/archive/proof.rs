//! `verify_backup` of an `archive` job, and what retention makes of it.

use std::path::Path;
use std::sync::Arc;

use punk_eco_sched::backup::manifest::State;
use punk_eco_sched::clock::ManualClock;
use punk_eco_sched::jobs::prune_backups::PruneBackups;
use punk_eco_sched::jobs::verify_backup::VerifyBackup;
use punk_eco_sched::jobs::{Backs, Job, JobError, Kept};
use punk_eco_sched::model::Report;
use serde_json::json;

use super::{archived, bench, manifest};
use crate::support::daemon::{Host, text};
use crate::support::job::{Bench, names};

/// The job of [`archived`] is called as every job of a bench.
async fn prove(bench: &Bench) -> Result<Report, JobError> {
    let options: VerifyBackup = serde_json::from_value(json!({"of": "db-backup"})).unwrap();
    let directory = bench.path("archives");
    let kept = Kept { job: "db-backup".into(), directory, of: Backs::Files("media".into()) };
    bench.run(&*options.handed(&[("db-backup".to_owned(), kept)].into()).unwrap()).await
}

async fn prune(bench: &Bench) -> Report {
    let options: PruneBackups = serde_json::from_value(json!({
        "directory": bench.path("archives"), "pattern": "*.tar.gz", "older_than": "30d", "keep_at_least": 1,
        "require_newer_verified": true, "max_deletions": "100%"
    }))
    .unwrap();
    bench.run(&options).await.unwrap()
}

fn on(bench: &mut Bench, day: &str) {
    bench.clock = Arc::new(ManualClock::new(format!("{day}T00:00:00Z").parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_verified_by_reading_it_and_then_older_ones_may_go() {
    let mut bench = bench().await;
    std::fs::write(bench.path("media/a"), "content of a").unwrap();
    let mut last = None;
    for day in ["2026-09-01", "2026-09-02", "2026-11-22"] {
        on(&mut bench, day);
        last = Some(archived(&bench, "").await.0);
    }
    let last = last.unwrap();
    // A dump of a database by the same name proves nothing of the archives.
    let dump = r#"{"format_version": 1, "database": "media", "job": "other", "started_at": "2026-11-22T00:00:00Z",
        "file": "media-20261122T010000Z.sql.gz", "proof": {"state": "verified", "events": []}}"#;
    std::fs::write(bench.path("archives/media-20261122T010000Z.manifest.json"), dump).unwrap();
    std::fs::write(bench.path("archives/media-20261122T010000Z.sql.gz"), "").unwrap();
    assert_eq!(prune(&bench).await.facts["deleted"], 0);

    let report = prove(&bench).await.unwrap();
    let name = last.file_name().unwrap().to_str().unwrap();
    assert!(report.summary.starts_with(&format!("verified {name}: ")), "{}", report.summary);
    assert!(report.summary.ends_with(" with 2 entries, each of them what was written"), "{}", report.summary);
    assert_eq!((&report.facts["file"], &report.facts["entries"]), (&json!(name), &json!(2)));
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let proof = manifest(&last).proof;
    assert_eq!((proof.state, proof.is_verified()), (State::Verified, true));

    let report = prune(&bench).await;
    assert_eq!(report.facts["deleted"], 2);
    assert_eq!(names(&bench.path("archives")).len(), 4, "{:?}", names(&bench.path("archives")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_recorded_so_and_stands_for_no_other() {
    let mut bench = bench().await;
    std::fs::write(bench.path("media/a"), "content of a").unwrap();
    on(&mut bench, "2026-09-01");
    archived(&bench, "").await;
    on(&mut bench, "2026-11-22");
    let (last, _) = archived(&bench, r#", "compression": "none""#).await;
    let mut bytes = std::fs::read(&last).unwrap();
    let at = bytes.windows(12).position(|window| window == b"content of a").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&last, &bytes).unwrap();
    let error = prove(&bench).await.unwrap_err();
    assert!(matches!(error, JobError::Permanent(_)));
    assert!(error.to_string().contains("/a: its content is not that of the manifest (SHA-256)"), "{error}");
    assert_eq!(manifest(&last).proof.state, State::Damaged);
    assert_eq!(prune(&bench).await.facts["deleted"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_half_the_files_is_suspect_and_so_is_one_that_lacks_some() {
    let mut bench = bench().await;
    let fill = |bench: &Bench, count: usize| {
        let media = bench.path("media");
        std::fs::remove_dir_all(&media).unwrap();
        std::fs::create_dir(&media).unwrap();
        (0..count).for_each(|number| std::fs::write(media.join(number.to_string()), vec![7; 4096]).unwrap());
    };
    for (day, count) in [("2026-09-01", 20), ("2026-09-02", 22), ("2026-11-22", 9)] {
        fill(&bench, count);
        on(&mut bench, day);
        archived(&bench, "").await;
    }
    let last = bench.path("archives/media-20261122T000000Z.tar.gz");
    let files = "its files fell to 9, from 21 in the middle of the last 2 archives";
    let suspect = manifest(&last).proof.suspect;
    assert!(
        suspect.len() == 2 && suspect[0].starts_with("its size fell to ") && suspect[1] == files,
        "{suspect:?}"
    );
    let report = prove(&bench).await.unwrap();
    let told: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1], format!("media-20261122T000000Z.tar.gz is suspect: {files}"));
    assert_eq!(manifest(&last).proof.state, State::Verified);
    assert_eq!(prune(&bench).await.facts["deleted"], 0);

    // Found by the proof too, where those before it were away when it was made.
    clear_suspicion(&last);
    prove(&bench).await.unwrap();
    assert_eq!(manifest(&last).proof.suspect, suspect);
}

fn clear_suspicion(archive: &Path) {
    let mut content = manifest(archive);
    content.proof.suspect.clear();
    let name = punk_eco_sched::backup::names::manifest_of(archive.file_name().unwrap().to_str().unwrap());
    std::fs::write(archive.with_file_name(name), content.to_json()).unwrap();
}

#[test]
fn jobs_yaml_takes_the_archive_of_another_job_and_backups_shows_its_proof() {
    let host = Host::new("");
    std::fs::create_dir(host.path("media")).unwrap();
    std::fs::write(host.path("media/a"), "a").unwrap();
    let (media, archives) = (host.path("media"), host.path("archives"));
    host.write_jobs(&format!(
        "  media:\n    archive: {{ sources: [{}], name: media, directory: {}, min_free: 0% }}\n  media-verify:\n    \
         verify_backup: {{ of: media }}\n",
        media.display(),
        archives.display()
    ));
    let dry = host.cli(&["run-now", "media-verify", "--dry-run"]);
    let said = text(&dry.stdout) + &text(&dry.stderr);
    assert!(dry.status.code() == Some(1) && said.contains("there is no backup of media in "), "{said}");
    for job in ["media", "media-verify"] {
        let run = host.cli(&["run-now", job]);
        assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    }
    let rows = host.json(&["backups", "--json"]);
    assert_eq!((&rows[0]["job"], &rows[0]["proof"]), (&json!("media"), &json!("verified")), "{rows:#}");
    assert_eq!((&rows[0]["database"], &rows[0]["restore_seconds"]), (&json!("media"), &json!(null)));
}
