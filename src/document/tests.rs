//! What is read, and what is said where it can't be.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::units::HumanDuration;

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    text: Option<String>,
    flag: bool,
    small: u8,
    wait: Option<HumanDuration>,
    words: Vec<String>,
    colour: Option<Colour>,
    inner: Option<Inner>,
    map: BTreeMap<String, u16>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Colour {
    Red,
    DarkGreen,
    Mixed(Inner),
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Inner {
    first: u32,
    second: String,
    #[serde(default)]
    third: bool,
}

/// Places and messages alone.
fn check(text: &str, expected: &[&str]) {
    let found = match from_text::<Sample>(Path::new("f.yaml"), text, |_| vec![]) {
        Ok(read) => vec![format!("{read:?}")],
        Err(problems) => problems
            .iter()
            .map(|p| {
                let hint = p.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                format!("{}:{} {}: {}{hint}", p.line.unwrap_or(0), p.column.unwrap_or(0), p.path, p.message)
            })
            .collect(),
    };
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_fine_text_is_read_as_written() {
    check(
        "text: \"5\"\nflag: True\nsmall: 0x10\nwait: 2h30m\nwords: [a, 'yes', !!str 7]\ncolour: dark_green\n\
         inner: { first: 1, second: b }\nmap: { a: 1 }\n",
        &[
            "Sample { text: Some(\"5\"), flag: true, small: 16, wait: Some(2h30m), words: [\"a\", \"yes\", \"7\"], \
           colour: Some(DarkGreen), inner: Some(Inner { first: 1, second: \"b\", third: false }), map: {\"a\": 1} }",
        ],
    );
    // An alias stands for what it names, and nothing stands for what is absent.
    check(
        "text:\nwords: ~\ncolour: { mixed: &i { first: 1, second: b } }\ninner: *i\n",
        &["2:8 words: expected a list, found nothing"],
    );
    check(
        "colour: { mixed: &i { first: 1, second: b } }\ninner: *i\n",
        &["Sample { text: None, flag: false, small: 0, wait: None, words: [], \
           colour: Some(Mixed(Inner { first: 1, second: \"b\", third: false })), \
           inner: Some(Inner { first: 1, second: \"b\", third: false }), map: {} }"],
    );
}

#[test]
fn wrong_types_are_told_all_at_once() {
    check(
        "text: 5\nflag: yes\nsmall: 300\nwait: 30\nwords: a\ncolour: rde\ninner: {}\nmap: {a: 1, b: x, a: 2}\nfla: 1\n",
        &[
            "1:7 text: expected text, found the number 5 (write it in quotes: \"5\")",
            "2:7 flag: expected true or false, found the text `yes` (write true: yes, no, on and off are texts in YAML)",
            "3:8 small: expected a whole number from 0 to 255, found the number 300",
            "4:7 wait: `30` has no unit: write 30s, 30m, 30h or 30d",
            "5:8 words: expected a list, found the text `a` (write [a])",
            "6:9 colour: `rde` is not one of `red`, `dark_green`, `mixed` (did you mean `red`?)",
            "7:1 inner: the key `first` is missing",
            "7:1 inner: the key `second` is missing",
            "8:16 map.b: expected a whole number, found the text `x`",
            "8:19 map.a: `a` is here a second time: the first is in line 8 (remove one, or rename it)",
            "9:1 fla: unknown key `fla` (did you mean `flag`?)",
        ],
    );
    check("flag:\n", &["1:1 flag: expected true or false, found nothing"]);
    check(
        "flag: off\n",
        &[
            "1:7 flag: expected true or false, found the text `off` (write false: yes, no, on and off are texts in YAML)",
        ],
    );
    check(
        "small: \"7\"\n",
        &["1:8 small: expected a whole number, found the text `7` (write it without quotes: 7)"],
    );
    check("small: 1.5\n", &["1:8 small: expected a whole number, found the number 1.5"]);
    check(
        "text: true\n",
        &["1:7 text: expected text, found the boolean true (write it in quotes: \"true\")"],
    );
    check("text: [a]\n", &["1:7 text: expected text, found a list"]);
    check(
        "words: [a, 1, b, {}]\n",
        &[
            "1:12 words.1: expected text, found the number 1 (write it in quotes: \"1\")",
            "1:18 words.3: expected text, found a map",
        ],
    );
    check("wait: [1]\n", &["1:7 wait: expected a duration such as 90s, 5m, 2h30m or 30d, found a list"]);
    check("colour: [red]\n", &["1:9 colour: expected one of red, dark_green, mixed, found a list"]);
    check("text: !foo a\n", &["1:12 : tags have no meaning here: `!foo` (remove it)"]);
    check("? [a]\n: b\n", &["1:3 : a key must be a word"]);
}

#[test]
fn a_missing_key_is_told_only_where_it_is_missing() {
    check(
        "inner: { first: x, secnd: a }\ncolour: {mixed: {first: 1}}\n",
        &[
            "1:1 inner: the key `second` is missing",
            "1:17 inner.first: expected a whole number, found the text `x`",
            "1:20 inner.secnd: unknown key `secnd` (did you mean `second`?)",
            "2:10 colour.mixed: the key `second` is missing",
        ],
    );
    // `first` is there, only wrong.
    check(
        "inner: { first: x, second: a }\n",
        &["1:17 inner.first: expected a whole number, found the text `x`"],
    );
}

#[test]
fn what_a_type_cannot_say_is_placed_at_its_key() {
    let invalid = |key: &str| Invalid { key: key.into(), message: "no".into(), hint: None };
    let text = "inner: { first: 1, second: b }\nwords: [a, b]\n";
    let check = |key: &'static str, expected: (u32, u32)| {
        let collect = move |key: &str| {
            let parsed = parse(text);
            let mut collected = Collected::default();
            Reader::of_root(parsed.root.as_ref().unwrap(), &mut collected).invalid(&[invalid(key)]);
            (collected.problems[0].line.unwrap(), collected.problems[0].column.unwrap())
        };
        assert_eq!(collect(key), expected, "{key}");
    };
    check("inner.second", (1, 28));
    check("words.1", (2, 12));
    check("inner.third", (1, 8));
    check("absent", (1, 1));
    check("", (1, 1));
    let told = from_text::<Sample>(Path::new("f"), "small: 3\n", |_| {
        vec![Invalid { key: "small".into(), message: "three is too many".into(), hint: Some("two".into()) }]
    });
    assert_eq!(
        told.unwrap_err().to_string(),
        "f:1:8: error: three is too many\n    small: 3\n           ^\n  hint: two"
    );
}

#[test]
fn the_caret_stands_under_the_column() {
    let check = |text: &str, expected: &str| {
        let problems = from_text::<Sample>(Path::new("f"), text, |_| vec![]).unwrap_err().to_string();
        let shown: Vec<&str> = problems.lines().skip(1).take(2).collect();
        assert_eq!(shown.join("\n"), expected, "{text}");
    };
    check("text:   5\n", "    text:   5\n            ^");
    // Two columns of a terminal each, one character each.
    check("{ \"日本\": 5 }\n", "    { \"日本\": 5 }\n      ^");
    check("map: { \"日本\": x }\n", "    map: { \"日本\": x }\n                   ^");
    check("map: { \"e\u{301}\": x }\n", "    map: { \"e\u{301}\": x }\n                ^");
    check("map: {\ta: x }\n", "    map: {\ta: x }\n          \t   ^");
    // A control character is none in YAML, and must not reach the terminal.
    check("text: 5 # \u{1b}[31mred\r\n", "    text: 5 # \u{fffd}[31mred\n              ^");
    // A long line is shown around the place.
    let long = format!("{{ map: {{ {}z: x }} }}", (0..50).map(|n| format!("k{n}: 1, ")).collect::<String>());
    let problems = from_text::<Sample>(Path::new("f"), &long, |_| vec![]).unwrap_err().to_string();
    let shown: Vec<&str> = problems.lines().skip(1).take(2).collect();
    let at = shown[1].chars().count() - 1;
    assert_eq!(shown[0].chars().nth(at), Some('x'), "{problems}");
    assert!(shown[0].chars().count() < 170, "{problems}");
}

#[test]
fn what_a_type_cannot_say_is_told_beside_other_mistakes() {
    let check = |text: &str, expected: &[&str]| {
        let told = from_text::<Sample>(Path::new("f"), text, |sample| {
            let wrong = |is_wrong: bool, key: &str, message: &str| {
                is_wrong.then(|| Invalid { key: key.into(), message: message.into(), hint: None })
            };
            let wrong = [
                wrong(sample.small > 2, "small", "too many"),
                wrong(sample.words.is_empty(), "words", "no word"),
                wrong(sample.text.is_none(), "", "no text"),
            ];
            wrong.into_iter().flatten().collect()
        });
        let told = told.unwrap_err();
        let told: Vec<String> =
            told.iter().map(|p| format!("{}:{} {}", p.line.unwrap(), p.column.unwrap(), p.message)).collect();
        assert_eq!(told, expected, "{text}");
    };
    check(
        "text: a\nsmall: 3\nflog: true\nwords: []\n",
        &["2:8 too many", "3:1 unknown key `flog`", "4:8 no word"],
    );
    // What only follows from a value that was left out is no mistake of its own.
    check(
        "text: 5\nsmall: 3\nwords: [1]\n",
        &["1:7 expected text, found the number 5", "2:8 too many", "3:9 expected text, found the number 1"],
    );
    check("text: a\nsmall: many\nwords: [b]\n", &["2:8 expected a whole number, found the text `many`"]);
    check("small: 1\n", &["1:1 no text", "1:1 no word"]);
}

/// What took a minute for each megabyte would hold up a reload for hours.
#[test]
fn a_line_of_megabytes_with_a_mistake_in_each_word_is_shown_at_each() {
    const WORDS: usize = 30_000;
    let words: Vec<String> = (0..WORDS).map(|word| format!("wörd{word}: 1")).collect();
    let text = format!("{{{}}}", words.join(", "));
    let problems = from_text::<Sample>(Path::new("f.yaml"), &text, |_| vec![]).unwrap_err();
    assert_eq!(problems.len(), WORDS);
    let shown = problems.to_string();
    assert_eq!(shown.lines().filter(|line| line.trim_start().starts_with('^')).count(), WORDS);
    let last = shown.lines().rev().find(|line| line.trim() == "^").unwrap();
    let line = shown.lines().rev().find(|line| line.contains("…")).unwrap();
    let column = last.chars().count() - 1;
    assert_eq!(line.chars().skip(column).collect::<String>(), "wörd29999: 1}");
}

#[test]
fn a_carriage_return_alone_ends_a_line_and_shows_no_secret_in_place_of_another_line() {
    let text = "# one\r# two\nsmal: 1\npassword: hunter2\r\nflag: maybe\n";
    let problems = from_text::<Sample>(Path::new("f.yaml"), text, |_| vec![]).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(places, [3, 4, 5]);
    let shown = problems.to_string();
    assert!(shown.contains("\n    smal: 1\n    ^") && shown.contains("\n    flag: maybe\n"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
