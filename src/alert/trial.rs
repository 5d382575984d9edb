//! A message that tells of nothing, so that somebody sees that the next one will arrive. Leaves nothing in the ledger.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::courier::{Failure, deliver};
use super::said::{self, NAME, Said, Tone, rows};
use super::words::{Label, Note, words};
use crate::config::{Contact, JobTable, Language};
use crate::model::Channel;

/// What became of it by one channel: where it was taken, or why it was not.
pub type Trial = (Channel, Result<String, String>);

/// Who asks, and from where.
pub struct Asked<'a> {
    pub by: &'a str,
    pub host: &'a str,
    pub at: Timestamp,
    /// Of this process and this try.
    pub id: String,
}

/// Tries each channel of a contact once, side by side.
pub async fn try_contact(table: &JobTable, name: &str, contact: &Contact, asked: &Asked<'_>) -> Vec<Trial> {
    let said = &said(table, name, asked);
    let no_server = table.alerts.as_ref().is_none_or(|alerts| alerts.smtp.is_none());
    let one = async |channel| {
        if channel == Channel::Email && no_server {
            let reason = "jobs.yaml names no mail server: write it under `alerts: { smtp: … }`";
            return (channel, Err(reason.to_owned()));
        }
        let sent = deliver(table, contact, channel, said, asked.at).await;
        (channel, sent.map(|sent| sent.0).map_err(Failure::reason))
    };
    let mail = contact.email.as_ref().map(|_| one(Channel::Email));
    let webhook = contact.webhook.as_ref().map(|_| one(Channel::Webhook));
    join_all(mail.into_iter().chain(webhook)).await
}

fn said(table: &JobTable, contact: &str, asked: &Asked<'_>) -> Said {
    let language = table.alerts.as_ref().map_or(Language::default(), |alerts| alerts.language);
    let words = words(language);
    let headline = words.on_host(words.test(), asked.host);
    let facts = [
        (words.label(Label::Contact), contact.to_owned()),
        (words.label(Label::AskedBy), asked.by.to_owned()),
        (words.label(Label::At), said::instant(asked.at, &table.timezone)),
    ];
    let subject = said::subject(&headline);
    let text = format!("{headline}.\n\n{}\n{}\n", rows(&facts), words.note(Note::Test));
    Said {
        id: asked.id.clone(),
        at: asked.at,
        document: serde_json::json!({
            "id": asked.id,
            "event": "test",
            "job": null,
            "host": asked.host,
            "contact": contact,
            "asked_by": asked.by,
            "at": asked.at,
            "text": format!("{subject}\n\n{text}"),
        }),
        subject,
        text,
        tone: Tone::Plain,
        sender: words.on_host(NAME, asked.host),
    }
}
