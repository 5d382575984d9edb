//! Restores a dump into a new database beside the old one, and proves that it holds what was dumped before anybody gets it.
//!
//! Nothing that is in use is touched until the very end, and then only its name. The content goes through PostgreSQL's own
//! psql or pg_restore; a database that isn't whole is dropped again. Never writes into a database that was there before.

mod databases;
mod feed;
mod plan;
mod roles;
mod rows;
pub mod scratch;
mod server;
mod subject;
mod swap;

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use plan::{Order, Plan};

use self::rows::Rows;
use self::server::{Server, stopped};
use self::subject::Subject;
use self::swap::Exchange;
use super::crypt::Identities;
use super::manifest::Manifest;
use super::postgres::{Format, Readers, Tools, look};
use super::read::Progress;
use super::verify;
use super::work::{Trouble, Work};
use crate::host::postgres::{Connection, ServerFacts};
use crate::units::HumanDuration;

/// The first version that is restored into: older ones can't end the sessions of a database that is dropped.
const OLDEST: u32 = 13;

/// A restore that is about to begin.
pub struct Restore<'a> {
    work: &'a Work,
    /// To the database that is replaced, or that the new one lies beside.
    target: Connection,
    entrance: Entrance,
    subject: Subject,
    keys: Option<Identities>,
    pub plan: Plan,
}

/// What has become of it.
#[derive(Debug)]
pub struct Restored {
    /// The name under which the restored database is found.
    pub database: String,
    /// What the database that had this name is called now.
    pub before: Option<String>,
    pub tables: usize,
    pub rows: u64,
    pub took: Duration,
    /// How to put it in the place of the one in use.
    pub by_hand: Vec<String>,
}

/// The way into a server that leads through none of the databases to be renamed.
struct Entrance {
    connection: Connection,
    facts: ServerFacts,
    tools: Tools,
}

impl Entrance {
    async fn find(work: &Work, target: &Connection) -> Result<Self, Trouble> {
        let mut refused = None;
        for database in ["postgres", "template1", &target.database] {
            let mut connection = Connection { database: database.to_owned(), ..target.clone() };
            let looking = Box::pin(look(work, &mut connection));
            let looked = tokio::select! {
                looked = looking => looked,
                () = work.cancel.cancelled() => return Err(stopped()),
            };
            match looked {
                Ok((facts, tools)) => return Ok(Self { connection, facts, tools }),
                // This database may be closed to this user, or not be there.
                Err(error @ Trouble::Lasting(_)) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(stopped))
    }

    fn server<'a>(&'a self, work: &'a Work) -> Server<'a> {
        Server { work, tools: &self.tools, entry: &self.connection }
    }
}

impl<'a> Restore<'a> {
    /// Looks at everything and does nothing.
    ///
    /// # Errors
    /// Where the backup can't be read, or the server not be asked.
    pub async fn prepare(
        work: &'a Work,
        target: Connection,
        file: &Path,
        keys: Option<Identities>,
        order: &Order,
    ) -> Result<Self, Trouble> {
        let subject = opened(file, keys.as_ref()).await?;
        let entrance = Entrance::find(work, &target).await?;
        let server = entrance.server(work);
        let plan = plan::plan(&server, &target, &entrance.facts, &subject, order).await?;
        Ok(Self { work, target, entrance, subject, keys, plan })
    }

    /// Does what the plan says. `progress` counts the bytes of the file, which is read twice.
    ///
    /// # Errors
    /// What went wrong; nothing of the restored database is left then, unless the error says so.
    pub async fn run(&self, progress: Progress) -> Result<Restored, Trouble> {
        if !self.plan.refusals.is_empty() {
            return Err(Trouble::Lasting(anyhow!("{}", self.plan.refusals.join("; "))));
        }
        let since = self.work.clock.since_boot();
        let expected = self.check(progress.clone()).await?;
        let server = self.entrance.server(self.work);
        self.make_roles(&server).await?;
        let name = &self.plan.name;
        self.work.note(&format!("restoring into {name}"));
        let tablespace = self.plan.live.as_ref().map(|live| live.tablespace.as_str());
        // Naming even the usual one takes a privilege.
        let tablespace = tablespace.filter(|name| *name != "pg_default");
        let major = self.entrance.facts.major;
        databases::create(&server, name, self.plan.like.as_ref(), tablespace, major).await?;
        let rows = match self.fill(&server, &expected, progress).await {
            Ok(rows) => rows,
            Err(error) => {
                take_away(&server, name).await;
                return Err(error);
            }
        };
        if self.work.cancel.is_cancelled() {
            take_away(&server, name).await;
            return Err(stopped());
        }
        let exchange = self.exchange();
        let swapped = self.plan.swap;
        // It takes seconds, and whoever interrupts it in the middle could not be told which name is whose.
        let to_its_end = Work { cancel: CancellationToken::new(), ..self.work.clone() };
        if swapped && let Err(error) = swap::swap(&self.entrance.server(&to_its_end), &exchange).await {
            let whole = format!(
                "the names could not be exchanged: {} is in use as before, and {name} is restored, whole and kept. To put \
                 it in its place, in psql: {}",
                self.target.database,
                exchange.by_hand().join(" ")
            );
            return Err(match error {
                Trouble::Passing(error) => Trouble::Passing(error.context(whole)),
                Trouble::Lasting(error) => Trouble::Lasting(error.context(whole)),
            });
        }
        Ok(Restored {
            database: if swapped { self.target.database.clone() } else { name.clone() },
            before: exchange.before.filter(|_| swapped).map(str::to_owned),
            tables: rows.tables(),
            rows: rows.rows(),
            took: self.work.clock.since_boot().saturating_sub(since),
            by_hand: if swapped { vec![] } else { exchange.by_hand() },
        })
    }

