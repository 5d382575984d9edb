//! The unit under real systemd: installed as packaging/README.md says, started, reloaded, hung, killed, stopped.

mod cgroups;
mod jobs;

use serde_json::Value;

use crate::support::daemon::{text, wait_until};
use crate::support::systemd::{Machine, UNIT};

/// A command that goes on until the test lets it end, and tells all that it printed and how often it was started.
const LONG: &str = r#"
  long:
    command: { shell: "echo started >>starts; i=0; until [ -e end ]; do i=$((i+1)); echo line $i; echo $i >last; sleep 0.05; done; touch ended" }
"#;

/// ptrace(2): PTRACE_SEIZE and PTRACE_INTERRUPT of one thread.
const HANG: &str = r"
import ctypes, glob, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for thread in glob.glob(f'/proc/{sys.argv[1]}/task/*'):
    if open(thread + '/comm').read() == 'engine\n':
        number = int(thread.rsplit('/')[-1])
        for request in (0x4206, 0x4207):
            if libc.ptrace(request, number, None, None) != 0:
                sys.exit(f'ptrace: {ctypes.get_errno()}')
        # __WALL. Until it is killed: an end that its tracer does not hear of is kept from everybody else.
        while os.WIFSTOPPED(os.waitpid(number, 0x40000000)[1]):
            pass
";
const STOP: &str = "systemctl kill --signal STOP --kill-who main punk-eco-sched";

/// The value of a property that follows how long the machine is up, in µs.
const FED: &str = "WatchdogTimestampMonotonic";

#[test]
fn installed_as_written_it_is_verified_starts_and_starts_at_boot() {
    let Some(machine) = Machine::boot() else { return };
    machine.ok(
        "mkdir -p /root/repository/target/release && cd /root/repository && ln -s /src/packaging /src/jobs.yaml . \
         && ln -s /opt/punk-eco-sched target/release/",
    );
    let page = include_str!("../../packaging/README.md");
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|block| block.split_once("\n```").unwrap().0).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        machine.ok(&format!("set -eu; cd /root/repository\n{block}"));
    }
    let verified = machine.sh(&format!("systemd-analyze verify {UNIT}.service 2>&1"));
    assert_eq!((text(&verified.stdout).as_str(), verified.status.success()), ("", true));
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("NRestarts"), "0");
    assert_eq!(
        machine.ok("stat -c '%a %U' /var/lib/punk-eco-sched /etc/punk-eco-sched/jobs.yaml"),
        "750 root\n600 root"
    );
    let score = machine.ok(&format!("systemd-analyze security {UNIT}.service | tail -1"));
    assert!(score.contains("9.6"), "the page says another score: {score}");
    machine.reboot();
    assert_eq!(machine.property("ActiveState"), "active");
}

#[test]
fn a_reload_puts_a_good_table_into_force_and_refuses_a_broken_one_with_its_place() {
    let Some(machine) =
        Machine::with_jobs("  old: { schedule: \"* * * * * *\", command: { run: [/bin/true] } }")
    else {
        return;
    };
    machine.systemctl("start");
    machine.wait_for_outcome("old", "succeeded");
    let pid = machine.property("MainPID");

    machine.write_jobs("  new: { schedule: \"* * * * * *\", comand: { run: [/bin/true] } }");
    let refused = machine.sh(&format!("systemctl reload {UNIT}"));
    assert_eq!(refused.status.code(), Some(1));
    let journal = machine.journal();
    assert!(journal.contains("/etc/punk-eco-sched/jobs.yaml:3:35: "), "{journal}");
    assert!(journal.contains("comand"), "{journal}");
    assert_eq!(machine.property("ActiveState"), "active");
    let ran = machine.history("old").len();
    wait_until("the old table goes on", || machine.history("old").len() > ran + 1);

    // Asked past the check: refused by the daemon itself.
    machine.systemctl("kill --signal HUP --kill-who main");
    wait_until("the daemon refuses it, too", || {
        machine.journal().contains("error: the table in force stays: /etc/punk-eco-sched/jobs.yaml:3:35: ")
    });

    let errors = machine.ok(&format!("journalctl --no-pager --output cat --priority err --unit {UNIT}"));
    let first = errors.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(first.starts_with("error: the table in force stays: "), "{errors}");

    for (job, reload) in [("new", "reload"), ("newer", "kill --signal HUP --kill-who main")] {
        machine.write_jobs(&format!(
            "  {job}: {{ schedule: \"* * * * * *\", command: {{ run: [/bin/true] }} }}"
        ));
        machine.systemctl(reload);
        machine.wait_for_outcome(job, "succeeded");
    }
    wait_until("systemd knows that it is done", || machine.property("ActiveState") == "active");
    assert_eq!((machine.property("MainPID"), machine.property("NRestarts")), (pid, "0".to_owned()));
}

