//! From a routed packet to a frame: TTL, MTU, neighbour, link-layer header.

use arrayvec::ArrayVec;

use super::config::HopTables;
use super::errors::Complaint;
use super::held::Held;
use super::link::emit;
use super::neighbours::Resolution;
use super::{Egress, Hop};
use crate::context::Context;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::limits::MAX_FRAGMENTS_MADE;
use crate::packet::Buffer;
use crate::parse::Parsed;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{put_u16, u16_at};
use crate::wire::checksum::internet_checksum;
use crate::wire::ethernet::{self, MacAddress};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

/// The way to `destination`, for a packet that came in by `ingress`.
#[inline]
pub(super) fn way_to(
    tables: &HopTables,
    destination: Address,
    ingress: Option<InterfaceId>,
) -> Option<Egress> {
    let way = tables.way(destination);
    way.leads_out().then(|| Egress {
        next_hop: way.next_hop(destination),
        interface: way.interface,
        ingress,
        mtu_bytes: way.mtu_bytes,
    })
}

impl<B: Buffer> Hop<B> {
    /// The way out to `destination` for a packet that came in by `ingress`; `None` where no route
    /// leads, or only to ourselves.
    #[inline]
    pub fn egress(&self, destination: Address, ingress: Option<InterfaceId>) -> Option<Egress> {
        way_to(&self.tables, destination, ingress)
    }

    /// Sends on a packet that was admitted, with one hop less to live. Its header still begins at
    /// `parsed.network`; what follows may have been rewritten.
    #[inline(always)]
    pub fn forward<I: Io<Buffer = B>>(
        &mut self,
        mut buffer: B,
        parsed: &Parsed,
        egress: &Egress,
        ctx: &mut Context<'_, I>,
    ) {
        let network = usize::from(parsed.network);
        let packet = buffer.bytes_mut().get_mut(network..).unwrap_or_default();
        let done = match parsed.family {
            Family::V4 => Ipv4::new(packet).map(|mut header| {
                header.decrement_ttl();
                header.ttl()
            }),
            Family::V6 => Ipv6::new(packet).map(|mut header| {
                header.decrement_hop_limit();
                header.hop_limit()
            }),
        };
        match done {
            // A fragment that follows an admitted one may have less to live than that.
            Ok(0) => ctx.discard(buffer, DropReason::TtlExpired),
            Ok(_) => self.fit(buffer, network, egress, ctx),
            Err(reason) => ctx.discard(buffer, reason),
        }
    }

    /// Routes and sends a packet that was made here and begins with its IP header.
    pub fn output<I: Io<Buffer = B>>(&mut self, packet: B, ctx: &mut Context<'_, I>) {
        let bytes = packet.bytes();
        let destination = match bytes.first().map(|first| first >> 4) {
            Some(4) => Ipv4::new(bytes).map(|header| header.destination()),
            Some(6) => Ipv6::new(bytes).map(|header| header.destination()),
            _ => Err(DropReason::UnknownEtherType),
        };
        match destination {
            Ok(destination) if self.is_to_group(destination) => {
                self.output_to_group(packet, destination, ctx);
            }
            Ok(destination) => match way_to(&self.tables, destination, None) {
                Some(egress) => self.fit(packet, 0, &egress, ctx),
                None => ctx.discard(packet, DropReason::NoRoute),
            },
            Err(reason) => ctx.discard(packet, reason),
        }
    }

    /// Sends a frame back where it came from: out of the interface it came in by, to the station
    /// that sent it.
    #[inline(always)]
    pub fn reply<I: Io<Buffer = B>>(
        &mut self,
        mut buffer: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) {
        let network = usize::from(parsed.network);
        let Some(link) = self.tables.link(interface) else {
            return ctx.discard(buffer, DropReason::NoRoute);
        };
        if buffer.bytes().len() < network || network < ethernet::link_header_bytes(None) {
            return ctx.discard(buffer, DropReason::FrameTooShort);
        }
        // The tag, if any, stays as it came.
        let station = ethernet::source(buffer.bytes());
        ethernet::set_addresses(buffer.bytes_mut(), station, link.mac);
        ctx.transmit(link.port, interface, buffer);
    }

