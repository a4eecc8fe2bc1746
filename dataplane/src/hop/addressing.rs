//! ARP (RFC 826) and neighbour discovery (RFC 4861): questions answered, questions asked, answers
//! believed.

use super::Hop;
use super::config::Link;
use super::link::encapsulate;
use super::neighbours::Claim;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::limits::MAX_ADDRESSES;
use crate::packet::Buffer;
use crate::parse::{ETHER_TYPE_ARP, ETHER_TYPE_IPV6, Parsed};
use crate::verdict::Verdict;
use crate::wire::address::{Address, Family};
use crate::wire::arp::{self, Arp, ArpOperation};
use crate::wire::ethernet::{self, MacAddress, link_header_bytes, solicited_node, write_ethernet};
use crate::wire::ndp::{self, Ndp, NeighbourAdvertisement, NeighbourSolicitation};

/// The least time between two defences of an address (RFC 5227 §2.4, DEFEND_INTERVAL).
const DEFEND_INTERVAL_NS: u64 = 10_000_000_000;
/// All nodes of a link (RFC 4291 §2.7.1).
const ALL_NODES: Address = Address::from_bits(0xff02 << 112 | 1);
/// The unspecified IPv4 address, the sender of a probe (RFC 5227 §2.1).
const UNSPECIFIED_V4: Address = Address::from_v4([0; 4]);

