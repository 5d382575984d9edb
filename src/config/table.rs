//! The result of reading jobs.yaml: a type that later code can't get wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Heartbeat;
use crate::host::mail;
use crate::host::postgres::Connection;
use crate::host::process::Account;
use crate::host::secret::SecretText;
use crate::jobs::{Job, Kind};
use crate::logs;
use crate::model::JobName;
use crate::policy::{Interrupted, IoClass, Missed, Overlap, Retries};
use crate::schedule::Schedule;

/// A checked jobs.yaml.
#[derive(Debug)]
pub struct JobTable {
    /// Where it was read from.
    pub file: PathBuf,
    /// SHA-256 of its text, in hex.
    pub hash: String,
    pub timezone: TimeZone,
    pub paths: Paths,
    pub logs: logs::Settings,
    pub keep_history: Duration,
    pub max_running: usize,
    pub connections: Arc<BTreeMap<String, Connection>>,
    pub contacts: BTreeMap<String, Contact>,
    pub alerts: Option<Alerts>,
    pub dashboard: Option<Dashboard>,
    /// In the order of the file.
    pub jobs: Vec<Arc<JobSpec>>,
    pub(crate) by_name: ByName,
}

/// Where each job stands in the table, in the order of their names: a thousand jobs that come due together are each
/// looked up.
#[derive(Debug)]
pub(crate) struct ByName(Box<[u32]>);

impl ByName {
    pub(crate) fn of(jobs: &[Arc<JobSpec>]) -> Self {
        let mut order: Box<[u32]> = (0..).take(jobs.len()).collect();
        order.sort_unstable_by(|a, b| jobs[*a as usize].name.cmp(&jobs[*b as usize].name));
        Self(order)
    }
}

impl JobTable {
    /// The same jobs, none of which comes due by itself.
    #[must_use]
    pub fn without_schedules(mut self) -> Self {
        self.jobs = self
            .jobs
            .iter()
            .map(|job| Arc::new(JobSpec { schedule: None, after: vec![], ..JobSpec::clone(job) }))
            .collect();
        self
    }

    pub fn job(&self, name: &str) -> Option<&Arc<JobSpec>> {
        let at = |at: &u32| &self.jobs[*at as usize];
        let found = self.by_name.0.binary_search_by(|one| at(one).name.as_str().cmp(name)).ok()?;
        Some(at(&self.by_name.0[found]))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub state: PathBuf,
    pub logs: PathBuf,
    pub socket: PathBuf,
}

/// One job with its policies, defaults filled in.
#[derive(Clone)]
pub struct JobSpec {
    pub name: JobName,
    pub description: Option<String>,
    pub kind: &'static Kind,
    pub job: Arc<dyn Job>,
    /// `None`: manual only.
    pub schedule: Option<Schedule>,
    /// Of its schedule; without one, the file's.
    pub zone: TimeZone,
    pub enabled: bool,
    pub timeout: Duration,
    pub retries: Retries,
    pub overlap: Overlap,
    pub missed: Missed,
    pub interrupted: Interrupted,
    pub jitter: Duration,
    pub after: Vec<JobName>,
    pub group: Option<String>,
    /// Who hears of its failures; nobody where the list is empty.
    pub alert: Vec<String>,
    pub heartbeat: Option<Heartbeat>,
    /// Looked up when the table comes into force; checked by `check` on the host.
    pub user: Option<String>,
    pub env: BTreeMap<String, SecretText>,
    pub nice: u8,
    pub io: Option<IoClass>,
}

impl JobSpec {
    /// Whether `other` would do the same at the same times. Literal secrets are not looked at.
    pub fn is_like(&self, other: &Self) -> bool {
        fn whole(spec: &JobSpec) -> impl PartialEq {
            let schedule = spec.schedule.as_ref().map(|schedule| {
                (schedule.expressions().to_vec(), schedule.zone().iana_name().map(str::to_owned))
            });
            let options = format!("{:?} {:?}", spec.job, spec.env);
            let times =
                (spec.timeout, spec.retries, spec.jitter, spec.missed, spec.interrupted, spec.overlap);
            let order = (spec.after.clone(), spec.group.clone(), spec.alert.clone(), spec.enabled);
            let system = (spec.user.clone(), spec.nice, spec.io, spec.description.clone());
            (spec.kind.name, schedule, options, times, order, system, spec.heartbeat.clone())
        }
        whole(self) == whole(other)
    }
}

impl std::fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobSpec").field("name", &self.name).field("job", &self.job).finish_non_exhaustive()
    }
}

/// Found by name in the system's user database.
pub type AccountLookup = Result<Account, String>;

#[derive(Clone, Debug)]
pub struct Contact {
    pub email: Option<String>,
    pub webhook: Option<Webhook>,
}

#[derive(Clone, Debug)]
pub struct Webhook {
    pub url: SecretText,
    /// `None`: by its address.
    pub form: Option<Form>,
    pub token: Option<SecretText>,
}

/// What a webhook's receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Our own document
    Json,
    /// Of Slack, Mattermost and Rocket.Chat
    Slack,
    Discord,
    Ntfy,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Ntfy => "ntfy",
        })
    }
}

/// Of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    #[default]
    En,
    Fr,
}

#[derive(Clone, Debug)]
pub struct Alerts {
    pub smtp: Option<Smtp>,
    pub to: Vec<String>,
    pub remind_every: Duration,
    pub language: Language,
}

#[derive(Clone, Debug)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub from: String,
    pub user: Option<String>,
    pub password: Option<SecretText>,
    pub tls: mail::Tls,
}

#[derive(Clone, Debug)]
pub struct Dashboard {
    pub listen: std::net::SocketAddr,
    pub token: Option<SecretText>,
}
