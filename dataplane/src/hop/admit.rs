//! What a frame is to us: ours, to be routed, or refused.

use super::config::{HopTables, Link, Target};
use super::errors::{Complaint, take_own};
use super::send::way_to;
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

/// What is to become of an IP packet.
enum Judgement {
    Route(Egress),
    Own,
    NeighbourDiscovery,
    Refuse(DropReason, Option<Complaint>),
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
        let Some(link) = self.tables.link(interface) else {
            return Admitted::Done(Verdict::Drop(buffer, DropReason::UnknownVlan));
        };
        let station = ethernet::destination(buffer.bytes());
        if parsed.kind == Kind::Arp {
            let verdict = if station == link.mac || station == MacAddress::BROADCAST {
                self.take_arp(interface, buffer, parsed, ctx)
            } else {
                Verdict::Drop(buffer, DropReason::NotForUs)
            };
            return Admitted::Done(verdict);
        }
        let verdict = match judge(&self.tables, link, interface, station, &buffer, parsed) {
            Judgement::Route(egress) => return Admitted::Transit(buffer, egress),
            Judgement::Own if parsed.is_whole_tcp() => return Admitted::Local(buffer),
            Judgement::Own => take_own(buffer, parsed, ctx),
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
        };
        Admitted::Done(verdict)
    }
}

#[inline]
fn judge<B: Buffer>(
    tables: &HopTables,
    link: &Link,
    interface: InterfaceId,
    station: MacAddress,
    buffer: &B,
    parsed: &Parsed,
) -> Judgement {
    let packet = &buffer.bytes()[usize::from(parsed.network)..];
    let is_group = station != link.mac;
    if is_group && !station.is_multicast() {
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
    // §3.3.6); the groups themselves are none of ours.
    if is_group || parsed.destination.is_multicast_or_broadcast() {
        return refuse(DropReason::NotForUs);
    }
    if let Err(reason) = check_source(tables, link, interface, parsed) {
        return refuse(reason);
    }
    judge_destination(tables, link, interface, packet, parsed)
}

#[inline]
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
#[inline]
fn check_source(
    tables: &HopTables,
    link: &Link,
    interface: InterfaceId,
    parsed: &Parsed,
) -> Result<(), DropReason> {
    let source = parsed.source;
    if source.is_martian_source() {
        return Err(DropReason::MartianSource);
    }
    if source == parsed.destination {
        return Err(DropReason::OwnSource);
    }
    if source.is_link_local() {
        // It counts on its own link only (RFC 4291 §2.5.6).
        let stays = link.owns(parsed.destination);
        return match (link.owns(source), stays) {
            (true, _) => Err(DropReason::OwnSource),
            (false, true) => Ok(()),
            (false, false) => Err(DropReason::MartianSource),
        };
    }
    match tables.target(source) {
        Some(Target::Own) => Err(DropReason::OwnSource),
        Some(Target::Broadcast) => Err(DropReason::MartianSource),
        Some(Target::Connected(home)) if home != interface => Err(DropReason::SpoofedSource),
        Some(Target::Via(home, _))
            if home != interface && tables.link(home).is_some_and(|home| home.protected) =>
        {
            Err(DropReason::SpoofedSource)
        }
        _ => Ok(()),
    }
}

#[inline]
fn judge_destination(
    tables: &HopTables,
    link: &Link,
    interface: InterfaceId,
    packet: &[u8],
    parsed: &Parsed,
) -> Judgement {
    let destination = parsed.destination;
    if destination.is_link_local() {
        return if link.owns(destination) {
            Judgement::Own
        } else {
            refuse(DropReason::NotForUs)
        };
    }
    if destination.is_martian_source() {
        return refuse(DropReason::NoRoute);
    }
    let Some(egress) = way_to(tables, destination, Some(interface)) else {
        return match tables.target(destination) {
            Some(Target::Own) => Judgement::Own,
            // A directed broadcast is not sent on (RFC 2644).
            Some(_) => refuse(DropReason::NotForUs),
            None => Judgement::Refuse(DropReason::NoRoute, Some(Complaint::NoRoute)),
        };
    };
    if parsed.ttl <= 1 {
        return Judgement::Refuse(DropReason::TtlExpired, Some(Complaint::Expired));
    }
    let is_too_big = parsed.packet_bytes() > usize::from(egress.mtu_bytes);
    if is_too_big && !(parsed.family == Family::V4 && u16_at(packet, 6) & 0x4000 == 0) {
        let mtu_bytes = egress.mtu_bytes;
        let complaint = Complaint::TooBig { mtu_bytes };
        return Judgement::Refuse(DropReason::PacketTooBig, Some(complaint));
    }
    Judgement::Route(egress)
}
