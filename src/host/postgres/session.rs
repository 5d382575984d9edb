//! Sessions with a server: how one is opened, asked and closed, and what its refusal means.

use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::{Connection, PATIENCE, PostgresError, Tls, tls};
use crate::host::secret::{self, ExposeSecret};

impl Connection {
    /// # Errors
    /// [`PostgresError`], with the address in its text.
    pub async fn connect(&self) -> Result<Client, PostgresError> {
        Ok(self.open().await?.0)
    }

    /// Whether the server answers a query.
    ///
    /// # Errors
    /// [`PostgresError`], at the latest when the patience with a server is at an end.
    pub async fn ping(&self) -> Result<(), PostgresError> {
        self.ask("SELECT 1").await.map(|_| ())
    }

    /// One query on a connection of its own, which has ended when this returns.
    pub(super) async fn ask(&self, query: &str) -> Result<Vec<SimpleQueryMessage>, PostgresError> {
        let asked = async {
            let (client, driver) = self.open().await?;
            // A server that falls silent in the middle of a query would hold the connection's task for ever.
            let mut driver = EndedOnDrop(Some(driver));
            // The simple protocol: it works through a pooler that shares its connections.
            let answer = client.simple_query(query).await.map_err(|error| self.explain(&error))?;
            // It has answered: the connection says good-bye by itself.
            driver.0 = None;
            Ok(answer)
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(self.silent()))
    }

    fn silent(&self) -> PostgresError {
        PostgresError::Away(format!(
            "PostgreSQL at {} doesn't answer within {} s",
            self.address(),
            PATIENCE.as_secs()
        ))
    }

    async fn open(&self) -> Result<(Client, AbortHandle), PostgresError> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.user)
            .application_name("punk-eco-sched")
            .connect_timeout(PATIENCE);
        if let Some(password) = &self.password {
            let password = password.resolve_within(secret::PATIENCE).await;
            let password = password.map_err(|error| PostgresError::Refused(error.to_string()))?;
            config.password(password.expose_secret());
        }
        match tokio::time::timeout(PATIENCE, self.connect_as(&config)).await {
            Ok(answer) => answer.map_err(|error| self.explain(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn connect_as(&self, config: &Config) -> Result<(Client, AbortHandle), tokio_postgres::Error> {
        // libpq passes over sslmode on a socket as well: there is no TLS there.
        if self.is_socket() || self.tls == Tls::Disable {
            return plain(config).await;
        }
        let mode = if self.tls == Tls::Prefer { SslMode::Prefer } else { SslMode::Require };
        let answer = tls::connect(config.clone().ssl_mode(mode), self.tls == Tls::VerifyFull).await;
        match answer {
            // As libpq does it: a failed handshake, or a pg_hba.conf that wants no TLS, is tried without.
            Err(error) if self.tls == Tls::Prefer && without_tls_may_help(&error) => {
                plain(config).await.map_err(|plain| if plain.as_db_error().is_some() { plain } else { error })
            }
            other => other,
        }
    }

    fn explain(&self, error: &tokio_postgres::Error) -> PostgresError {
        let address = self.address();
        if let Some(told) = error.as_db_error() {
            let text = format!(
                "PostgreSQL at {address} refuses database {} for user {}: {} ({})",
                self.database,
                self.user,
                told.message(),
                told.code().code()
            );
            return if is_lasting(told.code()) {
                PostgresError::Refused(text)
            } else {
                PostgresError::Away(text)
            };
        }
        let mut text = format!("PostgreSQL at {address} can't be reached: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        if text.contains("password missing") {
            return PostgresError::Refused(format!(
                "PostgreSQL at {address} asks user {} for a password, and the connection has none: add password:",
                self.user
            ));
        }
        if let Some((_, why)) = text.split_once("invalid peer certificate: ") {
            return PostgresError::Refused(distrusted(&address, why));
        }
        PostgresError::Away(text)
    }
}

/// A task that must not outlive who waits for it.
struct EndedOnDrop(Option<AbortHandle>);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

fn distrusted(address: &str, why: &str) -> String {
    let why = match why {
        "UnknownIssuer" => "nobody whom this host trusts has signed it",
        // webpki's way to say that an authority's own certificate is used for a server.
        why if why.contains("CaUsedAsEndEntity") => "it has signed itself",
        why => why,
    };
    format!(
        "PostgreSQL at {address} has a certificate that proves nothing: {why}. Have it signed by an authority that this \
         host trusts (/usr/local/share/ca-certificates), or write tls: require, which encrypts without asking who is there"
    )
}

async fn plain(config: &Config) -> Result<(Client, AbortHandle), tokio_postgres::Error> {
    let (client, connection) = config.clone().ssl_mode(SslMode::Disable).connect(NoTls).await?;
    Ok((client, tokio::spawn(connection).abort_handle()))
}

fn without_tls_may_help(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => error.to_string().contains("TLS"),
    }
}

/// SQLSTATEs that a retry doesn't mend: class 28 (authorization), 3D and 3F (no such database or schema), 42 (no
/// such thing, no privilege).
fn is_lasting(code: &SqlState) -> bool {
    ["28", "3D", "3F", "42"].iter().any(|class| code.code().starts_with(class))
}
