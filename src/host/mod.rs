//! The only place that touches the outside: programs, PostgreSQL, mail, files, /proc, systemd.

pub mod accounts;
pub mod exec;
pub mod files;
pub mod mail;
pub mod postgres;
pub mod process;
pub mod procfs;
pub mod secret;
