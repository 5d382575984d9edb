//! The life of a program: started, read, reaped, reported, forgotten.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::WaitOptions;

use super::super::protocol::{Ack, RunKey, Start, ToDaemon};
use super::connection::Connection;
use super::program::{Out, Program, Stop};
use super::sweep::Target;
use super::{Run, STARTING, Server, start};
use crate::host::cgroup::RunCgroup;
use crate::host::process::{MARKER_SLOT, Status, mark};
use crate::host::procfs;
use crate::policy::TERM_GRACE;

impl Server {
    pub(super) fn start(&mut self, request: &Start, descriptors: Vec<OwnedFd>) {
        let id = request.id;
        if self.programs.contains_key(&id) {
            // Its pipes and its exit would never be seen again.
            let reason = format!("number {id} is another program's, which the daemon should know");
            return self.say(&ToDaemon::Failed { id, host: false, reason });
        }
        self.next_id = self.next_id.max(id.saturating_add(1));
        let mark = mark(&self.state, request.run.run, &request.run.job);
        let cgroup = self.enter_cgroup(&request.run, mark);
        let started = start::start(request, descriptors, self.limit.as_ref(), mark);
        if cgroup.is_some() {
            self.leave_cgroup();
        }
        let started = match started {
            Ok(started) => started,
            Err(failure) => {
                if let Some(cgroup) = cgroup {
                    cgroup.remove();
                }
                return self.say(&ToDaemon::Failed { id, host: failure.host, reason: failure.reason });
            }
        };
        let since = self.clock.since_boot();
        let fresh = || Run { since, mark, ..Run::default() };
        let run = self.runs.entry(request.run.clone()).or_insert_with(fresh);
        run.programs.push(id);
        run.groups.push(started.pid);
        run.swept = false;
        run.cgroup = cgroup.or(run.cgroup.take());
        run.cause = None;
        self.groups.insert(started.pid, request.run.clone());
        self.by_pid.insert(started.pid, id);
        if let Some(pipe) = &started.starting {
            let data = EventData::new_u64((id << 2) | STARTING);
            let _ = epoll::add(&self.epoll, pipe, data, EventFlags::IN);
        } else {
            self.say(&ToDaemon::Started { id, pid: started.pid.unsigned_abs() });
        }
        let program = Program {
            id,
            run: request.run.clone(),
            attempt: request.attempt,
            slot: request.env.iter().find(|(name, _)| name == MARKER_SLOT).map(|(_, slot)| slot.clone()),
            origin: request.origin.clone(),
            pid: started.pid,
            started_at: self.clock.now(),
            keep: request.keep.clone(),
            streams: started.streams,
            allowance: request.max_output,
            written: 0,
            dropped: 0,
            starting: started.starting,
            exit: None,
            started_since_boot: since,
            ended_since_boot: None,
            ended_as: None,
            outlived_signal: false,
            attached: true,
            announced: false,
            swept: false,
        };
        self.programs.insert(id, program);
        self.write_down(id);
        self.watch(id);
    }

    /// `None` where nothing is delegated to this service, or the cgroup can't be made: the run's marks have to do.
    fn enter_cgroup(&self, run: &RunKey, mark: u64) -> Option<RunCgroup> {
        let delegated = self.delegated.as_ref()?;
        let cgroup = delegated.of_run(run.run, mark, procfs::own_pid());
        delegated.enter(&cgroup).ok().map(|()| cgroup)
    }

    fn leave_cgroup(&mut self) {
        if self.delegated.as_ref().is_some_and(|delegated| delegated.leave().is_err()) {
            // What is started from now on would be in another run's cgroup: none is ended by its cgroup any more.
            self.delegated = None;
            self.runs.values_mut().for_each(|run| run.cgroup = None);
        }
    }

