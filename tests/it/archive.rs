//! `archive` and `restore files` on real folders: what survives, what is told, and that nothing else is touched.

mod copies;
mod damage;
mod proof;
mod restore;
mod room;
mod tree;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use punk_eco_sched::backup::archive::manifest::Manifest;
use punk_eco_sched::backup::archive::{self, Checked};
use punk_eco_sched::backup::read::Progress;
use punk_eco_sched::clock::ManualClock;
use punk_eco_sched::jobs::Job;
use punk_eco_sched::jobs::JobError;
use punk_eco_sched::jobs::archive::Archive;
use punk_eco_sched::jobs::prune_backups::PruneBackups;
use punk_eco_sched::model::Report;

use crate::support::job::{Bench, SmallDisk, names};
use tree::{gnu_tar, look, make_tree};

const STEM: &str = "media-20261122T230000Z";

async fn bench() -> Bench {
    let mut bench = Bench::new().await;
    bench.clock = Arc::new(ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap()));
    std::fs::create_dir(bench.path("media")).unwrap();
    bench
}

fn options(bench: &Bench, sources: &[&str], more: &str) -> Archive {
    let sources: Vec<PathBuf> = sources.iter().map(|name| bench.path(name)).collect();
    let sources = serde_json::to_string(&sources).unwrap();
    let directory = bench.path("archives");
    let directory = directory.display();
    let min_free = if more.contains("min_free") { "" } else { r#", "min_free": "0%""# };
    let text =
        format!(r#"{{"sources": {sources}, "name": "media", "directory": "{directory}"{min_free}{more}}}"#);
    serde_json::from_str(&text).unwrap()
}

async fn archived(bench: &Bench, more: &str) -> (PathBuf, Report) {
    let report = bench.run(&options(bench, &["media"], more)).await.unwrap();
    (bench.path("archives").join(report.facts["file"].as_str().unwrap()), report)
}

fn manifest(archive: &Path) -> Manifest {
    let name = archive.file_name().unwrap().to_str().unwrap().split(".tar").next().unwrap().to_owned();
    Manifest::parse(&std::fs::read(archive.with_file_name(name + ".manifest.json")).unwrap()).unwrap()
}

fn check(bench: &Bench, archive: &Path) -> Result<Checked, String> {
    archive::check(&bench.context().work(), archive, None, Progress::default())
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_file_survives_and_gnu_tar_reads_the_archive() {
    for (compression, suffix) in [("gzip", ".tar.gz"), ("zstd", ".tar.zst"), ("none", ".tar")] {
        let bench = bench().await;
        make_tree(&bench.path("media"));
        let before = look(&bench.path("media"));
        let (archive, report) = archived(&bench, &format!(r#", "compression": "{compression}""#)).await;
        assert_eq!(
            names(&bench.path("archives")),
            [format!("{STEM}.manifest.json"), format!("{STEM}{suffix}")]
        );
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let mode =
            |path: &Path| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777;
        assert_eq!((mode(&bench.path("archives")), mode(&archive)), (0o700, 0o600));

        let manifest = manifest(&archive);
        assert_eq!(manifest.entries.len(), before.len());
        let checked = check(&bench, &archive).unwrap();
        assert_eq!(checked.manifest.proof.state.word(), "verified");

        let listed = gnu_tar(&["-tvf", archive.to_str().unwrap()]);
        assert_eq!(listed.lines().count(), before.len());
        std::fs::create_dir(bench.path("theirs")).unwrap();
        let into = bench.path("theirs");
        gnu_tar(&[
            "-xpf",
            archive.to_str().unwrap(),
            "-C",
            into.to_str().unwrap(),
            "--xattrs",
            "--numeric-owner",
        ]);
        let media = bench.path("media");
        let theirs = into.join(media.strip_prefix("/").unwrap());
        // GNU's headers have whole seconds.
        let whole = |found: Vec<tree::Seen>| -> Vec<_> {
            found.into_iter().map(|seen| tree::Seen { modified: (seen.modified.0, 0), ..seen }).collect()
        };
        assert_eq!(whole(look(&theirs)), whole(before.clone()));

        let plan = archive::plan(&archive, &bench.path("ours"), bench.clock.now()).unwrap();
        let restored = archive::restore(&bench.context().work(), &plan, None, Progress::default()).unwrap();
        assert_eq!((restored.kept_as, restored.notes), (None, vec![]));
        assert_eq!(look(&bench.path("ours")), before);
        // And what was archived is as it was: nothing was touched, not even its times.
        assert_eq!(look(&media), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_tree_makes_the_same_archive() {
    let bench = bench().await;
    make_tree(&bench.path("media"));
    let (first, _) = archived(&bench, "").await;
    let (second, _) = archived(&bench, "").await;
    assert_eq!(second.file_name().unwrap().to_str().unwrap(), format!("{STEM}-2.tar.gz"));
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_or_is_no_file_stays_out_and_the_archive_never_holds_itself() {
    let mut bench = bench().await;
    let media = bench.path("media");
    for folder in ["cache/deep", "keep/cache", "archives"] {
        std::fs::create_dir_all(media.join(folder)).unwrap();
    }
    for file in ["a", "b.tmp", "keep/c.tmp", "keep/d", "cache/deep/e", "keep/cache/f", "archives/old.tar"] {
        std::fs::write(media.join(file), file).unwrap();
    }
    let _socket = UnixListener::bind(media.join("socket")).unwrap();
    let mut job = options(&bench, &["media"], r#", "exclude": ["*.tmp", "keep/cache"]"#);
    job.directory = media.join("archives");
    bench.dry_run = true;
    let dry = bench.run(&job).await.unwrap();
    assert_eq!(
        dry.summary,
        format!("would archive 19 B in 3 files to {}/{STEM}.tar.gz", job.directory.display())
    );
    assert_eq!(names(&job.directory), ["old.tar"]);
    bench.dry_run = false;

    let report = bench.run(&job).await.unwrap();
    let manifest = manifest(&job.directory.join(report.facts["file"].as_str().unwrap()));
    let root = media.to_str().unwrap().trim_start_matches('/');
    let paths: Vec<_> = manifest
        .entries
        .iter()
        .map(|entry| std::str::from_utf8(&entry.path).unwrap().strip_prefix(root).unwrap())
        .collect();
    assert_eq!(paths, ["", "/a", "/cache", "/cache/deep", "/cache/deep/e", "/keep", "/keep/d"]);
    let left: Vec<_> = manifest.left_out.iter().map(|noted| noted.why.as_str()).collect();
    assert_eq!(
        left,
        [
            "the folder of the archives themselves",
            "a socket, which only the program that listens on it can make"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_s_file_systems_stay_out_and_others_are_entered() {
    let bench = bench().await;
    let Some(disk) = SmallDisk::mount(&bench.path("media/disk"), "1m") else { return };
    std::fs::write(bench.path("media/disk/a"), "a").unwrap();
    std::fs::create_dir(bench.path("media/proc")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("proc", bench.path("media/proc"), "proc", flags, None::<&std::ffi::CStr>).unwrap();
    let (archive, _) = archived(&bench, "").await;
    rustix::mount::unmount(bench.path("media/proc"), rustix::mount::UnmountFlags::DETACH).unwrap();
    drop(disk);
    let manifest = manifest(&archive);
    assert_eq!((manifest.entries.len(), manifest.files), (3, 1));
    let left: Vec<_> = manifest.left_out.iter().map(|noted| noted.why.as_str()).collect();
    assert_eq!(left, ["a file system of the kernel's, not files"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_missing_fails_the_run_once_the_others_are_archived() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    let error = bench.run(&options(&bench, &["gone", "media"], "")).await.unwrap_err();
    let JobError::Lacking(report) = error else { panic!("{error}") };
    let gone = bench.path("gone");
    assert_eq!(
        report.summary,
        format!(
            "archived media: {} in 1 file to {STEM}.tar.gz, without what could not be read: {}: this source is not there",
            punk_eco_sched::units::Size(report.facts["bytes"].as_u64().unwrap()),
            gone.display()
        )
    );
    assert_eq!(report.findings.len(), 1);
    let archive = bench.path(&format!("archives/{STEM}.tar.gz"));
    assert_eq!(check(&bench, &archive).unwrap().manifest.unreadable.len(), 1);

    let error = bench.run(&options(&bench, &["gone"], "")).await.unwrap_err();
    assert!(matches!(error, JobError::Retryable(_)));
    let expected = format!("nothing was archived: {}: this source is not there", gone.display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(names(&bench.path("archives")).len(), 2);
    assert_eq!(options(&bench, &["gone"], "").preflight(&bench.host()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_a_link_is_followed_and_none_within_is() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    std::os::unix::fs::symlink("media", bench.path("link")).unwrap();
    std::os::unix::fs::symlink("..", bench.path("media/up")).unwrap();
    let report = bench.run(&options(&bench, &["link"], "")).await.unwrap();
    assert_eq!((&report.facts["entries"], &report.facts["files"]), (&3.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_nothing_and_says_so() {
    let bench = bench().await;
    let Some(_disk) = SmallDisk::mount(&bench.path("archives"), "256k") else { return };
    let noise: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(bench.path("media/noise"), noise).unwrap();
    let error = bench.run(&options(&bench, &["media"], r#", "compression": "none""#)).await.unwrap_err();
    assert!(matches!(error, JobError::Retryable(_)));
    let begin =
        format!("no space is left in {}: the archive stopped after ", bench.path("archives").display());
    assert!(error.to_string().starts_with(&begin), "{error}");
    assert_eq!(names(&bench.path("archives")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_nothing() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), vec![0; 1 << 20]).unwrap();
    bench.cancel.cancel();
    let error = bench.run(&options(&bench, &["media"], "")).await.unwrap_err();
    assert_eq!(error.to_string(), "stopped");
    assert_eq!(names(&bench.path("archives")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_whose_process_died_while_publishing_is_completed() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    let (archive, _) = archived(&bench, "").await;
    let directory = bench.path("archives");
    let manifest = directory.join(format!("{STEM}.manifest.json"));
    std::fs::rename(&manifest, directory.join(format!(".{STEM}.manifest.json.partial-1-2"))).unwrap();
    std::fs::rename(&archive, directory.join(format!(".{STEM}.tar.gz.partial-1-1"))).unwrap();
    std::fs::write(directory.join(".media-20261121T230000Z.tar.gz.partial-1-3"), "half").unwrap();
    archived(&bench, "").await;
    let expected =
        ["-2.manifest.json", "-2.tar.gz", ".manifest.json", ".tar.gz"].map(|end| format!("{STEM}{end}"));
    assert_eq!(names(&directory), expected);
    check(&bench, &archive).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_and_its_manifest_are_kept_and_deleted_as_one() {
    let mut bench = bench().await;
    std::fs::write(bench.path("media/a"), "a").unwrap();
    for day in ["2026-09-01", "2026-09-02", "2026-11-22"] {
        bench.clock = Arc::new(ManualClock::new(format!("{day}T00:00:00Z").parse().unwrap()));
        archived(&bench, "").await;
    }
    let options: PruneBackups = serde_json::from_value(serde_json::json!({
        "directory": bench.path("archives"), "pattern": "*.tar.gz", "older_than": "30d", "keep_at_least": 1,
        "require_newer_verified": false, "max_deletions": "100%"
    }))
    .unwrap();
    let report = bench.run(&options).await.unwrap();
    assert_eq!((&report.facts["deleted"], &report.facts["files_deleted"]), (&2.into(), &4.into()));
    let expected = ["manifest.json", "tar.gz"].map(|end| format!("media-20261122T000000Z.{end}"));
    assert_eq!(names(&bench.path("archives")), expected);
}
