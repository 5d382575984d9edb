//! Jobs, tables, times and what a ledger remembers, in a few words each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;

#[derive(Debug)]
struct Nothing;

#[async_trait::async_trait]
impl Job for Nothing {
    async fn run(&self, _ctx: &JobContext) -> Result<Report, JobError> {
        Ok(Report::new("nothing"))
    }
}

static KIND: Kind = Kind {
    name: "nothing",
    summary: "does nothing",
    retries: Retries::ONCE,
    interrupted: Interrupted::Rerun,
    read: |_| None,
    schema: |_| schemars::Schema::default(),
};

/// A job by a few words: `every 5 minutes` is `job("a", "*/5 * * * *")`, changed by what follows.
pub(super) fn job(name: &str, schedule: &str) -> JobSpec {
    JobSpec {
        name: JobName::new(name).unwrap(),
        description: None,
        kind: &KIND,
        job: Arc::new(Nothing),
        schedule: schedule_of(name, schedule),
        zone: TimeZone::UTC,
        enabled: true,
        timeout: Duration::from_secs(3600),
        retries: Retries::ONCE,
        overlap: Overlap::Skip,
        missed: Missed::default(),
        interrupted: Interrupted::Rerun,
        jitter: Duration::ZERO,
        after: vec![],
        group: None,
        alert: vec![],
        heartbeat: None,
        user: None,
        env: BTreeMap::new(),
        nice: 0,
        io: None,
    }
}

pub(super) fn schedule_of(name: &str, text: &str) -> Option<Schedule> {
    let expressions: Vec<String> =
        text.split(" + ").filter(|one| !one.is_empty()).map(str::to_owned).collect();
    (!expressions.is_empty()).then(|| Schedule::parse(&expressions, &TimeZone::UTC, name).unwrap())
}

impl JobSpec {
    pub(super) fn overlap(self, overlap: Overlap) -> Self {
        Self { overlap, ..self }
    }

    pub(super) fn missed(self, policy: MissedPolicy) -> Self {
        Self { missed: Missed { policy, ..self.missed }, ..self }
    }

    pub(super) fn within(self, seconds: u64) -> Self {
        Self { missed: Missed { within: Some(Duration::from_secs(seconds)), ..self.missed }, ..self }
    }

    pub(super) fn group(self, group: &str) -> Self {
        Self { group: Some(group.to_owned()), ..self }
    }

    pub(super) fn after(self, jobs: &[&str]) -> Self {
        Self { after: jobs.iter().map(|job| JobName::new(job).unwrap()).collect(), ..self }
    }

    pub(super) fn jitter(self, seconds: u64) -> Self {
        Self { jitter: Duration::from_secs(seconds), ..self }
    }

    pub(super) fn disabled(self) -> Self {
        Self { enabled: false, ..self }
    }
}

pub(super) fn table(max_running: usize, jobs: impl IntoIterator<Item = JobSpec>) -> Arc<JobTable> {
    let jobs: Vec<Arc<JobSpec>> = jobs.into_iter().map(Arc::new).collect();
    Arc::new(JobTable {
        file: "jobs.yaml".into(),
        hash: String::new(),
        timezone: TimeZone::UTC,
        paths: Paths { state: "".into(), logs: "".into(), socket: "".into() },
        logs: logs::Settings { format: logs::Format::Text, max_size: 1, max_files: 1 },
        keep_history: Duration::MAX,
        max_running,
        connections: Arc::default(),
        contacts: BTreeMap::new(),
        alerts: None,
        dashboard: None,
        by_name: ByName::of(&jobs),
        jobs,
    })
}

/// `10:00`, `10:00:30` on the first day of 2026, `02T10:00` on its second, or in full.
pub(super) fn at(text: &str) -> Timestamp {
    let (day, time) = text.split_once('T').unwrap_or(("01", text));
    let day = if day.len() > 2 { day.to_owned() } else { format!("2026-01-{day}") };
    let seconds = if time.matches(':').count() == 1 { ":00" } else { "" };
    format!("{day}T{time}{seconds}Z").parse().unwrap()
}

/// As `at` reads it.
pub(super) fn show(at: Timestamp) -> String {
    let text = at.to_string();
    let text = text.trim_end_matches('Z');
    let text = text.strip_prefix("2026-01-01T").or_else(|| text.strip_prefix("2026-01-")).unwrap_or(text);
    text.strip_suffix(":00").filter(|rest| rest.contains(':')).unwrap_or(text).to_owned()
}

pub(super) fn recovered(accounted: &str, past: &Arc<JobTable>) -> Recovered {
    Recovered {
        accounted: Some(at(accounted)),
        past: past
            .jobs
            .iter()
            .filter(|spec| spec.enabled)
            .map(|spec| PastJob {
                job: spec.name.clone(),
                kind: "nothing".into(),
                schedule: spec.schedule.clone(),
                jitter: Some(spec.jitter),
            })
            .collect(),
        ..Recovered::default()
    }
}

pub(super) fn open(run: i64, job: &str, slot: Option<&str>, queued: bool) -> OpenRun {
    let job = JobName::new(job).unwrap();
    let slot = slot.map(at);
    OpenRun {
        run: RunId(run),
        job,
        slot,
        epoch: 0,
        queued,
        again: false,
        dry_run: false,
        ended_at: None,
        ended: None,
    }
}
