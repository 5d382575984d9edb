//! What the jobs say they did against what the ledger says of them.

use std::collections::{BTreeMap, HashMap};

use super::ledger::{Ledger, Row, shown};
use crate::timeline::{Entry, Job, What};

#[derive(Debug)]
struct Start {
    job: String,
    slot: Option<i64>,
    pid: i64,
    steady: i64,
    /// When its process was made.
    born: i64,
    flags: String,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    wall: i64,
    steady: i64,
    code: i64,
}

/// By run, in their order.
type Evidence = BTreeMap<i64, Vec<Start>>;

pub(super) fn check(ledger: &Ledger, evidence: &str, timeline: &[Entry], problems: &mut Vec<String>) {
    let evidence = read(evidence, problems);
    let around = Around::of(timeline);
    let rows: HashMap<i64, &Row> = ledger.rows.iter().map(|row| (row.id, row)).collect();
    for (run, starts) in &evidence {
        match rows.get(run) {
            Some(row) => started(row, starts, &around, problems),
            None => problems.push(format!("run {run} of {} began and has no row", starts[0].job)),
        }
        for start in starts {
            flags(*run, start, &around, problems);
        }
    }
    for row in &ledger.rows {
        let starts = evidence.get(&row.id).map_or(&[][..], Vec::as_slice);
        outcome(row, starts, &around, problems);
    }
    for entry in timeline {
        if let What::Manual { job, run } = &entry.what
            && rows.get(run).is_none_or(|row| row.job != *job || row.trigger != "manual")
        {
            problems.push(format!("run {run} of {job} was asked for by hand, and has no such row"));
        }
    }
}

fn read(text: &str, problems: &mut Vec<String>) -> Evidence {
    let mut evidence = Evidence::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<i64>().unwrap_or(-1);
        match words[..] {
            ["S", job, _, slot, _, _, _, _, flags] => evidence.entry(number(2)).or_default().push(Start {
                job: job.to_owned(),
                slot: slot.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond),
                pid: number(4),
                steady: number(6),
                born: number(7),
                flags: flags.to_owned(),
                end: None,
            }),
            ["E", job, _, pid, _, _, _] => {
                let starts = evidence.entry(number(2)).or_default();
                match starts.iter_mut().rev().find(|start| start.pid == number(3) && start.end.is_none()) {
                    Some(start) => {
                        start.end = Some(End { wall: number(4), steady: number(5), code: number(6) })
                    }
                    None => problems.push(format!("{job}: pid {pid} ended and never began")),
                }
            }
            _ => problems.push(format!("a torn line of evidence: {line:?}")),
        }
    }
    evidence
}

/// What the driver did, by the clock that nothing bends.
struct Around {
    spawner_killed: Vec<i64>,
    /// From the last sign of life of a daemon to the end of it, and how.
    deaths: Vec<(i64, String)>,
    /// Between these a daemon that was told to end everything did so, for as long as its programs took.
    ended_all: Vec<(i64, i64)>,
    full: Vec<(i64, i64)>,
    jobs: HashMap<String, Vec<Job>>,
    asked_to_end: Vec<i64>,
    /// When the clock was moved, what it then showed, and how much time passed for the machine.
    jumps: Vec<(i64, i64, i64)>,
    end: i64,
}

