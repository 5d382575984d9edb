//! Which of PostgreSQL's programs a host has, and whether they fit a server. Starts none of them.

use std::path::{Path, PathBuf};

use super::tools::path_variable;
use crate::host::postgres::ServerFacts;

/// Where Debian and its kin keep the programs of each version.
pub(super) const INSTALLED: &str = "/usr/lib/postgresql";

/// A program that this host lacks, and how to come by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    pub message: String,
    pub hint: String,
}

/// What `check` can see without starting a program.
pub fn lacking(facts: &ServerFacts) -> Option<Lacking> {
    let found = choose(path_variable().as_deref(), Path::new(INSTALLED), facts.major);
    let lack = |message: String| Lacking {
        message,
        hint: format!("apt-get install postgresql-client-{}", facts.major),
    };
    let Some(pg_dump) = found else { return Some(lack(missing(facts))) };
    let major = pg_dump.strip_prefix(INSTALLED).ok()?.iter().next()?.to_str()?.parse::<u32>().ok()?;
    (major < facts.major).then(|| {
        lack(format!("the server is PostgreSQL {}, which {} can't dump", facts.version, pg_dump.display()))
    })
}

/// Why the pg_dump of a container doesn't fit the server there; `said`: what it answers to `--version`.
pub fn unfit(said: &str, facts: &ServerFacts, address: &str) -> Option<String> {
    let Some((version, major)) = version_of(said) else {
        return Some(format!(
            "pg_dump --version says {said:?} in the container of {address}, which is no version"
        ));
    };
    (major < facts.major).then(|| {
        format!(
            "PostgreSQL at {address} is version {}, and pg_dump there is {version}, which can't dump a newer server: name \
             a container whose pg_dump is {} or newer",
            facts.version, facts.major
        )
    })
}

/// A pg_dump that the PATH names is the operator's choice, and is used. Debian's /usr/bin/pg_dump names none: it is
/// a script that looks for a cluster of this host. Then it is the installed one of the server's version, or the next
/// newer one, or else the newest (whose age the caller sees).
pub(super) fn choose(path: Option<&str>, installations: &Path, server: u32) -> Option<PathBuf> {
    let named =
        path.unwrap_or_default().split(':').filter(|folder| folder.starts_with('/')).find_map(|folder| {
            let file = Path::new(folder).join("pg_dump");
            (rustix::fs::access(&file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()).then_some(file)
        });
    let wrapper = |file: &Path| file.canonicalize().is_ok_and(|file| file.ends_with("pg_wrapper"));
    match named {
        Some(file) if !wrapper(&file) => Some(file),
        _ => installed(installations, server),
    }
}

pub(super) fn installed(installations: &Path, server: u32) -> Option<PathBuf> {
    let found = std::fs::read_dir(installations).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let major: u32 = entry.file_name().to_str()?.split('.').next()?.parse().ok()?;
        let file = entry.path().join("bin/pg_dump");
        file.is_file().then_some((major, file))
    });
    let (older, newer): (Vec<_>, Vec<_>) = found.partition(|(major, _)| *major < server);
    newer.into_iter().min().or_else(|| older.into_iter().max()).map(|(_, file)| file)
}

pub(super) fn missing(facts: &ServerFacts) -> String {
    format!(
        "pg_dump is neither in the PATH nor under {INSTALLED}: install the package postgresql-client-{}",
        facts.major
    )
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
pub(super) fn version_of(said: &str) -> Option<(String, u32)> {
    let (_, version) = said.split_once("(PostgreSQL) ")?;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    Some((version.to_owned(), version[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests;
