use std::path::Path;

use serde_json::{Value, json};

use super::check::State;
use super::*;
use crate::document::from_text;
use crate::model::{Severity, Unit};

const THREE: &str = "checks:\n  - tcp: { address: '127.0.0.1:6379', name: redis }\n  - disk: { path: /srv }\n    \
                     severity: warning\n  - memory: {}\n";

fn read(yaml: &str) -> Result<HealthCheck, String> {
    from_text(Path::new("jobs.yaml"), yaml, HealthCheck::invalid).map_err(|problems| problems.to_string())
}

/// The verdict on these states of the three checks: whether the run succeeds, and its report.
fn judged(states: [State; 3]) -> (bool, Report) {
    let job = read(THREE).unwrap();
    let texts = ["connected in 1 ms", "12.5 % free, asked for: 20 %", "the memory can't be measured"];
    let looked: Vec<Looked<'_>> = std::iter::zip(job.checks.iter().zip(states), texts)
        .map(|((entry, state), text)| Looked {
            entry,
            kind: entry.one().unwrap().0,
            name: entry.name(),
            measured: Measured {
                state,
                ..Measured::of(true, text).against(12.5, 20.0).measuring("free", Unit::Ratio, 0.125, 0.2)
            },
        })
        .collect();
    match whole(&job, looked) {
        Ok(report) => (true, report),
        Err(JobError::Found(report)) => (false, *report),
        Err(other) => panic!("{other}"),
    }
}

/// The verdict on looks of checks to which no look before counts.
fn whole(job: &HealthCheck, looked: Vec<Looked<'_>>) -> Result<Report, JobError> {
    let look = |one: &Looked<'_>| Look {
        name: one.name.clone(),
        tolerance: one.entry.tolerance(),
        state: one.measured.state,
    };
    let standings: Vec<Standing> = looked.iter().map(|one| Standing::at_once(&look(one))).collect();
    let names = job.names();
    let nodes = job.nodes(&names, |at| standings[at].is(CheckState::Failing));
    let causes = causes::explain(&nodes);
    verdict(&judge(looked, standings, &causes))
}

fn findings(report: &Report) -> Vec<(Severity, &str)> {
    report.findings.iter().map(|finding| (finding.severity, finding.message.as_str())).collect()
}

#[test]
fn the_outcome_is_the_worst_of_the_checks_and_the_findings_name_each() {
    let (fine, report) = judged([State::Ok; 3]);
    assert_eq!((fine, report.summary.as_str()), (true, "all 3 checks are fine"));
    assert_eq!(report.findings, []);

    let disk = (Severity::Warning, "disk /srv: 12.5 % free, asked for: 20 %");
    let (fine, report) = judged([State::Ok, State::Failing, State::Ok]);
    assert!(fine, "a warning is no failure");
    assert_eq!(report.summary, "1 of 3 checks failed: disk /srv: 12.5 % free, asked for: 20 %");
    assert_eq!(findings(&report), [disk]);

    let memory = (Severity::Critical, "memory in use: the memory can't be measured");
    let (fine, report) = judged([State::Ok, State::Failing, State::Unknown]);
    assert!(!fine, "what can't be told is no better than failing");
    assert_eq!(findings(&report), [disk, memory]);

    let (fine, report) = judged([State::Failing, State::Ok, State::Ok]);
    assert!(!fine);
    assert_eq!(findings(&report), [(Severity::Critical, "redis: connected in 1 ms")]);
}

#[test]
fn the_report_has_a_result_for_each_check() {
    let (_, report) = judged([State::Ok, State::Failing, State::Unknown]);
    assert_eq!((&report.facts["checks"], &report.facts["failed"]), (&json!(3), &json!(2)));
    let measures = json!([{"quantity": "free", "unit": "ratio", "value": 0.125, "threshold": 0.2}]);
    let expected = json!([
        {"name": "redis", "check": "tcp", "state": "ok", "severity": "critical", "value": 12.5, "threshold": 20.0,
         "message": "connected in 1 ms", "because_of": null, "measures": measures},
        {"name": "disk /srv", "check": "disk", "state": "failing", "severity": "warning", "value": 12.5,
         "threshold": 20.0, "message": "12.5 % free, asked for: 20 %", "because_of": null, "measures": measures},
        {"name": "memory in use", "check": "memory", "state": "unknown", "severity": "critical", "value": 12.5,
         "threshold": 20.0, "message": "the memory can't be measured", "because_of": null, "measures": measures,
         "fails": true},
    ]);
    assert_eq!(report.facts["results"], expected);
}

#[test]
fn a_long_list_of_failures_is_cut_in_the_summary_only() {
    let entry = |at: usize| format!("  - disk: {{ path: /srv/{at} }}\n");
    let job = read(&format!("checks:\n{}", (0..5).map(entry).collect::<String>())).unwrap();
    let looked = job.checks.iter().map(|entry| Looked {
        entry,
        kind: "disk",
        name: entry.name(),
        measured: Measured::of(false, "full"),
    });
    let Err(JobError::Found(report)) = whole(&job, looked.collect()) else { panic!() };
    assert_eq!(
        report.summary,
        "5 of 5 checks failed: disk /srv/0: full; disk /srv/1: full; disk /srv/2: full; and 2 more"
    );
    assert_eq!(report.findings.len(), 5);
    assert_eq!(report.facts["results"][0]["value"], Value::Null);
}

