//! punk-eco-sched: one daemon instead of a crontab. (The map is in ARCHITECTURE.md.)

pub mod api;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod document;
pub mod engine;
pub mod host;
pub mod jobs;
pub mod ledger;
pub mod logs;
pub mod model;
pub mod policy;
pub mod schedule;
pub mod spawner;
pub mod units;
