//! What is shipped beside the program knows only metrics that there are, and its alerts come when they should.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use punk_eco_sched::metrics::{FAMILIES, PREFIX, Type};
use serde_json::Value;

use crate::support::daemon::Host;
use crate::support::missing::lacks;
use crate::support::scraped::{ask, promtool, socket};

fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root(file)).unwrap()
}

/// Every word of a text that begins as our metrics do.
fn named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with(&format!("{PREFIX}_"))).map(str::to_owned).collect()
}

/// Every name that a query can use.
fn there_are() -> BTreeSet<String> {
    let of = |name: String, kind: Type| match kind {
        Type::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec(),
        _ => vec![name],
    };
    FAMILIES.iter().flat_map(|family| of(family.full_name(), family.r#type)).collect()
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    let known = there_are();
    for file in [
        "packaging/prometheus/rules.yml",
        "packaging/prometheus/rules.test.yml",
        "packaging/grafana/dashboard.json",
    ] {
        let named = named_in(&read(file));
        assert!(named.len() > 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert_eq!(unknown, [""; 0], "{file}");
    }
    let shown = named_in(&read("packaging/grafana/dashboard.json"));
    for family in FAMILIES {
        let name = family.full_name();
        let is_shown = shown.iter().any(|word| *word == name || *word == format!("{name}_bucket"));
        assert!(is_shown, "the dashboard has no panel for {name}");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/dashboard.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(targets.iter().all(|target| !target["expr"].as_str().unwrap().is_empty()), "{panel}");
    }
}

#[test]
fn each_alert_comes_when_it_should() {
    let named = |text: &str, key: &str| -> BTreeSet<String> {
        let value = |line: &str| Some(line.split_once(key)?.1.split([',', ' ']).next()?.to_owned());
        text.lines().filter_map(value).collect()
    };
    let rules = named(&read("packaging/prometheus/rules.yml"), "alert: ");
    assert_eq!(rules, named(&read("packaging/prometheus/rules.test.yml"), "alertname: "), "each has a test");
    if lacks("promtool") {
        return;
    }
    let file = |name: &str| root("packaging/prometheus").join(name).display().to_string();
    promtool(&["check", "rules", &file("rules.yml")], "");
    promtool(&["test", "rules", &file("rules.test.yml")], "");
    promtool(&["check", "config", "--syntax-only", &file("scrape.yml")], "");
    // The dashboard's queries are PromQL as well: what stands for a choice is chosen.
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/dashboard.json")).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    let record = |(at, target): (usize, &Value)| {
        let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
        format!("  - {{ record: 'a{at}', expr: {} }}\n", Value::from(query))
    };
    let queries: String = targets.flatten().enumerate().map(record).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yml");
    std::fs::write(&path, format!("groups:\n- name: dashboard\n  rules:\n{queries}")).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()], "");
}

/// What the documents say of each, against what a daemon says of itself.
#[test]
fn the_documented_metrics_are_those_that_are_told() {
    let documented: Vec<Vec<String>> = read("docs/metrics.md")
        .lines()
        .filter(|line| line.starts_with(&format!("| `{PREFIX}_")))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    let host = Host::new("  one: { command: { run: [/bin/true] } }\n");
    let _daemon = host.daemon();
    let body = ask(socket(&host), &["GET /metrics"]).body;
    let told: Vec<Vec<String>> = body
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .zip(FAMILIES)
        .map(|((name, help), family)| {
            assert_eq!(name, family.full_name());
            let (labels, kind) = (family.labels.join(", "), family.r#type.word());
            vec![name.to_owned(), kind.to_owned(), labels, help.to_owned()]
        })
        .collect();
    assert_eq!(told.len(), FAMILIES.len());
    assert_eq!(documented, told);
}
