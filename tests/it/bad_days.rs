//! Faults while the program runs: killed processes, full disks, few descriptors, many at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{Host, text, wait_until};
use crate::support::job::{SmallDisk, names};

/// A job that says `begun` and waits for the file `go`.
fn gated(host: &Host, policies: &str) -> String {
    let dir = host.dir.path().display();
    format!(
        "  gated:\n{policies}    command: {{ shell: 'echo begun >> {dir}/begun; while [ ! -e {dir}/go ]; do sleep 0.05; done' }}\n"
    )
}

fn begun(host: &Host) -> usize {
    std::fs::read_to_string(host.path("begun")).unwrap_or_default().lines().count()
}

fn spawners(host: &Host) -> Vec<u32> {
    let all = host.processes().into_iter();
    all.filter(|(_, command)| command.contains(" __spawner ")).map(|(pid, _)| pid).collect()
}

fn sockets(host: &Host) -> Vec<String> {
    names(host.dir.path()).into_iter().filter(|name| name.contains(".sock")).collect()
}

/// The state letters of a process's children (proc_pid_stat(5)).
fn children(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let listed: String =
        tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default()).collect();
    let stat = |child: &str| std::fs::read_to_string(format!("/proc/{child}/stat")).ok();
    let state = |stat: String| stat.rsplit(") ").next().unwrap_or_default()[..1].to_owned();
    listed.split_whitespace().filter_map(stat).map(state).collect()
}

#[test]
fn a_killed_spawner_is_told_and_replaced_while_its_command_goes_on_and_nothing_is_left() {
    let host = Host::new("");
    host.write_jobs(&format!("{}  tick:\n    command: {{ run: ['true'] }}\n", gated(&host, "")));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("the job has begun", || begun(&host) == 1);
    let old = spawners(&host);
    let [killed] = old[..] else { panic!("{old:?}") };
    kill_process(Pid::from_raw(killed.cast_signed()).unwrap(), Signal::KILL).unwrap();
    wait_until("another spawner", || matches!(spawners(&host)[..], [new] if new != killed));
    wait_until("no zombie", || !children(daemon.pid()).contains(&"Z".to_owned()));
    assert!(
        host.daemon_log().contains(&format!("the spawner (pid {killed}) has died")),
        "{}",
        host.daemon_log()
    );
    assert!(host.cli(&["run-now", "tick"]).status.success());
    assert_eq!(host.history("gated")[0]["outcome"], "running");
    std::fs::write(host.path("go"), "").unwrap();
    host.wait_for_outcome("gated", "interrupted");
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
    assert_eq!(sockets(&host), Vec::<String>::new());
}

#[test]
fn more_programs_run_at_once_than_the_limit_of_open_files_suggests() {
    const MANY: usize = 60;
    let host = Host::new("");
    host.write_jobs(&gated(&host, "    overlap: allow\n"));
    // Two pipes each.
    let daemon = host.spawn_daemon_under(&["sh", "-c", "ulimit -S -n 64; exec \"$@\"", "sh"]);
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    for _ in 0..MANY {
        assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    }
    wait_until("all have begun", || begun(&host) == MANY);
    std::fs::write(host.path("go"), "").unwrap();
    wait_until("all have ended", || host.history("gated").iter().all(|row| row["outcome"] != "running"));
    let rows = host.json(&["history", "gated", "-n", "100", "--json"]);
    let failed: Vec<_> =
        rows.as_array().unwrap().iter().filter(|row| row["outcome"] != "succeeded").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(daemon.stop().success());
}

#[test]
fn of_many_run_nows_without_a_daemon_one_runs_and_none_leaves_a_spawner() {
    let host = Host::new("");
    host.write_jobs(&gated(&host, ""));
    let spawn = |_| {
        let mut command = host.command(&["run-now", "gated"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut clients: Vec<_> = (0..6).map(spawn).collect();
    let mut codes = BTreeMap::new();
    wait_until("all but one are refused", || {
        for (index, client) in clients.iter_mut().enumerate() {
            if let Some(status) = client.try_wait().unwrap() {
                codes.insert(index, status.code());
            }
        }
        codes.len() == 5
    });
    assert_eq!(codes.values().collect::<BTreeSet<_>>(), BTreeSet::from([&Some(4)]));
    assert_eq!(begun(&host), 1);
    std::fs::write(host.path("go"), "").unwrap();
    for client in &mut clients {
        client.wait().unwrap();
    }
    assert_eq!(host.history("gated").len(), 1);
    wait_until("nothing is left", || host.processes().is_empty());
    assert_eq!(sockets(&host), Vec::<String>::new());
}

#[test]
fn a_full_disk_under_the_state_stops_no_job_and_its_rows_come_when_there_is_room() {
    let host = Host::new("  tick:\n    command: { run: ['true'] }\n");
    let Some(_disk) = SmallDisk::mount(&host.path("state"), "1M") else { return };
    let fill = || {
        let mut file = std::fs::File::create(host.path("state/fill")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    };
    fill();
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "tick"]).status.success());
    let status = text(&host.cli(&["status"]).stdout);
    assert!(status.contains("the disk is full") && status.contains("wait in memory"), "{status}");
    assert_eq!(host.history("tick").len(), 0);
    std::fs::remove_file(host.path("state/fill")).unwrap();
    host.wait_for_outcome("tick", "succeeded");
    wait_until("it is said", || host.daemon_log().contains("the ledger can be written again"));
    assert!(daemon.stop().success());
    fill();
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "tick"]).status.success());
    assert!(daemon.stop().success());
    assert!(host.daemon_log().contains("and are lost with the end of this process"), "{}", host.daemon_log());
}

