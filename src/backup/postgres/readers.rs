//! Whose pg_restore reads a custom dump: that of the container in which the database is, this host's, or that of any
//! container that has one. A host on which all databases are in containers needs no PostgreSQL of its own.

use anyhow::anyhow;

use super::inside::Inside;
use super::installed::INSTALLED;
use super::tools::Tools;
use crate::backup::work::{Trouble, Work};
use crate::host::postgres::{Connection, Container};

/// Where a pg_restore may be. Without any, this host is asked alone.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    /// The database that was dumped, or the server that the dump goes to. Where it is in a container, that one is asked
    /// first: its pg_restore is as new as what made the dump.
    pub own: Option<Connection>,
    /// Asked where there is none on this host.
    pub others: Vec<Connection>,
}

impl Readers {
    pub fn of(own: &Connection) -> Self {
        Self { own: Some(own.clone()), others: vec![] }
    }

    /// # Errors
    /// Where none can be found, with what each place said.
    pub(crate) async fn find(&self, work: &Work) -> Result<Tools, Trouble> {
        let mut asked: Vec<&Container> = Vec::new();
        let mut refused: Vec<Trouble> = Vec::new();
        if let Some(found) = inside(work, self.own.as_ref(), &mut asked, &mut refused).await {
            return Ok(found);
        }
        if let Some(found) = Tools::newest(&work.programs).await? {
            for why in &refused {
                work.note(&format!("reading it with this host's pg_restore: {why}"));
            }
            return Ok(found);
        }
        for other in &self.others {
            if let Some(found) = inside(work, Some(other), &mut asked, &mut refused).await {
                return Ok(found);
            }
        }
        Err(none(&refused))
    }
}

async fn inside<'c>(
    work: &Work,
    connection: Option<&'c Connection>,
    asked: &mut Vec<&'c Container>,
    refused: &mut Vec<Trouble>,
) -> Option<Tools> {
    let container = connection?.container.as_ref()?;
    if asked.contains(&container) {
        return None;
    }
    asked.push(container);
    let mut connection = connection?.clone();
    let looking = async {
        let inside = Inside::find(&mut connection, container, work.now()).await?.prepared(work).await?;
        let said = inside.version("pg_restore").await?;
        Tools::reading_inside(inside, &said)
    };
    match looking.await {
        Ok(tools) => Some(tools),
        Err(trouble) => {
            refused.push(trouble);
            None
        }
    }
}

fn none(refused: &[Trouble]) -> Trouble {
    let here = format!(
        "pg_restore, which alone reads a custom dump, is neither in the PATH nor under {INSTALLED} of this host"
    );
    if refused.is_empty() {
        return Trouble::Lasting(anyhow!(
            "{here}, and no connection names a container that has it: install the package postgresql-client, or write \
             `container:` into the connection under postgres:"
        ));
    }
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let whole = anyhow!(
        "{here}, and no container lends its own ({}): start the container, or install the package postgresql-client",
        said.join("; ")
    );
    // An engine that is away may be back by the next attempt.
    if refused.iter().any(|one| matches!(one, Trouble::Passing(_))) {
        Trouble::Passing(whole)
    } else {
        Trouble::Lasting(whole)
    }
}
