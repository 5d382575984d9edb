//! Delivers notices: one lane for each contact and channel, so that nobody waits for somebody else's server.
//!
//! A lane sends one notice at a time, in their order; after a failure it waits, longer from time to time, and then
//! tries again. Bounded: a sending by its timeout, a notice by [`KEEP`]. Writes nothing: the [`Desk`] does.

mod sending;
mod waiting;

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::sending::mail_server;
use self::sending::send;
pub(super) use self::sending::{Failure, judge};
pub use self::waiting::Waiting;
use super::{Desk, Order, Orders};
use crate::clock::Clock;
use crate::config::JobTable;
use crate::ledger::Notice;
use crate::model::{Channel, NoticeKind};

/// Between two tries: it doubles from the first to the second. A server that is in order again tells nobody.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// After so long nobody is helped by hearing of it.
const KEEP: Duration = Duration::from_secs(48 * 3600);
/// But it is tried for as long as this: a host that was off for days has no network yet in its first second, and a
/// clock that was wrong makes a notice look older than it is.
const TRIED: Duration = Duration::from_secs(3600);

type Lane = (String, Channel);

/// What a courier works with.
pub struct Courier {
    pub table: Arc<JobTable>,
    pub desk: Arc<dyn Desk>,
    pub clock: Arc<dyn Clock>,
    pub waiting: Waiting,
}

impl Courier {
    /// Delivers until it is told to finish, or nobody is left to give orders.
    pub async fn run(self, orders: Orders) {
        let Orders(mut orders) = orders;
        let (table, tables) = watch::channel(self.table);
        let (finish, finishing) = watch::channel(false);
        let mut lanes: HashMap<Lane, UnboundedSender<Notice>> = HashMap::new();
        let mut running = JoinSet::new();
        let within = loop {
            match orders.recv().await {
                None => return,
                Some(Order::Finish(within)) => break within,
                Some(Order::Table(new)) => drop(table.send_replace(new)),
                Some(Order::Deliver(notices)) => {
                    for notice in notices {
                        let lane = (notice.contact.clone(), notice.channel);
                        let sender = lanes.entry(lane.clone()).or_insert_with(|| {
                            let (sender, receiver) = unbounded_channel();
                            let carrier = Carrier {
                                lane,
                                desk: self.desk.clone(),
                                clock: self.clock.clone(),
                                waiting: self.waiting.clone(),
                                tables: tables.clone(),
                                finishing: finishing.clone(),
                            };
                            running.spawn(carrier.run(receiver));
                            sender
                        });
                        // A lane takes what comes for as long as its sender is kept here.
                        let _ = sender.send(notice);
                    }
                }
            }
        };
        finish.send_replace(true);
        drop(lanes);
        // What is cut off here is in the ledger, and sent again under the same id.
        let _ = tokio::time::timeout(within, async { while running.join_next().await.is_some() {} }).await;
        running.abort_all();
        self.desk.finished();
    }
}

/// The carrier of one lane.
struct Carrier {
    lane: Lane,
    desk: Arc<dyn Desk>,
    clock: Arc<dyn Clock>,
    waiting: Waiting,
    tables: watch::Receiver<Arc<JobTable>>,
    finishing: watch::Receiver<bool>,
}

struct Queued {
    notice: Notice,
    tries: u32,
    /// When it came, since boot.
    since: Duration,
}

