//! `restore`: puts back what a backup holds, beside what is there now.

mod db;
mod files;

use super::Context;
use super::args::Restore;
use super::failure::Failure;

pub(super) fn run(context: &Context, what: &Restore) -> Result<u8, Failure> {
    match what {
        Restore::Db(args) => db::run(context, args),
        Restore::Files(args) => files::run(args),
    }
}
