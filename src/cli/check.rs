//! `check`: every problem of the file; then, unless `--no-host`, what this host lacks to run its jobs.

mod secrets;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Access;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::alert;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Environment, JobSpec, JobTable};
use crate::document::{Problem, ProblemSeverity, Problems};
use crate::host::accounts;
use crate::host::mail::{self, Server};
use crate::host::secret::SecretText;
use crate::jobs::{HostContext, Lack};

/// What `check` was asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub no_host: bool,
    pub json: bool,
}

/// Says every problem on `err`, or as one document on `out`; 0 where nothing but warnings was found, else 2.
///
/// # Errors
/// Where `out` or `err` can't be written.
pub fn check(file: &Path, options: Options, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let environment = Environment::of_process(&SystemClock);
    let (table, mut problems) = match config::load(file, &environment) {
        Ok((table, warnings)) => (Some(table), warnings),
        Err(problems) => (None, problems),
    };
    if let (Some(table), false) = (&table, options.no_host) {
        problems.extend(host_problems(table, &environment)?);
    }
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &problems.to_json())?;
        writeln!(out)?;
    } else {
        if !problems.is_empty() {
            writeln!(err, "{problems}")?;
        }
        if let (Some(table), false) = (&table, problems.has_errors()) {
            writeln!(err, "{}: {}", file.display(), verdict(table, &problems))?;
        }
    }
    Ok(if problems.has_errors() { 2 } else { 0 })
}

fn verdict(table: &JobTable, problems: &Problems) -> String {
    let jobs = match table.jobs.len() {
        1 => "1 job".to_owned(),
        many => format!("{many} jobs"),
    };
    match problems.len() {
        0 => format!("fine: {jobs}"),
        1 => format!("fine but for 1 warning: {jobs}"),
        many => format!("fine but for {many} warnings: {jobs}"),
    }
}

fn host_problems(table: &JobTable, environment: &Environment) -> io::Result<Vec<Problem>> {
    let mut found = Vec::new();
    folders(table, &mut found);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    found.extend(runtime.block_on(secrets::all(table)));
    users(table, environment, &mut found);
    found.extend(runtime.block_on(preflights(table)));
    found.extend(runtime.block_on(mail_server(table)));
    Ok(found)
}

/// The folders that the daemon makes where they are missing.
fn folders(table: &JobTable, found: &mut Vec<Problem>) {
    let socket = table.paths.socket.parent().unwrap_or(Path::new("/"));
    let folders =
        [("paths.state", &*table.paths.state), ("paths.logs", &*table.paths.logs), ("paths.socket", socket)];
    for (path, folder) in folders {
        let Some(nearest) = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok()) else {
            continue;
        };
        let problem = if !nearest.is_dir() {
            format!("{} can't be made: {} is not a directory", folder.display(), nearest.display())
        } else if let Err(error) = rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
            format!("{} can't be written: {}: {error}", folder.display(), nearest.display())
        } else {
            continue;
        };
        found.push(
            Problem::placeless(ProblemSeverity::Error, path, problem)
                .hint("check as the user that the daemon runs as"),
        );
    }
}

/// Whether the mail server answers; a warning, as it may be back when it is needed.
async fn mail_server(table: &JobTable) -> Option<Problem> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let smtp = table.alerts.as_ref()?.smtp.as_ref()?;
    // That its password can't be read was said.
    let server = Server { patience: PATIENCE, ..alert::mail_server(smtp).await.ok()? };
    let error = mail::reach(&server).await.err()?;
    let contact = table.contacts.iter().find(|(_, contact)| contact.email.is_some());
    let hint = contact.map(|(name, _)| {
        format!("once it answers, `punk-eco-sched alert-test {name}` shows whether a mail arrives")
    });
    let mut problem = Problem::placeless(ProblemSeverity::Warning, "alerts.smtp", error.to_string());
    problem.hint = hint;
    Some(problem)
}

fn users(table: &JobTable, environment: &Environment, found: &mut Vec<Problem>) {
    for job in &table.jobs {
        let Some(user) = &job.user else { continue };
        let path = format!("jobs.{}.user", job.name);
        match accounts::by_name(user) {
            Err(reason) => found.push(Problem::placeless(ProblemSeverity::Error, path, reason)),
            Ok(account) if environment.uid != 0 && account.uid != environment.uid => {
                let message = format!("only a daemon that runs as root can run a job as {user}");
                found.push(Problem::placeless(ProblemSeverity::Warning, path, message));
            }
            Ok(_) => {}
        }
    }
}

