//! A server in a container: its own programs there, through Docker.
//!
//! What runs long is started by the spawner, as a client of Docker that ends the program inside when it ends itself
//! (`crate::host::docker::client`); what is only asked something is run from here.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::backup::work::{Trouble, Work};
use crate::host::docker::{Docker, DockerError, Found, Order, Owner, client};
use crate::host::postgres::{Connection, Container, PostgresError, ServerFacts};
use crate::host::process::{Output, Program, Stdin};

/// What a program that an earlier attempt left behind has between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

pub struct Inside {
    docker: Docker,
    found: Found,
    /// What starts a client of Docker; empty where nothing will be started.
    client: String,
}

impl Inside {
    /// The container of the connection, which from then on is named by its own name.
    pub async fn find(
        connection: &mut Connection,
        container: &Container,
        now: Timestamp,
    ) -> Result<Self, DockerError> {
        let docker = Docker::connect().await?;
        let found = docker.find(container, now).await?;
        connection.container = Some(Container::Name(found.name.clone()));
        Ok(Self { docker, found, client: String::new() })
    }

    /// Ready for a run: nothing of an earlier attempt is left inside.
    pub async fn prepared(mut self, work: &Work) -> Result<Self, Trouble> {
        if let Some(chosen) = &self.found.chosen {
            work.note(chosen);
        }
        let owner = Owner { job: work.job.clone(), run: work.run.clone() };
        if !work.dry_run {
            for said in self.docker.end_left_over(&self.found, &owner, GRACE).await? {
                work.note(&said);
            }
        }
        self.client = work.programs.own_program().await?;
        Ok(self)
    }

    pub async fn facts(&self, connection: &Connection) -> Result<ServerFacts, PostgresError> {
        connection.facts_inside(&self.docker, &self.found).await
    }

    pub async fn end_sessions(
        &self,
        connection: &Connection,
        application: &str,
    ) -> Result<Vec<String>, PostgresError> {
        connection.end_sessions_inside(application, &self.docker, &self.found).await
    }

    /// What the program prints inside when it is asked for its `--version`.
    pub async fn version(&self, program: &str) -> Result<String, DockerError> {
        let argv = vec![program.to_owned(), "--version".to_owned()];
        let asked = self.docker.capture(&self.found, &Order { argv, env: vec![], stdin: false }).await;
        let answer = asked.map_err(|error| match error {
            DockerError::NoProgram { name, program, said } => DockerError::NoProgram {
                name,
                program,
                said: format!("{said}; its image is {}", self.found.image),
            },
            other => other,
        })?;
        Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    }

    /// A path inside, by the way that this host has to it.
    pub fn as_seen_here(&self, path: &str) -> Option<PathBuf> {
        let pid = self.found.pid.filter(|pid| *pid > 0)?;
        Some(PathBuf::from(format!("/proc/{pid}/root{path}")))
    }

    /// A program inside, as one of this host.
    pub fn program(&self, argv: Vec<String>, env: Vec<(String, String)>, stdin: Stdin) -> Program {
        let order = Order { argv, env, stdin: !matches!(stdin, Stdin::Null) };
        Program {
            argv: client::arguments(self.client.clone(), &self.docker, &self.found, &order),
            env: order.env,
            stdin,
            stdout: Output::Pipe,
            stderr: Output::Log { tail: 4096 },
            ..Program::default()
        }
    }
}
