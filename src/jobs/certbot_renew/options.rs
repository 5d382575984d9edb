//! What the kind can be told, and where that puts things.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::document::{Invalid, WordOr};
use crate::host::tls::Endpoint;

/// Where certbot keeps what it made, unless it is told otherwise.
const CONFIG_DIR: &str = "/etc/letsencrypt";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertbotRenew {
    /// The program.
    #[serde(default = "certbot")]
    pub(super) certbot: String,
    /// Further arguments of `certbot renew`; `--config-dir DIR` says where the certificates are.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// How the server is made to serve what was renewed.
    #[serde(default = "nginx")]
    pub(super) reload: WordOr<Server, Commands>,
    /// Where the certificates are served; each must be the newest one on disk for its name.
    #[serde(default)]
    pub(super) served_at: Vec<WordOr<String, ServedAt>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Server {
    /// `nginx -t`, then `systemctl reload nginx`, or `nginx -s reload` where systemd doesn't run.
    Nginx,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    /// A program and its arguments that finds the server's configuration good, or there is no reload.
    pub(super) test: Option<Vec<String>>,
    /// A program and its arguments that makes the server read its certificates again.
    pub(super) run: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServedAt {
    /// `NAME:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    pub(super) address: String,
    /// The site that is asked for there; default: the name in the address.
    pub(super) name: Option<String>,
}

fn certbot() -> String {
    "/usr/bin/certbot".to_owned()
}

fn nginx() -> WordOr<Server, Commands> {
    WordOr::Word(Server::Nginx)
}

impl CertbotRenew {
    pub(super) fn config_dir(&self) -> PathBuf {
        let mut found = None;
        let mut args = self.args.iter();
        while let Some(arg) = args.next() {
            // The last one counts, as it does for certbot.
            if arg == "--config-dir" {
                found = args.next().map(String::as_str).or(found);
            } else if let Some(value) = arg.strip_prefix("--config-dir=") {
                found = Some(value);
            }
        }
        PathBuf::from(found.unwrap_or(CONFIG_DIR))
    }

    /// `problems` lets only addresses through that can be read.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.served_at.iter().filter_map(|one| endpoint(one).ok()).collect()
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut found = vec![];
        let mut say = |key: String, message: String, hint: &str| {
            found.push(Invalid { key, message, hint: (!hint.is_empty()).then(|| hint.to_owned()) });
        };
        if self.certbot.trim().is_empty() {
            say("certbot".into(), "`certbot` names no program".into(), "certbot: /usr/bin/certbot");
        }
        if !self.config_dir().is_absolute() {
            let message = format!("--config-dir {} is not an absolute path", self.config_dir().display());
            say("args".into(), message, "begin it with /");
        }
        if let Some(verb) = self.args.first().filter(|arg| !arg.starts_with('-')) {
            let message = format!("`{verb}` stands where an option of `certbot renew` should");
            say("args".into(), message, "renew itself is not among the args");
        }
        if let WordOr::Whole(commands) = &self.reload {
            let named = |argv: &Vec<String>| argv.first().is_some_and(|name| !name.is_empty());
            if !named(&commands.run) {
                say("reload.run".into(), "`run` names no program".into(), "the first item is the program");
            }
            if commands.test.as_ref().is_some_and(|test| !named(test)) {
                say("reload.test".into(), "`test` names no program".into(), "the first item is the program");
            }
        }
        let commands = match &self.reload {
            WordOr::Whole(commands) => commands.test.iter().flatten().chain(&commands.run).collect(),
            WordOr::Word(Server::Nginx) => vec![],
        };
        if self.args.iter().chain([&self.certbot]).chain(commands).any(|text| text.contains('\0')) {
            say(String::new(), "an argument can't hold a NUL character".into(), "");
        }
        for (at, one) in self.served_at.iter().enumerate() {
            if let Err(message) = endpoint(one) {
                say(format!("served_at.{at}"), message, "as in punk-eco.ma:443");
            }
        }
        found
    }
}

fn endpoint(served_at: &WordOr<String, ServedAt>) -> Result<Endpoint, String> {
    match served_at {
        WordOr::Word(address) => Endpoint::parse(address),
        WordOr::Whole(ServedAt { address, name: None }) => Endpoint::parse(address),
        WordOr::Whole(ServedAt { address, name: Some(name) }) => Endpoint::named(address, name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(json: serde_json::Value) -> CertbotRenew {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_certificates_are_where_certbot_is_told_to_keep_them() {
        let check = |args: &[&str], expected: &str| {
            assert_eq!(options(json!({ "args": args })).config_dir(), PathBuf::from(expected), "{args:?}");
        };
        check(&[], "/etc/letsencrypt");
        check(&["--config-dir", "/a", "--force-renewal"], "/a");
        check(&["--config-dir=/a", "--config-dir=/b"], "/b");
        check(&["--config-dir"], "/etc/letsencrypt");
    }

    #[test]
    fn options_that_make_no_sense_are_told() {
        let check = |served_at: Vec<WordOr<String, ServedAt>>,
                     commands: Option<Commands>,
                     expected: &[(&str, &str)]| {
            let mut options = options(json!({}));
            options.served_at = served_at;
            if let Some(commands) = commands {
                options.reload = WordOr::Whole(commands);
            }
            let problems = options.problems();
            let found: Vec<_> = problems.iter().map(|one| (one.key.as_str(), one.message.as_str())).collect();
            assert_eq!(found, expected);
        };
        let at = |address: &str| WordOr::Word(address.to_owned());
        let named = |address: &str, name: &str| {
            WordOr::Whole(ServedAt { address: address.into(), name: Some(name.into()) })
        };
        check(vec![at("punk-eco.ma:443"), named("127.0.0.1:8443", "punk-eco.ma")], None, &[]);
        check(
            vec![at("punk-eco.ma"), named("127.0.0.1:8443", "punk eco")],
            Some(Commands { test: Some(vec![]), run: vec![String::new()] }),
            &[
                ("reload.run", "`run` names no program"),
                ("reload.test", "`test` names no program"),
                ("served_at.0", "`punk-eco.ma` is not an address and a port"),
                ("served_at.1", "`punk eco` is not a DNS name"),
            ],
        );
        let found =
            options(json!({"certbot": "", "args": ["renew", "--config-dir=etc", "\u{0}"]})).problems();
        let found: Vec<_> = found.iter().map(|one| (one.key.as_str(), one.message.as_str())).collect();
        assert_eq!(
            found,
            [
                ("certbot", "`certbot` names no program"),
                ("args", "--config-dir etc is not an absolute path"),
                ("args", "`renew` stands where an option of `certbot renew` should"),
                ("", "an argument can't hold a NUL character"),
            ]
        );
    }
}
