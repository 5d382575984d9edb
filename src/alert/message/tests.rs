use super::*;
use crate::ledger::Incident;
use crate::model::{Channel, CheckState, Checked, Finding, JobName, Outcome, RunId, Severity};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn notice(kind: NoticeKind) -> Notice {
    Notice {
        id: "1-2-3".into(),
        at: at("2026-11-22T23:01:00Z"),
        job: JobName::new("db-backup").unwrap(),
        run: RunId(812),
        contact: "infra".into(),
        channel: Channel::Email,
        kind,
        story: serde_json::Value::Null,
    }
}

fn story(outcome: Outcome, failures: u64) -> Story {
    let first = at("2026-11-22T23:01:00Z");
    let incident = Incident::of_job(JobName::new("db-backup").unwrap(), RunId(812), first);
    let incident = Incident { failures, told_at: Some(first), ..incident };
    Story::new("web1", &incident, outcome, at("2026-11-22T23:01:00.5Z"))
}

fn message(notice: &Notice, story: &Story, log: &[&str]) -> (String, String, serde_json::Value) {
    message_in(Language::En, notice, story, log)
}

fn message_in(
    language: Language,
    notice: &Notice,
    story: &Story,
    log: &[&str],
) -> (String, String, serde_json::Value) {
    let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
    let zone = TimeZone::get("Africa/Lagos").unwrap();
    let message = Message { notice, story, log: &log, zone: &zone, language };
    (message.subject(), message.text(), message.json())
}

fn monitoring() -> JobName {
    JobName::new("monitoring").unwrap()
}

/// Of one of its checks.
fn incident(name: &str, severity: Severity, failures: u64) -> Incident {
    Incident {
        check: Some(name.into()),
        severity,
        failures,
        ..Incident::of_job(monitoring(), RunId(812), at("2026-11-22T23:01:00Z"))
    }
}

#[test]
fn a_failure_whole() {
    let story = Story {
        description: Some("Nightly dump of the shop's database, en français é".into()),
        attempts: 3,
        started_at: Some(at("2026-11-22T23:00:00Z")),
        ..story(Outcome::Failed, 1)
    };
    let story = story
        .reason(Some("pg_dump: error: the server said\nFATAL: no"))
        .findings(&[Finding::warning("the disk is nearly full")]);
    let (subject, text, json) = message(&notice(NoticeKind::Failed), &story, &["23:00:00 stderr| FATAL: no"]);
    assert_eq!(subject, "[punk-eco-sched] db-backup failed on web1");
    let expected = "\
db-backup failed on web1.
Nightly dump of the shop's database, en français é

  reason    pg_dump: error: the server said
            FATAL: no
  run       812, 3 attempts
  began     2026-11-23 00:00:00+01:00
  ended     2026-11-23 00:01:00+01:00

What it found:

  warning: the disk is nearly full

The last lines of its log:

  23:00:00 stderr| FATAL: no

What to type next:

  punk-eco-sched show 812
  punk-eco-sched logs db-backup --run 812
  punk-eco-sched run-now db-backup

Further failures are not told, but for a reminder now and then; its recovery will be.
";
    assert_eq!(text, expected);
    assert_eq!(
        json,
        serde_json::json!({
            "id": "1-2-3",
            "event": "failed",
            "job": "db-backup",
            "host": "web1",
            "run": 812,
            "outcome": "failed",
            "reason": "pg_dump: error: the server said\nFATAL: no",
            "attempts": 3,
            "started_at": "2026-11-22T23:00:00Z",
            "ended_at": "2026-11-22T23:01:00.5Z",
            "since": "2026-11-22T23:01:00Z",
            "failures": 1,
            "findings": [{ "severity": "warning", "message": "the disk is nearly full" }],
            "checks": [],
            "log": ["23:00:00 stderr| FATAL: no"],
            "next": [
                "punk-eco-sched show 812",
                "punk-eco-sched logs db-backup --run 812",
                "punk-eco-sched run-now db-backup"
            ],
            "text": format!("[punk-eco-sched] db-backup failed on web1\n\n{expected}"),
        })
    );
}

