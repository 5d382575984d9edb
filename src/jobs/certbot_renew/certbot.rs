//! Calling certbot, and what it means by what it says.

use std::path::Path;

use anyhow::anyhow;

use super::options::CertbotRenew;
use crate::host::process::{Exit, Output, Program, Programs, StartError, Status, find_program};
use crate::jobs::JobError;

/// What is kept of each stream for the message of a failure.
const TAIL: usize = 16 << 10;

/// Where the programs of administrators are, whoever the daemon is.
const ADMINISTRATORS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What certbot must know of the host, and can't be told by arguments: the authorities to trust where the ACME server
/// is a private one, and the way out.
const PASSED_ON: &[&str] = &[
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// `certbot renew`.
pub(super) async fn renew(programs: &Programs, options: &CertbotRenew) -> Result<(), JobError> {
    let mut argv = vec![options.certbot.clone(), "renew".to_owned()];
    // Without a terminal certbot would first sleep for up to eight minutes: the schedule is our own.
    argv.extend(["--no-random-sleep-on-renew", "--non-interactive"].map(str::to_owned));
    argv.extend(options.args.iter().cloned());
    let exit = run(programs, argv).await.map_err(|error| match error {
        StartError::Program { program, reason } => JobError::permanent(anyhow!(
            "certbot can't be run: {program}: {reason}; install the package certbot, or say where it is (certbot:)"
        )),
        other => other.into(),
    })?;
    match exit.status {
        Status::Code(0) => Ok(()),
        status => Err(JobError::Retryable(anyhow!("{}", explain(status, &exit.stdout, &exit.stderr)))),
    }
}

/// Runs a program to its end; its output is in the run's log.
pub(super) async fn run(programs: &Programs, argv: Vec<String>) -> Result<Exit, StartError> {
    let program = Program {
        argv,
        env: environment(programs),
        stdout: Output::Log { tail: TAIL },
        stderr: Output::Log { tail: TAIL },
        ..Program::default()
    };
    Ok(programs.start(program).await?.wait().await)
}

pub(super) fn find(program: &str) -> Result<(), String> {
    find_program(program, &path_variable(), Path::new("/")).map(|_| ())
}

/// `ended with code 1`
pub(super) fn ending(status: Status) -> String {
    match status {
        Status::Code(code) => format!("ended with code {code}"),
        Status::Signal(signal) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("was ended by signal {signal} ({name})"),
            None => format!("was ended by signal {signal}"),
        },
        Status::Unknown => "ended, and nobody knows how".to_owned(),
    }
}

/// A login's environment, in English, with what [`PASSED_ON`] says of the daemon's own.
fn environment(programs: &Programs) -> Vec<(String, String)> {
    let (mut env, _) = programs.login_environment();
    env.retain(|(name, _)| name != "PATH");
    env.push(("PATH".to_owned(), path_variable()));
    env.push(("LC_ALL".to_owned(), "C.UTF-8".to_owned()));
    let own = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok()?));
    env.extend(PASSED_ON.iter().filter_map(own));
    env
}

fn path_variable() -> String {
    match std::env::var("PATH") {
        Ok(own) if !own.is_empty() => format!("{own}:{ADMINISTRATORS}"),
        _ => ADMINISTRATORS.to_owned(),
    }
}

/// certbot's own words for what went wrong, without the lines that it says each time.
fn explain(status: Status, stdout: &[u8], stderr: &[u8]) -> String {
    let (out, err) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    if err.contains("Another instance of Certbot is already running") {
        return "another certbot is at work (\"Another instance of Certbot is already running.\"); is a certbot.timer \
                or a person renewing too?"
            .to_owned();
    }
    let trimmed = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_chatter(line));
        lines.map(str::to_owned).collect()
    };
    let (out, err) = (trimmed(&out), trimmed(&err));
    // What the ACME server has against a name; the reason of each failure; else the end of it all.
    let details =
        out.iter().chain(&err).filter(|line| line.starts_with("Domain: ") || line.starts_with("Detail: "));
    let reasons = err.iter().filter(|line| {
        line.starts_with("Failed to renew certificate ") || line.contains(" produced an unexpected error: ")
    });
    let mut told: Vec<&String> = reasons.chain(details).collect();
    if told.is_empty() {
        let all = if err.is_empty() { &out } else { &err };
        told = all[all.len().saturating_sub(4)..].iter().collect();
    }
    told.dedup();
    let more = told.len().saturating_sub(MOST_LINES);
    let told: Vec<&str> = told.into_iter().take(MOST_LINES).map(String::as_str).collect();
    let said = match (told.is_empty(), more) {
        (true, _) => "it said nothing".to_owned(),
        (false, 0) => told.join("; "),
        (false, more) => format!("{}; and {more} lines more in the log", told.join("; ")),
    };
    format!("certbot {}: {said}", ending(status))
}

const MOST_LINES: usize = 8;

fn is_chatter(line: &str) -> bool {
    line.starts_with("- - -")
        || line.starts_with("Saving debug log to ")
        || line.starts_with("Ask for help or search for solutions at ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certbot_is_quoted_with_what_matters() {
        let check = |stdout: &str, stderr: &str, expected: &str| {
            assert_eq!(explain(Status::Code(1), stdout.as_bytes(), stderr.as_bytes()), expected);
        };
        // As certbot 2.1 says it.
        check(
            "\n- - - - - -\nProcessing /c/renewal/punk.localhost.conf\n- - - - - -\n",
            "Saving debug log to /l/letsencrypt.log\n\
             Failed to renew certificate punk.localhost with error: Requesting localhost/dir: Connection refused\n\
             All renewals failed. The following certificates could not be renewed:\n  \
             /c/live/punk.localhost/fullchain.pem (failure)\n1 renew failure(s), 0 parse failure(s)\n\
             Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile /l/letsencrypt.log",
            "certbot ended with code 1: Failed to renew certificate punk.localhost with error: Requesting \
             localhost/dir: Connection refused",
        );
        check(
            "",
            "Another instance of Certbot is already running.\nAsk for help or search for solutions at https://x\n",
            "another certbot is at work (\"Another instance of Certbot is already running.\"); is a certbot.timer or a \
             person renewing too?",
        );
        check("", "", "certbot ended with code 1: it said nothing");
        check(
            "",
            "certbot: error: unrecognized arguments: --no-such\n",
            "certbot ended with code 1: certbot: error: unrecognized arguments: --no-such",
        );
    }
}
