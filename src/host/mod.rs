//! The only place that touches the outside: programs, PostgreSQL, files, /proc, systemd.

pub mod accounts;
pub mod certificates;
pub mod exec;
pub mod files;
pub mod postgres;
pub mod process;
pub mod procfs;
pub mod secret;
pub mod tls;
