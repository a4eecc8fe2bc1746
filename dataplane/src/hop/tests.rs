//! Tests of the hop on ports in memory.

mod addressing;
mod claims;
mod config;
mod errors;
mod neighbours;
mod rig;
mod scans;
mod transit;