#[test]
fn the_watchdog_is_fed_while_idle_and_a_hung_daemon_is_replaced() {
    let Some(machine) = Machine::with_jobs(LONG) else { return };
    machine.write_drop_in("[Service]\nWatchdogSec=3\n");
    machine.systemctl("start");
    machine.ok("punk-eco-sched run-now long --detach");
    let started = machine.number("ActiveEnterTimestampMonotonic");
    wait_until("fed for three times its period", || machine.number(FED) > started + 9_000_000);
    assert_eq!(machine.property("NRestarts"), "0");

    // The engine alone, while the rest of the daemon is well; then all of it.
    machine.write("/root/hang.py", HANG);
    let hangs = [
        "systemd-run --quiet python3 /root/hang.py $(systemctl show --value -p MainPID punk-eco-sched)",
        STOP,
    ];
    for (hang, restarts) in hangs.into_iter().zip(["1", "2"]) {
        machine.ok(hang);
        wait_until("systemd starts another", || {
            machine.property("NRestarts") == restarts && machine.property("ActiveState") == "active"
        });
    }
    assert_eq!(machine.journal().matches("Watchdog timeout").count(), 2, "{}", machine.journal());
    end_long(&machine, 1);
}

#[test]
fn what_runs_is_adopted_over_restart_kill_and_stop() {
    let Some(machine) = Machine::with_jobs(LONG) else { return };
    machine.systemctl("start");
    machine.ok("punk-eco-sched run-now long --detach");
    let end: [&dyn Fn(); 3] = [
        &|| machine.systemctl("restart"),
        &|| {
            machine.systemctl("kill --signal KILL --kill-who main");
            wait_until("systemd starts another", || {
                machine.property("NRestarts") == "1" && machine.property("ActiveState") == "active"
            });
        },
        &|| {
            machine.systemctl("stop");
            assert_eq!(
                (machine.property("ActiveState"), machine.property("Result")),
                ("inactive".into(), "success".into())
            );
            let printed = printed(&machine);
            wait_until("the command goes on alone", || self::printed(&machine) > printed + 5);
            machine.systemctl("start");
        },
    ];
    for change in end {
        let pid = machine.property("MainPID");
        let before = printed(&machine);
        change();
        assert_ne!(machine.property("MainPID"), pid);
        wait_until("it goes on", || printed(&machine) > before + 5);
        assert_eq!(machine.history("long")[0]["outcome"], "running");
    }
    end_long(&machine, 1);

    // One that ends while there is no daemon.
    machine.ok("rm end ended; punk-eco-sched run-now long --detach");
    machine.systemctl("stop");
    machine.ok("touch end");
    wait_until("it has ended alone", || machine.sh("ls ended").status.success());
    machine.systemctl("start");
    end_long(&machine, 2);
    wait_until("its parent ends, too", || machine.ok("pgrep -c punk-eco-spawn") == "1");

    // What is left after a stop can be ended, and leaves nothing that waits.
    machine.ok("rm end ended; punk-eco-sched run-now long --detach");
    machine.systemctl("stop");
    machine.systemctl("kill --kill-who all");
    wait_until("nothing is left", || machine.sh("pgrep punk-eco-s").status.code() == Some(1));
    machine.systemctl("start");
    machine.wait_for_outcome("long", "interrupted");
}

