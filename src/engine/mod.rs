//! Carries out the plan: claims, starts, ends.

pub mod plan;
