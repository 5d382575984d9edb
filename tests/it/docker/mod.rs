//! `pg_dump` inside containers, and what is asked of containers: against a real engine.

mod compose;
mod containers;
mod engine;
mod failures;
mod interrupted;
mod round_trip;

use serde_json::Value;

use crate::support::daemon::{Daemon, wait_until};
use crate::support::docker::{Inside, no_engine, processes_in};
use crate::support::missing::{lacks, lacks_root};
use crate::support::shop::{self, last_error, outcomes};

type Shop = shop::Shop<Inside>;

impl Shop {
    /// Where an engine answers.
    fn open() -> Option<Self> {
        (!no_engine()).then(Self::new)
    }

    /// For a daemon in a pid namespace of its own, where one can be made.
    fn open_unseen() -> Option<Self> {
        if lacks("unshare") || lacks_root() { None } else { Self::open() }
    }

    /// In a pid namespace of its own it sees no process of the container.
    fn daemon_that_sees_nothing(&self) -> Daemon<'_> {
        let daemon =
            self.host.spawn_daemon_under(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        wait_until("the daemon answers", || self.host.cli(&["status"]).status.success());
        daemon
    }

    /// The one that dumps.
    fn dump(&self) -> i32 {
        let [dump] = self.dumping()[..] else { panic!("one pg_dump: {:?}", self.dumping()) };
        dump
    }

    fn wait_until_another_dumps(&self, left: i32) {
        wait_until("the next attempt dumps, alone", || matches!(self.dumping()[..], [one] if one != left));
    }

    /// The first attempt has failed, and the second one's dump is whole.
    fn check_was_retried(&self) -> Value {
        let row = self.host.wait_for_outcome("db-backup", "succeeded");
        assert_eq!(outcomes(&row), ["failed", "succeeded"], "{row:#}");
        self.check_nothing_is_left();
        row
    }

    fn dumping(&self) -> Vec<i32> {
        processes_in(&self.server.container.name, "pg_dump")
    }

    fn wait_until_none_dumps(&self) {
        wait_until("no pg_dump is left inside", || self.dumping().is_empty());
    }

    /// Neither a program inside nor its server process, nor its client here, nor a file that isn't whole.
    fn check_nothing_is_left(&self) {
        self.wait_until_none_dumps();
        self.check_server_and_files();
        wait_until("no client of Docker is left", || self.clients().is_empty());
    }

    /// The processes of this host that carry a program of the container.
    fn clients(&self) -> Vec<i32> {
        let name = format!("\"name\":\"{}\"", self.server.container.name);
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let found = processes.filter_map(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).into_owned();
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (command.contains("\0__in_container\0") && command.contains(&name)).then_some(pid)
        });
        found.collect()
    }
}
