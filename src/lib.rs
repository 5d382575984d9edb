//! punk-eco-sched: one daemon instead of a crontab, the scripts that it calls and the guide beside them.
//!
//! The main flow: [`config`] reads jobs.yaml through [`document`] into a `JobTable`, with the expressions of
//! [`schedule`] and the kinds of [`jobs`]. [`daemon`] hands it to [`engine`], whose plan decides (purely) what is
//! due, skipped, queued or missed when the alarm of [`clock`] rings. The engine's loop writes every decision to
//! [`ledger`] in one transaction, and then starts a runner for each run: attempts, backoff, timeout, cancel. A runner
//! calls `Job::run`, which reaches the outside through [`host`] alone; its programs are children of [`spawner`], a
//! second process that outlives the daemon; what they print goes to [`logs`]. The `Report` that comes back ends the
//! run in the ledger. People look and act through [`cli`], which reads ledger and logs itself and talks to a living
//! daemon through [`api`].
//!
//! Imports run downward only; ARCHITECTURE.md has the order and the reasons.

/// Who hears of what: incidents, messages, and the courier that delivers them.
pub mod alert;
/// The control socket: one protocol, shared by both ends.
pub mod api;
/// What the backup kinds share: the compressing writer, the manifest, publishing, retention.
pub mod backup;
/// One file a verb.
pub mod cli;
/// The wall clock, an alarm at an instant of it, and word of every step.
pub mod clock;
/// jobs.yaml as a whole, checked in one pass.
pub mod config;
/// Composition, signals, systemd, reload.
pub mod daemon;
/// YAML read into plain serde types with every problem in its place.
pub mod document;
/// The plan, the loop that carries it out, the runner of one run.
pub mod engine;
/// The only place that touches the outside.
pub mod host;
/// The `Job` trait, `KINDS`, one file a kind.
pub mod jobs;
/// The durable store of slots, runs and attempts.
pub mod ledger;
/// A rotating file a job.
pub mod logs;
/// What `/metrics` says.
pub mod metrics;
/// The words: job name, run, slot, outcome, report.
pub mod model;
/// What a job's policy keys say.
pub mod policy;
/// Cron expressions over the zones of the world. Pure.
pub mod schedule;
/// The parent of every program.
pub mod spawner;
/// Durations, sizes, percentages as people write them.
pub mod units;
