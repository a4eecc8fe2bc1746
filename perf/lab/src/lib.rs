//! A lab of network name spaces, *clients – guard – server*, in which real programs make real
//! traffic: what the end-to-end tests and the demo stand on.
//!
//! [`Lab::build`] makes the name spaces and the links between them and takes everything away
//! again when it is dropped. What a killed process left behind is swept away by the next
//! [`Lab::build`]. Only one lab at a time may be *used* on a machine, which [`exclusive`] sees to.
#![forbid(unsafe_code)]

pub mod address;
pub mod command;
pub mod curl;
pub mod daemon;
pub mod emulator;
mod error;
pub mod filter;
pub mod flood;
pub mod frame;
pub mod lock;
pub mod namespace;
pub mod numbered;
pub mod observer;
pub mod profile;
pub mod route;
pub mod scratch;
pub mod server;
pub mod socket;
pub mod sprayed;
pub mod topology;
pub mod wires;

pub use error::{Error, Result};
pub use lock::exclusive;
pub use namespace::Namespace;
pub use topology::{Forwarder, Lab, Options};
