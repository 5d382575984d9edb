//! What the tests share: real servers and a real daemon, each in a folder of its own.

pub mod daemon;
pub mod job;
pub mod postgres;
