//! The verbs, one file each.

pub mod history;
pub mod logs;
pub mod output;
pub mod show;
pub mod time;
