//! A Docker Engine of a test's own, which it may kill. Its containers live on without it (live-restore).

use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::daemon::{text, wait_until};
use super::docker::{USED, command, docker, make_image};
use super::missing::{lacks, skipped};

pub(crate) struct Engine {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Engine {
    /// From then on the one of this thread's commands. `None` where there can be none; then the test is to be left.
    pub(crate) fn start() -> Option<Self> {
        if ["docker", "dockerd", "setpriv"].into_iter().any(lacks) {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skipped("a Docker Engine needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
        let daemon = spawn(folder.path());
        let engine = Self { folder, daemon };
        USED.set(Some(engine.url()));
        engine.wait_until_it_answers();
        make_image();
        Some(engine)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.daemon.id()).unwrap()).unwrap(), signal).unwrap();
    }

    fn signal_if_it_lives(&mut self, signal: Signal) {
        if self.daemon.try_wait().ok().flatten().is_none() {
            self.signal(signal);
        }
    }

    pub(crate) fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        // Where nobody has yet reaped what they name, the next one would take them for alive.
        for name in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.folder.path().join(name));
        }
        self.daemon = spawn(self.folder.path());
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        wait_until("the engine answers", || docker(&["info"]).output().unwrap().status.success());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.signal_if_it_lives(Signal::CONT);
        if self.daemon.try_wait().ok().flatten().is_some() && !std::thread::panicking() {
            self.restart();
        }
        let all = docker(&["ps", "-aq"]).output().map(|output| text(&output.stdout)).unwrap_or_default();
        let all: Vec<&str> = all.lines().collect();
        if !all.is_empty() {
            let _ = docker(&[&["rm", "-f", "-v"], &all[..]].concat()).output();
        }
        self.signal_if_it_lives(Signal::TERM);
        let _ = self.daemon.wait();
        USED.set(None);
        let mounted = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let below = self.folder.path().to_str().unwrap();
        let mut mounted: Vec<&str> = mounted
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|path| path.starts_with(below))
            .collect();
        mounted.sort_unstable();
        for path in mounted.into_iter().rev() {
            let _ = command("umount").args(["-l", path]).output();
        }
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    let log = std::fs::File::options().create(true).append(true).open(at("log")).unwrap();
    let mut daemon = command("setpriv");
    daemon
        .args(["--pdeathsig", "TERM", "dockerd", "--live-restore", "--bridge=none", "--iptables=false"])
        .args(["--ip6tables=false", "--ip-masq=false", "--userland-proxy=false"])
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["--host", &format!("unix://{}", at("docker.sock"))])
        .env_remove("DOCKER_HOST")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    daemon.spawn().unwrap()
}
