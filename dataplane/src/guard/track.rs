//! Sessions while SYNs are let through: nothing is translated, but what is known of them keeps
//! them alive when protection goes on.

use super::Guard;
use super::config::Mode;
use super::ended::Former;
use super::session::{Session, State, flag};
use super::splice::Segment;
use super::{Direction, Lookup};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::verdict::Verdict;

impl<B: Buffer> Guard<B> {
    /// A stranger's segment while nothing is refused. A SYN begins a tracked session; what a
    /// server says of a session that was there before us makes it a tracked one too.
    pub(super) fn let_through<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = match read_passing(&packet, parsed, lookup.direction) {
            Ok(read) => read,
            Err(reason) if self.config.mode == Mode::OnFlood => {
                return Verdict::Drop(packet, reason);
            }
            Err(_) => {
                ctx.counters.count(Event::WouldRefuse);
                return Verdict::Forward(packet);
            }
        };
        let kind = read.flags & (flags::SYN | flags::ACK | flags::RST);
        match lookup.direction {
            Direction::ToServer if kind == flags::SYN => {
                ctx.counters.count(Event::WouldGuard);
                // Anybody can send it: what stands here already stays until the server has answered.
                if former.is_none() {
                    let _ = self.track(lookup, None, begun_by(lookup, &read), ctx);
                }
            }
            Direction::ToClient if kind == flags::SYN | flags::ACK => {
                let _ = self.track(lookup, former, answered_by(lookup, &read), ctx);
            }
            Direction::ToClient if kind == flags::ACK => {
                let _ = self.track(lookup, former, found_running(lookup, &read), ctx);
            }
            Direction::ToServer if self.config.mode == Mode::Monitor => {
                ctx.counters.count(Event::WouldRefuse);
            }
            _ => {}
        }
        ctx.counters.count(Event::Forwarded);
        Verdict::Forward(packet)
    }

    /// Follows a session from now on. A full table is no reason to stop its packets here: only
    /// protection will miss it.
    pub(super) fn track<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        session: Session,
        ctx: &mut Context<'_, I>,
    ) -> Option<Id> {
        let previous = former.and_then(|former| self.incarnation_of(former.id));
        if !self.replace(former, ctx) {
            return None;
        }
        let timers = self.config.timers;
        let wait_ns = match session.state {
            State::Opening => timers.half_open_ns,
            _ => timers.established_idle_ns,
        };
        let id = self.insert_tracked(lookup.hash, session)?;
        ctx.counters.count(Event::SessionTracked);
        self.begin_mark(id, previous, ctx);
        if session.state == State::Established && former.is_none() {
            self.rank_as_guess(id);
        }
        self.wheel.arm(id.0, ctx.now_ns + wait_ns);
        Some(id)
    }

    /// The server has answered another SYN than the one that a tracked session began with.
    pub(super) fn begin_tracked_anew<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        read: &Segment,
        packet: B,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let former = Former { id, is_late: false };
        let _ = self.track(lookup, Some(former), answered_by(lookup, read), ctx);
        ctx.counters.count(Event::Forwarded);
        Verdict::Forward(packet)
    }

    /// A segment of a tracked session's handshake. What the server has not borne out changes nothing.
    pub(super) fn follow_tracked<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if self.sessions.get(id).has(flag::BY_SERVER) {
            return self.follow_opened_by_server(id, lookup, packet, parsed, ctx);
        }
        let read = match read_passing(&packet, parsed, lookup.direction) {
            Ok(read) => read,
            Err(reason) if self.config.mode == Mode::OnFlood => {
                return Verdict::Drop(packet, reason);
            }
            Err(_) => {
                ctx.counters.count(Event::WouldRefuse);
                return Verdict::Forward(packet);
            }
        };
        let kind = read.flags & (flags::SYN | flags::ACK | flags::RST);
        if lookup.direction == Direction::ToServer && kind == flags::SYN {
            if !self.lets_syns_pass(lookup, parsed) {
                // Protection has gone on: its client is to prove itself as any.
                let former = Former { id, is_late: false };
                let interface = lookup.interface;
                return self.handle_stranger(lookup, Some(former), packet, parsed, interface, ctx);
            }
            self.count_syn(lookup.key.server, lookup.key.server_port, ctx);
        }
        let session = self.sessions.get_mut(id);
        let fits = read.has(flags::ACK) && read.acknowledgement == session.client_acked;
        match lookup.direction {
            Direction::ToClient if read.has(flags::RST) && fits => {
                self.tallies.failed(session);
                self.remove(id);
                ctx.counters.count(Event::SessionRefused);
            }
            Direction::ToClient if read.has(flags::SYN) && read.has(flags::ACK) => {
                if !fits {
                    return self.begin_tracked_anew(id, lookup, &read, packet, ctx);
                }
                note_answer(session, &read);
                let (server, port) = (session.server, session.server_port);
                self.tallies.answered(server, port);
            }
            Direction::ToServer
                if read.flags & (flags::ACK | flags::SYN | flags::RST) == flags::ACK
                    && is_answered(session)
                    && read.acknowledgement == session.server_next
                    && read.sequence == session.client_acked =>
            {
                self.stop_counting_half_open(id);
                let session = self.sessions.get_mut(id);
                let (from, to) = (session.state, State::Established);
                self.tallies.follow(session, Some(from), Some(to));
                session.state = to;
                session.last_seen = self.tick;
                self.note_firsts(id);
                let session = self.sessions.get_mut(id);
                session.note_client(read.end(), read.acknowledgement, read.has(flags::FIN));
                self.arm_idle(id, ctx);
                ctx.counters.count(Event::SessionOpened);
                self.tell(id, ctx);
            }
            Direction::ToServer if self.proves_itself(lookup, &read, parsed, ctx) => {
                let former = Former { id, is_late: false };
                let interface = lookup.interface;
                return self.handle_stranger(lookup, Some(former), packet, parsed, interface, ctx);
            }
            _ => {}
        }
        ctx.counters.count(Event::Forwarded);
        Verdict::Forward(packet)
    }

    /// Whether a client whose half-open session is watched has answered to a cookie since.
    fn proves_itself<I: Io<Buffer = B>>(
        &self,
        lookup: &Lookup,
        read: &Segment,
        parsed: &Parsed,
        ctx: &Context<'_, I>,
    ) -> bool {
        self.takes_cookies(lookup, parsed, ctx.now_ns)
            && self.bears_good_cookie(read, parsed, ctx.unix_s())
    }
}

