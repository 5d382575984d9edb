//! What explains what: a page can't be served without its database, and nobody need be told of both.
//!
//! Pure. A check says itself what it depends on (`because_of`), or is taken to depend on what lies below its kind.

use std::collections::BTreeSet;

/// A check as far as this goes.
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) fails: bool,
    /// The names that the file gives; none: by kind.
    pub(super) because_of: Option<&'a [String]>,
}

/// What lies below a kind: where that fails, so does this.
fn below(kind: &str) -> &'static [&'static str] {
    match kind {
        "tcp" | "postgres" => &["service", "containers"],
        "http" => &["service", "containers", "postgres", "tcp"],
        "access_log" => &["service", "containers", "postgres", "tcp", "http"],
        _ => &[],
    }
}

/// For each check that fails, the failing one that explains it: the one that nothing explains in its turn.
pub(super) fn explain(checks: &[Node<'_>]) -> Vec<Option<usize>> {
    let cause = |at: usize| {
        // No further than there are checks: a circle is refused when the file is read.
        let up = std::iter::successors(direct(checks, at), |next| direct(checks, *next));
        up.take(checks.len()).last().filter(|root| *root != at)
    };
    (0..checks.len()).map(|at| if checks[at].fails { cause(at) } else { None }).collect()
}

fn direct(checks: &[Node<'_>], at: usize) -> Option<usize> {
    let check = &checks[at];
    // The deepest first, in the order in which they lie below each other.
    let rank = |other: &Node<'_>| below(check.kind).iter().position(|kind| *kind == other.kind);
    let failing = (0..checks.len())
        .filter(|other| *other != at && checks[*other].fails && explains(checks, *other, at));
    failing.min_by_key(|other| (rank(&checks[*other]).unwrap_or(usize::MAX), *other))
}

/// A check that would explain itself in the end: nobody would be told of it.
pub(super) fn circle(checks: &[Node<'_>]) -> Option<usize> {
    let below = |at: usize| (0..checks.len()).filter(move |other| explains(checks, *other, at));
    let comes_back = |start: usize| {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![start]);
        while let Some(next) = ahead.pop() {
            for other in below(next) {
                if other == start {
                    return true;
                }
                if seen.insert(other) {
                    ahead.push(other);
                }
            }
        }
        false
    };
    // What the kinds say alone never goes round.
    let written = (0..checks.len()).filter(|at| checks[*at].because_of.is_some());
    written.into_iter().find(|start| comes_back(*start))
}

fn explains(checks: &[Node<'_>], other: usize, at: usize) -> bool {
    match checks[at].because_of {
        Some(names) => names.iter().any(|name| name == checks[other].name),
        None => below(checks[at].kind).contains(&checks[other].kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check a word: `name:kind`, with `!` behind it where it fails; what explains each failing one, as
    /// `name<cause`.
    fn check(words: &str, expected: &str) {
        let node = |word: &'static str| {
            let (name, kind) = word.trim_end_matches('!').split_once(':').unwrap();
            Node { name, kind, fails: word.ends_with('!'), because_of: None }
        };
        let words: &'static str = words.to_owned().leak();
        let checks: Vec<Node<'_>> = words.split_whitespace().map(node).collect();
        let found = explain(&checks);
        let said: Vec<String> = std::iter::zip(&checks, found)
            .filter_map(|(check, cause)| Some(format!("{}<{}", check.name, checks[cause?].name)))
            .collect();
        assert_eq!(said.join(" "), expected, "{words}");
    }

    #[test]
    fn what_fails_below_explains_what_fails_above() {
        check("db:postgres! page:http!", "page<db");
        check("page:http! db:postgres!", "page<db");
        check("db:postgres page:http!", "");
        check("db:postgres! page:http", "");
        check("web:containers! db:postgres! page:http! log:access_log!", "db<web page<web log<web");
        check("nginx:service! page:http! log:access_log!", "page<nginx log<nginx");
        check("page:http! log:access_log!", "log<page");
        check("redis:tcp! db:postgres!", "");
        check("db:postgres! disk:disk! memory:memory! own:command!", "");
        check("a:http! b:http!", "");
        // A certificate that ends soon does so whatever runs.
        check("nginx:service! tls:certificate!", "");
    }

    #[test]
    fn what_the_file_says_goes_before_the_kinds() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (none, disk, page) = (names(&[]), names(&["disk"]), names(&["page"]));
        let node = |name, kind, because_of| Node { name, kind, fails: true, because_of };
        let checks = [
            node("disk", "disk", None),
            node("db", "postgres", Some(&disk[..])),
            node("page", "http", None),
            node("status", "http", Some(&none[..])),
        ];
        assert_eq!(explain(&checks), [None, Some(0), Some(0), None]);
        assert_eq!(circle(&checks), None);
        let round = [node("page", "http", Some(&disk[..])), node("disk", "disk", Some(&page[..]))];
        assert_eq!(circle(&round), Some(0));
        // With what its kind says of the page.
        let both = [node("page", "http", None), node("db", "postgres", Some(&page[..]))];
        assert_eq!(circle(&both), Some(1));
        let itself = [node("page", "http", Some(&page[..]))];
        assert_eq!(circle(&itself), Some(0));
        assert_eq!(explain(&itself), [None]);
    }
}
