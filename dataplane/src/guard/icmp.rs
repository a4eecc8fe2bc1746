//! ICMP errors about a session's packets: each is mapped to the numbers of the side it goes to.

use super::session::{Session, SessionKey, State, flag};
use super::{Direction, Guard};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::echo;
use crate::io::{InterfaceId, Io};
use crate::packet::Buffer;
use crate::parse::{Fragment, Parsed, protocol};
use crate::shard::Tuple;
use crate::tcp::sequence;
use crate::verdict::Verdict;
use crate::wire::address::Family;
use crate::wire::bytes::u32_at;
use crate::wire::checksum::Update;
use crate::wire::quoted::{self, Quoted};
use crate::wire::tcp::field;
use crate::wire::{icmp, icmpv6};

/// Octets of an ICMP error before its quotation, in both families.
const ERROR_HEADER_BYTES: usize = 8;

/// An ICMP error with a quotation that may concern a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct IcmpError {
    quoted: Quoted,
    /// Where the quotation begins in the frame.
    start: usize,
    is_hard: bool,
}

/// Reads an ICMP error that quotes a TCP segment; `None` for anything else.
pub(super) fn read_error(frame: &[u8], parsed: &Parsed) -> Option<IcmpError> {
    if parsed.fragment != Fragment::Whole {
        return None;
    }
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let (kind, code) = (*message.first()?, *message.get(1)?);
    // RFC 1122 §3.2.2 and §4.2.3.9, RFC 4443 §3: what tells a sender to give up at once.
    let is_hard = match parsed.protocol {
        protocol::ICMP => match kind {
            3 => matches!(code, 2 | 3),
            4 | 11 | 12 => false,
            _ => return None,
        },
        _ => match kind {
            1 => code == 4,
            2..=4 => false,
            _ => return None,
        },
    };
    let quoted = quoted::parse(message.get(ERROR_HEADER_BYTES..)?).ok()?;
    let start = usize::from(parsed.transport) + ERROR_HEADER_BYTES;
    (quoted.protocol == protocol::TCP).then_some(IcmpError {
        quoted,
        start,
        is_hard,
    })
}

/// The tuple of the segment that an ICMP error quotes: it leads to the session's worker.
pub(crate) fn quoted_tuple(frame: &[u8], parsed: &Parsed) -> Option<Tuple> {
    let quoted = read_error(frame, parsed)?.quoted;
    Some(Tuple {
        source: quoted.source,
        destination: quoted.destination,
        source_port: quoted.source_port,
        destination_port: quoted.destination_port,
    })
}

/// Whether an ICMP error quotes an echo that carried a SYN.
pub(super) fn quotes_our_echo(frame: &[u8], parsed: &Parsed) -> bool {
    if parsed.fragment != Fragment::Whole {
        return false;
    }
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let is_error = message.first().is_some_and(|&kind| match parsed.protocol {
        protocol::ICMP => icmp::is_error(kind),
        _ => icmpv6::is_error(kind),
    });
    let quotation = message.get(ERROR_HEADER_BYTES..).filter(|_| is_error);
    quotation.is_some_and(|quotation| {
        quoted::parse(quotation).is_ok_and(|quoted| {
            let message = quotation.get(usize::from(quoted.transport)..);
            quoted.protocol == parsed.protocol
                && message.is_some_and(|message| echo::quoted_is_ours(parsed.family, message))
        })
    })
}

