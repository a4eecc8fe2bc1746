//! One rule for sessions that are over, however they ended: what still belongs to them, and what
//! begins the next session of the same ports.
//!
//! A client's segment is judged in this order:
//! 1. it repeats the ended session's handshake: a late copy goes on, a new use of it is a replay;
//! 2. its cookie is good: the next session begins, whatever its numbers would fit;
//! 3. its numbers fit, and it ends where the client's bytes had ended: it is late, and goes on;
//! 4. else it is a stranger's.
//!
//! RFC 9293 §3.10.7.4 lets a SYN begin anew in TIME-WAIT. A guard must not forget at the SYN, which
//! anybody can send; the cookie's ACK, or the server's SYN-ACK where SYNs pass, plays its part.

use super::session::{Session, State, flag};
use super::splice::{Segment, check_client};
use super::{Guard, Lookup};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::tcp::sequence;
use crate::verdict::{Verdict, or_drop};

/// What stands in the table for the ports of a segment that is not that session's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    pub(super) id: Id,
    /// By its numbers the segment is a late one of it.
    pub(super) is_late: bool,
}

impl<B: Buffer> Guard<B> {
    /// A client's segment on a session that has ended.
    pub(super) fn client_after_the_end<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let mut former = Former { id, is_late: false };
        if parsed.tcp_flags & flags::SYN == 0 {
            let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
            let session = self.sessions.get(id);
            let is_own = read.sequence.wrapping_sub(1) == session.client_isn();
            // The handshake's own ACK says again what the end has long passed; a FIN that is
            // repeated may begin at the same byte, but reaches the end.
            let is_reset = read.has(flags::RST);
            let is_handshake = is_own && !is_reset && read.end() != session.client_next;
            former.is_late = !is_handshake && is_late_of_client(session, &read);
            let may_begin = !is_own && !read.has(flags::RST) && read.has(flags::ACK);
            if former.is_late && !(may_begin && self.takes_cookies(lookup, parsed, ctx.now_ns)) {
                self.note_late_reset(id, &read);
                return self.splice_late_to_server(id, read, packet, parsed, ctx);
            }
        }
        self.handle_stranger(lookup, Some(former), packet, parsed, lookup.interface, ctx)
    }

    /// A client's RST on a session that one has ended already: the last one is what the server is to
    /// believe.
    fn note_late_reset(&mut self, id: Id, read: &Segment) {
        let session = self.sessions.get_mut(id);
        let is_later = sequence::after(read.sequence, session.client_acked);
        if read.has(flags::RST) && session.has(flag::RESET) && is_later {
            session.client_acked = read.sequence;
        }
    }

    /// A server's segment on a session that has ended.
    pub(super) fn server_after_the_end<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        let session = self.sessions.get(id);
        let is_its_own = if read.has(flags::SYN) {
            acknowledges_syn_of(session, &read)
        } else {
            is_late_of_server(session, &read)
        };
        if is_its_own {
            ctx.counters.count(Event::SplicedLate);
            return self.splice_to_client(id, packet, parsed, ctx);
        }
        let former = Former { id, is_late: false };
        self.handle_stranger(lookup, Some(former), packet, parsed, lookup.interface, ctx)
    }

    /// A server's SYN on an open session: its answer once more, or its answer to another SYN.
    pub(super) fn take_server_syn<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        let session = self.sessions.get(id);
        if session.has(flag::TRACKED | flag::BY_SERVER)
            && !read.has(flags::ACK)
            && read.sequence != session.place_or_isn
        {
            // The server opens its next connection of these ports.
            let former = Former { id, is_late: false };
            return self.open_for_server(lookup, Some(former), packet, parsed, ctx);
        }
        if acknowledges_syn_of(session, &read) || !read.has(flags::ACK) {
            return self.splice_to_client(id, packet, parsed, ctx);
        }
        if session.has(flag::TRACKED) {
            return self.begin_tracked_anew(id, lookup, &read, packet, ctx);
        }
        if self.lets_syns_pass(lookup, parsed) {
            // SYNs pass, and the server has answered one: it knows nothing of this session.
            let former = Former { id, is_late: false };
            return self.handle_stranger(
                lookup,
                Some(former),
                packet,
                parsed,
                lookup.interface,
                ctx,
            );
        }
        // Another guard has begun the next session, whose record is on its way.
        self.await_peers_or_drop(lookup, packet, DropReason::ServerAnswerInvalid, ctx)
    }

    /// A client's segment that came after its session's end.
    pub(super) fn splice_late_to_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: Segment,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        ctx.counters.count(Event::SplicedLate);
        self.pass_to_server(id, &read, packet, parsed, ctx)
    }

    /// Whether an ACK of an unknown handshake may bear a cookie that counts.
    pub(super) fn takes_cookies(&self, lookup: &Lookup, parsed: &Parsed, now_ns: u64) -> bool {
        (self.is_active() || self.has_cookies_out(now_ns)) && self.guarded(lookup, parsed).is_some()
    }

    /// Whether a client's SYN reaches its server as it is.
    pub(super) fn lets_syns_pass(&self, lookup: &Lookup, parsed: &Parsed) -> bool {
        !self.is_active() || self.guarded(lookup, parsed).is_none()
    }

    /// Whether the handshake with this first number was used already, by what stands in the table
    /// for its ports or by a session that has left it.
    pub(super) fn is_spent(
        &self,
        lookup: &Lookup,
        former: Option<Former>,
        client_isn: u32,
        now_ns: u64,
    ) -> bool {
        let is_same = |former: Former| {
            let session = self.sessions.get(former.id);
            let is_watched = session.has(flag::TRACKED) && session.state == State::Opening;
            // One that is only watched, and half open, has used no cookie.
            !is_watched && session.client_isn() == client_isn
        };
        former.is_some_and(is_same) || self.spent.contains(&lookup.key, client_isn, now_ns)
    }

    /// The next session of these ports begins: what stands there goes. False if it must stay, since
    /// its handshake finds no room among those that are remembered.
    pub(super) fn replace<I: Io<Buffer = B>>(
        &mut self,
        former: Option<Former>,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        let Some(Former { id, .. }) = former else {
            return true;
        };
        let session = self.sessions.get(id);
        match session.state {
            State::Opening if !session.has(flag::TRACKED) => self.abandon_opening(id, ctx),
            State::Closed => self.forget(id, ctx),
            State::Opening | State::Established => {
                self.tell_gone(id, ctx);
                let is_gone = self.forget(id, ctx);
                ctx.counters.add(Event::SessionReplaced, u64::from(is_gone));
                is_gone
            }
        }
    }

    /// What only the rules concern: once the server has answered a SYN that passed, it knows nothing
    /// more of the session that stands here for the same ports.
    pub(super) fn make_way<I: Io<Buffer = B>>(
        &mut self,
        former: Option<Former>,
        lookup: &Lookup,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) {
        let is_answer = parsed.tcp_flags & (flags::SYN | flags::ACK) == flags::SYN | flags::ACK;
        if is_answer && lookup.direction == super::Direction::ToClient {
            let _ = self.replace(former, ctx);
        }
    }
}

