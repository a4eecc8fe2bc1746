//! The transparent wire: two ports without an address, between which every frame passes as it is
//! but for what the guard takes part in (seed 000 FIG. 6).
//!
//! Nothing here routes, ages a packet by a hop or writes a station address of its own: what the
//! guard makes leaves with a link-layer header that somebody else's frame bore ([`Paths`]).

mod paths;

pub use self::paths::{LinkHeader, Paths};
pub(crate) use self::paths::{header_back, header_of};

use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::guard::Direction;
use crate::io::{InterfaceId, Io, PortId};
use crate::packet::Buffer;
use crate::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Parsed, link_header_of};
use crate::wire::address::Address;
use crate::wire::bytes::{octets16_at, u16_at};
use crate::wire::ethernet;

/// One end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WirePort {
    /// The port.
    pub port: PortId,
    /// The interface that the port is to rules and counters, whatever tags its frames bear.
    pub interface: InterfaceId,
    /// Octets of the largest packet, past Ethernet header and tags, that leaves by it.
    pub mtu_bytes: u16,
}

/// The wire of one worker.
///
/// A frame of one of its ports either [`Bridge::cross`]es, goes [`Bridge::back`], or was used up by
/// the guard; a packet that the guard made leaves by [`Bridge::output`]. Everything that is sent
/// goes to `ctx.transmit`, and what is not is counted.
#[derive(Clone, Copy, Debug)]
pub struct Bridge {
    /// Where clients are.
    pub outside: WirePort,
    /// Where servers are.
    pub inside: WirePort,
}

impl Bridge {
    /// The end that `port` is, if it is one.
    #[inline]
    pub fn end_of(&self, port: PortId) -> Option<&WirePort> {
        if port == self.outside.port {
            Some(&self.outside)
        } else {
            (port == self.inside.port).then_some(&self.inside)
        }
    }

    /// The port of the end that is this interface.
    pub fn port_of(&self, interface: InterfaceId) -> Option<PortId> {
        let ends = [&self.outside, &self.inside];
        let end = ends.into_iter().find(|end| end.interface == interface)?;
        Some(end.port)
    }

    /// The end across from `port`.
    #[inline]
    pub(crate) fn across(&self, port: PortId) -> &WirePort {
        if port == self.outside.port {
            &self.inside
        } else {
            &self.outside
        }
    }

    /// Sends a frame that came in by `port` out of the other one, as it is.
    #[inline]
    pub fn cross<I: Io>(&self, port: PortId, frame: I::Buffer, ctx: &mut Context<'_, I>) {
        self.leave(self.across(port), frame, ctx);
    }

    /// Sends a frame that the guard made of the one it answers back to the station it came from.
    #[inline]
    pub fn back<I: Io>(&self, port: PortId, mut frame: I::Buffer, ctx: &mut Context<'_, I>) {
        let Some(end) = self.end_of(port) else {
            return ctx.discard(frame, DropReason::NoRoute);
        };
        ethernet::swap(frame.bytes_mut());
        self.leave(end, frame, ctx);
    }

    /// Sends a packet that begins with its IP header behind `header`, towards the clients or the
    /// servers.
    pub fn output<I: Io>(
        &self,
        towards: Direction,
        header: &LinkHeader,
        mut packet: I::Buffer,
        ctx: &mut Context<'_, I>,
    ) {
        let end = match towards {
            Direction::ToServer => &self.inside,
            Direction::ToClient => &self.outside,
        };
        if !packet.prepend(header.len()) {
            return ctx.discard(packet, DropReason::NoBuffer);
        }
        packet.bytes_mut()[..header.len()].copy_from_slice(header);
        self.leave(end, packet, ctx);
    }

    #[inline]
    fn leave<I: Io>(&self, end: &WirePort, frame: I::Buffer, ctx: &mut Context<'_, I>) {
        let bytes = frame.bytes();
        let link_bytes = link_header_of(bytes).map_or(0, |(link_bytes, _)| link_bytes);
        if bytes.len() - link_bytes > usize::from(end.mtu_bytes) {
            return ctx.discard(frame, DropReason::PacketTooBig);
        }
        ctx.transmit(end.port, end.interface, frame);
    }

