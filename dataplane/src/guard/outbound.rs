//! Connections that a protected server opens itself, from a port that is protected.
//!
//! The server needs no proof. Its SYN begins a session that is only watched, and what answers it proves
//! itself by the server's own initial number, as a client proves itself by a cookie. In the session the
//! one that answers stands where a client stands.
//!
//! Guards that share are told of the SYN at once, since the answer may come by any of them: to them the
//! session is open, with nothing known yet of the side that answers.

use super::ended::Former;
use super::session::{Session, State, flag};
use super::splice::Segment;
use super::{Direction, Guard, Lookup};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::verdict::{Verdict, or_drop};

/// What the server is taken to accept until its window is seen.
const FIRST_WINDOW_BYTES: u32 = 0xffff;

impl<B: Buffer> Guard<B> {
    /// A server's SYN that belongs to no session: it goes on, and its answer will be known.
    pub(super) fn open_for_server<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        // The answer may come by any guard.
        self.shares.tell_all_at_once();
        match self.track(lookup, former, begun_by_server(lookup, &read), ctx) {
            Some(id) => self.tell(id, ctx),
            // Its answer would be a stranger's.
            None if self.is_active() => {
                return Verdict::Drop(packet, DropReason::SessionTableFull);
            }
            None => {}
        }
        ctx.counters.count(Event::ServerOpened);
        Verdict::Forward(packet)
    }

    /// A segment while the answer to a server's SYN is awaited, or the server's ACK of it.
    pub(super) fn follow_opened_by_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        let is_shared = self.shares.is_on();
        let session = self.sessions.get(id);
        let kind = read.flags & (flags::SYN | flags::ACK | flags::RST);
        match lookup.direction {
            Direction::ToClient if kind == flags::SYN && read.sequence != session.place_or_isn => {
                let former = Former { id, is_late: false };
                return self.open_for_server(lookup, Some(former), packet, parsed, ctx);
            }
            // It was lost behind us.
            Direction::ToClient if kind == flags::SYN => {}
            Direction::ToClient if read.has(flags::RST) => {
                self.tell_gone(id, ctx);
                self.remove(id);
                ctx.counters.count(Event::SessionReset);
            }
            // Where guards share, another one may have seen what it answers.
            Direction::ToClient
                if kind == flags::ACK && (is_shared || !session.is_unanswered()) =>
            {
                self.complete_for_server(id, lookup.direction, &read, ctx);
            }
            Direction::ToServer if kind == flags::SYN | flags::ACK && session.is_answer(&read) => {
                self.sessions.get_mut(id).note_answer_to_server(&read);
                self.tell(id, ctx);
            }
            // It has the server's ACK, which went by another guard or is late.
            Direction::ToServer
                if kind == flags::ACK
                    && !session.is_unanswered()
                    && session.is_answer(&read)
                    && read.sequence == session.client_next =>
            {
                self.complete_for_server(id, lookup.direction, &read, ctx);
            }
            Direction::ToServer if read.has(flags::RST) && session.is_answer(&read) => {
                self.tell_gone(id, ctx);
                self.remove(id);
                ctx.counters.count(Event::SessionRefused);
            }
            Direction::ToServer if self.is_active() => {
                return self.await_peers_or_drop(lookup, packet, DropReason::NoSession, ctx);
            }
            Direction::ToClient if self.is_active() => {
                return Verdict::Drop(packet, DropReason::ServerAnswerInvalid);
            }
            _ => {}
        }
        ctx.counters.count(Event::Forwarded);
        Verdict::Forward(packet)
    }

    /// The server has acknowledged the answer to its SYN.
    fn complete_for_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        from: Direction,
        read: &Segment,
        ctx: &mut Context<'_, I>,
    ) {
        self.stop_counting_half_open(id);
        let session = self.sessions.get_mut(id);
        session.state = State::Established;
        session.last_seen = self.tick;
        let (end, acknowledgement, fin) = (read.end(), read.acknowledgement, read.has(flags::FIN));
        match from {
            Direction::ToServer => session.note_client(end, acknowledgement, fin),
            Direction::ToClient => {
                session.note_acknowledged_answer(read);
                let window_bytes = u32::from(read.window) << session.server_scale();
                session.note_server(end, acknowledgement, window_bytes, fin);
            }
        }
        self.arm_idle(id, ctx);
        ctx.counters.count(Event::SessionOpened);
        self.tell(id, ctx);
    }

    /// Whether a segment is the answer to the SYN by which a server opened this session: perhaps once
    /// more, because the server's ACK was lost.
    pub(super) fn takes_answer_to_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: &Segment,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        let session = self.sessions.get_mut(id);
        let kind = read.flags & (flags::SYN | flags::ACK | flags::RST);
        let is_answer = session.has(flag::TRACKED | flag::BY_SERVER)
            && kind == flags::SYN | flags::ACK
            && session.is_answer(read);
        if is_answer && session.is_unanswered() {
            session.note_answer_to_server(read);
            self.tell(id, ctx);
        }
        is_answer
    }
}

/// The session that a server's SYN begins. Its initial number names the handshake.
fn begun_by_server(lookup: &Lookup, read: &Segment) -> Session {
    let mut session = Session::opening(lookup.key, read.sequence);
    session.flags = flag::TRACKED | flag::BY_SERVER;
    (session.client_next, session.client_acked) = (0, 0);
    session.server_next = read.end();
    session.server_acked = read.sequence;
    let scale = read.options.window_scale.unwrap_or(0);
    session.set_scales(0, scale, scale);
    session
}

impl Session {
    /// Whether a server has opened it, and nothing is known yet of the side that answers.
    #[inline]
    pub(super) fn is_unanswered(&self) -> bool {
        self.has(flag::TRACKED | flag::BY_SERVER)
            && (self.client_next, self.client_acked, self.client_edge) == (0, 0, 0)
    }

    /// Whether a segment acknowledges the SYN by which a server opened this session.
    fn is_answer(&self, read: &Segment) -> bool {
        let acknowledged = read.acknowledgement.wrapping_sub(self.place_or_isn);
        // A SYN may bear data, which need not be taken.
        read.has(flags::ACK) && (1..=1 << 16).contains(&acknowledged)
    }

    /// Takes the SYN-ACK over that answers a server's SYN.
    fn note_answer_to_server(&mut self, read: &Segment) {
        self.client_next = read.end();
        self.client_acked = read.end();
        self.client_edge = read.end().wrapping_add(FIRST_WINDOW_BYTES);
        self.server_acked = read.acknowledgement;
        let server = self.server_scale();
        match read.options.window_scale {
            Some(client) => self.set_scales(client, server, server),
            None => self.set_scales(0, 0, 0),
        }
    }

    /// The server acknowledges an answer that only another guard has seen: the widest scale is assumed.
    pub(super) fn note_acknowledged_answer(&mut self, read: &Segment) {
        if !self.is_unanswered() || !read.has(flags::ACK) {
            return;
        }
        self.client_next = read.acknowledgement;
        self.client_acked = read.acknowledgement;
        self.client_edge = read.acknowledgement.wrapping_add(FIRST_WINDOW_BYTES);
        self.server_acked = self.server_next;
        let server = self.server_scale();
        self.set_scales(14, server, server);
    }
}
