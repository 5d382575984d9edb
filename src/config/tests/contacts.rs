//! Contacts: webhooks and their forms, and what is never shown of them.

use super::*;

#[test]
fn a_webhook_that_can_never_work_is_refused() {
    let check = |webhook: &str, expected: &str| {
        let text = format!(
            "contacts: {{ a: {{ webhook: {webhook} }} }}\njobs: {{ x: {{ command: {{ shell: ls }} }} }}\n"
        );
        let told = read_text(&text).map_or_else(|problems| told(&problems), |_| vec![]);
        let told: Vec<&str> = told.iter().map(|one| one.split_once(": ").unwrap().1).collect();
        assert_eq!(told.join("\n"), expected, "{webhook}");
    };
    check("'https://x/y'", "");
    check("' https://x/y '", "");
    check("{ url: 'https://ntfy.sh/topic', token: t }", "");
    check("{ url: 'https://${env:HOST}', form: slack }", "");
    check("'x/y'", "a webhook begins with https:// or http://");
    check("'https://'", "not the URL of a webhook: empty host");
    check("'https://x:99999/'", "not the URL of a webhook: invalid port number");
    let topic = "ntfy's address has one topic: it is https://ntfy.sh/TOPIC, or that of a server of one's own";
    check("'https://ntfy.sh/'", topic);
    check("'https://ntfy.sh/a/b'", topic);
    check("{ url: 'http://push.lan', form: ntfy }", topic);
    check("{ url: 'https://x/y', token: \"a\\nb\" }", "a token has no control characters and one line");
    check("{ url: '${env:X}', token: \"a\\eb\" }", "a token has no control characters and one line");
    let slack = "slack takes no token: its address is the secret";
    check("{ url: 'https://hooks.slack.com/services/x', token: t }", slack);
    check("{ url: '${env:X}', form: slack, token: '${env:Y}' }", slack);
    let discord = "discord takes no token: its address is the secret";
    check("{ url: 'https://discord.com/api/webhooks/1/x', token: t }", discord);
}

#[test]
fn a_secret_under_a_key_that_nobody_knows_is_not_shown() {
    let job = "jobs: { x: { command: { shell: ls } } }\n";
    for contact in [
        "webhok: hunter2",
        "url: hunter2",
        "slack: hunter2",
        "discord: hunter2",
        "ntfy: hunter2",
        "ping: hunter2",
        "ping_url: hunter2",
        "healthcheck: hunter2",
        "hc: hunter2",
        "bearer: hunter2",
        "header: hunter2",
        "uri: hunter2",
        "tkoen: hunter2",
        "chat: 'https://chat.test/hunter2'",
        "chat: 'x://me:hunter2@h'",
        "url: '${env:X}hunter2'",
        "url: '${env:X}${hunter2'",
        "email: 'https://chat.test/hunter2'",
        "webhook: { url: 'https://x/', form: 'https://x/hunter2' }",
        "webhook: { adress: 'https://x/hunter2' }",
    ] {
        let problems = read_text(&format!("contacts: {{ me: {{ {contact} }} }}\n{job}")).unwrap_err();
        let shown = format!("{problems}\n{}", problems.to_json());
        assert!(!shown.contains("hunter2"), "{contact}: {shown}");
    }
    let whole = read_text(&format!("contacts: {{ me: 'https://chat.test/hunter2' }}\n{job}")).unwrap_err();
    assert!(!format!("{whole}\n{}", whole.to_json()).contains("hunter2"), "{whole}");
    let broken = read_text("contacts: { me: { chat: 'https://chat.test/hunter2', : [ }\n").unwrap_err();
    assert!(!broken.to_string().contains("hunter2"), "{broken}");
    // A reference is no secret, nor is what has nothing of one.
    let shown = read_text(&format!("contacts: {{ me: {{ url: '${{env:CHAT}}', colour: red }} }}\n{job}"))
        .unwrap_err();
    assert!(shown.to_string().contains("${env:CHAT}', colour: red"), "{shown}");
}

#[test]
fn a_webhook_may_say_its_form() {
    let table = table(
        "contacts:\n  a: { webhook: 'https://x/y' }\n  b: { webhook: { url: '${env:URL}', form: ntfy, token: t0ken } }\n  \
         c: { webhook: { url: 'https://x/${env:PART}' } }\nalerts: { language: fr }\njobs:\n  x: { command: { shell: ls } }\n",
    );
    let webhook = |contact: &str| table.contacts[contact].webhook.clone().unwrap();
    assert_eq!((webhook("a").url.literal(), webhook("a").form), (Some("https://x/y"), None));
    assert_eq!(
        format!("{:?}", webhook("b")),
        "Webhook { url: ${env:URL}, form: Some(Ntfy), token: Some(***) }"
    );
    assert_eq!(format!("{:?}", webhook("c").url), "***${env:PART}");
    assert_eq!(table.alerts.as_ref().unwrap().language, Language::Fr);
}
