//! `pg_dump` as an operator meets it: jobs.yaml, the daemon, a real PostgreSQL, the command line.

mod failures;
mod interrupted;
mod options;
mod tls;

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};

use punk_eco_sched::backup::manifest::Manifest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::daemon::{Host, processes_of, wait_until};
use crate::support::job::names;
use crate::support::postgres::{PASSWORD, Postgres, USER};

/// A server with a database `shop`, and a host that dumps it into `dumps`.
struct Shop {
    postgres: Postgres,
    host: Host,
}

impl Shop {
    fn new() -> Self {
        Self::on(Postgres::start())
    }

    fn on(postgres: Postgres) -> Self {
        postgres.sql("postgres", "CREATE DATABASE shop");
        postgres.sql("shop", "CREATE TABLE sales AS SELECT n AS id FROM generate_series(1, 10) n");
        let shop = Self { postgres, host: Host::new("") };
        shop.table("", "", "");
        shop
    }

    /// jobs.yaml with the one job `db-backup`: more policies of it, more options of its kind, and what its connection
    /// has beside or instead of the usual.
    fn table(&self, policies: &str, options: &str, connection: &str) {
        let mut keys = vec![
            ("host", "127.0.0.1".to_owned()),
            ("port", self.postgres.port.to_string()),
            ("database", "shop".to_owned()),
            ("user", USER.to_owned()),
            ("password", PASSWORD.to_owned()),
        ];
        keys.retain(|(key, _)| !connection.contains(&format!("{key}:")));
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let top = format!("postgres:\n  app: {{ {}{connection} }}\n", keys.join(", "));
        let min_free = if options.contains("min_free") { "" } else { ", min_free: 0%" };
        let directory = self.directory().display().to_string();
        let jobs = format!(
            "  db-backup:\n    retries: {{ attempts: 1, backoff: 10ms }}\n{policies}    pg_dump: {{ connection: app, \
             directory: {directory}{min_free}{options} }}\n"
        );
        // A policy that is given stands for the usual one.
        let jobs = if policies.contains("retries:") {
            jobs.replacen("    retries: { attempts: 1, backoff: 10ms }\n", "", 1)
        } else {
            jobs
        };
        self.host.write_table(&top, &jobs);
    }

    fn directory(&self) -> PathBuf {
        self.host.path("dumps")
    }

    fn names(&self) -> Vec<String> {
        if self.directory().exists() { names(&self.directory()) } else { vec![] }
    }

    fn manifest(&self) -> Manifest {
        let name = self.names().into_iter().find(|name| name.ends_with(".manifest.json")).unwrap();
        Manifest::parse(&std::fs::read(self.directory().join(name)).unwrap()).unwrap()
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

    /// Runs the job, which must fail; the error of its last attempt.
    fn error(&self) -> String {
        let row = self.run();
        assert_eq!(row["outcome"], "failed", "{row:#}");
        let attempts = row["attempts"].as_array().unwrap();
        attempts.last().unwrap()["error"].as_str().unwrap().replace(&self.postgres.port.to_string(), "PORT")
    }

    /// pg_dump waits for this table's lock until the guard goes.
    fn lock(&self) -> Lock {
        let mut psql = self.postgres.program("psql", "shop");
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

    /// A table that takes pg_dump a while.
    fn fill(&self) {
        self.postgres.sql(
            "shop",
            "CREATE TABLE big AS SELECT n AS id, md5(n::text) || md5((-n)::text) AS noise FROM generate_series(1, 1000000) n",
        );
    }

    /// Begins a dump and stops the server's side of it once a part has been written.
    fn hold_in_the_middle(&self) -> Held {
        self.begin();
        wait_until("a part is written", || {
            self.names().iter().any(|name| {
                let part = std::fs::metadata(self.directory().join(name)).map_or(0, |data| data.len());
                name.contains(".sql.gz.partial-") && !name.contains(".roles.") && part > 0
            })
        });
        let pid: i32 = self
            .postgres
            .sql("shop", &format!("SELECT min(pid) FROM pg_stat_activity WHERE {OF_DUMPS}"))
            .parse()
            .unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Held(pid)
    }

    fn programs(&self) -> Vec<(u32, String)> {
        let mut found = processes_of(format!("PGPORT={}", self.postgres.port).as_ref());
        found.retain(|(_, command)| command.contains("pg_dump"));
        found
    }

    /// Neither a program nor its server process, nor a file that isn't whole.
    fn check_nothing_is_left(&self) {
        wait_until("no pg_dump is left", || self.programs().is_empty());
        wait_until("no server process of a dump is left", || {
            self.count(&format!("SELECT count(*) FROM pg_stat_activity WHERE {OF_DUMPS}")) == 0
        });
        let hidden: Vec<_> = self.names().into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(hidden, [""; 0]);
    }

    fn count(&self, query: &str) -> u64 {
        self.postgres.sql("postgres", query).parse().unwrap()
    }
}

const OF_DUMPS: &str = "application_name = 'punk-eco-sched'";

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

/// A stopped process of the server.
struct Held(Pid);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}
