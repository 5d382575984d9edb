use super::super::manifest::sample;
use super::*;

/// Of these tables, with so many bytes before compression.
fn manifest(bytes: u64, tables: &[(&str, u64)]) -> Manifest {
    let rows: u64 = tables.iter().map(|(_, rows)| rows).sum();
    let tables: Vec<_> = tables
        .iter()
        .map(|(name, rows)| serde_json::json!({"schema": "public", "name": name, "rows": rows}))
        .collect();
    sample(serde_json::json!({"uncompressed_bytes": bytes, "rows": rows, "tables": tables}))
}

fn check(before: &[Dump], new: Dump, expected: &[&str]) {
    let before: Vec<Manifest> = before.iter().map(|(bytes, tables)| manifest(*bytes, tables)).collect();
    assert_eq!(reasons(&before, &manifest(new.0, new.1)), expected);
}

type Dump = (u64, &'static [(&'static str, u64)]);

const USUAL: Dump = (1 << 20, &[("sales", 5000), ("users", 1000), ("queue", 999)]);

#[test]
fn a_first_dump_and_one_like_those_before_are_not_suspect() {
    check(&[], (0, &[]), &[]);
    check(&[USUAL; 7], USUAL, &[]);
    // A half is not below a half; a small table may be empty.
    check(&[USUAL; 7], (1 << 19, &[("sales", 2999), ("users", 500), ("queue", 1)]), &[]);
    let empty: Dump = (0, &[]);
    check(&[empty; 7], empty, &[]);
}

#[test]
fn what_fell_is_told_with_what_it_was() {
    check(
        &[USUAL],
        ((1 << 19) - 1, &[("sales", 2499), ("users", 0)]),
        &[
            "its size fell to 512 KiB (uncompressed), from 1.0 MiB in the dump before",
            "its rows fell to 2499, from 6999 in the dump before",
            "table public.sales fell to 2499 rows, from 5000 rows in the dump before",
            "table public.users is empty, which had 1000 rows in the dump before",
        ],
    );
    check(
        &[USUAL; 7],
        (1 << 20, &[("sales", 50_000)]),
        &[
            "its tables fell to 1, from 3 in the middle of the last 7 dumps",
            "table public.users is gone, which had 1000 rows in the middle of the last 7 dumps",
        ],
    );
}

#[test]
fn one_odd_night_decides_nothing() {
    let odd: Dump = (1 << 30, &[("sales", 5_000_000), ("import", 9_000_000)]);
    check(&[USUAL, USUAL, odd, USUAL], USUAL, &[]);
    // Of an even number, the mean of the two in the middle.
    check(
        &[USUAL, (1 << 20, &[("sales", 15_000)])],
        (1 << 20, &[("sales", 4999), ("users", 0), ("queue", 0)]),
        &[
            "its rows fell to 4999, from 10999 in the middle of the last 2 dumps",
            "table public.sales fell to 4999 rows, from 10000 rows in the middle of the last 2 dumps",
        ],
    );
}

#[test]
fn many_fallen_tables_are_counted() {
    let names: Vec<String> = (1..=8).map(|number| format!("t{number}")).collect();
    let tables: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let emptied: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let before = [manifest(100, &tables)];
    let found = reasons(&before, &manifest(100, &emptied));
    assert_eq!(found.len(), 7, "{found:#?}");
    assert_eq!(found[6], "3 more large tables fell as well");
}
