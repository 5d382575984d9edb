//! Archives of files: folders and files as a tar of their own, with a manifest that names every entry and its hash.
//!
//! `walk` goes through the sources, `pack` makes tar of what it finds, `make` stores and publishes that as a dump is;
//! `check` reads an archive again, `restore` puts its files back. What is in a tar, only `format` and `reader` know.

mod check;
mod exclude;
mod format;
mod make;
pub mod manifest;
mod pack;
mod place;
mod reader;
mod restore;
mod unpack;
mod walk;

pub use check::{Checked, check, is_archive};
pub use exclude::Exclude;
pub use make::{Made, Order, Size, make, measure};
pub use restore::{Plan, Restored, plan, restore};

#[cfg(test)]
mod tests;
