//! What can go wrong between this program and a container, as an operator should read it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;

use crate::units::HumanDuration;

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error(
        "DOCKER_HOST is {host}: only a socket of this host is spoken to, as in unix:///var/run/docker.sock"
    )]
    NotASocket { host: String },
    #[error("Docker's socket {} is absent: is Docker running? (systemctl status docker)", .socket.display())]
    Absent { socket: PathBuf },
    #[error(
        "Docker's socket {} is closed to user {user}: run as root, or add the user to the socket's group \
         (usermod -aG docker {user})", .socket.display()
    )]
    Forbidden { socket: PathBuf, user: String },
    #[error(
        "Docker's socket {} is there, but nobody answers on it: is Docker running? (systemctl status docker)",
        .socket.display()
    )]
    Dead { socket: PathBuf },
    #[error("Docker at {} doesn't answer within {}", .socket.display(), HumanDuration(*.waited))]
    Silent { socket: PathBuf, waited: Duration },
    /// With what there is instead.
    #[error("{0}")]
    NoContainer(String),
    #[error("container {name} isn't running: {state}")]
    NotRunning { name: String, state: String },
    #[error("container {name} has no {program}: {said}")]
    NoProgram { name: String, program: String, said: String },
    #[error("Docker doesn't run {program} in container {name}: {said}")]
    Refused { name: String, program: String, said: String },
    #[error("Docker doesn't say how {program} in container {name} ended: {why}")]
    NoExitCode { name: String, program: String, why: String },
    #[error("container {name} was stopped or restarted under {program}: {why}")]
    Fell { name: String, program: String, why: String },
    #[error("{program} in container {name} took longer than {} and was ended", HumanDuration(*.limit))]
    TooLong { name: String, program: String, limit: Duration },
    #[error("Docker at {} fails at {what}: {said}", .socket.display())]
    Other { socket: PathBuf, what: String, said: String },
}

impl DockerError {
    /// Whether the same attempt would meet the same again. A container may come back, and so may the engine.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::NotASocket { .. } | Self::Forbidden { .. } | Self::NoProgram { .. })
    }

    pub(super) fn unreachable(socket: &Path, error: &std::io::Error) -> Self {
        let socket = socket.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::Absent { socket },
            ErrorKind::PermissionDenied => Self::Forbidden { socket, user: own_name() },
            // Refused before it began, or cut off because the engine went meanwhile.
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Self::Dead { socket },
            _ => Self::Other { socket, what: "connecting".into(), said: error.to_string() },
        }
    }

    pub(super) fn of(what: &str, socket: &Path, error: Error) -> Self {
        if let Some(unreachable) = unconnected(&error) {
            return Self::unreachable(socket, unreachable);
        }
        let socket = socket.to_owned();
        match error {
            Error::RequestTimeoutError => Self::Silent { socket, waited: super::PATIENCE },
            Error::SocketNotFoundError(_) => Self::Absent { socket },
            // hyper's words for an engine that went before it had answered.
            other if whole(&other).contains("connection closed before message completed") => {
                Self::Dead { socket }
            }
            Error::DockerResponseServerError { message, .. } => {
                Self::Other { socket, what: what.to_owned(), said: message.trim().to_owned() }
            }
            other => Self::Other { socket, what: what.to_owned(), said: whole(&other) },
        }
    }
}

/// The status of an answer that is an error.
pub(super) fn status_of(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Why there was no connection, where that is all there is to say.
fn unconnected(error: &Error) -> Option<&std::io::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            let known = [
                ErrorKind::NotFound,
                ErrorKind::PermissionDenied,
                ErrorKind::ConnectionRefused,
                ErrorKind::ConnectionReset,
                ErrorKind::ConnectionAborted,
                ErrorKind::BrokenPipe,
                ErrorKind::UnexpectedEof,
            ];
            return known.contains(&io.kind()).then_some(io);
        }
        source = cause.source();
    }
    None
}

fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn own_name() -> String {
    crate::host::accounts::own().map_or_else(|_| nix::unistd::geteuid().to_string(), |account| account.name)
}
