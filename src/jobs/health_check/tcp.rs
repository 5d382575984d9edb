//! `tcp`: a server takes connections.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::CheckSeverity;
use super::check::{Check, Common, Measured, State};
use super::network::{no_time, took};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::{names, sockets};
use crate::jobs::JobContext;
use crate::model::Unit;
use crate::units::HumanDuration;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tcp {
    /// `NAME:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    address: String,
    /// How long the connection may take, the name's look-up included.
    #[serde(default = "three_seconds")]
    timeout: HumanDuration,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn three_seconds() -> HumanDuration {
    HumanDuration(Duration::from_secs(3))
}

#[async_trait]
impl Check for Tcp {
    fn subject(&self) -> String {
        self.address.clone()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let mut found: Vec<Invalid> = no_time("timeout", self.timeout).into_iter().collect();
        if parts(&self.address).is_none() {
            let message = format!("`{}` is not an address and a port", self.address);
            let hint = Some("as in 127.0.0.1:6379, db.example:5432 or [::1]:25".into());
            found.push(Invalid { key: "address".into(), message, hint });
        }
        found
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let Some((host, port)) = parts(&self.address) else {
            return Measured::unknown(format!("{} is not an address and a port", self.address));
        };
        let _permit = sockets::permit().await;
        let since = ctx.clock.since_boot();
        let mut resolved = false;
        let connected = tokio::time::timeout(self.timeout.0, async {
            let addresses = names::addresses(host)
                .await
                .map_err(|reason| format!("the name {host} can't be resolved: {reason}"))?;
            resolved = true;
            connect(&addresses, port).await.map_err(|error| self.explain(&error))
        })
        .await;
        let time = ctx.clock.since_boot().saturating_sub(since);
        let limit = self.timeout.0.as_secs_f64();
        let measured = match connected {
            Ok(Ok(())) => {
                Measured::of(true, format!("connected in {} (within {})", took(time), self.timeout))
                    .against(time.as_secs_f64(), limit)
            }
            Ok(Err(reason)) => Measured::of(false, reason).against(serde_json::Value::Null, limit),
            Err(_) => {
                let got = if resolved {
                    "no connection was made".into()
                } else {
                    format!("{host} was still being looked up")
                };
                Measured::of(false, format!("{} didn't answer within {}: {got}", self.address, self.timeout))
                    .against(serde_json::Value::Null, limit)
            }
        };
        let value = (measured.state == State::Ok).then_some(time.as_secs_f64());
        measured.measuring("connect", Unit::Seconds, value, limit)
    }
}

impl Tcp {
    fn explain(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("{} refuses the connection: nothing listens there", self.address)
            }
            _ => format!("{} can't be reached: {error}", self.address),
        }
    }
}

/// The name or address without brackets, and the port.
fn parts(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(|_| inner)?,
        None => host,
    };
    let plain = |letter: char| letter.is_ascii_graphic() && !"/@[]?#".contains(letter) || !letter.is_ascii();
    let fine = !host.is_empty() && host.chars().all(plain) && (bracketed.is_some() || !host.contains(':'));
    fine.then_some((host, port))
}

/// To the first of the addresses that takes it.
async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect((*address, port)).await {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let check = |text: &str, expected: Option<(&str, u16)>| assert_eq!(parts(text), expected, "{text}");
        check("127.0.0.1:6379", Some(("127.0.0.1", 6379)));
        check("db.example:5432", Some(("db.example", 5432)));
        check("[::1]:25", Some(("::1", 25)));
        check("::1:25", None);
        check("[db]:25", None);
        check(":25", None);
        check("db", None);
        check("db:0", None);
        check("db:65536", None);
        check("http://db:80", None);
        check("user@db:80", None);
        check("a b:80", None);
    }
}