impl<B: Buffer> Hop<B> {
    /// Takes an ARP message.
    pub(super) fn take_arp<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        mut buffer: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let network = usize::from(parsed.network);
        let message = match Arp::parse(&buffer.bytes()[network..]) {
            Ok(message) => message,
            Err(reason) => return Verdict::Drop(buffer, reason),
        };
        let Some(link) = self.tables.link(interface) else {
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        };
        if link.owns(message.sender) {
            self.contested(interface, message.sender, message.sender_mac, ctx);
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        let is_probe = message.sender == UNSPECIFIED_V4;
        let asks_us = message.operation == ArpOperation::Request && link.owns(message.target);
        // A host with addresses of other nets, as behind a load balancer, asks in the name of the
        // one that it is about to send from. It is answered and, like a probe, teaches nothing.
        let is_connected = link.connects(message.sender);
        let is_martian = !is_probe && message.sender.is_martian_source();
        if is_martian || !(is_probe || is_connected || asks_us) {
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        if asks_us {
            let answer = Arp {
                operation: ArpOperation::Reply,
                sender_mac: link.mac,
                sender: message.target,
                target_mac: message.sender_mac,
                target: message.sender,
            };
            let station = message.sender_mac;
            if !encapsulate(link, &mut buffer, network, station, ETHER_TYPE_ARP) {
                return Verdict::Drop(buffer, DropReason::NoBuffer);
            }
            answer.write(&mut buffer.bytes_mut()[link_header_bytes(link.vlan)..]);
            ctx.transmit(link.port, interface, buffer);
            if is_connected && !is_probe {
                self.learn(Claim::Request, interface, message.sender, station, ctx);
            }
            return Verdict::Hold;
        }
        let is_answer = message.operation == ArpOperation::Reply && message.target_mac == link.mac;
        let claim = if is_answer {
            Claim::Answer
        } else {
            Claim::Unasked
        };
        let is_announcement = message.sender == message.target;
        // A request for someone else is none of our business.
        if is_probe || !(is_answer || is_announcement) {
            return Verdict::Drop(buffer, DropReason::NotForUs);
        }
        self.believe(
            claim,
            interface,
            message.sender,
            message.sender_mac,
            buffer,
            ctx,
        )
    }

    /// Takes a neighbour solicitation or advertisement.
    pub(super) fn take_neighbour_discovery<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        buffer: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let message = &buffer.bytes()[usize::from(parsed.transport)..usize::from(parsed.end)];
        let message = ndp::parse(message, parsed.source, parsed.destination, parsed.ttl);
        let message = match message {
            Ok(message) => message,
            Err(reason) => return Verdict::Drop(buffer, reason),
        };
        let Some(link) = self.tables.link(interface).filter(|link| link.ipv6) else {
            return Verdict::Drop(buffer, DropReason::NotForUs);
        };
        let is_probe = parsed.source == Address::UNSPECIFIED;
        if link.owns(parsed.source) {
            let station = ethernet::source(buffer.bytes());
            self.contested(interface, parsed.source, station, ctx);
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        if !is_probe && !link.connects(parsed.source) {
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        match message {
            Ndp::Solicitation(asked) if link.owns(asked.target) => {
                self.answer_solicitation(interface, buffer, parsed, asked, ctx)
            }
            Ndp::Solicitation(_) => Verdict::Drop(buffer, DropReason::NotForUs),
            Ndp::Advertisement(_) if is_probe => {
                Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour)
            }
            Ndp::Advertisement(said) => self.take_advertisement(interface, buffer, said, ctx),
        }
    }

    fn answer_solicitation<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        mut buffer: B,
        parsed: &Parsed,
        asked: NeighbourSolicitation,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let Some(link) = self.tables.link(interface) else {
            return Verdict::Drop(buffer, DropReason::NotForUs);
        };
        let is_probe = parsed.source == Address::UNSPECIFIED;
        // Without the option, the station that sent the frame is the one that asks.
        let sender = asked.source_mac.unwrap_or(ethernet::source(buffer.bytes()));
        let (to, station) = if is_probe {
            (ALL_NODES, group_of(ALL_NODES))
        } else {
            (parsed.source, sender)
        };
        let answer = NeighbourAdvertisement {
            target: asked.target,
            target_mac: Some(link.mac),
            is_router: true,
            is_solicited: !is_probe,
            is_override: true,
        };
        if !station.is_unicast() && !is_probe {
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        let header_bytes = link_header_bytes(link.vlan);
        if !buffer.set_len(header_bytes + ndp::MAX_PACKET_BYTES) {
            return Verdict::Drop(buffer, DropReason::NoBuffer);
        }
        let bytes = buffer.bytes_mut();
        write_ethernet(bytes, station, link.mac, link.vlan, ETHER_TYPE_IPV6);
        let length = answer.write(&mut bytes[header_bytes..], asked.target, to);
        match length {
            Some(length) if buffer.set_len(header_bytes + length) => {
                ctx.transmit(link.port, interface, buffer);
            }
            _ => return Verdict::Drop(buffer, DropReason::NoBuffer),
        }
        if let Some(mac) = asked.source_mac {
            self.learn(Claim::Request, interface, parsed.source, mac, ctx);
        }
        Verdict::Hold
    }

    fn take_advertisement<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        buffer: B,
        said: NeighbourAdvertisement,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let Some(link) = self.tables.link(interface) else {
            return Verdict::Drop(buffer, DropReason::NotForUs);
        };
        // An answer to a unicast question may leave the station out: the frame names it
        // (RFC 4861 §4.4).
        let sender = ethernet::source(buffer.bytes());
        let mac = said.target_mac.unwrap_or(sender);
        if link.owns(said.target) {
            self.contested(interface, said.target, mac, ctx);
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        if !mac.is_unicast() || !link.connects(said.target) {
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        let claim = match (said.is_solicited, said.is_override) {
            (true, true) => Claim::Answer,
            (true, false) => Claim::MeekAnswer,
            (false, true) => Claim::Unasked,
            // It must not change what is known (RFC 4861 §7.2.5).
            (false, false) => return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour),
        };
        self.believe(claim, interface, said.target, mac, buffer, ctx)
    }

    /// Takes a claim that a message made, and uses the message up.
    fn believe<I: Io<Buffer = B>>(
        &mut self,
        claim: Claim,
        interface: InterfaceId,
        address: Address,
        mac: MacAddress,
        buffer: B,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if !self.neighbours.knows(interface, address) {
            if claim != Claim::Unasked {
                let overrides = claim == Claim::Answer;
                self.neighbours.pass_on(interface, address, mac, overrides);
            }
            return Verdict::Drop(buffer, DropReason::UnsolicitedNeighbour);
        }
        self.learn(claim, interface, address, mac, ctx);
        drop(buffer);
        ctx.counters.count(Event::Consumed);
        Verdict::Hold
    }

    pub(super) fn learn<I: Io<Buffer = B>>(
        &mut self,
        claim: Claim,
        interface: InterfaceId,
        address: Address,
        mac: MacAddress,
        ctx: &mut Context<'_, I>,
    ) {
        let heard = self
            .neighbours
            .hear(claim, interface, address, mac, ctx.now_ns);
        if let Some(slot) = heard {
            self.release(slot, ctx);
        }
    }

    /// Another station claims an address of ours: it is counted, and answered by our own claim now
    /// and then.
    fn contested<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        address: Address,
        mac: MacAddress,
        ctx: &mut Context<'_, I>,
    ) {
        let Some(link) = self.tables.link(interface).filter(|link| link.mac != mac) else {
            return;
        };
        ctx.counters.count(Event::AddressContested);
        let mut own = link.addresses.iter().map(|&(own, _)| own);
        let place = own.position(|own| own == address);
        let defended_ns = self
            .defended_ns
            .get_mut(usize::from(interface.0))
            .and_then(|defended_ns| defended_ns.get_mut(place.unwrap_or(MAX_ADDRESSES)));
        if let Some(defended_ns) = defended_ns
            && defended_ns.is_none_or(|at_ns| ctx.now_ns >= at_ns + DEFEND_INTERVAL_NS)
        {
            *defended_ns = Some(ctx.now_ns);
            announce(link, interface, address, ctx);
        }
    }

