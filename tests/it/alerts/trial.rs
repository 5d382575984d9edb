//! `alert-test`: what a contact gets, and what is said where one can't be reached.

use serde_json::json;

use super::{name, without_times};
use crate::support::daemon::{Host, text};
use crate::support::smtp::{self, Smtp};
use crate::support::web::free_port;
use crate::support::webhook::Webhook;

const JOBS: &str = "  x: { command: { run: [/bin/false] } }\n";

/// The exit code, standard output and standard error of `alert-test`.
fn try_it(host: &Host, contact: &str) -> (Option<i32>, String, String) {
    let output = host.cli(&["alert-test", contact]);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_test_message_takes_every_way_of_its_contact_without_a_daemon() {
    if smtp::missing() {
        return;
    }
    let (smtp, webhook) = (Smtp::start(), Webhook::start(&[204]));
    let host = Host::new("");
    let contact =
        format!("infra: {{ email: infra@shop.test, webhook: 'http://127.0.0.1:{}/s3cret' }}", webhook.port);
    let write = |language: &str| {
        host.write_table(
            &format!(
                "contacts: {{ {contact} }}\nalerts: {{ smtp: {{ {} }}, language: {language} }}",
                smtp.section()
            ),
            JOBS,
        );
    };
    write("en");
    let (code, out, err) = try_it(&host, "infra");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        format!(
            "told by e-mail: infra@shop.test, through SMTP at 127.0.0.1:{}\ntold by webhook: http://127.0.0.1:{}/… in the \
             form `json`, which answers 204\n",
            smtp.port, webhook.port
        )
    );
    let mail = smtp.mails().remove(0);
    let subject = format!("[punk-eco-sched] test message: nothing is wrong on {}", name());
    assert_eq!((&mail["headers"]["Subject"], &mail["to"]), (&json!(subject), &json!(["infra@shop.test"])));
    assert_eq!(
        without_times(mail["text"].as_str().unwrap()),
        "\
test message: nothing is wrong on HOST.

  contact   infra
  asked by  root (uid 0)
  at        … …

Nothing has failed. What fails will be told by this way."
    );
    let body = webhook.posted().remove(0).body;
    assert_eq!(
        (&body["event"], &body["contact"], &body["job"]),
        (&json!("test"), &json!("infra"), &json!(null))
    );
    write("fr");
    assert_eq!(try_it(&host, "infra").0, Some(0));
    let mail = smtp.mails().remove(1);
    assert_eq!(
        mail["text"].as_str().unwrap().replace('\u{a0}', "~").lines().next().unwrap(),
        format!("message d'essai~: tout va bien sur {}.", name())
    );
    assert_eq!(mail["headers"]["From"], format!("punk-eco-sched sur {} <sched@web.test>", name()));
    // Nothing of it is kept.
    assert!(!host.path("state").exists());
}

#[test]
fn a_way_that_fails_says_why_and_the_others_are_taken() {
    let (webhook, closed) = (Webhook::start(&[404]), free_port());
    let host = Host::new("");
    host.write_table(
        &format!(
            "contacts:\n  infra: {{ email: infra@shop.test, webhook: 'http://127.0.0.1:{}/s3cret' }}\n  \
             gone: {{ webhook: '${{file:{}}}' }}\n  wrong: {{ webhook: {{ url: '${{file:{}}}', form: ntfy }} }}\n  unit: {{ webhook: '${{credential:hook}}' }}\n\
             alerts: {{ smtp: {{ host: 127.0.0.1, port: {closed}, from: sched@web.test }} }}",
            webhook.port,
            host.path("no-such-file").display(),
            host.path("no-topic").display()
        ),
        JOBS,
    );
    std::fs::write(host.path("no-topic"), format!("http://127.0.0.1:{}/", webhook.port)).unwrap();
    let (code, out, _) = try_it(&host, "infra");
    assert_eq!(code, Some(1));
    assert_eq!(
        out,
        format!(
            "not told by e-mail: SMTP at 127.0.0.1:{closed}: connection refused\nnot told by webhook: \
             http://127.0.0.1:{}/… answers 404\n",
            webhook.port
        )
    );
    let (code, out, _) = try_it(&host, "gone");
    assert_eq!(code, Some(1));
    assert_eq!(
        out,
        format!(
            "not told by webhook: ${{file:{0}}}: {0} can't be read: No such file or directory (os error 2)\n",
            host.path("no-such-file").display()
        )
    );
    let (code, out, err) = try_it(&host, "unit");
    assert_eq!(code, Some(1));
    assert_eq!(
        out,
        "not told by webhook: ${credential:hook}: CREDENTIALS_DIRECTORY is not set: is LoadCredential=hook in the unit?\n"
    );
    assert_eq!(
        err,
        "hint: systemd gives credentials to the service alone: try it as a service too, with `systemd-run --pipe \
         --property=LoadCredential=NAME:PATH punk-eco-sched alert-test unit`\n"
    );
    let (code, out, _) = try_it(&host, "wrong");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("not told by webhook: ntfy's address has no topic: "), "{out}");
}

#[test]
fn a_contact_that_nobody_can_tell_is_named_for_what_it_lacks() {
    let host = Host::new("");
    host.write_table(
        "contacts: { infra: { email: infra@shop.test }, security: { email: s@shop.test } }",
        JOBS,
    );
    let (code, out, _) = try_it(&host, "infra");
    assert_eq!(code, Some(1));
    assert_eq!(
        out,
        "not told by e-mail: jobs.yaml names no mail server: write it under `alerts: { smtp: … }`\n"
    );
    let file = host.config().display().to_string();
    let (code, out, err) = try_it(&host, "infar");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(err, format!("error: {file} has no contact `infar`\nhint: did you mean `infra`?\n"));
    let (_, _, err) = try_it(&host, "nobody");
    assert_eq!(err, format!("error: {file} has no contact `nobody`\nhint: it has infra, security\n"));
}
