//! The paragraph: what was due, what became of it, what explains it.

use jiff::Timestamp;

use super::causes::{Down, Found, TakeOver, begin_of};
use super::{Facts, show};
use crate::cli::history::{outcome_word, took};
use crate::cli::time;
use crate::ledger::Event;
use crate::logs::harmless;
use crate::model::{Outcome, RunRecord, Trigger};

/// What counts as being in time.
const PUNCTUAL: i64 = 10;

pub(super) fn explanation(facts: &Facts) -> String {
    let mut sentences = vec![facts.was_due()];
    if facts.slot.is_some() && facts.rows.is_empty() {
        sentences.push(facts.no_row());
    }
    for row in &facts.rows {
        sentences.push(facts.became(row));
    }
    sentences.extend(facts.down.as_ref().map(|down| facts.was_down(down)));
    sentences.extend(facts.took_over.iter().map(|one| facts.taken_over(one)));
    sentences.extend(facts.events.iter().filter_map(|event| facts.noted(event)));
    sentences.join(" ")
}

impl Facts {
    fn at(&self, instant: Timestamp) -> String {
        show(instant, &self.zone)
    }

    fn was_due(&self) -> String {
        let job = &self.job;
        let Some((since, one)) = &self.table else {
            return format!(
                "No table is known to have been in force at {}: the ledger tells nothing of {job} then.",
                self.at(self.asked)
            );
        };
        let table = format!("by the table in force since {}", self.at(*since));
        let Some(one) = one else {
            let due = if self.slot.is_some() { "had a slot" } else { "had no slot" };
            return format!("{job} {due} at {}: {table} there was no such job.", self.at(self.asked));
        };
        let schedule = one.schedule.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
        if let Some(slot) = self.slot {
            let tense = if slot > self.now { "is due" } else { "was due" };
            let jitter = if one.jitter.is_zero() {
                String::new()
            } else {
                format!(", up to {} later by its jitter", time::brief(one.jitter))
            };
            return format!(
                "{job} {tense} at {} ({schedule} in {}{jitter}), {table}.",
                self.at(slot),
                one.timezone
            );
        }
        let at = self.at(self.asked);
        if !one.enabled {
            return format!("{job} was not due at {at}: it was disabled {table}.");
        }
        if one.schedule.is_empty() {
            return format!(
                "{job} was not due at {at}: it has no schedule {table} and is only run by hand or after others."
            );
        }
        let mut text =
            format!("{job} was not due at {at}: its schedule was {schedule} in {}, {table}", one.timezone);
        match (self.before, self.after) {
            (Some(before), Some(after)) => text.push_str(&format!(
                "; the slot before was {}, the one after {} {}",
                self.at(before),
                if after > self.now { "is" } else { "was" },
                self.at(after)
            )),
            (None, Some(after)) => {
                text.push_str(&format!("; its first slot after that is {}", self.at(after)))
            }
            _ => {}
        }
        text.push('.');
        text
    }

    fn no_row(&self) -> String {
        let Some(slot) = self.slot else { return String::new() };
        if slot > self.now {
            return "It is still to come.".to_owned();
        }
        if self.kept_from.is_some_and(|kept| slot < kept) {
            return "Its row is not there any more: rows that old were dropped by age (logs.keep_history)."
                .to_owned();
        }
        match self.until {
            Some(until) if slot > until && self.lives => "It has no row yet; the daemon lives and is at work on it.".to_owned(),
            Some(until) if slot > until => format!(
                "It has no row yet: no daemon lives, and slots are accounted for up to {}. The next daemon deals with it by `missed`.",
                self.at(until)
            ),
            _ => "It has no row, and should have one: `punk-eco-sched audit` tells whether others are missing too.".to_owned(),
        }
    }

