//! Waits for the end of processes whose parent is another: the kernel tells of it. Ends nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::orphans::Leader;

/// Between two looks at a process for which the kernel gives no descriptor.
const WITHOUT_DESCRIPTOR: Duration = Duration::from_secs(1);

/// Between two looks for what processes that were told to end have started meanwhile: of that nobody tells.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// Returns when the process has ended.
pub(super) async fn of(leader: Leader) {
    while leader.is_alive() {
        let handle = Pid::from_raw(leader.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let Some(handle) = handle.and_then(|handle| wakes_us(handle).ok()) else {
            tokio::time::sleep(WITHOUT_DESCRIPTOR).await;
            continue;
        };
        // Now the handle names one process for ever: is it the one that is meant?
        if leader.is_alive() && handle.readable().await.is_err() {
            tokio::time::sleep(WITHOUT_DESCRIPTOR).await;
        }
    }
}

/// Returns when all of them have ended, or it is time to look again, or at `until`.
pub(super) async fn of_all(told: impl Iterator<Item = Leader>, until: Instant) {
    let all = async {
        for one in told {
            of(one).await;
        }
    };
    let _ = tokio::time::timeout_at(until.min(Instant::now() + NEXT_LOOK), all).await;
}

#[expect(deprecated, reason = "what replaces it is unsafe; an OwnedFd keeps what that one asks for")]
fn wakes_us(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(handle)
}
