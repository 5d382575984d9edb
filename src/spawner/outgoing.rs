//! The writing half of the daemon's connection: many requests in one message, descriptors with their requests.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Descriptors that fit into one message (unix(7), SCM_MAX_FD is 253).
const DESCRIPTORS: usize = 200;
/// Bytes gathered for one message, many requests together.
const BATCH: usize = 64 * 1024;

/// One frame with the descriptors that belong to it.
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
    /// Dropped once this and all before it is on its way.
    pub(super) sent: Option<oneshot::Sender<()>>,
}

/// Ends, and closes the connection, when the last user of the link is gone.
pub(super) async fn write(socket: Arc<UnixStream>, mut outgoing: mpsc::UnboundedReceiver<Outgoing>) {
    let mut waiting = vec![];
    while outgoing.recv_many(&mut waiting, 1000).await > 0 {
        let mut messages = waiting.drain(..).peekable();
        while let Some(Outgoing { mut bytes, mut descriptors, sent }) = messages.next() {
            let mut waits = vec![sent];
            while let Some(next) = messages.next_if(|next| {
                bytes.len() < BATCH && descriptors.len() + next.descriptors.len() <= DESCRIPTORS
            }) {
                bytes.extend_from_slice(&next.bytes);
                descriptors.extend(next.descriptors);
                waits.push(next.sent);
            }
            if send_all(&socket, &bytes, &descriptors).await.is_err() {
                return;
            }
            drop(waits);
        }
    }
    let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
}

async fn send_all(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> std::io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        socket.writable().await?;
        let result = socket.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            if sent == 0 && !borrowed.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let parts = [IoSlice::new(&bytes[sent..])];
            Ok(rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?)
        });
        match result {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
