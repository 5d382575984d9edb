use super::*;
use crate::model::{Channel, JobName, Outcome, RunId};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn notice(number: i64, job: &str, kind: NoticeKind, reason: &str) -> Notice {
    let began = at("2026-11-22T23:01:00Z");
    let job = JobName::new(job).unwrap();
    let incident = Incident::of_job(job.clone(), RunId(number), began);
    let outcome = if kind == NoticeKind::Recovered { Outcome::Succeeded } else { Outcome::Failed };
    let story = Story::new("web1", &incident, outcome, began).reason(Some(reason));
    Notice {
        id: format!("1.2.{number}"),
        at: began + std::time::Duration::from_secs(u64::try_from(number).unwrap()),
        job,
        run: RunId(number),
        contact: "infra".into(),
        channel: Channel::Email,
        kind,
        story: serde_json::to_value(story).unwrap(),
    }
}

fn said(notices: &[Notice], language: Language) -> Said {
    let (notices, zone) = (notices.iter().collect::<Vec<_>>(), TimeZone::get("Africa/Lagos").unwrap());
    Digest { notices: &notices, host: "web1", now: at("2026-11-22T23:05:00Z"), zone: &zone, language }.said()
}

fn three() -> [Notice; 3] {
    let unreadable = Notice { story: "?".into(), ..notice(3, "c", NoticeKind::Reminder, "") };
    [
        notice(1, "a", NoticeKind::Failed, "exit code 7\n  said twice"),
        notice(2, "a", NoticeKind::Recovered, "dumped"),
        unreadable,
    ]
}

#[test]
fn each_notice_has_its_lines_in_their_order() {
    let said = said(&three(), Language::En);
    assert_eq!(said.subject, "[punk-eco-sched] 3 messages: 1 failed, 1 still fails, 1 recovered on web1");
    assert_eq!(
        said.text,
        "\
3 messages: 1 failed, 1 still fails, 1 recovered on web1.
They are one message because many came at once.

  a failed, since 2026-11-23 00:01:00+01:00: exit code 7 said twice
    punk-eco-sched show 1
  a recovered, it failed since 2026-11-23 00:01:00+01:00: dumped
    punk-eco-sched show 2
  c still fails, since 2026-11-23 00:01:03+01:00
    punk-eco-sched show 3

What to type next:

  punk-eco-sched status
  punk-eco-sched history --since 2026-11-22T23:01:00Z -n 1000000
"
    );
    assert_eq!((said.tone, said.sender.as_str()), (Tone::Critical, "punk-eco-sched on web1"));
    assert_eq!(
        said.document,
        serde_json::json!({
            "id": "digest.3169df760df1a641addfe67b346e24e7",
            "event": "digest",
            "job": null,
            "host": "web1",
            "count": 3,
            "notices": [
                { "id": "1.2.1", "event": "failed", "job": "a", "run": 1, "outcome": "failed",
                  "reason": "exit code 7 said twice", "since": "2026-11-22T23:01:00Z", "failures": 1, "checks": [] },
                { "id": "1.2.2", "event": "recovered", "job": "a", "run": 2, "outcome": "succeeded",
                  "reason": "dumped", "since": "2026-11-22T23:01:00Z", "failures": 1, "checks": [] },
                { "id": "1.2.3", "event": "reminder", "job": "c", "run": 3, "outcome": "failed",
                  "reason": null, "since": "2026-11-22T23:01:03Z", "failures": 1, "checks": [] },
            ],
            "more": 0,
            "next": ["punk-eco-sched status", "punk-eco-sched history --since 2026-11-22T23:01:00Z -n 1000000"],
            "text": format!("{}\n\n{}", said.subject, said.text),
        })
    );
}

#[test]
fn the_same_in_french() {
    let said = said(&three()[..2], Language::Fr);
    assert_eq!(
        said.text.replace('\u{a0}', "~"),
        "\
2 messages~: 1 échec, 1 rétablissement sur web1.
Ils sont réunis en un seul, car beaucoup sont venus à la fois.

  a a échoué, depuis 2026-11-23 00:01:00+01:00~: exit code 7 said twice
    punk-eco-sched show 1
  a fonctionne de nouveau, en échec depuis 2026-11-23 00:01:00+01:00~: dumped
    punk-eco-sched show 2

À taper ensuite~:

  punk-eco-sched status
  punk-eco-sched history --since 2026-11-22T23:01:00Z -n 1000000
"
    );
    assert_eq!(said.sender, "punk-eco-sched sur web1");
}

#[test]
fn ten_thousand_are_bounded_and_what_lists_them_is_said() {
    let long = "x\n".repeat(10_000);
    let many: Vec<Notice> =
        (0..10_000).map(|number| notice(number, &format!("j{number}"), NoticeKind::Failed, &long)).collect();
    let digest = said(&many, Language::En);
    assert!(digest.text.len() < 40_000, "{}", digest.text.len());
    assert!(digest.document.to_string().len() < 100_000, "{}", digest.document.to_string().len());
    assert_eq!(digest.text.matches(" failed, since ").count(), 100);
    assert!(digest.text.contains("\n  and 9900 more\n\nWhat to type next:\n\n  punk-eco-sched status\n"));
    assert_eq!((&digest.document["count"], &digest.document["more"]), (&10_000.into(), &9900.into()));
    // The same ones are the same message, and others are another.
    assert_eq!(digest.id, said(&many, Language::En).id);
    assert_ne!(digest.id, said(&many[1..], Language::En).id);
}

#[test]
fn what_is_well_again_alarms_nobody() {
    let tone = |kinds: &[NoticeKind]| {
        let notices: Vec<Notice> = kinds.iter().map(|kind| notice(1, "a", *kind, "x")).collect();
        said(&notices, Language::En).tone
    };
    assert_eq!(tone(&[NoticeKind::Recovered, NoticeKind::Recovered]), Tone::Good);
    assert_eq!(tone(&[NoticeKind::Recovered, NoticeKind::Failed]), Tone::Critical);
    let mut late = vec![NoticeKind::Recovered; 100];
    late.push(NoticeKind::Failed);
    assert_eq!(tone(&late), Tone::Critical);
}

#[test]
fn what_lists_the_runs_asks_by_what_history_sorts_them_by() {
    let next = |notices: &[Notice]| said(notices, Language::En).document["next"][1].clone();
    let with = |number, change: fn(&mut Story)| {
        let mut notice = notice(number, "a", NoticeKind::Failed, "x");
        let mut story: Story = serde_json::from_value(notice.story).unwrap();
        change(&mut story);
        notice.story = serde_json::to_value(story).unwrap();
        notice
    };
    let check = |notices: &[Notice], expected: &str| {
        assert_eq!(next(notices), format!("punk-eco-sched history --since {expected} -n 1000000"));
    };
    let hour = |story: &mut Story| story.started_at = Some(at("2026-11-22T22:00:00.9Z"));
    check(&[with(1, hour), with(2, |_| ())], "2026-11-22T22:00:00Z");
    // It was caught up on, hours after its slot.
    let late = |story: &mut Story| {
        (story.slot, story.started_at) =
            (Some(at("2026-11-22T09:00:00Z")), Some(at("2026-11-22T23:00:00Z")));
    };
    check(&[with(1, hour), with(2, late)], "2026-11-22T09:00:00Z");
    let ledger = Notice { job: JobName::ledger(), ..notice(0, "a", NoticeKind::Failed, "disk full") };
    assert_eq!(next(&[ledger.clone(), ledger]), serde_json::Value::Null);
}
