//! What a frame is to us: ours, to be routed, or refused.

use super::config::{HopTables, Link, WayKind};
use super::errors::{Complaint, take_own};
use super::replication::{is_peers, is_peers_to_group};
use super::routes::RecentRoutes;
use super::{Admitted, Egress, Hop};
use crate::context::Context;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::packet::Buffer;
use crate::parse::{Fragment, Kind, Parsed, protocol};
use crate::verdict::Verdict;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::u16_at;
use crate::wire::ethernet::{self, MacAddress};
use crate::wire::icmpv6::kind;

/// What is to become of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judgement {
    /// It is to be routed: nothing of it has been changed.
    Route,
    /// It is for us.
    Own,
    /// It is a message between neighbours.
    NeighbourDiscovery,
    /// It is such a message of IPv4's.
    Arp,
    /// It goes no further, and its sender may be told.
    Refuse(DropReason, Option<Complaint>),
}

/// What has become of a frame that is not to be routed.
#[derive(Debug)]
#[must_use]
pub(crate) enum Concluded<B> {
    /// See [`Admitted::Done`].
    Done(Verdict<B>),
    /// See [`Admitted::Local`].
    Local(B),
    /// See [`Admitted::Peers`].
    Peers(B),
}

const fn refuse(reason: DropReason) -> Judgement {
    Judgement::Refuse(reason, None)
}

impl<B: Buffer> Hop<B> {
    /// Judges a frame that came in by `interface`, and deals with what concerns the hop alone. A
    /// packet that is admitted for transit is unchanged, so that an ICMP error can still quote it.
    /// The IPv4 header checksum was verified when the frame was parsed.
    pub fn admit<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        buffer: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Admitted<B> {
        let mut egress = Egress::NONE;
        match self.judge(interface, &buffer, parsed, &mut egress) {
            Judgement::Route => Admitted::Transit(buffer, egress),
            other => match self.conclude(other, interface, buffer, parsed, ctx) {
                Concluded::Done(verdict) => Admitted::Done(verdict),
                Concluded::Local(buffer) => Admitted::Local(buffer),
                Concluded::Peers(buffer) => Admitted::Peers(buffer),
            },
        }
    }

    /// The first half of [`Hop::admit`], which touches nothing. The way out is written only for
    /// what is to be routed.
    #[inline(always)]
    pub(crate) fn judge(
        &mut self,
        interface: InterfaceId,
        buffer: &B,
        parsed: &Parsed,
        egress: &mut Egress,
    ) -> Judgement {
        let Some(link) = self.tables.link(interface) else {
            return refuse(DropReason::UnknownVlan);
        };
        let station = ethernet::destination(buffer.bytes());
        if parsed.kind == Kind::Arp {
            return if station == link.mac || station == MacAddress::BROADCAST {
                Judgement::Arp
            } else {
                refuse(DropReason::NotForUs)
            };
        }
        judge(
            &self.tables,
            &mut self.recent,
            link,
            interface,
            buffer,
            parsed,
            egress,
        )
    }

