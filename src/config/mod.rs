//! jobs.yaml: read, checked whole, and turned into a [`JobTable`].

mod table;

pub use table::*;