#[test]
fn what_is_forked_while_a_run_is_swept_is_told_to_end_too() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    let late =
        format!("trap \"echo told > {dir}/told; exit\" TERM; : > {dir}/late; while :; do sleep 0.05; done");
    std::fs::write(host.path("late.sh"), late).unwrap();
    let stray = format!(
        "trap \"setsid sh {dir}/late.sh & while [ ! -e {dir}/late ]; do sleep 0.01; done; exit\" TERM; : > {dir}/stray; while :; do sleep 0.05; done"
    );
    std::fs::write(host.path("stray.sh"), stray).unwrap();
    host.write_jobs(&format!(
        "  forking:\n    command: {{ shell: 'setsid sh {dir}/stray.sh & while [ ! -e {dir}/stray ]; do sleep 0.01; done' }}\n"
    ));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "forking"]).status.success());
    assert_eq!(std::fs::read_to_string(host.path("told")).unwrap_or_default(), "told\n");
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn a_daemon_killed_again_and_again_runs_no_slot_twice_and_leaves_none_out() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    let say =
        |what: &str| format!("echo $PUNK_ECO_JOB $PUNK_ECO_RUN $PUNK_ECO_SLOT {what} >> {dir}/evidence");
    let job = |name: &str, policies: &str, sleep: &str| {
        let (start, end) = (say("start"), say("end"));
        format!(
            "  {name}:\n    schedule: '* * * * * *'\n    missed: {policies}\n    command: {{ shell: '{start}; sleep {sleep}; {end}' }}\n"
        )
    };
    host.write_jobs(&(job("all", "run_all\n    overlap: allow", "0.3") + &job("one", "run_once", "0.1")));
    let evidence = || std::fs::read_to_string(host.path("evidence")).unwrap_or_default();
    let mut lines = 0;
    // Odd and even: in the middle of a run and between runs.
    for more in [1, 2, 1, 4, 3, 1, 2] {
        let daemon = host.spawn_daemon();
        lines += more;
        wait_until("something happens", || evidence().lines().count() >= lines);
        lines = evidence().lines().count();
        daemon.kill();
    }
    let daemon = host.daemon();
    let started = host.history("one").len();
    wait_until("slots are taken again", || host.history("one").len() > started + 1);
    host.write_jobs("  none:\n    command: { run: ['true'] }\n");
    assert!(host.cli(&["reload"]).status.success());
    wait_until("all has ended", || host.json(&["status", "--json"])["running"] == serde_json::json!([]));
    assert!(daemon.stop().success());

    let said: Vec<String> = evidence().lines().map(str::to_owned).collect();
    for name in ["all", "one"] {
        let rows = host.json(&["history", name, "-n", "1000", "--json"]);
        let rows = rows.as_array().unwrap();
        let slot =
            |row: &serde_json::Value| row["slot"].as_str().unwrap().parse::<Timestamp>().unwrap().as_second();
        let slots: BTreeSet<i64> = rows.iter().map(slot).collect();
        assert_eq!(slots.len(), rows.len(), "{name}: a slot has two rows");
        let whole: BTreeSet<i64> = (*slots.first().unwrap()..=*slots.last().unwrap()).collect();
        assert_eq!(slots, whole, "{name}: a slot has no row");
        for row in rows {
            let word = |what: &str| format!("{name} {} {} {what}", row["run"], row["slot"].as_str().unwrap());
            let times = |what: &str| said.iter().filter(|line| **line == word(what)).count();
            let expected = if row["outcome"] == "succeeded" { (1, 1) } else { (0, 0) };
            assert_eq!((times("start"), times("end")), expected, "{row:#}");
        }
    }
}

#[test]
fn history_is_found_beside_a_table_that_is_no_yaml_any_more() {
    let host = Host::new("  tick:\n    command: { run: ['true'] }\n");
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "tick"]).status.success());
    host.write_jobs("  tick: { comm");
    assert_eq!(host.json(&["history", "--json"]).as_array().unwrap().len(), 1);
    assert_eq!(host.cli(&["reload"]).status.code(), Some(2));
    assert!(daemon.stop().success());
}
