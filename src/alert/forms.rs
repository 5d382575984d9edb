//! A message as the receiver of a webhook wants it: our own JSON, Slack's, Discord's or ntfy's. Pure; sends nothing.
//!
//! What a service takes is bounded by what it documents; what is longer is cut, and says so.

use serde_json::json;

use super::said::{Said, Tone};
use crate::config::Form;
use crate::host::http::Target;

/// Slack: a header block, a section's text, and the text of a message as Mattermost takes it without blocks.
const SLACK_HEADER: usize = 150;
const SLACK_SECTION: usize = 3000;
/// Its blocks together must stay below some 13 000.
const SLACK_SECTIONS: usize = 3;
const SLACK_TEXT: usize = 3000;
/// Of a line, before its `<` become four letters.
const SLACK_LINE: usize = 400;

/// Discord: of an embed, which may have 6000 in all.
const DISCORD_TITLE: usize = 256;
const DISCORD_DESCRIPTION: usize = 4096;

/// ntfy: 4096 bytes of text, beyond which it becomes an attachment that no phone shows.
const NTFY_TITLE: usize = 250;
const NTFY_MESSAGE: usize = 4000;

const FENCE: &str = "```";
const CUT: &str = " […]";

/// What is posted, and where to.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) target: Target,
    pub(super) body: serde_json::Value,
}

/// By the address, where jobs.yaml doesn't say.
pub(super) fn form_of(target: &Target) -> Form {
    Form::of(target)
}

/// # Errors
/// What is wrong with the address, without it.
pub(super) fn post(form: Form, target: Target, said: &Said) -> Result<Post, String> {
    Ok(match form {
        Form::Json => Post { target, body: said.document.clone() },
        Form::Slack => Post { target, body: slack(said) },
        Form::Discord => Post { target, body: discord(said) },
        Form::Ntfy => {
            let (server, topic) = target.parent().ok_or(
                "ntfy's address has no topic: it is https://ntfy.sh/TOPIC, or that of a server of one's own",
            )?;
            Post { target: server, body: ntfy(&topic, said) }
        }
    })
}

/// Incoming webhooks of Slack; Mattermost and Rocket.Chat show `text` and pass over the blocks.
fn slack(said: &Said) -> serde_json::Value {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = cut_to(&calm(&said.subject), SLACK_HEADER);
    let line = |line: &str| escaped(&cut_to(line, SLACK_LINE)) + "\n";
    let body: String = unfenced(&said.text).lines().map(line).collect();
    let sections = pieces(&body, SLACK_SECTION - 2 * (FENCE.len() + 1), SLACK_SECTIONS);
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": title, "emoji": false },
    })];
    blocks.extend(
        sections
            .iter()
            .map(|text| json!({ "type": "section", "text": { "type": "mrkdwn", "text": fenced(text) } })),
    );
    let title = escaped(&title);
    let rest = SLACK_TEXT.saturating_sub(units(&title) + 2 * (FENCE.len() + 1) + 1);
    let text = format!("{title}\n{}", fenced(&pieces(&body, rest, 1).concat()));
    json!({ "text": text, "blocks": blocks })
}

fn discord(said: &Said) -> serde_json::Value {
    let body = pieces(&unfenced(&said.text), DISCORD_DESCRIPTION - 2 * (FENCE.len() + 1), 1).concat();
    let colour = match said.tone {
        Tone::Critical => 0x00d3_2f2f,
        Tone::Warning => 0x00f9_a825,
        Tone::Good => 0x0038_8e3c,
        Tone::Plain => 0x0061_6161,
    };
    json!({
        "embeds": [{
            "title": cut_to(&calm(&said.subject), DISCORD_TITLE),
            "description": fenced(&body),
            "color": colour,
        }],
        // Whatever a log line says: nobody is called by it.
        "allowed_mentions": { "parse": [] },
    })
}

/// Its JSON form, since a header takes no `é`.
fn ntfy(topic: &str, said: &Said) -> serde_json::Value {
    let (priority, tag) = match said.tone {
        Tone::Critical => (5, "rotating_light"),
        Tone::Warning => (3, "warning"),
        Tone::Good => (2, "white_check_mark"),
        Tone::Plain => (3, "information_source"),
    };
    json!({
        "topic": topic,
        "title": super::message::cut(&said.subject, NTFY_TITLE),
        "message": super::message::cut(&said.text, NTFY_MESSAGE),
        "priority": priority,
        "tags": [tag],
    })
}

/// In letters of one width, with nothing in it that means anything.
fn fenced(text: &str) -> String {
    format!("{FENCE}\n{}\n{FENCE}", text.trim_end_matches('\n'))
}

/// Without what would end the fence.
fn unfenced(text: &str) -> String {
    text.replace(FENCE, "'''")
}

/// Outside a fence `@all` calls people.
fn calm(text: &str) -> String {
    text.replace('@', "@\u{200b}").replace('`', "'")
}

/// By lines, at most so many pieces of at most so many units each; what is left out is said at the end of the last.
fn pieces(text: &str, longest: usize, most: usize) -> Vec<String> {
    let mut pieces: Vec<String> = vec![];
    let mut piece = String::new();
    for line in text.lines() {
        let line = cut_to(line, longest);
        if units(&piece) + units(&line) + 1 > longest && !piece.is_empty() {
            if pieces.len() + 1 == most {
                let room = longest.saturating_sub(units(CUT) + 1);
                // Whole lines go, so that what an escape stands for is never cut in two.
                while units(&piece) > room && !piece.is_empty() {
                    let end = piece.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1);
                    piece.truncate(end);
                }
                piece += CUT.trim_start();
                pieces.push(piece);
                return pieces;
            }
            pieces.push(std::mem::take(&mut piece));
        }
        piece += &line;
        piece.push('\n');
    }
    pieces.push(piece);
    pieces
}

/// At most so many units of UTF-16, as these services count.
fn cut_to(text: &str, longest: usize) -> String {
    if units(text) <= longest {
        return text.to_owned();
    }
    let room = longest.saturating_sub(units(CUT));
    let mut kept = String::new();
    let mut used = 0;
    for letter in text.chars() {
        used += letter.len_utf16();
        if used > room {
            break;
        }
        kept.push(letter);
    }
    kept + CUT
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests;
