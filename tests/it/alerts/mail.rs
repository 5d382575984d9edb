//! One mail: what each kind of bad server is called.

use std::time::Duration;

use jiff::Timestamp;
use punk_eco_sched::host::mail::{Mail, Server, Tls, reach, send};
use serde_json::json;

use crate::support::smtp::{self, Smtp};

fn server(port: u16) -> Server {
    Server { host: "127.0.0.1".into(), port, tls: Tls::None, login: None, patience: Duration::from_secs(20) }
}

fn mail(to: &str) -> Mail {
    Mail {
        id: "a.1.1".into(),
        at: Timestamp::UNIX_EPOCH,
        sender: "punk-eco-sched on web1".into(),
        from: "sched@web.test".into(),
        to: to.into(),
        subject: "[punk-eco-sched] é\r\nBcc: evil@web.test".into(),
        text: "One\n.\r\nTwo é\nBcc: nobody\n".into(),
    }
}

/// What the error says, with `PORT` for the port, and whether it is final.
async fn refusal(server: &Server, to: &str) -> (String, bool) {
    let error = send(server, &mail(to)).await.unwrap_err();
    (error.to_string().replace(&format!(":{}", server.port), ":PORT"), error.is_final())
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written_and_nothing_in_it_becomes_a_header() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    send(&server(smtp.port), &mail("me@shop.test")).await.unwrap();
    let mails = smtp.mails();
    assert_eq!(mails[0]["to"], json!(["me@shop.test"]));
    assert_eq!(mails[0]["headers"]["Subject"], "[punk-eco-sched] é\\r\\nBcc: evil@web.test");
    assert_eq!(mails[0]["headers"]["Bcc"], json!(null));
    assert_eq!(mails[0]["headers"]["Date"], "Thu, 01 Jan 1970 00:00:00 +0000");
    assert_eq!(mails[0]["text"].as_str().unwrap().trim_end(), "One\n.\nTwo é\nBcc: nobody");
}

#[tokio::test]
async fn a_line_of_a_log_can_be_searched_for_in_the_raw_mail() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    let check = async |text: String, whole: bool| {
        let mail = Mail { text: text.clone(), ..mail("me@shop.test") };
        send(&server(smtp.port), &mail).await.unwrap();
        let got = smtp.mails().pop().unwrap();
        assert_eq!(got["text"].as_str().unwrap().trim_end(), text.trim_end());
        let raw = got["raw"].as_str().unwrap();
        assert_eq!(raw.contains(&text.replace('\n', "\r\n")), whole, "{raw}");
    };
    let line = |length: usize| "exit=7 ".repeat(200)[..length].to_owned();
    check(format!("{}\n.\n.. a=b\n{}\n", line(300), line(998)), true).await;
    // SMTP takes no longer ones, and no other letters, as they are.
    check(line(999) + "x\n", false).await;
    check(format!("é {}\n", line(300)), false).await;
}

#[tokio::test]
async fn each_bad_server_is_called_what_it_is() {
    if smtp::missing() {
        return;
    }
    let check = async |server: &Server, to: &str, expected: &str, is_final: bool| {
        assert_eq!(refusal(server, to).await, (expected.to_owned(), is_final));
    };
    let gone = Smtp::stopped(json!({}));
    check(&server(gone.port), "a@b.test", "SMTP at 127.0.0.1:PORT: connection refused", false).await;
    let nameless = Server { host: "nowhere.invalid".into(), ..server(25) };
    let (said, _) = refusal(&nameless, "a@b.test").await;
    assert!(said.starts_with("SMTP at nowhere.invalid:PORT: the name does not resolve: "), "{said}");

    let silent = Smtp::start_with(json!({ "silent": true }));
    let hasty = Server { patience: Duration::from_millis(200), ..server(silent.port) };
    check(&hasty, "a@b.test", "SMTP at 127.0.0.1:PORT: not done after 200ms", false).await;

    let refuse =
        json!({ "for-now@b.test": "451 4.7.1 greylisted", "never@b.test": "550 5.1.1 no \u{1b}[31muser" });
    let picky = Smtp::start_with(json!({ "refuse": refuse }));
    let now = "SMTP at 127.0.0.1:PORT: the recipient for-now@b.test was refused: 451 4.7.1 greylisted";
    check(&server(picky.port), "for-now@b.test", now, false).await;
    let never = "SMTP at 127.0.0.1:PORT: the recipient never@b.test was refused: 550 5.1.1 no \\x1b[31muser";
    check(&server(picky.port), "never@b.test", never, true).await;
    check(
        &server(picky.port),
        "two words",
        "a mail to two words can't be written: `two words`: Missing domain or user",
        true,
    )
    .await;

    for (reply, is_final) in [("452 4.3.1 disk full", false), ("554 5.6.0 no such mail", true)] {
        let full = Smtp::start_with(json!({ "data": reply }));
        let said = format!("SMTP at 127.0.0.1:PORT: the mail was refused: {reply}");
        check(&server(full.port), "a@b.test", &said, is_final).await;
    }

    let no_tls = Server { tls: Tls::Starttls, ..server(picky.port) };
    check(&no_tls, "a@b.test", "SMTP at 127.0.0.1:PORT: no TLS: it does not offer STARTTLS", false).await;
    let password = Some(("me".to_owned(), "hunter2".to_owned().into()));
    let no_login = Server { login: password, ..server(picky.port) };
    let said =
        "SMTP at 127.0.0.1:PORT: the login of me was refused: it offers no kind of login that is known here";
    check(&no_login, "a@b.test", said, false).await;
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_trusted() {
    if smtp::missing() {
        return;
    }
    for (word, tls) in [("tls", Tls::Tls), ("starttls", Tls::Starttls)] {
        let smtp = Smtp::start_with(json!({ "tls": word }));
        let server = Server { tls, ..server(smtp.port) };
        let (said, is_final) = refusal(&server, "a@b.test").await;
        let expected = "SMTP at 127.0.0.1:PORT: no TLS: invalid peer certificate: UnknownIssuer";
        assert_eq!((said.as_str(), is_final), (expected, false), "{word}");
        assert!(smtp.mails().is_empty());
    }
}

#[tokio::test]
async fn a_server_is_reached_without_a_mail() {
    if smtp::missing() {
        return;
    }
    let smtp = Smtp::start();
    reach(&server(smtp.port)).await.unwrap();
    assert!(smtp.mails().is_empty());
}
