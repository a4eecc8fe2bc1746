//! Header views: bytes in place, and a meaning beside them.
//!
//! A view (`Tcp`, `Ipv4`, `Ipv6`) is made by `new`, which proves the lengths; its getters and
//! setters then never panic. A message that is short or rare (`Arp`, ICMP, neighbour discovery) is
//! read into a value. Reading never panics and never allocates, whatever the bytes; writing says
//! how much room it needs.

pub mod address;
pub mod arp;
pub(crate) mod bytes;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod membership;
pub mod ndp;
pub mod quoted;
pub mod tcp;
pub mod tcp_options;
pub mod tcp_segment;
