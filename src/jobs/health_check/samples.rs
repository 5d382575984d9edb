//! Samples of the processor's counters that runs leave for later runs, in one small file for each job and time.
//!
//! They are worth nothing after a reboot, so that nothing here waits for the disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kept::{FOLDER, Held, lock, read, replace};
use crate::host::load::CpuTimes;
use crate::host::procfs;
use crate::model::JobName;
use crate::units::HumanDuration;

/// Samples are at least this part of their time apart: a job that runs each second leaves no more of them.
const PARTS: u32 = 60;
/// The counters at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Since boot.
    pub(super) at: Duration,
    pub(super) times: CpuTimes,
}

/// Of one boot, oldest first.
#[derive(Debug)]
pub(super) struct Samples {
    boot: String,
    samples: Vec<Sample>,
}

/// What was kept, and what was wrong with it.
pub(super) struct Kept {
    pub(super) samples: Samples,
    pub(super) problem: Option<String>,
    pub(super) held: Held,
}

/// How they are written: times in milliseconds since boot, each with the busy ticks and all ticks.
#[derive(Serialize, Deserialize)]
struct Written {
    boot: String,
    samples: Vec<(u64, u64, u64)>,
}

impl Samples {
    pub(super) fn path(state: &Path, job: &JobName, over: HumanDuration) -> PathBuf {
        state.join(FOLDER).join(format!("{job}.cpu-{over}.json"))
    }

    /// Takes the lock and reads what was kept. Blocks for a moment.
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub(super) fn begin(path: &Path) -> Result<Kept, String> {
        let folder = path.parent().unwrap_or(path);
        let held = lock(folder).map_err(|error| {
            format!("{}: {error}: the next run will have nothing to compare with", folder.display())
        })?;
        let boot = procfs::boot_id();
        let (samples, problem) = match read::<Written>(path) {
            Ok(Some(written)) if written.boot == boot => (of_written(&written), None),
            Ok(_) => (vec![], None),
            Err(error) => (vec![], Some(format!("{}: {error}: begun anew", path.display()))),
        };
        Ok(Kept { samples: Self { boot, samples }, problem, held })
    }

    /// The one that is nearest to `over` ago, and at least `shortest` old.
    pub(super) fn nearest(&self, now: Duration, over: Duration, shortest: Duration) -> Option<Sample> {
        let old_enough = self.samples.iter().filter(|sample| sample.at + shortest <= now);
        old_enough.min_by_key(|sample| (now - sample.at).abs_diff(over)).copied()
    }

    /// Whether anything changed. Of those older than `over` the newest one stays: until the next is that old, it is
    /// the nearest.
    pub(super) fn add(&mut self, sample: Sample, over: Duration) -> bool {
        let known = self.samples.len();
        // From the future: the file of another machine that was copied while it ran, with its boot's id.
        self.samples.retain(|one| one.at <= sample.at);
        let apart = over / PARTS;
        if known == self.samples.len() && self.samples.last().is_some_and(|last| last.at + apart > sample.at)
        {
            return false;
        }
        let old = self.samples.iter().rposition(|one| one.at + over <= sample.at).unwrap_or(0);
        self.samples.drain(..old);
        self.samples.push(sample);
        true
    }

    /// Replaces the file as a whole.
    ///
    /// # Errors
    /// Where that fails, as on a full disk: the old one stays.
    pub(super) fn write(&self, path: &Path, held: &Held) -> Result<(), String> {
        let samples = self.samples.iter().map(|sample| {
            let milliseconds = u64::try_from(sample.at.as_millis()).unwrap_or(u64::MAX);
            (milliseconds, sample.times.busy, sample.times.total)
        });
        let written = Written { boot: self.boot.clone(), samples: samples.collect() };
        replace(path, &written, held)
            .map_err(|error| format!("{}: {error}: this run's sample is not kept", path.display()))
    }
}

