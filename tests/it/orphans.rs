//! Runs whose spawner was killed, alone or with its daemon: never ended by that, never started a second time.

mod unheard;

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::daemon::{Daemon, Host, text, wait_until};

/// A job that says `begun`, waits for the file `go`, says `done`, leaves the file `ended` and exits with 3. Each start
/// of it adds a line to the file `starts`.
fn gated(host: &Host, policy: &str) -> String {
    let dir = host.dir.path().display();
    format!(
        "  gated:\n    timeout: 300s\n{policy}    command:\n      shell: |\n        \
         echo start >>{dir}/starts; echo begun\n        \
         while [ ! -e {dir}/go ]; do sleep 0.05; done\n        \
         echo done; : >{dir}/ended; exit 3\n"
    )
}

fn gated_host() -> Host {
    let host = Host::new("");
    host.write_jobs(&gated(&host, ""));
    host
}

fn starts(host: &Host) -> usize {
    std::fs::read_to_string(host.path("starts")).unwrap_or_default().lines().count()
}

/// What spawners have left in the state directory.
fn left_of_spawners(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("spawner-")).collect()
}

/// The spawners whose sockets lie in the state directory, living or dead.
pub(crate) fn spawners(host: &Host) -> Vec<i32> {
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("spawner-")?.strip_suffix(".sock")?.parse().ok()
    };
    left_of_spawners(&host.path("state")).iter().filter_map(number).collect()
}

/// Kills the one spawner there is, and waits until it is gone.
fn kill_spawner(host: &Host) -> i32 {
    let [spawner] = spawners(host)[..] else { panic!("one spawner: {:?}", spawners(host)) };
    kill(spawner);
    spawner
}

