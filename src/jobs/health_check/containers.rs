//! `containers`: the services of a Compose project run.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::recent::Tolerance;
use crate::document::{Invalid, nearest};
use crate::host::docker::{Docker, DockerError};
use crate::jobs::{HostContext, JobContext, Lack};
use crate::model::Unit;
use crate::units::HumanDuration;

/// The engine answers within milliseconds, for all of them together.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Containers {
    /// The Compose project: `name:` of its file, `-p`, or the name of its folder.
    compose_project: String,
    /// The services of which a container must run. One that calls itself unhealthy doesn't count.
    #[schemars(length(min = 1))]
    running: Vec<String>,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

#[async_trait]
impl Check for Containers {
    fn subject(&self) -> String {
        self.compose_project.clone()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let mut found = vec![];
        let mut say = |key: String, message: String| found.push(Invalid { key, message, hint: None });
        if self.compose_project.trim().is_empty() {
            say("compose_project".into(), "the project has no name".into());
        }
        if self.running.is_empty() {
            say("running".into(), "no service is named: there would be nothing to look at".into());
        }
        let mut seen = HashSet::new();
        for (at, service) in self.running.iter().enumerate() {
            if service.trim().is_empty() {
                say(format!("running.{at}"), "the service has no name".into());
            } else if !seen.insert(service) {
                say(format!("running.{at}"), format!("`{service}` is named twice"));
            }
        }
        found
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        match tokio::time::timeout(PATIENCE, self.count(ctx)).await {
            Ok(Ok(measured)) => measured,
            Ok(Err(error)) => Measured::unknown(error.to_string()),
            Err(_) => Measured::unknown(format!("Docker doesn't answer within {}", HumanDuration(PATIENCE))),
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        match Docker::connect().await {
            Ok(_) => vec![],
            Err(error) => vec![Lack { fatal: error.is_lasting(), message: error.to_string(), hint: None }],
        }
    }
}

impl Containers {
    async fn count(&self, ctx: &JobContext) -> Result<Measured, DockerError> {
        let docker = Docker::connect().await?;
        let mut running = 0_usize;
        let mut troubles = vec![];
        for service in &self.running {
            let found = docker.service(&self.compose_project, service, ctx.clock.now()).await?;
            if found.running > 0 {
                running += 1;
            } else if found.troubles.is_empty() {
                troubles.push(self.missing(&docker, service).await?);
            } else {
                troubles.push(format!("{service} {}", found.troubles.join(", ")));
            }
        }
        let wanted = self.running.len();
        let measured = if troubles.is_empty() {
            Measured::of(true, format!("{wanted} of {wanted} running"))
        } else {
            Measured::of(false, format!("{running} of {wanted} running: {}", troubles.join("; ")))
        };
        #[expect(clippy::cast_precision_loss, reason = "services of a project are few")]
        let (found, asked) = (running as f64, wanted as f64);
        Ok(measured.against(running, wanted).measuring("running", Unit::Count, found, asked))
    }

    async fn missing(&self, docker: &Docker, service: &str) -> Result<String, DockerError> {
        let services = docker.services(&self.compose_project).await?;
        if services.is_empty() {
            let project = &self.compose_project;
            return Ok(format!("{service} has no container (project {project} has none at all)"));
        }
        Ok(match nearest(service, services.iter().map(String::as_str)) {
            Some(near) => format!("{service} has no container (is {near} meant?)"),
            None => format!("{service} has no container (those with one: {})", services.join(", ")),
        })
    }
}
