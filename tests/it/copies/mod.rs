//! Encrypted dumps, and copies of them in a real S3 server and in folders.

mod dumps;
mod elsewhere;
mod encrypted;
mod objects;
