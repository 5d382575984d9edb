//! PostgreSQL's own programs: how they are called. Of a server in a container, they are the container's own; everything
//! else is the same. Never reads what they say but their version.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use crate::backup::codec::Compression;
use crate::backup::work::Trouble;
use crate::host::postgres::{Connection, ServerFacts};
use crate::host::process::{Output, Program, Programs, Stdin};

use super::Format;
use super::inside::Inside;
use super::installed::{INSTALLED, choose, installed, missing, unfit, version_of};

/// Messages in English, so that they can be told apart and looked up.
const ENGLISH: [&str; 2] = ["LC_ALL", "C.UTF-8"];

/// The programs that fit a server.
pub struct Tools {
    pub pg_dump: PathBuf,
    /// `15.18 (Debian 15.18-0+deb12u1)`
    pub version: String,
    pub major: u32,
    /// Where they run, if not here.
    inside: Option<Inside>,
}

/// What a dump is to be like.
#[derive(Clone, Copy, Debug)]
pub struct DumpOrder {
    pub format: Format,
    pub compression: Compression,
    pub level: u32,
    /// How long it waits for a lock on a table.
    pub lock_wait: Duration,
}

/// Where pg_restore finds a custom dump.
pub enum Custom<'a> {
    File(&'a Path),
    /// As it is made.
    Pipe(OwnedFd),
}

/// A program that is ready to start.
pub struct Call {
    /// The name by which a message calls it.
    pub name: String,
    pub program: Program,
}

impl Tools {
    /// Those of the container.
    pub fn find_inside(
        inside: Inside,
        version: &str,
        facts: &ServerFacts,
        address: &str,
    ) -> Result<Self, Trouble> {
        let tools = Self::versioned("pg_dump".into(), version)?;
        if let Some(why) = unfit(version, facts, address) {
            return Err(Trouble::lasting(anyhow!(why)));
        }
        Ok(Self { inside: Some(inside), ..tools })
    }

    pub async fn find(programs: &Programs, facts: &ServerFacts, address: &str) -> Result<Self, Trouble> {
        let Some(pg_dump) = choose(path_variable().as_deref(), Path::new(INSTALLED), facts.major) else {
            return Err(Trouble::lasting(anyhow!("{}", missing(facts))));
        };
        let tools = Self::asked(programs, pg_dump).await?;
        tools.fit(facts, address).map_err(|why| Trouble::lasting(anyhow!(why)))?;
        Ok(tools)
    }

    /// Those of the container, for dumps that are read and belong to no server of it.
    pub(super) fn reading_inside(inside: Inside, version: &str) -> Result<Self, Trouble> {
        let tools = Self::versioned("pg_restore".into(), version)?;
        Ok(Self { inside: Some(inside), ..tools })
    }

    /// Those of this host that read the dumps of most versions, where no server says which one is wanted; `None`: it
    /// has none.
    pub(super) async fn newest(programs: &Programs) -> Result<Option<Self>, Trouble> {
        match choose(path_variable().as_deref(), Path::new(INSTALLED), u32::MAX) {
            Some(pg_dump) => Self::asked(programs, pg_dump).await.map(Some),
            None => Ok(None),
        }
    }

    async fn asked(programs: &Programs, pg_dump: PathBuf) -> Result<Self, Trouble> {
        let program = Program {
            argv: vec![text(&pg_dump)?, "--version".to_owned()],
            env: plain_env(),
            stdout: Output::Capture { limit: 4096 },
            stderr: Output::Log { tail: 1024 },
            ..Program::default()
        };
        let exit = programs.start(program).await?.wait().await;
        let said = String::from_utf8_lossy(&exit.stdout).trim().to_owned();
        Self::versioned(pg_dump, &said)
    }

    /// `said`: what it answers to `--version`.
    fn versioned(pg_dump: PathBuf, said: &str) -> Result<Self, Trouble> {
        let Some((version, major)) = version_of(said) else {
            return Err(Trouble::lasting(anyhow!(
                "{} --version says {said:?}, which is no version",
                pg_dump.display()
            )));
        };
        Ok(Self { pg_dump, version, major, inside: None })
    }

    /// pg_dump dumps servers of its own version and of older ones.
    fn fit(&self, facts: &ServerFacts, address: &str) -> Result<(), String> {
        if self.major >= facts.major {
            return Ok(());
        }
        Err(format!(
            "PostgreSQL at {address} is version {}, and {} is {}, which can't dump a newer server: install the package \
             postgresql-client-{}",
            facts.version,
            self.pg_dump.display(),
            self.version,
            facts.major
        ))
    }

    pub fn dump(&self, connection: &Connection, order: &DumpOrder) -> Result<Call, Trouble> {
        let mut argv = vec![
            text(&self.pg_dump)?,
            format!("--format={}", order.format.word()),
            "--no-password".to_owned(),
            format!("--lock-wait-timeout={}", order.lock_wait.as_millis()),
        ];
        if order.format == Format::Custom {
            argv.push(match order.compression {
                Compression::Gzip => format!("--compress={}", order.level),
                Compression::Zstd => format!("--compress=zstd:{}", order.level),
                Compression::None => "--compress=0".to_owned(),
            });
        }
        self.call(argv, Some(connection), Stdin::Null)
    }

