//! The slots of one job over a stretch of time, and what becomes of each.
//!
//! Pure functions of a schedule and a few instants; who may run beside whom is not asked here.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::config::JobSpec;
use crate::model::{SkipReason, Trigger};
use crate::policy::{Missed, MissedPolicy, PUNCTUAL};
use crate::schedule::{Leap, Schedule};

/// More skipped slots in a row than this become one range row.
const SINGLES: u64 = 1000;

/// `run_all` runs at most this many slots of a job at once; older ones are `missed`. A queue of more would take
/// longer than anybody waits, and memory without bound.
pub(super) const RUN_ALL_AT_MOST: usize = 10_000;

/// So many slots that have their row already are passed over at most, in search of one that can still have its run.
const REFUSED_AT_MOST: usize = 1000;

/// The least distance between two instants.
pub(super) const TICK: Duration = Duration::from_nanos(1);

/// So many slots are looked at one by one before whole days of them are counted at once; twice as many after each time
/// that there was nothing to gain.
const BEFORE_A_LEAP: usize = 512;

/// One job's due slots, to be judged at `now`.
pub(super) struct Sweep<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) first: Option<Timestamp>,
    /// The last nominal time that counts.
    pub(super) until: Timestamp,
    pub(super) now: Timestamp,
    /// How long after its nominal time a slot is due.
    pub(super) share: Duration,
    pub(super) missed: Missed,
    /// How many slots may be looked at before the rest is left for later.
    pub(super) budget: usize,
    /// Instants at which the fate of slots that are due may change.
    pub(super) turns: Vec<Timestamp>,
    /// Slots that have their row, though others before them have none.
    pub(super) taken: Vec<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) skipped: Vec<Stretch>,
    /// In order.
    pub(super) runs: Vec<Timestamp>,
    pub(super) trigger: Option<Trigger>,
    /// By which those that were missed were judged.
    pub(super) policy: MissedPolicy,
    /// The first slot that was not judged.
    pub(super) next: Option<Timestamp>,
    pub(super) looked_at: usize,
}

/// Slots next to each other with the same fate.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) reason: SkipReason,
    first: Timestamp,
    last: Timestamp,
    count: u64,
    /// All of them while they are few; none of what was counted at once.
    singles: Vec<Timestamp>,
    last_index: u64,
}

