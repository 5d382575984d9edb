//! The only place that touches the outside: programs, PostgreSQL, HTTP, mail, files, /proc, systemd.

pub mod accounts;
pub mod exec;
pub mod files;
pub mod http;
pub mod mail;
pub mod postgres;
pub mod process;
pub mod procfs;
pub mod secret;
pub mod sockets;
pub mod trust;
