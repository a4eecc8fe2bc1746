//! Tests of the hop on ports in memory.

mod rig;
mod transit;
