//! `pg_dump`: a dump of one database, with the roles of its server and a manifest, published only when whole.
//!
//! The dump is `pg_dump`'s own output, of the server's own version. It passes through [`stream`], which counts,
//! compresses, hashes, writes and reads back; [`publish`] gives the files their names at the very end.

mod attempt;
mod copying;
mod options;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::anyhow;
use async_trait::async_trait;
use jiff::Timestamp;

use crate::backup::codec::Compression;
use crate::backup::copies::Destination;
use crate::backup::postgres::{self, Format, Inside, look};
use crate::host::files;
use crate::host::postgres::{Connection, Container, PostgresError};
use crate::model::Report;
use crate::policy::Retries;

use super::{Backs, HostContext, Job, JobContext, JobError, Kept, KindOptions, Lack};
use attempt::Dump;
use copying::Copying;
pub use options::PgDump;

impl KindOptions for PgDump {
    const NAME: &'static str = "pg_dump";
    const SUMMARY: &'static str =
        "dump a PostgreSQL database, with its roles and a manifest of what is in it";
    const RETRIES: Retries = Retries::THRICE;

    fn invalid(&self) -> Vec<crate::document::Invalid> {
        self.problems()
    }
}

#[async_trait]
impl Job for PgDump {
    async fn run(&self, ctx: &JobContext) -> Result<Report, JobError> {
        let mut connection =
            self.connection(&ctx.connections).map_err(|lack| JobError::permanent(anyhow!(lack)))?;
        let owner = self.owner().map_err(|lack| JobError::permanent(anyhow!(lack)))?;
        let work = ctx.work();
        let database = connection.database.clone();
        let copying = Copying { options: self, work: &work, owner, database: &database };
        if ctx.attempt > 1
            && !(ctx.dry_run || self.copy_to.is_empty())
            && let Some(made) = copying.made_before()
        {
            return copying.bring(made).await;
        }
        let looking = Box::pin(look(&work, &mut connection));
        let (facts, tools) = tokio::select! {
            looked = looking => looked?,
            () = ctx.cancel.cancelled() => return Err(JobError::Retryable(anyhow!("stopped"))),
        };
        if self.format == Format::Custom && self.compression == Compression::Zstd && tools.major < 16 {
            return Err(JobError::permanent(anyhow!(
                "compression: zstd with format: custom needs pg_dump 16 or newer, and {} is {}: use gzip, or format: plain",
                tools.pg_dump.display(),
                tools.version
            )));
        }
        let attempt =
            Dump { options: self, work: work.clone(), connection: &connection, facts, tools, owner };
        if ctx.dry_run {
            return Ok(attempt.say()?);
        }
        copying.bring(attempt.run().await?).await
    }

    async fn preflight(&self, ctx: &HostContext) -> Vec<Lack> {
        let lack = |message: String| Lack { fatal: true, message, hint: None };
        let mut lacks: Vec<Lack> = self.owner().err().map(lack).into_iter().collect();
        lacks.extend(files::why_not_writable(&self.directory).map(lack));
        lacks.extend(copying::lacking(self).await);
        let connection = match self.connection(&ctx.connections) {
            Ok(connection) => connection,
            Err(message) => {
                lacks.push(lack(message));
                return lacks;
            }
        };
        if let Some(container) = connection.container.clone() {
            lacks.extend(Box::pin(lacking_inside(connection, &container, ctx.clock.now())).await);
            return lacks;
        }
        match connection.facts().await {
            Ok(facts) => lacks.extend(postgres::lacking(&facts).map(|lacking| Lack {
                fatal: true,
                message: lacking.message,
                hint: Some(lacking.hint),
            })),
            // A server may be away for a moment: that is no fault of the file or of this host.
            Err(PostgresError::Away(message)) => lacks.push(Lack { fatal: false, message, hint: None }),
            Err(PostgresError::Refused(message)) => lacks.push(lack(message)),
        }
        lacks
    }

    fn can_dry_run(&self) -> bool {
        true
    }

    fn keeps(&self, name: &str) -> Option<Kept> {
        let (directory, of) = (self.directory.clone(), Backs::Database(self.connection.clone()));
        Some(Kept { job: name.to_owned(), directory, of })
    }

    fn copies_to(&self) -> Vec<Destination> {
        self.copy_to.destinations()
    }

    fn backups_in(&self) -> Option<&Path> {
        Some(&self.directory)
    }
}

impl PgDump {
    /// With its host resolved.
    fn connection(&self, known: &BTreeMap<String, Connection>) -> Result<Connection, String> {
        let Some(connection) = known.get(self.connection.as_str()) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(format!(
                "connection {} is not among those under postgres: ({})",
                self.connection,
                if names.is_empty() { "there are none".to_owned() } else { names.join(", ") }
            ));
        };
        connection.located().map_err(|error| format!("connection {}: host: {error}", self.connection))
    }
}

/// The socket of Docker, the container, pg_dump inside, the server: the first that is missing.
async fn lacking_inside(mut connection: Connection, container: &Container, now: Timestamp) -> Option<Lack> {
    let looked = async {
        let inside = Inside::find(&mut connection, container, now).await?;
        let version = inside.version("pg_dump").await?;
        let facts = inside.facts(&connection).await?;
        Ok::<_, PostgresError>((version, facts))
    };
    let (fatal, message) = match looked.await {
        Ok((version, facts)) => (true, postgres::unfit(&version, &facts, &connection.address())?),
        // A container or a server may be away for a moment: that is no fault of the file or of this host.
        Err(PostgresError::Away(message)) => (false, message),
        Err(PostgresError::Refused(message)) => (true, message),
    };
    Some(Lack { fatal, message, hint: None })
}
