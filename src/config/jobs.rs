//! From the tree to the table: the sections, then each job with its kind and its policies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::policies::{Policies, TIMEOUT};
use super::sections::TopKeys;
use super::{Alerts, ByName, Contact, Dashboard, Environment, JobSpec, JobTable, order, references};
use crate::document::{
    Collected, Entry, Invalid, JobRef, Node, Place, ProblemSeverity, Reader, Target, Value, located,
    mask_addresses, nearest, unknown_hint,
};
use crate::jobs::{Job, Kept, Kind};
use crate::model::JobName;
use crate::schedule::Schedule;

/// The kind to which `user` and `env` apply.
const COMMAND: &str = "command";

pub(super) struct Loading<'a> {
    pub(super) root: &'a Node<'a>,
    pub(super) text: &'a str,
    pub(super) file: &'a Path,
    pub(super) environment: &'a Environment,
    pub(super) kinds: &'static [Kind],
    pub(super) collected: &'a mut Collected,
    /// By name; of one that isn't known, the hint.
    pub(super) zones: HashMap<String, Result<TimeZone, Option<String>>>,
}

/// What reading every job needs again and again.
pub(super) struct Shared<'a> {
    pub(super) defaults: Policies,
    /// `alerts.to`
    alert: Vec<String>,
    /// `defaults:` in the file, for places.
    pub(super) written: Option<&'a Entry<'a>>,
    pub(super) zone: TimeZone,
    policy_keys: Vec<String>,
    names: HashMap<&'a str, JobName>,
}

impl<'a> Loading<'a> {
    /// What could be made of the file; to be used only where no error was collected.
    pub(super) fn table(mut self, hash: String) -> JobTable {
        let mut reader = Reader::of_root(self.root, self.collected);
        let (keys, clean) = reader.read_beside::<TopKeys>(&["jobs"]);
        let mut keys = keys.unwrap_or_default();
        reader.invalid(&keys.invalid());
        // Without `clean`, the file's zone may be among what was dropped, and a word about the system's misleads.
        let timezone = self.file_zone(keys.timezone.as_deref(), clean);

        let written = self.root.get("defaults");
        if let Some(contacts) = self.root.get("contacts") {
            // Where they stand in the wrong place, they are secrets all the same.
            mask_addresses(&contacts.node, &mut self.collected.masks);
        }
        let entries = self.job_entries();
        let alerts = keys.alerts.take().map(super::sections::AlertsKeys::alerts);
        let shared = Shared {
            alert: alerts.as_ref().map(|alerts| alerts.to.clone()).unwrap_or_default(),
            defaults: std::mem::take(&mut keys.defaults),
            written,
            zone: timezone.clone(),
            policy_keys: super::schema::properties_of::<Policies>(),
            names: entries
                .iter()
                .filter_map(|entry| Some((&*entry.key, JobName::new(&entry.key).ok()?)))
                .collect(),
        };
        let jobs = self.jobs(entries, shared);
        let jobs = self.handed(entries, jobs);
        let unknown = references::unknown(self.root, entries, self.collected);
        self.collected.problems.extend(unknown);
        let circles = order::cycles(entries, self.collected);
        self.collected.problems.extend(circles);

        let contacts: BTreeMap<String, Contact> =
            keys.contacts.into_iter().map(|(name, keys)| (name, keys.contact())).collect();
        self.unheard(alerts.as_ref(), &contacts);
        let dashboard = keys.dashboard.and_then(super::sections::DashboardKeys::dashboard);
        self.open_to_others(dashboard.as_ref());
        let connections = keys.postgres.into_iter().map(|(name, keys)| (name, keys.connection())).collect();
        JobTable {
            file: self.file.to_owned(),
            hash,
            timezone,
            paths: keys.paths.paths(self.file, self.environment),
            logs: keys.logs.settings(),
            keep_history: keys.logs.keep_history.0,
            max_running: keys.limits.max_running as usize,
            connections: Arc::new(connections),
            contacts,
            alerts,
            dashboard,
            by_name: ByName::of(&jobs),
            jobs,
        }
    }

