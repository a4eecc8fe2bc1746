//! ICMP that the hop sends: errors, under a limit, and answers to pings.

use super::Hop;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::packet::Buffer;
use crate::parse::{Fragment, Parsed, parse_network, protocol};
use crate::verdict::Verdict;
use crate::wire::address::{Address, Family};
use crate::wire::icmp::{self, IcmpErrorPacket, IcmpMessage};
use crate::wire::icmpv6::{self, Icmpv6ErrorPacket, Icmpv6Message};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

/// The TTL of packets made here.
const TTL: u8 = 64;

/// What a sender is told of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// No route leads there.
    NoRoute,
    /// The neighbour does not answer.
    Unreachable,
    /// The TTL or hop limit ran out.
    Expired,
    /// It exceeds this MTU and may not be fragmented.
    TooBig {
        /// Octets of the largest packet that would go.
        mtu_bytes: u16,
    },
    /// A rule refuses it.
    Prohibited,
}

/// A token bucket in the form of one number (the generic cell rate algorithm): the time at which
/// the bucket will be full again.
#[derive(Debug)]
pub(super) struct ErrorLimit {
    interval_ns: u64,
    depth_ns: u64,
    full_ns: u64,
}

impl ErrorLimit {
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        let interval_ns = 1_000_000_000 / per_second;
        Self {
            interval_ns,
            depth_ns: interval_ns * burst,
            full_ns: 0,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let full_ns = self.full_ns.max(now_ns) + self.interval_ns;
        let allowed = full_ns <= now_ns + self.depth_ns;
        if allowed {
            self.full_ns = full_ns;
        }
        allowed
    }
}

impl<B: Buffer> Hop<B> {
    /// Tells the source of `packet` (from its IP header to its end, as it came in) what became of
    /// it, unless that is forbidden, over the limit, or would be larger than the packet itself.
    pub fn complain<I: Io<Buffer = B>>(
        &mut self,
        complaint: Complaint,
        packet: &[u8],
        ingress: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) {
        let Ok(parsed) = parse_network(packet) else {
            return;
        };
        let packet = &packet[..usize::from(parsed.end)];
        if !may_be_told_of(packet, &parsed) {
            return;
        }
        let Some(source) = self.source_for_errors(ingress, parsed.family) else {
            return;
        };
        let limit = match complaint {
            Complaint::TooBig { .. } => &mut self.too_big_limit,
            _ => &mut self.error_limit,
        };
        if packet.len() < minimum_error_bytes(parsed.family) || !limit.take(ctx.now_ns) {
            ctx.counters.count(Event::IcmpErrorSuppressed);
            return;
        }
        let Some(mut buffer) = ctx.allocate() else {
            return;
        };
        self.identification = self.identification.wrapping_add(1);
        // Never larger than what caused it: a forged source gains nothing (CASES 9).
        let length = if buffer.set_len(packet.len().min(MAX_ERROR_BYTES)) {
            let into = buffer.bytes_mut();
            match parsed.family {
                Family::V4 => write_v4(
                    into,
                    complaint,
                    packet,
                    &parsed,
                    source,
                    self.identification,
                ),
                Family::V6 => write_v6(into, complaint, packet, &parsed, source),
            }
        } else {
            None
        };
        match length {
            Some(length) if buffer.set_len(length) => {
                ctx.counters.count(Event::IcmpErrorSent);
                ctx.route(buffer);
            }
            _ => ctx.discard(buffer, DropReason::NoBuffer),
        }
    }

    /// The address that errors bear: ours where the packet came in (RFC 1812 §4.3.2.4), else any.
    fn source_for_errors(&self, ingress: InterfaceId, family: Family) -> Option<Address> {
        let here = self.tables.link(ingress);
        here.and_then(|link| link.address(family)).or_else(|| {
            let mut links = self.tables.links.iter();
            links.find_map(|link| link.address(family))
        })
    }
}

/// What RFC 4443 §2.4 (c) and RFC 1812 §4.3.2.3 allow at most; the writers keep to their own.
const MAX_ERROR_BYTES: usize = 1280;

/// IP header, ICMP header, and of the packet its IP header and eight octets.
fn minimum_error_bytes(family: Family) -> usize {
    match family {
        Family::V4 => 20 + 8 + 28,
        Family::V6 => 40 + 8 + 48,
    }
}

/// Whether an error about the packet may be sent at all (RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)).
fn may_be_told_of(packet: &[u8], parsed: &Parsed) -> bool {
    if parsed.fragment == Fragment::Later
        || parsed.source.is_martian_source()
        || parsed.source.is_link_local()
        || parsed.destination.is_multicast_or_broadcast()
    {
        return false;
    }
    let kind = packet.get(usize::from(parsed.transport)).copied();
    match (parsed.protocol, kind) {
        (protocol::ICMP, Some(kind)) => !icmp::is_error(kind),
        (protocol::ICMPV6, Some(kind)) => !icmpv6::is_error(kind) && kind != icmpv6::kind::REDIRECT,
        (protocol::ICMP | protocol::ICMPV6, None) => false,
        _ => true,
    }
}