    /// The second half of [`Hop::admit`], for what is not to be routed.
    #[cold]
    pub(crate) fn conclude<I: Io<Buffer = B>>(
        &mut self,
        judgement: Judgement,
        interface: InterfaceId,
        buffer: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Concluded<B> {
        Concluded::Done(match judgement {
            Judgement::Own if parsed.is_whole_tcp() => return Concluded::Local(buffer),
            Judgement::Own if is_peers(self.tables.replication, interface, parsed) => {
                return Concluded::Peers(buffer);
            }
            Judgement::Own => take_own(buffer, parsed, ctx),
            Judgement::Arp => self.take_arp(interface, buffer, parsed, ctx),
            Judgement::NeighbourDiscovery => {
                self.take_neighbour_discovery(interface, buffer, parsed, ctx)
            }
            Judgement::Refuse(reason, complaint) => {
                if let Some(complaint) = complaint {
                    let packet = usize::from(parsed.network)..usize::from(parsed.end);
                    self.complain(complaint, &buffer.bytes()[packet], interface, ctx);
                }
                Verdict::Drop(buffer, reason)
            }
            Judgement::Route => Verdict::Drop(buffer, DropReason::NoRoute),
        })
    }
}

#[inline(always)]
fn judge<B: Buffer>(
    tables: &HopTables,
    recent: &mut RecentRoutes,
    link: &Link,
    interface: InterfaceId,
    buffer: &B,
    parsed: &Parsed,
    egress: &mut Egress,
) -> Judgement {
    let packet = &buffer.bytes()[usize::from(parsed.network)..];
    let station = ethernet::destination(buffer.bytes());
    let is_to_group = station != link.mac;
    if is_to_group && !station.is_multicast() {
        return refuse(DropReason::NotForUs);
    }
    // No station is a group; an answer to such a frame would go to everyone.
    if ethernet::source(buffer.bytes()).is_multicast() {
        return refuse(DropReason::MartianSource);
    }
    // Before the source is looked at: a host that checks for a duplicate address has none.
    if is_neighbour_discovery(buffer.bytes(), parsed) && concerns(link, parsed.destination) {
        return Judgement::NeighbourDiscovery;
    }
    // A unicast packet in a group frame would come from every router of the link (RFC 1122
    // §3.3.6); of the groups themselves only the peers' may be ours.
    if is_to_group
        || parsed
            .destination
            .is_multicast_or_broadcast_of(parsed.family)
    {
        return judge_group(tables, recent, link, interface, parsed);
    }
    if let Err(reason) = check_source(tables, recent, link, interface, parsed) {
        return refuse(reason);
    }
    judge_destination(tables, recent, link, interface, packet, parsed, egress)
}

/// What a packet to a group, or in a group's frame, is to us.
#[cold]
fn judge_group(
    tables: &HopTables,
    recent: &mut RecentRoutes,
    link: &Link,
    interface: InterfaceId,
    parsed: &Parsed,
) -> Judgement {
    if !is_peers_to_group(tables.replication, interface, parsed) {
        return refuse(DropReason::NotForUs);
    }
    match check_source(tables, recent, link, interface, parsed) {
        Ok(()) => Judgement::Own,
        Err(reason) => refuse(reason),
    }
}

#[inline(always)]
fn is_neighbour_discovery(frame: &[u8], parsed: &Parsed) -> bool {
    parsed.protocol == protocol::ICMPV6
        && parsed.family == Family::V6
        && parsed.fragment == Fragment::Whole
        && matches!(
            frame.get(usize::from(parsed.transport)),
            Some(&(kind::NEIGHBOUR_SOLICITATION | kind::NEIGHBOUR_ADVERTISEMENT))
        )
}

/// Whether neighbour discovery sent there is for this link.
fn concerns(link: &Link, destination: Address) -> bool {
    destination.is_multicast_or_broadcast() || link.owns(destination)
}

/// Refuses sources that cannot be (CASES 12). The order matters: what is wrong on any wire comes
/// before what is wrong on this one.
#[inline(always)]
fn check_source(
    tables: &HopTables,
    recent: &mut RecentRoutes,
    link: &Link,
    interface: InterfaceId,
    parsed: &Parsed,
) -> Result<(), DropReason> {
    let (source, family) = (parsed.source, parsed.family);
    if source.is_martian_source_of(family) {
        return Err(DropReason::MartianSource);
    }
    if source == parsed.destination {
        return Err(DropReason::OwnSource);
    }
    if family == Family::V6 && source.is_link_local() {
        // It counts on its own link only (RFC 4291 §2.5.6).
        let stays = link.owns(parsed.destination);
        return match (link.owns(source), stays) {
            (true, _) => Err(DropReason::OwnSource),
            (false, true) => Ok(()),
            (false, false) => Err(DropReason::MartianSource),
        };
    }
    let way = tables.way_again(recent, source, family);
    // The way back is the way it came: nearly always so.
    if way.interface == interface {
        return Ok(());
    }
    match way.kind {
        WayKind::Own => Err(DropReason::OwnSource),
        WayKind::Broadcast => Err(DropReason::MartianSource),
        WayKind::Connected => Err(DropReason::SpoofedSource),
        WayKind::Via if way.protected => Err(DropReason::SpoofedSource),
        WayKind::Via | WayKind::None => Ok(()),
    }
}

#[inline(always)]
fn judge_destination(
    tables: &HopTables,
    recent: &mut RecentRoutes,
    link: &Link,
    interface: InterfaceId,
    packet: &[u8],
    parsed: &Parsed,
    egress: &mut Egress,
) -> Judgement {
    let (destination, family) = (parsed.destination, parsed.family);
    if family == Family::V6 && destination.is_link_local() {
        return if link.owns(destination) {
            Judgement::Own
        } else {
            refuse(DropReason::NotForUs)
        };
    }
    if destination.is_martian_source_of(family) {
        return refuse(DropReason::NoRoute);
    }
    let way = tables.way_again(recent, destination, family);
    if !way.leads_out() {
        return match way.kind {
            WayKind::Own => Judgement::Own,
            // A directed broadcast is not sent on (RFC 2644).
            WayKind::Broadcast => refuse(DropReason::NotForUs),
            _ => Judgement::Refuse(DropReason::NoRoute, Some(Complaint::NoRoute)),
        };
    }
    let mtu_bytes = way.mtu_bytes;
    if parsed.ttl <= 1 {
        return Judgement::Refuse(DropReason::TtlExpired, Some(Complaint::Expired));
    }
    let is_too_big = parsed.packet_bytes() > usize::from(mtu_bytes);
    if is_too_big && !(parsed.family == Family::V4 && u16_at(packet, 6) & 0x4000 == 0) {
        let complaint = Complaint::TooBig { mtu_bytes };
        return Judgement::Refuse(DropReason::PacketTooBig, Some(complaint));
    }
    egress.next_hop = way.next_hop(destination);
    egress.interface = way.interface;
    egress.ingress = Some(interface);
    egress.mtu_bytes = mtu_bytes;
    Judgement::Route
}
