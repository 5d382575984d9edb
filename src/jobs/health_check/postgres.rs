//! `postgres`: a server lets a connection of jobs.yaml in and answers a query.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::network::took;
use super::recent::Tolerance;
use crate::clock::Clock;
use crate::document::ConnectionName;
use crate::host::docker::Docker;
use crate::host::postgres::{Connection, PostgresError};
use crate::host::sockets;
use crate::jobs::{HostContext, JobContext, Lack};
use crate::model::Unit;
use crate::units::HumanDuration;

/// Of Docker, the container and the server together.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    /// Which of the connections under `postgres:` is tried.
    connection: ConnectionName,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

#[async_trait]
impl Check for Postgres {
    fn subject(&self) -> String {
        self.connection.to_string()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let Some(connection) = ctx.connections.get(self.connection.as_str()) else {
            return Measured::unknown(format!("there is no connection {} under postgres:", self.connection));
        };
        let connection = match connection.located() {
            Ok(connection) => connection,
            Err(error) => return Measured::unknown(error.to_string()),
        };
        let _permit = sockets::permit().await;
        let since = ctx.clock.since_boot();
        let answer = ask(&connection, &*ctx.clock).await;
        let time = ctx.clock.since_boot().saturating_sub(since);
        match answer {
            Ok(()) => {
                let text = format!(
                    "database {} at {} answers in {}",
                    connection.database,
                    connection.address(),
                    took(time)
                );
                Measured::of(true, text).against(time.as_secs_f64(), serde_json::Value::Null).measuring(
                    "answer",
                    Unit::Seconds,
                    time.as_secs_f64(),
                    None,
                )
            }
            Err(error) => {
                Measured::of(false, error.to_string()).measuring("answer", Unit::Seconds, None, None)
            }
        }
    }

    async fn preflight(&self, ctx: &HostContext) -> Vec<Lack> {
        let lack = |fatal, message| vec![Lack { fatal, message, hint: None }];
        let Some(connection) = ctx.connections.get(self.connection.as_str()) else { return vec![] };
        let connection = match connection.located() {
            Ok(connection) => connection,
            Err(error) => return lack(true, error.to_string()),
        };
        let _permit = sockets::permit().await;
        match ask(&connection, &*ctx.clock).await {
            Ok(()) => vec![],
            // A server that is away for a moment is what the check is there to tell.
            Err(PostgresError::Away(message)) => lack(false, message),
            Err(PostgresError::Refused(message)) => lack(true, message),
        }
    }
}

/// A server in a container is asked there: it need not be reachable from here.
async fn ask(connection: &Connection, clock: &dyn Clock) -> Result<(), PostgresError> {
    let Some(container) = &connection.container else { return connection.ping().await };
    let inside = async {
        let docker = Docker::connect().await?;
        let found = docker.find(container, clock.now()).await?;
        connection.facts_inside(&docker, &found).await.map(drop)
    };
    tokio::time::timeout(PATIENCE, inside).await.unwrap_or_else(|_| {
        let limit = HumanDuration(PATIENCE);
        Err(PostgresError::Away(format!(
            "PostgreSQL at {} doesn't answer within {limit}",
            connection.address()
        )))
    })
}
