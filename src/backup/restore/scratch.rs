//! The proof of a backup: restored into a scratch database, which is dropped after, its rows counted.
//!
//! While it is there, a session of ours holds a lock on its name. So a scratch database whose lock is free is that of a
//! process that is gone, wherever that ran, and the next proof drops it; nobody else's is ever touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use rustix::pipe::{PipeFlags, pipe_with};

use super::databases::{self, name_at};
use super::plan::{self, Order};
use super::server::{Server, ident, literal, stopped};
use super::{Differs, Entrance, Expected, joined, opened, restore_and_count};
use crate::backup::crypt::Identities;
use crate::backup::postgres::{Call, explain};
use crate::backup::read::Progress;
use crate::backup::verify::Checked;
use crate::backup::work::{Trouble, Work};
use crate::host::postgres::Connection;
use crate::host::process::{Output, Running, Stdin};
use crate::policy::TERM_GRACE;

/// What every scratch database's name begins with.
pub const PREFIX: &str = "punk_eco_verify_";

/// Of our locks among the advisory ones of a database: `punk`.
const LOCKS: i32 = 0x7075_6e6b;
/// Of a role that only stands in for one that this server lacks.
const STAND_IN: &str = "made by punk-eco-sched to verify a backup";
/// Until a server has opened a session and given us a lock.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a restore has shown.
#[derive(Debug)]
pub struct Proven {
    pub tables: usize,
    pub rows: u64,
    /// How long the restore took.
    pub took: Duration,
    /// The versions of the programs and the server.
    pub tools: String,
}

/// Why it has shown nothing.
#[derive(Debug)]
pub enum Unproven {
    /// The backup is at fault.
    Damaged(Trouble),
    /// Somebody else is: the server, this host, whoever cancelled it.
    Trouble(Trouble),
}

impl From<Trouble> for Unproven {
    fn from(trouble: Trouble) -> Self {
        match &trouble {
            Trouble::Lasting(error) if error.is::<Differs>() => Self::Damaged(trouble),
            _ => Self::Trouble(trouble),
        }
    }
}

/// Restores a backup that was checked.
///
/// # Errors
/// [`Unproven`]; nothing is left on the server in any case, or the next proof takes it away.
pub async fn prove(
    work: &Work,
    target: &Connection,
    file: &Path,
    keys: Option<Identities>,
    checked: &Checked,
) -> Result<Proven, Unproven> {
    let entrance = Entrance::find(work, target).await?;
    let server = entrance.server(work);
    sweep(&server).await?;
    let subject = opened(file, keys.as_ref()).await?;
    let (name, _lock) = locked_name(&server).await?;
    let order = Order { into: Some(name.clone()), swap: false };
    let plan = plan::plan(&server, target, &entrance.facts, &subject, &order).await?;
    if !plan.refusals.is_empty() {
        return Err(Unproven::Trouble(Trouble::Lasting(anyhow!("{}", plan.refusals.join("; ")))));
    }
    let stand_ins = stand_in(&server, plan.missing_roles).await;
    let expected =
        Expected { sha256: checked.manifest.sha256.clone(), manifest: Some(checked.manifest.clone()) };
    let since = work.clock.since_boot();
    work.note(&format!("restoring {} into {name}", subject.name()));
    let proven = async {
        databases::create(&server, &name, plan.like.as_ref(), None, entrance.facts.major).await?;
        restore_and_count(&server, &name, &subject, keys, &expected, Progress::default()).await
    };
    let proven = proven.await;
    let took = work.clock.since_boot().saturating_sub(since);
    if let Err(error) = databases::drop(&server, &name).await {
        work.note(&format!("{name} can't be dropped, and is left for the next time: {error}"));
    }
    drop_roles(&server, stand_ins).await;
    let rows = proven?;
    Ok(Proven {
        tables: rows.tables(),
        rows: rows.rows(),
        took,
        tools: format!(
            "punk-eco-sched {}, programs {}, server {}",
            env!("CARGO_PKG_VERSION"),
            entrance.tools.version,
            entrance.facts.version
        ),
    })
}

/// Held while it lives, and until its process has ended: psql ends with its input.
struct Lock {
    _stdin: OwnedFd,
    _psql: Running,
}