    /// Cuts off padding, and sends the packet at `network` as one or as fragments.
    #[inline(always)]
    fn fit<I: Io<Buffer = B>>(
        &mut self,
        mut buffer: B,
        network: usize,
        egress: &Egress,
        ctx: &mut Context<'_, I>,
    ) {
        let total = packet_bytes(&buffer.bytes()[network..]);
        if network + total > buffer.bytes().len() {
            return ctx.discard(buffer, DropReason::MalformedIpv4);
        }
        if network + total < buffer.bytes().len() && !buffer.set_len(network + total) {
            return ctx.discard(buffer, DropReason::NoBuffer);
        }
        if total <= usize::from(egress.mtu_bytes) {
            self.deliver(buffer, network, egress, ctx);
        } else if may_be_fragmented(&buffer.bytes()[network..]) {
            self.fragment(buffer, network, egress, ctx);
        } else {
            ctx.discard(buffer, DropReason::PacketTooBig);
        }
    }

    /// Sends a packet to the next hop's station, or holds it until that is known.
    #[inline(always)]
    pub(super) fn deliver<I: Io<Buffer = B>>(
        &mut self,
        buffer: B,
        network: usize,
        egress: &Egress,
        ctx: &mut Context<'_, I>,
    ) {
        let interface = egress.interface;
        let Some(link) = self.tables.link(interface) else {
            return ctx.discard(buffer, DropReason::NoRoute);
        };
        match self
            .neighbours
            .resolve(interface, egress.next_hop, ctx.now_ns)
        {
            Resolution::Ready(mac) => emit(link, interface, buffer, network, mac, ctx),
            Resolution::ReadyAndProbe(mac) => {
                emit(link, interface, buffer, network, mac, ctx);
                self.solicit(interface, egress.next_hop, Some(mac), ctx);
            }
            Resolution::Wait(slot) => self.hold(slot, buffer, network, egress.ingress, ctx),
            Resolution::Ask(slot) => {
                self.hold(slot, buffer, network, egress.ingress, ctx);
                self.solicit(interface, egress.next_hop, None, ctx);
            }
            Resolution::Refuse(reason) => {
                let held = Held {
                    buffer,
                    network,
                    ingress: egress.ingress,
                };
                self.undeliverable(held, reason, ctx);
            }
        }
    }

    #[cold]
    fn hold<I: Io<Buffer = B>>(
        &mut self,
        slot: u16,
        buffer: B,
        network: usize,
        ingress: Option<InterfaceId>,
        ctx: &mut Context<'_, I>,
    ) {
        let held = Held {
            buffer,
            network,
            ingress,
        };
        let reserved = self.neighbours.has_reserved_place(slot);
        if let Some(displaced) = self.held.push(slot, reserved, held) {
            ctx.discard(displaced.buffer, DropReason::NeighbourQueueFull);
        }
    }

    /// The neighbour did not answer: what waits for it is given up.
    pub(super) fn give_up<I: Io<Buffer = B>>(&mut self, slot: u16, ctx: &mut Context<'_, I>) {
        while let Some(held) = self.held.pop(slot) {
            self.undeliverable(held, DropReason::NeighbourUnresolved, ctx);
        }
    }

    #[cold]
    fn undeliverable<I: Io<Buffer = B>>(
        &mut self,
        mut held: Held<B>,
        reason: DropReason,
        ctx: &mut Context<'_, I>,
    ) {
        let packet = &mut held.buffer.bytes_mut()[held.network..];
        // A full table says nothing about the host.
        let is_gone = reason == DropReason::NeighbourUnresolved;
        if let Some(ingress) = held.ingress.filter(|_| is_gone) {
            // The packet is quoted as it came in, with the hop that was taken off.
            if let Ok(mut header) = Ipv4::new(&mut *packet) {
                let ttl = header.ttl().saturating_add(1);
                header.set_ttl(ttl);
            } else if let Ok(mut header) = Ipv6::new(&mut *packet) {
                let hop_limit = header.hop_limit().saturating_add(1);
                header.set_hop_limit(hop_limit);
            }
            self.complain(Complaint::Unreachable, packet, ingress, ctx);
        }
        ctx.discard(held.buffer, reason);
    }

