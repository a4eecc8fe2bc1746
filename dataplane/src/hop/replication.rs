//! The replication port: which packets are the peers', and the group that they may be sent to.

use super::Hop;
use super::config::{HopTables, Link};
use super::neighbours::{Claim, Resolution};
use crate::context::Context;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::packet::Buffer;
use crate::parse::{Fragment, Parsed, parse_network, protocol};
use crate::replicate::desk::Origin;
use crate::wire::address::{Address, Family, Prefix};
use crate::wire::ethernet::MacAddress;
use crate::wire::membership::{MAX_PACKET_BYTES, is_reported, routers, write_report};

/// How often a group's members say that they are. Switches forget them after 260 s at the earliest
/// (RFC 3376 §8.4).
const REPORT_INTERVAL_NS: u64 = 60_000_000_000;

/// Where the peers' datagrams come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationPort {
    /// The only interface that they are taken from.
    pub interface: InterfaceId,
    /// The UDP port that they are sent to.
    pub udp_port: u16,
    /// Where they are sent besides our own addresses: a multicast group, 255.255.255.255 or the
    /// broadcast address of one of the interface's networks. It is reached on that interface.
    pub group: Option<Address>,
}

impl ReplicationPort {
    /// The station address of the group. Directed broadcasts go to every station (RFC 1122
    /// §3.3.6).
    fn group_station(&self, link: &Link) -> Option<MacAddress> {
        let group = self.group?;
        MacAddress::of_multicast(group)
            .or_else(|| is_broadcast_of(link, group).then_some(MacAddress::BROADCAST))
    }

    /// Whether the group can be one on `link`.
    pub(super) fn fits(&self, link: &Link) -> bool {
        self.group.is_none_or(|group| {
            self.group_station(link).is_some() && link.address(group.family()).is_some()
        })
    }
}

fn is_broadcast_of(link: &Link, address: Address) -> bool {
    let mut networks = link.addresses.iter().map(|(_, network)| network);
    networks.any(|network| Prefix::broadcast(network) == Some(address))
}

/// Whether a packet that came in by `interface`, and is for us or the group, is a peer's.
pub(super) fn is_peers(
    port: Option<ReplicationPort>,
    interface: InterfaceId,
    parsed: &Parsed,
) -> bool {
    port.is_some_and(|port| {
        port.interface == interface
            && parsed.protocol == protocol::UDP
            && parsed.fragment == Fragment::Whole
            && parsed.destination_port == port.udp_port
    })
}

/// Whether a packet is a peer's to the group.
pub(super) fn is_peers_to_group(
    port: Option<ReplicationPort>,
    interface: InterfaceId,
    parsed: &Parsed,
) -> bool {
    is_peers(port, interface, parsed)
        && port.is_some_and(|port| port.group == Some(parsed.destination))
}

/// The link of this interface, if the peers are there; tables that came meanwhile may have another
/// one in its place.
fn link_of_peers(tables: &HopTables, interface: InterfaceId) -> Option<&Link> {
    let port = tables.replication?;
    let link = tables.link(interface)?;
    (port.interface == interface).then_some(link)
}

impl<B: Buffer> Hop<B> {
    /// An authentic datagram of a peer's came from there. It names its station as well as an answer
    /// would, and often comes where questions and answers are lost (RFC 4861 §7.3.1 knows such
    /// hints). Who stands in the table as a neighbour that can be sent to is left there: its
    /// address is for ARP and neighbour discovery to change.
    pub(crate) fn hear_station<I: Io<Buffer = B>>(
        &mut self,
        peer: Address,
        origin: Origin,
        ctx: &mut Context<'_, I>,
    ) {
        let Origin { interface, mac } = origin;
        let link = link_of_peers(&self.tables, interface);
        if !mac.is_unicast() || !link.is_some_and(|link| link.connects(peer)) {
            return;
        }
        match self.neighbours.is_usable(interface, peer) {
            Some(true) => {}
            Some(false) => self.learn(Claim::Answer, interface, peer, mac, ctx),
            None => self.learn(Claim::Request, interface, peer, mac, ctx),
        }
    }

