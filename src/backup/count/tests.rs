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

/// With everything else as it should be.
fn check_wrong(text: &str, wrong: Option<&str>) {
    check_with(text, &[], true, wrong);
}

const ROLES_END: &str = "\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";

#[test]
fn what_follows_the_closing_comment_is_found() {
    let two = Some("something follows its closing comment: is it two dumps in one file?");
    check_wrong(&format!("{END}\n \n\t\n"), None);
    check_wrong(&format!("{END}SELECT 1;\n"), two);
    check_wrong(&format!("{END}--\n-- PostgreSQL database dump\n--\n"), two);
    check_wrong(&format!("{END}/* */\n"), two);
    check_wrong(&format!("{END}\\connect other\n"), two);
    check_wrong(&format!("{END}{END}"), two);
    let cut = Some("something begins after its closing comment and has no end: it was cut there");
    check_with(&format!("{END}SELECT 1"), &[], false, cut);
    check_with("-- PostgreSQL database dump complete\n--", &[], false, cut);
    let copy = "COPY public.a (t) FROM stdin;\nx\n\\.\n";
    check_with(&format!("{END}{copy}"), &[("public", "a", 1)], true, two);
}

#[test]
fn the_title_says_which_comment_closes() {
    let title = "--\n-- PostgreSQL database cluster dump\n--\n";
    // pg_dumpall holds whole dumps of pg_dump.
    check_wrong(&format!("{title}--\n-- PostgreSQL database dump\n--\n{END}SELECT 1;\n{ROLES_END}"), None);
    check_with(&format!("{title}{END}"), &[], false, None);
    check_with(&format!("--\n-- PostgreSQL database dump\n--\n{ROLES_END}"), &[], false, None);
}

#[test]
fn a_restrict_without_its_own_unrestrict_is_found() {
    let key = "KHM37zXAhe2EHpMyW7MqpOE9Uxrhpa2yFHjuYHREr5AUrplfvUfpm3Q5TpDnMRM";
    let other = "KHM37zXAhe2EHpMyW7MqpOE9Uxrhpa2yFHjuYHREr5AUrplfvUfpm3Q5TpDnMRX";
    check_wrong(&format!("\\restrict {key}\n\nSELECT 1;\n{END}\\unrestrict {key}\n\n"), None);
    // pg_dumpall ends it before its closing comment, and pg_dump --create around \connect.
    check_wrong(&format!("\\restrict {key}\n\\unrestrict {key}\n{ROLES_END}"), None);
    check_wrong(
        &format!(
            "\\restrict {key}\n\\unrestrict {key}\n\\connect a\n\\restrict {other}\n{END}\\unrestrict {other}\n"
        ),
        None,
    );
    check_wrong(
        &format!("\\restrict {key}\nSELECT 1;\n{END}\\unrestrict {other}\n\n"),
        Some(r"its `\unrestrict` has another key than its `\restrict`: its end is another dump's"),
    );
    check_wrong(
        &format!("\\restrict {key}\nSELECT 1;\n{END}"),
        Some(r"its `\restrict` is followed by no `\unrestrict`: its end is missing"),
    );
    check_wrong(
        &format!("SELECT 1;\n{END}\\unrestrict {key}\n"),
        Some(r"it holds an `\unrestrict` without a `\restrict` before it"),
    );
    check_wrong(
        &format!("\\restrict {key}\n\\! rm -rf /\n{END}\\unrestrict {key}\n"),
        Some(r"the command `\!` of psql stands in it, which `\restrict` forbids"),
    );
    check_wrong(
        &format!("\\restrict {key}\n\\restrict {other}\n{END}\\unrestrict {key}\n"),
        Some(r"the command `\restrict` of psql stands in it, which `\restrict` forbids"),
    );
    // Cut before its end, it is that which is missing.
    check_with(&format!("\\restrict {key}\nSELECT 1;\n"), &[], false, None);
    check_wrong(&format!("\\restrict {key}\n{END}\\unrestrict {key}"), None);
    check_wrong(
        &format!("\\restrict {key}\n{END}\\unrestrict {}", &key[..20]),
        Some(r"its `\unrestrict` has another key than its `\restrict`: its end is another dump's"),
    );
}

#[test]
fn a_nul_byte_is_found_wherever_it_is() {
    let at =
        |byte: u64| format!("there is a NUL byte at byte {byte} of its content, where no dump holds any");
    check_wrong(&format!("SELECT '\0';\n{END}"), Some(&at(8)));
    check_with(
        &format!("COPY public.a (t) FROM stdin;\nx\0\n\\.\n{END}\0"),
        &[("public", "a", 1)],
        false,
        Some(&at(31)),
    );
}
