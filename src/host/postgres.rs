//! PostgreSQL: the connections of jobs.yaml, and what is asked of a server.
//!
//! Dumps and restores are PostgreSQL's own programs (`crate::jobs` starts them with [`Connection::program_env`]);
//! this module speaks to the server only to ask.

mod inside;
mod session;
mod sessions;
mod tls;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::SimpleQueryMessage;

pub use sessions::application_name;

use super::secret::{ExposeSecret, SecretError, SecretText};

/// One entry of `postgres:`.
#[derive(Clone, Debug)]
pub struct Connection {
    /// A name, an address or a socket directory; as written in the file until [`Self::located`] has resolved it. Of a
    /// server in a container, as seen there; empty: its usual socket.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<SecretText>,
    /// pg_dump and its like run inside this container.
    pub container: Option<Container>,
    pub tls: Tls,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    Name(String),
    Compose { project: String, service: String },
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "container {name}"),
            Self::Compose { project, service } => write!(f, "service {service} of project {project}"),
        }
    }
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

/// Why a server can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nobody answers, or not now: it may answer later.
    #[error("{0}")]
    Away(String),
    /// It answered, and will answer the same again: a wrong password, an unknown database, a missing secret.
    #[error("{0}")]
    Refused(String),
}

/// What a job must know of a server before it starts a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `15.8 (Debian 15.8-0+deb12u1)`
    pub version: String,
    /// 15
    pub major: u32,
    pub superuser: bool,
    /// Bytes of the connection's database on the server's disk.
    pub database_bytes: u64,
    pub database: DatabaseFacts,
    /// Where the server keeps its data, as it sees it; unknown to those who may not read its settings.
    pub data_directory: Option<String>,
}

/// How the connection's database was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// `UTF8`
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// Of a database whose collations are ICU's.
    pub icu_locale: Option<String>,
    pub owner: String,
}

/// What [`ServerFacts`] are read from, in the order of their columns. The columns of ICU came with 15, and changed their
/// name with 17: as JSON they are found, or not.
const FACTS: &str = "SELECT pg_catalog.current_setting('server_version'), \
    pg_catalog.current_setting('server_version_num'), \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), \
    pg_catalog.pg_database_size(d.oid), \
    pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_catalog.pg_get_userbyid(d.datdba), \
    CASE pg_catalog.to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN \
    coalesce(pg_catalog.to_jsonb(d) ->> 'daticulocale', pg_catalog.to_jsonb(d) ->> 'datlocale') ELSE '' END, \
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE (rolname = current_user AND rolsuper) OR \
        (rolname = 'pg_read_all_settings' AND pg_catalog.pg_has_role(current_user, oid, 'USAGE'))) \
    THEN pg_catalog.current_setting('data_directory') END \
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// What a handshake may take before the server counts as away; libpq's programs are told the same.
const PATIENCE: Duration = Duration::from_secs(15);

/// The bundle of authorities of Debian and its kin, which libpq before 16 doesn't find by itself.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

impl Connection {
    /// The same connection with its host resolved, for whoever is about to connect: jobs.yaml may say
    /// `host: ${env:NAME}`.
    ///
    /// # Errors
    /// Where what the host refers to can't be had.
    pub fn located(&self) -> Result<Self, SecretError> {
        let host = match SecretText::parse(&self.host) {
            _ if self.host.is_empty() => String::new(),
            Ok(written) => written.resolve()?.expose_secret().to_owned(),
            // Refused when the file was read: this one was not written there.
            Err(_) => self.host.clone(),
        };
        Ok(Self { host, ..self.clone() })
    }

    /// Where the server is, as people write it.
    pub fn address(&self) -> String {
        match &self.container {
            None => self.plain_address(),
            Some(container) if !self.host.is_empty() => format!("{} in {container}", self.plain_address()),
            Some(container) if self.port == 5432 => container.to_string(),
            Some(container) => format!("port {} of {container}", self.port),
        }
    }

    /// Where the server is, without its port.
    pub fn server(&self) -> String {
        match &self.container {
            None => self.host.clone(),
            Some(container) if self.host.is_empty() => container.to_string(),
            Some(container) => format!("{} in {container}", self.host),
        }
    }

