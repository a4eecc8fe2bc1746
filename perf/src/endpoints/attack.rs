//! Packets of floods that are not TCP's: scans, fragments, ICMP errors, and harmless datagrams.

use dataplane::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHERNET_HEADER_BYTES, protocol};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::checksum::{internet_checksum, pseudo_header, transport};
use dataplane::wire::ethernet::write_ethernet;
use dataplane::wire::icmp::{self, IcmpErrorPacket};
use dataplane::wire::icmpv6::{self, Icmpv6ErrorPacket};
use dataplane::wire::ipv4::{self, Ipv4Header, write_ipv4};
use dataplane::wire::ipv6::{self, Ipv6Header, write_ipv6};

use super::segment::{Link, Sink};

const TTL: u8 = 64;
/// The discard service (RFC 863): nobody is asked by it, and no guard protects it.
const DISCARD_PORT: u16 = 9;
/// Octets of a datagram's or a fragment's data, a multiple of eight.
const PIECE_BYTES: usize = 64;
/// The number of IPv6's fragment header (RFC 8200 §4.5).
const FRAGMENT_HEADER: u8 = 44;
const FRAGMENT_HEADER_BYTES: usize = 8;
/// Octets of what an ICMP error quotes of a packet: its header, and of TCP's more than enough.
const QUOTED_BYTES: usize = 20;

/// From where to where a packet goes, and what is different in each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) source: Address,
    pub(super) destination: Address,
    /// The service at the server.
    pub(super) port: u16,
    /// Random.
    pub(super) bits: u64,
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    First,
    Last,
}

/// Sends a whole datagram of UDP. Whether there was room.
pub(super) fn datagram(sink: &mut impl Sink, link: &Link, way: &Way, ttl: Option<u8>) -> bool {
    // Large enough to be told of: an error is never larger than what caused it.
    let mut payload = [0; PIECE_BYTES];
    udp(&mut payload, way, PIECE_BYTES);
    let pseudo = pseudo_header(way.source, way.destination, protocol::UDP, payload.len());
    let checksum = transport(&payload, pseudo);
    put_u16(&mut payload, 6, checksum);
    packet(sink, link, way, ttl.unwrap_or(TTL), &payload)
}

/// Sends the first or the last of a datagram's two fragments. Whether there was room.
pub(super) fn fragment(sink: &mut impl Sink, link: &Link, way: &Way, part: Part) -> bool {
    let mut data = [0; FRAGMENT_HEADER_BYTES + PIECE_BYTES];
    if part == Part::First {
        udp(&mut data[FRAGMENT_HEADER_BYTES..], way, 2 * PIECE_BYTES);
    }
    let units = match part {
        Part::First => 0,
        Part::Last => PIECE_BYTES as u16 / 8,
    };
    let has_more = u16::from(part == Part::First);
    if way.source.family() == Family::V4 {
        let bytes = ETHERNET_HEADER_BYTES + ipv4::HEADER_BYTES + PIECE_BYTES;
        let Some(frame) = sink.frame(bytes) else {
            return false;
        };
        let data = &data[FRAGMENT_HEADER_BYTES..];
        write_packet(frame, link, way, (TTL, protocol::UDP), data);
        let header = &mut frame[ETHERNET_HEADER_BYTES..][..ipv4::HEADER_BYTES];
        put_u16(header, 6, has_more << 13 | units);
        put_u16(header, 10, 0);
        let checksum = internet_checksum(header);
        put_u16(header, 10, checksum);
        return true;
    }
    data[0] = protocol::UDP;
    put_u16(&mut data, 2, units << 3 | has_more);
    put_u32(&mut data, 4, (way.bits >> 16) as u32);
    let bytes = ETHERNET_HEADER_BYTES + ipv6::HEADER_BYTES + data.len();
    let Some(frame) = sink.frame(bytes) else {
        return false;
    };
    write_packet(frame, link, way, (TTL, FRAGMENT_HEADER), &data);
    true
}

