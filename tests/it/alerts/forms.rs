//! What a webhook is posted in each of its forms. The clouds of Slack, Discord and ntfy can't be asked from a test: a
//! server of the loopback stands in for them, and what they document is in `src/alert/forms/tests.rs`.

use serde_json::json;

use super::{name, run};
use crate::support::daemon::{Host, wait_until};
use crate::support::webhook::Webhook;

const FAILS: &str = "  x: { command: { run: [/bin/false] } }\n";

#[test]
fn each_form_is_posted_as_its_service_takes_it() {
    let hooks = ["json", "slack", "discord", "ntfy"].map(|form| (form, Webhook::start(&[200])));
    let host = Host::new("");
    let contacts: String = hooks
        .iter()
        .map(|(form, hook)| {
            let token = if matches!(*form, "json" | "ntfy") { ", token: '${env:HOOK_TOKEN}'" } else { "" };
            format!(
                "  {form}: {{ webhook: {{ url: 'http://127.0.0.1:{}/s3cret-topic', form: {form}{token} }} }}\n",
                hook.port
            )
        })
        .collect();
    host.write_table(
        &format!("contacts:\n{contacts}alerts: {{ to: [json, slack, discord, ntfy], language: fr }}"),
        FAILS,
    );
    let daemon = host.spawn_daemon_with(|command| {
        command.env("HOOK_TOKEN", "t0ken-of-the-test");
    });
    wait_until("the daemon answers", || host.cli(&["status"]).status.success());
    assert_eq!(run(&host, "x"), Some(1));
    wait_until("all are told", || hooks.iter().all(|(_, hook)| hook.posted().len() == 1));
    assert!(daemon.stop().success());
    let [json, slack, discord, ntfy] = hooks.map(|(_, hook)| hook.posted().remove(0));
    let subject = format!("[punk-eco-sched] x a échoué sur {}", name());
    let bearer = "authorization: bearer t0ken-of-the-test".to_owned();
    assert_eq!(json.line, "POST /s3cret-topic HTTP/1.1");
    assert_eq!((&json.body["event"], json.headers.contains(&bearer)), (&json!("failed"), true));
    assert_eq!(slack.line, "POST /s3cret-topic HTTP/1.1");
    assert_eq!(slack.body["blocks"][0]["text"]["text"], subject);
    assert!(slack.body["text"].as_str().unwrap().starts_with(&format!("{subject}\n```\nx a échoué sur ")));
    assert_eq!(discord.body["embeds"][0]["title"], subject);
    assert_eq!(discord.body["allowed_mentions"], json!({ "parse": [] }));
    assert!(!slack.headers.contains(&bearer) && !discord.headers.contains(&bearer));
    assert_eq!((ntfy.line.as_str(), ntfy.headers.contains(&bearer)), ("POST / HTTP/1.1", true));
    assert_eq!(
        (&ntfy.body["topic"], &ntfy.body["title"], &ntfy.body["priority"]),
        (&json!("s3cret-topic"), &json!(subject), &json!(5))
    );
    let log = host.daemon_log();
    assert!(!log.contains("s3cret") && !log.contains("t0ken"), "{log}");
}
