//! A ledger that never stops the jobs: what the store under it can't take is kept in memory and written as
//! soon as it can be.
//!
//! Rows that wait have provisional numbers, which go on from the highest known one; where another process
//! took such a number meanwhile, the row gets another one and later changes follow it. What neither the disk
//! nor the memory can hold is counted and said, never dropped in silence.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use super::{
    Applied, Chronicle, Event, Filter, Incident, JobPast, Ledger, LedgerError, Notice, Owner, Past, SlotRow,
    SqliteLedger, TableRecord, Write,
};
use crate::model::{JobName, RunId, RunRecord};

/// Changes that are kept at most: at about 500 bytes each, 50 MB.
const LIMIT: usize = 100_000;

/// Changes that are written in one transaction when the store is back.
const CHUNK: usize = 1_000;

/// How long a call waits for another process's lock: usually, and while that already kept changes waiting.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_IN_TROUBLE: Duration = Duration::from_millis(50);

type Open<L> = Box<dyn FnMut(bool) -> Result<L, LedgerError> + Send>;

pub struct Buffered<L> {
    /// Absent while it can't be opened.
    store: Option<L>,
    open: Open<L>,
    owner: Owner,
    host: String,
    /// It was closed since it is damaged.
    damaged: bool,
    kept: Option<Kept>,
    /// The highest number given, and the highest of those that the store gave.
    highest: RunId,
    written: RunId,
    /// Provisional numbers that became others.
    renumbered: HashMap<RunId, RunId>,
    pub(super) limit: usize,
}

/// What waits.
struct Kept {
    /// Each change, and the provisional number of a claim.
    changes: VecDeque<(Write, Option<RunId>)>,
    /// The rows that those changes made or touch, as they will be.
    rows: SqliteLedger,
    since: Option<Timestamp>,
    newest: Option<Timestamp>,
    reason: String,
    lost: u64,
}

impl<L: Ledger> Buffered<L> {
    /// Opens the store by `open`, now and again whenever it was found damaged (`open` is told `true`) or
    /// could not be opened.
    pub fn new(
        owner: Owner,
        host: &str,
        open: impl FnMut(bool) -> Result<L, LedgerError> + Send + 'static,
    ) -> Self {
        let mut this = Self {
            store: None,
            open: Box::new(open),
            owner,
            host: host.to_owned(),
            damaged: false,
            kept: None,
            highest: RunId(0),
            written: RunId(0),
            renumbered: HashMap::new(),
            limit: LIMIT,
        };
        if let Err(error) = this.retry() {
            this.keep(&[], &error);
        }
        this
    }

    /// What an operator should know: since when and why the store takes nothing, and how much waits.
    pub fn state(&self) -> Option<String> {
        let kept = self.kept.as_ref()?;
        let since = kept.since.map(|at| format!(" since {at:.0}")).unwrap_or_default();
        let mut text = format!("{}{since}; {} changes wait in memory", kept.reason, kept.changes.len());
        if kept.lost > 0 {
            text.push_str(&format!(" and {} more could not be kept", kept.lost));
        }
        Some(text)
    }

    /// Writes what waits, if the store takes it now.
    ///
    /// # Errors
    /// Why it does not; what waits goes on waiting.
    pub fn retry(&mut self) -> Result<(), LedgerError> {
        if self.store.is_none() {
            let mut store = (self.open)(self.damaged)?;
            self.damaged = false;
            let last = store.last_run()?.unwrap_or(RunId(0));
            if last < self.written {
                // It is a new one, in the place of one that was damaged.
                store.continue_after(self.written)?;
            }
            self.written = self.written.max(last);
            self.highest = self.highest.max(self.written);
            self.store = Some(store);
        }
        while self.kept.as_ref().is_some_and(|kept| !kept.changes.is_empty()) {
            self.flush_chunk()?;
        }
        let Some(kept) = self.kept.as_ref() else { return Ok(()) };
        let lost = kept.lost;
        if let Some(at) = kept.newest {
            let detail = serde_json::json!({ "since": kept.since, "reason": kept.reason, "lost": kept.lost });
            let event = Event { at, kind: "ledger_recovered".into(), detail };
            self.store_apply(&[Write::Event(event)])?;
        }
        self.kept = None;
        self.set_patience(PATIENCE);
        let lost = if lost > 0 { format!("; {lost} were lost") } else { String::new() };
        tracing::warn!("the ledger can be written again: the changes that waited in memory are in it{lost}");
        Ok(())
    }

