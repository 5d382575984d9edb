//! The spawner: a tiny second process, started before any thread, that is the parent of every program.
//!
//! It drains their output, knows their true exit, ends whatever they leave behind, outlives the daemon, hands
//! everything to the next one, and ends when it is idle without one. It is this same binary, run as
//! `punk-eco-sched __spawner`: `server` is its side, [`Spawner`] the daemon's. Never decides whether a program
//! did well: that is the job's business.

mod client;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod link;
mod outgoing;
mod protocol;
mod rendezvous;
pub mod server;

pub use client::{AdoptedProgram, Adoption, Launched, Settings, Spawner};
pub(crate) use link::{Link, NotStarted, ProgramEnd, Request};
pub(crate) use protocol::{RunKey, Sink, Start};
