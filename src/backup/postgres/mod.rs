//! PostgreSQL's own programs, as backups use them: which fit a server, how they are called, what passes through them,
//! and why they failed. Of a server in a container they are the container's own.

mod failure;
mod inside;
mod installed;
mod passage;
mod readers;
mod sessions;
mod tools;

use schemars::JsonSchema;
use serde::Deserialize;

pub use failure::{Failure, cant, explain, incomplete, unwritable};
pub use inside::Inside;
pub use installed::{Lacking, lacking, unfit};
pub use passage::through;
pub use readers::Readers;
pub use sessions::end as end_sessions;
pub use tools::{Call, Custom, DumpOrder, Tools};

use super::work::{Trouble, Work};
use crate::host::postgres::{Connection, ServerFacts};

/// What pg_dump writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Plain,
    Custom,
}

impl Format {
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Custom => "custom",
        }
    }
}

/// What the server is, and the programs that fit it. A container that the connection names by its service is named by
/// its own name from then on.
///
/// # Errors
/// Where the server can't be asked, or no program fits it.
pub async fn look(work: &Work, connection: &mut Connection) -> Result<(ServerFacts, Tools), Trouble> {
    let Some(container) = connection.container.clone() else {
        let facts = connection.facts().await?;
        let tools = Tools::find(&work.programs, &facts, &connection.address()).await?;
        return Ok((facts, tools));
    };
    let inside = Inside::find(connection, &container, work.now()).await?.prepared(work).await?;
    let version = inside.version("pg_dump").await?;
    let facts = inside.facts(connection).await?;
    let tools = Tools::find_inside(inside, &version, &facts, &connection.address())?;
    Ok((facts, tools))
}
