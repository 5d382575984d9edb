//! `pg_dump` inside containers, and what is asked of containers: against a real engine.

mod compose;
mod containers;
mod engine;
mod failures;
mod interrupted;
mod round_trip;

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};

use serde_json::Value;

use crate::support::daemon::{Host, wait_until};
use crate::support::docker::{Inside, processes_in};
use crate::support::job::names;
use crate::support::postgres::{PASSWORD, USER};

/// A server that only its container reaches, with a database `shop`, and a host that dumps it into `dumps`.
struct Shop {
    inside: Inside,
    host: Host,
}

impl Shop {
    fn new() -> Self {
        let inside = Inside::start();
        inside.sql("postgres", "CREATE DATABASE shop");
        inside.sql("shop", "CREATE TABLE sales AS SELECT n AS id FROM generate_series(1, 10) n");
        let shop = Self { inside, host: Host::new("") };
        shop.table("", "", "");
        shop
    }

    /// As the table of the dumps on the host: more policies, more options, more keys of the connection.
    fn table(&self, policies: &str, options: &str, connection: &str) {
        let mut keys = vec![
            ("container", self.inside.container.name.clone()),
            ("database", "shop".to_owned()),
            ("user", USER.to_owned()),
            ("password", PASSWORD.to_owned()),
        ];
        keys.retain(|(key, _)| !connection.contains(&format!("{key}:")));
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let top = format!("postgres:\n  app: {{ {}{connection} }}\n", keys.join(", "));
        let retries = if policies.contains("retries:") { "" } else { "    retries: { attempts: 1 }\n" };
        let directory = self.directory().display().to_string();
        self.host.write_table(
            &top,
            &format!(
                "  db-backup:\n{retries}{policies}    pg_dump: {{ connection: app, directory: {directory}, min_free: \
                 0%{options} }}\n"
            ),
        );
    }

    fn directory(&self) -> PathBuf {
        self.host.path("dumps")
    }

    fn names(&self) -> Vec<String> {
        if self.directory().exists() { names(&self.directory()) } else { vec![] }
    }

    fn begin(&self) {
        let begun = self.host.cli(&["run-now", "db-backup", "--detach"]);
        assert!(begun.status.success(), "{begun:?}");
    }

    /// Runs the job to its end; its row.
    fn run(&self) -> Value {
        self.host.cli(&["run-now", "db-backup"]);
        self.host.history("db-backup").remove(0)
    }

    /// Runs the job, which must fail; the error of its last attempt, without what differs each time.
    fn error(&self) -> String {
        let row = self.run();
        assert_eq!(row["outcome"], "failed", "{row:#}");
        last_error(&row).replace(&self.inside.container.name, "DB")
    }

    /// pg_dump waits for this table's lock until the guard goes.
    fn lock(&self) -> Lock {
        let mut psql = self.inside.program("psql", "shop");
        let mut psql = psql.args(["-X", "-q"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = psql.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"BEGIN; LOCK TABLE sales;\n").unwrap();
        wait_until("the table is locked", || {
            self.count("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") > 0
        });
        Lock { psql, stdin: Some(stdin) }
    }

    fn wait_until_it_waits(&self) {
        wait_until("pg_dump waits for the lock", || {
            self.count("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0
        });
    }

    fn dumping(&self) -> Vec<i32> {
        processes_in(&self.inside.container.name, "pg_dump")
    }

    fn wait_until_none_dumps(&self) {
        wait_until("no pg_dump is left inside", || self.dumping().is_empty());
    }

    /// Neither a program inside nor its server process, nor its client here, nor a file that isn't whole.
    fn check_nothing_is_left(&self) {
        self.wait_until_none_dumps();
        wait_until("no server process of a dump is left", || {
            self.count("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'punk-eco-sched'") == 0
        });
        wait_until("no client of Docker is left", || self.clients().is_empty());
        let hidden: Vec<_> = self.names().into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(hidden, [""; 0]);
    }

    fn count(&self, query: &str) -> u64 {
        self.inside.sql("postgres", query).parse().unwrap()
    }

    /// The processes of this host that carry a program of the container.
    fn clients(&self) -> Vec<i32> {
        let name = format!("\"name\":\"{}\"", self.inside.container.name);
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

fn last_error(row: &Value) -> String {
    let attempts = row["attempts"].as_array().unwrap();
    attempts.last().unwrap()["error"].as_str().unwrap().to_owned()
}

fn outcomes(row: &Value) -> Vec<&str> {
    let attempts = row["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

struct Lock {
    psql: Child,
    stdin: Option<ChildStdin>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.psql.wait();
    }
}
