//! What is served where, held against what is on disk.

use std::fmt;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::live::Live;
use crate::host::certificates::Certificate;
use crate::host::tls::Endpoint;

/// Of one connection, and again of its handshake.
const HANDSHAKE: Duration = Duration::from_secs(4);
/// nginx takes its new certificates a moment after the reload has returned. Longer than one look takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what is served: nobody tells when a server has taken its new certificates.
const NEXT_LOOK: Duration = Duration::from_millis(100);
/// Looks in a row that must be fine: for a tenth of a second nginx's old workers take connections beside the new ones.
const IN_A_ROW: u32 = 4;
/// Connections.
const AT_ONCE: usize = 32;

/// One place, and what was seen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) endpoint: Endpoint,
    pub(super) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The newest one on disk.
    Newest { serial: String },
    Older {
        served: String,
        /// certbot's name for it.
        lineage: String,
        newest: String,
    },
    /// No certificate was shown; in a sentence.
    Away(String),
    /// Nothing on disk is for this name; in a sentence.
    Homeless { serial: String, why: String },
}

impl Seen {
    pub(super) fn is_fine(&self) -> bool {
        matches!(self.state, State::Newest { .. })
    }

    pub(super) fn fact(&self) -> serde_json::Value {
        let serial = match &self.state {
            State::Newest { serial }
            | State::Older { served: serial, .. }
            | State::Homeless { serial, .. } => Some(serial),
            State::Away(_) => None,
        };
        json!({
            "address": self.endpoint.address, "name": self.endpoint.name, "serial": serial,
            "newest": self.is_fine(),
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = place(&self.endpoint);
        match &self.state {
            State::Newest { serial } => write!(f, "{at} serves {serial}, the newest on disk"),
            State::Older { served, lineage, newest } => {
                write!(f, "{at} serves {served}, and the newest on disk is {newest} ({lineage})")
            }
            State::Away(why) => write!(f, "{why}, so that nobody can see what is served there"),
            State::Homeless { serial, why } => write!(f, "{at} serves {serial}, but {why}"),
        }
    }
}

/// In the order in which they stand, some at once.
pub(super) async fn look(endpoints: &[Endpoint], live: &Live) -> Vec<Seen> {
    let looks: Vec<_> = endpoints.iter().map(|endpoint| look_at(endpoint, live)).collect();
    stream::iter(looks).buffered(AT_ONCE).collect().await
}

/// Again and again, after what was seen `before`, until each serves the newest or there is no point in waiting.
pub(super) async fn wait(endpoints: &[Endpoint], live: &Live, before: Vec<Seen>) -> Vec<Seen> {
    let mut last = before;
    let waiting = async {
        let mut fine = 0;
        loop {
            last = look(endpoints, live).await;
            fine = if last.iter().all(Seen::is_fine) { fine + 1 } else { 0 };
            if fine == IN_A_ROW {
                return;
            }
            tokio::time::sleep(NEXT_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
    last
}

async fn look_at(endpoint: &Endpoint, live: &Live) -> Seen {
    let state = match endpoint.handshake(HANDSHAKE).await {
        Err(why) => State::Away(why),
        Ok(served) => judge(endpoint.name.as_deref(), &served.leaf, live),
    };
    Seen { endpoint: endpoint.clone(), state }
}

fn judge(name: Option<&str>, served: &Certificate, live: &Live) -> State {
    let newest = match name {
        Some(name) => live.newest_for(name),
        // Nobody says whose certificate it should be: the only one on disk, else the one for what the served one is for.
        None if live.certificates.len() == 1 => live.newest(|_| true),
        None => live.newest(|one| served.names.iter().any(|name| one.names.contains(name))),
    };
    let serial = served.serial.clone();
    match (newest, name) {
        (Some((_, newest)), _) if newest.serial == serial => State::Newest { serial },
        (Some((lineage, newest)), _) => {
            State::Older { served: serial, lineage: lineage.to_owned(), newest: newest.serial.clone() }
        }
        (None, Some(name)) => {
            State::Homeless { serial, why: format!("no certificate on disk is for {name} ({})", known(live)) }
        }
        (None, None) => State::Homeless {
            serial,
            why: format!(
                "that is for {}, which no certificate on disk is for ({}); say whose it should be: {{ address, name }}",
                served.names.join(", "),
                known(live)
            ),
        },
    }
}

fn known(live: &Live) -> String {
    let names: Vec<&str> =
        live.certificates.values().flat_map(|one| &one.names).map(String::as_str).collect();
    if names.is_empty() {
        "there is none at all".to_owned()
    } else {
        format!("those are for {}", names.join(", "))
    }
}

/// `127.0.0.1:8443 (punk-eco.ma)`
fn place(endpoint: &Endpoint) -> String {
    match &endpoint.name {
        Some(name) if !endpoint.address.starts_with(&format!("{name}:")) => {
            format!("{} ({name})", endpoint.address)
        }
        _ => endpoint.address.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn certificate(serial: &str, names: &[&str], since: &str) -> Certificate {
        Certificate {
            serial: serial.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            not_before: since.parse().unwrap(),
            not_after: "2027-06-01T00:00:00Z".parse().unwrap(),
            issuer: "CN=R11".into(),
            self_signed: false,
        }
    }

    #[test]
    fn the_newest_on_disk_for_the_name_is_what_should_be_served() {
        let one =
            ("punk-eco.ma", certificate("0A", &["punk-eco.ma", "www.punk-eco.ma"], "2026-09-01T00:00:00Z"));
        let two = ("punk-eco.ma-0001", certificate("0B", &["punk-eco.ma"], "2026-10-01T00:00:00Z"));
        let check =
            |on_disk: &[&(&str, Certificate)], name: Option<&str>, served: &str, names: &[&str], expected| {
                let certificates: BTreeMap<_, _> =
                    on_disk.iter().map(|(name, one)| ((*name).to_owned(), one.clone())).collect();
                let live = Live { certificates, broken: vec![] };
                let state = judge(name, &certificate(served, names, "2026-09-01T00:00:00Z"), &live);
                let endpoint = match name {
                    Some(name) => Endpoint::named("127.0.0.1:443", name).unwrap(),
                    None => Endpoint::parse("127.0.0.1:443").unwrap(),
                };
                assert_eq!(Seen { endpoint, state }.to_string(), expected);
            };
        let both: &[&(&str, Certificate)] = &[&one, &two];
        check(
            both,
            Some("punk-eco.ma"),
            "0B",
            &[],
            "127.0.0.1:443 (punk-eco.ma) serves 0B, the newest on disk",
        );
        check(
            both,
            Some("punk-eco.ma"),
            "0A",
            &[],
            "127.0.0.1:443 (punk-eco.ma) serves 0A, and the newest on disk is 0B (punk-eco.ma-0001)",
        );
        check(
            both,
            Some("www.punk-eco.ma"),
            "0A",
            &[],
            "127.0.0.1:443 (www.punk-eco.ma) serves 0A, the newest on disk",
        );
        check(
            both,
            Some("shop.ma"),
            "0A",
            &[],
            "127.0.0.1:443 (shop.ma) serves 0A, but no certificate on disk is for shop.ma (those are for punk-eco.ma, \
             www.punk-eco.ma, punk-eco.ma)",
        );
        // The newest is the one that begins last, also where it ends sooner.
        let short = Certificate {
            not_after: "2026-11-15T00:00:00Z".parse().unwrap(),
            ..certificate("0D", &["punk-eco.ma"], "2026-11-01T00:00:00Z")
        };
        let short = ("short", short);
        check(
            &[&one, &short],
            Some("punk-eco.ma"),
            "0A",
            &[],
            "127.0.0.1:443 (punk-eco.ma) serves 0A, and the newest on disk is 0D (short)",
        );
        // Without a name.
        check(
            &[&one],
            None,
            "0C",
            &["other"],
            "127.0.0.1:443 serves 0C, and the newest on disk is 0A (punk-eco.ma)",
        );
        check(both, None, "0A", &["www.punk-eco.ma"], "127.0.0.1:443 serves 0A, the newest on disk");
        check(
            &[],
            None,
            "0C",
            &["other"],
            "127.0.0.1:443 serves 0C, but that is for other, which no certificate on disk is for (there is none at \
             all); say whose it should be: { address, name }",
        );
    }
}
