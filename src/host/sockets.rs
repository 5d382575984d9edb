//! Descriptors: as many as this process may have, and no more sockets at once than that allows.

use std::sync::{LazyLock, OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What the rest of the process may need: ledger, logs, control sockets, pipes of programs, dumps.
const RESERVED: u64 = 256;

/// More at once than this only makes each of them slower.
const MOST: usize = 4096;

static SOCKETS: LazyLock<Semaphore> = LazyLock::new(|| {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Semaphore::new(at_once(soft))
});

/// A connection to a name with addresses of both families takes two sockets for a moment.
fn at_once(soft: u64) -> usize {
    let free = soft.saturating_sub(RESERVED.min(soft / 2)) / 2;
    usize::try_from(free).unwrap_or(MOST).clamp(4, MOST)
}

/// The limit that this process was started with, once it has been raised.
static USUAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises this process's soft limit on descriptors to the hard one; most systems set the soft one to 1024 for the sake
/// of programs that use select(2). To be called once the spawner runs, so that what jobs start keeps the usual limit,
/// and before the first [`permit`].
pub fn raise_limit() {
    let usual = USUAL.get_or_init(|| getrlimit(Resource::Nofile));
    // Where it is refused, the usual limit is respected.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: usual.maximum, maximum: usual.maximum });
}

/// Starts a process that is to have the usual limit: it inherits what holds at that moment.
pub fn with_usual_limit<T>(start: impl FnOnce() -> T) -> T {
    let Some(usual) = USUAL.get() else { return start() };
    let _ = setrlimit(Resource::Nofile, *usual);
    let started = start();
    raise_limit();
    started
}

/// Leave to open one connection; waits while too many are open. Everybody who opens many asks first, and begins to
/// count a connection's time only then.
pub async fn permit() -> Option<SemaphorePermit<'static>> {
    // Never closed.
    SOCKETS.acquire().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_process_keeps_its_descriptors() {
        let check = |soft: u64, expected: usize| assert_eq!(at_once(soft), expected, "{soft}");
        check(16, 4);
        check(256, 64);
        check(1024, 384);
        check(524_288, MOST);
        check(u64::MAX, MOST);
    }
}
