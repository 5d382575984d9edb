//! A whole host under real systemd: a container of a minimal Debian whose first process is systemd, with the program
//! under test as /opt/punk-eco-sched and the repository as /src.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::daemon::{PROGRAM, text, wait_until};
use super::docker::{LABEL, command, no_engine};
use super::missing::lacks;
use super::postgres::{done, feed};

pub(crate) const UNIT: &str = "punk-eco-sched";
/// What a call may take on a busy machine; only ever reached when something is broken.
const PATIENCE: &str = "120";

pub(crate) struct Machine {
    /// The container's id.
    id: String,
}

impl Machine {
    /// Boots a host and waits until it is up. None where the test is to be left.
    pub(crate) fn boot() -> Option<Self> {
        if no_engine() || lacks("mmdebstrap") {
            return None;
        }
        let image = image();
        // Version 2 alone, as systemd has it on every host of today, whatever this one has.
        let init = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec /sbin/init";
        let mut run = docker(&["run", "--detach", "--cgroupns", "private"]);
        run.args(["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"]);
        run.args(["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]);
        run.args(["--tmpfs", "/run", "--tmpfs", "/run/lock"]);
        run.args(["--volume", &format!("{PROGRAM}:/opt/punk-eco-sched:ro")]);
        run.args(["--volume", &format!("{}:/src:ro", env!("CARGO_MANIFEST_DIR"))]);
        run.args(["--label", &format!("{LABEL}={}", std::process::id()), "--network", "none"]);
        let id = text(&done(run.args([&image, "sh", "-c", init]).output().unwrap())).trim().to_owned();
        let machine = Self { id };
        wait_until("systemd has booted the host", || {
            let state = machine.sh("systemctl is-system-running");
            ["running", "degraded"].contains(&text(&state.stdout).trim())
        });
        // As systemd makes it on a real host, where it gives services their credentials by a mount.
        machine.ok("mount --make-rshared /");
        // A test that is killed can't remove its host.
        machine.ok("systemd-run --quiet --on-active=20min systemctl poweroff --force");
        Some(machine)
    }

    /// A host with our unit, not started, and this table; `jobs` is what stands under `jobs:`, indented by two spaces.
    pub(crate) fn with_jobs(jobs: &str) -> Option<Self> {
        let machine = Self::boot()?;
        machine.write_jobs(jobs);
        machine.install();
        Some(machine)
    }

    fn install(&self) {
        self.ok("ln -s /opt/punk-eco-sched /usr/local/bin/");
        self.ok("cp /src/packaging/systemd/punk-eco-sched.service /etc/systemd/system/");
        self.ok("systemctl daemon-reload");
    }

    pub(crate) fn write_jobs(&self, jobs: &str) {
        self.write("/etc/punk-eco-sched/jobs.yaml", &format!("timezone: UTC\njobs:\n{jobs}\n"));
    }

    /// A drop-in for our unit.
    pub(crate) fn write_drop_in(&self, text: &str) {
        self.write(&format!("/etc/systemd/system/{UNIT}.service.d/test.conf"), text);
        self.ok("systemctl daemon-reload");
    }

    /// Replaces a file in one stroke, as an editor does.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let script = r#"mkdir -p "$(dirname "$1")" && cat >"$1.new" && mv "$1.new" "$1""#;
        feed(docker(&["exec", "--interactive", &self.id, "sh", "-c", script, "sh", path]), text.as_bytes());
    }

    pub(crate) fn exec(&self, words: &[&str]) -> Output {
        docker(&["exec", "--workdir", "/root", &self.id]).args(words).output().unwrap()
    }

    pub(crate) fn sh(&self, script: &str) -> Output {
        self.exec(&["sh", "-c", script])
    }

    /// What a script prints; it must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, script: &str) -> String {
        let output = self.sh(script);
        let said =
            || format!("{script}\n{}{}\n{}", text(&output.stdout), text(&output.stderr), self.journal());
        assert!(output.status.success(), "{}: {}", output.status, said());
        text(&output.stdout).trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn systemctl(&self, verb: &str) {
        self.ok(&format!("systemctl {verb} {UNIT}"));
    }

    /// A property of our unit, as `systemctl show` names and tells it.
    #[track_caller]
    pub(crate) fn property(&self, name: &str) -> String {
        self.ok(&format!("systemctl show --value --property {name} {UNIT}"))
    }

    #[track_caller]
    pub(crate) fn number(&self, property: &str) -> u64 {
        self.property(property).parse().unwrap()
    }

    /// What the journal holds of our unit, the lines of systemd about it included.
    pub(crate) fn journal(&self) -> String {
        text(&self.sh(&format!("journalctl --no-pager --output cat --unit {UNIT}")).stdout)
    }

    /// Rows of a job, newest first; none where there is no ledger yet.
    pub(crate) fn history(&self, job: &str) -> Vec<Value> {
        let output = self.sh(&format!("punk-eco-sched history {job} --json"));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn wait_for_outcome(&self, job: &str, outcome: &str) -> Value {
        let mut rows = vec![];
        wait_until(&format!("{job}: {outcome}"), || {
            rows = self.history(job);
            rows.first().is_some_and(|row| row["outcome"] == outcome)
        });
        rows.swap_remove(0)
    }

    /// Switches it off and on again, as a person at the machine would.
    pub(crate) fn reboot(&self) {
        let _ = self.sh("systemctl poweroff");
        wait_until("the host has gone down", || !self.is_up());
        done(docker(&["start", &self.id]).output().unwrap());
        wait_until("the host is up again", || {
            ["running", "degraded"].contains(&text(&self.sh("systemctl is-system-running").stdout).trim())
        });
    }

    fn is_up(&self) -> bool {
        let output = docker(&["inspect", "--format", "{{.State.Running}}", &self.id]).output().unwrap();
        text(&output.stdout).trim() == "true"
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- the unit's journal:\n{}", self.journal());
        }
        let _ = docker(&["rm", "--force", "--volumes", &self.id]).output();
    }
}

/// The name of the host's image, which is made where there is none yet (half a minute).
fn image() -> String {
    let mut script = command("bash");
    script.args(["-c", ". scripts/lib/host.sh && systemd_image"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    text(&done(script.output().unwrap())).trim().to_owned()
}

fn docker(words: &[&str]) -> Command {
    let mut command = command("timeout");
    command.args(["--kill-after=5", PATIENCE, "docker"]).args(words).stdin(Stdio::null());
    command
}