#[test]
fn a_host_that_goes_down_waits_for_nobody_and_says_what_it_interrupted() {
    let Some(machine) = Machine::with_jobs(LONG) else { return };
    machine.systemctl("enable --now");
    machine.ok("punk-eco-sched run-now long --detach");
    wait_until("it runs", || printed(&machine) > 5);
    // Well below the 90 s that systemd gives to what does not end.
    machine.reboot();
    let row = machine.wait_for_outcome("long", "interrupted");
    assert_eq!(row["attempts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn work_inside_the_daemon_is_ended_within_the_grace() {
    // A server that never says a word: the dump waits for it in the daemon.
    let Some(machine) = Machine::with_jobs("  tick: { command: { run: [/bin/true] } }") else { return };
    machine.write(
        "/root/silent.py",
        "import socket, time\ns = socket.create_server(('127.0.0.1', 5432))\nwhile True: time.sleep(60)\n",
    );
    machine.ok("systemd-run --quiet python3 /root/silent.py");
    wait_until("the server listens", || machine.sh("grep -q ':1538 .* 0A ' /proc/net/tcp").status.success());
    machine.write(
        "/etc/punk-eco-sched/jobs.yaml",
        "postgres: { app: { host: 127.0.0.1, database: d, user: u, password: p, tls: disable } }\n\
         jobs: { dump: { timeout: 10m, pg_dump: { connection: app, directory: /var/backups } } }\n",
    );
    machine.write_drop_in(
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/punk-eco-sched daemon --grace 2s\nTimeoutStopSec=40\n",
    );
    machine.systemctl("start");
    machine.ok("punk-eco-sched run-now dump --detach");
    machine.wait_for_outcome("dump", "running");
    machine.systemctl("stop");
    assert_eq!(
        (machine.property("ActiveState"), machine.property("Result")),
        ("inactive".into(), "success".into())
    );
    // No backup was made, which the next daemon mends: the same run's second attempt.
    machine.systemctl("start");
    wait_until("the dump runs again", || {
        let row = machine.history("dump").swap_remove(0);
        row["outcome"] == "running"
            && row["attempts"][0]["outcome"] == "interrupted"
            && row["attempts"][1].is_object()
    });
}

#[test]
fn a_broken_file_at_start_fails_with_its_place_and_is_not_tried_again() {
    let Some(machine) =
        Machine::with_jobs("  a: { schedule: \"61 * * * *\", command: { run: [/bin/true] } }")
    else {
        return;
    };
    let started = machine.sh(&format!("systemctl start {UNIT}"));
    assert_eq!(started.status.code(), Some(1));
    let journal = machine.journal();
    assert!(journal.contains("/etc/punk-eco-sched/jobs.yaml:3:"), "{journal}");
    let state = ["ActiveState", "ExecMainStatus", "NRestarts"].map(|name| machine.property(name));
    assert_eq!(state, ["failed", "2", "0"]);
    machine.write_jobs("  a: { schedule: \"* * * * * *\", command: { run: [/bin/true] } }");
    machine.systemctl("start");
    machine.wait_for_outcome("a", "succeeded");
}

#[test]
fn a_credential_of_systemd_reaches_the_job_and_nothing_else() {
    const SECRET: &str = "correct horse battery";
    let job = "  a: { env: { TOKEN: \"${credential:token}\" }, command: { shell: 'echo \"$TOKEN\" >token; env >environment' } }";
    let Some(machine) = Machine::with_jobs(job) else { return };
    machine.write("/etc/punk-eco-sched/credentials/token", SECRET);
    machine.write_drop_in("[Service]\nLoadCredential=token:/etc/punk-eco-sched/credentials/token\n");
    machine.systemctl("start");
    for change in ["reload", "restart"] {
        machine.ok("rm -f token; punk-eco-sched run-now a");
        assert_eq!(machine.ok("cat token"), SECRET);
        machine.systemctl(change);
    }
    let given = machine.ok("cut -d= -f1 environment");
    for foreign in ["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID", "STATE_DIRECTORY"] {
        assert!(!given.contains(foreign), "{given}");
    }
    let known = machine.ok("grep -rl 'correct horse' /var/lib/punk-eco-sched /var/log/punk_eco; journalctl | grep 'correct horse'; true");
    assert_eq!(known, "");
}

fn printed(machine: &Machine) -> u64 {
    text(&machine.sh("cat last").stdout).trim().parse().unwrap_or_default()
}

/// Lets the command end; it has run once for each of `runs`, and its whole output is on record, each line once.
#[track_caller]
fn end_long(machine: &Machine, runs: usize) {
    machine.ok("touch end");
    let row = machine.wait_for_outcome("long", "succeeded");
    assert_eq!(machine.history("long").len(), runs);
    assert_eq!(row["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(machine.ok("cat starts"), vec!["started"; runs].join("\n"));
    let shown: Value =
        serde_json::from_str(&machine.ok(&format!("punk-eco-sched show {} --json", row["run"]))).unwrap();
    assert_eq!(shown["outcome"], "succeeded");
    let expected: Vec<String> = (1..=printed(machine)).map(|number| format!("line {number}")).collect();
    let log = machine.ok("punk-eco-sched logs long");
    let lines: Vec<&str> = log.lines().filter_map(|line| Some(&line[line.find("line ")?..])).collect();
    assert_eq!(lines, expected);
}
