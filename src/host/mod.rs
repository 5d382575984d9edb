//! The only place that touches the outside: programs, PostgreSQL, Docker, HTTP, TLS, mail, files, /proc, systemd.

pub mod accounts;
pub mod certificates;
pub(crate) mod cgroup;
pub mod docker;
pub mod exec;
pub mod files;
pub mod http;
pub mod load;
pub mod mail;
pub mod names;
pub mod objects;
pub mod postgres;
pub mod process;
pub mod procfs;
pub mod secret;
mod slow;
pub mod sockets;
pub mod tls;
pub mod trust;
