//! TCP clients and servers that complete TCP by themselves, millions of connections on one core.
//!
//! Neither reads a clock or knows a port: [`Clients`] and [`Servers`] are handed frames and the
//! time, and write frames into a [`Sink`]. Every octet of a request and of a response follows from
//! the connection's number and the octet's place ([`stream`]), so that each is verified without
//! being kept. Every connection ends in exactly one [`End`], and the sums hold.
//!
//! Each turn of whoever drives them: `receive` each frame that came, then `flush`, then `poll`
//! with the time. [`Clients::open`] begins a connection; [`load`] says when.

pub mod arena;
mod attack;
pub mod client;
pub mod device;
pub mod flood;
pub mod load;
pub mod memory;
pub mod outcome;
pub mod scenario;
pub mod segment;
pub mod server;
pub mod site;
pub mod stream;
mod tcb;
#[cfg(test)]
mod tests;

pub use arena::{Arena, Came, Offer, Port};
pub use client::{ClientConfig, Clients, Close, Pool, Talk};
pub use outcome::{End, Ends, Latencies};
pub use segment::{Link, Sink};
pub use server::{ServerConfig, ServerEnd, Servers};
