//! The packet path: workers, tables and protocols.
//!
//! Everything here is handed packets and a time and gives back packets; nothing knows a socket, a
//! clock or a thread. `README.md` beside this crate walks one packet through it.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod capture;
pub mod classify;
pub mod command;
pub mod context;
pub mod counters;
mod deadlines;
pub mod drop_reason;
pub mod echo;
pub mod flow;
pub mod fragment;
pub mod guard;
pub mod hop;
pub mod io;
mod keyed;
pub mod limits;
pub mod memory;
pub mod mesh;
pub mod packet;
pub mod parse;
pub mod port;
pub mod replicate;
pub mod runtime;
pub mod shard;
mod siphash;
pub mod tcp;
pub mod transmit;
mod usual;
pub mod verdict;
pub mod wire;
pub mod worker;
