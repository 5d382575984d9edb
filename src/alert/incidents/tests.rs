use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

fn job() -> JobName {
    JobName::new("a").unwrap()
}

fn end(run: i64, outcome: Outcome, at: Timestamp) -> (JobName, RunId, Outcome, Timestamp) {
    (job(), RunId(run), outcome, at)
}

fn of((job, run, outcome, at): &(JobName, RunId, Outcome, Timestamp)) -> End<'_> {
    End {
        job,
        run: *run,
        outcome: *outcome,
        at: *at,
        reason: Some("why"),
        checks: &[],
        heard: true,
        quiet: false,
    }
}

fn told(change: Option<&Change>) -> String {
    match change.and_then(|change| change.tell.as_ref()) {
        Some((NoticeKind::Failed, incident)) => format!("F{}", incident.failures),
        Some((NoticeKind::Recovered, incident)) => format!("R{}", incident.failures),
        Some((NoticeKind::Held, _)) => "H".to_owned(),
        Some((NoticeKind::Reminder, incident)) => format!("again{}", incident.failures),
        Some((NoticeKind::Flapping, _)) => "flaps".to_owned(),
        None => ".".to_owned(),
    }
}

/// Runs of one job in turn, two hours apart, a letter each: `s`ucceeded, `f`ailed, `t`imed out, `i`nterrupted,
/// `c`ancelled, s`k`ipped; in capitals where nobody would hear of it. What is told after each: `F`ailed or
/// `R`ecovered with the failures counted so far, `.` for nothing; then what is open at the end.
fn check(runs: &str, expected: &str, open: &str) {
    let mut incidents = Incidents::default();
    let mut found = String::new();
    for (number, letter) in (1..).zip(runs.chars()) {
        let outcome = match letter.to_ascii_lowercase() {
            's' => Outcome::Succeeded,
            'f' => Outcome::Failed,
            't' => Outcome::TimedOut,
            'i' => Outcome::Interrupted,
            'c' => Outcome::Cancelled,
            _ => Outcome::Skipped,
        };
        let ended = end(number, outcome, minute(120 * number));
        let changes = incidents.ended(&End { heard: letter.is_ascii_lowercase(), ..of(&ended) });
        assert!(changes.len() < 2, "{runs}");
        found += &told(changes.first());
    }
    assert_eq!(found, expected, "{runs}");
    let shown = incidents.open().map(|one| {
        assert_eq!(one.opened_at, minute(120 * one.run.0), "{runs}");
        let told = if one.told_at.is_some() { "told" } else { "untold" };
        format!("since {}: {} {told}", one.run, one.failures)
    });
    assert_eq!(shown.collect::<String>(), open, "{runs}");
}

#[test]
fn a_failure_is_told_once_and_so_is_its_end() {
    check("s", ".", "");
    check("f", "F1", "since 1: 1 told");
    check("t", "F1", "since 1: 1 told");
    check("i", "F1", "since 1: 1 told");
    check("fffs", "F1..R3", "");
    check("ftifs", "F1...R4", "");
    check("sfsfs", ".F1R1F1R1", "");
    check("fss", "F1R1.", "");
    // Neither says anything about the job.
    check("cks", "...", "");
    check("fcks", "F1..R1", "");
    check("sfcf", ".F1..", "since 2: 2 told");
    // Nobody was to be told when it began.
    check("FFf", "..F3", "since 1: 3 told");
    check("Ffs", ".F2R2", "");
    check("FS", "..", "");
    check("Fs", "..", "");
    check("fS", "F1.", "");
}