    /// Asks for the station of `address`: everyone, or the station that had it.
    pub(super) fn solicit<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        address: Address,
        station: Option<MacAddress>,
        ctx: &mut Context<'_, I>,
    ) {
        let Some(link) = self.tables.link(interface) else {
            return;
        };
        ctx.counters.count(Event::NeighbourAsked);
        match address.family() {
            Family::V4 => {
                let message = Arp {
                    operation: ArpOperation::Request,
                    sender_mac: link.mac,
                    sender: link.address_towards(address).unwrap_or(UNSPECIFIED_V4),
                    target_mac: MacAddress::default(),
                    target: address,
                };
                let station = station.unwrap_or(MacAddress::BROADCAST);
                send_arp(link, interface, station, &message, ctx);
            }
            Family::V6 => {
                let message = NeighbourSolicitation {
                    target: address,
                    source_mac: Some(link.mac),
                };
                let group = solicited_node(address);
                let to = if station.is_some() { address } else { group };
                let station = station.unwrap_or(group_of(group));
                send_discovery(link, interface, station, ctx, |into| {
                    message.write(into, link.link_local, to)
                });
            }
        }
    }
}

/// Tells the link that `address` is ours: an ARP announcement (RFC 5227 §2.3) or an unsolicited
/// advertisement (RFC 4861 §7.2.6).
pub(super) fn announce<I: Io>(
    link: &Link,
    interface: InterfaceId,
    address: Address,
    ctx: &mut Context<'_, I>,
) {
    match address.family() {
        Family::V4 => {
            let message = Arp {
                operation: ArpOperation::Request,
                sender_mac: link.mac,
                sender: address,
                target_mac: MacAddress::default(),
                target: address,
            };
            send_arp(link, interface, MacAddress::BROADCAST, &message, ctx);
        }
        Family::V6 => {
            let message = NeighbourAdvertisement {
                target: address,
                target_mac: Some(link.mac),
                is_router: true,
                is_solicited: false,
                is_override: true,
            };
            send_discovery(link, interface, group_of(ALL_NODES), ctx, |into| {
                message.write(into, address, ALL_NODES)
            });
        }
    }
}

fn group_of(address: Address) -> MacAddress {
    MacAddress::of_multicast(address).unwrap_or(MacAddress::BROADCAST)
}

fn send_arp<I: Io>(
    link: &Link,
    interface: InterfaceId,
    station: MacAddress,
    message: &Arp,
    ctx: &mut Context<'_, I>,
) {
    let Some(mut buffer) = ctx.allocate() else {
        return;
    };
    let header_bytes = link_header_bytes(link.vlan);
    if !buffer.set_len(header_bytes + arp::MESSAGE_BYTES) {
        return ctx.discard(buffer, DropReason::NoBuffer);
    }
    let bytes = buffer.bytes_mut();
    write_ethernet(bytes, station, link.mac, link.vlan, ETHER_TYPE_ARP);
    message.write(&mut bytes[header_bytes..]);
    ctx.transmit(link.port, interface, buffer);
}

fn send_discovery<I: Io>(
    link: &Link,
    interface: InterfaceId,
    station: MacAddress,
    ctx: &mut Context<'_, I>,
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
) {
    let Some(mut buffer) = ctx.allocate() else {
        return;
    };
    let header_bytes = link_header_bytes(link.vlan);
    if !buffer.set_len(header_bytes + ndp::MAX_PACKET_BYTES) {
        return ctx.discard(buffer, DropReason::NoBuffer);
    }
    let bytes = buffer.bytes_mut();
    write_ethernet(bytes, station, link.mac, link.vlan, ETHER_TYPE_IPV6);
    match write(&mut bytes[header_bytes..]) {
        Some(length) if buffer.set_len(header_bytes + length) => {
            ctx.transmit(link.port, interface, buffer);
        }
        _ => ctx.discard(buffer, DropReason::NoBuffer),
    }
}