    /// A frame that cannot be read as a packet crosses, unless it says that it is one to or from
    /// an address that `is_protected`, or hides what it is behind more tags than are read: what the
    /// guard cannot read, a server might.
    pub fn pass_unread<I: Io>(
        &self,
        port: PortId,
        frame: I::Buffer,
        reason: DropReason,
        is_protected: impl Fn(Address) -> bool,
        ctx: &mut Context<'_, I>,
    ) {
        if reason == DropReason::TooManyTags {
            return ctx.discard(frame, reason);
        }
        if let Some(unread) = unread_packet_of(frame.bytes())
            && unread.ends.into_iter().any(is_protected)
        {
            let reason = match unread.is_in_snap {
                true => DropReason::SnapEncapsulated,
                false => reason,
            };
            return ctx.discard(frame, reason);
        }
        ctx.counters.count(Event::Bridged);
        self.cross(port, frame, ctx);
    }
}

/// Whether a guarded segment can be what it says: no station is a group, none answers one, and no
/// connection leads to where it comes from (CASES 12).
///
/// # Errors
/// The reason why not.
pub(crate) fn check_syn(frame: &[u8], parsed: &Parsed) -> Result<(), DropReason> {
    if ethernet::destination(frame).is_multicast() {
        return Err(DropReason::NotForUs);
    }
    if ethernet::source(frame).is_multicast() || parsed.source.is_martian_source_of(parsed.family) {
        return Err(DropReason::MartianSource);
    }
    if parsed.source == parsed.destination {
        return Err(DropReason::OwnSource);
    }
    Ok(())
}

/// A packet that could not be read, by the addresses where an IP header has them.
struct UnreadPacket {
    ends: [Address; 2],
    is_in_snap: bool,
}

fn unread_packet_of(frame: &[u8]) -> Option<UnreadPacket> {
    let (link_bytes, ether_type) = link_header_of(frame)?;
    let packet = &frame[link_bytes..];
    if let Some((ether_type, packet)) = packet_in_snap(ether_type, packet) {
        return Some(UnreadPacket {
            ends: addresses_of(ether_type, packet)?,
            is_in_snap: true,
        });
    }
    Some(UnreadPacket {
        ends: addresses_of(ether_type, packet)?,
        is_in_snap: false,
    })
}

/// What stands in an 802.3 frame with LLC and SNAP headers as RFC 1042 puts it, and the EtherType that
/// is told there. Linux takes no IP packet from one, but other hosts do (RFC 1122 §2.3.3).
fn packet_in_snap(length: u16, payload: &[u8]) -> Option<(u16, &[u8])> {
    const LARGEST_LENGTH: u16 = 1500;
    const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
    /// LLC, the organisation's code, and the EtherType.
    const HEADERS_BYTES: usize = 8;
    let is_snap = length <= LARGEST_LENGTH && payload.starts_with(&SNAP);
    let (headers, packet) = payload.split_at_checked(HEADERS_BYTES)?;
    is_snap.then(|| (u16_at(headers, 6), packet))
}

fn addresses_of(ether_type: u16, packet: &[u8]) -> Option<[Address; 2]> {
    match ether_type {
        ETHER_TYPE_IPV4 if packet.len() >= 20 => {
            let at = |place: usize| {
                let [a, b] = u16_at(packet, place).to_be_bytes();
                let [c, d] = u16_at(packet, place + 2).to_be_bytes();
                Address::from_v4([a, b, c, d])
            };
            Some([at(12), at(16)])
        }
        ETHER_TYPE_IPV6 if packet.len() >= 40 => {
            Some([8, 24].map(|place| Address::from_v6(octets16_at(packet, place))))
        }
        _ => None,
    }
}
