//! What is read over HTTP, asked of the engine: metrics, and whether it lives.

use std::time::Duration;

use async_trait::async_trait;

use crate::alert::Waiting;
use crate::api::http::{Front, Pages};
use crate::config::JobTable;
use crate::engine::EngineHandle;
use crate::metrics::{Metrics, Scrape};

/// The engine answers within milliseconds, unless its disk holds it up; Prometheus waits ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);

pub(super) struct DaemonPages {
    pub(super) engine: EngineHandle,
    pub(super) metrics: Metrics,
    pub(super) waiting: Waiting,
}

#[async_trait]
impl Pages for DaemonPages {
    async fn is_alive(&self) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.engine.ping()).await, Ok(Ok(())))
    }

    async fn scrape(&self) -> Option<Scrape> {
        let snapshot = tokio::time::timeout(PATIENCE, self.engine.snapshot()).await.ok()?.ok()?;
        Some(self.metrics.scrape(snapshot, self.waiting.counts()).await)
    }
}

/// What follows the table in force.
pub(super) struct Published {
    pub(super) metrics: Metrics,
    pub(super) front: Front,
}

impl Published {
    pub(super) fn reloaded(&self, table: &JobTable) {
        self.metrics.reloaded(table);
        self.front.put(table.dashboard.clone());
    }
}
