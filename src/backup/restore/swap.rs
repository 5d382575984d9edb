//! Puts a restored database in the place of the one in use, in one transaction: whatever ends in the middle of it, this
//! process or the server, leaves the names as they were.
//!
//! Renaming takes the lock that keeps new sessions out and then waits a few seconds for the old ones to go; a second
//! session ends those meanwhile. So nothing is committed that would have to be taken back: the database in use is never
//! closed to anybody but within the transaction.

use super::server::{Server, ident, literal};
use crate::backup::work::Trouble;

/// What changes places.
pub(super) struct Exchange<'a> {
    /// The restored one, which gets the name.
    pub(super) new: &'a str,
    /// The name in use.
    pub(super) name: &'a str,
    /// What the one in use is called from then on; `None` where there is none.
    pub(super) before: Option<&'a str>,
}

/// A server that is busy, or a session that takes its time to end.
const TRIES: u32 = 3;

/// # Errors
/// What the server said; both databases have their names as before then.
pub(super) async fn swap(server: &Server<'_>, exchange: &Exchange<'_>) -> Result<(), Trouble> {
    let entry = &server.entry.database;
    let mark = format!("punk-eco-sched swap {}-{}", std::process::id(), exchange.new);
    // The server cuts what is longer.
    let mark: String = mark.chars().filter(char::is_ascii).take(60).collect();
    let (ending, renaming) = (exchange.ending(&mark), exchange.renaming(&mark));
    let mut tried = 0;
    loop {
        tried += 1;
        let (ended, renamed) = tokio::join!(server.tell(entry, &ending), server.tell(entry, &renaming));
        let Err(error) = renamed else { return Ok(()) };
        if tried == TRIES {
            // Who isn't allowed to end sessions hears it here.
            return match ended {
                Err(Trouble::Lasting(ended)) => Err(Trouble::Lasting(ended.context(error))),
                _ => Err(error),
            };
        }
        server.work.note(&format!("the names could not be exchanged, and it is tried again: {error}"));
    }
}

impl Exchange<'_> {
    /// Ends whoever is in either database, again and again, until the renaming has ended.
    fn ending(&self, mark: &str) -> String {
        let (new, name, mark) = (literal(self.new), literal(self.name), literal(mark));
        format!(
            "DO $swap$ DECLARE seen bool := false; here bool; BEGIN
FOR turn IN 1..400 LOOP
  PERFORM pg_stat_clear_snapshot();
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname IN ({new}, {name}) AND pid <> pg_backend_pid();
  here := EXISTS (SELECT FROM pg_stat_activity WHERE application_name = {mark});
  EXIT WHEN (seen AND NOT here) OR NOT EXISTS (SELECT FROM pg_database WHERE datname = {new});
  seen := seen OR here;
  PERFORM pg_sleep(0.05);
END LOOP;
END $swap$;"
        )
    }

    fn renaming(&self, mark: &str) -> String {
        let away = self.before.map_or(String::new(), |before| {
            format!("ALTER DATABASE {} RENAME TO {};\n", ident(self.name), ident(before))
        });
        format!(
            "SET application_name = {};\nBEGIN;\nSET LOCAL lock_timeout = '10s';\n{away}ALTER DATABASE {} RENAME TO {};\n\
             COMMIT;",
            literal(mark),
            ident(self.new),
            ident(self.name)
        )
    }

    /// What an operator types to do the same by hand, in psql.
    pub(super) fn by_hand(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}';",
            self.name.replace('\'', "''")
        )];
        if let Some(before) = self.before {
            lines.push(format!("ALTER DATABASE {} RENAME TO {};", ident(self.name), ident(before)));
        }
        lines.push(format!("ALTER DATABASE {} RENAME TO {};", ident(self.new), ident(self.name)));
        lines
    }
}