pub(crate) fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until("it is dead", || !is_alive(pid));
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn begin(host: &Host, job: &str) {
    let run = host.cli(&["run-now", job, "--detach"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    wait_until("the job has begun", || host.log(job).contains("begun"));
}

/// A daemon in which `gated` has begun.
fn daemon_with_gated(host: &Host) -> Daemon<'_> {
    let daemon = host.daemon();
    begin(host, "gated");
    daemon
}

fn error(row: &serde_json::Value) -> String {
    row["attempts"].as_array().unwrap().last().unwrap()["error"].as_str().unwrap_or_default().to_owned()
}

/// The run is shown as running, and stands in the way of another.
fn is_in_the_way(host: &Host) {
    assert_eq!(host.history("gated")[0]["outcome"], "running");
    let status = host.json(&["status", "--json"]);
    assert_eq!(status["running"][0]["job"], "gated", "{status:#}");
    assert_eq!(host.cli(&["run-now", "gated"]).status.code(), Some(4));
}

/// The next daemon knows of the program whose spawner is dead, and of its end.
fn next_daemon_watches_it_end(host: &Host, dead: i32) {
    let daemon = host.daemon();
    is_in_the_way(host);
    ends_as_interrupted(host, dead, daemon);
}

/// Lets the program end, and looks at what is told of it.
fn ends_as_interrupted(host: &Host, dead: i32, daemon: Daemon<'_>) {
    std::fs::write(host.path("go"), "").unwrap();
    let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
    assert_eq!(row["outcome"], "interrupted", "{row:#}");
    assert!(host.path("ended").exists(), "the program was ended before its end: {row:#}");
    assert_eq!((starts(host), host.history("gated").len()), (1, 1));
    let said = error(&row);
    assert!(said.starts_with(&format!("its spawner (pid {dead}) has died")), "{said}");
    assert!(said.contains("exit status"), "{said}");
    let log = host.log("gated");
    assert_eq!((log.matches("begun").count(), log.matches("done").count()), (1, 1), "{log}");
    assert!(log.contains("its exit status will not be known"), "{log}");
    wait_until("what the dead spawner left is removed", || !spawners(host).contains(&dead));
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
    assert_eq!(left_of_spawners(&host.path("state")), Vec::<PathBuf>::new());
}

#[test]
fn a_command_outlives_its_spawner_and_is_watched_to_its_end() {
    let host = gated_host();
    let daemon = daemon_with_gated(&host);
    let dead = kill_spawner(&host);
    wait_until("it is watched", || host.log("gated").contains("is watched to its end"));
    is_in_the_way(&host);
    // It goes to the next daemon as well, which hears nothing from anybody.
    daemon.kill();
    next_daemon_watches_it_end(&host, dead);
}

#[test]
fn a_command_outlives_its_spawner_and_its_daemon_together() {
    let host = gated_host();
    let daemon = daemon_with_gated(&host);
    let dead = kill_spawner(&host);
    daemon.kill();
    next_daemon_watches_it_end(&host, dead);
}

#[test]
fn what_was_interrupted_is_run_again_after_its_end_and_not_before() {
    for daemon_dies in [false, true] {
        let host = Host::new("");
        host.write_jobs(&gated(&host, "    interrupted: rerun\n    retries: { attempts: 1, backoff: 1s }\n"));
        let mut daemon = daemon_with_gated(&host);
        kill_spawner(&host);
        if daemon_dies {
            daemon.kill();
            daemon = host.daemon();
        }
        wait_until("it is watched", || host.log("gated").contains("is watched to its end"));
        assert_eq!(starts(&host), 1);
        std::fs::write(host.path("go"), "").unwrap();
        let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
        let attempts: Vec<_> =
            row["attempts"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
        assert_eq!(attempts, [&json!("interrupted"), &json!("failed")], "{row:#}");
        assert_eq!((starts(&host), host.history("gated").len()), (2, 1));
        let log = host.log("gated");
        assert_eq!(log.matches("done").count(), 2, "the first went on to its end: {log}");
        assert!(daemon.stop().success());
        wait_until("nothing is left", || host.processes().is_empty());
    }
}

/// Its own session, a child of its own, deaf to TERM; beside it one that nobody is the parent of, in a session of its own,
/// without a mark in its environment and with nothing of its run's open.
fn stubborn(host: &Host, policy: &str) -> String {
    let dir = host.dir.path().display();
    format!(
        "  gated:\n{policy}    command:\n      shell: |\n        trap '' TERM\n        \
         setsid sh -c 'trap \"\" TERM; (trap \"\" TERM; exec sleep 1001) & : >{dir}/deep; while :; do sleep 0.2; done' &\n        \
         (env -i setsid sh -c 'trap \"\" TERM; : >{dir}/bare; while :; do /bin/sleep 0.2; done' >/dev/null 2>&1 </dev/null &)\n        \
         while [ ! -e {dir}/deep ] || [ ! -e {dir}/bare ]; do sleep 0.05; done\n        \
         echo begun; while :; do sleep 0.2; done\n"
    )
}

#[test]
fn cancel_and_timeout_end_the_whole_tree_of_a_run_without_a_spawner() {
    for timeout in [false, true] {
        let host = Host::new("");
        host.write_jobs(&stubborn(&host, if timeout { "    timeout: 5s\n" } else { "" }));
        let daemon = daemon_with_gated(&host);
        kill_spawner(&host);
        daemon.kill();
        let before = host.processes().len();
        assert!(before >= 3, "{:?}", host.processes());
        let daemon = host.daemon();
        if !timeout {
            let run = host.history("gated")[0]["run"].to_string();
            assert!(host.cli(&["cancel", &run]).status.success());
        }
        host.wait_for_outcome("gated", if timeout { "timed_out" } else { "cancelled" });
        let left = host.processes();
        assert!(
            !left.iter().any(|(_, command)| command.contains("sleep") || command.contains("deep")),
            "{left:?}"
        );
        wait_until("what the dead spawner left is removed", || spawners(&host).len() == 1);
        assert!(daemon.stop().success());
        wait_until("nothing is left", || host.processes().is_empty());
    }
}

#[test]
fn a_program_that_hides_its_marks_is_known_by_what_its_spawner_wrote_down() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    host.write_jobs(&format!(
        "  gated:\n    command:\n      shell: |\n        echo start >>{dir}/starts; echo begun\n        \
         exec env -i PATH=/usr/bin:/bin prlimit --rttime=unlimited sh -c 'while [ ! -e {dir}/go ]; do sleep 0.05; done; echo done; : >{dir}/ended'\n"
    ));
    let daemon = daemon_with_gated(&host);
    wait_until("it hides", || host.processes().iter().any(|(_, command)| command.starts_with("sh -c while")));
    let dead = kill_spawner(&host);
    daemon.kill();
    next_daemon_watches_it_end(&host, dead);
}

#[test]
fn what_was_not_written_down_is_known_by_its_marks_and_another_daemons_run_of_the_same_name_is_not_touched() {
    let [host, other] = [(); 2].map(|()| gated_host());
    let [daemon, others] = [&host, &other].map(daemon_with_gated);
    assert_eq!(host.history("gated")[0]["run"], other.history("gated")[0]["run"]);
    let dead = kill_spawner(&host);
    let other_dead = kill_spawner(&other);
    daemon.kill();
    others.kill();
    // The disk was full when it started.
    std::fs::remove_file(host.path(&format!("state/spawner-{dead}.runs"))).unwrap();
    let daemon = host.daemon();
    is_in_the_way(&host);
    let run = host.history("gated")[0]["run"].to_string();
    assert!(host.cli(&["cancel", &run]).status.success());
    let row = host.wait_for_outcome("gated", "cancelled");
    assert_eq!(starts(&host), 1, "{row:#}");
    assert!(!host.processes().iter().any(|(_, command)| command.contains("echo begun")), "it was found");
    assert!(daemon.stop().success());
    next_daemon_watches_it_end(&other, other_dead);
    assert_ne!(dead, other_dead);
}

#[test]
fn a_program_is_found_although_nothing_is_left_of_its_spawner() {
    let host = gated_host();
    let daemon = daemon_with_gated(&host);
    let dead = kill_spawner(&host);
    daemon.kill();
    for left in left_of_spawners(&host.path("state")) {
        std::fs::remove_file(left).unwrap();
    }
    next_daemon_watches_it_end(&host, dead);
}

#[test]
fn an_exit_that_comes_after_its_attempt_was_written_down_is_not_taken_for_the_next_attempts() {
    let host = Host::new("");
    let dir = host.dir.path().display();
    // The second start of it waits for another file.
    host.write_jobs(&format!(
        "  gated:\n    interrupted: rerun\n    retries: {{ attempts: 2, backoff: 1s }}\n    command:\n      shell: |\n        \
         echo start >>{dir}/starts; echo begun; n=$(wc -l <{dir}/starts)\n        \
         while [ ! -e {dir}/go$n ]; do sleep 0.05; done; exit $((n + 2))\n"
    ));
    let daemon = daemon_with_gated(&host);
    let [first] = spawners(&host)[..] else { panic!() };
    daemon.kill();
    let signal = |signal| kill_process(Pid::from_raw(first).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    let daemon = host.daemon();
    is_in_the_way(&host);
    std::fs::write(host.path("go1"), "").unwrap();
    wait_until("the second attempt runs", || starts(&host) == 2);
    signal(Signal::CONT);
    daemon.kill();
    let daemon = host.daemon();
    wait_until("the first one's exit is told", || host.log("gated").contains("heard only now of attempt 1"));
    wait_until("it is heard, and the spawner ends", || !is_alive(first));
    is_in_the_way(&host);
    assert!(host.log("gated").contains("exit code 3"), "{}", host.log("gated"));
    std::fs::write(host.path("go2"), "").unwrap();
    let row = host.wait_for("gated", "ends", |row| !row["attempts"][1]["finished_at"].is_null());
    let attempts = row["attempts"].as_array().unwrap();
    let outcomes = [0, 1].map(|number| attempts[number]["outcome"].as_str().unwrap());
    assert_eq!(outcomes, ["interrupted", "failed"], "{row:#}");
    assert_eq!(attempts[1]["error"], "exit code 4", "{row:#}");
    assert!(daemon.stop().success());
    wait_until("nothing is left", || host.processes().is_empty());
}

#[test]
fn an_adopted_run_whose_job_is_gone_ends_as_it_does_and_two_daemons_in_a_row_lose_nothing_of_it() {
    for spawner_dies in [false, true] {
        let host = gated_host();
        let daemon = daemon_with_gated(&host);
        if spawner_dies {
            kill_spawner(&host);
        }
        daemon.kill();
        host.write_jobs("  other:\n    command: { run: ['true'] }\n");
        host.daemon().kill();
        let daemon = host.daemon();
        assert_eq!(host.history("gated")[0]["outcome"], "running");
        std::fs::write(host.path("go"), "").unwrap();
        let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
        if spawner_dies {
            assert_eq!(row["outcome"], "interrupted", "{row:#}");
        } else {
            assert_eq!(
                (row["outcome"].as_str(), error(&row).as_str()),
                (Some("failed"), "exit code 3"),
                "{row:#}"
            );
        }
        let log = host.log("gated");
        assert_eq!((log.matches("begun").count(), log.matches("done").count()), (1, 1), "{log}");
        assert_eq!((starts(&host), host.history("gated").len()), (1, 1));
        assert!(daemon.stop().success());
        wait_until("nothing is left", || host.processes().is_empty());
    }
}

/// Answers as a spawner of another version does, in the place of the one that is there.
struct OtherVersion {
    socket: PathBuf,
    aside: PathBuf,
}

impl OtherVersion {
    fn take_the_place_of(host: &Host, spawner: i32) -> Self {
        let socket = host.path(&format!("state/spawner-{spawner}.sock"));
        let aside = host.path("aside.sock");
        std::fs::rename(&socket, &aside).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reason = "it speaks version 9 of the protocol, not 1";
                let answer = json!({ "Refused": { "reason": reason, "busy": null } }).to_string();
                let mut frame = u32::try_from(answer.len()).unwrap().to_le_bytes().to_vec();
                frame.extend([0, 0]);
                frame.extend(answer.as_bytes());
                let _ = std::io::Write::write_all(&mut &stream, &frame);
                // Until the other end has read it.
                let _ = std::io::copy(&mut &stream, &mut std::io::sink());
            }
        });
        Self { socket, aside }
    }

    fn give_it_back(self) {
        std::fs::rename(self.aside, self.socket).unwrap();
    }
}

