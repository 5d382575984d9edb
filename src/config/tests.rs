//! What a jobs.yaml means, and what is said of a wrong one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::document::{ConnectionName, Invalid, JobRef};
use crate::host::secret::ExposeSecret;
use crate::jobs::{Job, JobContext, JobError, KindOptions, kind};
use crate::model::{JobName, Report};
use crate::policy::{Interrupted, IoClass, Missed, MissedPolicy, Overlap, Retries};

mod bad;
mod contacts;
mod policies;

/// Stands for the kinds of the product, of which this module knows none.
static TEST_KINDS: &[Kind] = &[kind::<Command>(), kind::<Dump>(), kind::<Verify>()];

/// Runs a program
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Command {
    /// The program and its arguments
    run: Option<Vec<String>>,
    /// A line for sh
    shell: Option<String>,
}

impl KindOptions for Command {
    const NAME: &'static str = "command";
    const SUMMARY: &'static str = "Runs a program";
    const INTERRUPTED: Interrupted = Interrupted::Leave;

    fn invalid(&self) -> Vec<Invalid> {
        if self.run.is_some() != self.shell.is_some() {
            return vec![];
        }
        vec![Invalid { key: String::new(), message: "give either `run` or `shell`".into(), hint: None }]
    }
}

/// Dumps a database
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Dump {
    /// Where the database is
    #[expect(dead_code, reason = "that it is read is what is tested")]
    connection: ConnectionName,
    /// Where the dump goes
    directory: PathBuf,
    /// Of the compressor
    #[serde(default)]
    level: u8,
}

impl KindOptions for Dump {
    const NAME: &'static str = "pg_dump";
    const SUMMARY: &'static str = "Dumps a database";
    const RETRIES: Retries = Retries::THRICE;

    fn invalid(&self) -> Vec<Invalid> {
        let wrong = self.level > 9 || self.directory.is_relative();
        let one = Invalid { key: "level".into(), message: "at most 9".into(), hint: None };
        if wrong { vec![one] } else { vec![] }
    }
}

/// Proves a backup
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    /// The job that made it
    #[expect(dead_code, reason = "that it is read is what is tested")]
    of: JobRef,
}

impl KindOptions for Verify {
    const NAME: &'static str = "verify_backup";
    const SUMMARY: &'static str = "Proves a backup";
}

macro_rules! does_nothing {
    ($($kind:ident)+) => {
        $(#[async_trait]
        impl Job for $kind {
            async fn run(&self, _: &JobContext) -> Result<Report, JobError> {
                Ok(Report::new("done"))
            }
        })+
    };
}
does_nothing!(Command Dump Verify);

fn environment() -> Environment {
    Environment {
        variables: HashMap::new(),
        zone: Ok(TimeZone::UTC),
        uid: rustix::process::geteuid().as_raw(),
        now: "2026-11-22T12:00:00Z".parse().unwrap(),
    }
}

fn read_text(text: &str) -> Result<(JobTable, Problems), Problems> {
    read_with(text, Path::new("jobs.yaml"), &environment(), TEST_KINDS)
}

#[track_caller]
fn table(text: &str) -> JobTable {
    match read_text(text) {
        Ok((table, _)) => table,
        Err(problems) => panic!("{problems}"),
    }
}

/// One job `x` with these lines.
#[track_caller]
fn job(lines: &str) -> Arc<JobSpec> {
    let text = format!("jobs:\n  x:\n    command: {{ shell: ls }}\n{lines}");
    table(&text).job("x").unwrap().clone()
}

/// Each problem as `line:column path: message (hint)`, warnings with `warning` before it.
fn told(problems: &Problems) -> Vec<String> {
    let one = |p: &Problem| {
        let warning = if p.is_error() { "" } else { "warning " };
        let hint = p.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let place = match (p.line, p.column) {
            (Some(line), Some(column)) => format!("{line}:{column}"),
            _ => "-".into(),
        };
        format!("{warning}{place} {}: {}{hint}", p.path, p.message)
    };
    problems.iter().map(one).collect()
}

/// The problems, or the warnings, of a text.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = match read_text(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    assert_eq!(told(&problems), expected, "{text}");
}

