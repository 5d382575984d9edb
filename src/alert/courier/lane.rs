//! One lane: all that one contact is told by one channel, in order.
//!
//! Sends one message at a time, or where many come at once all of them as one; after a failure it waits, longer from
//! time to time, and then tries again. Bounded: a sending by its timeout, a notice by its age, a storm by [`Storm`].

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::Lane;
use super::queue::{Queued, next};
use super::sending::{Failure, send};
use super::storm::{Step, Storm};
use super::waiting::Waiting;
use crate::alert::Desk;
use crate::clock::Clock;
use crate::config::JobTable;
use crate::ledger::Notice;
use crate::model::NoticeKind;

/// Between two tries: it doubles from the first to the second. A server that is in order again tells nobody.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// A server that asks for more patience than this doesn't get it.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// What became of a message of many that was refused for good, as one that is too large is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// There was none.
    No,
    /// It was of the first so many in the queue, and the very first is tried alone.
    First(usize),
    /// That one was taken: until nothing waits any more, each has a message of its own.
    Each,
}

impl Apart {
    fn after_a_message(self) -> Self {
        match self {
            Self::No => Self::No,
            Self::First(_) | Self::Each => Self::Each,
        }
    }

    fn after_a_refusal(self) -> Self {
        match self {
            Self::No | Self::First(_) => Self::No,
            Self::Each => Self::Each,
        }
    }

    /// So many of the first ones wait no more.
    fn without(self, count: usize) -> Self {
        match self {
            Self::First(many) if many > count => Self::First(many - count),
            Self::First(_) => Self::No,
            Self::No | Self::Each => self,
        }
    }
}

pub(super) struct Carrier {
    pub(super) lane: Lane,
    pub(super) host: String,
    pub(super) desk: Arc<dyn Desk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) waiting: Waiting,
    pub(super) tables: watch::Receiver<Arc<JobTable>>,
    pub(super) finishing: watch::Receiver<bool>,
}

impl Carrier {
    pub(super) async fn run(mut self, mut notices: UnboundedReceiver<Notice>) {
        let mut queue: VecDeque<Queued> = VecDeque::new();
        let mut storm = Storm::default();
        let (mut failures, mut apart) = (0, Apart::No);
        loop {
            if queue.is_empty() {
                apart = Apart::No;
                storm.calm();
                self.waiting.clear(&self.lane);
                let Some(notice) = notices.recv().await else { return };
                queue.push_back(self.queued(notice));
            }
            while let Ok(notice) = notices.try_recv() {
                queue.push_back(self.queued(notice));
            }
            let now = self.clock.since_boot();
            let step = if apart == Apart::No { storm.next(queue.len(), now) } else { Step::One };
            let batch: Vec<usize> = match step {
                Step::Gather { .. } if *self.finishing.borrow() => {
                    storm.hurry(now);
                    continue;
                }
                Step::Gather { until } => {
                    self.gather(until, &mut notices, &mut queue).await;
                    continue;
                }
                Step::All => (0..queue.len()).collect(),
                Step::One if matches!(apart, Apart::First(_)) => vec![0],
                Step::One => next(&queue).into_iter().collect(),
            };
            let table = self.tables.borrow_and_update().clone();
            match self.try_to_send(&table, &queue, &batch).await {
                Ok(()) => {
                    self.say_told(&queue, &batch);
                    for queued in take(&mut queue, &batch) {
                        self.desk.delivered(queued.notice.id);
                    }
                    storm.sent(self.clock.since_boot());
                    self.waiting.clear(&self.lane);
                    failures = 0;
                    apart = apart.after_a_message();
                }
                Err(Failure::ForGood(reason)) if batch.len() > 1 => {
                    let (contact, channel) = &self.lane;
                    let many = batch.len();
                    tracing::warn!(
                        "{contact} can't be told by {channel} of {many} at once: {reason}; the first is tried alone"
                    );
                    apart = Apart::First(many);
                }
                Err(Failure::ForGood(reason)) => {
                    // It was not for want of room that they were refused.
                    let refused = match apart {
                        Apart::First(many) => (0..many).collect(),
                        Apart::No | Apart::Each => batch,
                    };
                    apart = apart.after_a_refusal();
                    for queued in take(&mut queue, &refused) {
                        self.give_up(&queued, &reason);
                    }
                }
                Err(Failure::ForNow(reason, wish)) => {
                    failures += 1;
                    let (now, since_boot) = (self.clock.now(), self.clock.since_boot());
                    for at in &batch {
                        queue[*at].tries += 1;
                    }
                    let old: Vec<usize> =
                        batch.into_iter().filter(|at| queue[*at].is_too_old(now, since_boot)).collect();
                    apart = apart.without(old.len());
                    for queued in take(&mut queue, &old) {
                        self.give_up(&queued, &format!("{reason}; it is of {:.0}", queued.notice.at));
                    }
                    if queue.is_empty() && notices.is_empty() {
                        continue;
                    }
                    if self.waiting.note(&self.lane, &reason, queue.len() + notices.len(), now) {
                        let (contact, channel) = &self.lane;
                        tracing::warn!("{contact} can't be told by {channel}: {reason}; it is tried again");
                    }
                    if *self.finishing.borrow() || !self.pause(pause_after(failures, wish)).await {
                        return;
                    }
                }
            }
        }
    }