    /// An address that others reach, without a token.
    fn open_to_others(&mut self, dashboard: Option<&Dashboard>) {
        let Some(Dashboard { listen, token: None }) = dashboard else { return };
        let written = self.root.get("dashboard").and_then(|entry| entry.node.get("listen"));
        if let Some(entry) = written.filter(|_| !listen.ip().to_canonical().is_loopback()) {
            let message = format!(
                "whoever reaches {listen} can read the names of jobs and checks, when and how they ran, and what was \
                 measured: there is no token"
            );
            let hint = "set dashboard.token, or listen on 127.0.0.1".to_owned();
            let problem =
                located(ProblemSeverity::Warning, entry.place, "dashboard.listen", message, Some(hint));
            self.collected.problems.push(problem);
        }
    }

    /// What nobody will hear, although somebody is named.
    fn unheard(&mut self, alerts: Option<&Alerts>, contacts: &BTreeMap<String, Contact>) {
        if alerts.is_some_and(|alerts| alerts.smtp.is_some()) {
            return;
        }
        let named = self.collected.references.iter().filter(|one| matches!(one.target, Target::Contact));
        let named: BTreeSet<String> = named.map(|reference| reference.text.to_string()).collect();
        let written = self.root.get("contacts");
        for name in named {
            let email = written.and_then(|all| all.node.get(&name)?.node.get("email"));
            if let (Some(entry), Some(Contact { email: Some(_), .. })) = (email, contacts.get(&name)) {
                let message = format!(
                    "contact `{name}` has an e-mail address, and there is no `alerts.smtp`: no mail is sent"
                );
                let path = format!("contacts.{name}.email");
                self.report(ProblemSeverity::Warning, entry.place, &path, message, None);
            }
        }
    }