#[test]
fn a_recovery_says_since_when_it_failed() {
    let notice = Notice { run: RunId(815), ..notice(NoticeKind::Recovered) };
    let story = story(Outcome::Succeeded, 3).reason(Some("dumped punk_eco"));
    let (subject, text, json) = message(&notice, &story, &[]);
    assert_eq!(subject, "[punk-eco-sched] db-backup recovered on web1");
    assert_eq!(
        text,
        "\
db-backup recovered on web1.

  done      dumped punk_eco
  run       815
  ended     2026-11-23 00:01:00+01:00
  failing   since 2026-11-23 00:01:00+01:00: 3 runs failed, the first was run 812

What to type next:

  punk-eco-sched show 815
  punk-eco-sched logs db-backup --run 815
  punk-eco-sched history db-backup
"
    );
    assert_eq!((&json["event"], &json["failures"]), (&"recovered".into(), &3.into()));
}

#[test]
fn the_headline_tells_how_it_ended() {
    let check = |outcome, expected: &str| {
        let (subject, _, _) = message(&notice(NoticeKind::Failed), &story(outcome, 1), &[]);
        assert_eq!(subject, expected);
    };
    check(Outcome::TimedOut, "[punk-eco-sched] db-backup timed out on web1");
    check(Outcome::Interrupted, "[punk-eco-sched] db-backup was interrupted on web1");
}

#[test]
fn a_job_that_says_much_is_cut() {
    let findings: Vec<Finding> = (0..1000).map(|_| Finding::warning("é".repeat(5000))).collect();
    let described = Story {
        description: Some(format!("\u{1b}[31m{}", "x".repeat(1 << 20))),
        ..story(Outcome::Failed, 1)
    };
    let story = described.reason(Some(&"x".repeat(1 << 20))).findings(&findings);
    assert_eq!((story.findings.len(), story.more_findings), (20, 980));
    assert!(story.findings[0].message.ends_with("é […]"));
    let (_, text, _) = message(&notice(NoticeKind::Failed), &story, &[]);
    assert!(text.len() < 20_000, "{}", text.len());
    assert!(text.contains("\n  and 980 more\n"), "{text}");
    assert!(text.starts_with("db-backup failed on web1.\n\\x1b[31mxxx"), "{text}");
}

fn checked(name: &str, severity: Severity, because_of: Option<&str>) -> Checked {
    let because_of = because_of.map(str::to_owned);
    Checked {
        name: name.into(),
        state: CheckState::Failing,
        severity,
        text: format!("{name} is bad"),
        because_of,
        measures: vec![],
    }
}

#[test]
fn checks_that_begin_to_fail_in_one_run_are_one_message() {
    let seen = [
        checked("db", Severity::Critical, None),
        checked("disk /", Severity::Warning, None),
        checked("page", Severity::Critical, Some("db")),
    ];
    let monitoring = monitoring();
    let both = [incident("db", Severity::Critical, 1), incident("disk /", Severity::Warning, 2)];
    let of = |kind| Notice { job: monitoring.clone(), ..notice(kind) };
    let told = |incidents: &[Incident]| story(Outcome::Failed, 1).about(incidents, &seen);
    let (subject, text, json) = message(&of(NoticeKind::Failed), &told(&both), &[]);
    assert_eq!(subject, "[punk-eco-sched] monitoring: 2 checks failed on web1");
    assert_eq!(
        text,
        "\
monitoring: 2 checks failed on web1.

  run       812
  at        2026-11-23 00:01:00+01:00

  db: db is bad
    since 2026-11-23 00:01:00+01:00
    therefore also: page
  disk / (warning): disk / is bad
    since 2026-11-23 00:01:00+01:00, in 2 runs

What to type next:

  punk-eco-sched show 812
  punk-eco-sched logs monitoring --run 812
  punk-eco-sched run-now monitoring

Further failures are not told, but for a reminder now and then; its recovery will be.
"
    );
    assert_eq!(json["checks"][0]["name"], "db");
    assert_eq!(json["checks"][0]["consequences"], serde_json::json!(["page"]));
    let subject = |kind, incidents: &[Incident]| message(&of(kind), &told(incidents), &[]).0;
    assert_eq!(subject(NoticeKind::Failed, &both[..1]), "[punk-eco-sched] monitoring: db failed on web1");
    assert_eq!(
        subject(NoticeKind::Reminder, &both),
        "[punk-eco-sched] monitoring: 2 checks still fail on web1"
    );
    assert_eq!(
        subject(NoticeKind::Recovered, &both[1..]),
        "[punk-eco-sched] monitoring: disk / recovered on web1"
    );
    assert_eq!(
        subject(NoticeKind::Flapping, &both[..1]),
        "[punk-eco-sched] monitoring: db fails and recovers by turns on web1"
    );
    let (_, text, _) = message(&of(NoticeKind::Recovered), &told(&both[1..]), &[]);
    assert!(text.contains("\n    it failed in 2 runs, since 2026-11-23 00:01:00+01:00\n"), "{text}");
}

