//! The cgroup of a run: nothing leaves it, and it says whether the run is alive.

use crate::support::daemon::{text, wait_until};
use crate::support::systemd::Machine;

/// Deaf to TERM.
const HIDDEN: &str = "trap '' TERM\necho $$ >/root/hidden\nwhile :; do sleep 0.2; done\n";
/// Takes off all by which a process is known but its cgroup, its group and its session.
const HIDE: &str =
    "env -i PATH=/usr/bin:/bin prlimit --rttime=unlimited sh /root/hide.sh </dev/null >/dev/null 2>&1";

/// Names of the runs' cgroups.
fn cgroups(machine: &Machine) -> Vec<String> {
    let listed = machine.sh("cd /sys/fs/cgroup/system.slice/punk-eco-sched.service && ls -d run-*");
    text(&listed.stdout).lines().map(str::to_owned).collect()
}

fn hidden_lives(machine: &Machine) -> bool {
    machine.sh("kill -0 $(cat hidden)").status.success()
}

#[test]
fn a_run_has_a_cgroup_of_its_own_which_nothing_leaves_and_which_ends_with_it() {
    let jobs = format!(
        "  older: {{ command: {{ shell: 'while :; do sleep 0.2; done' }} }}\n  \
           hides:\n    timeout: 3s\n    command:\n      shell: |\n        \
             (setsid {HIDE} &)\n        while :; do sleep 0.2; done\n"
    );
    let Some(machine) = Machine::with_jobs(&jobs) else { return };
    machine.write("/root/hide.sh", HIDDEN);
    machine.systemctl("start");
    assert_eq!(machine.property("Delegate"), "yes");
    // Beside an older run, to which it may belong for all that is known.
    machine.ok("punk-eco-sched run-now older --detach");
    wait_until("it has a cgroup", || cgroups(&machine).len() == 1);
    let before = cgroups(&machine);
    machine.ok("punk-eco-sched run-now hides --detach");
    wait_until("it has forked twice and hides", || hidden_lives(&machine));
    let row = machine.wait_for_outcome("hides", "timed_out");
    assert!(!row.to_string().contains("could not be ended"), "{row:#}");
    assert!(!hidden_lives(&machine), "{}", machine.ok("cat /proc/$(cat hidden)/cgroup"));
    assert_eq!(cgroups(&machine), before);

    let run = machine.history("older")[0]["run"].to_string();
    machine.ok(&format!("punk-eco-sched cancel {run}"));
    machine.wait_for_outcome("older", "cancelled");
    assert_eq!(cgroups(&machine), [""; 0]);
    machine.systemctl("stop");
    wait_until("no stray is left", || machine.sh("pgrep punk-eco-s").status.code() == Some(1));
    assert!(!machine.sh("ls -d /sys/fs/cgroup/system.slice/punk-eco-sched.service/*/").status.success());
}

#[test]
fn a_run_is_alive_for_as_long_as_its_cgroup_has_processes() {
    let Some(machine) = Machine::with_jobs(&format!("  hides: {{ command: {{ shell: 'exec {HIDE}' }} }}"))
    else {
        return;
    };
    machine.write("/root/hide.sh", HIDDEN);
    machine.systemctl("start");
    machine.ok("punk-eco-sched run-now hides --detach");
    wait_until("it hides", || hidden_lives(&machine));
    machine.systemctl("stop");
    machine.ok("pkill -KILL punk-eco-spawn");
    wait_until("the spawner is dead", || machine.sh("pgrep punk-eco-s").status.code() == Some(1));
    machine.ok("rm /var/lib/punk-eco-sched/spawner-*");
    machine.systemctl("start");
    let row = machine.history("hides").swap_remove(0);
    assert_eq!(row["outcome"], "running", "{row:#}");
    assert!(hidden_lives(&machine));
    machine.ok(&format!("punk-eco-sched cancel {}", row["run"]));
    machine.wait_for_outcome("hides", "cancelled");
    assert!(!hidden_lives(&machine));
    assert_eq!(cgroups(&machine), [""; 0]);
}
