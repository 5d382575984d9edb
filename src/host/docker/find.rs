//! Which container is meant, and whether it can be worked in.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use jiff::Timestamp;

use super::error::status_of;
use super::{Docker, DockerError, state};
use crate::document::nearest;
use crate::host::postgres::Container;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// A running container.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: String,
    pub name: String,
    pub image: String,
    /// Where it answers on Docker's networks, as seen from this host.
    pub addresses: Vec<IpAddr>,
    /// Of its first process, as this host sees it.
    pub pid: Option<i64>,
    /// Other containers would have done as well: which one was taken.
    pub chosen: Option<String>,
}

/// What became of one service of a Compose project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    pub running: usize,
    /// Of each container that isn't as it should be.
    pub troubles: Vec<String>,
}

impl Docker {
    /// The container that is meant; it runs.
    ///
    /// # Errors
    /// [`DockerError`]: there is none, or it doesn't run, since when and why.
    pub async fn find(&self, container: &Container, now: Timestamp) -> Result<Found, DockerError> {
        match container {
            Container::Name(name) => match self.inspect(name).await? {
                Some(found) => judge(&found, None, now),
                None => Err(DockerError::NoContainer(self.unknown_name(name).await?)),
            },
            Container::Compose { project, service } => self.find_service(project, service, now).await,
        }
    }

    /// How the containers of a service are.
    ///
    /// # Errors
    /// [`DockerError`], where the engine can't be asked.
    pub async fn service(
        &self,
        project: &str,
        service: &str,
        now: Timestamp,
    ) -> Result<ServiceState, DockerError> {
        let mut found = ServiceState { running: 0, troubles: vec![] };
        for one in self.containers_of(project, service).await? {
            let Some(whole) = self.inspect(one.id.as_deref().unwrap_or_default()).await? else { continue };
            let trouble =
                state::trouble(whole.state.as_ref(), now).or_else(|| state::ill(whole.state.as_ref()));
            match trouble {
                None => found.running += 1,
                Some(trouble) => found.troubles.push(trouble),
            }
        }
        Ok(found)
    }

