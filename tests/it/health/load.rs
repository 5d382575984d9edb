//! Processor time, memory and load, and the samples that are kept from run to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use punk_eco_sched::host::procfs;
use serde_json::{Value, json};

use super::{number, one, run, said};
use crate::support::job::{Bench, SmallDisk};

/// Threads that keep every core busy until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn loops(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let stop = stop.clone();
            std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_loops_on_all_cores_are_measured() {
    let bench = Bench::new().await;
    let _busy = Busy::loops(std::thread::available_parallelism().unwrap().get());
    let begun = Instant::now();
    loop {
        let result = one(&bench, json!({"cpu": {"below": "80%", "over": "2s"}})).await;
        if result["state"] == "failing" && result["value"].as_f64().unwrap() > 95.0 {
            assert_eq!(result["name"], "cpu busy over 2s");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_is_measured_as_vmstat_measures_it_under_a_known_load() {
    let bench = Bench::new().await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let check = json!({"cpu": {"below": "100%", "over": "5s"}});
    let _busy = Busy::loops(1);
    // Leaves the sample that the second look compares with.
    one(&bench, check.clone()).await;
    let vmstat = said("vmstat", &["5", "2"]);
    let result = one(&bench, check).await;
    // r b swpd free buff cache si so bi bo in cs us sy id wa st; the first line of numbers is since boot.
    let columns: Vec<f64> = vmstat.lines().nth(3).unwrap().split_whitespace().map(number).collect();
    let busy = 100.0 - columns[14] - columns[15];
    let measured = result["value"].as_f64().unwrap();
    let text = result["message"].as_str().unwrap();
    assert!(
        text.ends_with(" % busy over 5s, asked for: below 100 %") || text.contains(" % busy over 6s"),
        "{text}"
    );
    // vmstat rounds to one point, and both begin and end some milliseconds apart.
    assert!((measured - busy).abs() < 5.0, "vmstat: {busy} %; {result}");
    #[expect(clippy::cast_precision_loss, reason = "a few cores")]
    let least = 100.0 / cores as f64 - 5.0;
    assert!(measured > least, "one of {cores} cores is busy: {result}");
}

/// The counters as `cpu` of /proc/stat has them: busy, all.
fn counters() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().next().unwrap();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|tick| tick.parse().unwrap()).collect();
    let all: u64 = ticks[..8].iter().sum();
    (all - ticks[3] - ticks[4], all)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_average_is_over_the_time_since_the_sample_that_an_earlier_run_left() {
    let bench = Bench::new().await;
    let check = json!({"cpu": {"below": "80%", "over": "5m"}});
    let first = one(&bench, check.clone()).await;
    let text = first["message"].as_str().unwrap();
    assert!(text.ends_with("s, asked for: below 80 % over 5m"), "{text}");
    let file = bench.path("state-of-nobody");
    assert!(!file.exists());
    let file = bench.path("health_check/db-backup.cpu-5m.json");
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["boot"], procfs::boot_id());
    assert_eq!(written["samples"].as_array().unwrap().len(), 1);

    // Had the machine idled for as many ticks as a sample of five minutes ago says:
    let at = written["samples"][0][0].as_u64().unwrap();
    let (busy, all) = counters();
    let keep = |samples: Value| {
        let text = json!({"boot": procfs::boot_id(), "samples": samples}).to_string();
        std::fs::write(&file, text).unwrap();
    };
    keep(json!([[at - 900_000, 0, 0], [at - 300_000, busy, all - 1_000_000], [at - 2000, 0, 1]]));
    let idle = one(&bench, check.clone()).await;
    assert_eq!(idle["state"], "ok", "{idle}");
    assert!(idle["value"].as_f64().unwrap() < 5.0, "{idle}");
    let text = idle["message"].as_str().unwrap();
    assert!(text.contains(" % busy over 5m") && text.ends_with(", asked for: below 80 %"), "{text}");

    // And had it been busy.
    keep(json!([[at - 300_000, busy - 1_000_000.min(busy), all - 1_000_000.min(busy)]]));
    let (fine, report, _) = run(&bench, json!([check, {"cpu": {"over": "10m"}}])).await;
    assert!(!fine);
    assert!(report.facts["results"][0]["value"].as_f64().unwrap() > 80.0, "{:?}", report.facts);
    // The other time has its own samples: none yet.
    let other = report.facts["results"][1]["message"].as_str().unwrap();
    assert!(other.contains(" % busy over 1s, ") || other.contains(" % busy over 2s, "), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_sample_file_and_a_full_disk_are_noted_and_measured_without() {
    let mut bench = Bench::new().await;
    let folder = bench.path("health_check");
    let Some(_disk) = SmallDisk::mount(&folder, "64k") else { return };
    let file = folder.join("db-backup.cpu-5m.json");
    std::fs::write(&file, "{\"boot\": ").unwrap();
    let check = json!([{"cpu": {"below": "100%"}}]);
    let (_, report, log) = run(&bench, check.clone()).await;
    assert!(report.facts["results"][0]["value"].is_f64());
    let problem = format!("samples of processor time: {}: EOF while parsing", file.display());
    assert!(log.starts_with(&problem) && log.contains(": begun anew\n"), "{log}");

    std::fs::remove_file(&file).unwrap();
    let _ = std::fs::write(folder.join("fills-it"), vec![1; 1 << 20]);
    let (_, report, log) = run(&bench, check.clone()).await;
    assert!(report.facts["results"][0]["value"].is_f64());
    let full = "No space left on device (os error 28): this run's sample is not kept\n";
    assert!(log.contains(full), "{log}");
    assert_eq!(crate::support::job::names(&folder), ["fills-it"]);

    std::fs::remove_file(folder.join("fills-it")).unwrap();
    bench.dry_run = true;
    run(&bench, check).await;
    assert_eq!(crate::support::job::names(&folder), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_measured_as_free_measures_it() {
    let bench = Bench::new().await;
    let free = said("free", &["--bytes"]);
    let columns: Vec<&str> = free.lines().nth(1).unwrap().split_whitespace().collect();
    let used = (1.0 - number(columns[6]) / number(columns[1])) * 100.0;
    let result = one(&bench, json!({"memory": {"below": "100%"}})).await;
    assert_eq!(result["state"], "ok", "{result}");
    let measured = result["value"].as_f64().unwrap();
    // Others come and go between the two.
    assert!((measured - used).abs() < 10.0, "free: {used} %; {result}");
    let (fine, report, _) = run(&bench, json!([{"memory": {"below": "0.1%"}}])).await;
    assert!(!fine, "{}", report.summary);
    let text = &report.findings[0].message;
    assert!(text.starts_with("memory in use: ") && text.ends_with("asked for: below 0.1 %"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_the_kernels_five_minute_average_for_each_core() {
    let bench = Bench::new().await;
    let cores = number(&said("nproc", &["--all"]));
    let average = || {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap();
        number(text.split(' ').nth(1).unwrap()) / cores
    };
    let before = average();
    let result = one(&bench, json!({"load": {"per_core_below": 1_000_000.0}})).await;
    assert_eq!(result["state"], "ok");
    let (low, high) = (before.min(average()) - 0.001, before.max(average()) + 0.001);
    assert!((low..=high).contains(&result["value"].as_f64().unwrap()), "{low}…{high}: {result}");
    // Whatever runs here, a machine that builds and tests has some.
    let _busy = Busy::loops(1);
    let begun = Instant::now();
    while one(&bench, json!({"load": {"per_core_below": 0.001}})).await["state"] != "failing" {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
