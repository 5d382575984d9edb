//! A real Prometheus of a test's own, with the rules that are shipped; stopped by its pid.

use serde_json::Value;

use super::missing::lacks;
use super::scraped::{ask, tcp};
use super::server::{Server, free_port};

pub(crate) fn missing() -> bool {
    ["prometheus", "setpriv"].into_iter().any(lacks)
}

pub(crate) struct Prometheus {
    _folder: tempfile::TempDir,
    _server: Server,
    port: u16,
}

impl Prometheus {
    /// Scrapes and judges each second what is at this port, with the shipped rules, which don't wait.
    pub(crate) fn scraping(port: u16, token: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("prometheus").tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus/rules.yml");
        let at_once = |line: &str| match line.trim_start().strip_prefix("for: ") {
            Some(_) => "        for: 0s".to_owned(),
            None => line.to_owned(),
        };
        let rules: Vec<String> = std::fs::read_to_string(shipped).unwrap().lines().map(at_once).collect();
        write("rules.yml", &rules.join("\n"));
        write("token", token);
        write(
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\nscrape_configs:\n  \
                 - job_name: punk-eco-sched\n    authorization: {{ credentials_file: token }}\n    \
                 static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]\n"
            ),
        );
        let own = free_port();
        let listen = format!("--web.listen-address=127.0.0.1:{own}");
        let argv = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen];
        let server = Server::start(folder.path(), &argv, &[], own);
        Self { _folder: folder, _server: server, port: own }
    }

    /// The names of alerts that fire, with the job that each is about.
    pub(crate) fn firing(&self) -> Vec<(String, String)> {
        let alerts = self.get("alerts");
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let fires = alerts.iter().filter(|alert| alert["state"] == "firing");
        let word =
            |alert: &Value, label: &str| alert["labels"][label].as_str().unwrap_or_default().to_owned();
        let mut found: Vec<_> =
            fires.map(|alert| (word(alert, "alertname"), word(alert, "job_name"))).collect();
        found.sort();
        found
    }

    /// What a query finds now: labels and value.
    pub(crate) fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let result = self.get(&format!("query?query={query}"));
        let number = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
        result["result"].as_array().unwrap().iter().map(|one| (one["metric"].clone(), number(one))).collect()
    }

    pub(crate) fn get(&self, what: &str) -> Value {
        let answer = ask(tcp(self.port), &[&format!("GET /api/v1/{what}"), "Host: localhost"]);
        // It answers 503 until it has read its own data.
        let answer: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        answer["data"].clone()
    }
}
