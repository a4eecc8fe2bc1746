//! Raw bindings to DPDK, generated at build time from the headers of the installed libdpdk.
//!
//! What is a function in the library is declared as it is there. What is `static inline` or a
//! macro is reached through `shim.c`, whose functions and constants bear the prefix `shim_`.
//! Nothing outside the `bindings` crate uses this one.

// The generated code keeps C's names and carries no documentation of ours.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unused_qualifications,
    unnecessary_transmutes,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/dpdk.rs"));
}

pub use generated::*;
