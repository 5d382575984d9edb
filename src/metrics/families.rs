//! Every metric there is: name, type, unit, labels, meaning. The one table that `/metrics`, its documentation and the
//! tests of rules and dashboard are held against. Knows no values.
//!
//! Names and units follow Prometheus' rules (<https://prometheus.io/docs/practices/naming/>). The label is `job_name`:
//! `job` is Prometheus' own, for what it scrapes, and would become `exported_job` there.

use prometheus_client::metrics::MetricType;

/// Before every name.
pub const PREFIX: &str = "punk_eco_sched";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// One metric with all its series.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without [`PREFIX`], unit and what a type adds.
    pub(super) name: &'static str,
    pub(super) unit: Option<&'static str>,
    pub r#type: Type,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Type {
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    pub(super) fn of_the_encoder(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }
}

impl Family {
    /// As queries name it: `punk_eco_sched_job_runs_total`. A histogram's series add `_bucket`, `_sum` and `_count`.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let suffix = match self.r#type {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram => "",
        };
        format!("{PREFIX}_{}{unit}{suffix}", self.name)
    }

    pub(super) const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, unit: None, r#type: Type::Gauge, labels, help }
    }

    const fn of(self, r#type: Type) -> Self {
        Self { r#type, ..self }
    }

    const fn in_unit(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }
}

const JOB: &[&str] = &["job_name"];
const CHECK: &[&str] = &["job_name", "check", "quantity"];

macro_rules! families {
    ($($name:ident = $family:expr;)+) => {
        $(pub(super) const $name: Family = $family;)+

        /// All of them, in the order in which they are told.
        pub const FAMILIES: &[Family] = &[$($name),+];
    };
}

families! {
    BUILD = Family::gauge("build", &["version"], "The version of the daemon.").of(Type::Info);
    START = Family::gauge("start_timestamp", &[], "When the daemon started.").in_unit("seconds");
    JOBS = Family::gauge("jobs", &[], "Jobs of the table in force.");
    CONFIG_CHANGED = Family::gauge("config_changed", &[],
        "1 where jobs.yaml on the disk differs from the table in force, or can't be read.");
    RELOAD_SUCCESSFUL = Family::gauge("config_last_reload_successful", &[],
        "0 where jobs.yaml was refused when it was last read.");
    RELOAD_SUCCESS = Family::gauge("config_last_reload_success_timestamp", &[],
        "When the table in force was read.").in_unit("seconds");

    JOB_INFO = Family::gauge("job", &["job_name", "kind"], "A job and its kind.").of(Type::Info);
    JOB_ENABLED = Family::gauge("job_enabled", JOB, "0 for a job with enabled: false.");
    JOB_PAUSED = Family::gauge("job_paused", JOB, "1 while the job, or every job, is paused or held.");
    JOB_RUNNING = Family::gauge("job_running", JOB, "Runs of the job that have begun and not ended.");
    JOB_QUEUED = Family::gauge("job_queued", JOB, "Runs of the job that wait for their turn.");
    JOB_NEXT_SLOT = Family::gauge("job_next_slot_timestamp", JOB, "When the job's next slot is, nominally.")
        .in_unit("seconds");
    JOB_LAST_OUTCOME = Family::gauge("job_last_outcome", &["job_name", "outcome"],
        "1 for the outcome of the job's last run that ended, 0 for the others.");
    JOB_LAST_END = Family::gauge("job_last_run_end_timestamp", JOB, "When the job's last run ended.")
        .in_unit("seconds");
    JOB_LAST_SUCCESS = Family::gauge("job_last_success_timestamp", JOB, "When a run of the job last succeeded.")
        .in_unit("seconds");
    JOB_SLOTS_SINCE_SUCCESS = Family::gauge("job_slots_since_success", JOB,
        "Slots of the job that came due since its last success, or since the daemon started where there was none; at most 100.");
    JOB_RUNS = Family::gauge("job_runs", &["job_name", "outcome"],
        "Runs that ended since the daemon started.").of(Type::Counter);
    JOB_ATTEMPTS = Family::gauge("job_attempts", JOB,
        "Attempts that began since the daemon started.").of(Type::Counter);
    JOB_SKIPPED = Family::gauge("job_skipped_slots", &["job_name", "reason"],
        "Slots that were not run since the daemon started.").of(Type::Counter);
    JOB_DURATION = Family::gauge("job_run_duration", JOB,
        "How long runs took from their start to their end, all attempts together.")
        .of(Type::Histogram).in_unit("seconds");
    JOB_LATENESS = Family::gauge("job_start_lateness", JOB,
        "How long after its slot, and the job's jitter, a scheduled run began.")
        .of(Type::Histogram).in_unit("seconds");

    CHECK_STATE = Family::gauge("check_state", &["job_name", "check", "state"],
        "1 for the state of a check after its last look, 0 for the others.");
    CHECK_VALUE_RATIO = Family::gauge("check_value", CHECK, "A share that a check measured, from 0 to 1.")
        .in_unit("ratio");
    CHECK_THRESHOLD_RATIO = Family::gauge("check_threshold", CHECK, "What the share is held against.")
        .in_unit("ratio");
    CHECK_VALUE_SECONDS = Family::gauge("check_value", CHECK, "A time that a check measured.").in_unit("seconds");
    CHECK_THRESHOLD_SECONDS = Family::gauge("check_threshold", CHECK, "What the time is held against.")
        .in_unit("seconds");
    CHECK_VALUE_BYTES = Family::gauge("check_value", CHECK, "A size that a check measured.").in_unit("bytes");
    CHECK_THRESHOLD_BYTES = Family::gauge("check_threshold", CHECK, "What the size is held against.")
        .in_unit("bytes");
    CHECK_VALUE = Family::gauge("check_value", CHECK, "A plain number that a check measured.");
    CHECK_THRESHOLD = Family::gauge("check_threshold", CHECK, "What the plain number is held against.");
    INCIDENT_OPEN = Family::gauge("incident_open", &["job_name", "check", "severity"],
        "1 for each open incident; without a check it is the job's own.");

    BACKUP_READABLE = Family::gauge("backup_readable", JOB,
        "0 where the directory of the job's backups could not be read, or does not answer.");
    BACKUP_PRESENT = Family::gauge("backup_present", JOB, "1 where the job has a backup in its directory.");
    BACKUP_TIMESTAMP = Family::gauge("backup_newest_timestamp", JOB, "When the job's newest backup was begun.")
        .in_unit("seconds");
    BACKUP_BYTES = Family::gauge("backup_newest_size", JOB, "The size of the job's newest backup.").in_unit("bytes");
    BACKUP_PROOF = Family::gauge("backup_newest_proof", &["job_name", "proof"],
        "1 for what is proven of the job's newest backup, 0 for the others.");

    ALERTS_WAITING = Family::gauge("alerts_waiting", &["contact", "channel"],
        "Alerts that could not be delivered yet; those that are only gathered into one message don't count.");
    LEDGER_PROBLEM = Family::gauge("ledger_problem", &[],
        "1 while rows wait in memory, since the ledger can't be written.");
    LEDGER_SIZE = Family::gauge("ledger_size", &["file"], "The size of the ledger and of its log of changes.")
        .in_unit("bytes");
    LOGS_SIZE = Family::gauge("logs_size", &[], "The size of all log files together.").in_unit("bytes");
}
