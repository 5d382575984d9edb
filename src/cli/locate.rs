//! Where jobs.yaml and the control socket are.
//!
//! The socket's path is wanted before anything else is known, by verbs that must work (and be quick) even while
//! the rest of the file is wrong: so `paths.socket` is read by itself.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::Failure;

const VARIABLE: &str = "PUNK_ECO_SCHED_CONFIG";
const PLACES: [&str; 2] = ["/etc/punk-eco-sched/jobs.yaml", "jobs.yaml"];
const SOCKET: &str = "/run/punk-eco-sched/control.sock";

/// `--config`, else `$PUNK_ECO_SCHED_CONFIG`, else the first of the usual places where there is a file.
///
/// # Errors
/// Where neither names one and the usual places are empty.
pub fn config(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named(given) {
        return Ok(path);
    }
    // A file that is there but can't be read is still the one: the error is better than another file.
    let there = |place: &&&str| !matches!(std::fs::metadata(place), Err(error) if error.kind() == io::ErrorKind::NotFound);
    PLACES.iter().find(there).map(PathBuf::from).ok_or_else(|| {
        Failure::wrong(format!("there is no jobs.yaml: neither {} nor ./{}", PLACES[0], PLACES[1]))
            .hint(format!("name it with --config PATH or ${VARIABLE}"))
    })
}

/// The control socket of the daemon that runs this table.
///
/// # Errors
/// Where a file was named and can't be read.
pub fn socket(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let read = config(given).and_then(|path| {
        std::fs::read(&path).map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))
    });
    match read {
        Ok(text) => Ok(socket_in(&text).unwrap_or_else(default_socket)),
        Err(failure) if named(given).is_some() => Err(failure),
        // Nobody named a file, so that a daemon in its usual place is as good a guess as any.
        Err(_) => Ok(default_socket()),
    }
}

fn named(given: Option<&Path>) -> Option<PathBuf> {
    let variable = || std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    given.map(Path::to_owned).or_else(variable)
}

fn default_socket() -> PathBuf {
    // A unit with several runtime directories gets them all, separated by colons.
    match std::env::var("RUNTIME_DIRECTORY").ok().filter(|value| !value.is_empty()) {
        Some(directories) => {
            Path::new(directories.split(':').next().unwrap_or_default()).join("control.sock")
        }
        None => SOCKET.into(),
    }
}

#[derive(Deserialize)]
struct Whole {
    paths: Option<Paths>,
}

#[derive(Deserialize)]
struct Paths {
    socket: Option<PathBuf>,
}

fn socket_in(text: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(text).ok()?;
    // The block of `paths:` alone is enough of most files, and is readable while the rest is not; a file of
    // another form (flow style, quoted keys, aliases) is read whole.
    let whole = paths_block(text)
        .and_then(|block| serde_saphyr::from_str::<Whole>(&block).ok())
        .or_else(|| text.contains("socket").then(|| serde_saphyr::from_str(text).ok()).flatten())?;
    whole.paths?.socket
}

/// The lines of the top-level key `paths`.
fn paths_block(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("paths:"));
    let first = lines.next()?;
    let rest = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#', '\r']));
    Some(std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_in_any_form_of_the_file_and_beside_mistakes() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(socket_in(text.as_bytes()), expected.map(PathBuf::from), "{text}");
        };
        check("paths:\n  state: /s\n\n# note\n  socket: /run/a.sock\njobs: {}\n", Some("/run/a.sock"));
        check(
            "jobs: [: broken\npaths:\n  socket: \"/run/a b.sock\"   # ours\nlogs: }\n",
            Some("/run/a b.sock"),
        );
        check("paths: { socket: /run/a.sock }\n", Some("/run/a.sock"));
        check("{ paths: { socket: /run/a.sock }, jobs: {} }\n", Some("/run/a.sock"));
        check("\"paths\":\n  socket: /run/a.sock\n", Some("/run/a.sock"));
        check("x: &p { socket: /run/a.sock }\npaths: *p\n", Some("/run/a.sock"));
        check("paths:\n  state: /s\njobs: {}\n", None);
        check("jobs:\n  a:\n    paths:\n      socket: /no\n", None);
        check("", None);
        check("paths: 7\n", None);
    }
}