#[test]
fn a_failure_whole_in_french() {
    let story =
        Story { attempts: 3, started_at: Some(at("2026-11-22T23:00:00Z")), ..story(Outcome::Failed, 2) };
    let story = story
        .reason(Some("pg_dump: error: the server said\nFATAL: no"))
        .findings(&[Finding::warning("the disk is nearly full"), Finding::warning("so is the other")]);
    let notice = notice(NoticeKind::Failed);
    let (subject, text, json) = message_in(Language::Fr, &notice, &story, &["23:00:00 stderr| FATAL: no"]);
    assert_eq!(subject, "[punk-eco-sched] db-backup a échoué sur web1");
    assert_eq!(
        text.replace('\u{a0}', "~"),
        "\
db-backup a échoué sur web1.

  raison     pg_dump: error: the server said
             FATAL: no
  exécution  812, 3 tentatives
  début      2026-11-23 00:00:00+01:00
  fin        2026-11-23 00:01:00+01:00
  en échec   depuis 2026-11-23 00:01:00+01:00~: 2 exécutions, dont la première est la 812

Ce qui a été constaté~:

  avertissement~: the disk is nearly full
  avertissement~: so is the other

Les dernières lignes de son journal~:

  23:00:00 stderr| FATAL: no

À taper ensuite~:

  punk-eco-sched show 812
  punk-eco-sched logs db-backup --run 812
  punk-eco-sched run-now db-backup

Les échecs suivants ne sont pas annoncés, hormis un rappel de temps en temps~; le rétablissement le sera.
"
    );
    // What programs read is the same in every language.
    assert_eq!((&json["event"], &json["outcome"]), (&"failed".into(), &"failed".into()));
    assert!(json["text"].as_str().unwrap().contains("a échoué"));
}

#[test]
fn a_recovery_and_checks_in_french() {
    let recovered = Notice { run: RunId(815), ..notice(NoticeKind::Recovered) };
    let (_, text, _) = message_in(
        Language::Fr,
        &recovered,
        &story(Outcome::Succeeded, 1).reason(Some("dumped punk_eco")),
        &[],
    );
    assert_eq!(
        text.replace('\u{a0}', "~"),
        "\
db-backup fonctionne de nouveau sur web1.

  fait       dumped punk_eco
  exécution  815
  fin        2026-11-23 00:01:00+01:00
  en échec   depuis 2026-11-23 00:01:00+01:00~: 1 exécution, la 812

À taper ensuite~:

  punk-eco-sched show 815
  punk-eco-sched logs db-backup --run 815
  punk-eco-sched history db-backup
"
    );
    let monitoring = monitoring();
    let both = [incident("db", Severity::Critical, 1), incident("disk /", Severity::Warning, 2)];
    let seen = [
        checked("db", Severity::Critical, None),
        checked("disk /", Severity::Warning, None),
        checked("page", Severity::Critical, Some("db")),
    ];
    let reminder = Notice { job: monitoring.clone(), ..notice(NoticeKind::Reminder) };
    let (subject, text, _) =
        message_in(Language::Fr, &reminder, &story(Outcome::Failed, 1).about(&both, &seen), &[]);
    assert_eq!(
        subject.replace('\u{a0}', "~"),
        "[punk-eco-sched] monitoring~: 2 contrôles échouent toujours sur web1"
    );
    assert_eq!(
        text.replace('\u{a0}', "~"),
        "\
monitoring~: 2 contrôles échouent toujours sur web1.

  exécution  812
  heure      2026-11-23 00:01:00+01:00

  db~: db is bad
    depuis 2026-11-23 00:01:00+01:00
    par conséquent aussi~: page
  disk / (avertissement)~: disk / is bad
    depuis 2026-11-23 00:01:00+01:00, lors de 2 exécutions

À taper ensuite~:

  punk-eco-sched show 812
  punk-eco-sched logs monitoring --run 812
  punk-eco-sched run-now monitoring

Ce rappel revient tant que l'échec dure~; le rétablissement sera annoncé.
"
    );
}
