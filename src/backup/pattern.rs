//! File name patterns as the shell and find(1) have them: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` to take the next
//! character as it is. Matches the bytes of a name, or of a path whose slashes are characters like any other, as
//! find's -path has it.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// Any one character.
    One,
    /// Anything, also nothing.
    Any,
    Class {
        not: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Pattern {
    /// Matches every name.
    pub fn all() -> Self {
        Self(vec![Part::Any])
    }

    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches nothing: write it like *.sql.gz".to_owned());
        }
        if text.contains('/') {
            return Err(format!(
                "`{text}` has a slash: it is compared with names of files, in all folders below"
            ));
        }
        Self::of_path(text)
    }

    /// For whole paths: a `*` also takes slashes.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn of_path(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            parts.push(match byte {
                b'*' => Part::Any,
                b'?' => Part::One,
                b'[' => {
                    let (class, after) = class(rest)
                        .ok_or_else(|| format!("`{text}` has a `[` without its `]`: write `\\[`"))?;
                    rest = after;
                    class
                }
                b'\\' => {
                    let (&byte, after) =
                        rest.split_first().ok_or_else(|| format!("`{text}` ends with a lone `\\`"))?;
                    rest = after;
                    Part::Byte(byte)
                }
                _ => Part::Byte(byte),
            });
        }
        Ok(Self(parts))
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where to go on when what follows the last `*` doesn't fit: one byte further on.
        let mut again: Option<(usize, usize)> = None;
        loop {
            let used = match self.0.get(part) {
                None if at == name.len() => return true,
                Some(Part::Any) => {
                    again = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                Some(one) if at < name.len() => one.fits(&name[at..]),
                _ => 0,
            };
            if used > 0 {
                part += 1;
                at += used;
                continue;
            }
            match again {
                Some((after, from)) if from < name.len() => {
                    (part, at) = (after, from + 1);
                    again = Some((after, from + 1));
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    /// How many bytes it takes; 0: it doesn't fit.
    fn fits(&self, rest: &[u8]) -> usize {
        match self {
            Self::Byte(byte) => usize::from(rest[0] == *byte),
            Self::Any => 0,
            Self::One => character(rest),
            Self::Class { not, ranges } => {
                let within = ranges.iter().any(|(from, to)| (*from..=*to).contains(&rest[0]));
                if within == *not { 0 } else { character(rest) }
            }
        }
    }
}

/// The length of the UTF-8 character that this begins with.
fn character(rest: &[u8]) -> usize {
    let more = rest[1..].iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
    if rest[0] < 0xc0 { 1 } else { 1 + more.min(3) }
}

/// What stands after `[`; a `]` that comes first stands for itself.
fn class(text: &[u8]) -> Option<(Part, &[u8])> {
    let not = matches!(text.first(), Some(b'!' | b'^'));
    let text = &text[usize::from(not)..];
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let byte = *text.get(at)?;
        if byte == b']' && at > 0 {
            return Some((Part::Class { not, ranges }, &text[at + 1..]));
        }
        match (text.get(at + 1), text.get(at + 2)) {
            (Some(b'-'), Some(&to)) if to != b']' => {
                ranges.push((byte, to));
                at += 3;
            }
            _ => {
                ranges.push((byte, byte));
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_find_does() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name.as_bytes()), expected, "{pattern} {name}");
        };
        check("*.sql.gz", "a-20261122T230000Z.sql.gz", true);
        check("*.sql.gz", "a.sql.gz.sql.gz", true);
        check("*.sql.gz", "a.sql.gz.manifest.json", false);
        check("*.sql.gz", "a.sql.g", false);
        check("*", "", true);
        check("a*b*c", "a.b.b.c", true);
        check("a*b*c", "a.b.b.d", false);
        check("?", "é", true);
        check("?", "éé", false);
        check("[a-c]x", "bx", true);
        check("[!a-c]x", "bx", false);
        check("[^a-c]x", "dx", true);
        check("[]a]", "]", true);
        check("[a-]", "-", true);
        check("\\*", "*", true);
        check("\\*", "x", false);
        check("a", "A", false);
        assert!(Pattern::of_path("/srv/*/cache").unwrap().matches(b"/srv/a/b/cache"));
        assert!(!Pattern::of_path("/srv/*/cache").unwrap().matches(b"/srv/cache"));
    }

    #[test]
    fn a_pattern_that_can_t_match_is_refused() {
        let check = |pattern: &str, expected: &str| assert_eq!(Pattern::new(pattern).unwrap_err(), expected);
        check("", "an empty pattern matches nothing: write it like *.sql.gz");
        check("a/*", "`a/*` has a slash: it is compared with names of files, in all folders below");
        check("[a", "`[a` has a `[` without its `]`: write `\\[`");
        check("a\\", "`a\\` ends with a lone `\\`");
    }
}
