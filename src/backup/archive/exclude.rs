//! Patterns for what is left out of an archive.
//!
//! Without a slash a pattern is compared with each name, at any depth; with one at its beginning with the whole path;
//! with another slash with the path below its source. A folder that matches is left out with all that it holds.

use crate::backup::pattern::Pattern;

#[derive(Clone, Debug)]
pub struct Exclude {
    of: Of,
    pattern: Pattern,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Name,
    WholePath,
    BelowSource,
}

impl Exclude {
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, String> {
        // As in .gitignore: a slash at the end says that it is a folder.
        let trimmed = text.trim_end_matches('/');
        let of = match trimmed.find('/') {
            None => return Ok(Self { of: Of::Name, pattern: Pattern::new(trimmed)? }),
            Some(0) => Of::WholePath,
            Some(_) => Of::BelowSource,
        };
        Ok(Self { of, pattern: Pattern::of_path(trimmed)? })
    }

    /// `whole`: the path of the source, a slash, and `below`.
    pub(super) fn matches(&self, whole: &[u8], below: &[u8]) -> bool {
        match self.of {
            Of::Name => self.pattern.matches(below.rsplit(|byte| *byte == b'/').next().unwrap_or(below)),
            Of::WholePath => self.pattern.matches(whole),
            Of::BelowSource => self.pattern.matches(below),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_names_of_paths_or_of_what_lies_below_a_source() {
        let check = |pattern: &str, below: &str, expected: bool| {
            let whole = format!("/srv/media/{below}");
            let found = Exclude::new(pattern).unwrap().matches(whole.as_bytes(), below.as_bytes());
            assert_eq!(found, expected, "{pattern} {below}");
        };
        check("*.tmp", "a/b.tmp", true);
        check("*.tmp", "a.tmp/b", false);
        check("cache/", "a/cache", true);
        check("/srv/media/cache", "cache", true);
        check("/srv/media/cache", "a/cache", false);
        check("/srv/*/x", "a/x", true);
        check("a/cache", "a/cache", true);
        check("a/cache", "b/a/cache", false);
        check("a/*", "a/b/c", true);
        assert!(Exclude::new("").is_err());
        assert!(Exclude::new("/").is_err());
    }
}