impl<B: Buffer> Guard<B> {
    /// Maps an error through the session of the segment it quotes.
    pub(super) fn translate_error<I: Io<Buffer = B>>(
        &mut self,
        error: IcmpError,
        mut packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let quoted = error.quoted;
        let (outside, inside) = (self.config.outside, self.config.inside);
        if !outside.contains(interface) && !inside.contains(interface) {
            return self.by_rule(packet, parsed, interface, ctx);
        }
        // The error goes where the quoted segment came from.
        let (direction, server, key) = if outside.contains(interface) {
            let ports = (quoted.destination_port, quoted.source_port);
            (
                Direction::ToServer,
                quoted.source,
                (quoted.destination, ports.0, ports.1),
            )
        } else {
            let ports = (quoted.source_port, quoted.destination_port);
            (
                Direction::ToClient,
                quoted.destination,
                (quoted.source, ports.0, ports.1),
            )
        };
        let Some(place) = self.servers.find(server) else {
            return self.by_rule(packet, parsed, interface, ctx);
        };
        let (client, client_port, server_port) = key;
        let key = SessionKey {
            client,
            client_port,
            server_port,
            server: place,
        };
        let found = self.sessions.find(self.sessions.hash(&key), &key);
        let Some(id) = found else {
            let is_protected = self.servers.get(place).protects(server_port);
            return if is_protected && self.is_active() {
                Verdict::Drop(packet, DropReason::IcmpUnmatched)
            } else {
                self.by_rule(packet, parsed, interface, ctx)
            };
        };
        let session = *self.sessions.get(id);
        if session.has(flag::TRACKED) {
            return self.by_rule(packet, parsed, interface, ctx);
        }
        if parsed.destination != quoted.source {
            // It would tell one side's numbers to whoever it is addressed to.
            return Verdict::Drop(packet, DropReason::IcmpUnmatched);
        }
        if session.state == State::Opening {
            let is_answer = direction == Direction::ToClient
                && quoted.sequence == Some(session.client_acked.wrapping_sub(1));
            if is_answer && error.is_hard {
                if !message_is_sound(packet.bytes(), parsed) {
                    return Verdict::Drop(packet, DropReason::BadTransportChecksum);
                }
                self.reset_client_of_opening(id, ctx);
                self.tell_gone(id, ctx);
                self.tallies.failed(&session);
                self.release_opening(id, DropReason::ServerRefused, ctx);
                ctx.counters.count(Event::SessionRefused);
            }
            let reason = if is_answer {
                DropReason::ServerRefused
            } else {
                DropReason::IcmpUnmatched
            };
            return Verdict::Drop(packet, reason);
        }
        if !is_in_flight(&session, direction, quoted.sequence.unwrap_or(0)) {
            // An outsider who guesses (RFC 5927 §4.1).
            return Verdict::Drop(packet, DropReason::IcmpUnmatched);
        }
        rewrite(&session, direction, &error, packet.bytes_mut(), parsed);
        ctx.counters.count(Event::IcmpTranslated);
        Verdict::Forward(packet)
    }
}

/// Whether the message's checksum holds; no NIC looks at it.
pub(super) fn message_is_sound(frame: &[u8], parsed: &Parsed) -> bool {
    let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    match parsed.family {
        Family::V4 => icmp::checksum_is_valid(message),
        Family::V6 => icmpv6::checksum_is_valid(message, parsed.source, parsed.destination),
    }
}

/// Whether the quoted number can belong to a segment that was sent and not yet acknowledged.
fn is_in_flight(session: &Session, direction: Direction, quoted: u32) -> bool {
    match direction {
        Direction::ToServer => {
            let sequence = quoted.wrapping_add(session.sequence_delta);
            sequence::within(sequence, session.server_acked, session.server_next)
        }
        Direction::ToClient => sequence::within(quoted, session.client_acked, session.client_next),
    }
}

/// Rewrites the quoted segment to the numbers of the side that sent it, as far as it is quoted.
fn rewrite(
    session: &Session,
    direction: Direction,
    error: &IcmpError,
    frame: &mut [u8],
    parsed: &Parsed,
) {
    let segment_start = error.start + usize::from(error.quoted.transport);
    let end = usize::from(parsed.end);
    let (offset, delta) = match direction {
        Direction::ToServer => (field::SEQUENCE, session.sequence_delta),
        Direction::ToClient => (
            field::ACKNOWLEDGEMENT,
            session.sequence_delta.wrapping_neg(),
        ),
    };
    let quotation = &mut frame[segment_start..end];
    if quotation.len() < offset + 4 {
        return;
    }
    // Both checksums that cover the number follow it: the quoted segment's own, where it is
    // quoted, and the message's, which covers both. Offsets within the message are even.
    let old = u32_at(quotation, offset);
    let new = old.wrapping_add(delta);
    let mut outer = Update::new().set_long(quotation, offset, new);
    if quotation.len() >= field::CHECKSUM + 2 {
        let inner =
            u16::from_be_bytes([quotation[field::CHECKSUM], quotation[field::CHECKSUM + 1]]);
        let changed = Update::new().long(old, new).apply(inner);
        outer = outer.set_word(quotation, field::CHECKSUM, changed);
    }
    let at = usize::from(parsed.transport) + 2;
    let checksum = u16::from_be_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&outer.apply(checksum).to_be_bytes());
}
