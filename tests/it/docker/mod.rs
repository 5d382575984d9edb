//! `pg_dump` inside containers, and what is asked of containers: against a real engine.

mod compose;
mod containers;
mod engine;
mod failures;
mod interrupted;
mod round_trip;

use crate::support::daemon::wait_until;
use crate::support::docker::{Inside, processes_in};
use crate::support::shop::{self, last_error, outcomes};

type Shop = shop::Shop<Inside>;

impl Shop {
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
