//! How far long work has come: one line on a terminal, written over until the work ends, and nothing anywhere else.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backup::read::Progress;
use crate::units::Size;

/// Between two lines: nobody reads faster. Work that ends before shows none.
const EVERY: Duration = Duration::from_millis(500);

/// To the beginning of the line, and nothing after it.
const CLEAR: &str = "\r\x1b[K";

/// Does the work and shows how much of `total` bytes `progress` says are done.
pub(super) async fn shown<T>(
    what: &str,
    total: u64,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    if !wanted() {
        return work.await;
    }
    let mut said = false;
    loop {
        tokio::select! {
            done = &mut work => {
                if said {
                    clear();
                }
                return done;
            }
            () = tokio::time::sleep(EVERY) => {
                said = true;
                say(&line(what, progress.load(Ordering::Relaxed), total));
            }
        }
    }
}

/// Before anything else is written to standard error.
pub(super) fn clear() {
    if wanted() {
        say("");
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let share = (done.min(total) * 100).checked_div(total).unwrap_or(100);
    format!("{what}: {} of {} ({share} %)", Size(done), Size(total))
}

fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    // With standard error gone there is nobody left to show it to.
    let _ = write!(stderr, "{CLEAR}{text}").and_then(|()| stderr.flush());
}

fn wanted() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_has_come() {
        assert_eq!(line("reading a.sql", 0, 3 << 20), "reading a.sql: 0 B of 3.0 MiB (0 %)");
        assert_eq!(line("reading a.sql", 1 << 20, 3 << 20), "reading a.sql: 1.0 MiB of 3.0 MiB (33 %)");
        assert_eq!(line("reading a.sql", 4 << 20, 3 << 20), "reading a.sql: 4.0 MiB of 3.0 MiB (100 %)");
        assert_eq!(line("reading a.sql", 0, 0), "reading a.sql: 0 B of 0 B (100 %)");
    }
}