/// Whether a server's SYN-ACK answers the SYN that this session began with.
pub(super) fn acknowledges_syn_of(session: &Session, read: &Segment) -> bool {
    read.has(flags::ACK) && read.acknowledgement == session.client_isn().wrapping_add(1)
}

impl Session {
    /// Whether a server's segment shows that the client's RST, which ended this session, was none to it:
    /// it has taken more than the RST's number, and so takes no RST of that number (RFC 5961 §3.2).
    /// What it sent before it heard of the RST shows nothing.
    #[inline]
    pub(super) fn disbelieves_reset(&self, read: &Segment) -> bool {
        self.state == State::Closed
            && self.has(flag::RESET)
            && read.flags & (flags::ACK | flags::RST) == flags::ACK
            && sequence::after(read.acknowledgement, self.client_acked)
    }
}

/// Whether a client's segment can be a late one of its ended session: it says nothing that lies
/// beyond the end.
fn is_late_of_client(session: &Session, read: &Segment) -> bool {
    if read.has(flags::RST) {
        // The answer to a challenge of the server's, which had not all of the client's bytes.
        let low = session
            .client_acked
            .wrapping_sub(0xffff << session.server_scale());
        return sequence::within(read.sequence, low, session.client_next);
    }
    check_client(session, read).is_ok() && !sequence::after(read.end(), session.client_next)
}

/// Whether a server's segment can belong to its ended session.
fn is_late_of_server(session: &Session, read: &Segment) -> bool {
    let window = 0xffff << session.client_scale();
    let oldest = session.server_acked.wrapping_sub(window);
    let newest = if session.has(flag::SERVER_FIN) {
        session.server_next
    } else {
        // A client's RST does not keep its server from sending on until it hears of it.
        session.server_next.wrapping_add(window)
    };
    let (low, high) = (
        session
            .client_acked
            .wrapping_sub(0xffff << session.server_scale()),
        sequence::later(session.client_next, session.client_edge),
    );
    sequence::within(read.end(), oldest, newest)
        && (!read.has(flags::ACK) || sequence::within(read.acknowledgement, low, high))
}
