//! Servers that refuse, say nothing, or are gone: nothing is lost, told twice, or held up.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{moody, name, run, set_mood, top};
use crate::support::daemon::{Host, text, wait_until};
use crate::support::smtp::{self, Smtp};
use crate::support::webhook::Webhook;

const FAILS: &str = "  x: { command: { run: [/bin/false] } }\n";

fn failed(to: &str) -> String {
    format!("{to}@shop.test: [punk-eco-sched] x failed on {}", name())
}

/// The problems that `status` shows, with the instants as `…`.
fn problems(host: &Host) -> Vec<String> {
    let status = host.json(&["status", "--json"]);
    let problems = status["problems"].as_array().unwrap().clone();
    let without = |problem: &str| match problem.rsplit_once(" since ") {
        Some((problem, _)) => format!("{problem} since …"),
        None => problem.to_owned(),
    };
    problems.iter().map(|problem| without(problem.as_str().unwrap())).collect()
}

#[test]
fn a_killed_daemon_leaves_nothing_untold() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::stopped(json!({}));
    let host = Host::new("");
    host.write_table(&top(&smtp, "[infra, security]"), FAILS);
    let daemon = host.daemon();
    // It may be killed in the very moment in which the end of the run is known.
    assert_eq!(run(&host, "x"), Some(1));
    daemon.kill();
    smtp.resume();
    let daemon = host.daemon();
    wait_until("both are told", || smtp.mails().len() == 2);
    assert_eq!(run(&host, "x"), Some(1));
    assert!(daemon.stop().success());
    let daemon = host.daemon();
    assert!(daemon.stop().success());
    let mut subjects = smtp.subjects();
    subjects.sort();
    assert_eq!(subjects, [failed("infra"), failed("security")]);
}

