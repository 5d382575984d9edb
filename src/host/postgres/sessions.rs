//! Ending sessions by the name that their program gave itself. A server notices a program that is gone only when it
//! has something to tell it; one that waits for a lock would wait on, and hold its place in the queue.

use tokio_postgres::SimpleQueryMessage;

use super::{Connection, PostgresError};
use crate::host::docker::{Docker, Found};

/// PostgreSQL cuts longer ones (NAMEDATALEN - 1).
const LONGEST: usize = 63;

/// What `application_name` becomes on the server.
pub fn application_name(name: &str) -> String {
    name.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(LONGEST).collect()
}

/// Those with this name, told to end; the process number of each. A role may end its own sessions.
fn ending(application: &str) -> String {
    format!(
        "SELECT pid FROM (SELECT pid, pg_catalog.pg_terminate_backend(pid) AS told FROM pg_catalog.pg_stat_activity \
         WHERE application_name = '{}' AND pid <> pg_catalog.pg_backend_pid()) AS sessions",
        application_name(application).replace('\'', "''")
    )
}

impl Connection {
    /// Tells the sessions of this name to end; which ones there were.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn end_sessions(&self, application: &str) -> Result<Vec<String>, PostgresError> {
        let answer = self.ask(&ending(application)).await?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(answer.iter().filter_map(row).collect())
    }

    /// The same of a server inside this container.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn end_sessions_inside(
        &self,
        application: &str,
        docker: &Docker,
        found: &Found,
    ) -> Result<Vec<String>, PostgresError> {
        let rows = self.ask_inside(&ending(application), docker, found).await?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).filter(|pid| !pid.is_empty()).collect())
    }
}
