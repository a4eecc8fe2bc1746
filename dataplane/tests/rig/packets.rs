//! Packets to try: each from its IP header on.

use std::net::IpAddr;

use dataplane::parse::{parse_network, protocol};
use dataplane::wire::address::{Address, Family, Prefix};
use dataplane::wire::checksum::{internet_checksum, pseudo_header, transport, transport_is_valid};
use dataplane::wire::icmp::{self, IcmpErrorPacket};
use dataplane::wire::icmpv6::{self, Icmpv6ErrorPacket};
use dataplane::wire::ipv4::{Ipv4Header, write_ipv4};
use dataplane::wire::ipv6::{Ipv6Header, write_ipv6};
use dataplane::wire::tcp_segment::{TcpSegment, write_segment};

pub(crate) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect("an address").into()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (network, length) = text.split_once('/').expect("a prefix");
    Prefix::new(address(network), length.parse().expect("a length")).expect("a prefix")
}

/// A segment, every checksum complete.
pub(crate) fn tcp(segment: &TcpSegment<'_>) -> Vec<u8> {
    let mut packet = vec![0; 100 + segment.payload.len()];
    let length = write_segment(&mut packet, segment).expect("room");
    packet.truncate(length);
    packet
}

/// A packet of any protocol; `payload` from the transport header on.
pub(crate) fn ip(source: Address, destination: Address, number: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet;
    match source.family() {
        Family::V4 => {
            packet = vec![0; 20];
            let header = Ipv4Header {
                source,
                destination,
                protocol: number,
                ttl: 60,
                total_bytes: (20 + payload.len()) as u16,
                identification: 0x4242,
                dont_fragment: false,
                dscp_ecn: 0,
            };
            write_ipv4(&mut packet, &header);
        }
        Family::V6 => {
            packet = vec![0; 40];
            let header = Ipv6Header {
                source,
                destination,
                protocol: number,
                hop_limit: 60,
                payload_bytes: payload.len() as u16,
                dscp_ecn: 0,
                flow_label: 7,
            };
            write_ipv6(&mut packet, &header);
        }
    }
    packet.extend(payload);
    packet
}

