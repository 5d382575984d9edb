//! `run-now` where several processes meet: others like it, a daemon that comes, one that died.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::daemon::{Daemon, Host, text, wait_until};
use crate::support::job::SmallDisk;

/// Says `begun`, and ends once the file `go` is there.
fn gated(host: &Host, policy: &str) -> String {
    let dir = host.dir.path().display();
    format!(
        "  gated:\n{policy}    command: {{ shell: 'echo begun; while [ ! -e {dir}/go ]; do sleep 0.05; done' }}\n"
    )
}

fn with_gate(policy: &str) -> Host {
    let host = Host::new("");
    host.write_jobs(&gated(&host, policy));
    host
}

fn start(host: &Host) -> Child {
    host.command(&["run-now", "gated"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn go(host: &Host) {
    std::fs::write(host.path("go"), "").unwrap();
}

fn outcomes(host: &Host) -> Vec<String> {
    host.history("gated").iter().map(|row| row["outcome"].as_str().unwrap().to_owned()).collect()
}

fn begun(host: &Host) {
    wait_until("the job has begun", || host.log("gated").contains("begun"));
}

#[test]
fn of_many_at_once_without_a_daemon_one_runs() {
    let host = with_gate("");
    let mut children: Vec<Child> = (0..6).map(|_| start(&host)).collect();
    let mut codes = vec![];
    wait_until("all but one are refused", || {
        children.retain_mut(|child| match child.try_wait().unwrap() {
            Some(status) => {
                codes.push(status.code());
                false
            }
            None => true,
        });
        children.len() == 1
    });
    assert_eq!(codes, [Some(4); 5]);
    assert_eq!(outcomes(&host), ["running"]);
    go(&host);
    assert_eq!(children.pop().unwrap().wait().unwrap().code(), Some(0));
    assert_eq!(outcomes(&host), ["succeeded"]);
}

#[test]
fn one_that_queues_runs_when_the_other_has_ended() {
    let host = with_gate("    overlap: queue\n");
    let mut first = start(&host);
    begun(&host);
    let mut second = start(&host);
    wait_until("the second waits", || host.history("gated").len() == 2);
    assert_eq!(host.history("gated")[0]["started_at"], Value::Null);
    go(&host);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(outcomes(&host), ["succeeded", "succeeded"]);
}

#[test]
fn one_that_replaces_cancels_the_other() {
    let host = with_gate("    overlap: replace\n");
    let mut first = start(&host);
    begun(&host);
    let mut second = start(&host);
    assert_eq!(first.wait().unwrap().code(), Some(1));
    go(&host);
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(outcomes(&host), ["succeeded", "cancelled"]);
}

#[test]
fn a_daemon_that_comes_shows_the_run_leaves_it_alone_and_can_cancel_it() {
    let host = with_gate("");
    let mut alone = start(&host);
    begun(&host);
    let daemon = host.daemon();
    let running = host.json(&["status", "--json"])["running"].clone();
    assert_eq!(
        (&running[0]["run"], &running[0]["attempt"], &running[0]["queued"]),
        (&1.into(), &1.into(), &false.into())
    );
    let refused = host.cli(&["run-now", "gated"]);
    assert_eq!(refused.status.code(), Some(4));
    assert_eq!(text(&refused.stderr), "error: not run: gated runs already (run 1)\n");
    assert!(host.cli(&["cancel", "1"]).status.success());
    assert_eq!(alone.wait().unwrap().code(), Some(1));
    assert_eq!(outcomes(&host), ["cancelled"]);
    wait_until("the daemon hears of the end", || {
        host.json(&["status", "--json"])["running"] == serde_json::json!([])
    });
    assert!(daemon.stop().success());
}

#[test]
fn a_program_of_a_dead_daemon_stands_in_the_way_only_while_it_lives() {
    let host = with_gate("");
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    begun(&host);
    daemon.kill();
    assert_eq!(host.cli(&["run-now", "gated"]).status.code(), Some(4));
    go(&host);
    wait_until("it has ended", || host.cli(&["run-now", "gated"]).status.success());
    let daemon = host.daemon();
    wait_until("its end is known", || outcomes(&host) == ["succeeded", "succeeded"]);
    assert!(daemon.stop().success());
}

#[test]
fn one_that_queues_waits_for_what_the_other_leaves_when_it_is_killed() {
    let host = Host::new("");
    witness(&host, "    overlap: queue\n");
    // What one leaves that is killed waits for a daemon to come, its spawner too.
    for (spawner_too, others) in [(false, 0), (true, 1)] {
        let before = evidence(&host).len();
        std::fs::write(host.path("failed"), "").unwrap();
        let mut first = start(&host);
        wait_until("the first has begun", || evidence(&host).len() == before + 1);
        let known = crate::orphans::spawners(&host);
        assert_eq!(known.len(), others + 1);
        let runs = host.history("gated").len();
        let mut second = start(&host);
        wait_until("the second waits", || host.history("gated").len() == runs + 1);
        if spawner_too {
            // The newer one.
            crate::orphans::kill(*known.iter().max().unwrap());
        }
        kill_run_now(&mut first);
        let looked = format!("{runs} note  | its run-now has died");
        wait_until("the second has looked", || {
            host.log("gated").contains(&looked) || evidence(&host).len() > before + 1
        });
        go(&host);
        assert_eq!(second.wait().unwrap().code(), Some(0));
        let order: Vec<String> = evidence(&host).into_iter().skip(before).map(|(what, _)| what).collect();
        assert_eq!(order, ["begins", "ends", "begins", "ends"]);
        std::fs::remove_file(host.path("go")).unwrap();
    }
}

#[test]
fn one_whose_end_found_a_full_disk_ended_as_it_did_when_a_daemon_comes() {
    let host = with_gate("    interrupted: rerun\n");
    let Some(_disk) = SmallDisk::mount(&host.path("state"), "1M") else { return };
    let mut alone = start(&host);
    begun(&host);
    let mut fill = std::fs::File::create(host.path("state/fill")).unwrap();
    while std::io::Write::write_all(&mut fill, &[0; 4096]).is_ok() {}
    drop(fill);
    go(&host);
    assert_eq!(alone.wait().unwrap().code(), Some(0));
    assert_eq!(outcomes(&host), ["running"]);
    std::fs::remove_file(host.path("state/fill")).unwrap();
    let daemon = host.daemon();
    wait_until("its end is known", || outcomes(&host) != ["running"]);
    let row = &host.history("gated")[0];
    assert_eq!(
        (&row["outcome"], row["attempts"].as_array().unwrap().len()),
        (&"succeeded".into(), 1),
        "{row:#}"
    );
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn asked_to_end_it_cancels_its_run() {
    let host = with_gate("");
    let mut alone = start(&host);
    begun(&host);
    let pid = rustix::process::Pid::from_raw(i32::try_from(alone.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(alone.wait().unwrap().code(), Some(1));
    assert_eq!(outcomes(&host), ["cancelled"]);
}

#[test]
fn a_dry_run_stays_one_over_a_restart_and_brings_nothing_about() {
    let host = Host::new("");
    let copy = "  copy:\n    after: [gated]\n    command: { run: ['/bin/true'] }\n";
    host.write_jobs(&(gated(&host, "    overlap: queue\n") + copy));
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    begun(&host);
    assert!(host.cli(&["run-now", "gated", "--dry-run", "--detach"]).status.success());
    daemon.kill();
    let daemon = host.daemon();
    go(&host);
    wait_until("both have ended", || outcomes(&host) == ["succeeded", "succeeded"]);
    assert_eq!(host.log("gated").matches("begun").count(), 2, "{}", host.log("gated"));
    assert!(host.history("gated")[0]["summary"].as_str().unwrap().starts_with("would run "));
    host.wait_for_outcome("copy", "succeeded");
    assert!(host.cli(&["run-now", "gated", "--dry-run"]).status.success());
    assert!(daemon.stop().success());
    assert_eq!(host.history("copy").len(), 1, "only the real run counts");
}

/// Writes the file `evidence`: a line when it begins, and one when it ends, which it does once `go` is there. Its first
/// attempt fails.
fn witness(host: &Host, policy: &str) {
    let dir = host.dir.path().display();
    host.write_jobs(&format!(
        "  gated:\n    interrupted: rerun\n    retries: {{ attempts: 2, backoff: 0s }}\n{policy}    command:\n      shell: |\n        \
         echo begun; echo begins $$ >>{dir}/evidence\n        \
         while [ ! -e {dir}/go ]; do sleep 0.05; done\n        \
         echo ends $$ >>{dir}/evidence\n        \
         [ -e {dir}/failed ] || {{ : >{dir}/failed; exit 1; }}\n"
    ));
}

/// The pid and what it did, of each line.
fn evidence(host: &Host) -> Vec<(String, i32)> {
    let text = std::fs::read_to_string(host.path("evidence")).unwrap_or_default();
    let line = |line: &str| {
        let (what, pid) = line.split_once(' ').unwrap();
        (what.to_owned(), pid.parse().unwrap())
    };
    text.lines().map(line).collect()
}

fn begins(host: &Host) -> usize {
    evidence(host).iter().filter(|(what, _)| what == "begins").count()
}

/// A daemon in which `gated` has begun was killed, and so was the program.
fn killed_with_its_program(host: &Host, spawner_too: bool) {
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("the program has begun", || begins(host) == 1);
    daemon.kill();
    if spawner_too {
        crate::orphans::spawners(host).into_iter().for_each(crate::orphans::kill);
    }
    crate::orphans::kill(evidence(host)[0].1);
}

/// The run of before goes on when the run-now has ended, and not beside it.
fn goes_on_after_a_run_now(spawner_too: bool) {
    let host = Host::new("");
    witness(&host, "");
    killed_with_its_program(&host, spawner_too);
    let mut alone = start(&host);
    wait_until("the run-now has begun", || begins(&host) == 2);
    let daemon = host.daemon();
    // The engine has taken over what it found before it answers, and what it begins is in the ledger then.
    assert_eq!(host.cli(&["run-now", "gated"]).status.code(), Some(4));
    wait_until("the first attempt of before has its end", || {
        host.history("gated")[1]["attempts"][0]["outcome"] != "running"
    });
    assert_eq!(host.history("gated")[1]["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(begins(&host), 2);
    go(&host);
    assert_eq!(alone.wait().unwrap().code(), Some(0));
    wait_until("both have ended", || outcomes(&host) == ["succeeded", "succeeded"]);
    let order: Vec<String> = evidence(&host).into_iter().map(|(what, _)| what).collect();
    // Of the first program nothing is heard; the run-now fails once.
    assert_eq!(order, ["begins", "begins", "ends", "begins", "ends", "begins", "ends"]);
    assert!(daemon.stop().success());
}

#[test]
fn a_rerun_waits_for_a_run_now_that_the_daemon_finds() {
    goes_on_after_a_run_now(true);
}

#[test]
fn a_retry_waits_for_a_run_now_that_the_daemon_finds() {
    goes_on_after_a_run_now(false);
}

#[test]
fn one_that_waits_goes_over_to_the_daemon_that_comes() {
    let host = Host::new("");
    witness(&host, "    overlap: queue\n");
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("the program has begun", || begins(&host) == 1);
    daemon.kill();
    let mut alone = start(&host);
    wait_until("the run-now waits", || host.history("gated").len() == 2);
    let daemon = host.daemon();
    let running = host.json(&["status", "--json"])["running"].clone();
    assert_eq!((&running[1]["run"], &running[1]["queued"]), (&2.into(), &true.into()), "{running:#}");
    go(&host);
    assert_eq!(alone.wait().unwrap().code(), Some(0));
    assert_eq!(outcomes(&host), ["succeeded", "succeeded"]);
    let order: Vec<String> = evidence(&host).into_iter().map(|(what, _)| what).collect();
    assert_eq!(order, ["begins", "ends", "begins", "ends", "begins", "ends"]);
    assert!(daemon.stop().success());
}

#[test]
fn one_that_waits_and_is_interrupted_cancels_its_run_in_the_daemon() {
    let host = with_gate("    overlap: queue\n");
    let daemon = host.daemon();
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    begun(&host);
    daemon.kill();
    let mut alone = start(&host);
    wait_until("the run-now waits", || host.history("gated").len() == 2);
    let daemon = host.daemon();
    let pid = rustix::process::Pid::from_raw(i32::try_from(alone.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(alone.wait().unwrap().code(), Some(1));
    assert_eq!(outcomes(&host), ["cancelled", "running"]);
    go(&host);
    wait_until("the other has ended", || outcomes(&host) == ["cancelled", "succeeded"]);
    assert!(daemon.stop().success());
}

/// A run-now that has begun `gated`, with a daemon beside it that came later, and the spawner of the former.
fn beside_a_daemon(host: &Host) -> (Child, Daemon<'_>, i32) {
    let alone = start(host);
    wait_until("the program has begun", || begins(host) == 1);
    let [spawner] = crate::orphans::spawners(host)[..] else { panic!("one spawner") };
    (alone, host.daemon(), spawner)
}

fn kill_run_now(alone: &mut Child) {
    alone.kill().unwrap();
    alone.wait().unwrap();
}

/// Its program goes on in the daemon, and nothing begins beside it.
fn goes_on_in_the_daemon(host: &Host) {
    wait_until("the daemon has heard of the death", || {
        outcomes(host) != ["running"] || host.daemon_log().contains("the run-now of run 1 of gated has died")
    });
    assert_eq!(outcomes(host), ["running"]);
    let running = host.json(&["status", "--json"])["running"].clone();
    assert_eq!((&running[0]["run"], &running[0]["queued"]), (&1.into(), &false.into()), "{running:#}");
    assert_eq!(host.cli(&["run-now", "gated"]).status.code(), Some(4));
    assert_eq!(begins(host), 1);
}

#[test]
fn one_that_dies_beside_a_daemon_leaves_its_program_to_it() {
    let host = Host::new("");
    witness(&host, "");
    let (mut alone, daemon, _) = beside_a_daemon(&host);
    kill_run_now(&mut alone);
    goes_on_in_the_daemon(&host);
    go(&host);
    let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
    // The first attempt fails by itself, and the second is the daemon's.
    let attempts = row["attempts"].as_array().unwrap();
    let ends: Vec<&Value> = attempts.iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(ends, ["failed", "succeeded"], "{row:#}");
    assert_eq!((outcomes(&host), begins(&host)), (vec!["succeeded".to_owned()], 2));
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn one_that_dies_beside_a_daemon_with_its_spawner_leaves_its_program_to_be_watched() {
    let host = Host::new("");
    witness(&host, "");
    let (mut alone, daemon, spawner) = beside_a_daemon(&host);
    crate::orphans::kill(spawner);
    kill_run_now(&mut alone);
    goes_on_in_the_daemon(&host);
    assert!(host.cli(&["cancel", "1"]).status.success());
    let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
    assert_eq!((&row["outcome"], begins(&host)), (&"cancelled".into(), 1), "{row:#}");
    wait_until("the program is ended", || {
        host.processes().iter().all(|(pid, _)| i32::try_from(*pid).unwrap() != evidence(&host)[0].1)
    });
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn one_that_dies_beside_a_daemon_and_leaves_nothing_is_interrupted() {
    let host = Host::new("");
    // One process, so that nothing of it lives on.
    let file = host.path("evidence").display().to_string();
    host.write_jobs(&format!(
        "  gated:\n    command: {{ shell: 'echo begins $$ >>{file}; exec sleep 600' }}\n"
    ));
    let (mut alone, daemon, spawner) = beside_a_daemon(&host);
    // It is not to hear of the other deaths.
    let pid = rustix::process::Pid::from_raw(i32::try_from(alone.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    crate::orphans::kill(spawner);
    crate::orphans::kill(evidence(&host)[0].1);
    kill_run_now(&mut alone);
    let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
    assert_eq!(row["outcome"], "interrupted", "{row:#}");
    assert_eq!(row["attempts"][0]["error"], "the run-now that ran it died", "{row:#}");
    assert!(daemon.stop().success());
}
