//! What a spawner says, taken in: starts and refusals to those who wait for them, output into the logs, exits. Asks it for
//! nothing but to forget the output that is safe.

use std::sync::atomic::Ordering;

use super::{Link, NotStarted, ProgramEnd, Refusal, Welcome, lock, stream};
use crate::host::process::Swept;
use crate::spawner::outgoing::Outgoing;
use crate::spawner::protocol::{Ack, Ended, Frame, Position, ToDaemon, kind, put_ack};

/// How far one stream has been taken in.
#[derive(Clone, Copy, Default)]
pub(super) struct Intake {
    pub(super) taken: u64,
    /// In the log, an unfinished line's pieces among them.
    pub(super) lines: u64,
    pub(super) safe: Position,
}

impl Link {
    pub(super) fn take_frame(&self, frame: &Frame) {
        match frame.kind {
            kind::OUTPUT => self.take_output(frame),
            kind::ENDED => self.take_end(frame),
            kind::MESSAGE => {
                if let Some(message) = frame.message() {
                    self.take_message(message);
                }
            }
            _ => {}
        }
    }

    fn take_message(&self, message: ToDaemon) {
        match message {
            ToDaemon::Welcome { pid, next_id, programs, .. } => {
                self.pid.store(pid, Ordering::Relaxed);
                let mut state = self.state();
                state.next_id = state.next_id.max(next_id);
                if let Some(welcome) = state.welcome.take() {
                    let _ = welcome.send(Ok(Welcome { programs }));
                }
            }
            ToDaemon::Refused { reason, busy } => {
                if let Some(welcome) = self.state().welcome.take() {
                    let _ = welcome.send(Err(Refusal { reason, busy }));
                }
            }
            ToDaemon::Started { id, pid } => self.answer_start(id, Ok(pid)),
            ToDaemon::Failed { id, host, reason } => {
                self.answer_start(id, Err(NotStarted { host, reason }));
                self.state().programs.remove(&id);
            }
            ToDaemon::Swept { token, ended, survivors } => {
                if let Some(swept) = self.state().sweeps.remove(&token) {
                    let _ = swept.send(Swept { ended, survivors });
                }
            }
        }
    }

    fn answer_start(&self, id: u64, answer: Result<u32, NotStarted>) {
        let Some(program) = self.state().programs.get(&id).cloned() else { return };
        let started = lock(&program.answers).started.take();
        if let Some(started) = started {
            let _ = started.send(answer);
        }
    }

    fn take_output(&self, frame: &Frame) {
        let Some(piece) = frame.piece() else { return };
        let Some(program) = self.state().programs.get(&piece.id).cloned() else { return };
        let mut intake = lock(&program.intake);
        let one = &mut intake[piece.stream];
        let end = piece.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (whole, unfinished) = piece.bytes.split_at(end);
        if !whole.is_empty() {
            let lines = program.log.output(stream(piece.stream), piece.at, whole);
            one.lines = one.lines.saturating_add(lines);
            one.safe = Position { offset: one.taken.saturating_add(whole.len() as u64), lines: one.lines };
        }
        if !unfinished.is_empty() {
            let lines = program.log.output(stream(piece.stream), piece.at, unfinished);
            one.lines = one.lines.saturating_add(lines);
        }
        one.taken = one.taken.saturating_add(piece.bytes.len() as u64);
        let ack = Ack { id: piece.id, stream: piece.stream, taken: one.taken, safe: one.safe };
        let mut bytes = vec![];
        put_ack(&mut bytes, &ack);
        let _ = self.out.send(Outgoing { bytes, descriptors: vec![], sent: None });
    }

    fn take_end(&self, frame: &Frame) {
        let Some((head, stdout, stderr)) = frame.ended() else { return };
        let Some(program) = self.state().programs.remove(&head.id) else { return };
        let mut any = false;
        for (index, logged) in program.logged.iter().enumerate() {
            if *logged {
                any = true;
                program.log.end_output(stream(index), head.at);
            }
        }
        if any && head.dropped > 0 {
            let text =
                format!("{} bytes of output were dropped: more than `max_output` allows", head.dropped);
            program.log.note(head.at, &text);
        }
        let Ended { status, at, written, dropped, .. } = head;
        let end = ProgramEnd { status, at, stdout, stderr, written, dropped };
        if let Some(ended) = lock(&program.answers).ended.take() {
            let _ = ended.send(end);
        }
    }
}