    fn became(&self, row: &RunRecord) -> String {
        if row.outcome == Outcome::Skipped {
            return self.skipped(row);
        }
        let run = row.run;
        let how = match row.trigger {
            Trigger::Schedule => "as scheduled",
            Trigger::CatchUp => "as a catch-up",
            Trigger::Manual => "by hand",
            Trigger::After => "after the jobs that it follows",
        };
        let Some(started) = row.started_at else {
            return match row.outcome {
                Outcome::Running => format!("Run {run} waits for its turn (queued)."),
                _ => format!("Run {run} never started: {}{}.", row.outcome, reason_of(row)),
            };
        };
        let late = row.slot.map(|slot| started.duration_since(slot).as_secs()).unwrap_or(0);
        let late = match late {
            PUNCTUAL.. => {
                format!(", {} late", time::brief(std::time::Duration::from_secs(late.unsigned_abs())))
            }
            _ => String::new(),
        };
        let it = match (self.slot, row.slot) {
            (Some(_), _) | (None, None) => format!("It ran {how} as run {run}"),
            (None, Some(slot)) => format!("Run {run}, of the slot at {}, was under way", self.at(slot)),
        };
        let ran = format!("{it}, started at {}{late}", self.at(started));
        let attempts = match row.attempts.len() {
            0 | 1 => String::new(),
            count => format!(" in {count} attempts"),
        };
        let what = reason_of(row);
        match row.finished_at {
            Some(finished) => format!(
                "{ran}, and ended {}{attempts} at {} after {}{what}.",
                outcome_word(row),
                self.at(finished),
                took(Some(started), Some(finished), self.now)
            ),
            None => format!("{ran}, and still runs{attempts}."),
        }
    }

    fn skipped(&self, row: &RunRecord) -> String {
        let reason = row.reason.as_deref().unwrap_or("no reason");
        let many = match self.ranged {
            Some(slots) => format!(" with all {slots} slots of row {}", row.run),
            None => String::new(),
        };
        let because = match reason {
            "overlap" => match &self.in_the_way {
                Some(run) if run.finished_at.is_some_and(|end| self.slot.is_some_and(|slot| end < slot)) => format!(
                    "run {} of the job, which had ended at {} while no daemon lived, was not yet closed when the next daemon came to this slot",
                    run.run,
                    run.finished_at.map_or_else(String::new, |at| self.at(at))
                ),
                Some(run) => format!(
                    "run {} of the job, started at {}, still ran{}",
                    run.run,
                    run.started_at.map_or_else(|| "a time that is not known".to_owned(), |at| self.at(at)),
                    run.finished_at.map_or_else(String::new, |at| format!(", until {}", self.at(at)))
                ),
                None => "another run of the job still ran or waited for its turn".to_owned(),
            },
            "paused" => match &self.pause {
                Some(event) => self.paused(event),
                None => "the job, or all jobs, were paused".to_owned(),
            },
            "coalesced" => match &self.stands_for {
                Some(run) => format!(
                    "a later slot was due as well when the daemon came to it, and run {} for {} stands for both",
                    run.run,
                    run.slot.map_or_else(String::new, |slot| self.at(slot))
                ),
                None => "a later slot was due as well when the daemon came to it, and its run stands for both".to_owned(),
            },
            "missed" => "it had passed when the daemon came to it, and the job's `missed` policy said not to run it any more".to_owned(),
            "removed" => "the job was no longer in the table when the daemon came to it".to_owned(),
            "stopping" => "the daemon was stopping".to_owned(),
            other => harmless(other),
        };
        format!("It was skipped ({reason}){many}: {because}.")
    }

    fn paused(&self, event: &Event) -> String {
        if event.kind == "held" {
            let lifted = match self.resumed {
                Some(at) => format!(" (it was resumed at {})", self.at(at)),
                None => String::new(),
            };
            return format!("the job was held at {}{lifted}, {}", self.at(event.at), until_resumed(event));
        }
        let who = event.detail["by"].as_str().map_or("somebody", |by| by);
        let what = if event.detail["job"].is_null() { "all jobs were" } else { "the job was" };
        let set = event.detail["until"].as_str().and_then(|until| until.parse().ok());
        let until = match (self.resumed, set) {
            (Some(resumed), set) if set.is_none_or(|set: Timestamp| resumed < set) => {
                format!("until it was resumed at {}", self.at(resumed))
            }
            (_, Some(set)) => format!("until {}", self.at(set)),
            _ => "until it is resumed".to_owned(),
        };
        format!("{what} paused at {} by {}, {until}", self.at(event.at), harmless(who))
    }

