//! Virtual links on a virtual clock.
//!
//! Nothing here reads a clock, opens a socket or starts a thread: every outcome follows from the
//! arguments and from the seed of a [`Random`], so a run repeats exactly.
#![forbid(unsafe_code)]

pub mod appliance;
pub mod capture;
pub mod frame;
pub mod host;
pub mod internet;
pub mod invariant;
pub mod link;
pub mod node;
pub mod puppet;
pub mod random;
pub mod scenario;
pub mod script;
pub mod sharing;
pub mod site;
pub mod spray;
pub mod trace;
pub mod world;

pub use invariant::Invariant;
pub use link::{Bursts, Link, LinkCounters, LinkSettings};
pub use node::{Node, Switch};
pub use random::Random;
pub use world::{Failure, NodeId, World};
