//! The Ethernet header, with or without an 802.1Q tag.

use std::fmt;

use crate::parse::{ETHER_TYPE_VLAN, ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES};
use crate::wire::address::{Address, Family};
use crate::wire::bytes::put_u16;

/// A station's address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations, broadcast included.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it can be a station's own address: neither a group nor all zero.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && u64_of(self.0) != 0
    }

    /// The group address that carries packets to a multicast or broadcast IP address (RFC 1112
    /// §6.4, RFC 2464 §7). `None` for a unicast one.
    pub const fn of_multicast(address: Address) -> Option<Self> {
        if !address.is_multicast_or_broadcast() {
            return None;
        }
        let [a, b, c, d] = address.v4_octets();
        Some(match address.family() {
            Family::V4 if u32::from_be_bytes([a, b, c, d]) == u32::MAX => Self::BROADCAST,
            Family::V4 => Self([0x01, 0x00, 0x5e, b & 0x7f, c, d]),
            Family::V6 => Self([0x33, 0x33, a, b, c, d]),
        })
    }
}

const fn u64_of(octets: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = octets;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The solicited-node multicast address of an IPv6 address (RFC 4291 §2.7.1).
pub const fn solicited_node(address: Address) -> Address {
    let prefix = 0xff02_0000_0000_0000_0000_0001_ff00_0000_u128;
    Address::from_bits(prefix | (address.to_bits() & 0x00ff_ffff))
}

/// Octets of the link-layer header of a frame with or without a VLAN tag.
#[inline]
pub const fn link_header_bytes(vlan: Option<u16>) -> usize {
    match vlan {
        Some(_) => ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES,
        None => ETHERNET_HEADER_BYTES,
    }
}

/// Writes a link-layer header at the start of `into` and gives back its octets (14, or 18 with a
/// tag). Only the low twelve bits of `vlan` count; the priority is 0.
///
/// # Panics
/// When `into` is shorter than the header.
#[inline]
pub fn write_ethernet(
    into: &mut [u8],
    destination: MacAddress,
    source: MacAddress,
    vlan: Option<u16>,
    ether_type: u16,
) -> usize {
    let length = link_header_bytes(vlan);
    let into = &mut into[..length];
    into[..6].copy_from_slice(&destination.0);
    into[6..12].copy_from_slice(&source.0);
    if let Some(vlan) = vlan {
        put_u16(into, 12, ETHER_TYPE_VLAN);
        put_u16(into, 14, vlan & 0x0fff);
    }
    put_u16(into, length - 2, ether_type);
    length
}

/// The station that a frame is for.
///
/// # Panics
/// When the frame is shorter than 14 octets; [`crate::parse::parse`] refuses such.
#[inline]
pub fn destination(frame: &[u8]) -> MacAddress {
    mac_at(frame, 0)
}

/// The station that sent a frame.
///
/// # Panics
/// When the frame is shorter than 14 octets; [`crate::parse::parse`] refuses such.
#[inline]
pub fn source(frame: &[u8]) -> MacAddress {
    mac_at(frame, 6)
}

/// Sets both stations of a frame.
///
/// # Panics
/// When the frame is shorter than 14 octets.
#[inline]
pub fn set_addresses(frame: &mut [u8], destination: MacAddress, source: MacAddress) {
    let frame = &mut frame[..12];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..].copy_from_slice(&source.0);
}

/// Exchanges the stations of a frame.
///
/// # Panics
/// When the frame is shorter than 14 octets.
#[inline]
pub fn swap(frame: &mut [u8]) {
    let (destination, source) = frame[..12].split_at_mut(6);
    destination.swap_with_slice(source);
}

/// The address at `offset`; callers prove the length first.
#[inline]
pub(crate) fn mac_at(bytes: &[u8], offset: usize) -> MacAddress {
    let mut octets = [0; 6];
    octets.copy_from_slice(&bytes[offset..offset + 6]);
    MacAddress(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{ETHER_TYPE_ARP, parse};
    use std::net::IpAddr;

    const HERE: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x0a]);
    const THERE: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x0b]);

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_written_header_is_parsed_with_and_without_a_tag() {
        for (vlan, length) in [
            (None, 14),
            (Some(100), 18),
            (Some(0), 18),
            (Some(0xf064), 18),
        ] {
            let mut frame = [0xee; 60];
            let written = write_ethernet(&mut frame, THERE, HERE, vlan, ETHER_TYPE_ARP);
            assert_eq!((written, link_header_bytes(vlan)), (length, length));
            let parsed = parse(&frame).unwrap();
            assert_eq!(usize::from(parsed.network), length);
            assert_eq!(parsed.vlan, vlan.unwrap_or(0) & 0x0fff);
            assert_eq!((destination(&frame), source(&frame)), (THERE, HERE));
            assert!(frame[length..].iter().all(|octet| *octet == 0xee));
            swap(&mut frame);
            assert_eq!((destination(&frame), source(&frame)), (HERE, THERE));
            set_addresses(&mut frame, MacAddress::BROADCAST, HERE);
            assert_eq!(
                (destination(&frame), source(&frame)),
                (MacAddress::BROADCAST, HERE)
            );
        }
    }

    #[test]
    fn groups_have_the_station_addresses_of_the_rfcs() {
        let group = |text| MacAddress::of_multicast(address(text)).map(|mac| mac.to_string());
        assert_eq!(group("224.129.2.3").unwrap(), "01:00:5e:01:02:03");
        assert_eq!(group("255.255.255.255").unwrap(), "ff:ff:ff:ff:ff:ff");
        assert_eq!(group("ff02::1:ff12:3456").unwrap(), "33:33:ff:12:34:56");
        assert_eq!(group("192.0.2.1"), None);
        assert_eq!(group("2001:db8::1"), None);
        assert_eq!(
            solicited_node(address("2001:db8::ab12:3456")),
            address("ff02::1:ff12:3456")
        );
        assert!(MacAddress::BROADCAST.is_multicast() && !HERE.is_multicast());
        assert!(HERE.is_unicast() && !MacAddress::default().is_unicast());
    }
}
