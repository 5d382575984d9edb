//! Disks: what is free of them, and those that don't answer.

use std::path::Path;
use std::time::{Duration, Instant};

use punk_eco_sched::jobs::Job;
use serde_json::json;

use super::{job, number, one, run, said};
use crate::support::job::{Bench, SmallDisk};
use crate::support::missing::skipped;

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