    fn plain_address(&self) -> String {
        if self.is_socket() {
            format!("{}/.s.PGSQL.{}", self.host.trim_end_matches('/'), self.port)
        } else if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the server runs on this host, as far as its address says.
    pub fn is_here(&self) -> bool {
        let loopback = || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.container.is_none()
            && (self.host.is_empty() || self.is_socket() || self.host == "localhost" || loopback())
    }

    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// # Errors
    /// [`PostgresError`]
    pub async fn facts(&self) -> Result<ServerFacts, PostgresError> {
        let answer = self.ask(FACTS).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        ServerFacts::of(|at| row.and_then(|row| row.get(at)).unwrap_or_default())
            .ok_or_else(|| self.not_postgres())
    }

    fn not_postgres(&self) -> PostgresError {
        PostgresError::Away(format!("{} doesn't say its version: is it PostgreSQL?", self.address()))
    }

    /// What libpq's programs are told through their environment, where only root and the same user can read it:
    /// never through arguments, which everybody can.
    ///
    /// # Errors
    /// Where the password can't be had.
    pub fn program_env(&self) -> Result<Vec<(String, String)>, SecretError> {
        let mode = match self.tls {
            Tls::Disable => "disable",
            Tls::Prefer => "prefer",
            Tls::Require => "require",
            Tls::VerifyFull => "verify-full",
        };
        let mut env = vec![
            ("PGPORT".to_owned(), self.port.to_string()),
            ("PGDATABASE".to_owned(), self.database.clone()),
            ("PGUSER".to_owned(), self.user.clone()),
            ("PGSSLMODE".to_owned(), mode.to_owned()),
            ("PGCONNECT_TIMEOUT".to_owned(), PATIENCE.as_secs().to_string()),
            ("PGAPPNAME".to_owned(), "punk-eco-sched".to_owned()),
        ];
        if !self.host.is_empty() {
            env.push(("PGHOST".to_owned(), self.host.clone()));
        }
        // A path of this host: inside a container there may be another.
        let here = self.container.is_none();
        if here && self.tls == Tls::VerifyFull && std::path::Path::new(AUTHORITIES).exists() {
            env.push(("PGSSLROOTCERT".to_owned(), AUTHORITIES.to_owned()));
        }
        if let Some(password) = &self.password {
            env.push(("PGPASSWORD".to_owned(), password.resolve()?.expose_secret().to_owned()));
        }
        Ok(env)
    }
}

impl ServerFacts {
    /// `column` gives those of [`FACTS`]; `None` where the version is none.
    fn of<'a>(column: impl Fn(usize) -> &'a str) -> Option<Self> {
        let number: u32 = column(1).parse().ok()?;
        Some(Self {
            version: column(0).to_owned(),
            major: number / 10_000,
            superuser: column(2) == "t",
            database_bytes: column(3).parse().unwrap_or(0),
            database: DatabaseFacts {
                encoding: column(4).to_owned(),
                collate: column(5).to_owned(),
                ctype: column(6).to_owned(),
                icu_locale: Some(column(8).to_owned()).filter(|locale| !locale.is_empty()),
                owner: column(7).to_owned(),
            },
            data_directory: Some(column(9).to_owned()).filter(|path| !path.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn connection(host: &str) -> Connection {
        Connection {
            host: host.into(),
            port: 5432,
            database: "shop".into(),
            user: "me".into(),
            password: None,
            container: None,
            tls: Tls::Prefer,
        }
    }

    #[test]
    fn an_address_is_written_as_people_do() {
        assert_eq!(connection("db.example").address(), "db.example:5432");
        assert_eq!(connection("::1").address(), "[::1]:5432");
        assert_eq!(connection("/run/postgresql").address(), "/run/postgresql/.s.PGSQL.5432");
    }

    #[test]
    fn a_server_in_a_container_is_named_with_it_and_its_programs_look_for_its_own_socket() {
        let inside = Connection { container: Some(Container::Name("db_1".into())), ..connection("") };
        assert_eq!(inside.address(), "container db_1");
        assert_eq!(Connection { port: 5433, ..inside.clone() }.address(), "port 5433 of container db_1");
        let tcp = Connection { host: "127.0.0.1".into(), ..inside.clone() };
        assert_eq!(tcp.address(), "127.0.0.1:5432 in container db_1");
        let hosts = |connection: &Connection| {
            let env = connection.program_env().unwrap();
            env.into_iter().filter(|(name, _)| name == "PGHOST").map(|(_, host)| host).collect::<Vec<_>>()
        };
        assert_eq!(hosts(&inside), [""; 0]);
        assert_eq!(hosts(&tcp), ["127.0.0.1"]);
    }

    #[test]
    fn a_host_that_refers_elsewhere_is_read_when_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("host");
        let written = connection(&format!("${{file:{}}}", file.display()));
        let missing = written.located().unwrap_err().to_string();
        assert!(missing.contains("can't be read: No such file or directory"), "{missing}");
        std::fs::write(&file, "db.example\n").unwrap();
        assert_eq!(written.located().unwrap().address(), "db.example:5432");
        assert_eq!(connection("/run/postgresql").located().unwrap().host, "/run/postgresql");
    }

    #[test]
    fn programs_are_told_through_the_environment() {
        let env = connection("127.0.0.1").program_env().unwrap();
        let value = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("PGHOST"), Some("127.0.0.1"));
        assert_eq!(value("PGDATABASE"), Some("shop"));
        assert_eq!(value("PGSSLMODE"), Some("prefer"));
        assert_eq!(value("PGPASSWORD"), None);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_away_and_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = Connection { port, ..connection("127.0.0.1") }.facts().await.unwrap_err();
        assert!(matches!(error, PostgresError::Away(_)));
        assert_eq!(
            error.to_string(),
            format!(
                "PostgreSQL at 127.0.0.1:{port} can't be reached: error connecting to server: Connection refused (os error 111)"
            )
        );
    }
}
