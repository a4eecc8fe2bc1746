//! The safe layer on DPDK: the only `unsafe` code in the house.
//!
//! Begin with [`eal::Eal::init`]. With the [`Eal`] that it gives, make a [`Mempool`], find or
//! attach a port by [`Port::attach`], configure and start it, take its queues, and hand each
//! queue to the thread that polls it. Every [`Mbuf`] is an owned value: dropped, it goes back to
//! its pool; transmitted, it is gone.
//!
//! How the types keep DPDK's rules is told in `bindings/README.md`.

pub mod allocation;
pub mod cipher;
pub mod clock;
pub mod eal;
pub mod error;
pub mod interface;
pub mod lanes;
pub mod log;
pub mod mbuf;
pub mod memory;
pub mod mempool;
pub mod netlink;
pub mod packet_socket;
pub mod port;
pub mod queue;
pub mod ring;
pub mod system;

pub use allocation::CountingAllocator;
pub use clock::Clock;
pub use eal::{Eal, EalConfig};
pub use error::Error;
pub use interface::Interface;
pub use log::LogLevel;
pub use mbuf::Mbuf;
pub use memory::prefetch;
pub use mempool::Mempool;
pub use netlink::Netlink;
pub use port::{Port, PortConfig, PortId, PortInfo};
pub use queue::{RxQueue, TxQueue};
