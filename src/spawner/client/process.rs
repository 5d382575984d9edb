//! The spawner's process: its beginning, and what is removed after its end. Never starts a program.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Result, bail};

use super::Settings;
use crate::clock::Clock;
use crate::host::process::Recorded;
use crate::host::procfs;
use crate::spawner::link::{Link, Refusal};
use crate::spawner::rendezvous::Places;
use crate::spawner::server;

#[expect(clippy::disallowed_methods, reason = "the spawner is the one program that it can't start itself")]
pub(super) fn start_process(settings: &Settings) -> io::Result<(Child, std::os::unix::net::UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut command = Command::new(&settings.executable);
    std::os::unix::process::CommandExt::arg0(&mut command, "punk-eco-sched");
    command.arg(server::VERB).arg(&settings.control_socket).arg(&settings.state);
    command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    // Whatever the daemon was given in secret is none of the spawner's business; programs get none of it anyway.
    command.env_clear();
    Ok((command.spawn()?, ours))
}

pub(super) async fn greet(
    socket: std::os::unix::net::UnixStream,
    settings: &Settings,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Link>> {
    let (link, welcome) = Link::new(socket, settings.state.clone(), false, clock)?;
    match welcome.await? {
        Ok(_) => Ok(link),
        Err(Refusal { reason, .. }) => bail!("{reason}"),
    }
}

pub(super) fn tidy(places: Places<'_>, spawner: i32) {
    let lives =
        |one: &procfs::ProcessStat| !one.is_zombie() && (one.session == spawner || one.pid == spawner);
    let recorded = |record: &Recorded| {
        procfs::stat(record.pid).is_some_and(|one| one.start == record.start && !one.is_zombie())
    };
    // The cheap question first: a thousand runs may end at once.
    if spawner <= 1 || places.records_of(spawner).iter().any(recorded) || procfs::all().iter().any(lives) {
        return;
    }
    for left in places.sockets_of(spawner).into_iter().chain([places.record_of(spawner)]) {
        let _ = std::fs::remove_file(left);
    }
}
