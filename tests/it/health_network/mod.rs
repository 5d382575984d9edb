//! The checks over the network, against servers that are well and servers that misbehave, through the program.

mod http;
mod invalid;
mod many;
mod services;
mod tls;

use std::process::Command;

use serde_json::Value;

use crate::support::daemon::{Host, text};

/// A host whose one job looks at these checks, each a line as in jobs.yaml.
fn host(top: &str, checks: &[String]) -> Host {
    let host = Host::new("");
    let checks: String = checks.iter().map(|check| format!("        - {check}\n")).collect();
    host.write_table(top, &format!("  watch:\n    health_check:\n      checks:\n{checks}"));
    host
}

/// Runs the job without a daemon; the results of its checks.
fn looked(host: &Host, change: impl FnOnce(&mut Command)) -> Vec<Value> {
    let mut run = host.command(&["run-now", "watch"]);
    change(&mut run);
    let output = run.output().unwrap();
    let rows = host.history("watch");
    assert!(!rows.is_empty(), "{}", text(&output.stderr));
    rows[0]["facts"]["results"].as_array().unwrap_or_else(|| panic!("{:#}", rows[0])).clone()
}

/// One check: its state and its message, with `N` for what took time and `PORT` for `port`.
fn check(port: u16, check: &str, expected: &str) {
    let check = check.replace("PORT", &port.to_string());
    let results = looked(&host("", &[check]), |_| {});
    assert_eq!(said(&results[0], port), expected);
}

fn said(result: &Value, port: u16) -> String {
    let message = result["message"].as_str().unwrap().replace(&format!(":{port}"), ":PORT");
    let message = message.replace("less than 1 ms", "N ms");
    let words: Vec<&str> = message.split(' ').collect();
    let plain = words.iter().enumerate().map(|(at, word)| {
        let unit = words.get(at + 1).is_some_and(|next| next.trim_end_matches([',', ':']) == "ms");
        if unit && word.parse::<u32>().is_ok() { "N" } else { word }
    });
    format!("{}: {}", result["state"].as_str().unwrap(), plain.collect::<Vec<_>>().join(" "))
}
