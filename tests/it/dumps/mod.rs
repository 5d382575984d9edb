//! `pg_dump` as an operator meets it: jobs.yaml, the daemon, a real PostgreSQL, the command line.

mod failures;
mod interrupted;
mod options;
mod room;
mod secrets;
mod stalls;
mod suspects;
mod tls;

use punk_eco_sched::backup::manifest::Manifest;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{processes_of, wait_until};
use crate::support::postgres::Postgres;
use crate::support::shop::{self, outcomes};

type Shop = shop::Shop<Postgres>;

impl Shop {
    fn manifest(&self) -> Manifest {
        let name = self.names().into_iter().find(|name| name.ends_with(".manifest.json")).unwrap();
        Manifest::parse(&std::fs::read(self.directory().join(name)).unwrap()).unwrap()
    }

    /// A table that takes pg_dump a while.
    fn fill(&self) {
        self.server.sql(
            "shop",
            "CREATE TABLE big AS SELECT n AS id, md5(n::text) || md5((-n)::text) AS noise FROM generate_series(1, 1000000) n",
        );
    }

    /// Begins a dump and stops the server's side of it once a part has been written.
    fn hold_in_the_middle(&self) -> Held {
        self.begin();
        let is_part = |name: &String| {
            let written = std::fs::metadata(self.directory().join(name)).map_or(0, |data| data.len());
            name.contains(".partial-") && name.contains(".sql") && !name.contains(".roles.") && written > 0
        };
        let mut held = None;
        wait_until("a dump is held", || {
            // Asked first: under load that takes longer than a part of a dump.
            let pid = self.server.sql(
                "shop",
                "SELECT min(pid) FROM pg_stat_activity WHERE application_name LIKE 'punk-eco-sched %'",
            );
            let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else { return false };
            wait_until("a part is written", || self.names().iter().any(is_part));
            // It may have been the session of a look before the dump, which has ended.
            held = kill_process(pid, Signal::STOP).is_ok().then_some(Held(pid));
            held.is_some()
        });
        held.unwrap()
    }

    fn programs(&self) -> Vec<(u32, String)> {
        let mut found = processes_of(format!("PGPORT={}", self.server.port).as_ref());
        found.retain(|(_, command)| command.contains("pg_dump"));
        found
    }

    /// Neither a program nor its server process, nor a file that isn't whole.
    fn check_nothing_is_left(&self) {
        wait_until("no pg_dump is left", || self.programs().is_empty());
        self.check_server_and_files();
    }
}

/// A stopped process of the server.
struct Held(Pid);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}
