//! The whole worker at the level of frames: what becomes of each, and how all of them add up.
#![forbid(unsafe_code)]

#[path = "../rig/mod.rs"]
mod rig;

mod verdicts;