    /// The services of a project that have a container, running or not.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn services(&self, project: &str) -> Result<Vec<String>, DockerError> {
        let all = self.list(vec![format!("{PROJECT}={project}")]).await?;
        let names: BTreeSet<String> = all.iter().filter_map(|one| label(one, SERVICE)).collect();
        Ok(names.into_iter().collect())
    }

    /// The projects that have a container.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn projects(&self) -> Result<Vec<String>, DockerError> {
        let all = self.list(vec![PROJECT.to_owned()]).await?;
        let names: BTreeSet<String> = all.iter().filter_map(|one| label(one, PROJECT)).collect();
        Ok(names.into_iter().collect())
    }

    pub(super) async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, DockerError> {
        // A name is part of a path: what would leave it is none.
        if name.is_empty() || name.contains(['/', '?', '#', '%', ' ']) {
            return Ok(None);
        }
        let answer = self.api.inspect_container(name, None::<InspectContainerOptions>);
        let answer = self.ask(
            "looking at a container",
            Box::pin(async {
                match answer.await {
                    Err(error) if status_of(&error) == Some(404) => Ok(None),
                    other => other.map(Some),
                }
            }),
        );
        answer.await
    }

    async fn find_service(&self, project: &str, service: &str, now: Timestamp) -> Result<Found, DockerError> {
        let all = self.containers_of(project, service).await?;
        if all.is_empty() {
            return Err(DockerError::NoContainer(self.unknown_service(project, service).await?));
        }
        let mut down = None;
        let several = all.len() > 1;
        for one in &all {
            let Some(whole) = self.inspect(one.id.as_deref().unwrap_or_default()).await? else { continue };
            let mut found = match judge(&whole, Some(service), now) {
                Ok(found) => found,
                Err(error) => {
                    down.get_or_insert(error);
                    continue;
                }
            };
            if several {
                let others = all.len();
                found.chosen = Some(format!(
                    "service {service} of project {project} has {others} containers: {} is taken, the first that runs",
                    found.name
                ));
            }
            return Ok(found);
        }
        Err(down.unwrap_or_else(|| {
            DockerError::NoContainer(format!(
                "service {service} of project {project} has no container any more"
            ))
        }))
    }

    /// By their number; those of `docker-compose run` are not the service.
    async fn containers_of(
        &self,
        project: &str,
        service: &str,
    ) -> Result<Vec<ContainerSummary>, DockerError> {
        let labels = vec![format!("{PROJECT}={project}"), format!("{SERVICE}={service}")];
        let mut all = self.list(labels).await?;
        all.retain(|one| !label(one, ONE_OFF).is_some_and(|said| said.eq_ignore_ascii_case("true")));
        all.sort_by_key(|one| {
            let number = label(one, NUMBER).and_then(|number| number.parse::<u32>().ok());
            (number.unwrap_or(u32::MAX), one.names.clone())
        });
        Ok(all)
    }

    async fn list(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, DockerError> {
        let mut options = ListContainersOptionsBuilder::new().all(true);
        if !labels.is_empty() {
            options = options.filters(&HashMap::from([("label", labels)]));
        }
        self.ask("listing containers", Box::pin(self.api.list_containers(Some(options.build())))).await
    }

    async fn unknown_name(&self, name: &str) -> Result<String, DockerError> {
        let all = self.list(vec![]).await?;
        let names: Vec<String> =
            all.iter().flat_map(|one| one.names.iter().flatten()).map(|name| plain(name)).collect();
        Ok(format!("there is no container {name}: {}", instead(name, "there are", &names)))
    }

    async fn unknown_service(&self, project: &str, service: &str) -> Result<String, DockerError> {
        let services = self.services(project).await?;
        if services.is_empty() {
            let projects = self.projects().await?;
            return Ok(format!(
                "there is no container of the Compose project {project}: {}",
                instead(project, "the projects with containers are", &projects)
            ));
        }
        Ok(format!(
            "service {service} of the Compose project {project} has no container: {}",
            instead(service, "its services with containers are", &services)
        ))
    }
}

fn judge(
    found: &ContainerInspectResponse,
    service: Option<&str>,
    now: Timestamp,
) -> Result<Found, DockerError> {
    let name = plain(found.name.as_deref().or(service).unwrap_or_default());
    if let Some(state) = state::trouble(found.state.as_ref(), now) {
        return Err(DockerError::NotRunning { name, state });
    }
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let mut addresses: Vec<IpAddr> = networks
        .into_iter()
        .flat_map(|networks| networks.values())
        .flat_map(|network| [network.ip_address.as_deref(), network.global_ipv6_address.as_deref()])
        .filter_map(|address| address?.parse().ok())
        .collect();
    addresses.sort();
    Ok(Found {
        id: found.id.clone().unwrap_or_default(),
        name,
        image: found.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default(),
        addresses,
        pid: found.state.as_ref().and_then(|state| state.pid),
        chosen: None,
    })
}

fn label(container: &ContainerSummary, name: &str) -> Option<String> {
    container.labels.as_ref()?.get(name).cloned()
}

/// Docker writes names with a slash before them.
fn plain(name: &str) -> String {
    name.trim_start_matches('/').to_owned()
}

fn instead(wanted: &str, are: &str, names: &[String]) -> String {
    const LISTED: usize = 10;
    if names.is_empty() {
        return "there is none at all".to_owned();
    }
    if let Some(near) = nearest(wanted, names.iter().map(String::as_str)) {
        return format!("is {near} meant?");
    }
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    let more = if names.len() > LISTED { ", …" } else { "" };
    names.truncate(LISTED);
    format!("{are} {}{more}", names.join(", "))
}
