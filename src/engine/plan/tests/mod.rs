//! The policies, played against a ledger of a few lines: a script of events in, a transcript of what happened out.

mod after;
mod clock;
mod gaps;
mod long;
mod missed;
mod overlap;
mod overload;
mod pause;
mod properties;
mod tables;
mod words;
mod year;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::words::*;
use super::*;
use crate::config::{ByName, JobSpec, JobTable, Paths};
use crate::jobs::{Job, JobContext, JobError, Kind};
use crate::ledger::PauseRecord;
use crate::logs;
use crate::model::Report;
use crate::policy::{Interrupted, Missed, MissedPolicy, Overlap, Retries};
use crate::schedule::Schedule;

type Rows = HashMap<(JobName, Timestamp), BTreeMap<u32, (bool, Timestamp)>>;

fn refuses(ledger: &Rows, row: &NewRow) -> bool {
    let slot = row.slot.and_then(|slot| ledger.get(&(row.job.clone(), slot)));
    let stands = |(skipped, claimed_at): &(bool, Timestamp)| !skipped || *claimed_at <= row.at;
    slot.is_some_and(|rows| rows.contains_key(&row.epoch) && rows.values().any(stands))
}

/// A plan, and the ledger and loop around it.
struct World {
    plan: Plan,
    now: Timestamp,
    tables: Vec<Arc<JobTable>>,
    /// By job and slot: the rows' epochs, whether each was skipped, and when it was claimed.
    ledger: Rows,
    rows: Vec<NewRow>,
    /// Runs that have not ended.
    runs: BTreeMap<RunId, Playing>,
    last_run: i64,
    pauses: BTreeMap<Option<JobName>, PauseRecord>,
    accounted: Option<Timestamp>,
    /// As the ledger keeps them of each job: its epoch, and its newest slot since the clock was set back.
    epochs: BTreeMap<JobName, u32>,
    newest: BTreeMap<JobName, Timestamp>,
    /// How often the plan took the clock as set back.
    cuts: usize,
    shows_accounted: bool,
    transcript: String,
}

#[derive(Clone, Debug)]
struct Playing {
    job: JobName,
    slot: Option<Timestamp>,
    epoch: u32,
    started: bool,
    ending: bool,
    /// One of several that catch up one at a time.
    serial: bool,
    /// When it started.
    group: Option<String>,
}

impl World {
    fn new(tables: Vec<Arc<JobTable>>, recovered: Recovered, now: Timestamp) -> Self {
        let playing = |run: &OpenRun| {
            let (job, started, slot) = (run.job.clone(), !(run.queued || run.again), run.slot);
            (
                run.run,
                Playing { job, slot, epoch: run.epoch, started, ending: false, serial: false, group: None },
            )
        };
        let runs: BTreeMap<RunId, Playing> = recovered.open.iter().map(playing).collect();
        let (plan, decisions) = Plan::new(tables[0].clone(), recovered, now, "host", &|_| false);
        let mut world = Self {
            plan,
            now,
            tables,
            ledger: HashMap::new(),
            rows: vec![],
            last_run: runs.keys().map(|run| run.0).max().unwrap_or(0),
            runs,
            pauses: BTreeMap::new(),
            accounted: None,
            epochs: BTreeMap::new(),
            newest: BTreeMap::new(),
            cuts: 0,
            shows_accounted: false,
            transcript: String::new(),
        };
        world.carry_out(decisions);
        world
    }

    fn handle(&mut self, event: Event) {
        let reloads = matches!(event, Event::Reload(_));
        let ledger = &self.ledger;
        let decisions = self.plan.handle(event, self.now, &|row| refuses(ledger, row));
        self.carry_out(decisions);
        if reloads {
            self.regroup();
        }
    }

    /// What runs holds the group that the table gives it, and keeps that when its job is gone.
    fn regroup(&mut self) {
        for playing in self.runs.values_mut().filter(|playing| playing.started) {
            if let Some(spec) = self.plan.table().job(playing.job.as_str()) {
                playing.group.clone_from(&spec.group);
            }
        }
    }

