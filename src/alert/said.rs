//! A message whole, whatever way it takes: its parts as the channels want them. Knows no channel.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::Severity;

/// What is told, and how much it matters.
pub(super) struct Said {
    /// Names it for ever: a message that comes twice has it twice.
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) subject: String,
    pub(super) text: String,
    /// What a webhook is given that takes our own JSON; docs/jobs-yaml.md describes it.
    pub(super) document: serde_json::Value,
    pub(super) tone: Tone,
    /// `punk-eco-sched on web1`
    pub(super) sender: String,
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    /// Nobody has to do anything.
    Plain,
    Good,
    Warning,
    Critical,
}

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Critical,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Plain,
        }
    }
}

pub(super) const NAME: &str = "punk-eco-sched";

/// `[punk-eco-sched] db-backup failed on web1`
pub(super) fn subject(headline: &str) -> String {
    format!("[{NAME}] {headline}")
}

/// `2026-11-23 00:01:00+01:00`
pub(super) fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
}

/// Facts below each other; further lines of one stand under its first.
pub(super) fn rows(rows: &[(&str, String)]) -> String {
    const LEAST: usize = 8;
    let widest = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0).max(LEAST);
    let indent = format!("\n{}", " ".repeat(widest + 4));
    let row = |(label, value): &(&str, String)| {
        format!("  {label:<widest$}  {}\n", value.trim_end().replace('\n', &indent))
    };
    rows.iter().map(row).collect()
}

/// Commands, each on a line of its own so that it can be copied.
pub(super) fn commands(title: &str, commands: &[String]) -> String {
    let lines: String = commands.iter().map(|command| format!("  {command}\n")).collect();
    format!("\n{title}\n\n{lines}")
}
