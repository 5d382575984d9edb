//! The checks of the host: each fails and passes against the machine's own disks, cores, memory and programs.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use punk_eco_sched::host::procfs;
use punk_eco_sched::jobs::health_check::HealthCheck;
use punk_eco_sched::jobs::{Job, JobError};
use punk_eco_sched::logs::RunLog;
use punk_eco_sched::model::Report;
use serde_json::{Value, json};

use crate::support::job::{Bench, SmallDisk};
use crate::support::missing::skipped;

fn job(checks: &Value) -> HealthCheck {
    serde_json::from_value(json!({ "checks": checks })).unwrap()
}

/// Whether the run succeeds, its report, and what it logged.
async fn run(bench: &Bench, checks: Value) -> (bool, Report, String) {
    let job = job(&checks);
    let mut ctx = bench.context();
    ctx.log = RunLog::memory();
    let result = job.run(&ctx).await;
    ctx.programs.end_all(Duration::from_secs(2)).await;
    let log: Vec<String> = ctx.log.lines().into_iter().map(|line| line.text).collect();
    match result {
        Ok(report) => (true, report, log.join("\n")),
        Err(JobError::Found(report)) => (false, *report, log.join("\n")),
        Err(other) => panic!("{other}"),
    }
}

/// The result of the one check.
async fn one(bench: &Bench, check: Value) -> Value {
    let (_, report, _) = run(bench, json!([check])).await;
    report.facts["results"][0].clone()
}

