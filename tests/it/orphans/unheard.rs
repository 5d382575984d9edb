//! A spawner that dies between starting a program and saying so: no second one is started beside it.

use rustix::process::{Pid, Signal, kill_process};

use super::{error, gated, is_alive, kill, spawners, starts};
use crate::support::daemon::{Daemon, Host, wait_until};

const CHATTY: usize = 4;

/// Jobs that write more into their pipes, on the file `flood`, than the socket between spawner and daemon takes.
fn chatty(host: &Host) -> String {
    let dir = host.dir.path().display();
    let one = |number: usize| {
        format!(
            "  chatty-{number}:\n    command:\n      shell: |\n        echo begun\n        \
             while [ ! -e {dir}/flood ]; do sleep 0.05; done\n        \
             head -c 60000 /dev/zero | tr '\\0' x; head -c 60000 /dev/zero | tr '\\0' x >&2\n        \
             : >{dir}/full-{number}\n        while [ ! -e {dir}/go ]; do sleep 0.05; done\n"
        )
    };
    (0..CHATTY).map(one).collect()
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn states(pid: i32) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let state = |stat: String| stat.rsplit_once(") ")?.1.chars().next();
    tasks.filter_map(|task| state(std::fs::read_to_string(task.path().join("stat")).ok()?)).collect()
}

fn freeze(pid: i32) {
    signal(pid, Signal::STOP);
    wait_until("it is stopped", || states(pid).iter().all(|state| *state == 'T'));
}

/// A run of `gated` whose program runs while its start waits in the spawner, behind output that a daemon which is
/// stopped doesn't take. Gives the spawner.
fn start_unheard(host: &Host, daemon: &Daemon<'_>) -> i32 {
    for number in 0..CHATTY {
        super::begin(host, &format!("chatty-{number}"));
    }
    let [spawner] = spawners(host)[..] else { panic!("one spawner: {:?}", spawners(host)) };
    freeze(spawner);
    std::fs::write(host.path("flood"), "").unwrap();
    wait_until("their pipes are full", || {
        (0..CHATTY).all(|number| host.path(&format!("full-{number}")).exists())
    });
    assert!(host.cli(&["run-now", "gated", "--detach"]).status.success());
    wait_until("its attempt begins", || host.log("gated").contains("attempt 1"));
    let (pid, mut idle) = (daemon.pid().cast_signed(), 0);
    wait_until("the daemon has asked for it, and is idle", || {
        idle = if states(pid).iter().all(|state| *state == 'S') { idle + 1 } else { 0 };
        idle == 20
    });
    freeze(pid);
    signal(spawner, Signal::CONT);
    wait_until("the program runs, and is written down", || {
        let written = std::fs::read_to_string(host.path(&format!("state/spawner-{spawner}.runs")));
        starts(host) == 1 && written.is_ok_and(|written| written.contains("\"gated\""))
    });
    spawner
}

#[test]
fn a_start_that_its_spawner_never_told_of_is_looked_for_and_not_repeated() {
    for (ends_meanwhile, nothing_written) in [(false, false), (false, true), (true, false)] {
        let host = Host::new("");
        let retries = "    retries: { attempts: 3, backoff: 1s }\n";
        host.write_jobs(&(chatty(&host) + &gated(&host, retries)));
        let daemon = host.daemon();
        let spawner = start_unheard(&host, &daemon);
        if ends_meanwhile {
            std::fs::write(host.path("go"), "").unwrap();
            wait_until("it ends", || host.path("ended").exists());
        }
        if nothing_written {
            // The disk was full.
            std::fs::remove_file(host.path(&format!("state/spawner-{spawner}.runs"))).unwrap();
        }
        kill(spawner);
        signal(daemon.pid().cast_signed(), Signal::CONT);
        if !ends_meanwhile {
            wait_until("it is watched", || host.log("gated").contains("is watched to its end"));
            is_in_the_way_of_another(&host);
            std::fs::write(host.path("go"), "").unwrap();
        }
        let row = host.wait_for("gated", "ends", |row| row["outcome"] != "running");
        assert_eq!(row["outcome"], "interrupted", "{row:#}");
        assert!(error(&row).starts_with(&format!("its spawner (pid {spawner}) has died")), "{row:#}");
        assert_eq!((starts(&host), row["attempts"].as_array().unwrap().len()), (1, 1), "{row:#}");
        assert!(host.path("ended").exists(), "it was ended before its end: {row:#}");
        assert!(daemon.stop().success());
        wait_until("nothing is left", || host.processes().is_empty());
        assert!(!is_alive(spawner));
    }
}

fn is_in_the_way_of_another(host: &Host) {
    assert_eq!(host.history("gated")[0]["outcome"], "running");
    assert_eq!(host.cli(&["run-now", "gated"]).status.code(), Some(4));
}
