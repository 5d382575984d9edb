//! What the looks of one run amount to: the state of each check, and of them all the report. Looks at nothing itself.

use std::path::PathBuf;

use serde_json::json;

use super::check::State;
use super::recent::{Recent, Tolerance};
use super::{CheckSeverity, Looked};
use crate::jobs::JobError;
use crate::model::{CheckState, Checked, Finding, Report, Severity};

/// Failed checks that the summary names; the findings name all of them.
const NAMED: usize = 3;

/// One look, as far as its check's past is concerned.
#[derive(Clone)]
pub(super) struct Look {
    pub(super) name: String,
    pub(super) tolerance: Tolerance,
    pub(super) state: State,
}

/// How a check stands after a look.
#[derive(Clone)]
pub(super) struct Standing {
    state: CheckState,
    /// How many of the last looks were bad, where more than one counts and any was.
    of_late: Option<String>,
}

impl Look {
    fn is_bad(&self) -> Option<bool> {
        match self.state {
            State::Ok => Some(false),
            State::Failing | State::Unknown => Some(true),
            State::TooLittle => None,
        }
    }
}

impl Standing {
    /// Where no look before this one counts.
    pub(super) fn at_once(look: &Look) -> Self {
        let state = match look.is_bad() {
            Some(true) => CheckState::Failing,
            Some(false) => CheckState::Ok,
            None => CheckState::Unknown,
        };
        Self { state, of_late: None }
    }

    pub(super) fn is(&self, state: CheckState) -> bool {
        self.state == state
    }
}

/// With the looks of the runs before, which are kept with these; a dry run leaves no trace.
pub(super) fn remember(path: PathBuf, looks: &[Look], dry_run: bool) -> (Vec<Standing>, Option<String>) {
    let mut recent = Recent::begin(path);
    let standing = |look: &Look| {
        let bad = look.is_bad();
        let last = recent.look(&look.name, look.tolerance, bad);
        let of_late = (!look.tolerance.is_one() && last.contains(&true)).then(|| look.tolerance.tell(last));
        match bad {
            None => Standing::at_once(look),
            Some(_) => Standing { state: look.tolerance.judge(last), of_late },
        }
    };
    let standings = looks.iter().map(standing).collect();
    if dry_run {
        return (standings, recent.problem);
    }
    let names: Vec<&str> =
        looks.iter().filter(|look| !look.tolerance.is_one()).map(|look| look.name.as_str()).collect();
    let problem = recent.keep(&names);
    (standings, problem)
}

/// One check with all that is known of it.
pub(super) struct Judged<'a> {
    looked: Looked<'a>,
    standing: Standing,
    because_of: Option<String>,
}

pub(super) fn judge<'a>(
    looked: Vec<Looked<'a>>,
    standings: Vec<Standing>,
    causes: &[Option<usize>],
) -> Vec<Judged<'a>> {
    let names: Vec<String> = looked.iter().map(|one| one.name.clone()).collect();
    let cause = |cause: &Option<usize>| cause.and_then(|at| names.get(at).cloned());
    let causes: Vec<Option<String>> = causes.iter().map(cause).collect();
    let both = std::iter::zip(looked, standings).zip(causes);
    both.map(|((looked, standing), because_of)| Judged { looked, standing, because_of }).collect()
}

impl Judged<'_> {
    /// As the log has it.
    pub(super) fn line(&self) -> String {
        format!("{:<8}{}: {}", self.word(), self.looked.name, self.text())
    }

    /// The value against its threshold, then what of the looks before, and what explains it.
    fn text(&self) -> String {
        let mut text = self.looked.measured.text.clone();
        if let Some(of_late) = &self.standing.of_late {
            text += &format!("; {of_late}");
        }
        if let Some(cause) = &self.because_of {
            text += &format!("; because of {cause}");
        }
        text
    }

    fn named(&self) -> String {
        format!("{}: {}", self.looked.name, self.text())
    }

    fn severity(&self) -> CheckSeverity {
        self.looked.entry.severity()
    }

    fn fails(&self) -> bool {
        self.standing.is(CheckState::Failing)
    }

    fn word(&self) -> &'static str {
        match (self.standing.state, self.looked.measured.state) {
            // It fails for want of a measurement.
            (CheckState::Failing, State::Unknown) => State::Unknown.word(),
            (state, _) => state.word(),
        }
    }

    fn result(&self) -> serde_json::Value {
        let measured = &self.looked.measured;
        let mut result = json!({
            "name": self.looked.name, "check": self.looked.kind, "state": self.word(),
            "severity": Severity::from(self.severity()), "value": measured.value,
            "threshold": measured.threshold, "message": self.text(), "because_of": self.because_of,
        });
        if !measured.measures.is_empty() {
            result["measures"] = json!(measured.measures);
        }
        // Which the state alone does not tell.
        if self.fails() && self.word() == State::Unknown.word() {
            result["fails"] = json!(true);
        }
        result
    }

    fn checked(&self) -> Checked {
        Checked {
            name: self.looked.name.clone(),
            state: self.standing.state,
            severity: self.severity().into(),
            text: self.text(),
            because_of: self.because_of.clone(),
            measures: self.looked.measured.measures.clone(),
        }
    }
}

pub(super) fn verdict(judged: &[Judged<'_>]) -> Result<Report, JobError> {
    let bad: Vec<&Judged<'_>> = judged.iter().filter(|one| one.fails()).collect();
    let pending: Vec<&Judged<'_>> =
        judged.iter().filter(|one| one.standing.is(CheckState::Pending)).collect();
    let unjudged = judged.iter().filter(|one| one.standing.is(CheckState::Unknown)).count();
    let critical = bad.iter().filter(|one| one.severity() == CheckSeverity::Critical).count();
    let checks = judged.len();
    let plural = if checks == 1 { "" } else { "s" };
    let mut summary = match bad.len() {
        failed if failed > 0 => format!("{failed} of {checks} check{plural} failed: {}", first(&bad)),
        _ if !pending.is_empty() => {
            format!("{} of {checks} check{plural} may be failing: {}", pending.len(), first(&pending))
        }
        _ if unjudged > 0 => format!("{} of {checks} check{plural} are fine", checks - unjudged),
        _ if checks == 1 => "the check is fine".to_owned(),
        _ => format!("all {checks} checks are fine"),
    };
    if unjudged > 0 {
        summary += &format!("; {unjudged} had too little to judge by");
    }
    let results: Vec<serde_json::Value> = judged.iter().map(Judged::result).collect();
    let mut report =
        Report::new(summary).fact("checks", checks).fact("failed", bad.len()).fact("results", results);
    let finding = |one: &Judged<'_>| match one.standing.state {
        CheckState::Failing => Some(Finding { severity: one.severity().into(), message: one.named() }),
        CheckState::Pending => Some(Finding { severity: Severity::Info, message: one.named() }),
        CheckState::Ok | CheckState::Unknown => None,
    };
    report.findings = judged.iter().filter_map(finding).collect();
    report.checks = judged.iter().map(Judged::checked).collect();
    if critical > 0 { Err(JobError::Found(Box::new(report))) } else { Ok(report) }
}

fn first(some: &[&Judged<'_>]) -> String {
    let named: Vec<String> = some.iter().take(NAMED).map(|one| one.named()).collect();
    let more = some.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    named.join("; ") + &more
}
