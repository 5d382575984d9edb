//! PostgreSQL: the connections of jobs.yaml, and what is asked of a server.

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::SecretText;

/// One entry of `postgres:`.
#[derive(Clone, Debug)]
pub struct Connection {
    /// A name, an address or a socket directory.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<SecretText>,
    /// pg_dump and its like run inside this container (not built yet: a job that needs it says so).
    pub container: Option<Container>,
    pub tls: Tls,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    Name(String),
    Compose { project: String, service: String },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyFull,
}
