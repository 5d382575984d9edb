//! `postgres`: a server lets a connection of jobs.yaml in and answers a query.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::network::took;
use crate::document::ConnectionName;
use crate::host::postgres::Connection;
use crate::host::sockets;
use crate::jobs::JobContext;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    /// Which of the connections under `postgres:` is tried.
    connection: ConnectionName,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
}

#[async_trait]
impl Check for Postgres {
    fn subject(&self) -> String {
        self.connection.to_string()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity }
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let Some(connection) = ctx.connections.get(self.connection.as_str()) else {
            return Measured::unknown(format!("there is no connection {} under postgres:", self.connection));
        };
        let connection = match reachable(connection) {
            Ok(connection) => connection,
            Err(reason) => return Measured::unknown(reason),
        };
        let _permit = sockets::permit().await;
        let since = ctx.clock.since_boot();
        let answer = connection.ping().await;
        let time = ctx.clock.since_boot().saturating_sub(since);
        match answer {
            Ok(()) => {
                let text = format!(
                    "database {} at {} answers in {}",
                    connection.database,
                    connection.address(),
                    took(time)
                );
                Measured::of(true, text).against(time.as_secs_f64(), serde_json::Value::Null)
            }
            Err(error) => Measured::of(false, error.to_string()),
        }
    }
}

/// The connection as this process can make it.
fn reachable(connection: &Connection) -> Result<Connection, String> {
    let located = connection.located().map_err(|error| error.to_string())?;
    if located.container.is_some() && located.host.starts_with('/') {
        return Err(format!(
            "PostgreSQL's socket {} is inside a container: give the connection a host that this host reaches",
            located.address()
        ));
    }
    Ok(located)
}
