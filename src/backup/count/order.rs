//! What must stand where in a dump: its title, its closing comment and nothing after it, psql's commands, no NUL byte.
//!
//! Since August 2025 (CVE-2025-8714) a dump begins with `\restrict KEY` and ends with `\unrestrict KEY`, a new key each
//! time: between them psql obeys no other command, so that no name or value in the database can become one. Older
//! versions of pg_dump write neither, which is no fault.

use memchr::memchr;

/// The comments with which pg_dump and pg_dumpall begin and end (pg_backup_archiver.c, pg_dumpall.c; never
/// translated). Of what pg_dumpall writes, pg_dump's own are a part.
const DATABASE: [&[u8]; 2] = [b"-- PostgreSQL database dump", b"-- PostgreSQL database dump complete"];
const CLUSTER: [&[u8]; 2] =
    [b"-- PostgreSQL database cluster dump", b"-- PostgreSQL database cluster dump complete"];

#[derive(Default)]
pub(super) struct Order {
    /// Bytes that have passed.
    passed: u64,
    /// What it is, as its title says.
    title: Option<Title>,
    closed: bool,
    /// The key of the `\restrict` in force.
    restricted: Option<Vec<u8>>,
    wrong: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Title {
    Database,
    Cluster,
}

impl Order {
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// PostgreSQL's text holds no NUL; a disk that lost a block often does.
    pub(super) fn pass(&mut self, chunk: &[u8]) {
        if self.wrong.is_none()
            && let Some(at) = memchr(0, chunk)
        {
            let at = self.passed + at as u64;
            self.found(|| {
                format!("there is a NUL byte at byte {at} of its content, where no dump holds any")
            });
        }
        self.passed += chunk.len() as u64;
    }

    pub(super) fn comment(&mut self, text: &[u8]) {
        if self.closed {
            // The line that ends the frame of the closing comment.
            if text != b"--" {
                self.found_after_the_end();
            }
            return;
        }
        let title = match text {
            _ if text == DATABASE[0] => Some(Title::Database),
            _ if text == CLUSTER[0] => Some(Title::Cluster),
            _ => None,
        };
        self.title = self.title.or(title);
        let closing = match self.title {
            Some(Title::Cluster) => &[CLUSTER[1]][..],
            Some(Title::Database) => &[DATABASE[1]],
            None => &[DATABASE[1], CLUSTER[1]],
        };
        self.closed = closing.contains(&text);
    }

    /// A statement, or a comment that pg_dump doesn't write.
    pub(super) fn statement(&mut self) {
        if self.closed {
            self.found_after_the_end();
        }
    }

    /// A command of psql's, without its line end.
    pub(super) fn command(&mut self, line: &[u8]) {
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (name, key) = (&line[..end], line[end..].trim_ascii());
        match (name, self.restricted.take()) {
            (b"\\unrestrict", Some(restricted)) if restricted == key => {}
            (b"\\unrestrict", Some(_)) => self.found(|| {
                r"its `\unrestrict` has another key than its `\restrict`: its end is another dump's"
                    .to_owned()
            }),
            (b"\\unrestrict", None) => {
                self.found(|| r"it holds an `\unrestrict` without a `\restrict` before it".to_owned());
            }
            (_, restricted @ Some(_)) => {
                self.restricted = restricted;
                let name = String::from_utf8_lossy(name).replace(char::is_control, "?");
                self.found(|| {
                    format!(r"the command `{name}` of psql stands in it, which `\restrict` forbids")
                });
            }
            _ if self.closed => self.found_after_the_end(),
            (b"\\restrict", None) => self.restricted = Some(key.to_vec()),
            (_, None) => {}
        }
    }

    /// `nothing_open`: the last statement, comment or table came to its end.
    pub(super) fn end(mut self, nothing_open: bool) -> Option<String> {
        if self.closed && !nothing_open {
            self.found(|| {
                "something begins after its closing comment and has no end: it was cut there".to_owned()
            });
        }
        if self.closed && self.restricted.is_some() {
            self.found(|| r"its `\restrict` is followed by no `\unrestrict`: its end is missing".to_owned());
        }
        self.wrong
    }

    fn found_after_the_end(&mut self) {
        self.found(|| "something follows its closing comment: is it two dumps in one file?".to_owned());
    }

    fn found(&mut self, what: impl FnOnce() -> String) {
        self.wrong.get_or_insert_with(what);
    }
}