#[test]
fn the_whole_file_of_the_contract_is_read() {
    let (table, warnings) = read_text(include_str!("tests/contract.yaml")).unwrap();
    assert_eq!(told(&warnings), [""; 0]);
    assert_eq!(table.timezone.iana_name(), Some("Africa/Casablanca"));
    assert_eq!(
        table.paths,
        Paths {
            state: "/var/lib/punk-eco-sched".into(),
            logs: "/var/log/punk_eco".into(),
            socket: "/run/punk-eco-sched/control.sock".into(),
        }
    );
    assert_eq!((table.logs.max_size, table.logs.max_files), (10 << 20, 3));
    assert_eq!(table.keep_history, Duration::from_secs(90 * 86_400));
    assert_eq!(table.max_running, 64);
    let app = &table.connections["app"];
    assert_eq!((app.host.as_str(), app.port, app.database.as_str()), ("127.0.0.1", 5432, "punk_eco"));
    assert_eq!(format!("{:?}", app.password), "Some(${file:/etc/punk-eco-sched/db-password})");
    assert_eq!(
        format!("{:?}", table.contacts["security"].webhook),
        "Some(Webhook { url: ${credential:security-webhook}, form: None, token: None })"
    );
    let alerts = table.alerts.as_ref().unwrap();
    assert_eq!(
        (alerts.to.as_slice(), alerts.smtp.as_ref().unwrap().port),
        (["infra".to_owned()].as_slice(), 25)
    );
    assert_eq!(table.dashboard.as_ref().unwrap().listen.to_string(), "127.0.0.1:9180");
    let names: Vec<&str> = table.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["db-backup", "check"]);
    let backup = table.job("db-backup").unwrap();
    assert_eq!(backup.kind.name, "pg_dump");
    assert_eq!(backup.schedule.as_ref().unwrap().expressions(), ["0 0 * * *"]);
    assert_eq!(backup.schedule.as_ref().unwrap().zone().iana_name(), Some("Africa/Casablanca"));
    assert_eq!(backup.alert, ["infra"]);
    assert_eq!(table.hash.len(), 64);
}

#[test]
fn what_nobody_would_hear_is_said() {
    let check = |top: &str, expected: &[&str]| {
        let (_, warnings) = read_text(&format!(
            "timezone: UTC\n{top}\njobs:\n  x: {{ command: {{ shell: ls }}, alert: [a] }}\n"
        ))
        .unwrap();
        assert_eq!(told(&warnings), expected, "{top}");
    };
    let a = "contacts: { a: { email: a@x }, b: { email: b@x } }";
    let unsent = "warning 2:18 contacts.a.email: contact `a` has an e-mail address, and there is no `alerts.smtp`: no \
                  mail is sent";
    check(a, &[unsent]);
    check(&format!("{a}\nalerts: {{}}"), &[unsent]);
    check(&format!("{a}\nalerts: {{ smtp: {{ host: h, from: s@x }} }}"), &[]);
    check("contacts: { a: { webhook: 'http://x/' } }", &[]);
}

#[test]
fn a_secret_is_never_shown() {
    let text = "postgres:\n  app: { database: d, user: u, password: hunter2, prot: 5 }\n\
                  web: { database: d, user: u, pasword: hunter2 }\n\
                contacts:\n  me: { webhook: \"https://hunter2/\", mail: x }\n  you: { webhook: hunter2 }\n\
                  \x20 him: { webhook: { url: hunter2, token: hunter2, fom: slack } }\n\
                  \x20 her: { webhook: { url: 'https://a/hunter2', token: hunter2, form: discord } }\n\
                  \x20 all: { webhook: [hunter2] }\n  one: { webhook: 5, token: hunter2 }\n\
                dashboard: { listen: x, token: hunter2 }\n\
                jobs:\n  x: { command: { shell: ls }, env: { A: hunter2, B: 'hunter2', C: 5, A: hunter2 }, nic: 5 }\n  \
                y: { command: { shell: ls }, heartbeat: hunter2 }\n  z: { command: { shell: ls }, hartbeat: 'http://hunter2' }\n  \
                a: { command: { shell: ls }, heartbeat: { url: 'hunter2', only: failure } }\n";
    let problems = read_text(text).unwrap_err();
    let shown = format!("{problems}\n{problems:?}\n{}", problems.to_json());
    assert!(problems.len() >= 6, "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    // What can't be parsed has no tree that tells what is a secret.
    let broken = read_text("postgres:\n  app: { password: hunter2, : [ }\njobs: x\n").unwrap_err();
    assert!(!format!("{broken}").contains("hunter2"), "{broken}");

    let fine = table(
        "postgres:\n  app: { database: d, user: u, password: hunter2 }\n\
         jobs:\n  x: { command: { shell: ls }, env: { A: hunter2 }, heartbeat: 'https://x/hunter2' }\n",
    );
    let job = &fine.jobs[0];
    assert!(!format!("{fine:?} {:?} {:?}", job.env, job.heartbeat).contains("hunter2"));
}

#[test]
fn paths_come_from_the_file_then_systemd_then_the_standard_places() {
    let check = |text: &str, variables: &[(&str, &str)], expected: [&str; 3]| {
        let mut environment = environment();
        environment.variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let paths = paths_in(text, Path::new("/etc/p/jobs.yaml"), &environment);
        let expected =
            Paths { state: expected[0].into(), logs: expected[1].into(), socket: expected[2].into() };
        assert_eq!(paths, expected, "{text}");
    };
    let standard = ["/var/lib/punk-eco-sched", "/var/log/punk_eco", "/run/punk-eco-sched/control.sock"];
    check("", &[], standard);
    check("not: [yaml", &[], standard);
    check(
        "",
        &[("STATE_DIRECTORY", "/s:/other"), ("LOGS_DIRECTORY", "/l"), ("RUNTIME_DIRECTORY", "/r")],
        ["/s", "/l", "/r/control.sock"],
    );
    check(
        "paths: { state: /a, logs: b, socket: /c.sock }\njobs: 5\n",
        &[("STATE_DIRECTORY", "/s")],
        ["/a", "/etc/p/b", "/c.sock"],
    );
    // A slip beside it doesn't hide what can be read.
    check("paths: { state: /a, lgos: b }\n", &[], ["/a", standard[1], standard[2]]);
}

#[test]
fn a_zone_that_nobody_knows_is_said() {
    let nowhere = Environment { zone: Err("/etc/localtime is absent".into()), ..environment() };
    let read = |text: &str| read_with(text, Path::new("jobs.yaml"), &nowhere, TEST_KINDS).unwrap();
    let (table, warnings) = read("jobs: { x: { command: { shell: ls } } }\n");
    assert_eq!(table.timezone, TimeZone::UTC);
    assert_eq!(
        told(&warnings),
        [
            "warning 1:1 timezone: no `timezone`, and the system's is not known: UTC is used (/etc/localtime is absent)"
        ]
    );
    let (_, warnings) = read("timezone: UTC\njobs: { x: { command: { shell: ls } } }\n");
    assert_eq!(told(&warnings), [""; 0]);
}

#[test]
fn the_file_is_found_in_the_order_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let installed = folder.path().join("jobs.yaml");
    let mut environment = environment();
    assert_eq!(find_among(None, &environment, &installed), Path::new("jobs.yaml"));
    std::fs::write(&installed, "").unwrap();
    assert_eq!(find_among(None, &environment, &installed), installed);
    environment.variables.insert(FILE_VARIABLE.into(), "/from/variable".into());
    assert_eq!(find_among(None, &environment, &installed), Path::new("/from/variable"));
    assert_eq!(find_among(Some(Path::new("/option")), &environment, &installed), Path::new("/option"));
}

