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

fn problems(text: &str) -> String {
    match from_text::<Sample>(Path::new("f.yaml"), text, |_| vec![]) {
        Ok(read) => format!("{read:?}"),
        Err(problems) => problems.to_string(),
    }
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
fn show() {
    for text in [
        "text: 5\nflag: yes\nsmall: 300\nwait: 30\nwords: a\ncolour: rde\ninner: {}\nmap: {a: 1, b: x, a: 2}\nfla: 1\n",
        "a: b\n\tc: d\n",
        "text: * * * * *\n",
        "text: @daily\n",
        "",
        "---\na: 1\n---\nb: 2\n",
        "text: \"abc\n",
        "inner: { first: x, secnd: a }\ncolour: {mixed: {first: 1}}",
        "[1,2]",
        "just",
        "text:\nflag:\n",
        "a: &x [*x]",
        "- [}",
        "text: !foo 5",
    ] {
        println!("-----\n{}", problems(text));
    }
}
