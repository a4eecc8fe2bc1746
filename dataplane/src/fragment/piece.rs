//! Where a fragment stands in its datagram.

use crate::drop_reason::DropReason;
use crate::io::InterfaceId;
use crate::parse::{IPV6_HEADER_BYTES, Parsed};
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{u16_at, u32_at};

const FRAGMENT_HEADER: u8 = 44;
const FRAGMENT_HEADER_BYTES: usize = 8;

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: Address,
    destination: Address,
    identification: u32,
    interface: InterfaceId,
    /// IPv4 tells datagrams of different protocols apart, IPv6 does not (RFC 8200 §4.5).
    protocol: u8,
}

/// A fragment's part of its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins in the datagram's payload, in octets.
    pub(super) begin: usize,
    /// Where it ends there.
    pub(super) end: usize,
    /// Whether more follow.
    pub(super) more: bool,
    /// Where its octets begin in the frame.
    pub(super) data: usize,
}

/// Reads what `frame`, which is a fragment, says of itself.
pub(super) fn read(
    frame: &[u8],
    parsed: &Parsed,
    interface: InterfaceId,
) -> Result<(Key, Piece), DropReason> {
    let packet = frame
        .get(usize::from(parsed.network)..usize::from(parsed.end))
        .ok_or(DropReason::FragmentMalformed)?;
    let found = match parsed.family {
        Family::V4 => read_v4(packet),
        Family::V6 => read_v6(packet),
    };
    let Part {
        begin,
        more,
        identification,
        data,
        before,
    } = found.ok_or(DropReason::FragmentMalformed)?;
    let length = packet.len().saturating_sub(data);
    let end = begin + length;
    // An empty fragment carries nothing but the wish to confuse; one that is not the last must
    // end on a unit of eight; and none may reach past what a length field can say (ping of death).
    if length == 0 || (more && !length.is_multiple_of(8)) || before + end > usize::from(u16::MAX) {
        return Err(DropReason::FragmentMalformed);
    }
    let key = Key {
        source: parsed.source,
        destination: parsed.destination,
        identification,
        interface,
        protocol: match parsed.family {
            Family::V4 => parsed.protocol,
            Family::V6 => 0,
        },
    };
    let piece = Piece {
        begin,
        end,
        more,
        data: data + usize::from(parsed.network),
    };
    Ok((key, piece))
}

struct Part {
    begin: usize,
    more: bool,
    identification: u32,
    /// Where the fragment's octets begin in the packet.
    data: usize,
    /// Octets that the whole datagram's length field counts before its payload.
    before: usize,
}

fn read_v4(packet: &[u8]) -> Option<Part> {
    let header = packet.first_chunk::<20>()?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let field = u16_at(header, 6);
    Some(Part {
        begin: usize::from(field & 0x1fff) * 8,
        more: field & 0x2000 != 0,
        identification: u32::from(u16_at(header, 4)),
        data: header_bytes,
        before: header_bytes,
    })
}

/// Walks to the fragment header; parsing has bounded the chain.
fn read_v6(packet: &[u8]) -> Option<Part> {
    let mut next = *packet.get(6)?;
    let mut offset = IPV6_HEADER_BYTES;
    loop {
        let extension = packet.get(offset..offset + FRAGMENT_HEADER_BYTES)?;
        if next == FRAGMENT_HEADER {
            let field = u16_at(extension, 2);
            return Some(Part {
                begin: usize::from(field & 0xfff8),
                more: field & 1 != 0,
                identification: u32_at(extension, 4),
                data: offset + FRAGMENT_HEADER_BYTES,
                before: offset - IPV6_HEADER_BYTES,
            });
        }
        if !matches!(next, 0 | 43 | 60) {
            return None;
        }
        next = extension[0];
        offset += 8 + usize::from(extension[1]) * 8;
    }
}
