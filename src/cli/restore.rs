//! `restore`: puts back what a backup holds, beside what is there now.

mod files;

use super::args::Restore;
use super::failure::Failure;

pub(super) fn run(what: &Restore) -> Result<u8, Failure> {
    match what {
        Restore::Files(args) => files::run(args),
    }
}
