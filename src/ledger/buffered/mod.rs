//! A ledger that never stops the jobs: what the store under it can't take is kept in memory and written as
//! soon as it can be.
//!
//! Rows that wait have numbers that go on from the highest known one and are written under them, since their programs
//! were told them; only where another process took such a number meanwhile, the row gets another one and later changes
//! follow it. What neither the disk nor the memory can hold is counted and said, never dropped in silence.

mod keeping;
mod kept;
mod open_runs;
mod reads;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::kept::Kept;
pub use self::kept::Lost;
use self::open_runs::OpenRuns;
use super::{Applied, Event, Ledger, LedgerError, Owner, Past, SetAside, StoreNews, Write};
use crate::clock::Clock;
use crate::model::RunId;

/// Changes that are kept at most, at about 500 bytes each; [`kept`] says what goes first.
const LIMIT: usize = 100_000;

/// Changes that are written in one transaction when the store is back.
const CHUNK: usize = 1_000;

/// How long a call waits for another process's lock: usually, and while that already kept changes waiting.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_IN_TROUBLE: Duration = Duration::from_millis(50);

type Open<L> = Box<dyn FnMut(bool) -> Result<(L, Option<SetAside>), LedgerError> + Send>;

pub struct Buffered<L> {
    /// Absent while it can't be opened.
    store: Option<L>,
    open: Open<L>,
    owner: Owner,
    host: String,
    clock: Arc<dyn Clock>,
    /// It was closed since it is damaged: why.
    damaged: Option<String>,
    open_runs: OpenRuns,
    /// What the store told when it was opened; nothing once it has changed.
    fresh: Cell<Option<Past>>,
    /// A new store that does not know them yet.
    unrestored: bool,
    kept: Option<Kept>,
    news: Vec<StoreNews>,
    /// The highest number given, and the highest of those that the store gave.
    highest: RunId,
    written: RunId,
    /// Provisional numbers that became others.
    renumbered: HashMap<RunId, RunId>,
    limit: usize,
}

impl<L: Ledger> Buffered<L> {
    /// Opens the store by `open`, now and again whenever it was found damaged (`open` is told `true`) or
    /// could not be opened.
    pub fn new(
        owner: Owner,
        host: &str,
        clock: Arc<dyn Clock>,
        open: impl FnMut(bool) -> Result<(L, Option<SetAside>), LedgerError> + Send + 'static,
    ) -> Self {
        let mut this = Self {
            store: None,
            open: Box::new(open),
            owner,
            host: host.to_owned(),
            clock,
            damaged: None,
            open_runs: OpenRuns::default(),
            fresh: Cell::new(None),
            unrestored: false,
            kept: None,
            news: vec![],
            highest: RunId(0),
            written: RunId(0),
            renumbered: HashMap::new(),
            limit: LIMIT,
        };
        if let Err(error) = this.write_through(&[]) {
            this.keep(&[], &error);
        }
        this
    }

    /// What an operator should know: since when and why the store takes nothing, and how much waits.
    pub fn state(&self) -> Option<String> {
        let kept = self.kept.as_ref()?;
        let since = kept.since.map(|at| format!(" since {at:.0}")).unwrap_or_default();
        let mut text = format!("{}{since}; {} changes wait in memory", kept.reason, kept.changes.len());
        if kept.lost.total() > 0 {
            text.push_str(&format!(" and {} more could not be kept: {}", kept.lost.total(), kept.lost));
        }
        Some(text)
    }

    /// Writes what waits, if the store takes it now.
    ///
    /// # Errors
    /// Why it does not; what waits goes on waiting.
    pub fn retry(&mut self) -> Result<(), LedgerError> {
        self.look_at_store()?;
        if let Err(error) = self.open_store() {
            self.note_damage(&error);
            return Err(error);
        }
        while self.kept.as_ref().is_some_and(|kept| !kept.changes.is_empty()) {
            self.flush_chunk()?;
        }
        let Some(kept) = self.kept.as_ref() else { return Ok(()) };
        // What could not be kept ran all the same, under a number of its own.
        if let Some(store) = self.store.as_mut().filter(|_| self.highest > self.written) {
            store.continue_after(self.highest)?;
            self.written = self.highest;
        }
        let (lost, changes) = (kept.lost, kept.written);
        let mut last: Vec<Write> =
            kept.accounted.map(|until| Write::Accounted { until }).into_iter().collect();
        if kept.since.is_some() {
            // The present, whatever the clock showed when that was written which waited.
            let at = self.clock.now();
            let detail = serde_json::json!({
                "since": kept.since,
                "reason": kept.reason,
                "written": changes,
                "lost": lost.total(),
                "lost_runs": lost.runs,
                "lost_skipped": lost.skipped,
                "lost_events": lost.events,
            });
            last.push(Write::Event(Event { at, kind: "ledger_recovered".into(), detail }));
        }
        self.store_apply(&last)?;
        self.kept = None;
        self.set_patience(PATIENCE);
        self.news.push(StoreNews::Written { changes, lost });
        let lost = if lost.total() > 0 { format!("; lost are {lost}") } else { String::new() };
        tracing::warn!(
            "the ledger can be written again: the {changes} changes that waited in memory are in it{lost}"
        );
        Ok(())
    }

