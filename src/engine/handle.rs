//! The engine as the rest of the daemon sees it: what can be asked of it, from any thread.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::alerts::AlertDesk;
use super::{Accepted, Message, Refusal, Snapshot};
use crate::alert::Desk;
use crate::config::JobTable;
use crate::ledger::TableRecord;
use crate::model::{JobName, RunId};

#[derive(Clone)]
pub struct EngineHandle {
    outbox: Sender<Message>,
    ended: CancellationToken,
}

/// The engine's thread has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Gone;

impl EngineHandle {
    pub(super) fn new(outbox: Sender<Message>, ended: CancellationToken) -> Self {
        Self { outbox, ended }
    }

    /// # Errors
    /// [`Gone`]
    pub async fn run_now(
        &self,
        job: &str,
        dry_run: bool,
        by: &str,
    ) -> Result<Result<Accepted, Refusal>, Gone> {
        let (job, by) = (job.to_owned(), by.to_owned());
        self.ask(|reply| Message::RunNow { job, dry_run, by, reply }).await
    }

    /// Whether there is such a run to cancel.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn cancel(&self, run: RunId, by: &str) -> Result<bool, Gone> {
        let by = by.to_owned();
        self.ask(|reply| Message::Cancel { run, by, reply }).await
    }

    /// # Errors
    /// [`Gone`]
    pub async fn pause(&self, job: Option<JobName>, until: Option<Timestamp>, by: &str) -> Result<(), Gone> {
        let by = by.to_owned();
        self.ask(|done| Message::Pause { job, until, by, done }).await
    }

    /// # Errors
    /// [`Gone`]
    pub async fn resume(&self, job: Option<JobName>, by: &str) -> Result<(), Gone> {
        let by = by.to_owned();
        self.ask(|done| Message::Resume { job, by, done }).await
    }

    /// The table is in force, and the ledger knows it, on return.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn reload(&self, table: Arc<JobTable>, record: TableRecord, by: &str) -> Result<(), Gone> {
        let by = by.to_owned();
        self.ask(|done| Message::Reload { table, record, by, done }).await
    }

    /// # Errors
    /// [`Gone`]
    pub async fn snapshot(&self) -> Result<Snapshot, Gone> {
        self.ask(|reply| Message::Status { reply }).await
    }

    /// Returns once the engine has gone through a whole turn, its writes included: it lives.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn ping(&self) -> Result<(), Gone> {
        self.ask(|reply| Message::Ping { reply }).await
    }

    /// Something that explains the rows around it, for the ledger.
    pub fn note(&self, kind: &str, detail: serde_json::Value) {
        // Without an engine there is no ledger to write to.
        let _ = self.outbox.send(Message::Note { kind: kind.to_owned(), detail });
    }

    /// Where a courier says what became of its notices.
    pub fn desk(&self) -> Arc<dyn Desk> {
        Arc::new(AlertDesk(self.outbox.clone()))
    }

    /// Takes no more slots. Returns when no run works in this process any more: at the latest when what still
    /// did was ended after `grace`. Programs that can outlive the daemon go on, unless `end_programs`.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn stop(&self, end_programs: bool, grace: Duration) -> Result<(), Gone> {
        self.ask(|done| Message::Stop { end_programs, grace, done }).await
    }

    /// Returns when the engine's thread has ended, in order or by a bug.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.outbox.send(message(reply)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