#[test]
fn the_schema_describes_every_key_and_every_kind() {
    let schema = schema::schema_with(TEST_KINDS);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let job = &schema["$defs"]["Job"];
    for kind in TEST_KINDS {
        assert_eq!(job["properties"][kind.name]["description"], kind.summary);
    }
    assert_eq!(job["oneOf"].as_array().unwrap().len(), TEST_KINDS.len());
    assert_eq!(job["additionalProperties"], false);
    let mut undescribed = vec![];
    describe("", &schema, &mut undescribed);
    describe("", &super::schema(), &mut undescribed);
    assert_eq!(undescribed, Vec::<String>::new());
}

/// Where a property has no description, and references that lead nowhere.
fn describe(path: &str, schema: &serde_json::Value, undescribed: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{path}/{key}");
                if key == "properties" {
                    for (name, property) in value.as_object().unwrap() {
                        if property.get("description").is_none() {
                            undescribed.push(format!("{path}/{name}"));
                        }
                    }
                }
                describe(&path, value, undescribed);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| describe(path, item, undescribed)),
        _ => {}
    }
}

#[test]
fn the_production_table_is_fine_and_its_first_line_is_for_editors() {
    let text = include_str!("../../jobs.yaml");
    assert!(text.starts_with("# yaml-language-server: $schema="));
    let (table, warnings) = match read(text, Path::new("jobs.yaml"), &environment()) {
        Ok(read) => read,
        Err(problems) => panic!("{problems}"),
    };
    assert_eq!(told(&warnings), Vec::<String>::new());
    let schedules = |name: &str| table.job(name).unwrap().schedule.as_ref().unwrap().expressions().to_vec();
    assert_eq!(schedules("db-backup"), ["0 0 * * *"]);
    assert_eq!(schedules("backup-retention"), ["0 1 * * 0"]);
    assert_eq!(schedules("monitoring"), ["*/5 * * * *"]);
    assert_eq!(schedules("certbot-renew"), ["0 12,23 * * *"]);
}

#[test]
fn ten_thousand_jobs_are_read() {
    let mut text = String::from("postgres:\n  app: { database: d, user: u }\njobs:\n");
    for number in 0..10_000 {
        text.push_str(&format!(
            "  job-{number}:\n    description: Number {number} of many\n    schedule: \"{} {} * * *\"\n    \
             timeout: 5m\n    retries: {{ attempts: 2 }}\n    after: [job-{}]\n    pg_dump: {{ connection: app, directory: /var/backups }}\n",
            number % 60,
            number % 24,
            if number == 0 { 1 } else { 0 },
        ));
    }
    let text = text.replacen("    after: [job-1]\n", "", 1);
    assert_eq!(table(&text).jobs.len(), 10_000);
}

#[test]
fn a_job_is_found_by_its_name() {
    let table = table(
        "jobs:\n  b: { command: { shell: ls } }\n  a-1: { command: { shell: ls } }\n  \
         ab: { command: { shell: ls } }\n  a: { command: { shell: ls } }\n",
    );
    for job in &table.jobs {
        assert_eq!(table.job(job.name.as_str()).unwrap().name, job.name);
    }
    assert!(["", "0", "a-", "aa", "c"].iter().all(|name| table.job(name).is_none()));
}