#[test]
fn what_a_spawner_of_another_version_runs_is_watched_and_its_exit_waits_for_a_daemon_that_understands_it() {
    for ends_meanwhile in [false, true] {
        let host = Host::new("");
        host.write_jobs(&gated(&host, if ends_meanwhile { "" } else { "    interrupted: rerun\n" }));
        let daemon = daemon_with_gated(&host);
        let [spawner] = spawners(&host)[..] else { panic!() };
        daemon.kill();
        let other = OtherVersion::take_the_place_of(&host, spawner);
        let daemon = host.daemon();
        let said = host.daemon_log();
        assert!(said.contains("version 9 of the protocol"), "{said}");
        is_in_the_way(&host);
        if ends_meanwhile {
            std::fs::write(host.path("go"), "").unwrap();
            let row = host.wait_for("gated", "ends", |row| row["attempts"][0]["outcome"] != "running");
            assert_eq!(row["attempts"][0]["outcome"], "interrupted", "{row:#}");
            assert!(error(&row).contains("version 9 of the protocol"), "{row:#}");
            assert!(is_alive(spawner), "it holds the exit");
        }
        daemon.kill();
        other.give_it_back();
        let daemon = host.daemon();
        std::fs::write(host.path("go"), "").unwrap();
        wait_until("the exit is told", || host.log("gated").contains("exit code 3"));
        wait_until("it is heard, and the spawner ends", || !is_alive(spawner));
        let log = host.log("gated");
        if ends_meanwhile {
            assert!(log.contains("heard only now of attempt 1"), "{log}");
        } else {
            let row = host.wait_for_outcome("gated", "failed");
            assert_eq!(row["attempts"].as_array().unwrap().len(), 1, "{row:#}");
            assert_eq!(log.matches("done").count(), 1, "{log}");
        }
        assert!(daemon.stop().success());
        wait_until("nothing is left", || host.processes().is_empty());
    }
}