/// Sends an ICMP error about a segment that the server is said to have sent to the source. Whether
/// there was room.
pub(super) fn error(sink: &mut impl Sink, link: &Link, way: &Way) -> bool {
    let mut quoted = [0; ipv6::HEADER_BYTES + QUOTED_BYTES];
    let back = Way {
        source: way.destination,
        destination: way.source,
        ..*way
    };
    let (source, destination) = (way.source, way.destination);
    let mut segment = [0; QUOTED_BYTES];
    put_u16(&mut segment, 0, way.port);
    put_u16(&mut segment, 2, 1024 | way.bits as u16);
    put_u32(&mut segment, 4, (way.bits >> 32) as u32);
    segment[12..14].copy_from_slice(&[5 << 4, 0x10]);
    let quoted_bytes = write_ip(&mut quoted, &back, (TTL, protocol::TCP), &segment);
    let invoking = &quoted[..quoted_bytes];
    let mut whole = [0; 256];
    let by_turns = |choices: [(u8, u8, u32); 3]| choices[(way.bits >> 48) as usize % 3];
    let written = match source.family() {
        Family::V4 => {
            let (kind, code, rest) = by_turns([(3, 1, 0), (3, 4, 1280), (11, 0, 0)]);
            let error = IcmpErrorPacket {
                source,
                destination,
                ttl: TTL,
                identification: way.bits as u16,
                kind,
                code,
                rest,
                invoking,
            };
            icmp::write_error(&mut whole, &error)
        }
        Family::V6 => {
            let (kind, code, rest) = by_turns([(1, 0, 0), (2, 0, 1280), (3, 0, 0)]);
            let error = Icmpv6ErrorPacket {
                source,
                destination,
                hop_limit: TTL,
                kind,
                code,
                rest,
                invoking,
            };
            icmpv6::write_error(&mut whole, &error)
        }
    };
    let bytes = written.unwrap_or(0);
    let Some(frame) = sink.frame(ETHERNET_HEADER_BYTES + bytes) else {
        return false;
    };
    write_link(frame, link, source.family());
    frame[ETHERNET_HEADER_BYTES..].copy_from_slice(&whole[..bytes]);
    true
}

fn put_u16(into: &mut [u8], at: usize, value: u16) {
    into[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put_u32(into: &mut [u8], at: usize, value: u32) {
    into[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn udp(into: &mut [u8], way: &Way, bytes: usize) {
    put_u16(into, 0, 1024 | way.bits as u16);
    put_u16(into, 2, DISCARD_PORT);
    put_u16(into, 4, bytes as u16);
}

fn packet(sink: &mut impl Sink, link: &Link, way: &Way, ttl: u8, payload: &[u8]) -> bool {
    let header_bytes = match way.source.family() {
        Family::V4 => ipv4::HEADER_BYTES,
        Family::V6 => ipv6::HEADER_BYTES,
    };
    let Some(frame) = sink.frame(ETHERNET_HEADER_BYTES + header_bytes + payload.len()) else {
        return false;
    };
    write_packet(frame, link, way, (ttl, protocol::UDP), payload);
    true
}

fn write_packet(frame: &mut [u8], link: &Link, way: &Way, kind: (u8, u8), payload: &[u8]) {
    write_link(frame, link, way.source.family());
    write_ip(&mut frame[ETHERNET_HEADER_BYTES..], way, kind, payload);
}

fn write_link(frame: &mut [u8], link: &Link, family: Family) {
    let (ether_type, peer) = match family {
        Family::V4 => (ETHER_TYPE_IPV4, link.ipv4),
        Family::V6 => (ETHER_TYPE_IPV6, link.ipv6),
    };
    write_ethernet(frame, peer, link.own, None, ether_type);
}

/// Writes header and payload, and gives their octets.
fn write_ip(into: &mut [u8], way: &Way, (ttl, protocol): (u8, u8), payload: &[u8]) -> usize {
    let (source, destination) = (way.source, way.destination);
    let header_bytes = match source.family() {
        Family::V4 => {
            let header = Ipv4Header {
                source,
                destination,
                protocol,
                ttl,
                total_bytes: (ipv4::HEADER_BYTES + payload.len()) as u16,
                identification: (way.bits >> 16) as u16,
                dont_fragment: false,
                dscp_ecn: 0,
            };
            write_ipv4(into, &header);
            ipv4::HEADER_BYTES
        }
        Family::V6 => {
            let header = Ipv6Header {
                source,
                destination,
                protocol,
                hop_limit: ttl,
                payload_bytes: payload.len() as u16,
                dscp_ecn: 0,
                flow_label: 0,
            };
            write_ipv6(into, &header);
            ipv6::HEADER_BYTES
        }
    };
    let bytes = header_bytes + payload.len();
    into[header_bytes..bytes].copy_from_slice(payload);
    bytes
}
