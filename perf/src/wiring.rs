//! How a tester and the subject of its test are joined: two devices, and the addresses that make
//! the subject carry frames from one to the other.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// One of the tester's two sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The tester's device: a PCI address or a virtual device's arguments, as in a profile.
    pub device: String,
    /// The tester's own addresses on that link, which it answers for.
    pub addresses: Vec<IpNetwork>,
    /// What lies behind the tester on this side: it sends from there, and takes what goes there.
    pub networks: Vec<IpNetwork>,
    /// The subject's addresses on this link, which the tester asks the station address of; none
    /// for a subject without addresses, such as a wire.
    pub gateways: Vec<IpAddr>,
    /// The station address that frames are sent to, where it is not to be asked for.
    pub station: Option<[u8; 6]>,
}

/// A tester's two sides. The subject is between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Clients are on this side.
    pub outside: Side,
    /// Servers are on this side.
    pub inside: Side,
    /// Whether these devices are of a kind that real frames on a cable pass; otherwise figures are
    /// functional, not line rate.
    pub is_physical: bool,
}
