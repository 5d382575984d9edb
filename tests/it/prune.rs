//! Pruning against real folders.