/// Takes a server's SYN-ACK over. The client's scale counts only if both sides scale.
fn note_answer(session: &mut Session, read: &Segment) {
    session.server_next = read.end();
    session.server_acked = read.end();
    session.client_edge = read.acknowledgement.wrapping_add(u32::from(read.window));
    let client = session.client_scale();
    match read.options.window_scale {
        Some(server) => session.set_scales(client, server, server),
        None => session.set_scales(0, 0, 0),
    }
}

/// Whether the server of a tracked session has answered: until then its numbers differ.
fn is_answered(session: &Session) -> bool {
    session.server_next == session.server_acked
}

/// Reads a segment that nothing is refused of but a client's SYN.
fn read_passing<B: Buffer>(
    packet: &B,
    parsed: &Parsed,
    direction: Direction,
) -> Result<Segment, DropReason> {
    let is_syn = parsed.tcp_flags & (flags::SYN | flags::ACK) == flags::SYN;
    if is_syn && direction == Direction::ToServer {
        Segment::read_syn(packet.bytes(), parsed)
    } else {
        Segment::read(packet.bytes(), parsed)
    }
}

/// A tracked session that this SYN begins.
fn begun_by(lookup: &Lookup, read: &Segment) -> Session {
    let mut session = Session::opening(lookup.key, read.sequence);
    session.flags = flag::TRACKED;
    session.server_acked = session.server_next.wrapping_add(1);
    session.set_scales(read.options.window_scale.unwrap_or(0), 0, 0);
    session
}

/// A tracked session whose SYN was not followed, by its server's answer. The client's window scale is
/// unknown, so the widest is assumed.
fn answered_by(lookup: &Lookup, read: &Segment) -> Session {
    let mut session = Session::opening(lookup.key, read.acknowledgement.wrapping_sub(1));
    session.flags = flag::TRACKED;
    session.set_scales(14, 0, 0);
    note_answer(&mut session, read);
    session
}

/// A tracked session that was there before us. Its window scales are unknown, so the widest are
/// assumed.
fn found_running(lookup: &Lookup, read: &Segment) -> Session {
    let mut session = Session::opening(lookup.key, read.acknowledgement.wrapping_sub(1));
    session.flags = flag::TRACKED;
    session.state = State::Established;
    session.set_scales(14, 14, 14);
    session.server_next = read.end();
    session.server_acked = read.sequence;
    session.client_edge = read
        .acknowledgement
        .wrapping_add(u32::from(read.window) << 14);
    session
}
