//! The program from outside: one binary for all integration tests, one file a behaviour.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod alerts;
mod archive;
mod audit;
mod bad_days;
mod certbot;
mod cli;
mod command;
mod copies;
mod crash_loops;
mod docker;
mod dumps;
mod endings;
mod health;
mod health_network;
mod house;
mod json_logs;
mod ledger_fire;
mod lifecycle;
mod metrics;
mod orphans;
mod overload;
mod pg_dump;
mod prune;
mod prune_daemon;
mod restore;
mod run_now;
mod spawner;
mod support;
mod systemd;
mod time;
mod verify;
