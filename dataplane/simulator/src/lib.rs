//! Virtual links on a virtual clock.
//!
//! Nothing here reads a clock, opens a socket or starts a thread: every outcome follows from the
//! arguments and from the seed of a [`Random`], so a run repeats exactly.
#![forbid(unsafe_code)]

pub mod link;
pub mod random;

pub use link::{Link, LinkCounters, LinkSettings};
pub use random::Random;
