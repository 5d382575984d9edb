//! The sessions that PostgreSQL's programs have with a server: named after their run, so that the server ends them
//! when their program has been ended, or has died without a word.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::inside::Inside;
use crate::backup::stream::hex;
use crate::backup::work::Work;
use crate::host::postgres::{Connection, PostgresError, application_name};
use crate::host::process::Program;

const VARIABLE: &str = "PGAPPNAME";

/// What a server has to end its sessions. Shorter than what a cancelled job has to clear up.
const GRACE: Duration = Duration::from_secs(5);

/// Between two questions for those that are left: a server tells nobody of the end of a session.
const NEXT_QUESTION: Duration = Duration::from_millis(50);

/// `punk-eco-sched 1a2b3c4d 812/db-backup`. What stands before the run tells hosts, and daemons of one host, apart:
/// they may dump the same server at the same time, each in its own run 812.
fn name_of(work: &Work) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let place = [host.as_encoded_bytes(), work.state.as_os_str().as_encoded_bytes()].join(&0);
    let place = hex(&Sha256::digest(place)[..4]);
    application_name(&format!("punk-eco-sched {place} {}/{}", work.run, work.job))
}

/// Names the sessions that a program will have; whether it will have any.
pub(super) fn name(work: &Work, program: &mut Program) -> bool {
    let variable = program.env.iter_mut().find(|(variable, _)| variable == VARIABLE);
    variable.map(|(_, value)| *value = name_of(work)).is_some()
}

/// Ends the sessions of this run whose program is gone, and says so. It is no failure of its own where it can't be
/// done: a server that can't be asked has been told of already.
pub async fn end(work: &Work, connection: &Connection) {
    let name = name_of(work);
    let mut ended: Vec<String> = vec![];
    let ending = async {
        loop {
            let left = tell(work, connection, &name).await?;
            let done = left.is_empty();
            let new: Vec<String> = left.into_iter().filter(|pid| !ended.contains(pid)).collect();
            ended.extend(new);
            if done {
                return Ok::<_, PostgresError>(());
            }
            tokio::time::sleep(NEXT_QUESTION).await;
        }
    };
    let done = tokio::time::timeout(GRACE, ending).await;
    let sessions = |count: usize| if count == 1 { "1 session" } else { "sessions" };
    let which = ended.join(", ");
    match done {
        Ok(Ok(())) if ended.is_empty() => {}
        Ok(Ok(())) => work.note(&format!(
            "ended {} of this run on the server, whose program was gone (pid {which})",
            sessions(ended.len())
        )),
        Ok(Err(error)) => {
            work.note(&format!("whether the server still has sessions of this run is not known: {error}"))
        }
        Err(_) if ended.is_empty() => {
            work.note("whether the server still has sessions of this run is not known: it doesn't answer");
        }
        Err(_) => work.note(&format!(
            "the server was told to end {} of this run (pid {which}), and has not done so yet",
            sessions(ended.len())
        )),
    }
}

async fn tell(work: &Work, connection: &Connection, name: &str) -> Result<Vec<String>, PostgresError> {
    let Some(container) = connection.container.clone() else {
        return connection.end_sessions(name).await;
    };
    let inside = Inside::find(&mut connection.clone(), &container, work.now()).await?;
    inside.end_sessions(connection, name).await
}
