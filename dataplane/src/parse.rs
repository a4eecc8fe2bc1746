//! From a frame's bytes to the fixed-size facts that the rest of the walk uses.

#[cfg(test)]
mod tests;

use crate::drop_reason::DropReason;
use crate::limits::{MAX_EXTENSION_HEADERS, MAX_TAGS};
use crate::wire::address::{Address, Family};

/// EtherType of IPv4.
pub const ETHER_TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHER_TYPE_ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const ETHER_TYPE_VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad (service) tag.
pub const ETHER_TYPE_SERVICE_VLAN: u16 = 0x88a8;
/// EtherType of IPv6.
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;
/// Octets of an untagged Ethernet header.
pub const ETHERNET_HEADER_BYTES: usize = 14;
/// Octets of an 802.1Q tag.
pub const VLAN_TAG_BYTES: usize = 4;
/// Octets of an IPv6 header without extensions.
pub const IPV6_HEADER_BYTES: usize = 40;

/// IP protocol numbers that the walk tells apart.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// TCP header flags.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// An ARP message at [`Parsed::network`].
    Arp,
    /// An IP packet.
    #[default]
    Ip,
}

/// Whether and how an IP packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fragment {
    /// It is whole.
    #[default]
    Whole,
    /// The first of several: its transport header is read where it is whole, and its ports are
    /// set then.
    First,
    /// A later one; it has no ports.
    Later,
}

/// The facts of one frame. Offsets count octets from the frame's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Parsed {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port; 0 where the protocol has none. For an ICMP echo, its identifier.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: u16,
    /// Where the IP header (or ARP message) begins.
    pub network: u16,
    /// Where the transport header begins.
    pub transport: u16,
    /// Where the transport's payload begins (TCP and UDP; else as `transport`).
    pub payload: u16,
    /// Where the IP packet ends; the frame may be padded beyond.
    pub end: u16,
    /// Octets of the payload that stand in later fragments of a datagram found whole.
    pub behind: u16,
    /// The 802.1Q VLAN identifier; 0 when untagged or priority-tagged.
    pub vlan: u16,
    /// What the frame carries.
    pub kind: Kind,
    /// The address family, for an IP packet.
    pub family: Family,
    /// The transport protocol's number, past extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
}

impl Parsed {
    /// Nothing.
    pub const NONE: Self = Self {
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        source_port: 0,
        destination_port: 0,
        network: 0,
        transport: 0,
        payload: 0,
        end: 0,
        behind: 0,
        vlan: 0,
        kind: Kind::Ip,
        family: Family::V4,
        protocol: 0,
        ttl: 0,
        tcp_flags: 0,
        fragment: Fragment::Whole,
    };

    /// Octets of the IP packet.
    #[inline]
    pub fn packet_bytes(&self) -> usize {
        usize::from(self.end - self.network)
    }

    /// Octets of the transport's payload.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        usize::from(self.end - self.payload) + usize::from(self.behind)
    }

    /// Whether this is TCP and no fragment.
    #[inline]
    pub fn is_whole_tcp(&self) -> bool {
        self.protocol == protocol::TCP && matches!(self.fragment, Fragment::Whole)
    }

    /// The same facts for the packet without the octets before its IP header.
    pub fn without_link_header(mut self) -> Self {
        let cut = self.network;
        self.network = 0;
        self.transport -= cut;
        self.payload -= cut;
        self.end -= cut;
        self
    }
}

/// Reads the facts of an Ethernet frame of at most 65,535 octets.
///
/// # Errors
/// The reason why the frame cannot be followed.
pub fn parse(frame: &[u8]) -> Result<Parsed, DropReason> {
    let mut parsed = Parsed::NONE;
    parse_into(frame, &mut parsed)?;
    Ok(parsed)
}