    fn exchange(&self) -> Exchange<'_> {
        Exchange { new: &self.plan.name, name: &self.target.database, before: self.plan.before.as_deref() }
    }

    /// Before anything is made: a damaged backup is not restored.
    async fn check(&self, progress: Progress) -> Result<Expected, Trouble> {
        let path = &self.subject.path;
        if self.subject.manifest.is_some() {
            self.work.note("reading the backup, and comparing it with its manifest");
            let readers = Readers::of(&self.entrance.connection);
            let checked = verify::check(self.work, path, self.keys.as_ref(), &readers, progress).await?;
            return Ok(Expected {
                sha256: checked.manifest.sha256.clone(),
                manifest: Some(checked.manifest),
            });
        }
        self.work.note("reading the file");
        let (work, path, keys) = (self.work.clone(), path.clone(), self.keys.clone());
        let reading =
            tokio::task::spawn_blocking(move || subject::read_through(&work, &path, keys.as_ref(), progress));
        let examined = joined(reading.await)?;
        if examined.form.format == Format::Plain && !examined.counted.complete {
            self.work.note("its last line is not the one with which pg_dump ends: is it whole?");
        }
        Ok(Expected { sha256: examined.sha256, manifest: None })
    }

    async fn make_roles(&self, server: &Server<'_>) -> Result<(), Trouble> {
        let Some((path, roles)) = self.subject.roles.as_ref().filter(|_| !self.plan.missing_roles.is_empty())
        else {
            return Ok(());
        };
        let names: Vec<&str> = self.plan.missing_roles.iter().map(String::as_str).collect();
        let made = format!("BEGIN;\n{}COMMIT;", roles.making(&self.plan.missing_roles));
        let told = server.tell(&server.entry.database, &made).await;
        told.map_err(|error| {
            Trouble::Lasting(anyhow!(
                "the roles that are missing ({}) can't be made from {}: {error}",
                names.join(", "),
                path.display()
            ))
        })?;
        self.work.note(&format!("made the roles {}", names.join(", ")));
        Ok(())
    }

    /// Everything between an empty database and one that can be used.
    async fn fill(
        &self,
        server: &Server<'_>,
        expected: &Expected,
        progress: Progress,
    ) -> Result<Rows, Trouble> {
        let name = &self.plan.name;
        let unfinished = format!(
            "half restored: punk-eco-sched began at {} to restore {} into it",
            self.work.now(),
            self.subject.name()
        );
        databases::comment(server, name, &unfinished).await?;
        let rows =
            restore_and_count(server, name, &self.subject, self.keys.clone(), expected, progress).await?;
        self.work.note("analyzing it");
        server.tell(name, "ANALYZE;").await?;
        if self.plan.live.is_some() {
            databases::carry(server, &self.target.database, name).await?;
            return Ok(rows);
        }
        if let Some(owner) = self.plan.owner() {
            databases::give_to(server, name, owner).await?;
        }
        databases::comment(server, name, "").await?;
        Ok(rows)
    }
}

/// What a file was found to be before it was restored.
struct Expected {
    sha256: String,
    manifest: Option<Manifest>,
}

/// Restores the backup into an empty database; its rows, which are those that the manifest tells of.
async fn restore_and_count(
    server: &Server<'_>,
    database: &str,
    subject: &Subject,
    keys: Option<Identities>,
    expected: &Expected,
    progress: Progress,
) -> Result<Rows, Trouble> {
    let examined = feed::feed(server, database, &subject.path, keys, progress).await?;
    if examined.sha256 != expected.sha256 {
        return Err(Trouble::Lasting(anyhow!(
            "{} was changed while it was restored: its SHA-256 was {}, and is {}",
            subject.path.display(),
            expected.sha256,
            examined.sha256
        )));
    }
    server.work.note("counting the rows of every table");
    let rows = rows::count(server, database).await?;
    let differences =
        expected.manifest.as_ref().map(|manifest| rows.differences(&manifest.tables)).unwrap_or_default();
    if !differences.is_empty() {
        return Err(Trouble::Lasting(Differs(rows::told(&differences)).into()));
    }
    Ok(rows)
}

/// What was restored is not what was dumped, although the file is: then the dump lacks something.
#[derive(Debug, thiserror::Error)]
#[error("the restored database does not hold what was dumped: {0}")]
pub struct Differs(String);

/// Of a restore that failed: its own error counts, and what stays is said.
async fn take_away(server: &Server<'_>, name: &str) {
    match databases::drop(server, name).await {
        Ok(()) => server.work.note(&format!("the unfinished database {name} was dropped")),
        Err(error) => server.work.note(&format!("the unfinished database {name} can't be dropped: {error}")),
    }
}

async fn opened(file: &Path, keys: Option<&Identities>) -> Result<Subject, Trouble> {
    let (file, keys) = (file.to_owned(), keys.cloned());
    joined(tokio::task::spawn_blocking(move || Subject::open(&file, keys.as_ref())).await)
}

fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// `1 table with 3 rows`
pub fn amount(tables: usize, rows: u64) -> String {
    let (tables_end, rows_end) = (if tables == 1 { "" } else { "s" }, if rows == 1 { "" } else { "s" });
    format!("{tables} table{tables_end} with {rows} row{rows_end}")
}

/// How long ago, in whole seconds, minutes or hours.
fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.as_second() - at.as_second()).unwrap_or(0);
    let grain = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    HumanDuration(Duration::from_secs(seconds / grain * grain)).to_string()
}
