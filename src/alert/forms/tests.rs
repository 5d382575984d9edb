//! Recorded expectations: the services' clouds can't be asked from a test. A server of the loopback stands in for them
//! in `tests/it/alerts/forms.rs`.

use jiff::Timestamp;

use super::*;

fn target(url: &str) -> Target {
    Target::secret(url).unwrap()
}

fn said(subject: &str, text: &str, tone: Tone) -> Said {
    Said {
        id: "1.2.3".into(),
        at: Timestamp::UNIX_EPOCH,
        subject: subject.into(),
        text: text.into(),
        document: json!({ "id": "1.2.3" }),
        tone,
        sender: "punk-eco-sched on web1".into(),
    }
}

fn body(form: Form, said: &Said) -> serde_json::Value {
    post(form, target("https://push.example/topic"), said).unwrap().body
}

#[test]
fn an_address_tells_its_form() {
    let check = |url: &str, expected: Form| assert_eq!(form_of(&target(url)), expected, "{url}");
    check("https://hooks.slack.com/services/T0/B0/x", Form::Slack);
    check("https://discord.com/api/webhooks/1/x", Form::Discord);
    check("https://discordapp.com/api/webhooks/1/x?wait=true", Form::Discord);
    check("https://canary.discord.com/api/webhooks/1/x", Form::Discord);
    check("https://discord.com/api/webhooks/1/x/slack", Form::Slack);
    check("https://discord.com/elsewhere", Form::Json);
    check("https://notdiscord.com/api/webhooks/1/x", Form::Json);
    check("https://ntfy.sh/alerts", Form::Ntfy);
    check("https://ntfy.sh.evil.example/alerts", Form::Json);
    check("https://hooks.slack.com.evil.example/services/x", Form::Json);
    check("https://web1.example/hook", Form::Json);
}

#[test]
fn json_is_our_own_document() {
    assert_eq!(body(Form::Json, &said("x", "y", Tone::Good)), json!({ "id": "1.2.3" }));
}

#[test]
fn slack_gets_blocks_and_the_same_as_text() {
    let said = said(
        "[punk-eco-sched] m: a<b & @all failed on web1",
        "It says:\n\n  1 < 2 && `x` ```y``` é\n",
        Tone::Critical,
    );
    assert_eq!(
        body(Form::Slack, &said),
        json!({
            "text": "[punk-eco-sched] m: a&lt;b &amp; @\u{200b}all failed on web1\n```\nIt says:\n\n  1 &lt; 2 &amp;&amp; `x` '''y''' é\n```",
            "blocks": [
                { "type": "header", "text": {
                    "type": "plain_text", "text": "[punk-eco-sched] m: a<b & @\u{200b}all failed on web1", "emoji": false } },
                { "type": "section", "text": {
                    "type": "mrkdwn", "text": "```\nIt says:\n\n  1 &lt; 2 &amp;&amp; `x` '''y''' é\n```" } },
            ],
        })
    );
}

#[test]
fn discord_gets_an_embed_that_calls_nobody() {
    let said = said("[punk-eco-sched] db-backup failed on web1", "Why: @everyone é ```x\n", Tone::Warning);
    assert_eq!(
        body(Form::Discord, &said),
        json!({
            "embeds": [{
                "title": "[punk-eco-sched] db-backup failed on web1",
                "description": "```\nWhy: @everyone é '''x\n```",
                "color": 16_361_509,
            }],
            "allowed_mentions": { "parse": [] },
        })
    );
}

#[test]
fn ntfy_gets_json_at_its_root() {
    let check = |tone, priority: u8, tag: &str| {
        let said = said("[punk-eco-sched] db-backup a échoué sur web1", "parce que\n", tone);
        let post = post(Form::Ntfy, target("https://u:p@push.example:8443/infra_alerts?x=1"), &said).unwrap();
        assert_eq!((post.target.host(), post.target.path()), ("push.example", "/"));
        assert_eq!(
            post.body,
            json!({
                "topic": "infra_alerts", "title": "[punk-eco-sched] db-backup a échoué sur web1",
                "message": "parce que", "priority": priority, "tags": [tag],
            })
        );
    };
    check(Tone::Critical, 5, "rotating_light");
    check(Tone::Warning, 3, "warning");
    check(Tone::Good, 2, "white_check_mark");
    check(Tone::Plain, 3, "information_source");
    for wrong in ["https://ntfy.sh", "https://ntfy.sh/", "https://ntfy.sh/a/b"] {
        let refused = post(Form::Ntfy, target(wrong), &said("x", "y", Tone::Good)).unwrap_err();
        assert!(refused.starts_with("ntfy's address has no topic: "), "{refused}");
    }
}

/// Letters that take four bytes, two units and five characters as an escape; lines and none.
#[test]
fn nothing_is_longer_than_the_service_takes() {
    let lines: String = (0..2000).map(|line| format!("line {line} <&> 🚨 é\n")).collect();
    for text in [lines, "🚨<é".repeat(20_000), "x\n".repeat(20_000), "`".repeat(20_000)] {
        let said = said(&"🚨@<é".repeat(500), &text, Tone::Critical);
        let slack = body(Form::Slack, &said);
        assert!(units(slack["text"].as_str().unwrap()) <= 40_000);
        let blocks = slack["blocks"].as_array().unwrap();
        assert!((2..=4).contains(&blocks.len()), "{}", blocks.len());
        assert!(units(blocks[0]["text"]["text"].as_str().unwrap()) <= 150);
        for block in &blocks[1..] {
            let text = block["text"]["text"].as_str().unwrap();
            assert!(units(text) <= 3000, "{}", units(text));
            assert!(text.starts_with("```\n") && text.ends_with("\n```"), "{text}");
        }
        let last = blocks.last().unwrap()["text"]["text"].as_str().unwrap();
        assert!(last.ends_with("[…]\n```"), "{last}");
        let discord = body(Form::Discord, &said);
        let embed = &discord["embeds"][0];
        assert!(units(embed["title"].as_str().unwrap()) <= 256);
        assert!(units(embed["description"].as_str().unwrap()) <= 4096);
        let ntfy = body(Form::Ntfy, &said);
        assert!(ntfy["message"].as_str().unwrap().len() <= 4096);
        assert!(ntfy["title"].as_str().unwrap().len() <= 256);
    }
}
