use super::*;

/// Feeds the text whole, byte by byte, and in two pieces cut at each place.
fn check(text: &str, expected: &[(&str, &str, u64)], complete: bool) {
    check_with(text, expected, complete, None);
}

fn check_with(text: &str, expected: &[(&str, &str, u64)], complete: bool, wrong: Option<&str>) {
    let expected = Counted {
        tables: expected
            .iter()
            .map(|(schema, name, rows)| TableRows {
                schema: (*schema).into(),
                name: (*name).into(),
                rows: *rows,
            })
            .collect(),
        complete,
        wrong: wrong.map(str::to_owned),
    };
    let count = |pieces: &[&[u8]]| {
        let mut counter = RowCounter::default();
        pieces.iter().for_each(|piece| counter.feed(piece));
        counter.finish()
    };
    let bytes = text.as_bytes();
    assert_eq!(count(&[bytes]), expected, "{text}");
    assert_eq!(count(&bytes.chunks(1).collect::<Vec<_>>()), expected, "byte by byte: {text}");
    for cut in 0..bytes.len() {
        assert_eq!(count(&[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}: {text}");
    }
}

const END: &str = "\n--\n-- PostgreSQL database dump complete\n--\n\n";

#[test]
fn rows_are_the_lines_between_copy_and_its_end() {
    check(
        &format!(
            "COPY public.a (id, name) FROM stdin;\n1\tx\n2\ty\n\\.\n\n\nCOPY public.b (id) FROM stdin;\n\\.\n{END}"
        ),
        &[("public", "a", 2), ("public", "b", 0)],
        true,
    );
    check(&format!("COPY public.none  FROM stdin;\n\n\n\\.\n{END}"), &[("public", "none", 2)], true);
}

#[test]
fn names_are_unquoted() {
    check(
        &format!(
            "COPY \"Bou\"\"tique\".\"com;mandes\n'é\" (\"a)b\", \"c FROM stdin;\") FROM stdin;\n1\t2\n\\.\nCOPY s.été (a) FROM stdin;\n1\n\\.\n{END}"
        ),
        &[("Bou\"tique", "com;mandes\n'é", 1), ("s", "été", 1)],
        true,
    );
}

#[test]
fn data_that_looks_like_its_end_or_like_sql_is_data() {
    check(
        &format!(
            "COPY public.a (t) FROM stdin;\n\\\\.\n\\.x\n \\.\n\\\nx\\.\nCOPY public.z (a) FROM stdin;\n$$ ' \" -- /*\n\\.\n{END}"
        ),
        &[("public", "a", 7)],
        true,
    );
}

#[test]
fn copy_inside_bodies_strings_and_comments_is_not_counted() {
    let copy = "COPY public.z (a) FROM stdin;\n1\n\\.\n";
    check(
        &format!(
            "CREATE FUNCTION f() AS $$\n{copy}$$;\nCREATE FUNCTION g(a$b int) AS $_$ $$ $1 $_x$\n{copy}$_$;\n\
             COMMENT ON TABLE t IS 'it''s\n{copy}';\nSELECT E'\\'\n{copy}', E'a''\\'\n{copy}';\n\
             SELECT $1;\n/* /* {copy} */ ' */\n-- '\n-- {copy_line}\n\"{copy}\";\n\
             COPY public.a (t) FROM stdin;\nx\n\\.\n{END}",
            copy_line = "COPY public.z (a) FROM stdin;"
        ),
        &[("public", "a", 1)],
        true,
    );
    check(
        &format!("SET standard_conforming_strings = off;\nSELECT 'a\\';\n{copy}';\n{copy}{END}"),
        &[("public", "z", 1)],
        true,
    );
    check(&format!("SELECT 'C:\\';\n{copy}{END}"), &[("public", "z", 1)], true);
}

#[test]
fn commands_of_psql_end_with_their_line() {
    check(
        &format!("\\restrict aB3\n\nCOPY public.a (t) FROM stdin;\nx\n\\.\n{END}\\unrestrict aB3\n\n"),
        &[("public", "a", 1)],
        true,
    );
}

#[test]
fn a_stream_that_ends_early_is_not_complete() {
    check("", &[], false);
    check("COPY public.a (t) FROM stdin;\nx\ny", &[("public", "a", 1)], false);
    check("COPY public.a (t) FROM stdin;\nx\n\\.\n", &[("public", "a", 1)], false);
    check(&format!("SELECT '{END}"), &[], false);
    check(&format!("COPY public.a (t) FROM stdin;\n{END}"), &[("public", "a", 5)], false);
    check("--\n-- PostgreSQL database cluster dump complete\n--\n", &[], true);
}