#[test]
fn a_server_that_is_back_gets_each_mail_once() {
    if smtp::missing() {
        return;
    }
    let mut smtp = Smtp::stopped(json!({}));
    let webhook = Webhook::start(&[503, 200]);
    let host = Host::new("");
    let hook = format!("  hook: {{ webhook: 'http://127.0.0.1:{}/s3cret' }}\n", webhook.port);
    let top = top(&smtp, "[infra, hook]").replace("contacts:\n", &format!("contacts:\n{hook}"));
    host.write_table(&top, &moody(&host, "x"));
    set_mood(&host, "1");
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    let waits = |alerts: &str| {
        format!("{alerts} for infra (email): SMTP at 127.0.0.1:{}: connection refused since …", smtp.port)
    };
    let busy =
        format!("1 alert waits for hook (webhook): http://127.0.0.1:{}/… answers 503 since …", webhook.port);
    wait_until("status says so", || problems(&host) == [busy.clone(), waits("1 alert waits")]);
    set_mood(&host, "ok");
    assert_eq!(run(&host, "x"), Some(0));
    smtp.resume();
    wait_until("all is told", || smtp.mails().len() >= 2 && webhook.posted().len() >= 3);
    wait_until("status has nothing to say", || problems(&host).is_empty());
    assert!(daemon.stop().success());
    // In their order, each once.
    let recovered = failed("infra").replace("failed", "recovered");
    assert_eq!(smtp.subjects(), [failed("infra"), recovered]);
    let events: Vec<_> = webhook.posted().iter().map(|posted| posted.body["event"].clone()).collect();
    assert_eq!(events, ["failed", "failed", "recovered"]);
    assert_eq!(webhook.posted()[0].body["id"], webhook.posted()[1].body["id"]);
    let log = host.daemon_log();
    assert_eq!(log.matches("can't be told").count(), 2, "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn a_reload_sends_what_waits_to_the_new_server() {
    if smtp::missing() {
        return;
    }
    let (gone, smtp) = (Smtp::stopped(json!({})), Smtp::start());
    let host = Host::new("");
    host.write_table(&top(&gone, "[infra]"), FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("the first try has failed", || !problems(&host).is_empty());
    host.write_table(&top(&smtp, "[infra]"), FAILS);
    assert!(host.cli(&["reload"]).status.success());
    wait_until("it is told", || smtp.mails().len() == 1);
    assert!(daemon.stop().success());
    assert_eq!(smtp.subjects(), [failed("infra")]);
}

#[test]
fn a_recipient_that_is_refused_for_good_is_given_up_and_the_others_hear() {
    if smtp::missing() {
        return;
    }
    let refuse = json!({ "infra@shop.test": "550 5.1.1 no such user here" });
    let smtp = Smtp::start_with(json!({ "refuse": refuse }));
    let webhook = Webhook::start(&[404]);
    let host = Host::new("");
    let hook = format!("  hook: {{ webhook: 'http://127.0.0.1:{}/' }}\n", webhook.port);
    let top = top(&smtp, "[infra, security, hook]").replace("contacts:\n", &format!("contacts:\n{hook}"));
    host.write_table(&top, FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    let refused = format!(
        "error: infra is not told by email that x failed (run 1): SMTP at 127.0.0.1:{}: the recipient infra@shop.test was \
         refused: 550 5.1.1 no such user here",
        smtp.port
    );
    let nowhere = format!(
        "error: hook is not told by webhook that x failed (run 1): http://127.0.0.1:{}/… answers 404",
        webhook.port
    );
    for said in [&refused, &nowhere] {
        wait_until(said, || host.daemon_log().contains(said.as_str()));
    }
    wait_until("the other is told", || smtp.mails().len() == 1);
    assert_eq!(problems(&host), [""; 0]);
    assert!(daemon.stop().success());
    // The next daemon does not try again.
    let daemon = host.daemon();
    assert!(daemon.stop().success());
    assert_eq!(smtp.subjects(), [failed("security")]);
    assert_eq!(host.daemon_log().matches("is not told").count(), 2);
    let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
    let given_up: String = ledger
        .query_row(
            "SELECT detail FROM events WHERE kind = 'alert_given_up' AND detail LIKE '%infra%'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    let reason = refused.split_once("(run 1): ").unwrap().1;
    assert_eq!(
        given_up,
        format!(
            r#"{{"job":"x","run":1,"kind":"failed","contact":"infra","channel":"email","reason":"{reason}"}}"#
        )
    );
}

#[test]
fn a_server_that_says_nothing_holds_nobody_up() {
    if smtp::missing() {
        return;
    }
    let (silent, webhook) = (Smtp::start_with(json!({ "silent": true })), Webhook::start(&[204]));
    let host = Host::new("");
    let hook = format!("  hook: {{ webhook: 'http://127.0.0.1:{}/' }}\n", webhook.port);
    let top = top(&silent, "[infra, hook]").replace("contacts:\n", &format!("contacts:\n{hook}"));
    host.write_table(&top, FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("the webhook has it", || webhook.posted().len() == 1);
    for _ in 0..3 {
        assert_eq!(run(&host, "x"), Some(1));
    }
    let asked = Instant::now();
    assert!(daemon.stop().success());
    // 5 s are for what is being sent; 30 would be for a mail.
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

#[test]
fn a_login_over_starttls_keeps_its_secret() {
    if smtp::missing() {
        return;
    }
    let wish = json!({ "tls": "starttls", "login": ["sched", "p4ss of the test"] });
    let smtp = Smtp::start_with(wish);
    let host = Host::new("");
    let secret = host.path("smtp-password");
    let login = format!("user: sched, password: '${{file:{}}}', ", secret.display());
    let top = top(&smtp, "[infra]").replace("smtp: { ", &format!("smtp: {{ {login}"));
    host.write_table(&top, FAILS);
    std::fs::write(&secret, "wr0ng of the test\n").unwrap();
    let trusting = |command: &mut std::process::Command| {
        command.env("SSL_CERT_FILE", smtp.certificate());
    };
    let daemon = host.spawn_daemon_with(trusting);
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    assert_eq!(run(&host, "x"), Some(1));
    let refused = format!(
        "1 alert waits for infra (email): SMTP at 127.0.0.1:{}: the login of sched was refused: 535 5.7.8 Authentication \
         credentials invalid since …",
        smtp.port
    );
    wait_until("status says so", || problems(&host) == [refused.clone()]);
    // The password is read anew at each try.
    std::fs::write(&secret, "p4ss of the test\n").unwrap();
    wait_until("it is told", || smtp.mails().len() == 1);
    assert!(daemon.stop().success());
    assert_eq!((&smtp.mails()[0]["tls"], &smtp.mails()[0]["login"]), (&json!(true), &json!(true)));
    let said = [
        host.daemon_log(),
        text(&host.cli(&["history", "--json"]).stdout),
        text(&std::fs::read(host.path("state/ledger.db")).unwrap()),
        smtp.mails()[0]["raw"].as_str().unwrap().to_owned(),
    ];
    for said in said {
        assert!(!said.contains("p4ss") && !said.contains("wr0ng"), "{said}");
    }
}

#[test]
fn what_may_work_later_is_tried_again() {
    let (busy, slow, secret) =
        (Webhook::start(&[429, 200]), Webhook::start(&[408, 200]), Webhook::start(&[200]));
    let host = Host::new("");
    let address = host.path("address");
    host.write_table(
        &format!(
            "contacts:\n  busy: {{ webhook: 'http://127.0.0.1:{}/' }}\n  slow: {{ webhook: \
             'http://127.0.0.1:{}/' }}\n  secret: {{ webhook: '${{file:{}}}' }}\nalerts: {{ to: [busy, slow, \
             secret] }}",
            busy.port,
            slow.port,
            address.display()
        ),
        FAILS,
    );
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("all three wait", || problems(&host).len() == 3);
    std::fs::write(&address, format!("http://127.0.0.1:{}/\n", secret.port)).unwrap();
    wait_until("all three are told", || [&busy, &slow, &secret].map(|hook| hook.posted().len()) == [2, 2, 1]);
    wait_until("status has nothing to say", || problems(&host).is_empty());
    assert!(daemon.stop().success());
    assert!(!host.daemon_log().contains("is not told"), "{}", host.daemon_log());
}

#[test]
fn a_password_that_is_missing_is_waited_for() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start_with(json!({ "login": ["sched", "p4ss of the test"] }));
    let host = Host::new("");
    let secret = host.path("smtp-password");
    let login = format!("user: sched, password: '${{file:{}}}', ", secret.display());
    host.write_table(&top(&smtp, "[infra]").replace("smtp: { ", &format!("smtp: {{ {login}")), FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("status says so", || problems(&host).len() == 1);
    assert!(problems(&host)[0].starts_with("1 alert waits for infra (email): "), "{:?}", problems(&host));
    std::fs::write(&secret, "p4ss of the test\n").unwrap();
    wait_until("it is told", || smtp.mails().len() == 1);
    assert!(daemon.stop().success());
    assert_eq!(smtp.mails()[0]["login"], json!(true));
}

#[test]
fn what_waited_for_two_days_is_still_told_when_the_daemon_is_back() {
    if smtp::missing() {
        return;
    }
    let host = Host::new("");
    let mut gone = Smtp::stopped(json!({}));
    host.write_table(&top(&gone, "[infra]"), FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    daemon.kill();
    let age = |hours: i64| {
        let ledger = rusqlite::Connection::open(host.path("state/ledger.db")).unwrap();
        ledger.execute("UPDATE notices SET at = at - ?1", [hours * 3_600_000_000]).unwrap()
    };
    assert_eq!(age(47), 1);
    let daemon = host.daemon();
    wait_until("it waits", || problems(&host).len() == 1);
    daemon.kill();
    assert_eq!(age(2), 1);
    // Two days and an hour old: it is tried for a while all the same, since the network may not be there yet.
    let daemon = host.daemon();
    wait_until("it waits", || problems(&host).len() == 1);
    gone.resume();
    wait_until("it is told", || gone.mails().len() == 1);
    wait_until("status has nothing to say", || problems(&host).is_empty());
    assert!(daemon.stop().success());
    assert_eq!(age(0), 0);
}

#[test]
fn servers_that_say_nothing_are_left_in_time() {
    if smtp::missing() {
        return;
    }
    let silent = Smtp::start_with(json!({ "silent": true }));
    let hook = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hook.local_addr().unwrap().port();
    let host = Host::new("");
    let contact = format!("  hook: {{ webhook: 'http://127.0.0.1:{port}/' }}\n");
    let top = top(&silent, "[infra, hook]").replace("contacts:\n", &format!("contacts:\n{contact}"));
    host.write_table(&top, FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    let webhook = format!(
        "1 alert waits for hook (webhook): http://127.0.0.1:{port}/… didn't answer within 10s: connected, but no \
         whole header came since …"
    );
    let mail = format!(
        "1 alert waits for infra (email): SMTP at 127.0.0.1:{}: not done after 30s since …",
        silent.port
    );
    wait_until("both were left", || problems(&host) == [webhook.clone(), mail.clone()]);
    daemon.kill();
}

#[test]
fn what_waits_for_a_contact_that_is_gone_is_given_up() {
    let (gone, host) = (Smtp::stopped(json!({})), Host::new(""));
    host.write_table(&top(&gone, "[infra]"), FAILS);
    let daemon = host.daemon();
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("the first try has failed", || !problems(&host).is_empty());
    host.write_table(&top(&gone, "[security]").replace("  infra: { email: infra@shop.test }\n", ""), FAILS);
    assert!(host.cli(&["reload"]).status.success());
    let said = "infra is not told by email that x failed (run 1): jobs.yaml has no such contact any more";
    wait_until("it is given up", || host.daemon_log().contains(said));
    wait_until("status has nothing to say", || problems(&host).is_empty());
    assert!(daemon.stop().success());
}
