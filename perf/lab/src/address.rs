//! The lab's addresses: one plan, which the profile, the tests and the demo share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The guard's outside address, and what clients route through.
pub const GUARD_OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
];
/// The guard's inside address, and the server's default route.
pub const GUARD_INSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1)),
];
/// The clients' end of the outside link: the router in front of the clients' nets.
pub const ROUTER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe)),
];
/// A second router on the outside net, where a lab has one.
pub const SECOND_ROUTER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 253)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfd)),
];
/// The protected server.
pub const SERVER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x10)),
];
/// A net that several guards are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardNet {
    /// Towards the clients: 192.0.2.0/24 and 2001:db8:1::/64.
    Outside,
    /// Towards the server: 10.1.0.0/24 and fd00:2::/64.
    Inside,
    /// Between them: 10.9.0.0/24 and fd00:9::/64.
    Sync,
}

/// The number of a router on a net of several guards.
pub const ROUTER_NUMBER: u8 = 254;

/// The address of guard `number` of several on a net of theirs.
#[must_use]
pub fn of_guard(net: GuardNet, number: u8) -> [IpAddr; 2] {
    let ([a, b, c], [d, e, f]) = match net {
        GuardNet::Outside => ([192, 0, 2], [0x2001, 0xdb8, 1]),
        GuardNet::Inside => ([10, 1, 0], [0xfd00, 2, 0]),
        GuardNet::Sync => ([10, 9, 0], [0xfd00, 9, 0]),
    };
    [
        Ipv4Addr::new(a, b, c, number).into(),
        Ipv6Addr::new(d, e, f, 0, 0, 0, 0, number.into()).into(),
    ]
}

/// The nets that spoofed packets claim to come from. Nothing else in the lab uses them.
pub const SPOOFED: [&str; 2] = ["100.64.0.0/10", "2001:db8:f000::/36"];

/// How many client addresses there are in each family.
pub const CLIENTS: u8 = 16;

/// The address of client `number` (0 to [`CLIENTS`] - 1): IPv4, IPv6. Even ones lie in
/// 198.51.100.0/24 and 2001:db8:2::/64, odd ones in 203.0.113.0/24 and 2001:db8:3::/64.
#[must_use]
pub fn client(number: u8) -> [IpAddr; 2] {
    let host = number % CLIENTS + 1;
    if number.is_multiple_of(2) {
        [
            Ipv4Addr::new(198, 51, 100, host).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host.into()).into(),
        ]
    } else {
        [
            Ipv4Addr::new(203, 0, 113, host).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, host.into()).into(),
        ]
    }
}

/// An address as it stands in a URL.
#[must_use]
pub fn in_url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