impl Sweep<'_> {
    /// `fate` tells the slots that nobody would have run whatever their lateness: paused, stopping, removed; `refused`
    /// those that had their row before, whose run would be refused now.
    pub(super) fn run(
        &self,
        fate: impl Fn(Timestamp) -> Option<SkipReason>,
        refused: impl Fn(Timestamp) -> bool,
    ) -> Swept {
        let policy = self.missed.policy;
        let keep = if self.missed.policy == MissedPolicy::RunAll { RUN_ALL_AT_MOST } else { 1 };
        let mut skipped = Skipped { taken: &self.taken, list: vec![] };
        let mut kept: VecDeque<(u64, Timestamp)> = VecDeque::new();
        let mut eligible = 0_u64;
        let mut looked_at = 0;
        let mut index = 0;
        let mut next = self.first;
        let (mut leap_at, mut patience) = (BEFORE_A_LEAP, BEFORE_A_LEAP);
        while let Some(slot) = next.filter(|slot| *slot <= self.until) {
            if looked_at >= self.budget {
                break;
            }
            let certain = fate(later(slot, self.share));
            if looked_at >= leap_at && !self.taken.contains(&slot) {
                // Those that are kept now are not among the newest of what follows.
                let leave = if certain.is_some() { 1 } else { keep as u64 };
                let leap = self.schedule.leap(slot, self.steady_until(slot), leave);
                let leap = leap.filter(|leap| leap.count > SINGLES);
                patience = if leap.is_some() { BEFORE_A_LEAP } else { patience.saturating_mul(2) };
                looked_at += leap.map_or(0, |leap| leap.looked_at);
                leap_at = looked_at.saturating_add(patience);
                if let Some(Leap { last, count, .. }) = leap {
                    if certain.is_none() {
                        eligible += count;
                        for (index, older) in kept.drain(..) {
                            skipped.push(index, older, Fate::Superseded);
                        }
                    }
                    skipped.push_many(
                        index,
                        slot,
                        last,
                        count,
                        certain.map_or(Fate::Superseded, Fate::Certain),
                    );
                    index += count;
                    next = self.schedule.next_after(last);
                    continue;
                }
            }
            if let Some(reason) = certain {
                skipped.push(index, slot, Fate::Certain(reason));
            } else {
                eligible += 1;
                kept.push_back((index, slot));
                if kept.len() > keep
                    && let Some((index, older)) = kept.pop_front()
                {
                    skipped.push(index, older, Fate::Superseded);
                }
            }
            looked_at += 1;
            index += 1;
            next = self.schedule.next_after(slot);
        }
        if next.is_some_and(|slot| slot <= self.until) {
            // More are due than the budget allows: what is kept is judged with the rest.
            let next = kept.front().map(|(_, slot)| *slot).or(next);
            let superseded = self.superseded(self.newest_may_run());
            return Swept { skipped: skipped.named(superseded), next, looked_at, policy, ..Swept::default() };
        }
        if self.missed.policy == MissedPolicy::RunOnce && eligible > 1 {
            // The others would have no run at all: the newest that can still have one takes its place.
            for _ in 0..REFUSED_AT_MOST {
                if !kept.back().is_some_and(|(_, newest)| refused(*newest)) {
                    break;
                }
                kept.pop_back();
                kept.extend(skipped.take_back(|last| self.before(last)));
            }
        }
        let punctual = eligible == 1 && kept.iter().all(|(_, slot)| self.lateness(*slot) <= PUNCTUAL);
        let trigger = if punctual { Trigger::Schedule } else { Trigger::CatchUp };
        let mut runs = Vec::new();
        for (index, slot) in kept {
            let may_run = self.missed.policy != MissedPolicy::Skip && self.within(slot);
            if punctual || may_run {
                runs.push(slot);
            } else {
                skipped.push(index, slot, Fate::Certain(SkipReason::Missed));
            }
        }
        let superseded = self.superseded(!runs.is_empty());
        Swept { skipped: skipped.named(superseded), runs, trigger: Some(trigger), policy, next, looked_at }
    }

    /// The slot before this one, of those that are swept.
    fn before(&self, slot: Timestamp) -> Option<Timestamp> {
        let first = self.first?;
        let mut step = Duration::from_secs(1);
        loop {
            let from = earlier(earlier(slot, step), TICK).max(earlier(first, TICK));
            let found =
                std::iter::successors(self.schedule.next_after(from), |at| self.schedule.next_after(*at));
            let last = found.take_while(|at| *at < slot).last();
            if last.is_some() || from < first {
                return last;
            }
            step = step.saturating_mul(2);
        }
    }

    /// The last instant up to which slots have the fate of this one.
    fn steady_until(&self, slot: Timestamp) -> Timestamp {
        let due = later(slot, self.share);
        let turn = self.turns.iter().filter(|turn| **turn > due).min();
        let taken = self.taken.iter().filter(|taken| **taken > slot).min();
        let until = taken.map_or(self.until, |taken| earlier(*taken, TICK).min(self.until));
        turn.map_or(until, |turn| earlier(earlier(*turn, self.share), TICK).min(until))
    }

    fn superseded(&self, newest_runs: bool) -> SkipReason {
        if self.missed.policy == MissedPolicy::RunOnce && newest_runs {
            SkipReason::Coalesced
        } else {
            SkipReason::Missed
        }
    }

    /// Whether a slot that is not too late lies ahead, without walking there.
    fn newest_may_run(&self) -> bool {
        let Some(within) = self.missed.within else { return true };
        let from = earlier(earlier(earlier(self.now, within), self.share), TICK);
        self.schedule.next_after(from).is_some_and(|slot| slot <= self.until)
    }

    fn within(&self, slot: Timestamp) -> bool {
        self.missed.within.is_none_or(|within| self.lateness(slot) <= within)
    }

    fn lateness(&self, slot: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(later(slot, self.share))).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Certain(SkipReason),
    /// A later slot is due too; the reason hangs on whether that one runs.
    Superseded,
}

