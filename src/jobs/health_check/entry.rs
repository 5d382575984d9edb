//! One check of the list in the file: what it looks at, what it is called, and how much it matters when. Owns the one
//! table of checks; looks at nothing itself.

use futures_util::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::check::Check;
use super::recent::Tolerance;
use super::{
    Looked, access_log, backup, caught, certificate, command, containers, cpu, disk, http, load, memory,
    postgres, service, tcp,
};
use crate::document::Invalid;
use crate::jobs::JobContext;
use crate::model::Severity;

/// Letters of a name.
const LONGEST_NAME: usize = 200;

/// The one table of checks: adding one is a file beside this one and a line here.
macro_rules! checks {
    ($($(#[$doc:meta])* $key:ident: $options:ty,)+) => {
        /// One check: exactly one key that says what is looked at, and how much it matters when.
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Entry {
            /// How findings and alerts call the check; default: what it looks at.
            pub(super) name: Option<String>,
            /// A failing check that is `critical` fails the run; one that is a `warning` is a finding. Default: critical.
            severity: Option<CheckSeverity>,
            /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
            #[serde(rename = "for")]
            tolerance: Option<Tolerance>,
            /// The checks whose failure explains this one's, which is then not told on its own; default: for what is
            /// served the services, containers and databases of the list. [] is none.
            pub(super) because_of: Option<Vec<String>>,
            $($(#[$doc])* #[serde(default, deserialize_with = "with_defaults")] $key: Option<$options>,)+
        }

        pub(super) const NAMES: &[&str] = &[$(stringify!($key)),+];

        impl Entry {
            pub(super) fn all_mut(&mut self) -> Vec<&mut dyn Check> {
                let mut all: Vec<&mut dyn Check> = vec![];
                $(if let Some(options) = &mut self.$key {
                    all.push(options);
                })+
                all
            }

            fn all(&self) -> Vec<(&'static str, &dyn Check)> {
                let mut all: Vec<(&'static str, &dyn Check)> = vec![];
                $(if let Some(options) = &self.$key {
                    all.push((stringify!($key), options));
                })+
                all
            }
        }
    };
}

checks! {
    /// A web server answers, with the right status, in time.
    http: http::Http,
    /// A TCP server takes connections.
    tcp: tcp::Tcp,
    /// A PostgreSQL server answers a query.
    postgres: postgres::Postgres,
    /// Services of a Compose project run in their containers.
    containers: containers::Containers,
    /// A file system has space and inodes left.
    disk: disk::Disk,
    /// The cores aren't too busy.
    cpu: cpu::Cpu,
    /// There is memory left.
    memory: memory::Memory,
    /// Not too many processes wait for a core.
    load: load::Load,
    /// A unit is active under systemd.
    service: service::Service,
    /// A program says by its exit code that all is well.
    command: command::Command,
    /// A certificate, served or in a file, is valid for long enough.
    certificate: certificate::Certificate,
    /// What a web server's log says of the last minutes: errors, and how long requests took.
    access_log: access_log::AccessLog,
    /// The newest backup of a job is young enough, and proven.
    backup: backup::Backup,
}

/// `- memory:` asks for its defaults, as `certbot_renew:` does, and is no missing check.
fn with_defaults<'de, D: Deserializer<'de>, T: Deserialize<'de>>(options: D) -> Result<Option<T>, D::Error> {
    T::deserialize(options).map(Some)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckSeverity {
    Warning,
    #[default]
    Critical,
}

impl From<CheckSeverity> for Severity {
    fn from(severity: CheckSeverity) -> Self {
        match severity {
            CheckSeverity::Warning => Self::Warning,
            CheckSeverity::Critical => Self::Critical,
        }
    }
}

impl Entry {
    /// `invalid` lets only entries through that have exactly one.
    pub(super) fn one(&self) -> Option<(&'static str, &dyn Check)> {
        self.all().into_iter().next()
    }

    pub(super) fn look<'a>(
        &'a self,
        at: usize,
        name: String,
        ctx: &'a JobContext,
    ) -> Option<BoxFuture<'a, (usize, Looked<'a>)>> {
        let (kind, check) = self.one()?;
        let look = async move {
            let measured = caught(check.look(ctx)).await;
            (at, Looked { entry: self, kind, name, measured })
        };
        Some(look.boxed())
    }

    pub(super) fn given_name(&self) -> Option<&String> {
        let common = self.one().map(|(_, check)| check.common());
        self.name.as_ref().or(common.and_then(|common| common.name))
    }

    pub(super) fn name(&self) -> String {
        match (self.given_name(), self.one()) {
            (Some(name), _) => name.clone(),
            (None, Some((kind, check))) => format!("{kind} {}", check.subject()),
            (None, None) => String::new(),
        }
    }

    pub(super) fn severity(&self) -> CheckSeverity {
        let common = self.one().and_then(|(_, check)| check.common().severity);
        self.severity.or(common).unwrap_or_default()
    }

    pub(super) fn tolerance(&self) -> Tolerance {
        let common = self.one().and_then(|(_, check)| check.common().tolerance);
        self.tolerance.or(common).unwrap_or_default()
    }

    pub(super) fn invalid(&self, at: usize) -> Vec<Invalid> {
        let say = |key: String, message: String, hint: Option<String>| vec![Invalid { key, message, hint }];
        let all = self.all();
        let (kind, check) = match all.as_slice() {
            [one] => *one,
            [] => {
                let hint = Some(format!("one of: {}", NAMES.join(", ")));
                return say(
                    format!("checks.{at}"),
                    "a check needs a key that says what is looked at".into(),
                    hint,
                );
            }
            [_, (second, _), ..] => {
                let message = format!("a check looks at one thing: `{second}` is a second one");
                return say(
                    format!("checks.{at}.{second}"),
                    message,
                    Some("begin it with a `-` of its own".into()),
                );
            }
        };
        let mut found: Vec<Invalid> = check
            .invalid()
            .into_iter()
            .map(|one| Invalid {
                key: format!("checks.{at}.{kind}.{}", one.key).trim_end_matches('.').into(),
                ..one
            })
            .collect();
        let common = check.common();
        for (key, twice) in [
            ("name", self.name.is_some() && common.name.is_some()),
            ("severity", self.severity.is_some() && common.severity.is_some()),
            ("for", self.tolerance.is_some() && common.tolerance.is_some()),
        ] {
            if twice {
                let message = format!("`{key}` stands beside `{kind}` and within it");
                found.extend(say(format!("checks.{at}.{key}"), message, Some("keep one of them".into())));
            }
        }
        if self.name().trim().is_empty() {
            found.extend(say(format!("checks.{at}.name"), "the name is empty".into(), None));
        }
        // It stands in messages, in metrics and on terminals.
        let own = if common.name.is_some() { format!("{kind}.name") } else { "name".to_owned() };
        if let Some(reason) = self.given_name().and_then(|name| unfit(name)) {
            found.extend(say(format!("checks.{at}.{own}"), reason, None));
        }
        found
    }
}

fn unfit(name: &str) -> Option<String> {
    let length = name.chars().count();
    if length > LONGEST_NAME {
        return Some(format!("a name has at most {LONGEST_NAME} letters: this one has {length}"));
    }
    name.chars().any(char::is_control).then(|| "a name has no control characters and one line".to_owned())
}