fn said(program: &str, arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "what the check is compared with")]
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number(text: &str) -> f64 {
    text.trim().trim_end_matches('%').parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_measured_as_df_measures_it() {
    let bench = Bench::new().await;
    let used = said("df", &["--output=pcent", "/"]);
    let used = number(used.lines().last().unwrap());
    let result = one(&bench, json!({"disk": {"path": "/", "free": "0%", "inodes_free": "0%"}})).await;
    assert_eq!((&result["state"], &result["threshold"]), (&json!("ok"), &json!(0.0)));
    // df rounds up; others write to this disk meanwhile.
    let free = result["value"].as_f64().unwrap();
    assert!((100.0 - used - 0.5..=100.0 - used + 1.5).contains(&free), "df: {used} % used; {result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_fails_when_its_bytes_run_out_and_when_its_inodes_do() {
    let bench = Bench::new().await;
    let path = bench.path("disk");
    let Some(_disk) = SmallDisk::mount_with(&path, "size=8m,nr_inodes=100") else { return };
    let check = json!({"disk": {"path": path, "free": "20%", "inodes_free": "10%"}});
    let result = one(&bench, check.clone()).await;
    assert_eq!(result["state"], "ok", "{result}");
    assert_eq!(result["message"], "100 % free of 8.0 MiB (8.0 MiB), asked for: 20 %");

    std::fs::write(path.join("big"), vec![1; 7 << 20]).unwrap();
    let (fine, report, log) = run(&bench, json!([check])).await;
    assert!(!fine);
    let text = "12.5 % free of 8.0 MiB (1.0 MiB), asked for: 20 %";
    assert_eq!(report.findings[0].message, format!("disk {}: {text}", path.display()));
    assert_eq!(report.facts["results"][0]["value"], 12.5);
    assert_eq!(log, format!("failing disk {}: {text}", path.display()));

    std::fs::remove_file(path.join("big")).unwrap();
    for file in 0..90 {
        std::fs::write(path.join(file.to_string()), "").unwrap();
    }
    let result = one(&bench, check).await;
    // The folder itself has one.
    assert_eq!(result["message"], "9 % of 100 inodes free (9), asked for: 10 %", "{result}");
    assert_eq!((&result["value"], &result["threshold"]), (&json!(9.0), &json!(10.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_there_fails_and_preflight_says_so() {
    let bench = Bench::new().await;
    let checks = json!([{"disk": {"path": "/no-such-mount"}}]);
    let (fine, report, _) = run(&bench, checks.clone()).await;
    assert!(!fine);
    let text = "/no-such-mount: no such file or folder: is it mounted?";
    assert_eq!(report.findings[0].message, format!("disk /no-such-mount: {text}"));
    let lacks = job(&checks).preflight(&bench.host()).await;
    assert_eq!((lacks.len(), lacks[0].message.as_str()), (1, format!("disk {text}").as_str()));
}

/// A file system whose server never answers: FUSE without anybody at the other end.
struct DeadMount {
    at: std::path::PathBuf,
    server: Option<std::fs::File>,
}

impl DeadMount {
    fn new(at: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd;

        std::fs::create_dir_all(at).unwrap();
        let open = std::fs::File::options().read(true).write(true).open("/dev/fuse");
        let server = match open {
            Ok(server) => server,
            Err(error) => {
                skipped(&format!("/dev/fuse: {error}"));
                return None;
            }
        };
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let data = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        if let Err(error) = rustix::mount::mount("dead", at, "fuse", flags, Some(data.as_c_str())) {
            skipped(&format!("no file system of FUSE can be mounted: {error}"));
            return None;
        }
        Some(Self { at: at.to_owned(), server: Some(server) })
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        // Whoever waits for the server is told that it is gone.
        self.server.take();
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_servers_mount_holds_nobody_up_and_costs_one_thread() {
    let bench = Bench::new().await;
    let path = bench.path("dead");
    let Some(dead) = DeadMount::new(&path) else { return };
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default());
        names.filter(|name| name == "statvfs\n").count()
    };
    let begun = Instant::now();
    let first = json!({"disk": {"path": path, "name": "a"}});
    let (fine, report, _) =
        run(&bench, json!([first, {"disk": {"path": path, "name": "b"}}, {"disk": {"path": "/", "free": "0%", "inodes_free": "0%"}}])).await;
    assert!(!fine && begun.elapsed() < Duration::from_secs(30));
    let text = format!(
        "{0}: the file system doesn't answer within 5s: is it a mount of a server that is gone? (`findmnt -T {0}`)",
        path.display()
    );
    let messages: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, [format!("a: {text}"), format!("b: {text}")]);
    assert_eq!(report.facts["results"][2]["state"], "ok");
    assert_eq!(threads(), 1);
    drop(dead);
    crate::support::daemon::wait_until("the thread has ended", || threads() == 0);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_by_its_exit_code_whether_all_is_well() {
    let bench = Bench::new().await;
    let check = async |run: &[&str], state: &str, text: &str| {
        let result = one(&bench, json!({"command": {"run": run, "name": "x"}})).await;
        assert_eq!((&result["state"], &result["message"]), (&json!(state), &json!(text)), "{run:?}");
    };
    check(&["true"], "ok", "exit code 0").await;
    check(&["false"], "failing", "exit code 1").await;
    check(&["sh", "-c", "echo out; echo why >&2; exit 3"], "failing", "exit code 3: why").await;
    // More than a pipe holds, so that somebody must read along.
    let much = "seq 100000; echo CRITICAL: 7 waiting; exit 2";
    check(&["sh", "-c", much], "failing", "exit code 2: 99999 / 100000 / CRITICAL: 7 waiting").await;
    check(&["sh", "-c", "kill -9 $$"], "failing", "ended by signal 9 (SIGKILL)").await;
    check(&["/no/such"], "failing", "/no/such: no such file").await;
    check(
        &["sh", "-c", "test \"$PUNK_ECO_JOB\" = db-backup && test \"$HOME\" = \"$PWD\""],
        "ok",
        "exit code 0",
    )
    .await;
    // A dry run is told what it would run: a program may change something.
    let file = bench.path("made");
    let mut dry = Bench::new().await;
    dry.dry_run = true;
    let checks = json!([{"command": {"run": ["touch", &file], "name": "x"}}]);
    let (fine, report, _) = run(&dry, checks).await;
    let text = format!("would run touch {}", file.display());
    assert_eq!((fine, &report.facts["results"][0]["message"]), (true, &json!(text)));
    assert!(!file.exists());

    let checks = json!([{"command": {"run": ["/no/such"]}}]);
    let lacks = job(&checks).preflight(&bench.host()).await;
    assert_eq!(lacks[0].message, "/no/such: no such file");
}

fn is_there(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|stat| !stat.is_zombie())
}

fn pid_in(file: &Path) -> i32 {
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_time_is_up_is_ended_with_its_children_and_nobody_elses() {
    let bench = Bench::new().await;
    let dir = bench.folder.path().display().to_string();
    // The one waits for the other's end, so that it must have been left alone.
    let stubborn = format!(
        "trap '' TERM; (trap '' TERM; echo $BASHPID > {dir}/child; sleep 600) & echo $$ > {dir}/parent; echo asking; wait"
    );
    let other = format!(
        "while [ ! -s {dir}/child ] || [ -d /proc/$(cat {dir}/child) ]; do sleep 0.05; done; echo alive >&2; exit 4"
    );
    let begun = Instant::now();
    let (fine, report, _) = run(
        &bench,
        json!([
            {"command": {"run": ["bash", "-c", stubborn], "timeout": "1s", "name": "stubborn"}},
            {"command": {"run": ["sh", "-c", other], "name": "other"}},
        ]),
    )
    .await;
    assert!(!fine);
    let messages: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        ["stubborn: not done after 1s: ended by its timeout: asking", "other: exit code 4: alive"]
    );
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    for file in ["child", "parent"] {
        assert!(!is_there(pid_in(&bench.path(file))), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_a_command_leaves_behind_holds_nothing_up_and_ends_with_the_run() {
    let bench = Bench::new().await;
    let file = bench.path("child");
    let leave = format!("sleep 600 & echo $! > {}; echo gone >&2; exit 1", file.display());
    let checks = json!([{"command": {"run": ["sh", "-c", leave], "name": "x"}}]);
    let ctx = bench.context();
    let begun = Instant::now();
    let Err(JobError::Found(report)) = job(&checks).run(&ctx).await else { panic!() };
    assert_eq!(report.findings[0].message, "x: exit code 1: gone");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let child = pid_in(&file);
    assert!(is_there(child));
    let swept = ctx.programs.end_all(Duration::from_secs(2)).await;
    let findings: Vec<String> = swept.findings().into_iter().map(|finding| finding.message).collect();
    assert_eq!(findings, [format!("left behind and ended: sleep ({child})")]);
    assert!(!is_there(child));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_systemd_does_not_run_a_service_is_unknown() {
    // Then `systemd::the_service_check_tells_units_that_run_from_those_that_do_not` has it on a host of its own.
    if Path::new("/run/systemd/system").is_dir() {
        let _ = writeln!(std::io::stderr(), "nothing to see: systemd runs here");
        return;
    }
    let bench = Bench::new().await;
    let checks = json!([{"service": {"unit": "nginx"}}]);
    let (fine, report, log) = run(&bench, checks.clone()).await;
    assert!(!fine);
    let absent = "systemd doesn't run here (/run/systemd/system is absent)";
    let text = format!("service nginx.service: {absent}: nothing can be said of nginx.service");
    assert_eq!(report.findings[0].message, text);
    assert_eq!(log, format!("unknown {text}"));
    let lacks = job(&checks).preflight(&bench.host()).await;
    assert_eq!(lacks[0].message, format!("service nginx.service: {absent}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_says_which_checks_had_no_result() {
    let bench = Bench::new().await;
    let ctx = bench.context();
    let begun = bench.path("begun");
    let wait = format!("touch {}; sleep 600", begun.display());
    let checks = job(&json!([
        {"command": {"run": ["sh", "-c", wait], "timeout": "10m", "name": "slow"}},
        {"memory": {"below": "100%"}},
    ]));
    let cancel = bench.cancel.clone();
    let stop = tokio::spawn(async move {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    });
    let Err(error) = checks.run(&ctx).await else { panic!() };
    stop.await.unwrap();
    assert_eq!(error.to_string(), "stopped before these had a result: slow");
    let log: Vec<String> = ctx.log.lines().into_iter().map(|line| line.text).collect();
    assert!(log[0].starts_with("ok      memory in use: "), "{log:?}");
    assert_eq!(log[1], "stopped before these had a result: slow");
    ctx.programs.end_all(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_checks_of_one_job_each_have_their_result() {
    let bench = Bench::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection)
        }
    });
    let check = |at: usize| match at % 2 {
        0 => {
            json!({"tcp": {"address": format!("127.0.0.1:{port}"), "name": format!("server {at}"), "timeout": "60s"}})
        }
        _ => json!({"disk": {"path": "/", "free": "0%", "inodes_free": "0%", "name": format!("disk {at}")}}),
    };
    let (fine, report, log) = run(&bench, (0..1000).map(check).collect()).await;
    assert!(fine, "{}", report.summary);
    assert_eq!(report.summary, "all 1000 checks are fine");
    let results = report.facts["results"].as_array().unwrap();
    let names: Vec<&str> = results.iter().map(|result| result["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0], names[999]), (1000, "server 0", "disk 999"));
    assert_eq!(log.lines().count(), 1000);
}
