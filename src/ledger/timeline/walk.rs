//! Goes through the events as they were written, and cuts the wall clock where they tell that it was set back. Pure;
//! judges no slot.

use jiff::Timestamp;

use super::{Life, Segment, earlier, instant_of, later, step_from};
use crate::ledger::Event;
use crate::policy::PUNCTUAL;

/// Goes through the events as they were written.
pub(super) struct Walk {
    /// From when on each table was in force, as written; those before `taken` have their place.
    pub(super) waiting: Vec<Timestamp>,
    pub(super) taken: usize,
    pub(super) segments: Vec<Segment>,
    pub(super) lives: Vec<Life>,
    /// The latest instant since the clock was last set back.
    pub(super) latest: Option<Timestamp>,
}

impl Walk {
    pub(super) fn event(&mut self, event: &Event) {
        match event.kind.as_str() {
            "clock_stepped" => self.stepped(event),
            "clock_behind_ledger" => {
                if let Some(cut) = Cut::told(event) {
                    self.cut(cut, event.at, false);
                }
            }
            // A daemon that starts says where the clock lies behind what was dealt with; what else was written since,
            // however late, is of no slot.
            "daemon_started" => self.latest = Some(event.at),
            _ => {
                if let Some(latest) = self.latest.filter(|latest| is_back(*latest, event.at)) {
                    self.cut(Cut { sure: latest, until: Timestamp::MAX, complete: None }, event.at, true);
                }
            }
        }
        self.latest = self.latest.max(Some(event.at));
        let starts = event.kind == "daemon_started";
        let brings = starts || event.kind == "reloaded";
        let before = self.taken;
        // With a step back the table in force is written once more.
        if brings || event.kind == "clock_stepped" {
            let at = event.at;
            // A clock that was set back by a little is to catch up first: what is in force until then stays so.
            let latest = if brings { later(at, PUNCTUAL) } else { at };
            let its = |from: &Timestamp| at <= *from && *from <= latest;
            if let Some(ahead) = self.waiting[before..].iter().position(its) {
                for _ in 0..=ahead {
                    self.take_table();
                }
            }
        }
        if starts {
            let boot = event.detail["boot"].as_str().map(str::to_owned);
            self.lives.push(Life {
                started: event.at,
                stopped: None,
                last_event: event.at,
                pid: event.detail["pid"].as_u64(),
                boot: boot.zip(instant_of(event, "boot_time")),
                table: self.taken.checked_sub(1).filter(|_| self.taken > before),
            });
        } else if let Some(life) = self.lives.last_mut() {
            life.last_event = event.at;
            if event.kind == "daemon_stopped" {
                life.stopped = Some(event.at);
            }
        }
    }

    fn stepped(&mut self, event: &Event) {
        // Nobody takes slots: what the clock does changes nothing.
        if self.lives.last().is_some_and(|life| life.stopped.is_some()) {
            return;
        }
        let Some(from) = step_from(event) else { return };
        let latest = self.latest.map_or(from, |latest| latest.max(from));
        if is_back(latest, event.at) {
            // Earlier versions left what fell due in the last moments to the time after the step.
            let exact = event.detail["from"].is_string();
            let sure = if exact { from } else { earlier(from, PUNCTUAL) };
            self.cut(Cut { sure, until: latest, complete: exact.then_some(latest) }, event.at, false);
        }
    }

    /// The clock goes on at `to`.
    pub(super) fn cut(&mut self, cut: Cut, to: Timestamp, guessed: bool) {
        self.latest = Some(to);
        let count = self.segments.len();
        let Some(last) = self.segments.last_mut() else { return };
        let known_already = last.guessed && last.from == to && count > 1;
        if known_already {
            // Another event has told of the same step in fewer words.
            (last.guessed, last.vague) = (guessed, cut.complete.is_none());
            self.segments[count - 2].end(&cut);
            return;
        }
        last.end(&cut);
        let tables = last.tables.last().map(|(_, table)| (to, *table)).into_iter().collect();
        self.segments.push(Segment {
            from: to,
            vague: cut.complete.is_none(),
            sure: Timestamp::MAX,
            until: Timestamp::MAX,
            complete: None,
            tables,
            guessed,
        });
    }

    pub(super) fn take_table(&mut self) {
        let table = self.taken;
        let from = self.waiting[table];
        self.taken += 1;
        match self.segments.last_mut() {
            Some(segment) => {
                let after = segment.tables.last().map_or(segment.from, |(from, _)| *from);
                segment.tables.push((from.max(after), table));
            }
            None => self.segments.push(Segment {
                from,
                vague: false,
                sure: Timestamp::MAX,
                until: Timestamp::MAX,
                complete: None,
                tables: vec![(from, table)],
                guessed: false,
            }),
        }
        self.latest = self.latest.max(Some(from));
    }
}

/// How far a segment went before the clock was set back.
pub(super) struct Cut {
    sure: Timestamp,
    until: Timestamp,
    complete: Option<Timestamp>,
}

impl Cut {
    /// As a daemon found it that came later. Rows of jobs without jitter may go on beyond what was complete.
    pub(super) fn told(behind: &Event) -> Option<Self> {
        let accounted = instant_of(behind, "accounted")?;
        let complete = match behind.detail.get("complete") {
            Some(_) => instant_of(behind, "complete").unwrap_or(Timestamp::MIN),
            None => accounted,
        };
        Some(Self { sure: complete, until: Timestamp::MAX, complete: Some(complete) })
    }
}

impl Segment {
    fn end(&mut self, cut: &Cut) {
        (self.sure, self.until, self.complete) = (cut.sure, cut.until, cut.complete);
    }
}

/// By more than what counts as time standing still.
fn is_back(from: Timestamp, to: Timestamp) -> bool {
    later(to, PUNCTUAL) < from
}
