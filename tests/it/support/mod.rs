//! What the tests share: real servers and a real daemon, each in a folder of its own.

pub(crate) mod daemon;
pub(crate) mod job;
pub(crate) mod postgres;
pub(crate) mod smtp;
pub(crate) mod webhook;
