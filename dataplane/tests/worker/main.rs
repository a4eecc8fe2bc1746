//! The whole worker at the level of frames: what becomes of each, how all of them add up, and how
//! several workers share the work.
#![forbid(unsafe_code)]

#[path = "../rig/mod.rs"]
mod rig;

mod answers;
mod bare_wire;
mod icmp;
mod limited_pings;
mod peers;
mod refusals;
mod runtime;
mod several;
mod stations;
mod steps;
mod sums;
mod tags;
mod verdicts;
mod ways;
mod wire;
mod wire_ends;