    fn job_entries(&mut self) -> &'a [Entry<'a>] {
        let hint = Some("a file without jobs is refused, as an editor may have cut it short".to_owned());
        match self.root.get("jobs") {
            None => {
                let message = "there is no `jobs:`";
                self.report(ProblemSeverity::Error, self.root.place, "jobs", message, hint);
                &[]
            }
            Some(entry) => match &entry.node.value {
                Value::Map(entries) if !entries.is_empty() => entries,
                Value::Map(_) => {
                    self.report(ProblemSeverity::Error, entry.place, "jobs", "`jobs:` holds no job", hint);
                    &[]
                }
                _ if entry.node.is_nothing() => {
                    self.report(ProblemSeverity::Error, entry.place, "jobs", "`jobs:` holds no job", hint);
                    &[]
                }
                _ => {
                    let message = format!("expected a map from names to jobs, found {}", entry.node.found());
                    self.report(ProblemSeverity::Error, entry.node.place, "jobs", message, None);
                    &[]
                }
            },
        }
    }

    fn jobs(&mut self, entries: &'a [Entry<'a>], mut shared: Shared<'a>) -> Vec<Arc<JobSpec>> {
        if let Some(written) = shared.written {
            // Checked by itself as well: every job may have its own.
            let defaults = shared.defaults.clone();
            self.schedule(&defaults, &written.node, "defaults", "defaults", &mut shared);
        }
        entries.iter().filter_map(|entry| self.job(entry, &mut shared).map(Arc::new)).collect()
    }

    /// Jobs that work on the backups of another are told where those are.
    fn handed(&mut self, entries: &'a [Entry<'a>], jobs: Vec<Arc<JobSpec>>) -> Vec<Arc<JobSpec>> {
        let keepers: HashMap<String, (&'static str, Option<Kept>)> = jobs
            .iter()
            .map(|spec| (spec.name.to_string(), (spec.kind.name, spec.job.keeps(spec.name.as_str()))))
            .collect();
        let kept: BTreeMap<String, Kept> =
            keepers.iter().filter_map(|(name, (_, kept))| Some((name.clone(), kept.clone()?))).collect();
        let handed = |spec: Arc<JobSpec>| {
            // One that isn't there is reported as every name that is used and not defined.
            let wrong = |(key, of): (String, &JobRef)| {
                let (kind, kept) = keepers.get(&**of)?;
                let message = format!("job `{of}` is of the kind `{kind}`, which makes no backup");
                let hint = Some("name a job of the kind `pg_dump` or `archive`".to_owned());
                kept.is_none().then_some(Invalid { key, message, hint })
            };
            let wrong: Vec<Invalid> = spec.job.works_on().into_iter().filter_map(wrong).collect();
            let entry = entries.iter().find(|entry| *entry.key == *spec.name.as_str());
            if let Some(key) =
                entry.and_then(|entry| entry.node.get(spec.kind.name)).filter(|_| !wrong.is_empty())
            {
                let path = format!("jobs.{}.{}", spec.name, spec.kind.name);
                Reader::new(key, path, self.collected).invalid(&wrong);
            }
            match spec.job.handed(&kept) {
                Some(job) => Arc::new(JobSpec { job, ..JobSpec::clone(&spec) }),
                None => spec,
            }
        };
        jobs.into_iter().map(handed).collect()
    }

    fn job(&mut self, entry: &'a Entry<'a>, shared: &mut Shared<'a>) -> Option<JobSpec> {
        let path = format!("jobs.{}", entry.key);
        if let Err(message) = JobName::new(&entry.key) {
            self.report(ProblemSeverity::Error, entry.place, &path, message, None);
        }
        let name = shared.names.get(&*entry.key).cloned();
        let keys = match &entry.node.value {
            Value::Map(keys) => keys.as_slice(),
            _ if entry.node.is_nothing() => &[],
            _ => {
                let message = format!("expected a map that describes the job, found {}", entry.node.found());
                self.report(ProblemSeverity::Error, entry.node.place, &path, message, None);
                return None;
            }
        };
        let beside: Vec<&str> = keys
            .iter()
            .map(|key| &*key.key)
            .filter(|key| !shared.policy_keys.iter().any(|known| known == key))
            .collect();
        let kind = self.kind(entry, keys, &beside, &path, &shared.policy_keys);

        let mut reader = Reader::new(entry, path.clone(), self.collected);
        let policies = reader.read_beside::<Policies>(&beside).0?;
        reader.invalid(&policies.invalid());
        let schedule = self.schedule(&policies, &entry.node, &entry.key, &path, shared);
        let (kind, key) = kind?;
        if kind.name != COMMAND {
            for (key, set) in [("user", policies.user.is_some()), ("env", policies.env.is_some())] {
                if let Some(key) = entry.node.get(key).filter(|_| set) {
                    let message = format!(
                        "`{}` is for `{COMMAND}`: a job of the kind `{}` has none",
                        key.key, kind.name
                    );
                    self.report(
                        ProblemSeverity::Error,
                        key.place,
                        &format!("{path}.{}", key.key),
                        message,
                        None,
                    );
                }
            }
        }
        let job = (kind.read)(&mut Reader::new(key, format!("{path}.{}", kind.name), self.collected))?;
        Some(spec(name?, kind, job, schedule, policies, shared))
    }

    /// The one key that names a kind.
    fn kind(
        &mut self,
        entry: &'a Entry<'a>,
        keys: &'a [Entry<'a>],
        beside: &[&str],
        path: &str,
        policy_keys: &[String],
    ) -> Option<(&'static Kind, &'a Entry<'a>)> {
        let names = || self.kinds.iter().map(|kind| kind.name);
        let list = || names().collect::<Vec<_>>().join(", ");
        let mut kinds = keys.iter().filter_map(|key| {
            let kind = self.kinds.iter().find(|kind| *kind.name == *key.key)?;
            Some((kind, key))
        });
        let first = kinds.next();
        let mut found = Vec::new();
        for (second, key) in kinds {
            let first = first.map_or("", |(kind, _)| kind.name);
            let message = format!("a second kind: a job is either `{first}` or `{}`", second.name);
            found.push((key.place, key.key.to_string(), message, Some("make two jobs of it".to_owned())));
        }
        // What is no policy and no kind: a slip in either, or the kind itself.
        let mut slipped = false;
        for key in
            keys.iter().filter(|key| beside.contains(&&*key.key) && !names().any(|name| name == key.key))
        {
            self.collected.unread(key);
            let near_kind = nearest(&key.key, names());
            let near_policy = nearest(&key.key, policy_keys.iter().map(String::as_str));
            let is_kind =
                near_kind.is_some() || (near_policy.is_none() && matches!(key.node.value, Value::Map(_)));
            if first.is_none() && is_kind && !slipped {
                slipped = true;
                let message = format!("unknown kind `{}`: the kinds are {}", key.key, list());
                let hint = near_kind.map(|near| format!("did you mean `{near}`?"));
                found.push((key.place, key.key.to_string(), message, hint));
            } else {
                let known = policy_keys.iter().map(String::as_str).chain(names());
                let hint = unknown_hint(&key.key, known);
                found.push((
                    key.place,
                    key.key.to_string(),
                    format!("unknown key `{}`", key.key),
                    Some(hint),
                ));
            }
        }
        if first.is_none() && !slipped {
            let message = format!("the job `{}` names no kind: add one of {}", entry.key, list());
            found.push((entry.place, String::new(), message, None));
        }
        for (place, key, message, hint) in found {
            let path = if key.is_empty() { path.to_owned() } else { format!("{path}.{key}") };
            self.report(ProblemSeverity::Error, place, &path, message, hint);
        }
        first
    }

    pub(super) fn report(
        &mut self,
        severity: ProblemSeverity,
        place: Place,
        path: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.collected.problems.push(located(severity, place, path, message, hint));
    }
}

