//! A line of a JSON log: the Elastic Common Schema, as its logging libraries write it.
//!
//! One object a line, all keys at its top and with dots: the specification of ECS logging asks for that in `log.level`
//! and `ecs.version`, and the library for Java does it for all. What stores them takes `a.b` for `a: {b}`, and a
//! shipper needs no rule for depth. `@timestamp`, `log.level` and `message` come first. The run comes last, so that
//! who looks for one run need not parse the lines of the others: nothing behind the message is a program's own.
//!
//! docs/logs.md has each field with its meaning.

#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Level, LogLine, Stream};
use crate::host::procfs;
use crate::model::{JobName, RunId};

/// The version of the schema that was read for this; it has had all of these fields since 1.0.
const VERSION: &str = "8.11.0";

/// What is the same in all lines of one file.
pub(super) struct Source {
    fields: String,
    /// The daemon itself runs nothing.
    has_runs: bool,
}

impl Source {
    pub(super) fn new(job: &JobName) -> Self {
        // The name of a dataset may have no hyphen, since names of data streams are made of it.
        let has_runs = *job != JobName::daemon();
        let (dataset, last) = if has_runs {
            ("job", format!(r#""labels.job":"{job}""#))
        } else {
            ("daemon", format!(r#""process.pid":{}"#, procfs::own_pid()))
        };
        let host = serde_json::Value::from(procfs::host_name());
        let mut fields = format!(r#","ecs.version":"{VERSION}","service.name":"punk-eco-sched""#);
        fields += &format!(r#","event.dataset":"punk_eco_sched.{dataset}","host.name":{host},{last}"#);
        Self { fields, has_runs }
    }

    /// What stands behind the message.
    pub(super) fn tail(&self, run: RunId, stream: Stream) -> String {
        if self.has_runs {
            format!(r#"{}{RUN}{run}{STREAM}{}"}}"#, self.fields, stream.word())
        } else {
            format!("{}}}", self.fields)
        }
    }
}

const RUN: &str = r#","labels.run":""#;
const STREAM: &str = r#"","labels.stream":""#;

/// What stands before the message.
pub(super) fn head(time: &str, level: Level) -> String {
    format!(r#"{{"@timestamp":"{time}","log.level":"{}","message":"#, level.word())
}

/// The message, as JSON has it.
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    // Writing a text into memory can't fail.
    let _ = serde_json::to_writer(&mut *out, text);
}

/// The keys of today, and those that this program wrote before.
#[derive(Deserialize)]
struct Read {
    #[serde(rename = "@timestamp", alias = "time")]
    time: Timestamp,
    #[serde(rename = "labels.run", alias = "run", deserialize_with = "label_or_number")]
    run: i64,
    #[serde(rename = "labels.stream", alias = "stream")]
    stream: Stream,
    #[serde(rename = "message", alias = "text")]
    text: String,
}

/// Labels are texts; the run was a number before.
fn label_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Either;
    impl Visitor<'_> for Either {
        type Value = i64;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("the number of a run")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Either)
}

pub(super) fn decode(line: &str) -> Option<LogLine> {
    let Read { time, run, stream, text } = serde_json::from_str(line).ok()?;
    Some(LogLine { time, run: RunId(run), stream, text })
}

/// The run of a line, from its end: a quote within the message would have a backslash before it, so that no program
/// can write one. `None` where the line doesn't end as ours do.
pub(super) fn run_of(line: &[u8]) -> Option<RunId> {
    // No longer than both labels with the longest number.
    let end = std::str::from_utf8(&line[line.len().saturating_sub(72)..]).ok()?;
    let (before, stream) = end.strip_suffix("\"}")?.rsplit_once(STREAM)?;
    let (_, run) = before.rsplit_once(RUN)?;
    matches!(stream, "stdout" | "stderr" | "note").then(|| run.parse().ok().map(RunId))?
}
