//! Room for archives on a real small disk: predicted before, watched while one is made.

use std::sync::Arc;
use std::time::Duration;

use punk_eco_sched::clock::ManualClock;
use sha2::{Digest, Sha256};

use super::{archived, bench, options};
use crate::support::job::{Bench, SmallDisk, names};

/// Nothing that can be made smaller.
fn noise(bench: &Bench, mebibytes: u64) {
    let blocks = (0..mebibytes << 15).flat_map(|number| Sha256::digest(number.to_le_bytes()));
    std::fs::write(bench.path("media/noise"), blocks.collect::<Vec<u8>>()).unwrap();
}

async fn refused(bench: &Bench, more: &str) -> String {
    bench.run(&options(bench, &["media"], more)).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_stopped_before_the_disk_is_full_and_not_begun_where_it_would_leave_too_little() {
    let mut bench = bench().await;
    let clock = Arc::new(ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap()));
    bench.clock = clock.clone();
    let directory = bench.path("archives");
    let Some(disk) = SmallDisk::mount(&directory, "20m") else { return };
    noise(&bench, 19);
    let error = refused(&bench, r#", "min_free": "20%""#).await;
    let rest =
        error.strip_prefix("stopped before the disk was full: after ").unwrap_or_else(|| panic!("{error}"));
    let (written, rest) = rest.split_once(" bytes of the archive the file system of ").unwrap();
    assert!((10 << 20..=18 << 20).contains(&written.parse::<u64>().unwrap()), "{error}");
    let why = " free of 20.0 MiB, and to write on would leave less than 2.0 MiB, half of min_free (20%); no earlier archive \
               says how much it takes";
    assert!(rest.contains(why), "{error}");
    assert_eq!(names(&directory), [""; 0]);
    assert_eq!(disk.free(), 20 << 20);

    noise(&bench, 7);
    archived(&bench, r#", "min_free": "20%""#).await;
    let made = names(&directory);
    clock.advance(Duration::from_secs(60));
    archived(&bench, r#", "min_free": "20%""#).await;
    let both = names(&directory);
    clock.advance(Duration::from_secs(60));
    assert_eq!((made.len(), both.len()), (2, 4));
    for dry_run in [true, false] {
        bench.dry_run = dry_run;
        let error = refused(&bench, r#", "min_free": "20%""#).await;
        let begin = format!("not started: the file system of {} has ", directory.display());
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains(", and an archive like the last ones (7."), "{error}");
        assert!(error.ends_with("; min_free is 20%: make room, or lower min_free"), "{error}");
        assert_eq!(names(&directory), both);
    }
}
