//! Who hears of a failure: a real daemon, a real mail server, and a webhook's receiver.

mod attacks;
mod bad_nights;
mod bad_servers;
mod checks;
mod ends;
mod forms;
mod heartbeat;
mod mail;
mod outage;
mod site;
mod storm;
mod trial;

use crate::support::daemon::{Host, wait_until};
use crate::support::smtp::{self, Smtp};
use crate::support::webhook::Webhook;

/// `contacts:` and `alerts:` with this mail server and whoever is named in `to`.
fn top(smtp: &Smtp, to: &str) -> String {
    format!(
        "contacts:\n  infra: {{ email: infra@shop.test }}\n  security: {{ email: security@shop.test }}\n\
         alerts: {{ smtp: {{ {} }}, to: {to} }}",
        smtp.section()
    )
}

/// A job that does as the file beside it says: `ok`, or an exit code.
fn moody(host: &Host, name: &str) -> String {
    let mood = host.path("mood");
    let mood = mood.display();
    format!(
        "  {name}:\n    description: What the test wants é\n    \
         command: {{ shell: 'echo \"the mood is $(cat {mood})\"; test $(cat {mood}) = ok || exit $(cat {mood})' }}\n"
    )
}

fn set_mood(host: &Host, mood: &str) {
    std::fs::write(host.path("mood"), mood).unwrap();
}

/// Runs a job to its end; the exit code of `run-now`.
fn run(host: &Host, job: &str) -> Option<i32> {
    host.cli(&["run-now", job]).status.code()
}

/// The host's name, as in messages.
fn name() -> String {
    nix::unistd::gethostname().unwrap().into_string().unwrap()
}