fn of_written(written: &Written) -> Vec<Sample> {
    let sample = |&(at, busy, total): &(u64, u64, u64)| Sample {
        at: Duration::from_millis(at),
        times: CpuTimes { busy, total },
    };
    let mut samples: Vec<Sample> = written.samples.iter().map(sample).collect();
    samples.sort_by_key(|sample| sample.at);
    samples
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OVER: Duration = Duration::from_secs(300);

    fn sample(seconds: u64) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            times: CpuTimes { busy: seconds * 10, total: seconds * 200 },
        }
    }

    fn seconds(samples: &Samples) -> Vec<u64> {
        samples.samples.iter().map(|sample| sample.at.as_secs()).collect()
    }

    fn none() -> Samples {
        Samples { boot: procfs::boot_id(), samples: vec![] }
    }

    #[test]
    fn a_run_compares_with_the_sample_nearest_to_the_time_asked_for() {
        let check = |kept: &[u64], now: u64, expected: Option<u64>| {
            let samples = Samples { samples: kept.iter().map(|at| sample(*at)).collect(), ..none() };
            let nearest = samples.nearest(Duration::from_secs(now), OVER, Duration::from_secs(1));
            assert_eq!(nearest.map(|sample| sample.at.as_secs()), expected, "{kept:?} at {now}");
        };
        check(&[], 1000, None);
        check(&[1000], 1000, None);
        check(&[999], 1000, Some(999));
        check(&[600, 900, 1200], 1500, Some(1200));
        check(&[600, 900, 1200], 1300, Some(900));
        // A daemon that was down for hours: the last sample it left.
        check(&[600, 900], 20000, Some(900));
        check(&[2000], 1000, None);
    }

    #[test]
    fn few_samples_are_kept_however_often_a_job_runs() {
        let mut samples = none();
        for second in 1000..2000 {
            samples.add(sample(second), OVER);
        }
        let kept = seconds(&samples);
        assert_eq!((kept.len(), kept.first(), kept.last()), (61, Some(&1695), Some(&1995)));
        assert!(!samples.add(sample(1999), OVER));
        // Each five minutes, give or take: the one before stays until the next has taken its place.
        let mut samples = none();
        for at in [1000, 1301, 1600, 1900] {
            assert!(samples.add(sample(at), OVER));
        }
        assert_eq!(seconds(&samples), [1600, 1900]);
        // From the future: they would be the nearest for ever.
        assert!(samples.add(sample(1700), OVER));
        assert_eq!(seconds(&samples), [1600, 1700]);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_or_of_another_boot_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = Samples::path(folder.path(), &JobName::new("monitoring").unwrap(), HumanDuration(OVER));
        assert_eq!(path, folder.path().join("health_check/monitoring.cpu-5m.json"));
        let begin = || Samples::begin(&path).map(|kept| (seconds(&kept.samples), kept.problem)).unwrap();
        assert_eq!(begin(), (vec![], None));

        let mut kept = Samples::begin(&path).unwrap();
        kept.samples.add(sample(1000), OVER);
        kept.samples.add(sample(1300), OVER);
        kept.samples.write(&path, &kept.held).unwrap();
        drop(kept);
        assert_eq!(begin(), (vec![1000, 1300], None));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&procfs::boot_id(), "another-boot")).unwrap();
        assert_eq!(begin(), (vec![], None));
        for damaged in ["", &text[..text.len() / 2], "[]", "\0\0\0"] {
            fs::write(&path, damaged).unwrap();
            let (samples, problem) = begin();
            assert!(samples.is_empty(), "{damaged:?}");
            let problem = problem.unwrap();
            assert!(problem.starts_with(&format!("{}: ", path.display())), "{problem}");
            assert!(problem.ends_with(": begun anew"), "{problem}");
        }
    }

    #[test]
    fn who_holds_the_lock_for_long_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health_check/monitoring.cpu-5m.json");
        let held = Samples::begin(&path).unwrap();
        let refused = Samples::begin(&path).err().unwrap();
        assert!(refused.contains("another process has held its lock for 200ms"), "{refused}");
        drop(held);
        assert!(Samples::begin(&path).is_ok());
    }
}
