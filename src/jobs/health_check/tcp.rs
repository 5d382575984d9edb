//! `tcp`: a server takes connections.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use crate::document::Invalid;
use crate::jobs::JobContext;
use crate::units::HumanDuration;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tcp {
    /// `NAME:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    address: String,
    /// How long the connection may take.
    #[serde(default = "three_seconds")]
    timeout: HumanDuration,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
}

fn three_seconds() -> HumanDuration {
    HumanDuration(Duration::from_secs(3))
}

#[async_trait]
impl Check for Tcp {
    fn subject(&self) -> String {
        self.address.clone()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let port = self.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let fine = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
        if fine {
            return vec![];
        }
        let message = format!("`{}` is not an address and a port", self.address);
        vec![Invalid { key: "address".into(), message, hint: Some("as in 127.0.0.1:6379".into()) }]
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let since = ctx.clock.since_boot();
        let limit = self.timeout.0.as_secs_f64();
        let connected = tokio::time::timeout(self.timeout.0, TcpStream::connect(&self.address)).await;
        let took = ctx.clock.since_boot().saturating_sub(since).as_secs_f64();
        match connected {
            Ok(Ok(_)) => Measured::of(true, format!("connected in {:.0} ms", took * 1000.0)),
            Ok(Err(error)) => Measured::of(false, format!("{} takes no connection: {error}", self.address)),
            Err(_) => Measured::of(false, format!("{} doesn't answer within {}", self.address, self.timeout)),
        }
        .against(took, limit)
    }
}
