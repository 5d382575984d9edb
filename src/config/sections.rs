//! Everything of jobs.yaml but `jobs:`, as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policies::Policies;
use super::{Alerts, Contact, Dashboard, Environment, Form, Language, Paths, Smtp, Webhook};
use crate::document::{ContactName, Invalid, SecretOr, WordOr};
use crate::host::mail;
use crate::host::postgres::{Connection, Container, Tls};
use crate::host::secret::SecretText;
use crate::logs;
use crate::units::{HumanDuration, Size};

/// The jobs of a host, and what they share
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TopKeys {
    /// The IANA time zone of every schedule without its own; default: the system's
    pub(super) timezone: Option<String>,
    /// Where things are kept
    pub(super) paths: PathsKeys,
    /// The log files of the jobs, and how long the history is kept
    pub(super) logs: LogsKeys,
    /// What the daemon may use
    pub(super) limits: LimitsKeys,
    /// Connections to PostgreSQL, by name
    pub(super) postgres: BTreeMap<String, ConnectionKeys>,
    /// People to tell, by name
    pub(super) contacts: BTreeMap<String, ContactKeys>,
    /// How failures are told
    pub(super) alerts: Option<AlertsKeys>,
    /// The page and the metrics; absent: no HTTP at all
    pub(super) dashboard: Option<DashboardKeys>,
    /// Policies of every job that doesn't say otherwise
    pub(super) defaults: Policies,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PathsKeys {
    /// The directory of ledger.db; default: $STATE_DIRECTORY, else /var/lib/punk-eco-sched
    state: Option<PathBuf>,
    /// The directory of the jobs' log files; default: $LOGS_DIRECTORY, else `/var/log/punk_eco`
    logs: Option<PathBuf>,
    /// The socket on which the daemon answers; default: $RUNTIME_DIRECTORY/control.sock, else
    /// /run/punk-eco-sched/control.sock
    socket: Option<PathBuf>,
}

impl PathsKeys {
    /// Relative paths are meant from the file's folder: the daemon has another working folder than its clients.
    pub(super) fn paths(self, file: &Path, environment: &Environment) -> Paths {
        let folder = file.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let folder = folder.unwrap_or_default();
        let from_environment =
            |name: &str, otherwise: &str| PathBuf::from(environment.directory(name).unwrap_or(otherwise));
        Paths {
            state: self.state.map_or_else(
                || from_environment("STATE_DIRECTORY", "/var/lib/punk-eco-sched"),
                |path| folder.join(path),
            ),
            logs: self.logs.map_or_else(
                || from_environment("LOGS_DIRECTORY", "/var/log/punk_eco"),
                |path| folder.join(path),
            ),
            socket: self.socket.map_or_else(
                || from_environment("RUNTIME_DIRECTORY", "/run/punk-eco-sched").join("control.sock"),
                |path| folder.join(path),
            ),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogsKeys {
    /// Of each line
    format: logs::Format,
    /// A file that reaches it is rotated
    max_size: Size,
    /// Files of one job, the live one included
    #[schemars(range(min = 1))]
    max_files: u32,
    /// Rows of the ledger older than this are dropped
    pub(super) keep_history: HumanDuration,
}

impl Default for LogsKeys {
    fn default() -> Self {
        Self {
            format: logs::Format::Text,
            max_size: Size(10 << 20),
            max_files: 3,
            keep_history: HumanDuration(Duration::from_secs(90 * 86_400)),
        }
    }
}

impl LogsKeys {
    pub(super) fn settings(&self) -> logs::Settings {
        logs::Settings { format: self.format, max_size: self.max_size.0, max_files: self.max_files }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsKeys {
    /// Runs at once; more wait in the order of their slots
    #[schemars(range(min = 1))]
    pub(super) max_running: u32,
}

impl Default for LimitsKeys {
    fn default() -> Self {
        Self { max_running: 64 }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionKeys {
    /// A name, an address or a socket directory, as seen inside `container` where there is one; default:
    /// /var/run/postgresql, or the socket of the server in the container
    host: Option<SecretAddress>,
    /// Default: 5432
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// The database
    database: String,
    /// The role to log in as
    user: String,
    /// The role's password, best as ${file:…} or ${credential:…}
    password: Option<SecretText>,
    /// Run `pg_dump` and its like inside this container
    pub(super) container: Option<WordOr<String, ComposeKeys>>,
    /// Whether the connection is encrypted, and whether the server must prove its name
    #[serde(default)]
    tls: Tls,
}

/// A text that may refer to a secret, kept as written: whoever uses it resolves it with [`SecretText`].
struct SecretAddress(String);

impl<'de> Deserialize<'de> for SecretAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretText::deserialize(deserializer)?;
        Ok(Self(text.as_written()))
    }
}

impl JsonSchema for SecretAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SecretText::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        SecretText::json_schema(generator)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ComposeKeys {
    /// The Compose project
    compose_project: String,
    /// The service within it
    service: String,
}

impl ConnectionKeys {
    pub(super) fn connection(self) -> Connection {
        // Inside a container the server's own socket is the default, wherever its image has put it.
        let usual = if self.container.is_some() { "" } else { "/var/run/postgresql" };
        Connection {
            host: self.host.map_or_else(|| usual.into(), |host| host.0),
            port: self.port.unwrap_or(5432),
            database: self.database,
            user: self.user,
            password: self.password,
            container: self.container.map(|container| match container {
                WordOr::Word(name) => Container::Name(name),
                WordOr::Whole(whole) => {
                    Container::Compose { project: whole.compose_project, service: whole.service }
                }
            }),
            tls: self.tls,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContactKeys {
    /// An address to send mail to
    email: Option<String>,
    /// A URL to post to
    webhook: Option<SecretOr<SecretText, WebhookKeys>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookKeys {
    /// A URL to post to; of ntfy that of the topic
    url: SecretText,
    /// What is posted; default: by the URL's host, for Slack, Discord and ntfy.sh, else json
    form: Option<Form>,
    /// Sent as `Authorization: Bearer …`; for ntfy and json
    token: Option<SecretText>,
}

impl ContactKeys {
    pub(super) fn contact(self) -> Contact {
        let webhook = self.webhook.map(|webhook| match webhook.0 {
            WordOr::Word(url) => Webhook { url, form: None, token: None },
            WordOr::Whole(WebhookKeys { url, form, token }) => Webhook { url, form, token },
        });
        Contact { email: self.email, webhook }
    }

    /// What types alone can't say: which key it stands under, and what is wrong.
    fn invalid(&self, name: &str) -> Vec<(String, String)> {
        let mut found = vec![];
        let at = |key: &str| format!("contacts.{name}{key}");
        if self.email.is_none() && self.webhook.is_none() {
            found.push((at(""), "a contact needs `email` or `webhook`".to_owned()));
        }
        if let Some(email) = self.email.as_ref().filter(|email| !is_email(email)) {
            let message = match email.contains("://") {
                true => "a URL is no e-mail address: `webhook` takes one".to_owned(),
                false => format!("`{email}` is not an e-mail address"),
            };
            found.push((at(".email"), message));
        }
        let (url, form, token, key) = match &self.webhook {
            None => return found,
            Some(SecretOr(WordOr::Word(url))) => (url, None, None, at(".webhook")),
            Some(SecretOr(WordOr::Whole(keys))) => {
                (&keys.url, keys.form, keys.token.as_ref(), at(".webhook.url"))
            }
        };
        let form = match url.literal().map(|url| Webhook::check_url(url, form)) {
            None => form,
            Some(Ok(form)) => Some(form),
            Some(Err(message)) => {
                found.push((key, message));
                form
            }
        };
        if let Some(Err(message)) = token.map(|token| Webhook::check_token(token.literal(), form)) {
            found.push((at(".webhook.token"), message));
        }
        found
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertsKeys {
    /// The mail server
    smtp: Option<SmtpKeys>,
    /// Who hears of a job that names nobody
    #[serde(default)]
    to: Vec<ContactName>,
    /// How often a failure that lasts is told again; default: 24h
    remind_every: Option<HumanDuration>,
    /// Of messages: en or fr
    #[serde(default)]
    language: Language,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SmtpKeys {
    /// A name or an address
    host: String,
    /// Default: 25
    port: Option<u16>,
    /// The sender's address
    from: String,
    /// For servers that want a login
    user: Option<String>,
    /// For servers that want a login
    password: Option<SecretText>,
    /// How the connection is encrypted
    #[serde(default)]
    tls: mail::Tls,
}

impl AlertsKeys {
    pub(super) fn alerts(self) -> Alerts {
        Alerts {
            smtp: self.smtp.map(|smtp| Smtp {
                host: smtp.host,
                port: smtp.port.unwrap_or(25),
                from: smtp.from,
                user: smtp.user,
                password: smtp.password,
                tls: smtp.tls,
            }),
            to: self.to.into_iter().map(|name| name.0).collect(),
            remind_every: self.remind_every.map_or(Duration::from_secs(86_400), |every| every.0),
            language: self.language,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DashboardKeys {
    /// Address and port, such as 127.0.0.1:9180
    listen: String,
    /// What a visitor must present
    token: Option<SecretText>,
}

impl DashboardKeys {
    /// `None` where [`TopKeys::invalid`] has said why.
    pub(super) fn dashboard(self) -> Option<Dashboard> {
        Some(Dashboard { listen: self.listen.parse().ok()?, token: self.token })
    }
}

impl TopKeys {
    /// What types alone can't say.
    pub(super) fn invalid(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut wrong = |is_wrong: bool, key: String, message: String| {
            if is_wrong {
                found.push(Invalid { key, message, hint: None });
            }
        };
        wrong(self.logs.max_files == 0, "logs.max_files".into(), "at least 1 file is needed".into());
        wrong(self.logs.max_size.0 == 0, "logs.max_size".into(), "a log file needs some bytes".into());
        wrong(
            self.logs.keep_history.0.is_zero(),
            "logs.keep_history".into(),
            "the history can't be kept for no time".into(),
        );
        wrong(
            self.limits.max_running == 0,
            "limits.max_running".into(),
            "at least 1 run at once is needed".into(),
        );
        for (name, connection) in &self.postgres {
            wrong(connection.port == Some(0), format!("postgres.{name}.port"), "0 is not a port".into());
        }
        for (name, contact) in &self.contacts {
            for (key, message) in contact.invalid(name) {
                wrong(true, key, message);
            }
        }
        if let Some(smtp) = self.alerts.as_ref().and_then(|alerts| alerts.smtp.as_ref()) {
            let message = format!("`{}` is not an e-mail address", smtp.from);
            wrong(!is_email(&smtp.from), "alerts.smtp.from".into(), message);
        }
        let every = self.alerts.as_ref().and_then(|alerts| alerts.remind_every);
        let message = "reminders can't come more often than each minute";
        let is_too_often = every.is_some_and(|every| every.0 < Duration::from_secs(60));
        wrong(is_too_often, "alerts.remind_every".into(), message.into());
        if let Some(dashboard) = &self.dashboard {
            let message =
                format!("`{}` is not an address and a port, such as 127.0.0.1:9180", dashboard.listen);
            let wrong_listen = dashboard.listen.parse::<std::net::SocketAddr>().is_err();
            wrong(wrong_listen, "dashboard.listen".into(), message);
        }
        found.extend(self.defaults.invalid().into_iter().map(|one| {
            let key = format!("defaults.{}", one.key);
            Invalid { key, ..one }
        }));
        found
    }
}

fn is_email(text: &str) -> bool {
    let plain = text.chars().all(|letter| !letter.is_whitespace() && !letter.is_control());
    plain && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
}