/// The same, written to where the burst's facts stand. After an error `parsed` is unspecified.
///
/// # Errors
/// As for [`parse`].
#[inline(always)]
pub fn parse_into(frame: &[u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    let Some((header, rest)) = frame.split_first_chunk::<ETHERNET_HEADER_BYTES>() else {
        return Err(DropReason::FrameTooShort);
    };
    if frame.len() > usize::from(u16::MAX) {
        return Err(DropReason::MultiSegment);
    }
    let mut ether_type = u16::from_be_bytes([header[12], header[13]]);
    let mut network = ETHERNET_HEADER_BYTES;
    let mut vlan = 0;
    if ether_type == ETHER_TYPE_VLAN {
        let Some(tag) = rest.first_chunk::<VLAN_TAG_BYTES>() else {
            return Err(DropReason::FrameTooShort);
        };
        vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
        ether_type = u16::from_be_bytes([tag[2], tag[3]]);
        network += VLAN_TAG_BYTES;
    }
    match ether_type {
        ETHER_TYPE_IPV4 => parse_ipv4(frame, network, vlan, parsed),
        ETHER_TYPE_IPV6 => parse_ipv6(frame, network, vlan, parsed),
        ETHER_TYPE_ARP => {
            *parsed = Parsed {
                kind: Kind::Arp,
                vlan,
                network: network as u16,
                transport: network as u16,
                payload: network as u16,
                end: frame.len() as u16,
                ..Parsed::NONE
            };
            Ok(())
        }
        ether_type if is_tag(ether_type) => Err(DropReason::TooManyTags),
        _ => Err(DropReason::UnknownEtherType),
    }
}

/// Whether a tag follows: 802.1Q or 802.1ad. Linux strips any number of both from a frame for itself,
/// and no other.
#[inline]
fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, ETHER_TYPE_VLAN | ETHER_TYPE_SERVICE_VLAN)
}

/// Bytes of a frame's link-layer header with up to [`MAX_TAGS`] tags (802.1Q, 802.1ad), and the
/// EtherType behind it; `None` when the frame ends before it does, or bears more tags.
#[inline]
pub fn link_header_of(frame: &[u8]) -> Option<(usize, u16)> {
    let mut length = ETHERNET_HEADER_BYTES;
    for _ in 0..=MAX_TAGS {
        let field = frame.get(length - 2..length)?;
        let ether_type = u16::from_be_bytes([field[0], field[1]]);
        if !is_tag(ether_type) {
            return Some((length, ether_type));
        }
        length += VLAN_TAG_BYTES;
    }
    None
}