/// A text of a mail with its instants and seconds as `…`, and the host as `HOST`.
fn without_times(text: &str) -> String {
    let number = |letter: char| letter.is_ascii_digit() || matches!(letter, ':' | '+' | 'Z' | '-' | '.');
    let is_time = |word: &str| word.len() >= 9 && word.contains(':') && word.chars().all(number);
    let is_date = |word: &str| word.len() == 10 && word.chars().filter(|letter| *letter == '-').count() == 2;
    let word = |word: &str| match word {
        time if is_time(time.trim_end_matches(':')) => "…".to_owned(),
        took if took.len() == 5
            && took.ends_with("s:")
            && took.chars().all(|letter| number(letter) || letter == 's') =>
        {
            "…".to_owned()
        }
        date if is_date(date) && date.starts_with("20") => "…".to_owned(),
        other => other.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n").trim_end().replace(&format!(" on {}", name()), " on HOST")
}

#[test]
fn a_failure_is_told_once_and_so_is_the_recovery() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let host = Host::new("");
    host.write_table(&top(&smtp, "[infra]"), &moody(&host, "backup"));
    let daemon = host.daemon();
    set_mood(&host, "7");
    assert_eq!(run(&host, "backup"), Some(1));
    wait_until("the first failure is told", || smtp.mails().len() == 1);
    for _ in 0..2 {
        assert_eq!(run(&host, "backup"), Some(1));
    }
    // What is known of it outlives the daemon.
    daemon.kill();
    let daemon = host.daemon();
    assert_eq!(run(&host, "backup"), Some(1));
    set_mood(&host, "ok");
    for _ in 0..2 {
        assert_eq!(run(&host, "backup"), Some(0));
    }
    wait_until("the recovery is told", || smtp.mails().len() >= 2);
    assert!(daemon.stop().success());
    let mails = smtp.mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    let header = |mail: usize, name: &str| mails[mail]["headers"][name].as_str().unwrap().to_owned();
    let name = name();
    assert_eq!(header(0, "Subject"), format!("[punk-eco-sched] backup failed on {name}"));
    assert_eq!(header(0, "From"), format!("punk-eco-sched on {name} <sched@web.test>"));
    assert_eq!(header(0, "To"), "infra@shop.test");
    assert_eq!(header(0, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(0, "MIME-Version"), "1.0");
    assert!(header(0, "Date").ends_with(" +0000"), "{}", header(0, "Date"));
    assert!(header(0, "Message-ID").ends_with(&format!("@{name}>")), "{}", header(0, "Message-ID"));
    assert_ne!(header(0, "Message-ID"), header(1, "Message-ID"));
    assert_eq!(
        (mails[0]["from"].as_str(), mails[0]["to"][0].as_str()),
        (Some("sched@web.test"), Some("infra@shop.test"))
    );
    assert_eq!(
        without_times(mails[0]["text"].as_str().unwrap()),
        "\
backup failed on HOST.
What the test wants é

  reason    exit code 7
  run       1
  began     … …
  ended     … …

The last lines of its log:

  … note  | asked for by root (uid 0)
  … note  | attempt 1 of 1 (manual)
  … stdout| the mood is 7
  … note  | failed after … exit code 7

What to type next:

  punk-eco-sched show 1
  punk-eco-sched logs backup --run 1
  punk-eco-sched run-now backup

Further failures are not told, but for a reminder now and then; its recovery will be."
    );
    let recovered = without_times(mails[1]["text"].as_str().unwrap());
    assert_eq!(header(1, "Subject"), format!("[punk-eco-sched] backup recovered on {name}"));
    assert!(
        recovered.contains("\n  failing   since … … 4 runs failed, the first was run 1\n"),
        "{recovered}"
    );
    assert!(recovered.contains("\n  done      exit code 0\n  run       5\n"), "{recovered}");
    assert!(!recovered.contains("Further failures are not told"), "{recovered}");
}

#[test]
fn each_job_is_told_to_its_own_contacts() {
    if smtp::missing() {
        return;
    }
    let (smtp, webhook) = (Smtp::start(), Webhook::start(&[200]));
    let host = Host::new("");
    let top = format!(
        "contacts:\n  infra: {{ email: infra@shop.test }}\n  security: {{ email: security@shop.test, \
         webhook: 'http://127.0.0.1:{}/hook/t0ken-of-the-test' }}\nalerts: {{ smtp: {{ {} }}, to: [infra] }}",
        webhook.port,
        smtp.section()
    );
    let fails = "command: { run: [/bin/false] }";
    host.write_table(
        &top,
        &format!(
            "  plain: {{ {fails} }}\n  secret: {{ alert: [security], {fails} }}\n  \
             both: {{ alert: [infra, security, infra], {fails} }}\n  nobody: {{ alert: [], {fails} }}\n"
        ),
    );
    let daemon = host.daemon();
    for job in ["nobody", "secret", "plain", "both"] {
        assert_eq!(run(&host, job), Some(1));
    }
    wait_until("everything is told", || smtp.mails().len() == 4 && webhook.posted().len() == 2);
    assert!(daemon.stop().success());
    let mut subjects = smtp.subjects();
    subjects.sort();
    let name = name();
    assert_eq!(
        subjects,
        [
            format!("infra@shop.test: [punk-eco-sched] both failed on {name}"),
            format!("infra@shop.test: [punk-eco-sched] plain failed on {name}"),
            format!("security@shop.test: [punk-eco-sched] both failed on {name}"),
            format!("security@shop.test: [punk-eco-sched] secret failed on {name}"),
        ]
    );
    let posted = webhook.posted();
    assert_eq!(posted[0].line, "POST /hook/t0ken-of-the-test HTTP/1.1");
    assert!(
        posted[0].headers.contains(&"content-type: application/json".to_owned()),
        "{:?}",
        posted[0].headers
    );
    let mut body = posted[0].body.clone();
    let key = format!("idempotency-key: {}", body["id"].as_str().unwrap());
    assert!(posted[0].headers.contains(&key), "{:?}", posted[0].headers);
    let text = without_times(body["text"].as_str().unwrap());
    assert!(text.starts_with("[punk-eco-sched] secret failed on HOST\n\nsecret failed on HOST.\n"), "{text}");
    assert_eq!(body["log"].as_array().unwrap().len(), 3, "{body}");
    let map = body.as_object_mut().unwrap();
    for varies in ["id", "text", "log", "started_at", "ended_at", "since"] {
        assert!(map.remove(varies).is_some_and(|value| !value.is_null()), "{varies}");
    }
    assert_eq!(
        body,
        serde_json::json!({
            "event": "failed", "job": "secret", "host": name, "run": 2, "outcome": "failed",
            "reason": "exit code 1", "attempts": 1, "failures": 1, "findings": [], "checks": [],
            "next": ["punk-eco-sched show 2", "punk-eco-sched logs secret --run 2", "punk-eco-sched run-now secret"],
        })
    );
    // Where a webhook leads is a secret.
    let ledger = std::fs::read(host.path("state/ledger.db")).unwrap();
    assert!(!ledger.windows(5).any(|bytes| bytes == b"t0ken"));
    assert!(!host.daemon_log().contains("t0ken"), "{}", host.daemon_log());
    assert!(host.daemon_log().contains("security was told by webhook: secret failed (run 2)"));
}
