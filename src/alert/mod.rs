//! Who hears of what.

pub mod incidents;
pub mod message;
