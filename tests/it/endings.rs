//! How a run ends when its end and that of its daemon meet.

use jiff::Timestamp;
use punk_eco_sched::clock::{Clock, SystemClock};
use rustix::process::{Pid, Signal, kill_process};

use crate::orphans::{kill, spawners};
use crate::support::daemon::{Host, wait_until};

/// Ends with 0, and leaves behind what holds its output open and ignores TERM until there is a file `go`.
fn leaves_something(host: &Host) -> String {
    format!(
        "  leaves:\n    interrupted: rerun\n    command:\n      shell: |\n        cd {}\n        \
         (trap '' TERM; touch left; while [ ! -e go ]; do sleep 0.05; done) &\n        \
         while [ ! -e left ]; do sleep 0.05; done\n        echo $$ > pid\n        echo done\n",
        host.dir.path().display()
    )
}

/// Notes TERM in `termed` and ends with 0 when there is a file `go`.
fn slow_to_end(host: &Host, policy: &str) -> String {
    format!(
        "  slow:\n    {policy}\n    command:\n      shell: |\n        cd {}\n        trap 'touch termed' TERM\n        \
         echo begun\n        while [ ! -e go ]; do sleep 0.05; done\n",
        host.dir.path().display()
    )
}

fn begin_and_see_it_end(host: &Host) {
    assert!(host.cli(&["run-now", "leaves", "--detach"]).status.success());
    wait_until("the shell has ended", || {
        let pid = std::fs::read_to_string(host.path("pid")).unwrap_or_default();
        pid.trim().parse::<u32>().is_ok_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    });
}

#[test]
fn what_was_done_before_it_was_cancelled_is_not_done_again() {
    let host = Host::new("");
    host.write_jobs(&leaves_something(&host));
    let mut daemon = host.daemon();
    begin_and_see_it_end(&host);
    assert_eq!(host.history("leaves")[0]["outcome"], "running");
    // Twice: no grace.
    daemon.signal(Signal::INT);
    daemon.signal(Signal::INT);
    wait_until("the daemon ends what is left", || host.daemon_log().contains("stopping"));
    std::fs::write(host.path("go"), "").unwrap();
    assert!(daemon.wait().success());
    let row = &host.history("leaves")[0];
    assert_eq!(
        (&row["outcome"], row["attempts"].as_array().unwrap().len()),
        (&"succeeded".into(), 1),
        "{row:#}"
    );
    let daemon = host.daemon();
    assert_eq!(host.history("leaves")[0]["outcome"], "succeeded");
    assert_eq!(host.log("leaves").matches("done").count(), 1);
    assert!(daemon.stop().success());
}

#[test]
fn what_was_done_before_the_daemon_stopped_is_told_by_the_next() {
    let host = Host::new("");
    host.write_jobs(&leaves_something(&host));
    let daemon = host.daemon();
    begin_and_see_it_end(&host);
    assert!(daemon.stop().success());
    let daemon = host.daemon();
    std::fs::write(host.path("go"), "").unwrap();
    let row = host.wait_for("leaves", "ends", |row| row["outcome"] != "running");
    assert_eq!(
        (&row["outcome"], row["attempts"].as_array().unwrap().len()),
        (&"succeeded".into(), 1),
        "{row:#}"
    );
    assert!(daemon.stop().success());
}

#[test]
fn a_daemon_killed_while_it_ends_a_run_takes_no_reason_with_it() {
    let check = |policy: &str, cancel: bool, outcome: &str, error: &str| {
        let host = Host::new("");
        host.write_jobs(&slow_to_end(&host, policy));
        let daemon = host.daemon();
        assert!(host.cli(&["run-now", "slow", "--detach"]).status.success());
        wait_until("it has begun", || host.log("slow").contains("begun"));
        if cancel {
            let run = host.history("slow")[0]["run"].to_string();
            assert!(host.cli(&["cancel", &run]).status.success());
        }
        wait_until("it is being ended", || host.path("termed").exists());
        daemon.kill();
        let daemon = host.daemon();
        std::fs::write(host.path("go"), "").unwrap();
        let row = host.wait_for("slow", "ends", |row| row["outcome"] != "running");
        assert_eq!(
            (&row["outcome"], &row["attempts"][0]["error"]),
            (&outcome.into(), &error.into()),
            "{row:#}"
        );
        assert!(daemon.stop().success());
    };
    check("timeout: 3s", false, "timed_out", "not done after 3s: ended by its timeout");
    check("timeout: 1h", true, "cancelled", "cancelled");
}

/// Whose command says so.
fn programs(host: &Host, command: &str) -> Vec<i32> {
    let found = host.processes().into_iter().filter(|(_, said)| said.contains(command));
    found.map(|(pid, _)| pid.cast_signed()).collect()
}

#[test]
fn a_cancel_that_was_accepted_is_carried_out_by_the_next_daemon() {
    for ends_meanwhile in [false, true] {
        let host = Host::new("");
        host.write_jobs(&format!(
            "  endless:\n    interrupted: rerun\n    command: {{ shell: 'echo begun >>{}/starts; while :; do sleep 0.05; done' }}\n",
            host.dir.path().display()
        ));
        let daemon = host.daemon();
        assert!(host.cli(&["run-now", "endless", "--detach"]).status.success());
        wait_until("it has begun", || host.path("starts").exists());
        let [spawner] = spawners(&host)[..] else { panic!("one spawner: {:?}", spawners(&host)) };
        // Nobody hears of it but the daemon.
        kill_process(Pid::from_raw(spawner).unwrap(), Signal::STOP).unwrap();
        let run = host.history("endless")[0]["run"].to_string();
        assert!(host.cli(&["cancel", &run]).status.success());
        daemon.kill();
        kill(spawner);
        if ends_meanwhile {
            programs(&host, "echo begun").into_iter().for_each(kill);
        }
        let daemon = host.daemon();
        let row = host.wait_for_outcome("endless", "cancelled");
        assert_eq!(row["attempts"].as_array().unwrap().len(), 1, "{row:#}");
        assert_eq!(std::fs::read_to_string(host.path("starts")).unwrap(), "begun\n");
        assert_eq!(programs(&host, "echo begun"), [0; 0]);
        assert!(daemon.stop().success());
    }
}

#[test]
fn a_slot_that_came_due_after_the_end_of_an_adopted_run_does_not_overlap_it() {
    let host = Host::new("");
    host.write_jobs(&format!(
        "  tick:\n    schedule: '* * * * * *'\n    command: {{ shell: 'cd {}; while [ ! -e go ]; do sleep 0.05; done' }}\n",
        host.dir.path().display()
    ));
    let daemon = host.daemon();
    wait_until("it runs", || programs(&host, "! -e go").len() == 1);
    daemon.kill();
    std::fs::write(host.path("go"), "").unwrap();
    wait_until("it has ended", || programs(&host, "! -e go").is_empty());
    let now = || SystemClock.now();
    let ended = now();
    wait_until("slots pass", || now().duration_since(ended).as_secs() >= 3);
    let daemon = host.daemon();
    let mut later = vec![];
    wait_until("a slot is taken", || {
        let slot = |row: &serde_json::Value| row["slot"].as_str().unwrap().parse::<Timestamp>().unwrap();
        later = host.history("tick");
        later.retain(|row| slot(row) > ended && row["reason"] != "coalesced");
        !later.is_empty()
    });
    let first = later.last().unwrap();
    assert_eq!(first["trigger"], "catch_up", "{later:#?}");
    assert_ne!(first["reason"], "overlap", "{first:#}");
    assert!(daemon.stop().success());
}