/// Runs of one job, five minutes apart unless a number says how many minutes pass; what is told after each, or when
/// it is due between them (in parentheses), reminders each day.
fn flaps(runs: &[&str], expected: &str) {
    let mut incidents = Incidents::default();
    let (mut found, mut now) = (vec![], minute(0));
    for (number, word) in (1..).zip(runs) {
        let next = now + jiff::SignedDuration::from_mins(word.parse().unwrap_or(5));
        while let Some(due) = incidents.due(DAY).filter(|due| *due <= next) {
            let changes = incidents.tick(due, DAY, |_| true);
            assert!(!changes.is_empty(), "what was due stays due");
            found.extend(changes.iter().map(|change| format!("({})", told(Some(change)))));
        }
        now = next;
        let outcome = match *word {
            "f" => Outcome::Failed,
            "s" => Outcome::Succeeded,
            _ => continue,
        };
        let ended = end(number, outcome, now);
        found.extend(incidents.ended(&of(&ended)).iter().map(|change| told(Some(change))));
    }
    assert_eq!(found.join(" "), expected, "{runs:?}");
}

#[test]
fn what_comes_and_goes_is_told_once_until_it_is_steady() {
    flaps(&["f", "s", "f", "s", "f", "s", "f", "s", "f"], "F1 R1 F1 R1 flaps . . . .");
    // It stays well for half an hour.
    flaps(&["f", "s", "f", "s", "f", "s", "f", "s", "60"], "F1 R1 F1 R1 flaps . . . (R1)");
    flaps(&["f", "s", "f", "s", "f", "s", "s", "s", "s", "s", "s", "s"], "F1 R1 F1 R1 flaps . (R1)");
    // It stays broken.
    flaps(&["f", "s", "f", "s", "f", "f", "f", "60"], "F1 R1 F1 R1 flaps . . (F3)");
    flaps(&["f", "s", "f", "s", "f", "60", "s"], "F1 R1 F1 R1 flaps (F1) R1");
    // Twice in an hour is no flapping, nor is it over more than one.
    flaps(&["f", "s", "f", "s", "50", "f", "s"], "F1 R1 F1 R1 F1 R1");
    // Steady, and then again.
    flaps(&["f", "s", "f", "s", "f", "s", "90", "f", "s"], "F1 R1 F1 R1 flaps . (R1) F1 R1");
}

#[test]
fn what_lasts_is_told_again_each_day() {
    flaps(&["f", "1440"], "F1 (again1)");
    flaps(&["f", "1439"], "F1");
    flaps(&["f", "f", "2880", "s", "1440"], "F1 . (again2) (again2) R2");
    flaps(&["s", "2880"], "");
}

#[test]
fn a_pause_keeps_failures_and_reminders_to_itself() {
    let mut incidents = Incidents::default();
    let failed = end(1, Outcome::Failed, minute(1));
    assert_eq!(incidents.ended(&End { quiet: true, ..of(&failed) })[0].tell, None);
    assert_eq!(incidents.due(DAY), None);
    let failed = end(2, Outcome::Failed, minute(2));
    assert_eq!(told(incidents.ended(&of(&failed)).first()), "F2");
    let changes = incidents.tick(minute(2 + 1440), DAY, |_| false);
    assert_eq!((changes.len(), &changes[0].tell), (1, &None));
    assert_eq!(incidents.due(DAY), Some(minute(2 + 2 * 1440)));
    // That it works again is told all the same.
    let works = end(3, Outcome::Succeeded, minute(1500));
    assert_eq!(told(incidents.ended(&End { quiet: true, ..of(&works) }).first()), "R2");
}

fn checked(name: &str, state: CheckState, because_of: Option<&str>) -> Checked {
    let because_of = because_of.map(str::to_owned);
    let text = format!("{name} measured");
    Checked { name: name.into(), state, severity: Severity::Critical, text, because_of, measures: vec![] }
}

