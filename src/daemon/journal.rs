//! The daemon's own log: standard error, which systemd's journal takes, and `_daemon.log` beside the jobs' logs.
//!
//! No job can have that name: a job's begins with a letter or a digit.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::{Clock, SystemClock};
use crate::logs::{self, Logs, RunLog};
use crate::model::{JobName, RunId};

/// Begins to log what is told through `tracing`. Once a process.
pub(super) fn start(directory: &Path, settings: logs::Settings) {
    let file = Logs::new(directory, settings).run(&JobName::daemon(), RunId(0));
    let journal = Journal { file, with_time: std::io::stderr().is_terminal() };
    // Fails only where one was started before.
    let _ = tracing_subscriber::registry().with(journal.with_filter(LevelFilter::INFO)).try_init();
}

struct Journal {
    file: RunLog,
    /// journald has the time of each line already.
    with_time: bool,
}

thread_local! {
    /// That the log can't be written is told through the log, too.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = match *event.metadata().level() {
            Level::ERROR => "error: ".to_owned(),
            Level::WARN => "warning: ".to_owned(),
            _ => String::new(),
        };
        event.record(&mut Message(&mut text));
        let now = SystemClock.now();
        let time = if self.with_time { format!("{now:.3} ") } else { String::new() };
        // Nobody may be listening any more; that must not end the daemon.
        let _ = writeln!(std::io::stderr(), "{time}{text}");
        if !WRITING.replace(true) {
            self.file.note(now, &text);
            WRITING.set(false);
        }
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