    /// Whether somebody has taken it away, or written into it.
    fn look_at_store(&mut self) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        match store.look(now) {
            Ok(None) => Ok(()),
            Ok(Some(aside)) => {
                self.replaced(aside);
                Ok(())
            }
            Err(error) => {
                self.note_damage(&error);
                Err(error)
            }
        }
    }

    fn open_store(&mut self) -> Result<(), LedgerError> {
        if self.store.is_none() {
            let (mut store, aside) = (self.open)(self.damaged.is_some())?;
            let last = store.last_run()?.unwrap_or(RunId(0));
            // A new one, in the place of one that was damaged or is gone.
            let is_new = last < self.written;
            if is_new {
                store.continue_after(self.written)?;
            }
            let damaged = self.damaged.take();
            let gone = || SetAside {
                moved_to: None,
                reason: damaged.unwrap_or_else(|| "the file is gone".to_owned()),
                kept: "a new one begins".to_owned(),
            };
            let replaced = aside.is_some() || is_new;
            if let Some(aside) = aside.or_else(|| is_new.then(gone)) {
                self.replaced(aside);
            }
            self.unrestored = replaced;
            // All that the engine will ask, so that damage is found while something can be done about it.
            let past = store.past()?;
            self.open_runs.add(past.open.iter().cloned());
            self.fresh.set(Some(past));
            self.written = self.written.max(last);
            self.highest = self.highest.max(self.written);
            self.store = Some(store);
        }
        if self.unrestored
            && let Some(store) = self.store.as_mut()
        {
            let (written, renumbered) = (self.written, &self.renumbered);
            // What waits is written anyway.
            let number =
                |run| Some(renumbered.get(&run).copied().unwrap_or(run)).filter(|run| *run <= written);
            store.restore(&self.open_runs.known_to_store(number))?;
            self.unrestored = false;
            self.fresh.set(None);
        }
        Ok(())
    }

    fn replaced(&mut self, aside: SetAside) {
        tracing::error!("the ledger: {aside}");
        self.news.push(StoreNews::Replaced(aside));
    }

    /// What is damaged is opened anew, so that it can be set aside.
    fn note_damage(&mut self, error: &LedgerError) {
        if let LedgerError::Damaged { reason, .. } = error {
            self.store = None;
            self.damaged = Some(reason.clone());
        }
    }

    /// In the order in which they came, which tells what was brought about by what.
    fn flush_chunk(&mut self) -> Result<(), LedgerError> {
        let Some(kept) = self.kept.as_mut() else { return Ok(()) };
        let chunk = kept.take(CHUNK);
        let many = chunk.len() as u64;
        let above = self.highest;
        let numbered = |(write, number): &(Write, Option<RunId>)| match (write, number) {
            (Write::Claim(row), Some(run)) => Write::ClaimAs { run: *run, above, row: row.clone() },
            _ => self.renumber(write),
        };
        let writes: Vec<Write> = chunk.iter().map(numbered).collect();
        let applied = match self.store_apply(&writes) {
            Ok(applied) => applied,
            Err(error) => {
                self.put_back(chunk);
                return Err(error);
            }
        };
        for ((_, provisional), applied) in chunk.iter().zip(applied) {
            // Claimed already: an earlier try was written although it was reported as failed.
            if let (Some(provisional), Applied::Claimed(run) | Applied::AlreadyClaimed(run)) =
                (*provisional, applied)
                && provisional != run
            {
                self.renumbered.insert(provisional, run);
            }
        }
        if let Some(kept) = self.kept.as_mut() {
            kept.written += many;
        }
        Ok(())
    }

    fn put_back(&mut self, changes: Vec<(Write, Option<RunId>)>) {
        if let Some(kept) = self.kept.as_mut() {
            kept.put_back(changes);
        }
    }

    fn store_apply(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        if batch.is_empty() {
            return Ok(vec![]);
        }
        let Some(store) = self.store.as_mut() else {
            return Err(LedgerError::Write { path: String::new(), reason: "it is not open".into() });
        };
        let applied = store.apply(batch);
        match &applied {
            Ok(applied) => {
                let numbers = applied.iter().filter_map(|one| match one {
                    Applied::Claimed(run) => Some(*run),
                    _ => None,
                });
                self.written = numbers.fold(self.written, RunId::max);
                self.highest = self.highest.max(self.written);
            }
            Err(error) => self.note_damage(error),
        }
        applied
    }

    /// Once more where the store was found damaged: a new one takes it.
    fn write_through(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        match self.write_now(batch) {
            Err(LedgerError::Damaged { .. }) => self.write_now(batch),
            other => other,
        }
    }

    fn write_now(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        self.retry()?;
        if self.renumbered.is_empty() {
            return self.store_apply(batch);
        }
        let renumbered: Vec<Write> = batch.iter().map(|write| self.renumber(write)).collect();
        self.store_apply(&renumbered)
    }

    fn renumber(&self, write: &Write) -> Write {
        match write.run().and_then(|run| self.renumbered.get(&run)) {
            Some(other) => write.of_run(*other),
            None => write.clone(),
        }
    }

    fn set_patience(&self, wait: Duration) {
        if let Some(store) = &self.store {
            store.patience(wait);
        }
    }
}