/// A check a word: its name, then `+` ok, `-` failing, `~` pending, `?` unknown, `=` failing because of `db`.
fn looks(incidents: &mut Incidents, at: i64, outcome: Outcome, words: &str) -> String {
    let one = |word: &str| {
        let (name, state) = word.split_at(word.len() - 1);
        match state {
            "+" => checked(name, CheckState::Ok, None),
            "-" => checked(name, CheckState::Failing, None),
            "~" => checked(name, CheckState::Pending, None),
            "?" => checked(name, CheckState::Unknown, None),
            _ => checked(name, CheckState::Failing, Some("db")),
        }
    };
    let checks: Vec<Checked> = words.split_whitespace().map(one).collect();
    let ended = end(at, outcome, minute(at));
    let changes = incidents.ended(&End { checks: &checks, ..of(&ended) });
    let say = |change: &Change| {
        let (_, incident) = change.tell.as_ref()?;
        let told = told(Some(change));
        let what = told.trim_end_matches(char::is_numeric);
        Some(format!("{}{what}", incident.check.as_deref().unwrap_or("job ")))
    };
    changes.iter().filter_map(say).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_check_of_a_job_has_an_incident_of_its_own() {
    let mut all = Incidents::default();
    let mut look = |at, outcome, words: &str| looks(&mut all, at, outcome, words);
    let (failed, succeeded) = (Outcome::Failed, Outcome::Succeeded);
    assert_eq!(look(0, succeeded, "db+ page+ disk+"), "");
    assert_eq!(look(100, failed, "db+ page+ disk-"), "diskF");
    assert_eq!(look(200, failed, "db- page= disk-"), "dbF");
    // Neither says that it is well.
    assert_eq!(look(300, failed, "db~ page+ disk?"), "");
    assert_eq!(look(400, failed, "db- page= disk-"), "");
    // The cause is gone, what it had caused is not.
    assert_eq!(look(500, failed, "db+ page- disk-"), "dbR pageF");
    assert_eq!(look(600, failed, "db+ page- disk+"), "diskR");
    // A run that never got as far says nothing of them.
    assert_eq!(look(700, Outcome::TimedOut, ""), "job F");
    assert_eq!(look(800, succeeded, "db+ page+ disk+"), "job R pageR");
    // One that is asked for no more is forgotten.
    assert_eq!(look(900, failed, "db+ page- disk+"), "pageF");
    assert_eq!(look(1000, succeeded, "db+ disk+"), "");
    assert_eq!(all.open().count(), 0);
}

#[test]
fn what_is_written_is_what_is_known() {
    let (a, b) = (job(), JobName::new("b").unwrap());
    let incident = |failures| Incident {
        failures,
        reason: Some("why".into()),
        told_at: Some(minute(1)),
        ..Incident::of_job(a.clone(), RunId(1), minute(1))
    };
    let mut incidents = Incidents::new([incident(1)]);
    let failed = end(2, Outcome::Failed, minute(2));
    let changes = incidents.ended(&of(&failed));
    assert_eq!(changes, [Change { write: Write::Incident(incident(2)), tell: None }]);
    assert_eq!(incidents.keep_only(|job| *job == a), []);
    assert_eq!(incidents.keep_only(|job| *job == b), [Write::IncidentGone { job: a.clone(), check: None }]);
    let works = end(3, Outcome::Succeeded, minute(3));
    assert_eq!(incidents.ended(&of(&works)), []);
    incidents.replace(&a, vec![incident(7)]);
    let changes = incidents.ended(&of(&works));
    let closed = Incident { closed_at: Some(minute(3)), ..incident(7) };
    let kept = Incident { told_at: None, ..closed.clone() };
    let tell = Some((NoticeKind::Recovered, closed));
    assert_eq!(changes, [Change { write: Write::Incident(kept), tell }]);
    // Kept for an hour, in case it comes again.
    let later = end(4, Outcome::Succeeded, minute(62));
    assert_eq!(incidents.ended(&of(&later)), []);
    let later = end(4, Outcome::Succeeded, minute(63));
    let gone = Write::IncidentGone { job: a.clone(), check: None };
    assert_eq!(incidents.ended(&of(&later)), [Change { write: gone, tell: None }]);
    incidents.replace(&a, vec![incident(7)]);
    incidents.replace(&a, vec![]);
    assert!(incidents.is_neutral(Outcome::Succeeded));
}
