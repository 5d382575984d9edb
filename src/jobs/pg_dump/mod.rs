//! `pg_dump`: a dump of one database, with the roles of its server and a manifest, published only when whole.
//!
//! The dump is `pg_dump`'s own output, of the server's own version. It passes through [`stream`], which counts,
//! compresses, hashes, writes and reads back; [`publish`] gives the files their names at the very end.

mod attempt;
mod failure;
mod options;
mod tools;

use std::collections::BTreeMap;

use anyhow::anyhow;
use async_trait::async_trait;

use crate::backup::codec::Compression;
use crate::host::files;
use crate::host::postgres::{Connection, PostgresError};
use crate::model::Report;
use crate::policy::Retries;

use super::{HostContext, Job, JobContext, JobError, KindOptions, Lack};
use attempt::Dump;
pub use options::{Format, PgDump};
use tools::Tools;

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
        let connection =
            self.connection(&ctx.connections).map_err(|lack| JobError::permanent(anyhow!(lack)))?;
        let owner = self.owner().map_err(|lack| JobError::permanent(anyhow!(lack)))?;
        let facts = connection.facts().await?;
        let tools = Tools::find(&ctx.programs, &facts, &connection.address()).await?;
        if self.format == Format::Custom && self.compression == Compression::Zstd && tools.major < 16 {
            return Err(JobError::permanent(anyhow!(
                "compression: zstd with format: custom needs pg_dump 16 or newer, and {} is {}: use gzip, or format: plain",
                tools.pg_dump.display(),
                tools.version
            )));
        }
        let attempt = Dump { options: self, ctx, connection: &connection, facts, tools, owner };
        if ctx.dry_run { attempt.say() } else { attempt.run().await }
    }

    async fn preflight(&self, ctx: &HostContext) -> Vec<Lack> {
        let lack = |message: String| Lack { fatal: true, message, hint: None };
        let mut lacks: Vec<Lack> = self.owner().err().map(lack).into_iter().collect();
        lacks.extend(files::why_not_writable(&self.directory).map(lack));
        let connection = match self.connection(&ctx.connections) {
            Ok(connection) => connection,
            Err(message) => {
                lacks.push(lack(message));
                return lacks;
            }
        };
        match connection.facts().await {
            Ok(facts) => lacks.extend(tools::lacking(&facts)),
            // A server may be away for a moment: that is no fault of the file or of this host.
            Err(PostgresError::Away(message)) => lacks.push(Lack { fatal: false, message, hint: None }),
            Err(PostgresError::Refused(message)) => lacks.push(lack(message)),
        }
        lacks
    }

    fn can_dry_run(&self) -> bool {
        true
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
        if connection.container.is_some() {
            return Err(format!(
                "connection {} is in a container, where this version can't run pg_dump: publish the server's port, \
                 leave container: out and set host: and port: to where it answers on this host",
                self.connection
            ));
        }
        connection.located().map_err(|error| format!("connection {}: host: {error}", self.connection))
    }
}
