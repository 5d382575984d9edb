//! What is asked of a server and told to it while a backup is restored: through psql, which goes where the restore goes,
//! also into a container. Never through arguments, which everybody can read: SQL may hold passwords' hashes.

use anyhow::anyhow;
use serde::de::DeserializeOwned;

use crate::backup::postgres::{Call, Tools, explain};
use crate::backup::work::{Trouble, Work};
use crate::host::postgres::Connection;
use crate::host::process::{Exit, Output, Status, Stdin};
use crate::policy::TERM_GRACE;

/// A server, entered through a database that isn't the one to be restored.
pub(super) struct Server<'a> {
    pub(super) work: &'a Work,
    pub(super) tools: &'a Tools,
    /// To the database that statements about databases are told in.
    pub(super) entry: &'a Connection,
}

/// More than the rows of a hundred thousand tables.
const LONGEST_ANSWER: usize = 64 << 20;
const ERRORS: usize = 4096;

impl Server<'_> {
    /// What `sql` selects: each row must be one value of JSON, which has no line end in it.
    ///
    /// # Errors
    /// What psql said; that the work was cancelled.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<Vec<T>, Trouble> {
        let stdout = self.script(database, sql).await?;
        let lines = stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| {
                    Trouble::Passing(anyhow!(
                        "psql of {database} answered {:?}, which can't be understood: {error}",
                        String::from_utf8_lossy(line)
                    ))
                })
            })
            .collect()
    }

    /// # Errors
    /// What psql said; that the work was cancelled.
    pub(super) async fn tell(&self, database: &str, sql: &str) -> Result<(), Trouble> {
        self.script(database, sql).await.map(|_| ())
    }

    /// `sql` as psql reads it, with its own commands.
    async fn script(&self, database: &str, sql: &str) -> Result<Vec<u8>, Trouble> {
        let script = format!("SET client_encoding = 'UTF8'; SET row_security = off;\n{sql}\n");
        let call = self.tools.psql(self.entry, database, Stdin::Bytes(script.into_bytes()))?;
        let Call { name, mut program } = call;
        program.stdout = Output::Capture { limit: LONGEST_ANSWER };
        // Kept out of the log: a statement that failed is repeated there, whatever it holds.
        program.stderr = Output::Capture { limit: ERRORS };
        let mut running = self.work.programs.start(program).await?;
        // What cleans up is told after the work was cancelled, and goes through.
        let cancelled = self.work.cancel.is_cancelled();
        let exit: Exit = tokio::select! {
            exit = running.wait() => exit,
            () = self.work.cancel.cancelled(), if !cancelled => {
                self.work.programs.end_one(&mut running, TERM_GRACE).await;
                return Err(stopped());
            }
        };
        if exit.status != Status::Code(0) {
            let there = Connection { database: database.to_owned(), ..self.entry.clone() };
            return Err(explain(&name, &there, exit.status, &exit.stderr));
        }
        if exit.dropped > 0 && exit.stdout.len() >= LONGEST_ANSWER {
            return Err(Trouble::Lasting(anyhow!("psql of {database} answered more than can be held")));
        }
        Ok(exit.stdout)
    }
}

pub(super) fn stopped() -> Trouble {
    Trouble::Passing(anyhow!("stopped"))
}

/// A name as SQL has it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL has it, whatever the server takes a backslash for.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(ident(r#"a"b\"#), r#""a""b\""#);
        assert_eq!(literal(r"it's \n"), r"E'it''s \\n'");
    }
}
