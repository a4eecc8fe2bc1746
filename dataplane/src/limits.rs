//! Every capacity, in one place.

/// Packets taken or sent at once. 32 to 64 is what NICs and caches like; 128 measures slower.
pub const BURST: usize = 32;
/// DPDK ports of one appliance.
pub const MAX_PORTS: usize = 16;
/// Logical interfaces: a port, or a VLAN on a port.
pub const MAX_INTERFACES: usize = 32;
/// Addresses of one interface.
pub const MAX_ADDRESSES: usize = 16;
/// Workers of one appliance.
pub const MAX_WORKERS: usize = 64;
/// IPv6 extension headers that are followed before a packet is refused.
pub const MAX_EXTENSION_HEADERS: usize = 8;
/// Packets that one handled packet or timer may cause to be sent besides itself.
pub const MAX_OUTBOX: usize = 64;
/// Slots of the ring from one worker to another.
pub const HAND_OFF_RING: usize = 1024;
