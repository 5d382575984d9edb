//! Docker Engine: the one door to it. Finds containers, runs programs inside them, and ends what it ran.
//!
//! Speaks to the socket of `DOCKER_HOST` or to Docker's usual one. Never starts, stops or removes a container, and
//! never ends a process that it can't prove to be its own.

pub mod client;
mod end;
mod error;
mod exec;
mod find;
mod state;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

pub use end::Owner;
pub use error::DockerError;
use exec::Exec;
pub use exec::{Captured, Order};
pub use find::{Found, ServiceState};

/// What one answer of the engine may take.
const PATIENCE: Duration = Duration::from_secs(20);

const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// A connection to the engine of this host.
#[derive(Clone, Debug)]
pub struct Docker {
    api: bollard::Docker,
    socket: PathBuf,
}

impl Docker {
    /// # Errors
    /// [`DockerError`]: the socket is absent, closed to this user, or nobody answers on it.
    pub async fn connect() -> Result<Self, DockerError> {
        Self::at(socket_of(std::env::var("DOCKER_HOST").ok().as_deref())?).await
    }

    async fn at(socket: PathBuf) -> Result<Self, DockerError> {
        // Tried by hand first: the API's own error names neither the socket nor the reason.
        match tokio::time::timeout(PATIENCE, UnixStream::connect(&socket)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(DockerError::unreachable(&socket, &error)),
            Err(_) => return Err(DockerError::Silent { socket, waited: PATIENCE }),
        }
        let name = socket.to_string_lossy();
        let api = bollard::Docker::connect_with_unix(&name, PATIENCE.as_secs(), bollard::API_DEFAULT_VERSION);
        let api = api.map_err(|error| DockerError::of("connecting", &socket, error))?;
        let api = within(&socket, "asking for its version", api.negotiate_version()).await?;
        Ok(Self { api, socket })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    async fn ask<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, DockerError> {
        within(&self.socket, what, answer).await
    }
}

async fn within<T>(
    socket: &Path,
    what: &str,
    answer: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, DockerError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(DockerError::of(what, socket, error)),
        Err(_) => Err(DockerError::Silent { socket: socket.to_owned(), waited: PATIENCE }),
    }
}

fn socket_of(docker_host: Option<&str>) -> Result<PathBuf, DockerError> {
    match docker_host.unwrap_or_default() {
        "" => Ok(USUAL_SOCKET.into()),
        host => match host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            Some(path) => Ok(path.into()),
            None => Err(DockerError::NotASocket { host: host.to_owned() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_of_this_host_is_spoken_to() {
        let check = |host: Option<&str>, expected: Result<&str, &str>| {
            let found = socket_of(host).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(PathBuf::from).map_err(str::to_owned));
        };
        check(None, Ok("/var/run/docker.sock"));
        check(Some(""), Ok("/var/run/docker.sock"));
        check(Some("unix:///run/user/1000/docker.sock"), Ok("/run/user/1000/docker.sock"));
        check(
            Some("tcp://10.0.0.1:2375"),
            Err("DOCKER_HOST is tcp://10.0.0.1:2375: only a socket of this host is spoken to, as in \
                 unix:///var/run/docker.sock"),
        );
    }

    #[tokio::test]
    async fn a_socket_that_is_absent_or_dead_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let absent = Docker::at(path.clone()).await.unwrap_err();
        assert_eq!(
            absent.to_string(),
            format!(
                "Docker's socket {} is absent: is Docker running? (systemctl status docker)",
                path.display()
            )
        );
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let dead = Docker::at(path.clone()).await.unwrap_err();
        assert_eq!(
            dead.to_string(),
            format!(
                "Docker's socket {} is there, but nobody answers on it: is Docker running? (systemctl status docker)",
                path.display()
            )
        );
        assert!(!dead.is_lasting());
    }
}
