//! A server in a container, asked without a program of this host: at the container's address where it answers there,
//! and otherwise through the container's own psql, which goes where pg_dump inside will go.

use std::time::Duration;

use super::{Connection, FACTS, PostgresError, ServerFacts};
use crate::host::docker::{Captured, Docker, DockerError, Found, Order};

/// At the container's address: where nobody answers within it, psql is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between columns: in no version, number or flag.
const SEPARATOR: char = '\u{1f}';

/// Of the end of what psql says: it tells in two of each address that it tried, and `localhost` has two.
const LINES: usize = 4;

/// Refusals that the next attempt would meet again, in libpq's and the server's words.
const LASTING: [&str; 7] = [
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "not permitted to log in",
    "permission denied",
    "invalid value for parameter",
];

impl Connection {
    /// As [`Connection::facts`], of a server inside this container.
    ///
    /// # Errors
    /// [`PostgresError`], with what psql said.
    pub async fn facts_inside(&self, docker: &Docker, found: &Found) -> Result<ServerFacts, PostgresError> {
        // Whatever is said there counts only when it is the facts: pg_hba.conf may treat this host and the inside
        // differently, and pg_dump goes the way of the inside.
        if let Some(facts) = self.facts_at_address(found).await {
            return Ok(facts);
        }
        let rows = self.ask_inside(FACTS, docker, found).await?;
        let columns = rows.into_iter().next().unwrap_or_default();
        ServerFacts::of(|at| columns.get(at).map(String::as_str).unwrap_or_default())
            .ok_or_else(|| self.not_postgres())
    }

    /// The rows of one query, through psql inside.
    pub(super) async fn ask_inside(
        &self,
        query: &str,
        docker: &Docker,
        found: &Found,
    ) -> Result<Vec<Vec<String>>, PostgresError> {
        let argv = ["psql", "-X", "-q", "-A", "-t", "--no-password", "-v", "ON_ERROR_STOP=1"];
        let mut argv = argv.map(str::to_owned).to_vec();
        argv.extend([format!("--field-separator={SEPARATOR}"), "--command".to_owned(), query.to_owned()]);
        let mut env = self.program_env().map_err(|error| PostgresError::Refused(error.to_string()))?;
        env.push(("LC_ALL".to_owned(), "C.UTF-8".to_owned()));
        let Captured { code, stdout, stderr } =
            docker.capture(found, &Order { argv, env, stdin: false }).await?;
        if code != 0 {
            return Err(self.refusal(code, &String::from_utf8_lossy(&stderr)));
        }
        let text = String::from_utf8_lossy(&stdout);
        Ok(text.lines().map(|line| line.split(SEPARATOR).map(str::to_owned).collect()).collect())
    }

    async fn facts_at_address(&self, found: &Found) -> Option<ServerFacts> {
        // As seen inside: another host's server is not at the container's address.
        let own = ["", "localhost", "127.0.0.1", "::1", "0.0.0.0"].contains(&self.host.as_str());
        if !own && !self.is_socket() {
            return None;
        }
        for address in &found.addresses {
            let there = Self { host: address.to_string(), container: None, ..self.clone() };
            if let Ok(Ok(facts)) = tokio::time::timeout(PATIENCE, Box::pin(there.facts())).await {
                return Some(facts);
            }
        }
        None
    }

    fn refusal(&self, code: i64, said: &str) -> PostgresError {
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said = lines[lines.len().saturating_sub(LINES)..].join("; ");
        let said = said.strip_prefix("psql: error: ").unwrap_or(&said);
        let said = if said.is_empty() { format!("psql ended with code {code}") } else { said.to_owned() };
        let lasting = LASTING.iter().any(|text| said.contains(text));
        let address = self.address();
        if lasting {
            let text = format!(
                "PostgreSQL at {address} refuses database {} for user {}: {said}",
                self.database, self.user
            );
            PostgresError::Refused(text)
        } else {
            PostgresError::Away(format!("PostgreSQL at {address} can't be reached: {said}"))
        }
    }
}

impl From<DockerError> for PostgresError {
    fn from(error: DockerError) -> Self {
        if error.is_lasting() { Self::Refused(error.to_string()) } else { Self::Away(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::connection;

    #[test]
    fn what_psql_says_of_both_addresses_is_told_whole() {
        let connection = connection("localhost");
        let said = "psql: error: connection to server at \"localhost\" (127.0.0.1), port 5432 failed: Connection refused\n\
                    \tIs the server running there?\nconnection to server at \"localhost\" (::1), port 5432 failed: \
                    Cannot assign requested address\n\tIs the server running there?\n";
        assert_eq!(
            connection.refusal(2, said).to_string(),
            "PostgreSQL at localhost:5432 can't be reached: connection to server at \"localhost\" (127.0.0.1), port 5432 \
             failed: Connection refused; Is the server running there?; connection to server at \"localhost\" (::1), \
             port 5432 failed: Cannot assign requested address; Is the server running there?"
        );
    }
}
