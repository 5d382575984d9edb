//! Names to addresses, as the system resolves them (nsswitch.conf, hosts, DNS), with a bound on how many at once.

use std::net::{IpAddr, ToSocketAddrs};

use tokio::sync::Semaphore;

/// Names that are looked up at once: the system's resolver holds a thread for each, and can't be interrupted.
const AT_ONCE: usize = 32;

/// Why a name has no address, in the resolver's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(pub String);

/// At least one address. Takes as long as the resolver takes: whoever asks sets the bound.
///
/// # Errors
/// [`Unresolved`]
pub async fn addresses(name: &str) -> Result<Vec<IpAddr>, Unresolved> {
    static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let failed = |error: &dyn std::fmt::Display| Unresolved(error.to_string());
    let turn = TURNS.acquire().await.map_err(|error| failed(&error))?;
    let name = name.to_owned();
    // The turn ends with the thread, even where nobody waits for it any more.
    let looked_up = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        Ok::<_, std::io::Error>((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    });
    let found: Vec<IpAddr> = looked_up.await.map_err(|error| failed(&error))?.map_err(|error| {
        // getaddrinfo's words, without the name of the function.
        let text = error.to_string();
        Unresolved(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
    })?;
    if found.is_empty() { Err(Unresolved("it has no address".into())) } else { Ok(found) }
}