/// Asks each job, a few at a time: some of them wait for a server.
async fn preflights(table: &JobTable) -> Vec<Problem> {
    const AT_ONCE: usize = 8;
    const PATIENCE: Duration = Duration::from_secs(60);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut asked = JoinSet::new();
    for (number, job) in table.jobs.iter().enumerate() {
        let (job, places) = (job.clone(), places.clone());
        let context = host_context(&job, table, clock.clone());
        asked.spawn(async move {
            let _place = places.acquire().await;
            let lacks = tokio::time::timeout(PATIENCE, job.job.preflight(&context)).await;
            let lacks = lacks.unwrap_or_else(|_| {
                let message = format!("the host did not answer within {} s", PATIENCE.as_secs());
                vec![Lack { fatal: true, message, hint: None }]
            });
            (number, lacks)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    let of_job = |(number, lacks): (usize, Vec<Lack>)| {
        let job = &table.jobs[number];
        let path = format!("jobs.{}.{}", job.name, job.kind.name);
        lacks.into_iter().map(move |lack| {
            let severity = if lack.fatal { ProblemSeverity::Error } else { ProblemSeverity::Warning };
            let mut problem = Problem::placeless(severity, path.clone(), lack.message);
            problem.hint = lack.hint;
            problem
        })
    };
    answers.into_iter().flat_map(of_job).collect()
}

fn host_context(job: &JobSpec, table: &JobTable, clock: Arc<dyn Clock>) -> HostContext {
    HostContext {
        connections: table.connections.clone(),
        clock,
        user: job.user.clone(),
        path: job.env.get("PATH").and_then(SecretText::literal).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exit code, standard output and standard error for a file with this text; the folder's name as `D`.
    fn checked(text: &str, options: Options) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let file = folder.path().join("jobs.yaml");
        std::fs::write(&file, text.replace("DIR", &place)).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&file, options, &mut out, &mut err).unwrap();
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&place, "D");
        (code, shown(out), shown(err))
    }

    const FINE: &str = "timezone: UTC\npaths: { state: DIR/s, logs: DIR/l, socket: DIR/r/s }\njobs:\n  x:\n    \
                        prune_backups: { directory: DIR, pattern: '*.gz', older_than: 30d, require_newer_verified: false }\n";

    #[test]
    fn a_fine_file() {
        for no_host in [true, false] {
            let (code, out, err) = checked(FINE, Options { no_host, json: false });
            assert_eq!((code, out.as_str(), err.as_str()), (0, "", "D/jobs.yaml: fine: 1 job\n"));
        }
        let (code, out, err) = checked(FINE, Options { no_host: true, json: true });
        assert_eq!((code, out.as_str(), err.as_str()), (0, "{\n  \"problems\": []\n}\n", ""));
    }

    #[test]
    fn warnings_leave_the_exit_code_alone() {
        let text = format!("dashboard: {{ listen: 0.0.0.0:1 }}\n{FINE}");
        let (code, _, err) = checked(&text, Options { no_host: true, json: false });
        assert_eq!(code, 0, "{err}");
        assert!(
            err.starts_with("D/jobs.yaml:1:14: warning: whoever reaches 0.0.0.0:1 can read the names"),
            "{err}"
        );
        assert!(err.ends_with("\nD/jobs.yaml: fine but for 1 warning: 1 job\n"), "{err}");
    }

    #[test]
    fn a_wrong_file() {
        let (code, out, err) = checked("jobs: {}\n", Options::default());
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(
            err.starts_with("D/jobs.yaml:1:1: error: `jobs:` holds no job\n    jobs: {}\n    ^\n  hint: "),
            "{err}"
        );
        let (code, out, err) = checked("jobs: {}\n", Options { no_host: false, json: true });
        let problems: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, err.as_str(), &problems["problems"][0]["line"]), (2, "", &1.into()));
    }

    #[test]
    fn a_mail_server_that_is_away_is_a_warning() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "contacts: {{ me: {{ email: a@b.test }} }}\nalerts: {{ to: [me], smtp: {{ host: 127.0.0.1, port: {}, from: c@d.test }} }}\n{FINE}",
            closed.port()
        );
        let (code, _, err) = checked(&text, Options::default());
        let expected = format!(
            "D/jobs.yaml: warning: SMTP at {closed}: connection refused (alerts.smtp)\n  hint: once it answers, \
             `punk-eco-sched alert-test me` shows whether a mail arrives\nD/jobs.yaml: fine but for 1 warning: 1 job\n"
        );
        assert_eq!((code, err), (0, expected));
    }

    #[test]
    fn a_webhook_that_a_secret_is_no_address_of_is_said_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("${{file:{}}}", path.display())
        };
        let (wrong, chat) =
            (secret("wrong", "hunter2/x\n"), secret("chat", "https://hooks.slack.com/hunter2"));
        let (fine, token) =
            (secret("fine", "https://x.test/hunter2\n"), secret("token", "hunter2\nhunter3\n"));
        let text = format!(
            "contacts:\n  a: {{ webhook: '{wrong}' }}\n  b: {{ webhook: {{ url: '{chat}', token: '{token}' }} }}\n  \
             c: {{ webhook: {{ url: '{fine}', token: '{token}' }} }}\nalerts: {{ to: [a, b, c] }}\n{FINE}"
        );
        let (code, _, err) = checked(&text, Options::default());
        let said: Vec<&str> = err.lines().filter(|line| line.contains("(contacts.")).collect();
        assert_eq!(
            (code, said),
            (
                2,
                vec![
                    "D/jobs.yaml: error: what it refers to: a webhook begins with https:// or http:// (contacts.a.webhook)",
                    "D/jobs.yaml: error: what it refers to: slack takes no token: its address is the secret (contacts.b.webhook.token)",
                    "D/jobs.yaml: error: what it refers to: a token has no control characters and one line (contacts.c.webhook.token)",
                ]
            )
        );
        assert!(!err.contains("hunter"), "{err}");
    }

    #[test]
    fn what_the_host_lacks() {
        let text = FINE.replace("state: DIR/s", "state: DIR/jobs.yaml/s")
            + "postgres:\n  app: { database: d, user: u, password: '${file:/nowhere/password}' }\n\
               contacts:\n  me: { webhook: '${env:PUNK_ECO_TEST_ABSENT}' }\n";
        let (code, out, err) = checked(&text, Options::default());
        assert_eq!((code, out.as_str()), (2, ""));
        let expect = |line: &str| assert!(err.lines().any(|one| one.trim() == line), "{line}\n{err}");
        expect(
            "D/jobs.yaml: error: D/jobs.yaml/s can't be made: D/jobs.yaml is not a directory (paths.state)",
        );
        expect(
            "D/jobs.yaml: error: ${file:/nowhere/password}: /nowhere/password can't be read: No such file or directory (os \
             error 2) (postgres.app.password)",
        );
        expect(
            "D/jobs.yaml: warning: ${env:PUNK_ECO_TEST_ABSENT}: the environment variable PUNK_ECO_TEST_ABSENT is not set \
             (contacts.me.webhook)",
        );
        // The host is none of `--no-host`'s business.
        let (code, _, err) = checked(&text, Options { no_host: true, json: false });
        assert_eq!(code, 0, "{err}");
    }

    #[test]
    fn a_token_that_no_client_can_send() {
        let checked_with = |token: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().display().to_string();
            std::fs::write(folder.path().join("token"), token).unwrap();
            let text = format!("dashboard: {{ listen: 127.0.0.1:1, token: '${{file:DIR/token}}' }}\n{FINE}");
            let (code, _, err) = checked(&text.replace("DIR", &place), Options::default());
            assert!(!err.contains("hunter2"), "{err}");
            (code, err.lines().next().unwrap().split_once(": ").unwrap().1.to_owned())
        };
        let wrong = |why: &str| (2, format!("error: what it refers to: {why} (dashboard.token)"));
        let unsendable = "no client can send it: only visible ASCII characters without blanks fit a header";
        assert_eq!(checked_with(b" hunter2\r\n\n"), (0, "fine: 1 job".to_owned()));
        assert_eq!(checked_with(b"\n \n"), wrong("it is empty"));
        assert_eq!(checked_with(b"hunter2\nhunter2"), wrong(unsendable));
        assert_eq!(checked_with("hunter2é".as_bytes()), wrong(unsendable));
    }

    #[test]
    fn secrets_that_do_not_answer_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let pipe = pipe.display();
        let text = format!(
            "contacts: {{ me: {{ webhook: '${{file:{pipe}}}' }} }}\ndefaults: {{ heartbeat: '${{file:{pipe}}}', alert: [me] }}\n{FINE}"
        );
        let (code, _, err) = checked(&text, Options::default());
        assert_eq!(code, 2, "{err}");
        for path in ["contacts.me.webhook", "jobs.x.heartbeat"] {
            let expected = format!("${{file:{pipe}}}: {pipe} does not answer within 5s ({path})");
            assert!(err.contains(&expected), "{err}");
        }
    }

    #[test]
    fn what_a_heartbeat_refers_to_must_be_a_url_and_is_not_shown() {
        let text = FINE.replace("jobs:", "defaults: { heartbeat: '${file:DIR/url}' }\njobs:")
            + "  y:\n    prune_backups: { directory: DIR, pattern: '*.gz', older_than: 30d, require_newer_verified: false }\n";
        let checked_with = |url: Option<&str>| {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().display().to_string();
            if let Some(url) = url {
                std::fs::write(folder.path().join("url"), url).unwrap();
            }
            let (code, _, err) = checked(&text.replace("DIR", &place), Options::default());
            (code, err.replace(&place, "D"))
        };
        assert_eq!(checked_with(Some("https://x/hunter2/{job}\n")).0, 0);
        let (code, err) = checked_with(None);
        let absent =
            "${file:D/url}: D/url can't be read: No such file or directory (os error 2) (jobs.x.heartbeat)";
        assert_eq!(
            (code, err.matches(absent).count(), err.matches("can't be read").count()),
            (2, 1, 1),
            "{err}"
        );
        let (code, err) = checked_with(Some("hunter2"));
        assert!(code == 2 && !err.contains("hunter2"), "{err}");
        let wrong = "what it refers to is not the URL of a heartbeat: relative URL without a base";
        assert_eq!(err.matches(wrong).count(), 1, "{err}");
    }
}
