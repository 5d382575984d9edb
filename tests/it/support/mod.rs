//! What the tests share: real servers and a real daemon, each in a folder of its own.

pub(crate) mod acme;
pub(crate) mod daemon;
pub(crate) mod docker;
pub(crate) mod engine;
pub(crate) mod job;
pub(crate) mod missing;
pub(crate) mod nginx;
pub(crate) mod openssl;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod s3;
pub(crate) mod scraped;
pub(crate) mod server;
pub(crate) mod shop;
pub(crate) mod smtp;
pub(crate) mod systemd;
pub(crate) mod web;
pub(crate) mod webhook;