    pub fn dump_roles(&self, connection: &Connection, superuser: bool) -> Result<Call, Trouble> {
        let mut argv = vec![
            text(&self.beside("pg_dumpall"))?,
            "--roles-only".to_owned(),
            "--no-password".to_owned(),
            // Without it pg_dumpall wants to enter the database postgres, which may be closed to this user.
            format!("--database={}", as_parameter(&connection.database)),
        ];
        if !superuser {
            argv.push("--no-role-passwords".to_owned());
        }
        self.call(argv, Some(connection), Stdin::Null)
    }

    /// psql in this database of the connection's server: reads what it is to do, prints rows and nothing else, and ends
    /// at the first error. Its streams are the caller's to choose.
    pub fn psql(&self, connection: &Connection, database: &str, stdin: Stdin) -> Result<Call, Trouble> {
        let psql = text(&self.beside("psql"))?;
        let options = ["-X", "-q", "-A", "-t", "--no-password", "-v", "ON_ERROR_STOP=1"];
        let argv = [psql].into_iter().chain(options.map(str::to_owned)).collect();
        let there = Connection { database: database.to_owned(), ..connection.clone() };
        self.call(argv, Some(&there), stdin)
    }

    /// pg_restore of a custom dump, which it is given as its input, into this database.
    pub fn restore_custom(
        &self,
        connection: &Connection,
        database: &str,
        stdin: Stdin,
    ) -> Result<Call, Trouble> {
        let argv = vec![
            text(&self.beside("pg_restore"))?,
            "--exit-on-error".to_owned(),
            "--no-password".to_owned(),
            format!("--dbname={}", as_parameter(database)),
        ];
        let there = Connection { database: database.to_owned(), ..connection.clone() };
        self.call(argv, Some(&there), stdin)
    }

    /// Makes SQL of a custom dump.
    pub fn read_custom(&self, dump: Custom<'_>) -> Result<Call, Trouble> {
        let mut argv = vec![text(&self.beside("pg_restore"))?, "--file=-".to_owned()];
        let mut stdin = Stdin::Null;
        match dump {
            Custom::Pipe(pipe) => stdin = Stdin::From(pipe),
            Custom::File(file) if self.inside.is_some() => {
                // The file is on this side.
                let opened = std::fs::File::open(file);
                let opened = opened.map_err(|e| anyhow!("{} can't be read back: {e}", file.display()))?;
                stdin = Stdin::From(opened.into());
            }
            Custom::File(file) => argv.push(text(file)?),
        }
        self.call(argv, None, stdin)
    }

    /// Where the server has its data, as this host sees it; none where it is on another host, or unknown.
    pub fn data_directory(&self, connection: &Connection, facts: &ServerFacts) -> Option<PathBuf> {
        let path = facts.data_directory.as_deref()?;
        match &self.inside {
            Some(inside) => inside.as_seen_here(path),
            None => connection.is_here().then(|| PathBuf::from(path)),
        }
    }

    fn call(
        &self,
        argv: Vec<String>,
        connection: Option<&Connection>,
        stdin: Stdin,
    ) -> Result<Call, Trouble> {
        let name = argv.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
        let mut env = match connection {
            Some(connection) => connection.program_env().map_err(Trouble::lasting)?,
            None => vec![],
        };
        let program = match &self.inside {
            Some(inside) => {
                env.push(ENGLISH.map(str::to_owned).into());
                inside.program(argv, env, stdin)
            }
            None => {
                env.extend(plain_env());
                let (stdout, stderr) = (Output::Pipe, Output::Log { tail: 4096 });
                Program { argv, env, stdin, stdout, stderr, ..Program::default() }
            }
        };
        Ok(Call { name, program })
    }

    /// The program of the same installation; where it isn't there, of the one that would have been chosen.
    fn beside(&self, name: &str) -> PathBuf {
        if self.inside.is_some() {
            return PathBuf::from(name);
        }
        let beside = self.pg_dump.with_file_name(name);
        if beside.is_file() {
            return beside;
        }
        installed(Path::new(INSTALLED), self.major)
            .map(|pg_dump| pg_dump.with_file_name(name))
            .filter(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from(name))
    }
}

fn plain_env() -> Vec<(String, String)> {
    let path = path_variable().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    vec![("PATH".to_owned(), path), ENGLISH.map(str::to_owned).into()]
}

pub(super) fn path_variable() -> Option<String> {
    std::env::var("PATH").ok()
}

fn text(path: &Path) -> Result<String, Trouble> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Trouble::lasting(anyhow!("{} is not UTF-8", path.display())))
}

/// libpq takes a database's name that holds `=`, or looks like an address, for a whole connection string.
fn as_parameter(database: &str) -> String {
    if database.contains('=') || database.contains("://") {
        return format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"));
    }
    database.to_owned()
}

#[cfg(test)]
mod tests;
