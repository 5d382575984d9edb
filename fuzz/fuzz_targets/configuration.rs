//! Any text as jobs.yaml: a table, or problems that each have their place in the text.

#![no_main]

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::{Corpus, fuzz_target};
use punk_eco_sched::config::{self, Environment, Problem};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(input) else { return Corpus::Reject };
    let environment = Environment {
        variables: HashMap::new(),
        zone: Ok(TimeZone::UTC),
        uid: 1000,
        now: Timestamp::constant(1_790_000_000, 0),
    };
    config::paths_block(text);
    let problems = match config::read(text, Path::new("/nowhere/jobs.yaml"), &environment) {
        Ok((_, warnings)) => {
            assert!(!warnings.has_errors());
            warnings
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error");
            problems
        }
    };
    for problem in problems.iter() {
        place(text, problem);
    }
    assert!(problems.to_json().is_object());
    let shown = problems.to_string();
    assert!(!shown.contains('\u{1b}'), "an escape sequence reaches the terminal: {shown:?}");
    Corpus::Keep
});

/// Line and column lie in the text, or just behind the end of the line.
fn place(text: &str, problem: &Problem) {
    assert!(!problem.message.is_empty());
    let (Some(line), Some(column)) = (problem.line, problem.column) else {
        assert_eq!((problem.line, problem.column), (None, None), "half a place: {problem:?}");
        return;
    };
    // As YAML counts lines: one ends with a carriage return alone as well.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let source = text.split('\n').nth(line as usize - 1);
    let source = source.unwrap_or_else(|| panic!("there is no line {line}: {problem:?}"));
    let length = source.chars().count();
    assert!((1..=length + 1).contains(&(column as usize)), "column {column} of {length}: {problem:?}");
}