/// A UDP datagram.
pub(crate) fn udp(
    source: Address,
    destination: Address,
    ports: (u16, u16),
    data: &[u8],
) -> Vec<u8> {
    let length = 8 + data.len();
    let mut datagram = Vec::with_capacity(length);
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend((length as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let pseudo = pseudo_header(source, destination, protocol::UDP, length);
    let checksum = transport(&datagram, pseudo);
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    ip(source, destination, protocol::UDP, &datagram)
}

/// A ping.
pub(crate) fn echo(source: Address, destination: Address, data: &[u8]) -> Vec<u8> {
    let (number, kind) = match source.family() {
        Family::V4 => (protocol::ICMP, icmp::kind::ECHO_REQUEST),
        Family::V6 => (protocol::ICMPV6, icmpv6::kind::ECHO_REQUEST),
    };
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend(data);
    match source.family() {
        Family::V4 => {
            let checksum = internet_checksum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        Family::V6 => icmpv6::complete_checksum(&mut message, source, destination),
    }
    ip(source, destination, number, &message)
}

/// The reply to a ping.
pub(crate) fn echo_reply(request: &[u8]) -> Vec<u8> {
    let parsed = parse_network(request).expect("a packet");
    let kind = match parsed.family {
        Family::V4 => icmp::kind::ECHO_REPLY,
        Family::V6 => icmpv6::kind::ECHO_REPLY,
    };
    let message = &request[usize::from(parsed.transport)..usize::from(parsed.end)];
    let mut reply = ip(parsed.destination, parsed.source, parsed.protocol, message);
    reply[usize::from(parsed.transport)] = kind;
    repair_icmp(&mut reply);
    reply
}

/// An ICMP error about `invoking`, sent by `router` to whoever sent that.
pub(crate) fn icmp_error(
    router: Address,
    kind: u8,
    code: u8,
    rest: u32,
    invoking: &[u8],
) -> Vec<u8> {
    let destination = parse_network(invoking).expect("a packet").source;
    let mut packet = vec![0; 1280];
    let length = match router.family() {
        Family::V4 => icmp::write_error(
            &mut packet,
            &IcmpErrorPacket {
                source: router,
                destination,
                ttl: 60,
                identification: 9,
                kind,
                code,
                rest,
                invoking,
            },
        ),
        Family::V6 => icmpv6::write_error(
            &mut packet,
            &Icmpv6ErrorPacket {
                source: router,
                destination,
                hop_limit: 60,
                kind,
                code,
                rest,
                invoking,
            },
        ),
    };
    packet.truncate(length.expect("room"));
    packet
}

/// "Fragmentation needed", or "packet too big".
pub(crate) fn too_big(router: Address, mtu_bytes: u16, invoking: &[u8]) -> Vec<u8> {
    let (kind, code) = match router.family() {
        Family::V4 => (
            icmp::kind::DESTINATION_UNREACHABLE,
            icmp::code::FRAGMENTATION_NEEDED,
        ),
        Family::V6 => (icmpv6::kind::PACKET_TOO_BIG, 0),
    };
    icmp_error(router, kind, code, mtu_bytes.into(), invoking)
}

/// "Port unreachable", after which a sender gives up at once.
pub(crate) fn port_unreachable(router: Address, invoking: &[u8]) -> Vec<u8> {
    let (kind, code) = match router.family() {
        Family::V4 => (
            icmp::kind::DESTINATION_UNREACHABLE,
            icmp::code::PORT_UNREACHABLE,
        ),
        Family::V6 => (
            icmpv6::kind::DESTINATION_UNREACHABLE,
            icmpv6::code::PORT_UNREACHABLE,
        ),
    };
    icmp_error(router, kind, code, 0, invoking)
}

/// The packet in fragments, each with at most `room` (a multiple of eight) octets of its payload.
pub(crate) fn fragments(packet: &[u8], identification: u16, room: usize) -> Vec<Vec<u8>> {
    let header_bytes = match packet[0] >> 4 {
        4 => 20,
        _ => 40,
    };
    let (header, payload) = packet.split_at(header_bytes);
    let pieces = payload.chunks(room).enumerate();
    let count = payload.len().div_ceil(room);
    let fragment = |(place, piece): (usize, &[u8])| {
        let (begin, more) = (place * room, place + 1 < count);
        match header_bytes {
            20 => fragment_v4(header, identification, begin, more, piece),
            _ => fragment_v6(header, identification, begin, more, piece),
        }
    };
    pieces.map(fragment).collect()
}

fn fragment_v4(header: &[u8], id: u16, begin: usize, more: bool, piece: &[u8]) -> Vec<u8> {
    let mut fragment = header.to_vec();
    let field = (begin / 8) as u16 | if more { 0x2000 } else { 0 };
    fragment[2..4].copy_from_slice(&((20 + piece.len()) as u16).to_be_bytes());
    fragment[4..6].copy_from_slice(&id.to_be_bytes());
    fragment[6..8].copy_from_slice(&field.to_be_bytes());
    fragment[10..12].fill(0);
    let checksum = internet_checksum(&fragment);
    fragment[10..12].copy_from_slice(&checksum.to_be_bytes());
    fragment.extend(piece);
    fragment
}

fn fragment_v6(header: &[u8], id: u16, begin: usize, more: bool, piece: &[u8]) -> Vec<u8> {
    let mut fragment = header.to_vec();
    let next = std::mem::replace(&mut fragment[6], 44);
    fragment[4..6].copy_from_slice(&((8 + piece.len()) as u16).to_be_bytes());
    fragment.extend([next, 0]);
    fragment.extend((begin as u16 | u16::from(more)).to_be_bytes());
    fragment.extend(u32::from(id).to_be_bytes());
    fragment.extend(piece);
    fragment
}

/// Panics unless every checksum of the packet holds, that of a quoted segment aside.
pub(crate) fn assert_sound(packet: &[u8]) {
    let parsed = parse_network(packet).expect("what is sent can be read");
    if parsed.family == Family::V4 {
        let header_bytes = usize::from(packet[0] & 0x0f) * 4;
        assert_eq!(
            internet_checksum(&packet[..header_bytes]),
            0,
            "{packet:02x?}"
        );
    }
    if parsed.fragment != dataplane::parse::Fragment::Whole {
        return;
    }
    let message = &packet[usize::from(parsed.transport)..usize::from(parsed.end)];
    let number = parsed.protocol;
    let holds = match number {
        protocol::ICMP => icmp::checksum_is_valid(message),
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => {
            let (source, destination) = (parsed.source, parsed.destination);
            transport_is_valid(
                message,
                pseudo_header(source, destination, number, message.len()),
            )
        }
        _ => true,
    };
    assert!(holds, "{packet:02x?}");
}

/// Makes the checksums of a changed ICMP packet right, its IP header's included.
pub(crate) fn repair_icmp(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let checksum = internet_checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet[22..24].fill(0);
        let checksum = internet_checksum(&packet[20..]);
        packet[22..24].copy_from_slice(&checksum.to_be_bytes());
    } else {
        let parsed = parse_network(packet).expect("a packet");
        icmpv6::complete_checksum(&mut packet[40..], parsed.source, parsed.destination);
    }
}