struct Skipped<'a> {
    taken: &'a [Timestamp],
    list: Vec<(Fate, Stretch)>,
}

impl Skipped<'_> {
    fn push(&mut self, index: u64, slot: Timestamp, fate: Fate) {
        if !self.taken.contains(&slot) {
            self.push_many(index, slot, slot, 1, fate);
        }
    }

    /// Slots next to each other, the first of them with this index.
    fn push_many(&mut self, index: u64, first: Timestamp, last: Timestamp, count: u64, fate: Fate) {
        let before = self.list.last_mut();
        let follows = before.filter(|(of, stretch)| *of == fate && stretch.last_index + 1 == index);
        let Some((_, stretch)) = follows else {
            let reason = SkipReason::Missed;
            let singles = if count == 1 { vec![first] } else { vec![] };
            self.list
                .push((fate, Stretch { reason, first, last, count, singles, last_index: index + count - 1 }));
            return;
        };
        stretch.last = last;
        stretch.last_index = index + count - 1;
        stretch.count += count;
        if count == 1 && stretch.count <= SINGLES {
            stretch.singles.push(first);
        } else {
            stretch.singles = Vec::new();
        }
    }

    /// The newest slot that a later one superseded, with its index. `before`: the slot before this one.
    fn take_back(&mut self, before: impl Fn(Timestamp) -> Option<Timestamp>) -> Option<(u64, Timestamp)> {
        let place = self.list.iter().rposition(|(fate, _)| *fate == Fate::Superseded)?;
        let (_, stretch) = &mut self.list[place];
        let newest = (stretch.last_index, stretch.last);
        if stretch.count == 1 {
            self.list.remove(place);
            return Some(newest);
        }
        stretch.singles.pop();
        stretch.last = stretch.singles.last().copied().or_else(|| before(stretch.last))?;
        stretch.count -= 1;
        stretch.last_index -= 1;
        Some(newest)
    }

    fn named(self, superseded: SkipReason) -> Vec<Stretch> {
        let mut merged: Vec<Stretch> = Vec::new();
        for (fate, mut stretch) in self.list {
            stretch.reason = match fate {
                Fate::Certain(reason) => reason,
                Fate::Superseded => superseded,
            };
            merged.push(stretch);
        }
        merged.sort_by_key(|stretch| stretch.first);
        merged
    }
}

impl Stretch {
    /// The rows that it takes: first slot, last slot of a range row, number of slots.
    pub(super) fn rows(&self) -> Vec<(Timestamp, Option<Timestamp>, u64)> {
        if self.singles.is_empty() {
            return vec![(self.first, Some(self.last).filter(|last| *last > self.first), self.count)];
        }
        self.singles.iter().map(|slot| (*slot, None, 1)).collect()
    }
}

/// The share of its `jitter` by which this job is late on this host: always the same, and in whole
/// milliseconds so that people can read it.
pub(super) fn share(host: &str, spec: &JobSpec) -> Duration {
    if spec.jitter.is_zero() {
        return Duration::ZERO;
    }
    let digest =
        Sha256::new().chain_update(host).chain_update([0]).chain_update(spec.name.as_str()).finalize();
    let draw = digest.iter().take(4).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    Duration::from_millis(u64::try_from((spec.jitter.as_millis() * draw) >> 32).unwrap_or(u64::MAX))
}

/// Whether two schedules give the same slots, as far as their text tells.
pub(super) fn same(one: &Schedule, other: &Schedule) -> bool {
    one.expressions() == other.expressions() && one.zone() == other.zone()
}

/// Whether the slot repeats when the clock is set back.
pub(in crate::engine) fn is_interval(schedule: &Schedule, slot: Timestamp) -> bool {
    schedule.next_interval_after(earlier(slot, TICK)) == Some(slot)
}

/// The first slot that is not before `at`.
pub(super) fn next_from(schedule: &Schedule, at: Timestamp) -> Option<Timestamp> {
    schedule.next_after(earlier(at, TICK))
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

pub(super) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