impl Around {
    fn of(timeline: &[Entry]) -> Self {
        let mut around = Self {
            spawner_killed: vec![],
            deaths: vec![],
            ended_all: vec![],
            full: vec![],
            jobs: HashMap::new(),
            asked_to_end: vec![],
            jumps: vec![],
            end: timeline.last().map_or(0, |entry| entry.steady),
        };
        let before = |index: usize| timeline[index.saturating_sub(1)].steady;
        for (index, entry) in timeline.iter().enumerate() {
            if matches!(&entry.what, What::Down { how, .. } if how == "interrupted") {
                around.ended_all.push((before(index), entry.steady));
            }
            match &entry.what {
                What::SpawnerKilled => around.spawner_killed.push(entry.steady),
                What::Down { how, .. } => around.deaths.push((entry.steady, how.clone())),
                What::AloneKilled => around.deaths.push((entry.steady, "killed".to_owned())),
                What::DiskFull => around.full.push((entry.steady, i64::MAX)),
                What::Note(text) if text == "the ledger is whole again" => {
                    if let Some(last) = around.full.last_mut() {
                        last.1 = entry.steady;
                    }
                }
                What::Jumped { to, how } => {
                    let passed = if how.contains("step") { 0 } else { to - entry.wall };
                    around.jumps.push((entry.steady, *to, passed));
                }
                What::Cancelled { run } => around.asked_to_end.push(*run),
                What::Started { jobs, .. } | What::Reloaded { jobs, .. } => {
                    for job in jobs {
                        let forms = around.jobs.entry(job.name.clone()).or_default();
                        if !forms.contains(job) {
                            forms.push(job.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        around
    }

    /// `from` is the start of a process, known to 10 ms.
    fn spawner_died_between(&self, from: i64, to: i64) -> bool {
        self.spawner_killed.iter().any(|killed| (from - 10_000..=to).contains(killed))
    }

    /// A daemon that was told to end everything did so just then: what had written its last line may not have ended, and
    /// what is stubborn may have ended later than it was told to.
    fn daemon_ended_all_at(&self, steady: i64) -> bool {
        let just_then = |told: i64| (steady..=steady + 1_000_000).contains(&told);
        self.ended_all.iter().any(|(told, ended)| just_then(*told) || (*told..=*ended).contains(&steady))
    }

    fn spawner_died_after(&self, steady: i64) -> bool {
        self.spawner_killed.iter().any(|killed| *killed >= steady - 10_000)
    }

    /// Whether a program that ended so may have been told to end by its timeout: by the time that passed, or, since an
    /// adopted run's time is that of the wall clock, by anything that this showed. An exit is heard of a little later
    /// than it is written down, and the clock may have been moved meanwhile.
    fn may_have_timed_out(&self, start: &Start, end: &End, began: i64, timeout: i64) -> bool {
        let during = start.born - 10_000..=end.steady + 1_000_000;
        let jumps = || self.jumps.iter().filter(|(at, ..)| during.contains(at));
        let passed = end.steady - start.born + jumps().map(|(.., passed)| passed).sum::<i64>();
        let shown = jumps().map(|(_, to, _)| *to).chain([end.wall]).max().unwrap_or(end.wall);
        passed >= timeout || shown - began >= timeout
    }

    /// Microseconds.
    fn shortest_timeout(&self, name: &str) -> i64 {
        let forms = self.jobs.get(name).into_iter().flatten();
        forms.map(|job| job.timeout * 1000).min().unwrap_or(0)
    }

    fn any(&self, name: &str, is: impl Fn(&Job) -> bool) -> bool {
        self.jobs.get(name).is_some_and(|forms| forms.iter().any(is))
    }
}

fn started(row: &Row, starts: &[Start], around: &Around, problems: &mut Vec<String>) {
    let named = || format!("run {} of {} ({})", row.id, row.job, row.slot.map_or("-".to_owned(), shown));
    if row.outcome == "skipped" {
        problems.push(format!("{} is skipped ({:?}), and ran", named(), row.reason));
    }
    if starts.len() > row.attempts.len() {
        problems.push(format!(
            "{}: its program was started {} times, and the ledger has {} attempts",
            named(),
            starts.len(),
            row.attempts.len()
        ));
    }
    for start in starts {
        if start.job != row.job || start.slot != row.slot {
            problems.push(format!("{}: its program was told {} {:?}", named(), start.job, start.slot));
        }
    }
    // One after the other: an attempt ends before the next begins.
    for pair in starts.windows(2) {
        if pair[0].end.is_some_and(|end| end.steady > pair[1].steady) {
            problems.push(format!("{}: two attempts beside each other", named()));
        }
    }
    // Where the one witness of its exit was killed, a rerun after it is all that can be done. One that was told to end by
    // its timeout, and took its time for that, has not ended by itself.
    let stubborn = around.any(&row.job, |job| job.behaviour == "stubborn");
    let timeout = around.shortest_timeout(&row.job);
    for pair in starts.windows(2) {
        let timed_out = |end: &End| {
            let began = row.attempts.iter().filter(|attempt| attempt.outcome == "timed_out");
            let mut began = began.map(|attempt| attempt.started_at);
            stubborn && began.any(|began| around.may_have_timed_out(&pair[0], end, began, timeout))
        };
        let done = pair[0]
            .end
            .is_some_and(|end| end.code == 0 && !around.daemon_ended_all_at(end.steady) && !timed_out(&end));
        if done && !around.spawner_died_between(pair[0].born, pair[1].born) {
            problems.push(format!("{} was done and ran again", named()));
        }
    }
}

fn flags(run: i64, start: &Start, around: &Around, problems: &mut Vec<String>) {
    // It looked at the ledger at some instant between its birth and its line.
    let full = around.full.iter().any(|(from, to)| *from <= start.steady && start.born - 10_000 <= *to);
    for flag in start.flags.split(',').filter(|flag| *flag != "-") {
        match flag {
            // Its row waits in memory: jobs go on while the disk is full.
            "unclaimed" if full => {}
            "unclaimed" => {
                problems.push(format!("run {run} of {} began before its claim was in the ledger", start.job))
            }
            other => {
                let words: Vec<&str> = other.split(':').collect();
                problems.push(format!(
                    "run {run} of {} began while a program of run {} still lived, which overlap or group forbids ({other})",
                    start.job,
                    words.last().unwrap_or(&"")
                ));
            }
        }
    }
}

fn outcome(row: &Row, starts: &[Start], around: &Around, problems: &mut Vec<String>) {
    let last = starts.last();
    let code = last.and_then(|start| start.end).map(|end| end.code);
    let attempt = row.attempts.last();
    let error = attempt.and_then(|attempt| attempt.error.as_deref()).unwrap_or("-");
    let mut wrong = |why: &str| {
        problems.push(format!(
            "run {} of {} is {}, {why} (attempts {}, starts {}, last exit {code:?}, error: {error})",
            row.id,
            row.job,
            row.outcome,
            row.attempts.len(),
            starts.len()
        ));
    };
    match row.outcome.as_str() {
        "running" => wrong("at the end of all"),
        "succeeded" => {
            if code != Some(0) {
                wrong("and its program did not say so");
            }
        }
        "failed" => {
            // Nobody can know an exit whose one witness was killed.
            let unknown = last.is_some_and(|start| around.spawner_died_after(start.born));
            if code == Some(0) && !unknown {
                wrong("and its program ended well");
            }
            let crashes = around.any(&row.job, |job| job.behaviour == "crash");
            if starts.is_empty() && around.spawner_killed.is_empty() {
                wrong("and its program never began");
            }
            if last.is_some() && code.is_none() && !unknown && !crashes {
                wrong("and its program did not end by itself");
            }
        }
        "timed_out" => {
            let shortest = around.shortest_timeout(&row.job);
            let began = attempt.map_or(0, |attempt| attempt.started_at);
            let early = |start: &Start| {
                let end = start.end?;
                Some(!around.may_have_timed_out(start, &end, began, shortest))
            };
            if last.and_then(early) == Some(true) {
                wrong("and its program had ended before its time was over");
            }
        }
        "cancelled" => {
            let replaced = around.any(&row.job, |job| job.overlap == "replace");
            if !around.asked_to_end.contains(&row.id) && !replaced {
                wrong("and nobody asked for that");
            }
        }
        "interrupted" => {
            let begun = starts.first().map_or(0, |start| start.born);
            let told_to_end = around.deaths.iter().any(|(at, how)| *at >= begun && how == "interrupted");
            let spawner = around.spawner_died_after(begun);
            let cut_short = around.deaths.iter().any(|(at, _)| *at >= begun && *at < around.end);
            // The last attempt's program: earlier ones may have begun and ended.
            let never_began = starts.len() < row.attempts.len().max(1) && cut_short;
            // It waited for another attempt, and its job was gone when the next daemon came.
            let between = attempt.is_some_and(|last| last.outcome != "interrupted") && cut_short;
            if !(told_to_end || spawner || never_began || between) {
                wrong("and nothing cut it short");
            }
            if code.is_some() && !(told_to_end || spawner || never_began || between) {
                wrong("and its program ended where its exit could be known");
            }
        }
        "skipped" => {}
        other => wrong(&format!("and `{other}` is no outcome")),
    }
    let ended =
        row.attempts.iter().filter(|attempt| !["interrupted", "running"].contains(&attempt.outcome.as_str()));
    let (ended, allowed) = (
        ended.count(),
        around.jobs.get(&row.job).map_or(1, |forms| forms.iter().map(|job| job.attempts).max().unwrap_or(1)),
    );
    if i64::try_from(ended).unwrap() > allowed {
        wrong(&format!("after {ended} attempts where {allowed} are allowed"));
    }
    if row.attempts.iter().any(|attempt| attempt.outcome == "running") && row.outcome != "running" {
        wrong("and has an attempt that runs");
    }
}
