//! Descriptors: as many as this process may have, and no more sockets and runs at once than that allows.

use std::sync::{LazyLock, OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What the rest of the process may need: ledger, logs, control sockets, pipes of programs, dumps.
const RESERVED: u64 = 256;

/// More at once than this only makes each of them slower.
const MOST: usize = 4096;

/// What one run may take at the same time, here or in the spawner: its log, pipes on both ends, what its job opens.
const PER_RUN: u64 = 8;

static SOCKETS: LazyLock<Semaphore> = LazyLock::new(|| {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Semaphore::new(at_once(soft))
});

/// A connection to a name with addresses of both families takes two sockets for a moment.
fn at_once(soft: u64) -> usize {
    let free = soft.saturating_sub(RESERVED.min(soft / 2)) / 2;
    usize::try_from(free).unwrap_or(MOST).clamp(4, MOST)
}

/// How many runs may be under way at once, and the limit of open files that this follows from; of the raised limit, once
/// [`raise_limit`] was called. One more would fail for want of descriptors where it only has to wait.
pub fn runs_at_once() -> (usize, u64) {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (runs_within(soft), soft)
}

fn runs_within(soft: u64) -> usize {
    usize::try_from(soft / PER_RUN).unwrap_or(usize::MAX).max(1)
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

    #[test]
    fn each_run_has_descriptors() {
        let check = |soft: u64, expected: usize| assert_eq!(runs_within(soft), expected, "{soft}");
        check(4, 1);
        check(256, 32);
        // More than the 64 that may run where nobody says otherwise.
        check(1024, 128);
        check(524_288, 65_536);
    }
}