/// The first name of this second that nobody else has.
async fn locked_name(server: &Server<'_>) -> Result<(String, Lock), Trouble> {
    let mut taken: Vec<String> =
        server.ask(&server.entry.database, "SELECT to_jsonb(datname) FROM pg_database;").await?;
    loop {
        let name = name_at("", PREFIX, server.work.now(), &taken);
        if let Some(lock) = lock(server, &name).await? {
            return Ok((name, lock));
        }
        taken.push(name);
    }
}

/// `None`: somebody else holds it.
async fn lock(server: &Server<'_>, name: &str) -> Result<Option<Lock>, Trouble> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).map_err(anyhow::Error::from)?;
    let Call { name: program_name, mut program } =
        server.tools.psql(server.entry, &server.entry.database, Stdin::From(read_end))?;
    program.stdout = Output::Pipe;
    program.stderr = Output::Capture { limit: 4096 };
    let programs = &server.work.programs;
    let mut psql = programs.start(program).await?;
    let Some(answer) = psql.stdout.take() else { return Err(stopped()) };
    let asked = format!("SELECT pg_try_advisory_lock({LOCKS}, hashtext({}));\n", literal(name));
    rustix::io::write(&write_end, asked.as_bytes()).map_err(anyhow::Error::from)?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut said = [0];
        File::from(answer).read_exact(&mut said).map(|()| said[0])
    });
    let said = tokio::time::timeout(PATIENCE, reading);
    let said = server.work.cancel.run_until_cancelled(said).await.and_then(Result::ok);
    match said.and_then(|said| joined(said).ok()) {
        Some(b't') => Ok(Some(Lock { _stdin: write_end, _psql: psql })),
        Some(_) => Ok(None),
        None => {
            let exit = programs.end_one(&mut psql, TERM_GRACE).await;
            Err(explain(&program_name, server.entry, exit.status, &exit.stderr))
        }
    }
}

/// Drops what processes that are gone have left.
async fn sweep(server: &Server<'_>) -> Result<(), Trouble> {
    let entry = &server.entry.database;
    let left = format!("SELECT to_jsonb(datname) FROM pg_database WHERE datname ~ '^{PREFIX}[0-9]';");
    let left: Vec<String> = server.ask(entry, &left).await?;
    for name in &left {
        let dropped = match lock(server, name).await {
            Ok(None) => continue,
            // The lock keeps others from it until it is gone.
            Ok(Some(_lock)) => databases::drop(server, name).await,
            Err(error) => Err(error),
        };
        match dropped {
            Ok(()) => server.work.note(&format!("dropped {name}, which a process that is gone left behind")),
            // Perhaps another user's: it is in nobody's way.
            Err(error) => server.work.note(&format!("{name} was left behind and can't be dropped: {error}")),
        }
    }
    if left.is_empty() {
        let roles = format!(
            "SELECT to_jsonb(rolname) FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = {};",
            literal(STAND_IN)
        );
        let roles: Vec<String> = server.ask(entry, &roles).await?;
        drop_roles(server, roles.into_iter().collect()).await;
    }
    Ok(())
}

/// Objects that belong to a role need one; that nobody can enter with it is all the same to them.
async fn stand_in(server: &Server<'_>, missing: BTreeSet<String>) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    for role in missing {
        let sql = format!(
            "CREATE ROLE {} NOLOGIN;\nCOMMENT ON ROLE {} IS {};",
            ident(&role),
            ident(&role),
            literal(STAND_IN)
        );
        match server.tell(&server.entry.database, &sql).await {
            Ok(()) => {
                server.work.note(&format!("the server lacks the role {role}: made one that can't log in"));
                made.insert(role);
            }
            // Perhaps nothing in the dump is its own.
            Err(error) => {
                server.work.note(&format!("the server lacks the role {role}, and it can't be made: {error}"));
            }
        }
    }
    made
}

async fn drop_roles(server: &Server<'_>, roles: BTreeSet<String>) {
    for role in roles {
        let sql = format!("DROP ROLE IF EXISTS {};", ident(&role));
        if let Err(error) = server.tell(&server.entry.database, &sql).await {
            server.work.note(&format!("the role {role}, made to verify a backup, can't be dropped: {error}"));
        }
    }
}
