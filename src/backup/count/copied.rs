//! The head of a COPY statement, and the table that it names. Reads what pg_dump writes, never more of SQL.

use memchr::memchr;

use super::{TableRows, in_word};

/// `COPY schema.table (columns) FROM stdin;`, as pg_dump writes it.
pub(super) fn copied_table(statement: &[u8]) -> Option<TableRows> {
    let rest = statement.strip_prefix(b"COPY ")?.strip_suffix(b" FROM stdin;")?;
    let (schema, rest) = identifier(rest)?;
    let (name, _) = identifier(rest.strip_prefix(b".")?)?;
    Some(TableRows { schema, name, rows: 0 })
}

fn identifier(text: &[u8]) -> Option<(String, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| !in_word(*byte) && *byte != b'$').unwrap_or(text.len());
        let name = readable(&text[..end]);
        return (end > 0).then_some((name, &text[end..]));
    };
    let mut name = Vec::new();
    loop {
        let quote = memchr(b'"', rest)?;
        name.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            None => return Some((readable(&name), rest)),
            Some(after) => {
                name.push(b'"');
                rest = after;
            }
        }
    }
}

/// A name in the encoding of its database, which need not be UTF-8: what isn't is written as `\xe9`, so that two names
/// that differ never look the same.
pub(in crate::backup) fn readable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        text.push_str(part.valid());
        text.extend(part.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}