    /// Claims first, so that the other changes can name them by their true numbers.
    fn flush_chunk(&mut self) -> Result<(), LedgerError> {
        let Some(kept) = self.kept.as_mut() else { return Ok(()) };
        let size = kept.changes.len().min(CHUNK);
        let chunk: Vec<_> = kept.changes.drain(..size).collect();
        let (claims, others): (Vec<_>, Vec<_>) =
            chunk.iter().cloned().partition(|(_, number)| number.is_some());
        let writes: Vec<Write> = claims.iter().map(|(write, _)| write.clone()).collect();
        let applied = match self.store_apply(&writes) {
            Ok(applied) => applied,
            Err(error) => {
                self.put_back(chunk);
                return Err(error);
            }
        };
        for ((_, provisional), applied) in claims.iter().zip(applied) {
            // Claimed already: an earlier try was written although it was reported as failed.
            if let (Some(provisional), Applied::Claimed(run) | Applied::AlreadyClaimed(run)) =
                (*provisional, applied)
                && provisional != run
            {
                self.renumbered.insert(provisional, run);
            }
        }
        let writes: Vec<Write> = others.iter().map(|(write, _)| self.renumber(write)).collect();
        self.store_apply(&writes).map(drop).inspect_err(|_| self.put_back(others))
    }

    fn put_back(&mut self, changes: Vec<(Write, Option<RunId>)>) {
        if let Some(kept) = self.kept.as_mut() {
            for change in changes.into_iter().rev() {
                kept.changes.push_front(change);
            }
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
            // What is damaged is opened anew, so that it can be set aside.
            Err(LedgerError::Damaged { .. }) => {
                self.store = None;
                self.damaged = true;
            }
            Err(_) => {}
        }
        applied
    }

    fn renumber(&self, write: &Write) -> Write {
        let mut write = write.clone();
        if let Some(run) = run_of(&mut write)
            && let Some(other) = self.renumbered.get(run)
        {
            *run = *other;
        }
        write
    }

    fn keep(&mut self, batch: &[Write], error: &LedgerError) -> Vec<Applied> {
        if self.kept.is_none() {
            tracing::error!("{error}; changes are kept in memory until it can be written");
            self.kept = self.begin_keeping(error);
            self.set_patience(PATIENCE_IN_TROUBLE);
        }
        if let Some(kept) = self.kept.as_mut() {
            kept.reason = error.to_string();
        }
        batch.iter().map(|write| self.keep_one(write)).collect()
    }

    fn begin_keeping(&self, error: &LedgerError) -> Option<Kept> {
        let mut rows = SqliteLedger::in_memory(self.owner.clone(), &self.host, self.highest).ok()?;
        let past = self.store.as_ref().and_then(|store| store.past().ok()).unwrap_or_default();
        let pauses: Vec<Write> = past
            .pauses
            .into_iter()
            .map(|pause| Write::Pause {
                job: pause.job.and_then(|job| JobName::new(&job).ok()),
                since: pause.since,
                until: pause.until,
                by: pause.by,
            })
            .collect();
        rows.apply(&pauses).ok()?;
        let notices = self.store.as_ref().and_then(|store| store.notices().ok()).unwrap_or_default();
        let incidents = past.incidents.into_iter().map(Write::Incident);
        rows.apply(&incidents.chain(notices.into_iter().map(Write::Notice)).collect::<Vec<_>>()).ok()?;
        let reason = error.to_string();
        Some(Kept { changes: VecDeque::new(), rows, since: None, newest: None, reason, lost: 0 })
    }

    fn keep_one(&mut self, original: &Write) -> Applied {
        let mut write = self.renumber(original);
        let claim = matches!(write, Write::Claim(_));
        if let Write::Claim(row) = &write
            && let Some(slot) = row.slot
            && let Some(store) = &self.store
            && let Ok(Some(run)) = store.refuses(&row.job, slot, row.epoch, row.at)
        {
            return Applied::AlreadyClaimed(run);
        }
        let known = run_of(&mut write).and_then(|run| self.store.as_ref()?.run(*run).ok()?);
        let full = self.limit;
        if let Some(kept) = self.kept.as_mut() {
            let at = instant_of(&write);
            kept.since = kept.since.or(at);
            kept.newest = kept.newest.max(at);
            if kept.changes.len() < full {
                if let Some(record) = known {
                    // A row that was taken over already stays as it is.
                    let _ = kept.rows.adopt_row(&record);
                }
                if let Ok([applied]) = kept.rows.apply(std::slice::from_ref(&write)).as_deref() {
                    let applied = *applied;
                    match applied {
                        Applied::AlreadyClaimed(_) => {}
                        Applied::Claimed(run) => {
                            self.highest = self.highest.max(run);
                            kept.changes.push_back((write, Some(run)));
                        }
                        // As it came: it is renumbered once, when it is written.
                        Applied::Done => kept.changes.push_back((original.clone(), None)),
                    }
                    return applied;
                }
            }
            kept.lost += 1;
            if kept.lost == 1 {
                tracing::error!("{full} changes wait for the ledger already: further ones are lost");
            }
        }
        if !claim {
            return Applied::Done;
        }
        // It runs all the same, under a number that no other row gets.
        self.highest = RunId(self.highest.0 + 1);
        if let Some(kept) = &mut self.kept {
            let _ = kept.rows.continue_after(self.highest);
        }
        Applied::Claimed(self.highest)
    }

