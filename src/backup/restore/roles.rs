//! The roles of a backup: which of them a server lacks, and the statements of the roles file that make those.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::anyhow;

use super::feed::unreadable;
use crate::backup::crypt::Identities;
use crate::backup::read::{Progress, Reading};
use crate::backup::work::Trouble;

/// A thousand roles take a megabyte.
const LONGEST: u64 = 64 << 20;

/// What pg_dumpall wrote of roles, statement by statement.
#[derive(Clone, Default)]
pub(super) struct Roles(Vec<String>);

impl Roles {
    /// Blocks.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn read(file: &Path, keys: Option<&Identities>) -> Result<Self, Trouble> {
        let opened =
            File::open(file).map_err(|error| anyhow!("{} can't be opened: {error}", file.display()))?;
        let reading = Reading::open(opened, keys, Progress::default());
        let reading = reading.map_err(|error| unreadable(file, &error))?;
        let mut text = Vec::new();
        let read = reading.into_content().take(LONGEST).read_to_end(&mut text);
        read.map_err(|error| Trouble::Lasting(anyhow!("{} can't be read: {error}", file.display())))?;
        Ok(Self::of(&String::from_utf8_lossy(&text)))
    }

    fn of(text: &str) -> Self {
        Self(statements(text))
    }

    /// Those that the file makes and that are not among `known`.
    pub(super) fn missing(&self, known: &[String]) -> BTreeSet<String> {
        let made = self.0.iter().filter_map(|statement| {
            let (name, _) = identifier(statement.strip_prefix("CREATE ROLE ")?)?;
            Some(name)
        });
        made.filter(|name| !known.contains(name)).collect()
    }

    /// What makes these roles, in the order of the file: their attributes, settings, memberships and comments.
    pub(super) fn making(&self, roles: &BTreeSet<String>) -> String {
        let about = |statement: &&String| {
            let rest = ["CREATE ROLE ", "ALTER ROLE ", "COMMENT ON ROLE "]
                .iter()
                .find_map(|begin| statement.strip_prefix(begin));
            if let Some((name, _)) = rest.and_then(identifier) {
                return roles.contains(&name);
            }
            // A membership: of a role that is made, or in one.
            let Some((of, rest)) = statement.strip_prefix("GRANT ").and_then(identifier) else {
                return false;
            };
            let to = rest.trim_start().strip_prefix("TO ").and_then(identifier);
            to.is_some_and(|(to, _)| roles.contains(&to) || roles.contains(&of))
        };
        self.0.iter().filter(about).map(|statement| format!("{statement};\n")).collect()
    }
}

/// Parts a script at the semicolons that end statements; comments and psql's own commands are dropped.
fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut statement = String::new();
    let mut quote: Option<char> = None;
    let mut escapes = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins_line = statement.is_empty();
        match (quote, letter) {
            (Some(_), '\\') if escapes => {
                statement.push(letter);
                statement.extend(letters.next());
                continue;
            }
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => {
                escapes = letter == '\'' && statement.ends_with(['E', 'e']);
                quote = Some(letter);
            }
            (None, ';') => {
                found.push(std::mem::take(&mut statement));
                continue;
            }
            (None, '-') if begins_line && letters.peek() == Some(&'-') => {
                letters.by_ref().find(|letter| *letter == '\n');
                continue;
            }
            (None, '\\') if begins_line => {
                letters.by_ref().find(|letter| *letter == '\n');
                continue;
            }
            (None, _) if begins_line && letter.is_whitespace() => continue,
            (None, _) => {}
        }
        statement.push(letter);
    }
    found
}

/// The name that a text begins with, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '$');
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        let Some(again) = after.strip_prefix('"') else { return Some((name, after)) };
        name.push('"');
        rest = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"--
-- PostgreSQL database cluster dump
--

\restrict abc

SET default_transaction_read_only = off;

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b==$c:d';
CREATE ROLE "it's ""é""";
ALTER ROLE "it's ""é""" WITH NOLOGIN;
COMMENT ON ROLE "it's ""é""" IS E'first\\; it\'s
-- no comment; still';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER;
ALTER ROLE app SET search_path TO 'a', 'b';


-- Role memberships
GRANT app TO "it's ""é""" GRANTED BY postgres;
GRANT pg_monitor TO postgres WITH INHERIT TRUE;

\unrestrict abc
-- PostgreSQL database cluster dump complete
"#;

    #[test]
    fn only_what_makes_the_missing_roles_is_taken() {
        let roles = Roles::of(FILE);
        let known = ["postgres".to_owned(), "pg_monitor".to_owned()];
        let missing = roles.missing(&known);
        assert_eq!(missing.iter().map(String::as_str).collect::<Vec<_>>(), ["app", "it's \"é\""]);
        let expected = r#"CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b==$c:d';
CREATE ROLE "it's ""é""";
ALTER ROLE "it's ""é""" WITH NOLOGIN;
COMMENT ON ROLE "it's ""é""" IS E'first\\; it\'s
-- no comment; still';
ALTER ROLE app SET search_path TO 'a', 'b';
GRANT app TO "it's ""é""" GRANTED BY postgres;
"#;
        assert_eq!(roles.making(&missing), expected);
        let only = ["app".to_owned()].into();
        assert!(!roles.making(&only).contains("CREATE ROLE \"it's"));
        assert!(roles.making(&only).contains("GRANT app TO"));
    }

    #[test]
    fn nothing_is_missing_where_all_are_known() {
        let known = ["postgres", "app", "it's \"é\""].map(str::to_owned);
        assert!(Roles::of(FILE).missing(&known).is_empty());
        assert!(Roles::default().missing(&[]).is_empty());
    }
}
