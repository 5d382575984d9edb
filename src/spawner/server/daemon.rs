//! What the daemon asks for, and what becomes of its programs when it is gone.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::super::protocol::{RunKey, ToDaemon, ToSpawner, VERSION, kind, put_message};
use super::connection::{Connection, Received};
use super::program::Program;
use super::sweep::Target;
use super::{CONNECTION, LISTENER, Server};
use crate::host::procfs;
use crate::policy::TERM_GRACE;

/// What a process that connects is given to say who it is.
const GREETING: Duration = Duration::from_secs(2);

impl Server {
    pub(super) fn accept(&mut self) {
        // The end of the daemon before this one may not have been noticed yet.
        self.receive();
        if self.awaits_greeting() {
            return;
        }
        let Some((listener, _)) = &self.listener else { return };
        let Ok((socket, _)) = listener.accept() else { return };
        let Ok(mut new) = Connection::new(socket.into()) else { return };
        let uid = rustix::net::sockopt::socket_peercred(&new.socket).map(|peer| peer.uid);
        let refused = match (&self.connection, uid) {
            (Some(other), _) => Some(("another process is connected".to_owned(), Some(other.peer))),
            (_, Ok(uid)) if uid == rustix::process::geteuid() || uid.is_root() => None,
            _ => Some(("this spawner belongs to another user".to_owned(), None)),
        };
        if let Some((reason, busy)) = refused {
            put_message(&mut new.out, &ToDaemon::Refused { reason, busy }, 0);
            new.flush();
            return;
        }
        let _ = epoll::add(&self.epoll, &new.socket, EventData::new_u64(CONNECTION), EventFlags::IN);
        new.greets_by = Some(self.clock.since_boot() + GREETING);
        self.connection = Some(new);
        self.receive();
    }

    fn awaits_greeting(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.greeted)
    }

    /// Whoever connects and says nothing must not keep the next daemon out, which waits in the listener's queue
    /// meanwhile. How long the loop may sleep.
    pub(super) fn end_silence(&mut self) -> Option<Duration> {
        let silent = self.connection.as_ref().filter(|connection| !connection.greeted);
        let left = silent
            .and_then(|connection| connection.greets_by)
            .map(|by| by.saturating_sub(self.clock.since_boot()));
        if left.is_some_and(|left| left.is_zero()) {
            self.disconnect();
        }
        let listens = !self.awaits_greeting();
        if let Some((listener, _)) = self.listener.as_ref().filter(|_| listens != self.listens) {
            if listens {
                let _ = epoll::add(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN);
            } else {
                let _ = epoll::delete(&self.epoll, listener);
            }
            self.listens = listens;
        }
        left.filter(|left| !left.is_zero())
    }

    pub(super) fn receive(&mut self) {
        loop {
            let Some(connection) = &mut self.connection else { return };
            match connection.receive(&mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.disconnect(),
                Received::Some => {}
            }
            loop {
                let Some(connection) = &mut self.connection else { return };
                match connection.next() {
                    Ok(None) => break,
                    Err(_) => return self.disconnect(),
                    Ok(Some((frame, descriptors))) => match frame.kind {
                        kind::ACK => self.acknowledge(frame.ack()),
                        kind::MESSAGE => {
                            if let Some(message) = frame.message() {
                                self.obey(message, descriptors);
                            }
                        }
                        _ => {}
                    },
                }
            }
            self.flush();
        }
    }

    pub(super) fn obey(&mut self, message: ToSpawner, descriptors: Vec<OwnedFd>) {
        let greeted = self.connection.as_ref().is_some_and(|connection| connection.greeted);
        match message {
            ToSpawner::Hello { version, state, retire } => self.greet(version, &state, retire),
            _ if !greeted => self.disconnect(),
            ToSpawner::Start(request) => self.start(&request, descriptors),
            ToSpawner::Attach { id } => {
                if let (Some(program), Some(connection)) = (self.programs.get_mut(&id), &mut self.connection)
                {
                    program.attach(&mut connection.out);
                    self.read(id, 0);
                    self.read(id, 1);
                    self.settle(id);
                }
            }
            ToSpawner::EndRun { token, run, grace_ms, cause } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.cause = run.cause.or(cause);
                }
                self.begin_sweep(&run, Target::All, Duration::from_millis(grace_ms), Some(token));
            }
            ToSpawner::Forget { run, attempt } => {
                let done = |program: &Program| {
                    program.run == run && program.attempt == attempt && program.exit.is_some()
                };
                let gone: Vec<u64> =
                    self.programs.values().filter(|one| done(one)).map(|program| program.id).collect();
                gone.into_iter().for_each(|id| self.forget(id));
            }
        }
    }

    pub(super) fn greet(&mut self, version: u32, state: &Path, retire: bool) {
        let wrong = if version != VERSION {
            Some(format!("it speaks version {VERSION} of the protocol, not {version}"))
        } else if state != self.state {
            Some(format!("it serves the state directory {}", self.state.display()))
        } else {
            None
        };
        if let Some(reason) = wrong {
            self.say(&ToDaemon::Refused { reason, busy: None });
            self.flush();
            return self.disconnect();
        }
        if let Some(connection) = &mut self.connection {
            // Whatever ended the daemon before, the host is not going down.
            self.told_to_end.store(false, Ordering::Relaxed);
            connection.greeted = true;
            connection.retire = retire;
        }
        let mut programs: Vec<_> = self.programs.values().filter_map(Program::listed).collect();
        programs.sort_by_key(|program| program.id);
        let pid = procfs::own_pid();
        self.say(&ToDaemon::Welcome { version: VERSION, pid, next_id: self.next_id, programs });
    }

    pub(super) fn disconnect(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        drop(connection);
        let runs: Vec<RunKey> = self.runs.keys().cloned().collect();
        let keeps = |server: &Self, run: &RunKey| server.of_run(run).any(|program| program.keep.is_some());
        for run in runs {
            let target = if keeps(self, &run) { Target::Unkept } else { Target::All };
            self.begin_sweep(&run, target, TERM_GRACE, None);
        }
        let all: Vec<u64> = self.programs.keys().copied().collect();
        for id in all {
            if let Some(program) = self.programs.get_mut(&id) {
                program.detach();
            }
            // Whatever waited for the daemon is held here now.
            self.read(id, 0);
            self.read(id, 1);
            self.settle(id);
        }
    }

    pub(super) fn say(&mut self, message: &ToDaemon) {
        if let Some(connection) = &mut self.connection {
            put_message(&mut connection.out, message, 0);
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let was_full = connection.is_full();
        if !connection.flush() {
            return self.disconnect();
        }
        let waits = connection.sent < connection.out.len();
        if waits != connection.waits_to_send {
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _ = epoll::modify(&self.epoll, &connection.socket, EventData::new_u64(CONNECTION), flags);
            connection.waits_to_send = waits;
        }
        if was_full && !connection.is_full() {
            let all: Vec<u64> = self.programs.keys().copied().collect();
            for id in all {
                self.watch(id);
            }
        }
    }
}
