//! The one integration binary: a file a behaviour.

mod house;