fn spec(
    name: JobName,
    kind: &'static Kind,
    job: Arc<dyn Job>,
    schedule: Option<Schedule>,
    own: Policies,
    shared: &Shared<'_>,
) -> JobSpec {
    let defaults = &shared.defaults;
    let is_command = kind.name == COMMAND;
    let after = own.after.as_ref().or(defaults.after.as_ref());
    let alert = own.alert.as_ref().or(defaults.alert.as_ref());
    JobSpec {
        retries: own.retries(defaults, kind.retries),
        missed: own.missed(defaults),
        heartbeat: own.heartbeat(defaults),
        env: if is_command { own.env(defaults) } else { BTreeMap::new() },
        after: after
            .into_iter()
            .flatten()
            .filter_map(|name| shared.names.get(name.as_str()).cloned())
            .collect(),
        alert: alert.map_or_else(
            || shared.alert.clone(),
            |contacts| contacts.iter().map(|contact| contact.0.clone()).collect(),
        ),
        enabled: own.enabled.or(defaults.enabled).unwrap_or(true),
        timeout: own.timeout.or(defaults.timeout).map_or(TIMEOUT, |timeout| timeout.0),
        overlap: own.overlap.or(defaults.overlap).unwrap_or_default(),
        interrupted: own.interrupted.or(defaults.interrupted).unwrap_or(kind.interrupted),
        jitter: own.jitter.or(defaults.jitter).map_or(std::time::Duration::ZERO, |jitter| jitter.0),
        user: own.user.or_else(|| defaults.user.clone()).filter(|_| is_command),
        nice: own.nice.or(defaults.nice).unwrap_or(0),
        io: own.io.or(defaults.io),
        description: own.description.or_else(|| defaults.description.clone()),
        group: own.group.or_else(|| defaults.group.clone()),
        zone: schedule.as_ref().map_or_else(|| shared.zone.clone(), |schedule| schedule.zone().clone()),
        name,
        kind,
        job,
        schedule,
    }
}