impl Carrier {
    async fn run(mut self, mut notices: UnboundedReceiver<Notice>) {
        let mut queue: VecDeque<Queued> = VecDeque::new();
        let mut failures = 0;
        loop {
            if queue.is_empty() {
                let Some(notice) = notices.recv().await else { return };
                queue.push_back(self.queued(notice));
            }
            while let Ok(notice) = notices.try_recv() {
                queue.push_back(self.queued(notice));
            }
            let Some(at) = next(&queue) else { continue };
            let table = self.tables.borrow_and_update().clone();
            match self.try_to_send(&table, &queue[at].notice).await {
                Ok(()) => {
                    let Some(Queued { notice, .. }) = queue.remove(at) else { continue };
                    tracing::info!("{} was told by {}: {}", self.lane.0, self.lane.1, what(&notice));
                    self.desk.delivered(notice.id);
                    self.waiting.clear(&self.lane);
                    failures = 0;
                }
                Err(Failure::ForGood(reason)) => {
                    self.give_up(queue.remove(at), &reason);
                    if queue.is_empty() {
                        self.waiting.clear(&self.lane);
                    }
                }
                Err(Failure::ForNow(reason)) => {
                    failures += 1;
                    queue[at].tries += 1;
                    let now = self.clock.now();
                    if self.is_too_old(&queue[at], now) {
                        let reason = format!("{reason}; it is of {:.0}", queue[at].notice.at);
                        self.give_up(queue.remove(at), &reason);
                    }
                    if queue.is_empty() && notices.is_empty() {
                        self.waiting.clear(&self.lane);
                        continue;
                    }
                    if self.waiting.note(&self.lane, &reason, queue.len() + notices.len(), now) {
                        let (contact, channel) = &self.lane;
                        tracing::warn!("{contact} can't be told by {channel}: {reason}; it is tried again");
                    }
                    if *self.finishing.borrow() || !self.pause(pause_after(failures)).await {
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

    fn queued(&self, notice: Notice) -> Queued {
        Queued { notice, tries: 0, since: self.clock.since_boot() }
    }

    fn is_too_old(&self, queued: &Queued, now: Timestamp) -> bool {
        let age = now.duration_since(queued.notice.at).unsigned_abs();
        has_expired(age, self.clock.since_boot().saturating_sub(queued.since))
    }

    fn give_up(&self, queued: Option<Queued>, reason: &str) {
        let Some(Queued { notice, .. }) = queued else { return };
        let (contact, channel) = &self.lane;
        tracing::error!("{contact} is not told by {channel} that {}: {reason}", what(&notice));
        let detail = serde_json::json!({
            "job": notice.job,
            "run": notice.run,
            "kind": notice.kind,
            "contact": contact,
            "channel": channel,
            "reason": reason,
        });
        self.desk.given_up(notice.id, detail);
    }

    /// A bug that one notice meets must not silence the lane, whose other notices would wait for the next daemon.
    async fn try_to_send(&self, table: &JobTable, notice: &Notice) -> Result<(), Failure> {
        let sent = AssertUnwindSafe(send(&self.lane, table, notice)).catch_unwind().await;
        sent.unwrap_or_else(|_| {
            Err(Failure::ForNow(format!("a bug: the message of run {} can't be made", notice.run)))
        })
    }
}

/// The oldest that was tried least, but never before an older one of the same job: nobody is to hear of a recovery
/// and then of the failure. One that is refused again and again holds up no other job's.
fn next(queue: &VecDeque<Queued>) -> Option<usize> {
    let mut seen = HashSet::new();
    let mut least: Option<(u32, usize)> = None;
    for (at, Queued { notice, tries, .. }) in queue.iter().enumerate() {
        if !seen.insert(&notice.job) {
            continue;
        }
        // Ten thousand may wait: nobody looks at them all to find that it is the first one's turn.
        if *tries == 0 {
            return Some(at);
        }
        if least.is_none_or(|(fewest, _)| *tries < fewest) {
            least = Some((*tries, at));
        }
    }
    least.map(|(_, at)| at)
}

fn pause_after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE)
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

/// `tried`: for how long this daemon has tried to tell of something that is so old.
fn has_expired(age: Duration, tried: Duration) -> bool {
    age > KEEP && tried > TRIED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobName, RunId};

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let seconds: Vec<u64> =
            [1, 2, 3, 7, 8, 33, 4_000_000_000].map(|failures| pause_after(failures).as_secs()).into();
        assert_eq!(seconds, [5, 10, 20, 320, 600, 600, 600]);
    }

    #[test]
    fn a_job_is_told_in_order_and_holds_up_no_other() {
        let queued = |job: &str, tries| Queued {
            notice: Notice {
                id: String::new(),
                at: Timestamp::UNIX_EPOCH,
                job: JobName::new(job).unwrap(),
                run: RunId(1),
                contact: String::new(),
                channel: Channel::Email,
                kind: NoticeKind::Failed,
                story: serde_json::Value::Null,
            },
            tries,
            since: Duration::ZERO,
        };
        let check = |queue: &[(&str, u32)], expected: Option<usize>| {
            let queue: VecDeque<Queued> = queue.iter().map(|(job, tries)| queued(job, *tries)).collect();
            assert_eq!(next(&queue), expected);
        };
        check(&[], None);
        check(&[("a", 0), ("b", 0)], Some(0));
        check(&[("a", 1), ("a", 0)], Some(0));
        check(&[("a", 1), ("a", 0), ("b", 0)], Some(2));
        check(&[("a", 1), ("b", 2), ("b", 0)], Some(0));
    }

    #[test]
    fn a_notice_expires_after_two_days_of_which_an_hour_was_spent_on_trying() {
        let check = |age: u64, tried: u64, expected: bool| {
            let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
            assert_eq!(
                has_expired(minutes(age), minutes(tried)),
                expected,
                "{age} min old, tried for {tried}"
            );
        };
        check(47 * 60, 47 * 60, false);
        check(49 * 60, 61, true);
        // A host that was off for a weekend.
        check(72 * 60, 59, false);
        check(72 * 60, 61, true);
    }
}