#[tokio::test]
async fn a_check_that_panics_is_a_failing_check() {
    let at = std::env::args().count();
    let measured = caught(async move { Measured::of(true, ["fine"][at]) }).await;
    assert_eq!(measured.state, State::Failing);
    assert_eq!(
        measured.text,
        format!("a bug: the check panicked: index out of bounds: the len is 1 but the index is {at}")
    );
    assert_eq!(caught(async { panic!("boom") }).await.text, "a bug: the check panicked: boom");
    assert_eq!(caught(async { Measured::of(true, "fine") }).await.text, "fine");
}

#[test]
fn what_makes_no_sense_is_told_where_it_stands() {
    let check = |yaml: &str, expected: &[&str]| {
        let said = read(yaml).map(|_| String::new()).unwrap_or_else(|said| said);
        for words in expected {
            assert!(said.contains(words), "{yaml}\n{said}\nlacks: {words}");
        }
        assert_eq!(said.is_empty(), expected.is_empty(), "{said}");
    };
    check(THREE, &[]);
    check("checks: []\n", &["there is no check", "one of: http, ", ", disk, "]);
    check("checks:\n  - name: x\n", &["jobs.yaml:2:5", "a check needs a key that says what is looked at"]);
    check("checks:\n  - http:\n", &["jobs.yaml:2:5", "the key `url` is missing"]);
    check("checks:\n  - memory:\n  - disk:\n", &[]);
    check("checks:\n  - disk: {}\n    load: {}\n", &["jobs.yaml:3:", "a check looks at one thing"]);
    check("checks:\n  - dsik: {}\n", &["jobs.yaml:2:5", "dsik", "disk"]);
    check("checks:\n  - disk: { pth: / }\n", &["jobs.yaml:2:13", "pth", "path"]);
    check("checks:\n  - disk: { path: srv }\n", &["jobs.yaml:2:19", "must be an absolute path"]);
    check("checks:\n  - disk: { free: 20 }\n", &["jobs.yaml:2:19", "not a percentage"]);
    check(
        "checks:\n  - disk: { name: a }\n  - disk: {}\n    name: a\n",
        &["jobs.yaml:3:", "two checks are called `a`"],
    );
    check("checks:\n  - disk: { name: a }\n    name: b\n", &["`name` stands beside `disk` and within it"]);
    check("checks:\n  - cpu: { over: 10ms }\n", &["jobs.yaml:2:18", "`over` must lie between 1s and 1d"]);
    check("checks:\n  - load: { per_core_below: -1 }\n", &["jobs.yaml:2:29", "no load is below -1"]);
    // Always failing, which is a way to see who hears of a failure.
    check(
        "checks:\n  - load: { per_core_below: 0 }\n  - cpu: { below: 0% }\n  - memory: { below: 0% }\n",
        &[],
    );
    check("checks:\n  - load: { per_core_below: 2 }\n  - cpu: {}\n  - cpu: { over: 15m }\n", &[]);
}

#[test]
fn the_same_thing_may_be_looked_at_twice() {
    let names = |yaml: &str| read(yaml).unwrap().names();
    assert_eq!(
        names(
            "checks:\n  - disk: { free: 30%, severity: warning }\n  - disk: { free: 20% }\n  - disk: {}\n  - memory:\n"
        ),
        ["disk /", "disk / (2)", "disk / (3)", "memory in use"]
    );
    assert_eq!(
        names("checks:\n  - disk: {}\n  - disk: {}\n  - disk: {}\n  - disk: { name: disk / (2) }\n"),
        ["disk /", "disk / (3)", "disk / (4)", "disk / (2)"],
        "a given name is nobody else's"
    );
}

#[test]
fn a_name_is_one_short_line() {
    let told = |name: &str, more: &str| {
        let yaml = format!("checks: [{{ {name}, tcp: {{ address: 'h:1'{more} }} }}]\n");
        read(&yaml).map(|job| job.names().concat())
    };
    let long = "é".repeat(200);
    assert_eq!(told(&format!("name: '{long}'"), ""), Ok(long.clone()));
    let check = |name: &str, more: &str, place: &str, expected: &str| {
        let error = told(name, more).unwrap_err();
        assert!(error.contains(&format!(":{place}: error: {expected}")), "{error}");
    };
    check(&format!("name: 'x{long}'"), "", "1:18", "a name has at most 200 letters: this one has 201");
    check(r#"name: "a\nb""#, "", "1:18", "a name has no control characters and one line");
    let within = r#", name: "a\e[2J""#;
    check("severity: warning", within, "1:60", "a name has no control characters and one line");
}