fn write_v4(
    into: &mut [u8],
    complaint: Complaint,
    packet: &[u8],
    parsed: &Parsed,
    source: Address,
    identification: u16,
) -> Option<usize> {
    use icmp::{code, kind};
    let (kind, code, rest) = match complaint {
        Complaint::NoRoute => (kind::DESTINATION_UNREACHABLE, code::NETWORK_UNREACHABLE, 0),
        Complaint::Unreachable => (kind::DESTINATION_UNREACHABLE, code::HOST_UNREACHABLE, 0),
        Complaint::Expired => (kind::TIME_EXCEEDED, code::TTL_EXPIRED, 0),
        Complaint::TooBig { mtu_bytes } => (
            kind::DESTINATION_UNREACHABLE,
            code::FRAGMENTATION_NEEDED,
            u32::from(mtu_bytes),
        ),
        Complaint::Prohibited => (kind::DESTINATION_UNREACHABLE, code::PROHIBITED, 0),
    };
    let error = IcmpErrorPacket {
        source,
        destination: parsed.source,
        ttl: TTL,
        identification,
        kind,
        code,
        rest,
        invoking: packet,
    };
    icmp::write_error(into, &error)
}

fn write_v6(
    into: &mut [u8],
    complaint: Complaint,
    packet: &[u8],
    parsed: &Parsed,
    source: Address,
) -> Option<usize> {
    use icmpv6::{code, kind};
    let (kind, code, rest) = match complaint {
        Complaint::NoRoute => (kind::DESTINATION_UNREACHABLE, code::NO_ROUTE, 0),
        Complaint::Unreachable => (kind::DESTINATION_UNREACHABLE, code::ADDRESS_UNREACHABLE, 0),
        Complaint::Expired => (kind::TIME_EXCEEDED, code::HOP_LIMIT_EXCEEDED, 0),
        Complaint::TooBig { mtu_bytes } => (kind::PACKET_TOO_BIG, 0, u32::from(mtu_bytes)),
        Complaint::Prohibited => (kind::DESTINATION_UNREACHABLE, code::PROHIBITED, 0),
    };
    let error = Icmpv6ErrorPacket {
        source,
        destination: parsed.source,
        hop_limit: TTL,
        kind,
        code,
        rest,
        invoking: packet,
    };
    icmpv6::write_error(into, &error)
}

/// Answers a ping to one of our addresses in place; anything else ends here.
pub(super) fn take_own<I: Io>(
    mut buffer: I::Buffer,
    parsed: &Parsed,
    ctx: &mut Context<'_, I>,
) -> Verdict<I::Buffer> {
    let (network, transport, end) = (
        usize::from(parsed.network),
        usize::from(parsed.transport),
        usize::from(parsed.end),
    );
    let message = &buffer.bytes()[transport..end];
    let is_echo = match (parsed.fragment, parsed.protocol, parsed.family) {
        (Fragment::Whole, protocol::ICMP, Family::V4) => icmp::parse(message)
            .map(|message| matches!(message, IcmpMessage::Echo(echo) if !echo.is_reply)),
        (Fragment::Whole, protocol::ICMPV6, Family::V6) => {
            icmpv6::parse(message, parsed.source, parsed.destination)
                .map(|message| matches!(message, Icmpv6Message::Echo(echo) if !echo.is_reply))
        }
        _ => Ok(false),
    };
    match is_echo {
        // Options and extension headers would have to be answered in kind; no ping needs them.
        Ok(true) if transport - network == plain_header_bytes(parsed.family) => {}
        Ok(_) => return Verdict::Drop(buffer, DropReason::NotForUs),
        Err(reason) => return Verdict::Drop(buffer, reason),
    }
    let packet = &mut buffer.bytes_mut()[network..end];
    match parsed.family {
        Family::V4 => {
            icmp::reply_in_place(&mut packet[transport - network..]);
            if let Ok(mut header) = Ipv4::new(packet) {
                header.swap_addresses();
                header.set_ttl(TTL);
            }
        }
        Family::V6 => {
            icmpv6::reply_in_place(&mut packet[transport - network..]);
            if let Ok(mut header) = Ipv6::new(packet) {
                header.swap_addresses();
                header.set_hop_limit(TTL);
            }
        }
    }
    ctx.counters.count(Event::EchoAnswered);
    Verdict::Reply(buffer)
}

fn plain_header_bytes(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}
