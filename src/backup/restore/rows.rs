//! Counts the rows of a restored database, table by table, and compares them with what the backup should hold.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::server::Server;
use crate::backup::count::{TableRows, readable};
use crate::backup::work::Trouble;

/// The tables of a database, with their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// By schema and name; of a partitioned table its partitions.
    tables: BTreeMap<(String, String), Found>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    rows: u64,
    /// An extension made it, perhaps with rows of its own that no dump holds.
    of_extension: bool,
}

/// Each table by itself (ONLY), as COPY dumps it. In the database's own encoding throughout, whatever that is: bytes that
/// are no text anywhere else can't be converted, and a dump names its tables in that encoding too.
const COUNTS: &str = r"
SELECT getdatabaseencoding() AS own \gset
SET client_encoding = :'own';
SELECT format('SELECT jsonb_build_array(%L, %L, (SELECT count(*) FROM ONLY %I.%I), %L::bool)',
  encode(convert_to(n.nspname, getdatabaseencoding()), 'hex'), encode(convert_to(c.relname, getdatabaseencoding()), 'hex'),
  n.nspname, c.relname,
  EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\_toast%'
ORDER BY 1 \gexec
";

/// Really counts: what the statistics say is a guess.
///
/// # Errors
/// What psql said.
pub(super) async fn count(server: &Server<'_>, database: &str) -> Result<Rows, Trouble> {
    let counted: Vec<(Name, Name, u64, bool)> = server.ask(database, COUNTS).await?;
    let tables = counted
        .into_iter()
        .map(|(schema, name, rows, of_extension)| ((schema.0, name.0), Found { rows, of_extension }))
        .collect();
    Ok(Rows { tables })
}

/// A name whose bytes came in hex.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            (pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .then(|| u8::from_str_radix(pair, 16).ok())
                .flatten()
        };
        let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
        bytes.map(|bytes| Self(readable(&bytes))).ok_or("a name must be in hex")
    }
}

impl Rows {
    pub(super) fn tables(&self) -> usize {
        self.tables.len()
    }

    pub(super) fn rows(&self) -> u64 {
        self.tables.values().map(|found| found.rows).sum()
    }

    /// How they differ from what should be there; empty: they don't.
    pub(super) fn differences(&self, expected: &[TableRows]) -> Vec<String> {
        let differs = |table: &TableRows| {
            let key = (table.schema.clone(), table.name.clone());
            let found = match self.tables.get(&key) {
                None => "is not there".to_owned(),
                Some(found) if found.rows == table.rows => return None,
                Some(found) if found.of_extension && found.rows > table.rows => return None,
                Some(found) => format!("has {} of {} rows", found.rows, table.rows),
            };
            Some(format!("{}.{} {found}", table.schema, table.name))
        };
        expected.iter().filter_map(differs).collect()
    }
}

/// The first of many differences, and how many more there are.
pub(super) fn told(differences: &[String]) -> String {
    const TOLD: usize = 5;
    let more = differences.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!("{}{more}", differences[..differences.len().min(TOLD)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_as_the_dump_has_it_whatever_its_encoding() {
        let name = |hex: &str| Name::try_from(hex.to_owned()).map(|name| name.0);
        assert_eq!(name("636166c3a9"), Ok("café".to_owned()));
        assert_eq!(name("636166e9"), Ok(r"caf\xe9".to_owned()));
        assert_eq!(name(""), Ok(String::new()));
        assert_eq!(name("6"), Err("a name must be in hex"));
        assert_eq!(name("+6"), Err("a name must be in hex"));
    }

    #[test]
    fn a_table_that_is_short_or_missing_is_named_and_an_extension_may_add_rows() {
        let found = |name: &str, rows, of_extension| {
            (("public".to_owned(), name.to_owned()), Found { rows, of_extension })
        };
        let rows = Rows { tables: [found("a", 2, false), found("b", 3, true), found("c", 1, false)].into() };
        let table = |name: &str, rows| TableRows { schema: "public".into(), name: name.into(), rows };
        let none: [&str; 0] = [];
        assert_eq!(rows.differences(&[table("a", 2), table("b", 1)]), none);
        let all = [table("a", 3), table("b", 4), table("d", 0), table("c", 0)];
        let expected = [
            "public.a has 2 of 3 rows",
            "public.b has 3 of 4 rows",
            "public.d is not there",
            "public.c has 1 of 0 rows",
        ];
        assert_eq!(rows.differences(&all), expected);
        let many: Vec<String> = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(told(&many), "1, 2, 3, 4, 5, and 2 more");
    }
}
