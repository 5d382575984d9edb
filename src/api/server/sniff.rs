//! Tells a client that speaks HTTP from one that waits to be greeted, by what it says first. Takes nothing of it.

use std::io;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// HTTP clients speak first, and at once; our own say so with their first byte. Only older ones of ours wait so long.
const SILENCE: Duration = Duration::from_millis(60);
/// For the rest of a word that was begun.
const PAUSE: Duration = Duration::from_millis(2);

/// Those that are answered, and those that are told that they are not.
const METHODS: &[&[u8]] =
    &[b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE "];

pub(super) async fn speaks_http(stream: &UnixStream) -> bool {
    let until = Instant::now() + SILENCE;
    let mut said = [0_u8; 8];
    while Instant::now() < until {
        if !matches!(timeout_at(until, stream.readable()).await, Ok(Ok(()))) {
            return false;
        }
        let peek = || Ok(rustix::net::recv(stream, &mut said, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.1);
        let count = match stream.try_io(Interest::READABLE, peek) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return false,
        };
        let said = &said[..count];
        if METHODS.iter().any(|method| said.starts_with(method)) {
            return true;
        }
        if count == 0 || !METHODS.iter().any(|method| method.starts_with(said)) {
            return false;
        }
        sleep(PAUSE).await;
    }
    false
}
