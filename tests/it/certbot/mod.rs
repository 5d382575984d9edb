//! `certbot_renew` and the `certificate` check against a real certbot, ACME server and nginx.

mod check;
mod deploy;
mod renewal;
mod trouble;

use serde_json::Value;

use crate::support::acme::Certbot;
use crate::support::daemon::Host;
use crate::support::nginx::Nginx;

/// A host with the job `renew`, and certbot's folders.
struct Site {
    host: Host,
    certbot: Certbot,
    /// For the job's REQUESTS_CA_BUNDLE.
    authority: Option<std::path::PathBuf>,
}

impl Site {
    fn new() -> Self {
        let host = Host::new("");
        let certbot = Certbot::new(host.path("certbot"));
        Self { host, certbot, authority: None }
    }

    /// `program`: `certbot:`, one that renews nothing where it is `true`; `more`: further options of the kind.
    fn table(&self, program: &str, args: &[&str], more: &str) {
        let args: Vec<String> =
            self.certbot.args().into_iter().chain(args.iter().map(|&arg| arg.to_owned())).collect();
        let args = args.join(", ");
        self.host.write_jobs(&format!(
            "  renew:\n    retries: {{ attempts: 2, backoff: 10ms }}\n    certbot_renew: {{ certbot: {program}, args: \
             [{args}], {more} }}"
        ));
    }

    /// Runs the job to its end; its row.
    fn run(&self) -> Value {
        self.run_with(&[])
    }

    fn run_with(&self, arguments: &[&str]) -> Value {
        let mut command = self.host.command(&[&["run-now", "renew"], arguments].concat());
        if let Some(authority) = &self.authority {
            command.env("REQUESTS_CA_BUNDLE", authority);
        }
        command.output().unwrap();
        self.host.history("renew").remove(0)
    }

    /// Runs the job, which must fail; the errors of its attempts.
    fn errors(&self) -> Vec<String> {
        let row = self.run();
        assert_eq!(row["outcome"], "failed", "{row:#}");
        let attempts = row["attempts"].as_array().unwrap();
        attempts.iter().map(|attempt| attempt["error"].as_str().unwrap().to_owned()).collect()
    }

    fn succeeds(&self) -> Value {
        let row = self.run();
        assert_eq!(row["outcome"], "succeeded", "{row:#}\n{}", self.host.log("renew"));
        row
    }
}

/// `reload:` and `served_at:` for one site of this nginx.
fn served_by(nginx: &Nginx, name: &str) -> String {
    format!(
        "reload: {}, served_at: [{{ address: \"127.0.0.1:{}\", name: {name} }}]",
        nginx.reload(),
        nginx.https
    )
}
