//! Sessions while SYNs are let through: nothing is translated, but what is known of them keeps
//! them alive when protection goes on.

use super::Guard;
use super::config::Mode;
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
        ended: Option<Id>,
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
        let is_syn = read.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN;
        let is_live = read.flags & (flags::SYN | flags::ACK | flags::RST) == flags::ACK;
        let session = match lookup.direction {
            Direction::ToServer if is_syn => {
                ctx.counters.count(Event::WouldGuard);
                Some(begun_by(lookup, &read))
            }
            Direction::ToClient if is_live => Some(found_running(lookup, &read)),
            Direction::ToServer if self.config.mode == Mode::Monitor => {
                ctx.counters.count(Event::WouldRefuse);
                None
            }
            _ => None,
        };
        if let Some(session) = session {
            let previous = ended.and_then(|ended| self.incarnation_of(ended));
            if let Some(ended) = ended {
                self.remove(ended);
            }
            let timers = self.config.timers;
            let wait_ns = match session.state {
                State::Opening => timers.half_open_ns,
                _ => timers.established_idle_ns,
            };
            // A full table is no reason to stop a packet here: only protection will miss it.
            if let Some(id) = self.insert(lookup.hash, session, ctx) {
                ctx.counters.count(Event::SessionTracked);
                self.begin_mark(id, previous, ctx);
                self.wheel.arm(id.0, ctx.now_ns + wait_ns);
            }
        }
        ctx.counters.count(Event::Forwarded);
        Verdict::Forward(packet)
    }

    /// A segment of a tracked session's handshake.
    pub(super) fn follow_tracked<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        direction: Direction,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = match read_passing(&packet, parsed, direction) {
            Ok(read) => read,
            Err(reason) if self.config.mode == Mode::OnFlood => {
                return Verdict::Drop(packet, reason);
            }
            Err(_) => {
                ctx.counters.count(Event::WouldRefuse);
                return Verdict::Forward(packet);
            }
        };
        let session = self.sessions.get_mut(id);
        session.last_seen = self.tick;
        let fits = read.acknowledgement == session.client_acked;
        match direction {
            Direction::ToClient if read.has(flags::RST) && fits => {
                self.remove(id);
                ctx.counters.count(Event::SessionRefused);
            }
            Direction::ToClient if read.has(flags::SYN) && read.has(flags::ACK) && fits => {
                session.server_next = read.end();
                session.server_acked = read.end();
                session.client_edge = read.acknowledgement.wrapping_add(u32::from(read.window));
                let client = session.client_scale();
                match read.options.window_scale {
                    Some(server) => session.set_scales(client, server, server),
                    None => session.set_scales(0, 0, 0),
                }
            }
            Direction::ToServer
                if read.has(flags::ACK)
                    && session.server_next != session.server_acked.wrapping_sub(1)
                    && read.acknowledgement == session.server_next
                    && read.sequence == session.client_acked =>
            {
                session.state = State::Established;
                session.note_client(read.end(), read.acknowledgement, read.has(flags::FIN));
                self.arm_idle(id, ctx);
                ctx.counters.count(Event::SessionOpened);
                self.tell(id, ctx);
            }
            _ => {}
        }
        ctx.counters.count(Event::Forwarded);
        Verdict::Forward(packet)
    }
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
    session.set_scales(read.options.window_scale.unwrap_or(0), 0, 0);
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
