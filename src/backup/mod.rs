//! What the backup kinds and verbs share: streams, manifests, publishing, names, PostgreSQL's programs, what to keep.

pub mod archive;
pub mod catalogue;
pub mod codec;
pub mod copies;
pub mod count;
pub mod crypt;
pub mod earlier;
pub mod keys;
pub mod manifest;
pub mod names;
pub mod newest;
pub mod pattern;
pub mod postgres;
pub mod publish;
pub mod read;
pub mod restore;
pub mod retention;
pub mod room;
pub mod stream;
pub mod suspect;
pub mod verify;
pub mod work;
