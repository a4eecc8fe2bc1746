//! The packet that an ICMP error quotes: only its first octets, perhaps cut inside the transport
//! header, and written by whoever sent the error.

use crate::drop_reason::DropReason;
use crate::parse::protocol;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{u16_at, u32_at};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{HEADER_BYTES as IPV6_HEADER_BYTES, Ipv6};

/// Octets of the transport header that every error quotes (RFC 792).
const TRANSPORT_BYTES: usize = 8;

/// The facts of a quoted packet. Offsets count octets from the quotation's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Source address: who sent the packet that met the error.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The transport protocol's number.
    pub protocol: u8,
    /// Source port; for an ICMP echo, its identifier.
    pub source_port: u16,
    /// Destination port; for an ICMP echo, its identifier.
    pub destination_port: u16,
    /// The sequence number, for TCP.
    pub sequence: Option<u32>,
    /// Where the transport header begins.
    pub transport: u16,
}

/// Reads the quotation of an ICMP or ICMPv6 error. The quoted packet's own checksums are not
/// looked at: they may have been made before a NIC completed them.
///
/// # Errors
/// The quotation holds no whole IP header with eight octets after it, is a later fragment, or
/// carries a protocol without ports: none of them leads to a flow. [`DropReason::MalformedIpv4`],
/// [`DropReason::MalformedIpv6`] or [`DropReason::IcmpUnmatched`].
pub fn parse(quotation: &[u8]) -> Result<Quoted, DropReason> {
    let (source, destination, next, transport) = match quotation.first().map(|byte| byte >> 4) {
        Some(4) => {
            let header = Ipv4::new(quotation)?;
            if header.fragment_offset_bytes() != 0 {
                return Err(DropReason::IcmpUnmatched);
            }
            (
                header.source(),
                header.destination(),
                header.protocol(),
                header.header_bytes(),
            )
        }
        Some(6) => {
            let header = Ipv6::new(quotation)?;
            let (source, destination) = (header.source(), header.destination());
            // A mapped address would alias an IPv4 flow (RFC 4942 §2.2).
            if source.family() == Family::V4 || destination.family() == Family::V4 {
                return Err(DropReason::IcmpUnmatched);
            }
            (source, destination, header.next_header(), IPV6_HEADER_BYTES)
        }
        _ => return Err(DropReason::IcmpUnmatched),
    };
    let Some(head) = quotation.get(transport..transport + TRANSPORT_BYTES) else {
        return Err(DropReason::IcmpUnmatched);
    };
    let (source_port, destination_port) = match next {
        protocol::TCP | protocol::UDP => (u16_at(head, 0), u16_at(head, 2)),
        protocol::ICMP | protocol::ICMPV6 => (u16_at(head, 4), u16_at(head, 4)),
        _ => return Err(DropReason::IcmpUnmatched),
    };
    Ok(Quoted {
        source,
        destination,
        protocol: next,
        source_port,
        destination_port,
        sequence: (next == protocol::TCP).then(|| u32_at(head, 4)),
        transport: transport as u16,
    })
}