    /// [`Hop::output`] of what answers a peer that is not proved yet. As long as nothing is known of
    /// where it is, the answer goes back to where its greeting came from, as any answer to an
    /// unproved source does (decision 0004), and nothing is learned; it is asked for as ever.
    #[cold]
    pub(crate) fn output_back<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        origin: Origin,
        ctx: &mut Context<'_, I>,
    ) {
        let Origin { interface, mac } = origin;
        let peer = parse_network(packet.bytes()).map(|parsed| parsed.destination);
        let (Ok(peer), Some(link)) = (peer, link_of_peers(&self.tables, interface)) else {
            return self.output(packet, ctx);
        };
        let is_too_big = packet.bytes().len() > usize::from(link.mtu_bytes);
        let is_neighbour = mac.is_unicast() && link.connects(peer);
        if is_too_big || !is_neighbour || self.neighbours.has_station(interface, peer) {
            return self.output(packet, ctx);
        }
        super::link::emit(link, interface, packet, 0, mac, ctx);
        if let Resolution::Ask(slot) = self.neighbours.resolve(interface, peer, ctx.now_ns) {
            self.ask(slot, false, ctx);
        }
    }

    /// Whether no route is asked for the way to `destination`: it is a group, of one link.
    pub(super) fn is_to_group(&self, destination: Address) -> bool {
        destination.is_multicast_or_broadcast()
            || (self.tables.replication).is_some_and(|port| port.group == Some(destination))
    }

    /// Tells the link that we belong to the peers' group, and again later: switches that deliver
    /// group frames only to members forget them after some minutes (RFC 4541).
    pub(super) fn report_membership<I: Io<Buffer = B>>(
        &mut self,
        is_change: bool,
        ctx: &mut Context<'_, I>,
    ) {
        self.report_ns = None;
        let Some((port, group)) = self
            .tables
            .replication
            .and_then(|port| Some((port, port.group.filter(|&group| is_reported(group))?)))
        else {
            return;
        };
        self.report_ns = Some(ctx.now_ns + REPORT_INTERVAL_NS);
        let station = MacAddress::of_multicast(routers(group.family()));
        let (Some(link), Some(station)) = (self.tables.link(port.interface), station) else {
            return;
        };
        let source = match group.family() {
            Family::V4 => link.address(Family::V4).unwrap_or(Address::UNSPECIFIED),
            Family::V6 => link.link_local,
        };
        let Some(mut packet) = ctx.allocate() else {
            return;
        };
        let length = packet
            .set_len(MAX_PACKET_BYTES)
            .then(|| write_report(packet.bytes_mut(), source, group, is_change))
            .flatten();
        match length {
            Some(length) if packet.set_len(length) => {
                super::link::emit(link, port.interface, packet, 0, station, ctx);
            }
            _ => ctx.discard(packet, DropReason::NoBuffer),
        }
    }

    /// Sends a packet that was made here, begins with its IP header and is for the group on the
    /// interface of the replication port; what is for no such group has no route.
    #[cold]
    pub(super) fn output_to_group<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        destination: Address,
        ctx: &mut Context<'_, I>,
    ) {
        let port = self.tables.replication;
        let Some(port) = port.filter(|port| port.group == Some(destination)) else {
            return ctx.discard(packet, DropReason::NoRoute);
        };
        let link = self.tables.link(port.interface);
        let station = link.and_then(|link| Some((link, port.group_station(link)?)));
        let Some((link, station)) = station else {
            return ctx.discard(packet, DropReason::NoRoute);
        };
        if packet.bytes().len() > usize::from(link.mtu_bytes) {
            return ctx.discard(packet, DropReason::PacketTooBig);
        }
        super::link::emit(link, port.interface, packet, 0, station, ctx);
    }
}