    fn set_patience(&self, wait: Duration) {
        if let Some(store) = &self.store {
            store.patience(wait);
        }
    }

    /// What the store holds, and what waits above it; nothing where the store is not open.
    fn both<T: Default>(
        &self,
        read: impl Fn(&dyn Ledger) -> Result<T, LedgerError>,
    ) -> Result<(T, Option<T>), LedgerError>
    where
        L: 'static,
    {
        let below = self.store.as_ref().map(|store| read(store)).transpose()?.unwrap_or_default();
        let above = self.kept.as_ref().map(|kept| read(&kept.rows)).transpose()?;
        Ok((below, above))
    }
}

impl<L: Ledger + 'static> Ledger for Buffered<L> {
    /// Never fails: what can't be written waits, and [`Buffered::state`] says so.
    fn apply(&mut self, batch: &[Write]) -> Result<Vec<Applied>, LedgerError> {
        let written = self.retry().and_then(|()| {
            let renumbered: Vec<Write>;
            let now = if self.renumbered.is_empty() {
                batch
            } else {
                renumbered = batch.iter().map(|write| self.renumber(write)).collect();
                &renumbered
            };
            self.store_apply(now)
        });
        Ok(written.unwrap_or_else(|error| self.keep(batch, &error)))
    }

    fn past(&self) -> Result<Past, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.past())?;
        let Some(above) = above else { return Ok(below) };
        let touched = self.waiting_rows(&Filter::default())?;
        let touched: HashSet<RunId> = touched.iter().map(|record| record.run).collect();
        let mut open: BTreeMap<RunId, _> = below
            .open
            .iter()
            .filter(|open| !touched.contains(&open.record.run))
            .map(|open| (open.record.run, open.clone()))
            .collect();
        for mut run in above.open {
            if let Some(before) = below.open.iter().find(|one| one.record.run == run.record.run) {
                run.epoch = before.epoch;
            }
            open.insert(run.record.run, run);
        }
        let mut jobs: BTreeMap<String, JobPast> =
            below.jobs.into_iter().map(|job| (job.job.clone(), job)).collect();
        for job in above.jobs {
            match jobs.get_mut(&job.job) {
                Some(known) => {
                    known.epoch = known.epoch.max(job.epoch);
                    known.last_slot = known.last_slot.max(job.last_slot);
                    known.last_started = known.last_started.max(job.last_started);
                    known.last_succeeded = known.last_succeeded.max(job.last_succeeded);
                }
                None => drop(jobs.insert(job.job.clone(), job)),
            }
        }
        Ok(Past {
            accounted: above.accounted.or(below.accounted),
            table: above.table.or(below.table),
            open: open.into_values().collect(),
            pauses: above.pauses,
            jobs: jobs.into_values().collect(),
            incidents: above.incidents,
        })
    }

    fn notices(&self) -> Result<Vec<Notice>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.notices())?;
        Ok(above.unwrap_or(below))
    }

    fn history(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError> {
        let touched = self.waiting_rows(&Filter::default())?;
        let touched: HashSet<RunId> = touched.iter().map(|record| record.run).collect();
        // Those that wait hide as many rows of the store.
        let limit = filter.limit.map(|limit| limit.saturating_add(touched.len()));
        let store = self.store.as_ref().map(|store| store.history(&Filter { limit, ..filter.clone() }));
        let mut records = store.transpose()?.unwrap_or_default();
        if !touched.is_empty() {
            records.retain(|record| !touched.contains(&record.run));
            records.extend(self.waiting_rows(filter)?);
            records.sort_by_key(|record| {
                std::cmp::Reverse((record.slot.or(record.started_at).unwrap_or(Timestamp::MAX), record.run))
            });
        }
        records.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(records)
    }

    fn run(&self, run: RunId) -> Result<Option<RunRecord>, LedgerError> {
        let run = self.renumbered.get(&run).copied().unwrap_or(run);
        let (below, above) = self.both(|ledger| ledger.run(run))?;
        Ok(above.flatten().or(below))
    }

    fn latest(&self) -> Result<Vec<RunRecord>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.latest())?;
        let rows = below.into_iter().chain(above.unwrap_or_default());
        let jobs: BTreeMap<String, RunRecord> = rows.map(|record| (record.job.clone(), record)).collect();
        Ok(jobs.into_values().collect())
    }

    fn claimed(&self, job: &JobName, slot: Timestamp, epoch: u32) -> Result<Option<RunId>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.claimed(job, slot, epoch))?;
        Ok(above.flatten().or(below))
    }

    fn refuses(
        &self,
        job: &JobName,
        slot: Timestamp,
        epoch: u32,
        at: Timestamp,
    ) -> Result<Option<RunId>, LedgerError> {
        let (below, above) = self.both(|ledger| ledger.refuses(job, slot, epoch, at))?;
        Ok(above.flatten().or(below))
    }

    fn last_run(&self) -> Result<Option<RunId>, LedgerError> {
        Ok(Some(self.highest).filter(|run| *run > RunId(0)))
    }

    fn problem(&self) -> Option<String> {
        self.state()
    }

    fn events(&self, from: Timestamp) -> Result<Vec<Event>, LedgerError> {
        let (mut events, above) = self.both(|ledger| ledger.events(from))?;
        events.extend(above.unwrap_or_default());
        Ok(events)
    }

    fn tables(&self, from: Timestamp) -> Result<Vec<TableRecord>, LedgerError> {
        let (mut tables, above) = self.both(|ledger| ledger.tables(from))?;
        tables.extend(above.unwrap_or_default());
        Ok(tables)
    }

    fn chronicle(&self) -> Result<Chronicle, LedgerError> {
        let (mut found, above) = self.both(|ledger| ledger.chronicle())?;
        let above = above.unwrap_or_default();
        found.accounted = above.accounted.or(found.accounted);
        found.tables.extend(above.tables);
        found.events.extend(above.events);
        Ok(found)
    }

    fn visit_slots(
        &self,
        job: &JobName,
        from: Timestamp,
        each: &mut dyn FnMut(SlotRow) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut waiting = VecDeque::new();
        if let Some(kept) = &self.kept {
            kept.rows.visit_slots(job, from, &mut |row| {
                waiting.push_back(row);
                ControlFlow::Continue(())
            })?;
        }
        let mut goes_on = true;
        if let Some(store) = &self.store {
            store.visit_slots(job, from, &mut |row| {
                while let Some(first) = waiting.front().filter(|first| first.slot <= row.slot) {
                    let first = *first;
                    waiting.pop_front();
                    if each(first).is_break() {
                        goes_on = false;
                        return ControlFlow::Break(());
                    }
                }
                let next = each(row);
                goes_on = next.is_continue();
                next
            })?;
        }
        for row in waiting {
            if !goes_on || each(row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn patience(&self, wait: Duration) {
        self.set_patience(wait);
    }

    fn continue_after(&mut self, run: RunId) -> Result<(), LedgerError> {
        self.highest = self.highest.max(run);
        self.written = self.written.max(run);
        if let Some(kept) = self.kept.as_mut() {
            kept.rows.continue_after(run)?;
        }
        self.store.as_mut().map_or(Ok(()), |store| store.continue_after(run))
    }

    fn prune(&mut self, before: Timestamp, batch: usize) -> Result<usize, LedgerError> {
        self.retry()?;
        match self.store.as_mut() {
            Some(store) => store.prune(before, batch),
            None => Ok(0),
        }
    }
}

impl<L> Buffered<L> {
    fn waiting_rows(&self, filter: &Filter) -> Result<Vec<RunRecord>, LedgerError> {
        self.kept.as_ref().map_or(Ok(vec![]), |kept| kept.rows.history(filter))
    }
}

fn run_of(write: &mut Write) -> Option<&mut RunId> {
    match write {
        Write::AttemptStarted { run, .. }
        | Write::AttemptEnded { run, .. }
        | Write::Finished { run, .. }
        | Write::Dropped { run, .. }
        | Write::Adopted { run, .. }
        | Write::Incident(Incident { run, .. })
        | Write::Notice(Notice { run, .. }) => Some(run),
        _ => None,
    }
}

fn instant_of(write: &Write) -> Option<Timestamp> {
    match write {
        Write::Claim(row) => Some(row.at),
        Write::AttemptStarted { at, .. }
        | Write::AttemptEnded { at, .. }
        | Write::Finished { at, .. }
        | Write::Dropped { at, .. }
        | Write::Accounted { until: at }
        | Write::Pause { since: at, .. } => Some(*at),
        Write::Table(table) => Some(table.in_force_from),
        Write::Event(event) => Some(event.at),
        Write::Notice(notice) => Some(notice.at),
        Write::Adopted { .. }
        | Write::Resume { .. }
        | Write::SetBack { .. }
        | Write::Incident(_)
        | Write::IncidentClosed { .. }
        | Write::NoticeDone { .. } => None,
    }
}