#[test]
fn five_hundred_running_jobs_are_adopted_at_once() {
    const JOBS: usize = 500;
    for spawner_dies in [false, true] {
        let host = Host::new("");
        let fifo = host.path("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let gate = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
        let jobs: String = (0..JOBS)
            .map(|number| {
                format!(
                    "  job-{number}:\n    schedule: '@reboot'\n    command: {{ shell: 'echo start >> {}; read -r _ < {} || :' }}\n",
                    host.path("starts").display(),
                    fifo.display()
                )
            })
            .collect();
        host.write_table("limits: { max_running: 1000 }", &jobs);
        let daemon = host.daemon();
        wait_until("all run", || starts(&host) == JOBS);
        if spawner_dies {
            kill_spawner(&host);
        }
        daemon.kill();
        let begun = std::time::Instant::now();
        let daemon = host.daemon();
        println!("spawner dies: {spawner_dies}: the next daemon answers after {:?}", begun.elapsed());
        let outcomes = |outcome: &str| {
            let rows = host.json(&["history", "--json"]);
            rows.as_array().unwrap().iter().filter(|row| row["outcome"] == outcome).count()
        };
        assert_eq!(outcomes("running"), JOBS);
        drop(gate);
        let expected = if spawner_dies { "interrupted" } else { "succeeded" };
        wait_until("all have ended", || outcomes("running") == 0);
        println!("spawner dies: {spawner_dies}: all have ended {:?} after the kill", begun.elapsed());
        assert_eq!(outcomes(expected), JOBS);
        assert_eq!(starts(&host), JOBS);
        assert!(daemon.stop().success());
        wait_until("nothing is left", || host.processes().is_empty());
    }
}