    fn was_down(&self, down: &Down) -> String {
        let until = match down.until {
            Some(until) => format!("until it was started at {}", self.at(until)),
            None => "and has not been started since".to_owned(),
        };
        if down.died {
            format!(
                "The daemon was down: it died without saying so (killed, crashed, or with the host) some time after {}, its last sign, {until}.",
                self.at(down.from)
            )
        } else {
            format!("The daemon was down: it was stopped at {}, {until}.", self.at(down.from))
        }
    }

    fn taken_over(&self, one: &TakeOver) -> String {
        let from = self.at(one.down.from);
        let ended = if one.down.died {
            format!("was killed or crashed some time after {from}, its last sign,")
        } else {
            format!("was stopped at {from}")
        };
        let run = match one.found {
            Found::Running => "the run went on and was adopted.",
            Found::Ended => {
                "the run's program had gone on and ended meanwhile, and its spawner had kept how and when."
            }
            Found::WithoutSpawner => {
                "the run's program still lived, but not the spawner that could tell how it ends: it was watched to its end."
            }
        };
        format!("The daemon {ended} and started again at {}: {run}", self.at(one.at))
    }

    fn noted(&self, event: &Event) -> Option<String> {
        let detail = &event.detail;
        let span = detail["seconds"].as_f64().unwrap_or(0.0).abs();
        let span = time::brief(std::time::Duration::try_from_secs_f64(span).unwrap_or_default());
        let (from, to) = (self.at(begin_of(event)), self.at(event.at));
        Some(match event.kind.as_str() {
            "clock_stepped" if begin_of(event) > event.at => {
                format!("The clock was set back by {span}, from {from} to {to}: the time between came twice.")
            }
            "clock_stepped" => format!("The clock was set forward by {span}, from {from} to {to}."),
            "suspended" => format!("The host slept (suspend) for {span}, from {from} to {to}."),
            "woke_late" => format!(
                "The daemon was stopped or starved (not the host, nor its clock) for {span}, from {from} to {to}."
            ),
            "clock_behind_ledger" => format!(
                "When the daemon started, the clock said {to}, but the ledger had got to {from}: the clock was wrong then or before, and scheduling went on from {to}."
            ),
            "ledger_far_behind" => format!(
                "The ledger had ended long before, at {from}: of all that was missed at most one run a job was made up for at {to}."
            ),
            "reloaded" => {
                format!(
                    "The table was changed at {to} (reload by {}).",
                    harmless(detail["by"].as_str().unwrap_or("somebody"))
                )
            }
            "cancel_asked" if self.rows.iter().any(|row| detail["run"].as_i64() == Some(row.run.0)) => {
                format!(
                    "{} asked at {to} to cancel it.",
                    harmless(detail["by"].as_str().unwrap_or("somebody"))
                )
            }
            "held" if self.pause.as_ref() != Some(event) => {
                format!("The job was held at {to}, {}.", until_resumed(event))
            }
            _ => return None,
        })
    }
}

/// Why a crash loop is held, and what lifts it.
fn until_resumed(held: &Event) -> String {
    let job = held.detail["job"].as_str().unwrap_or("JOB");
    let attempts = match held.detail["interrupted"].as_u64() {
        Some(attempts) => format!("{attempts} attempts"),
        None => "attempts".to_owned(),
    };
    format!(
        "since the daemon or the host died under {attempts} of it in a row; `punk-eco-sched resume {}` lets it start again",
        harmless(job)
    )
}

/// What went wrong, or what it did.
fn reason_of(row: &RunRecord) -> String {
    let failed = !matches!(row.outcome, Outcome::Succeeded | Outcome::Running);
    let error = row.attempts.iter().rev().find_map(|attempt| attempt.error.as_deref()).filter(|_| failed);
    let reason = row.reason.as_deref().filter(|reason| *reason != "queued");
    let text = reason.or(error).or(row.summary.as_deref()).unwrap_or_default();
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => format!(": {}", harmless(line).trim_end_matches('.')),
        _ => String::new(),
    }
}
