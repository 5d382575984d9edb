//! A server with a database `shop`, and a host whose one job dumps it into `dumps`: the same for a server of this host
//! and for one in a container.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use super::daemon::{Daemon, Host, wait_until};
use super::docker::Inside;
use super::job::names;
use super::postgres::{PASSWORD, Postgres, USER, ask};

pub(crate) trait Server {
    fn start() -> Self;
    fn program(&self, name: &str, database: &str) -> Command;

    fn sql(&self, database: &str, sql: &str) -> String {
        ask(self.program("psql", database), sql)
    }

    /// What jobs.yaml says of where it is.
    fn place(&self) -> Vec<(&'static str, String)>;
    /// Without what differs each time.
    fn neutral(&self, text: &str) -> String;
}

impl Server for Postgres {
    fn start() -> Self {
        Self::start()
    }

    fn program(&self, name: &str, database: &str) -> Command {
        self.program(name, database)
    }

    fn place(&self) -> Vec<(&'static str, String)> {
        vec![("host", "127.0.0.1".to_owned()), ("port", self.port.to_string())]
    }

    fn neutral(&self, text: &str) -> String {
        text.replace(&self.port.to_string(), "PORT")
    }
}

impl Server for Inside {
    fn start() -> Self {
        Self::start()
    }

    fn program(&self, name: &str, database: &str) -> Command {
        self.program(name, database)
    }

    fn place(&self) -> Vec<(&'static str, String)> {
        vec![("container", self.container.name.clone())]
    }

    fn neutral(&self, text: &str) -> String {
        text.replace(&self.container.name, "DB")
    }
}

pub(crate) struct Shop<S> {
    pub(crate) server: S,
    pub(crate) host: Host,
}

/// pg_dump waits for a table's lock until this goes.
pub(crate) struct Lock {
    psql: Child,
    stdin: Option<ChildStdin>,
}

impl<S: Server> Shop<S> {
    pub(crate) fn new() -> Self {
        Self::on(S::start())
    }

    pub(crate) fn on(server: S) -> Self {
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE sales AS SELECT n AS id FROM generate_series(1, 10) n");
        let shop = Self { server, host: Host::new("") };
        shop.table("", "", "");
        shop
    }

    /// jobs.yaml with the one job `db-backup`: more policies of it, more options of its kind, and what its connection
    /// has beside or instead of the usual.
    pub(crate) fn table(&self, policies: &str, options: &str, connection: &str) {
        let mut keys = self.server.place();
        keys.extend([
            ("database", "shop".to_owned()),
            ("user", USER.to_owned()),
            ("password", PASSWORD.to_owned()),
        ]);
        keys.retain(|(key, _)| !connection.contains(&format!("{key}:")));
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let top = format!("postgres:\n  app: {{ {}{connection} }}\n", keys.join(", "));
        let retries =
            if policies.contains("retries:") { "" } else { "    retries: { attempts: 1, backoff: 10ms }\n" };
        let min_free = if options.contains("min_free") { "" } else { ", min_free: 0%" };
        let directory = if options.contains("directory:") {
            String::new()
        } else {
            format!(", directory: {}", self.directory().display())
        };
        let jobs = format!(
            "  db-backup:\n{retries}{policies}    pg_dump: {{ connection: app{directory}{min_free}{options} }}\n"
        );
        self.host.write_table(&top, &jobs);
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.host.path("dumps")
    }

    pub(crate) fn names(&self) -> Vec<String> {
        if self.directory().exists() { names(&self.directory()) } else { vec![] }
    }

    pub(crate) fn begin(&self) {
        let begun = self.host.cli(&["run-now", "db-backup", "--detach"]);
        assert!(begun.status.success(), "{begun:?}");
    }

    /// Runs the job to its end; its row.
    pub(crate) fn run(&self) -> Value {
        self.host.cli(&["run-now", "db-backup"]);
        self.host.history("db-backup").remove(0)
    }

    /// Runs the job, which must fail; the error of its last attempt, without what differs each time.
    pub(crate) fn error(&self) -> String {
        let row = self.run();
        assert_eq!(row["outcome"], "failed", "{row:#}");
        self.server.neutral(&last_error(&row))
    }

    pub(crate) fn lock(&self) -> Lock {
        let mut psql = self.server.program("psql", "shop");
        let mut psql = psql.args(["-X", "-q"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = psql.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"BEGIN; LOCK TABLE sales;\n").unwrap();
        wait_until("the table is locked", || {
            self.count("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") > 0
        });
        Lock { psql, stdin: Some(stdin) }
    }

    /// A dump that waits for the lock, and its daemon.
    pub(crate) fn dump_that_waits(&self) -> (Lock, Daemon<'_>) {
        let lock = self.lock();
        let daemon = self.host.daemon();
        self.begin();
        self.wait_until_it_waits();
        (lock, daemon)
    }

    /// Cancels what runs; its row.
    pub(crate) fn cancel(&self) -> Value {
        let run = self.host.history("db-backup")[0]["run"].to_string();
        assert!(self.host.cli(&["cancel", &run]).status.success());
        self.host.wait_for_outcome("db-backup", "cancelled")
    }

    pub(crate) fn wait_until_it_waits(&self) {
        wait_until("pg_dump waits for the lock", || {
            self.count("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0
        });
    }

    /// Neither a server process nor a file that isn't whole.
    pub(crate) fn check_server_and_files(&self) {
        wait_until("no server process of a dump is left", || {
            self.count("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'punk-eco-sched%'")
                == 0
        });
        let hidden: Vec<_> = self.names().into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(hidden, [""; 0]);
    }

    pub(crate) fn count(&self, query: &str) -> u64 {
        self.server.sql("postgres", query).parse().unwrap()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.psql.wait();
    }
}

pub(crate) fn last_error(row: &Value) -> String {
    let attempts = row["attempts"].as_array().unwrap();
    attempts.last().unwrap()["error"].as_str().unwrap().to_owned()
}

pub(crate) fn outcomes(row: &Value) -> Vec<&str> {
    let attempts = row["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}