    /// `__exec` has become the program, or says why not.
    pub(super) fn hear_of_start(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        let Some(pipe) = &program.starting else { return };
        let mut reason = [0; 1024];
        let length = match rustix::io::read(pipe, &mut reason) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => 0,
            Ok(length) => length,
        };
        program.starting = None;
        let pid = program.pid.unsigned_abs();
        if length == 0 {
            self.say(&ToDaemon::Started { id, pid });
            return self.settle(id);
        }
        // Its process is reaped like any other; nobody hears of its exit.
        self.forget(id);
        let reason = String::from_utf8_lossy(&reason[..length]).into_owned();
        self.say(&ToDaemon::Failed { id, host: false, reason });
    }

    pub(super) fn reap(&mut self) {
        let mut drained = [0; 512];
        while matches!(rustix::io::read(&self.signals, &mut drained), Ok(1..)) {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.look = true;
            let pid = pid.as_raw_nonzero().get();
            self.strays.remove(&pid);
            let Some(id) = self.by_pid.remove(&pid) else { continue };
            let Some(program) = self.programs.get_mut(&id) else { continue };
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Status::Code(code),
                (_, Some(signal)) => Status::Signal(signal),
                _ => Status::Unknown,
            };
            program.exit = Some((status, self.clock.now()));
            program.ended_since_boot = Some(self.clock.since_boot());
            self.hear_of_start(id);
            self.settle(id);
        }
    }

    pub(super) fn read(&mut self, id: u64, stream: usize) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        program.read(stream, self.clock.now(), &mut self.buffer, out_of(&mut self.connection));
        if program.exit.is_some() {
            self.settle(id);
        } else {
            self.watch(id);
        }
    }

    pub(super) fn acknowledge(&mut self, ack: Option<Ack>) {
        let Some(ack) = ack else { return };
        let Some(program) = self.programs.get_mut(&ack.id) else { return };
        program.acknowledge(&ack);
        if program.exit.is_some() { self.settle(ack.id) } else { self.watch(ack.id) }
    }

    /// Lets epoll watch exactly the pipes that may be read now.
    pub(super) fn watch(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        let full = self.connection.as_ref().is_some_and(Connection::is_full);
        let attached = program.attached && self.connection.is_some();
        for (index, stream) in program.streams.iter_mut().enumerate() {
            let Some(pipe) = &stream.pipe else { continue };
            let wanted = !(attached && (full || stream.is_full()));
            if wanted && !stream.watched {
                let data = EventData::new_u64((id << 2) | index as u64);
                stream.watched = epoll::add(&self.epoll, pipe, data, EventFlags::IN).is_ok();
            } else if !wanted && stream.watched {
                // Not `modify` to nothing: a hang-up is reported even then, over and over.
                let _ = epoll::delete(&self.epoll, pipe.as_fd());
                stream.watched = false;
            }
        }
    }

    /// A program that ended: reads what is left, ends what holds its output open, and reports it.
    pub(super) fn settle(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        if program.exit.is_none() || program.starting.is_some() {
            return;
        }
        let now = self.clock.now();
        let mut waits = false;
        for stream in 0..2 {
            let stop = program.read(stream, now, &mut self.buffer, out_of(&mut self.connection));
            waits |= matches!(stop, Stop::Full | Stop::Turn);
        }
        if !program.is_drained() {
            let run = program.run.clone();
            self.watch(id);
            if waits || self.sweeps.contains_key(&run) {
                return;
            }
            // Something else holds the pipe, and is not to outlive the program.
            return self.begin_sweep(&run, Target::Strays, TERM_GRACE, None);
        }
        self.report(id);
    }

    pub(super) fn report(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        if let Some(connection) = &mut self.connection {
            program.announce(&mut connection.out);
        }
        if program.keep.is_none() {
            return self.forget(id);
        }
        if self.connection.is_none() && !program.swept {
            program.swept = true;
            let run = program.run.clone();
            self.begin_sweep(&run, Target::Strays, TERM_GRACE, None);
        }
    }

    /// Nothing that can be ended holds the pipes of this ended program any more.
    pub(super) fn close_pipes(&mut self, id: u64) {
        let Some(program) = self.programs.get_mut(&id) else { return };
        let now = self.clock.now();
        for stream in 0..2 {
            let stop = program.read(stream, now, &mut self.buffer, out_of(&mut self.connection));
            if stop == Stop::Empty {
                program.close(stream);
            }
        }
        self.settle(id);
    }

    pub(super) fn forget(&mut self, id: u64) {
        let Some(program) = self.programs.remove(&id) else { return };
        if let Some(run) = self.runs.get_mut(&program.run) {
            run.programs.retain(|one| *one != id);
            if run.swept && run.programs.is_empty() {
                self.runs.remove(&program.run);
            }
        }
    }

    pub(super) fn of_run(&self, run: &RunKey) -> impl Iterator<Item = &Program> {
        let ids = self.runs.get(run).map_or(&[][..], |run| run.programs.as_slice());
        ids.iter().filter_map(|id| self.programs.get(id))
    }
}

fn out_of(connection: &mut Option<Connection>) -> Out<'_> {
    match connection {
        None => Out { bytes: None, full: false },
        Some(connection) => {
            let full = connection.is_full();
            Out { bytes: Some(&mut connection.out), full }
        }
    }
}
