//! What is said of many notices at once, where a storm is one message.
//!
//! Pure. Says something of each of the first hundred, and of the others how many they are and what lists them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::Story;
use super::message::{cut, happened, tone};
use super::said::{self, NAME, Said, Tone, commands};
use super::words::{Note, Title, Words, words};
use crate::config::Language;
use crate::ledger::{Incident, Notice};
use crate::model::{NoticeKind, Outcome};

/// More than that nobody reads; and a webhook's receiver may take no more.
const LISTED: usize = 100;
const LONGEST_REASON: usize = 160;
/// Rows of `history`, which has one for each run that succeeded meanwhile as well.
const ALL: u32 = 1_000_000;

pub(super) struct Digest<'a> {
    /// In the order in which they were written; at least one.
    pub(super) notices: &'a [&'a Notice],
    pub(super) host: &'a str,
    pub(super) now: Timestamp,
    pub(super) zone: &'a TimeZone,
    pub(super) language: Language,
}

/// One notice of those that are listed.
struct Listed<'a> {
    notice: &'a Notice,
    story: Story,
}

impl Digest<'_> {
    pub(super) fn said(&self) -> Said {
        let words = words(self.language);
        let headline = words.on_host(&words.digest(&self.kinds()), self.host);
        let listed = self.listed();
        let (subject, text) = (said::subject(&headline), self.text(&headline, &listed, words));
        Said {
            id: self.id(),
            at: self.now,
            document: self.document(&listed, &format!("{subject}\n\n{text}")),
            subject,
            text,
            tone: self.tone(&listed),
            sender: words.on_host(NAME, self.host),
        }
    }

    /// The same for the same notices: one that is sent again, since the daemon died before it had noted that it was
    /// sent, can be told by it.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        for notice in self.notices {
            hash.update(notice.id.as_bytes());
            hash.update([0]);
        }
        let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("digest.{hex}")
    }

    fn kinds(&self) -> Vec<(NoticeKind, usize)> {
        use NoticeKind::{Failed, Flapping, Held, Recovered, Reminder};
        let count = |kind| (kind, self.notices.iter().filter(|notice| notice.kind == kind).count());
        [Failed, Held, Reminder, Flapping, Recovered]
            .map(count)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// A story that can't be read leaves its job to be named all the same.
    fn listed(&self) -> Vec<Listed<'_>> {
        let listed = |notice| {
            let notice: &Notice = notice;
            let incident = Incident::of_job(notice.job.clone(), notice.run, notice.at);
            let outcome = match notice.kind {
                NoticeKind::Recovered => Outcome::Succeeded,
                _ => Outcome::Failed,
            };
            let story = serde_json::from_value(notice.story.clone());
            let story = story.unwrap_or_else(|_| Story::new(self.host, &incident, outcome, notice.at));
            Listed { notice, story }
        };
        self.notices.iter().copied().take(LISTED).map(listed).collect()
    }

    fn tone(&self, listed: &[Listed<'_>]) -> Tone {
        // Of those that aren't listed, any that fails counts as the worst.
        let others = self.notices.iter().skip(LISTED).any(|notice| notice.kind != NoticeKind::Recovered);
        let others = others.then_some(Tone::Critical);
        listed.iter().map(|one| tone(one.notice, &one.story)).chain(others).max().unwrap_or(Tone::Plain)
    }

    fn text(&self, headline: &str, listed: &[Listed<'_>], words: &dyn Words) -> String {
        let mut text = format!("{headline}.\n{}\n\n", words.note(Note::Digest));
        for Listed { notice, story } in listed {
            let what = happened(notice, story, self.language);
            let recovered = notice.kind == NoticeKind::Recovered;
            let since = said::instant(story.since, self.zone);
            let reason = reason(story);
            text += &format!("  {}\n", words.in_digest(&what, recovered, &since, reason.as_deref()));
            text += &format!("    {}\n", show(notice));
        }
        if self.more() > 0 {
            text += &format!("  {}\n", words.more(self.more()));
        }
        text + &commands(words.title(Title::Next), &self.next())
    }

    fn document(&self, listed: &[Listed<'_>], text: &str) -> serde_json::Value {
        let notices: Vec<serde_json::Value> = listed
            .iter()
            .map(|Listed { notice, story }| {
                serde_json::json!({
                    "id": notice.id,
                    "event": notice.kind,
                    "job": notice.job.is_job().then_some(&notice.job),
                    "run": notice.job.is_job().then_some(notice.run),
                    "outcome": story.outcome,
                    "reason": reason(story),
                    "since": story.since,
                    "failures": story.failures,
                    "checks": story.checks.iter().map(|check| &check.name).collect::<Vec<_>>(),
                })
            })
            .collect();
        serde_json::json!({
            "id": self.id(),
            "event": "digest",
            "job": null,
            "host": self.host,
            "count": self.notices.len(),
            "notices": notices,
            "more": self.more(),
            "next": self.next(),
            "text": text,
        })
    }

    fn more(&self) -> usize {
        self.notices.len().saturating_sub(LISTED)
    }

    /// What lists all that fails now, and every run that is named here.
    fn next(&self) -> Vec<String> {
        let runs = self.notices.iter().filter(|notice| notice.job.is_job());
        let mut next = vec!["punk-eco-sched status".to_owned()];
        if let Some(since) = runs.map(|notice| moment(notice)).min() {
            let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
            next.push(format!("punk-eco-sched history --since {since:.0} -n {ALL}"));
        }
        next
    }
}

/// Not after the time by which `history` sorts the run: its slot, or where it has none its start.
fn moment(notice: &Notice) -> Timestamp {
    let at = |key: &str| notice.story.get(key)?.as_str()?.parse().ok();
    let known: Option<Timestamp> = at("slot").or_else(|| at("started_at")).or_else(|| at("since"));
    known.map_or(notice.at, |known| known.min(notice.at))
}

fn show(notice: &Notice) -> String {
    match notice.job.is_job() {
        true => format!("punk-eco-sched show {}", notice.run),
        false => "punk-eco-sched status".to_owned(),
    }
}

/// One line, whatever the job said.
fn reason(story: &Story) -> Option<String> {
    let checks: Vec<String> =
        story.checks.iter().map(|check| format!("{}: {}", check.name, check.text)).collect();
    let whole = match (&story.reason, &checks[..]) {
        (Some(reason), []) => reason.clone(),
        (None, []) => return None,
        (_, [_]) => story.checks[0].text.clone(),
        _ => checks.join("; "),
    };
    Some(cut(&whole.lines().map(str::trim).collect::<Vec<_>>().join(" "), LONGEST_REASON))
}

#[cfg(test)]
mod tests;