    /// Sends an IPv4 packet as fragments (RFC 791 §3.2): all of them or none.
    #[cold]
    fn fragment<I: Io<Buffer = B>>(
        &mut self,
        mut buffer: B,
        network: usize,
        egress: &Egress,
        ctx: &mut Context<'_, I>,
    ) {
        let packet = &buffer.bytes()[network..];
        let header_bytes = usize::from(packet[0] & 0x0f) * 4;
        let room = usize::from(egress.mtu_bytes).saturating_sub(header_bytes) & !7;
        let field = u16_at(packet, 6);
        let mut later: ArrayVec<B, MAX_FRAGMENTS_MADE> = ArrayVec::new();
        let mut begin = header_bytes + room;
        while begin < packet.len() {
            let end = (begin + room).min(packet.len());
            let is_last = end == packet.len();
            let offset = (field & OFFSET) + ((begin - header_bytes) / 8) as u16;
            let more = if is_last {
                field & MORE_FRAGMENTS
            } else {
                MORE_FRAGMENTS
            };
            let made = if later.is_full() {
                None
            } else {
                ctx.allocate()
            };
            let Some(mut fragment) = made else {
                return Self::abandon(buffer, later, ctx);
            };
            if !write_fragment(
                &mut fragment,
                &packet[..header_bytes],
                &packet[begin..end],
                offset | more,
            ) {
                later.push(fragment);
                return Self::abandon(buffer, later, ctx);
            }
            later.push(fragment);
            begin = end;
        }
        if !buffer.set_len(network + header_bytes + room) {
            return Self::abandon(buffer, later, ctx);
        }
        let first = &mut buffer.bytes_mut()[network..];
        finish_header(first, header_bytes, field | MORE_FRAGMENTS);
        self.deliver(buffer, network, egress, ctx);
        for fragment in later {
            self.deliver(fragment, 0, egress, ctx);
        }
    }

    fn abandon<I: Io<Buffer = B>>(
        buffer: B,
        made: ArrayVec<B, MAX_FRAGMENTS_MADE>,
        ctx: &mut Context<'_, I>,
    ) {
        for fragment in made {
            ctx.discard(fragment, DropReason::NoBuffer);
        }
        ctx.discard(buffer, DropReason::NoBuffer);
    }

    /// Asks for the neighbour in `slot`: everyone, or the station itself.
    pub(super) fn ask<I: Io<Buffer = B>>(
        &mut self,
        slot: u16,
        itself: bool,
        ctx: &mut Context<'_, I>,
    ) {
        if let Some(neighbour) = self.neighbours.get(slot) {
            let station: Option<MacAddress> = itself.then_some(neighbour.mac);
            self.solicit(neighbour.interface, neighbour.address, station, ctx);
        }
    }
}

/// Octets of the packet as its header says.
#[inline(always)]
fn packet_bytes(packet: &[u8]) -> usize {
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => usize::from(u16_at(packet, 2)),
        Some(6) if packet.len() >= 40 => 40 + usize::from(u16_at(packet, 4)),
        _ => usize::MAX / 2,
    }
}

/// IPv4, and allowed to be: an IPv6 router never does.
fn may_be_fragmented(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4 && u16_at(packet, 6) & DONT_FRAGMENT == 0
}

/// Writes a later fragment: the header with those options that are copied, and `payload`.
fn write_fragment<B: Buffer>(buffer: &mut B, header: &[u8], payload: &[u8], field: u16) -> bool {
    let options = copied_options(&header[20..]);
    let header_bytes = 20 + options.len();
    if !buffer.set_len(header_bytes + payload.len()) {
        return false;
    }
    let bytes = buffer.bytes_mut();
    bytes[..20].copy_from_slice(&header[..20]);
    bytes[20..header_bytes].copy_from_slice(&options);
    bytes[header_bytes..].copy_from_slice(payload);
    bytes[0] = 0x40 | (header_bytes / 4) as u8;
    finish_header(bytes, header_bytes, field);
    true
}

/// Sets length, fragment field and checksum of the packet that fills `bytes`.
fn finish_header(bytes: &mut [u8], header_bytes: usize, field: u16) {
    let total = bytes.len() as u16;
    put_u16(bytes, 2, total);
    put_u16(bytes, 6, field);
    put_u16(bytes, 10, 0);
    let checksum = internet_checksum(&bytes[..header_bytes]);
    put_u16(bytes, 10, checksum);
}

/// The options that every fragment bears (the copied flag, RFC 791 §3.1), padded with
/// end-of-options to a multiple of four octets. Malformed options end the copy.
fn copied_options(mut options: &[u8]) -> ArrayVec<u8, 40> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut copied = ArrayVec::new();
    while let Some(&kind) = options.first() {
        let length = match kind {
            END => break,
            NO_OPERATION => 1,
            _ => options.get(1).map_or(0, |length| usize::from(*length)),
        };
        let Some(option) = options.get(..length).filter(|option| !option.is_empty()) else {
            break;
        };
        if kind & COPIED != 0 {
            copied.extend(option.iter().copied());
        }
        options = &options[length..];
    }
    while copied.len() % 4 != 0 {
        copied.push(END);
    }
    copied
}