    /// Time passes; the alarm rings when the plan asked for it.
    fn pass_until(&mut self, end: Timestamp) {
        while let Some(wake) = self.plan.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.handle(Event::Tick);
        }
        self.now = end;
    }

    fn carry_out(&mut self, decisions: Vec<Decision>) {
        let mut answers = VecDeque::new();
        for decision in decisions {
            match decision {
                Decision::Claim { token, row, request: _ } => answers.push_back(self.claim(token, row)),
                Decision::Start { run, .. } => {
                    self.start(run);
                    self.say(format!("start {run}"));
                }
                Decision::Drop { run, reason } => {
                    assert!(!self.runs.remove(&run).unwrap().started);
                    self.say(format!("drop {run} {reason}"));
                }
                Decision::Cancel { run } => {
                    let playing = self.runs.get_mut(&run).unwrap();
                    playing.ending = true;
                    if !playing.started {
                        self.runs.remove(&run);
                    }
                    self.say(format!("cancel {run}"));
                }
                Decision::Refuse { reason, .. } => self.say(format!("refuse {reason:?}")),
                Decision::SetBack { epoch, .. } | Decision::BehindLedger { epoch, .. } => {
                    self.epochs.values_mut().for_each(|of| *of = epoch.max(*of));
                    self.newest.clear();
                    self.cuts += 1;
                }
                Decision::FarBehind { .. } => self.say("far behind".to_owned()),
                Decision::Notice(text) => self.say(format!("notice {text}")),
                Decision::Accounted { until } => {
                    self.accounted = Some(until);
                    if self.shows_accounted {
                        self.say(format!("accounted {}", show(until)));
                    }
                }
            }
        }
        for answer in answers {
            self.handle(answer);
        }
    }

    fn claim(&mut self, token: Token, row: NewRow) -> Event {
        let slot = row.slot.map(|slot| format!(" {}", show(slot))).unwrap_or_default();
        let range = row.slot_last.map(|last| format!("..{} ({})", show(last), row.slots)).unwrap_or_default();
        let epoch = if row.epoch > 0 { format!(" epoch {}", row.epoch) } else { String::new() };
        let mut what = format!("{}{slot}{range}{epoch}", row.job);
        if let Some(slot) = row.slot {
            if refuses(&self.ledger, &row) {
                self.say(format!("{what} already"));
                return Event::AlreadyClaimed { token };
            }
            let rows = self.ledger.entry((row.job.clone(), slot)).or_default();
            let mut epoch = row.epoch;
            if rows.contains_key(&epoch) {
                epoch = rows.keys().max().unwrap() + 1;
                what.push_str(&format!(" taken as epoch {epoch}"));
            }
            rows.insert(epoch, (matches!(row.state, NewState::Skipped(_)), row.at));
            let newest = row.slot_last.unwrap_or(slot);
            let before = self.newest.entry(row.job.clone()).or_insert(newest);
            *before = newest.max(*before);
            let epoch = self.epochs.entry(row.job.clone()).or_default();
            *epoch = row.epoch.max(*epoch);
        }
        self.rows.push(row.clone());
        let state = match row.state {
            NewState::Skipped(reason) => {
                self.say(format!("{what} skipped {reason}"));
                return Event::Claimed { token, run: RunId(-1) };
            }
            NewState::Started => "started",
            NewState::Queued => "queued",
        };
        self.last_run += 1;
        let run = RunId(self.last_run);
        self.say(format!("{what} {} {state} as {run}", row.trigger));
        let serial = row.trigger == Trigger::CatchUp && self.runs_all(&row.job);
        let (job, slot) = (row.job, row.slot);
        let epoch = row.epoch;
        self.runs
            .insert(run, Playing { job, slot, epoch, started: false, ending: false, serial, group: None });
        if row.state == NewState::Started {
            self.start(run);
        }
        Event::Claimed { token, run }
    }

    fn runs_all(&self, job: &JobName) -> bool {
        let policy = self.plan.table().job(job.as_str()).map(|spec| spec.missed.policy);
        policy == Some(MissedPolicy::RunAll)
    }

    /// Nobody may start beside those that forbid it.
    fn start(&mut self, run: RunId) {
        let table = self.plan.table().clone();
        let mine = self.runs[&run].clone();
        let spec = table.job(mine.job.as_str()).unwrap();
        assert!(!mine.started && !mine.ending, "{run} starts again");
        for (other, playing) in self.runs.iter().filter(|(_, playing)| playing.started) {
            let alone = spec.overlap != Overlap::Allow || (mine.serial && playing.serial);
            assert!(playing.job != mine.job || !alone, "{run} starts beside {other} of its job");
            let group = table.job(playing.job.as_str()).map_or(&playing.group, |spec| &spec.group);
            assert!(group.is_none() || *group != spec.group, "{run} starts beside {other} of its group");
        }
        let playing = self.runs.get_mut(&run).unwrap();
        playing.started = true;
        playing.group.clone_from(&spec.group);
        let running = self.runs.values().filter(|playing| playing.started).count();
        assert!(running <= table.max_running, "{run} starts as number {running}");
    }

    fn say(&mut self, text: String) {
        let _ = writeln!(self.transcript, "{} {text}", show(self.now));
    }

    /// One line of a script: an instant, what happens then, and on whom. The alarm rings on the way there, but
    /// not at the instant itself; a line with `jump` gets there without it, as after a suspend.
    fn play(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let instant = at(words[0]);
        let job = |word: &str| (word != "all").then(|| JobName::new(word).unwrap());
        let run = |word: &str| RunId(word.parse().unwrap());
        let jumps = matches!(words[1], "jump" | "stepped" | "back");
        if !jumps && instant > self.now {
            self.pass_until(instant - Duration::from_nanos(1));
        }
        self.now = instant;
        match words[1..] {
            ["tick"] => self.pass_until(instant),
            ["jump" | "back"] => self.handle(Event::Tick),
            ["stepped", by] => {
                let back = Some(Duration::from_secs(by.parse().unwrap()));
                self.handle(Event::ClockStepped { back });
            }
            ["manual", job] => {
                let job = JobName::new(job).unwrap();
                self.handle(Event::Manual { job, request: 1, by: "root".into(), dry_run: false });
            }
            ["ok", id] => self.end(run(id), Outcome::Succeeded),
            ["failed", id] => self.end(run(id), Outcome::Failed),
            ["cancelled", id] => self.end(run(id), Outcome::Cancelled),
            ["cancel", id] => self.handle(Event::Cancel { run: run(id) }),
            ["reload", table] => {
                let table = self.tables[table.parse::<usize>().unwrap()].clone();
                self.handle(Event::Reload(table));
            }
            ["pause", name] => self.handle(Event::Pause { job: job(name), until: None }),
            ["pause", name, until] => self.handle(Event::Pause { job: job(name), until: Some(at(until)) }),
            ["resume", name] => self.handle(Event::Resume { job: job(name) }),
            ["stop"] => self.handle(Event::Stop),
            _ => panic!("{line}"),
        }
    }

    fn end(&mut self, run: RunId, outcome: Outcome) {
        assert!(self.runs.remove(&run).unwrap().started, "{run} has not begun");
        self.handle(Event::Ended { run, outcome });
    }
}

/// Plays a script (one event a line, see [`World::play`]) and compares the transcript.
#[track_caller]
fn check_from(tables: Vec<Arc<JobTable>>, recovered: Recovered, start: &str, script: &str, expected: &str) {
    let mut world = World::new(tables, recovered, at(start));
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.play(line);
    }
    let lines = |text: &str| {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let (got, expected) = (lines(&world.transcript), lines(expected));
    assert!(got == expected, "got:\n{got}\n\nexpected:\n{expected}\n");
}

/// As [`check_from`], 10:00:01.5, with an empty ledger and room for all.
#[track_caller]
fn check(jobs: impl IntoIterator<Item = JobSpec>, script: &str, expected: &str) {
    check_from(vec![table(64, jobs)], Recovered::default(), "10:00:01.5", script, expected);
}
