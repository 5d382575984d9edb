//! Why a dump failed, as an operator should read it, and whether another attempt may help.

use std::path::Path;

use anyhow::anyhow;

use crate::backup::stream::StreamError;
use crate::backup::work::Trouble;
use crate::host::docker::client;
use crate::host::files;
use crate::host::postgres::Connection;
use crate::host::process::{StartError, Status};

/// Lines of a failing program that its error repeats.
const TOLD: usize = 5;

/// Why a program's output didn't become what was wanted.
pub enum Failure {
    Start(StartError),
    Stream(StreamError),
    Program(Trouble),
}

impl Failure {
    /// A stream knows nothing of the program that it comes from.
    pub fn of(self, program: &str, connection: &Connection) -> Self {
        match self {
            Self::Stream(error @ StreamError::Stalled(_)) => Self::Program(Trouble::Passing(anyhow!(
                "{program} of {} at {} was ended: {error}, which is the limit (stall:); does it wait for a lock?",
                connection.database,
                connection.address()
            ))),
            Self::Stream(error @ (StreamError::Stopped | StreamError::Read(_))) => {
                Self::Program(Trouble::Passing(anyhow!("{program} of {}: {error}", connection.database)))
            }
            other => other,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Start(error) => error.into(),
            Failure::Program(error) => error,
            Failure::Stream(error) => Self::Passing(anyhow!("the dump {error}")),
        }
    }
}

pub fn incomplete(program: &str, file: &str) -> Trouble {
    Trouble::Passing(anyhow!(
        "{program} ended with code 0, but its output breaks off before its closing comment: {file} is not whole and \
         was removed"
    ))
}

pub fn cant(path: &Path, what: &str, error: &std::io::Error) -> Trouble {
    Trouble::Passing(anyhow!("the directory {} can't be {what}: {error}", path.display()))
}

pub fn unwritable(path: &Path, error: &std::io::Error, written: u64, needed: String, free: u64) -> Trouble {
    if files::is_full(error) {
        return Trouble::Passing(anyhow!(
            "no space is left in {}: the dump stopped after {written} bytes with {free} bytes free; {needed}. The \
             unfinished file was removed",
            path.display()
        ));
    }
    Trouble::Passing(anyhow!(
        "the dump in {} can't be written after {written} bytes: {error}",
        path.display()
    ))
}

/// What a program that didn't end well has said last.
pub fn explain(name: &str, connection: &Connection, status: Status, stderr: &[u8]) -> Trouble {
    let ended = match status {
        // The client's own words: Docker, or the container, and not the program.
        Status::Code(client::FAILED | client::NO_PROGRAM) if connection.container.is_some() => {
            "failed".to_owned()
        }
        Status::Code(code @ 129..160) if connection.container.is_some() => {
            return explain(name, connection, Status::Signal(code - 128), stderr);
        }
        Status::Code(code) => format!("ended with code {code}"),
        Status::Signal(signal) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("was ended by signal {signal} ({name})"),
            None => format!("was ended by signal {signal}"),
        },
        Status::Unknown => "ended, and nobody knows how".to_owned(),
    };
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // What went wrong stands in the first line that says so; details and the query follow it.
    let from = lines.iter().position(|line| line.contains(": error: "));
    let from = from.unwrap_or(lines.len().saturating_sub(TOLD));
    let told = lines.iter().skip(from).take(TOLD).copied().collect::<Vec<_>>().join("; ");
    let said = if told.is_empty() { "it said nothing".to_owned() } else { told };
    let error = anyhow!("{name} of {} at {} {ended}: {said}", connection.database, connection.address());
    let lasting = [
        "executable file not found",
        "permission denied",
        "server version mismatch",
        "unrecognized option",
        "unrecognized configuration",
    ];
    if lasting.iter().any(|text| said.contains(text)) {
        Trouble::Lasting(error)
    } else {
        Trouble::Passing(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_told_by_its_last_words() {
        let connection = Connection {
            host: "db".into(),
            port: 5432,
            database: "shop".into(),
            user: "me".into(),
            password: None,
            container: None,
            tls: crate::host::postgres::Tls::Prefer,
        };
        let check = |status, stderr: &str, lasting: bool, expected: &str| {
            let error = explain("pg_dump", &connection, status, stderr.as_bytes());
            assert_eq!(
                (error.to_string().as_str(), matches!(error, Trouble::Lasting(_))),
                (expected, lasting)
            );
        };
        check(
            Status::Signal(9),
            "",
            false,
            "pg_dump of shop at db:5432 was ended by signal 9 (SIGKILL): it said nothing",
        );
        check(
            Status::Code(1),
            "1\n2\n3\n4\n\npermission denied for table t\n",
            true,
            "pg_dump of shop at db:5432 ended with code 1: 1; 2; 3; 4; permission denied for table t",
        );
        check(
            Status::Code(1),
            "pg_dump: warning: 1\npg_dump: error: query failed: FATAL: 2\n3\n4\n5\n6\n7\n",
            false,
            "pg_dump of shop at db:5432 ended with code 1: pg_dump: error: query failed: FATAL: 2; 3; 4; 5; 6",
        );
    }
}
