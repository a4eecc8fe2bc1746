//! The IP and UDP headers around what the peers send each other (RFC 768, RFC 791, RFC 8200).

use super::desk::Datagram;
use crate::parse::{Fragment, parse_network, protocol};
use crate::wire::address::{Address, Family};
use crate::wire::checksum::{pseudo_header, transport, transport_is_valid};
use crate::wire::ipv4::{self, Ipv4Header, write_ipv4};
use crate::wire::ipv6::{self, Ipv6Header, write_ipv6};

/// Octets of a UDP header.
const UDP_BYTES: usize = 8;
/// Peers are neighbours, or a few routers away.
const TTL: u8 = 64;
/// CS6, network control (RFC 4594 §3.2): what keeps the guards together goes before what they
/// carry.
const DSCP_ECN: u8 = 48 << 2;

/// Octets of the headers before a payload.
pub const fn header_bytes(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::HEADER_BYTES + UDP_BYTES,
        Family::V6 => ipv6::HEADER_BYTES + UDP_BYTES,
    }
}

/// Puts the headers around what `fill` writes and says the length of; whether it wrote anything.
/// Both addresses are of one family, both ports are `udp_port`.
pub fn pack(
    into: &mut Datagram,
    source: Address,
    destination: Address,
    udp_port: u16,
    fill: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> bool {
    let family = destination.family();
    let headers = header_bytes(family);
    let network = headers - UDP_BYTES;
    into.set_len(0);
    let room = into.room();
    let Some(payload_bytes) = fill(&mut room[headers..]) else {
        return false;
    };
    let end = headers + payload_bytes;
    let udp_bytes = (UDP_BYTES + payload_bytes) as u16;
    match family {
        Family::V4 => write_ipv4(
            room,
            &Ipv4Header {
                source,
                destination,
                protocol: protocol::UDP,
                ttl: TTL,
                total_bytes: end as u16,
                identification: 0,
                dont_fragment: true,
                dscp_ecn: DSCP_ECN,
            },
        ),
        Family::V6 => write_ipv6(
            room,
            &Ipv6Header {
                source,
                destination,
                protocol: protocol::UDP,
                hop_limit: TTL,
                payload_bytes: udp_bytes,
                dscp_ecn: DSCP_ECN,
                flow_label: 0,
            },
        ),
    }
    let udp = &mut room[network..end];
    udp[..2].copy_from_slice(&udp_port.to_be_bytes());
    udp[2..4].copy_from_slice(&udp_port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_bytes.to_be_bytes());
    udp[6..8].fill(0);
    let pseudo = pseudo_header(source, destination, protocol::UDP, udp.len());
    // A sum of zero would say that there is none (RFC 768).
    let checksum = match transport(udp, pseudo) {
        0 => 0xffff,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    into.set_len(end);
    true
}

/// The source and the payload of a packet, from its IP header on; `None` for one that is damaged
/// or is no whole UDP datagram. Peers always send a checksum.
pub fn unpack(packet: &[u8]) -> Option<((Address, u16), &[u8])> {
    let parsed = parse_network(packet).ok()?;
    if parsed.protocol != protocol::UDP || parsed.fragment != Fragment::Whole {
        return None;
    }
    let udp = packet.get(usize::from(parsed.transport)..usize::from(parsed.end))?;
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let udp = udp.get(..length).filter(|udp| udp.len() >= UDP_BYTES)?;
    let pseudo = pseudo_header(parsed.source, parsed.destination, protocol::UDP, length);
    let has_checksum = udp[6..8] != [0, 0];
    (has_checksum && transport_is_valid(udp, pseudo))
        .then(|| ((parsed.source, parsed.source_port), &udp[UDP_BYTES..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(source: Address, destination: Address, payload: &[u8]) -> Box<Datagram> {
        let mut datagram = Datagram::empty();
        let fill = |room: &mut [u8]| {
            room[..payload.len()].copy_from_slice(payload);
            Some(payload.len())
        };
        assert!(pack(&mut datagram, source, destination, 4790, fill));
        datagram
    }

    #[test]
    fn what_is_packed_unpacks_the_same_and_damage_shows() {
        // CASES 14
        let v4 = (
            Address::from_v4([10, 9, 0, 1]),
            Address::from_v4([10, 9, 0, 2]),
        );
        let v6 = (Address::from_v6([0xfd; 16]), Address::from_v6([0xfe; 16]));
        for (source, destination) in [v4, v6] {
            for payload in [&b""[..], b"odd", b"four", &[0xff; 1400]] {
                let datagram = packed(source, destination, payload);
                assert_eq!(unpack(datagram.bytes()), Some(((source, 4790), payload)));
                for place in 0..datagram.bytes().len().min(60) {
                    let mut bytes = datagram.bytes().to_vec();
                    bytes[place] ^= 0x10;
                    // It panics for none; what concerns payload or addresses is noticed.
                    let read = unpack(&bytes).map(|(_, payload)| payload.to_vec());
                    let network = header_bytes(source.family()) - UDP_BYTES;
                    if place >= network {
                        assert_eq!(read, None, "octet {place}");
                    }
                }
                for length in 0..datagram.bytes().len() {
                    assert_eq!(unpack(&datagram.bytes()[..length]), None);
                }
            }
        }
    }

    #[test]
    fn nothing_is_packed_when_there_is_nothing() {
        let mut datagram = Datagram::empty();
        let (source, destination) = (Address::from_v4([1; 4]), Address::from_v4([2; 4]));
        assert!(!pack(&mut datagram, source, destination, 1, |_| None));
        assert!(datagram.bytes().is_empty());
    }
}
