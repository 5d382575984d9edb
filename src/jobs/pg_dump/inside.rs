//! A server in a container: its own programs there, through Docker.
//!
//! What runs long is started by the spawner, as a client of Docker that ends the program inside when it ends itself
//! (`crate::host::docker::client`); what is only asked something is run from here.

use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;

use crate::host::docker::{Docker, DockerError, Found, Order, Owner, client};
use crate::host::postgres::{Connection, Container, PostgresError, ServerFacts};
use crate::host::process::{Output, Program, Stdin};
use crate::jobs::{JobContext, JobError};

/// What a program that an earlier attempt left behind has between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct Inside {
    docker: Docker,
    found: Found,
    /// What starts a client of Docker; empty where nothing will be started.
    client: String,
}

impl Inside {
    /// The container of the connection, which from then on is named by its own name.
    pub(super) async fn find(
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
    pub(super) async fn prepared(mut self, ctx: &JobContext) -> Result<Self, JobError> {
        if let Some(chosen) = &self.found.chosen {
            ctx.log.note(ctx.clock.now(), chosen);
        }
        let owner = Owner { job: ctx.job.to_string(), run: ctx.run.to_string() };
        if !ctx.dry_run {
            for said in self.docker.end_left_over(&self.found, &owner, GRACE).await? {
                ctx.log.note(ctx.clock.now(), &said);
            }
        }
        self.client = ctx.programs.own_program().await?;
        Ok(self)
    }

    pub(super) async fn facts(&self, connection: &Connection) -> Result<ServerFacts, PostgresError> {
        connection.facts_inside(&self.docker, &self.found).await
    }

    /// What `pg_dump --version` prints inside.
    pub(super) async fn version(&self) -> Result<String, DockerError> {
        let argv = vec!["pg_dump".to_owned(), "--version".to_owned()];
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

    /// A program inside, as one of this host.
    pub(super) fn program(&self, argv: Vec<String>, env: Vec<(String, String)>, stdin: Stdin) -> Program {
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

impl From<DockerError> for JobError {
    fn from(error: DockerError) -> Self {
        let lasting = error.is_lasting();
        let error = anyhow!(error);
        if lasting { Self::Permanent(error) } else { Self::Retryable(error) }
    }
}