    /// Until it is time for another try, or contacts and servers have changed; false where there is no more time.
    async fn pause(&mut self, pause: Duration) -> bool {
        let over = self.clock.until(self.clock.since_boot() + pause);
        tokio::select! {
            () = over => true,
            changed = self.tables.changed() => changed.is_ok(),
            _ = self.finishing.wait_for(|finishing| *finishing) => false,
        }
    }

    /// Takes what comes until then, or until there is no more time.
    async fn gather(
        &mut self,
        until: Duration,
        notices: &mut UnboundedReceiver<Notice>,
        queue: &mut VecDeque<Queued>,
    ) {
        let at = self.clock.now() + until.saturating_sub(self.clock.since_boot());
        let mut over = self.clock.until(until);
        loop {
            self.waiting.gathers(&self.lane, queue.len(), at);
            let notice = tokio::select! {
                () = &mut over => return,
                _ = self.finishing.wait_for(|finishing| *finishing) => return,
                notice = notices.recv() => notice,
            };
            // None: it is about to be told to finish.
            let Some(notice) = notice else { return };
            queue.push_back(self.queued(notice));
        }
    }

    fn queued(&self, notice: Notice) -> Queued {
        Queued::new(notice, self.clock.since_boot())
    }

    fn say_told(&self, queue: &VecDeque<Queued>, batch: &[usize]) {
        let (contact, channel) = &self.lane;
        match batch {
            [at] => tracing::info!("{contact} was told by {channel}: {}", what(&queue[*at].notice)),
            many => tracing::info!(
                "{contact} was told by {channel} of {} at once: {} and others",
                many.len(),
                many.first().map(|at| what(&queue[*at].notice)).unwrap_or_default()
            ),
        }
    }

    fn give_up(&self, Queued { notice, .. }: &Queued, reason: &str) {
        let (contact, channel) = &self.lane;
        tracing::error!("{contact} is not told by {channel} that {}: {reason}", what(notice));
        let detail = serde_json::json!({
            "job": notice.job,
            "run": notice.run,
            "kind": notice.kind,
            "contact": contact,
            "channel": channel,
            "reason": reason,
        });
        self.desk.given_up(notice.id.clone(), detail);
    }

    /// A bug that one notice meets must not silence the lane, whose other notices would wait for the next daemon.
    async fn try_to_send(
        &self,
        table: &JobTable,
        queue: &VecDeque<Queued>,
        batch: &[usize],
    ) -> Result<(), Failure> {
        let notices: Vec<&Notice> = batch.iter().map(|at| &queue[*at].notice).collect();
        let sending = send(&self.lane, table, &notices, &self.host, self.clock.now());
        AssertUnwindSafe(sending).catch_unwind().await.unwrap_or_else(|_| {
            let runs = notices.first().map(|notice| notice.run.to_string()).unwrap_or_default();
            Err(Failure::ForNow(format!("a bug: the message of run {runs} can't be made"), None))
        })
    }
}

/// Those at these places, which ascend.
fn take(queue: &mut VecDeque<Queued>, places: &[usize]) -> Vec<Queued> {
    if places.len() == queue.len() {
        return queue.drain(..).collect();
    }
    let mut taken: Vec<Queued> = places.iter().rev().filter_map(|at| queue.remove(*at)).collect();
    taken.reverse();
    taken
}

/// `wish`: the server's own.
fn pause_after(failures: u32, wish: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE).max(wish.unwrap_or_default().min(LONGEST_WISH))
}

/// `db-backup failed (run 812)`
fn what(notice: &Notice) -> String {
    let happened = match notice.kind {
        NoticeKind::Failed => "failed",
        NoticeKind::Recovered => "recovered",
        NoticeKind::Held => "is held",
        NoticeKind::Reminder => "still fails",
        NoticeKind::Flapping => "fails and recovers by turns",
    };
    if !notice.job.is_job() {
        return format!("the ledger {happened}");
    }
    format!("{} {happened} (run {})", notice.job, notice.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let seconds: Vec<u64> =
            [1, 2, 3, 7, 8, 33, 4_000_000_000].map(|failures| pause_after(failures, None).as_secs()).into();
        assert_eq!(seconds, [5, 10, 20, 320, 600, 600, 600]);
    }

    #[test]
    fn a_server_is_asked_no_sooner_than_it_wishes_nor_an_hour_later() {
        let check = |failures, wish: u64, expected: u64| {
            let pause = pause_after(failures, Some(Duration::from_secs(wish)));
            assert_eq!(pause.as_secs(), expected, "{failures} failures, {wish} s wished");
        };
        check(1, 120, 120);
        check(1, 1, 5);
        check(9, 120, 600);
        check(1, 1_000_000, 3600);
    }
}
