//! The spawner's end of the socket: frames and descriptors in, frames out, never blocking.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use super::super::protocol::{Decoder, Frame, Nonsense};

/// Beyond this much unsent output, the programs' pipes are left to fill.
const FULL: usize = 1 << 20;

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// The process at the other end.
    pub(super) peer: i32,
    pub(super) greeted: bool,
    /// When its greeting must have come, on the clock that never steps; the inherited one may take its time.
    pub(super) greets_by: Option<Duration>,
    pub(super) retire: bool,
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    /// Whether epoll was asked to tell when the socket takes more.
    pub(super) waits_to_send: bool,
    decoder: Decoder,
    descriptors: VecDeque<OwnedFd>,
}

/// What a look at the socket gave.
pub(super) enum Received {
    Some,
    Nothing,
    Closed,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let peer = rustix::net::sockopt::socket_peercred(&socket)?.pid.as_raw_nonzero().get();
        Ok(Self {
            socket,
            peer,
            greeted: false,
            greets_by: None,
            retire: false,
            out: vec![],
            sent: 0,
            waits_to_send: false,
            decoder: Decoder::default(),
            descriptors: VecDeque::new(),
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.out.len() - self.sent > FULL
    }

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        match got {
            Ok(got) if got.bytes == 0 => Received::Closed,
            Ok(got) => {
                self.decoder.feed(&buffer[..got.bytes]);
                Received::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Frame, Vec<OwnedFd>)>, Nonsense> {
        let Some(frame) = self.decoder.next()? else { return Ok(None) };
        let count = frame.descriptors.min(self.descriptors.len());
        let descriptors = self.descriptors.drain(..count).collect();
        Ok(Some((frame, descriptors)))
    }

    /// Sends what it can; false where the other end is gone.
    pub(super) fn flush(&mut self) -> bool {
        while self.sent < self.out.len() {
            match rustix::net::send(&self.socket, &self.out[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.out.shrink_to(64 * 1024);
        self.sent = 0;
        true
    }
}

/// The first connection is inherited as standard input, the one descriptor that safe code can take over.
pub(super) fn inherited() -> std::io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}