/// As [`parse_into`], of a frame that may bear up to [`MAX_TAGS`] tags, 802.1ad or not. The VLAN is
/// the outer tag's.
///
/// # Errors
/// As for [`parse`].
#[inline(always)]
pub fn parse_tagged_into(frame: &[u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    match parse_into(frame, parsed) {
        Err(DropReason::TooManyTags) => parse_much_tagged(frame, parsed),
        done => done,
    }
}

#[cold]
fn parse_much_tagged(frame: &[u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    /// The shortest frame that can bear one tag more than are read.
    const TOO_MANY_BYTES: usize = ETHERNET_HEADER_BYTES + MAX_TAGS * VLAN_TAG_BYTES;
    let Some((network, ether_type)) = link_header_of(frame) else {
        return Err(match frame.len() {
            ..TOO_MANY_BYTES => DropReason::FrameTooShort,
            _ => DropReason::TooManyTags,
        });
    };
    let vlan = u16::from_be_bytes([frame[14], frame[15]]) & 0x0fff;
    match ether_type {
        ETHER_TYPE_IPV4 => parse_ipv4(frame, network, vlan, parsed),
        ETHER_TYPE_IPV6 => parse_ipv6(frame, network, vlan, parsed),
        _ => Err(DropReason::UnknownEtherType),
    }
}

/// Reads the facts of an IP packet that has no link-layer header.
///
/// # Errors
/// The reason why the packet cannot be followed.
pub fn parse_network(packet: &[u8]) -> Result<Parsed, DropReason> {
    if packet.len() > usize::from(u16::MAX) {
        return Err(DropReason::MultiSegment);
    }
    let mut parsed = Parsed::NONE;
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => parse_ipv4(packet, 0, 0, &mut parsed),
        Some(6) => parse_ipv6(packet, 0, 0, &mut parsed),
        _ => Err(DropReason::UnknownEtherType),
    }?;
    Ok(parsed)
}

#[inline(always)]
fn parse_ipv4(
    frame: &[u8],
    network: usize,
    vlan: u16,
    parsed: &mut Parsed,
) -> Result<(), DropReason> {
    let packet = &frame[network..];
    let Some(header) = packet.first_chunk::<20>() else {
        return Err(DropReason::MalformedIpv4);
    };
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_bytes < 20 || total < header_bytes || packet.len() < total {
        return Err(DropReason::MalformedIpv4);
    }
    let fragment_field = u16::from_be_bytes([header[6], header[7]]);
    let fragment = match (fragment_field & 0x1fff, fragment_field & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    *parsed = Parsed {
        source: Address::from_v4([header[12], header[13], header[14], header[15]]),
        destination: Address::from_v4([header[16], header[17], header[18], header[19]]),
        network: network as u16,
        transport: (network + header_bytes) as u16,
        payload: (network + header_bytes) as u16,
        end: (network + total) as u16,
        vlan,
        kind: Kind::Ip,
        family: Family::V4,
        protocol: header[9],
        ttl: header[8],
        fragment,
        ..Parsed::NONE
    };
    parse_transport(frame, parsed)
}

fn parse_ipv6(
    frame: &[u8],
    network: usize,
    vlan: u16,
    parsed: &mut Parsed,
) -> Result<(), DropReason> {
    let packet = &frame[network..];
    let Some(header) = packet.first_chunk::<IPV6_HEADER_BYTES>() else {
        return Err(DropReason::MalformedIpv6);
    };
    let end = IPV6_HEADER_BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || packet.len() < end {
        return Err(DropReason::MalformedIpv6);
    }
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    source.copy_from_slice(&header[8..24]);
    destination.copy_from_slice(&header[24..40]);
    let (source, destination) = (Address::from_v6(source), Address::from_v6(destination));
    // An IPv4-mapped address on the wire would alias an IPv4 flow (RFC 4942 §2.2).
    if source.family() == Family::V4 || destination.family() == Family::V4 {
        return Err(DropReason::MartianSource);
    }
    let chain = skip_extension_headers(&packet[..end], header[6])?;
    let transport = (network + chain.offset) as u16;
    *parsed = Parsed {
        source,
        destination,
        network: network as u16,
        transport,
        payload: transport,
        end: (network + end) as u16,
        vlan,
        kind: Kind::Ip,
        family: Family::V6,
        protocol: chain.protocol,
        ttl: header[7],
        fragment: chain.fragment,
        ..Parsed::NONE
    };
    parse_transport(frame, parsed)
}

struct ExtensionChain {
    offset: usize,
    protocol: u8,
    fragment: Fragment,
}

/// Walks hop-by-hop, routing, destination and fragment headers (RFC 8200 §4).
#[inline]
fn skip_extension_headers(packet: &[u8], next: u8) -> Result<ExtensionChain, DropReason> {
    let mut chain = ExtensionChain {
        offset: IPV6_HEADER_BYTES,
        protocol: next,
        fragment: Fragment::Whole,
    };
    for _ in 0..MAX_EXTENSION_HEADERS {
        let is_fragment = chain.protocol == 44;
        if !is_fragment && !matches!(chain.protocol, 0 | 43 | 60) {
            return Ok(chain);
        }
        let Some(extension) = packet.get(chain.offset..chain.offset + 8) else {
            return Err(DropReason::MalformedIpv6);
        };
        chain.protocol = extension[0];
        if is_fragment {
            let field = u16::from_be_bytes([extension[2], extension[3]]);
            chain.offset += 8;
            chain.fragment = match (field & 0xfff8, field & 1) {
                // An atomic fragment is a whole packet (RFC 6946).
                (0, 0) => Fragment::Whole,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            };
            if chain.fragment == Fragment::Later {
                return Ok(chain);
            }
        } else {
            chain.offset += 8 + usize::from(extension[1]) * 8;
        }
        if chain.offset > packet.len() {
            return Err(DropReason::MalformedIpv6);
        }
    }
    Err(DropReason::TooManyExtensionHeaders)
}

#[inline(always)]
fn parse_transport(frame: &[u8], parsed: &mut Parsed) -> Result<(), DropReason> {
    if parsed.fragment == Fragment::Later {
        return Ok(());
    }
    let segment = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    match parsed.protocol {
        protocol::TCP => {
            let Some(header) = segment.first_chunk::<20>() else {
                return Err(too_short(parsed));
            };
            let header_bytes = usize::from(header[12] >> 4) * 4;
            if header_bytes < 20 {
                return Err(DropReason::MalformedTransport);
            }
            if segment.len() < header_bytes {
                return Err(too_short(parsed));
            }
            parsed.source_port = u16::from_be_bytes([header[0], header[1]]);
            parsed.destination_port = u16::from_be_bytes([header[2], header[3]]);
            parsed.tcp_flags = header[13];
            parsed.payload += header_bytes as u16;
        }
        protocol::UDP => {
            let Some(header) = segment.first_chunk::<8>() else {
                return Err(too_short(parsed));
            };
            parsed.source_port = u16::from_be_bytes([header[0], header[1]]);
            parsed.destination_port = u16::from_be_bytes([header[2], header[3]]);
            parsed.payload += 8;
        }
        protocol::ICMP | protocol::ICMPV6 if segment.len() < 8 => return Err(too_short(parsed)),
        _ => {}
    }
    Ok(())
}

/// A first fragment that hides its transport header is an attack of its own kind (RFC 1858 §3,
/// RFC 7112).
fn too_short(parsed: &Parsed) -> DropReason {
    match parsed.fragment {
        Fragment::First => DropReason::FragmentMalformed,
        _ => DropReason::MalformedTransport,
    }
}
