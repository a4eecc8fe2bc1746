//! One address type for both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address family of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

/// An IPv4 or IPv6 address in sixteen bytes; IPv4 is held in its IPv4-mapped form
/// (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2), so that one key layout serves both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(u128);

const MAPPED: u128 = 0xffff_0000_0000;

impl Address {
    /// The unspecified IPv6 address.
    pub const UNSPECIFIED: Self = Self(0);

    /// From four octets in network order.
    #[inline]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self(MAPPED | u32::from_be_bytes(octets) as u128)
    }

    /// From sixteen octets in network order.
    #[inline]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    /// From the 128-bit number of the (mapped) address.
    #[inline]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128-bit number of the (mapped) address.
    #[inline]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// Which family this address belongs to.
    #[inline]
    pub const fn family(self) -> Family {
        if self.0 >> 32 == MAPPED >> 32 {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The four octets of an IPv4 address; of an IPv6 one, its last four.
    #[inline]
    pub const fn v4_octets(self) -> [u8; 4] {
        (self.0 as u32).to_be_bytes()
    }

    /// The sixteen octets, mapped for IPv4.
    #[inline]
    pub const fn octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Multicast in either family, or the IPv4 limited broadcast.
    #[inline]
    pub const fn is_multicast_or_broadcast(self) -> bool {
        self.is_multicast_or_broadcast_of(self.family())
    }

    /// The same, for who knows the family.
    #[inline]
    pub(crate) const fn is_multicast_or_broadcast_of(self, family: Family) -> bool {
        match family {
            Family::V4 => self.0 as u32 >> 28 == 0xe || self.0 as u32 == u32::MAX,
            Family::V6 => self.0 >> 120 == 0xff,
        }
    }

    /// Loopback, unspecified, "this network", or another address that no packet on a wire may
    /// bear as its source (RFC 1122 §3.2.1.3, RFC 4291 §2.5).
    #[inline]
    pub const fn is_martian_source(self) -> bool {
        self.is_martian_source_of(self.family())
    }

    /// The same, for who knows the family.
    #[inline]
    pub(crate) const fn is_martian_source_of(self, family: Family) -> bool {
        match family {
            Family::V4 => {
                let first = (self.0 as u32 >> 24) as u8;
                first == 0 || first == 127 || first >= 224
            }
            Family::V6 => self.0 <= 1 || self.0 >> 120 == 0xff,
        }
    }

    /// IPv6 link-local (`fe80::/10`).
    #[inline]
    pub const fn is_link_local(self) -> bool {
        self.0 >> 118 == 0x3fa
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.family() {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(address.0 as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(address.0)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address block. Its length counts the bits of the sixteen-byte form, so an IPv4 /24 is held
/// as 120.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    network: Address,
    length: u8,
}

impl Prefix {
    /// The block of `length` leading bits, counted in the address's own family; host bits of
    /// `address` are cleared. `None` when the length exceeds the family's width.
    pub const fn new(address: Address, length: u8) -> Option<Self> {
        let (width, base) = match address.family() {
            Family::V4 => (32, 96),
            Family::V6 => (128, 0),
        };
        if length > width {
            return None;
        }
        let length = base + length;
        Some(Self {
            network: Address(address.0 & mask(length)),
            length,
        })
    }

    /// Whether `address` lies in the block.
    #[inline]
    pub const fn contains(&self, address: Address) -> bool {
        // A short IPv6 block such as ::/0 covers the mapped addresses too, which are IPv4's.
        (address.0 ^ self.network.0) & mask(self.length) == 0
            && (self.length >= 96 || matches!(address.family(), Family::V6))
    }

    /// The first address of the block.
    pub const fn network(&self) -> Address {
        self.network
    }

    /// The length in bits of the sixteen-byte form (0 to 128).
    pub const fn mapped_length(&self) -> u8 {
        self.length
    }

    /// The block's family.
    pub const fn family(&self) -> Family {
        self.network.family()
    }

    /// The directed broadcast address of an IPv4 block shorter than /31.
    pub const fn broadcast(&self) -> Option<Address> {
        match self.family() {
            Family::V4 if self.length < 127 => Some(Address(self.network.0 | !mask(self.length))),
            _ => None,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = if self.family() == Family::V4 { 96 } else { 0 };
        write!(f, "{}/{}", self.network, self.length - base)
    }
}

const fn mask(length: u8) -> u128 {
    if length == 0 {
        0
    } else {
        u128::MAX << (128 - length as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_prefix_contains_its_own_addresses_only() {
        let net = Prefix::new(address("192.0.2.77"), 24).unwrap();
        assert_eq!(net.to_string(), "192.0.2.0/24");
        assert!(net.contains(address("192.0.2.255")));
        assert!(!net.contains(address("192.0.3.0")));
        assert!(!net.contains(address("2001:db8::1")));
        assert_eq!(net.broadcast(), Some(address("192.0.2.255")));
        assert!(Prefix::new(address("192.0.2.1"), 33).is_none());
    }

    #[test]
    fn the_default_route_of_each_family_stays_in_it() {
        let four = Prefix::new(address("0.0.0.0"), 0).unwrap();
        assert!(four.contains(address("203.0.113.9")));
        assert!(!four.contains(address("2001:db8::9")));
        let six = Prefix::new(address("::"), 0).unwrap();
        assert!(six.contains(address("2001:db8::9")));
        assert!(!six.contains(address("203.0.113.9")));
        assert_eq!(six.broadcast(), None);
    }

    #[test]
    fn families_and_special_addresses_are_told_apart() {
        assert_eq!(address("10.0.0.1").family(), Family::V4);
        assert_eq!(address("2001:db8::1").family(), Family::V6);
        for martian in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
        ] {
            assert!(address(martian).is_martian_source(), "{martian}");
        }
        assert!(!address("192.0.2.1").is_martian_source());
        assert!(address("fe80::1").is_link_local());
        assert!(!address("2001:db8::1").is_link_local());
    }
}
