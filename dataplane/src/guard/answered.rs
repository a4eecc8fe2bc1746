//! The server's answer: the splice, a refusal, or a segment that answers nothing of ours.

use super::Guard;
use super::Lookup;
use super::answer::{self, Answer, Options};
use super::ended::Former;
use super::pending::{Pending, source_of};
use super::server::{Heard, Offered};
use super::session::{Session, State, flag};
use super::splice::{self, Segment};
use super::window;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags, parse_network};
use crate::verdict::{Verdict, or_drop};

/// How far a server's acknowledgement may be ahead of its client's SYN to be taken for that of the
/// same connection.
const ELSEWHERE_BYTES: u32 = 1 << 24;

impl<B: Buffer> Guard<B> {
    /// A server's segment while its answer is awaited.
    pub(super) fn server_answered<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, self.read_to_act_on(&packet, parsed));
        let session = self.sessions.get(id);
        let fits = read.has(flags::ACK) && read.acknowledgement == session.client_acked;
        match (read.has(flags::RST), fits) {
            (true, true) => self.server_refused(id, packet, parsed, ctx),
            (true, false) => Verdict::Drop(packet, DropReason::ServerAnswerInvalid),
            // Nobody would hear of it; who has begun it is answered again.
            (false, true) if read.has(flags::SYN) && self.leaves_opening_to_others(id) => {
                Verdict::Drop(packet, DropReason::LeftToOthers)
            }
            (false, true) if read.has(flags::SYN) => {
                self.open_session(id, &read, packet, parsed, ctx)
            }
            // Another guard has completed it, whose record is on its way.
            _ if self.shares.may_ask() => {
                self.await_peers_or_drop(lookup, packet, DropReason::ServerAnswerInvalid, ctx)
            }
            // SYNs pass, and the server has answered a later one.
            _ if read.has(flags::SYN) && self.lets_syns_pass(lookup, parsed) => {
                let former = Former { id, is_late: false };
                self.handle_stranger(lookup, Some(former), packet, parsed, lookup.interface, ctx)
            }
            _ if self.is_open_elsewhere(id, &read) => {
                Verdict::Drop(packet, DropReason::ServerAnswerInvalid)
            }
            // The server remembers an earlier connection of these ports: clear it, and ask again
            // soon (RFC 9293 §3.5.1).
            _ if read.has(flags::ACK) => {
                self.wheel
                    .arm(id.0, ctx.now_ns + self.config.timers.server_syn_ns / 16);
                answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx)
            }
            _ => Verdict::Drop(packet, DropReason::ServerAnswerInvalid),
        }
    }

    /// Whether a server acknowledges more of the client's than its SYN, as one does that another
    /// guard has opened: that guard's record has not come, and a RST would end what it carries. If
    /// it never comes, this opening ends in silence.
    fn is_open_elsewhere(&mut self, id: Id, read: &Segment) -> bool {
        if !self.shares.is_on() || !read.has(flags::ACK) {
            return false;
        }
        let session = self.sessions.get(id);
        let ahead = read.acknowledgement.wrapping_sub(session.client_acked);
        let is_open = ahead < ELSEWHERE_BYTES;
        if let Some(pending) = self
            .pending
            .get_mut(session.place_or_isn)
            .filter(|_| is_open)
        {
            pending.is_elsewhere = true;
        }
        is_open
    }

    /// Whether this guard leaves, and peers that stay can complete this opening: one of them began it.
    fn leaves_opening_to_others(&self, id: Id) -> bool {
        self.is_leaving && self.peers() > 0 && self.is_remote(id)
    }

    /// The server's SYN-ACK: splices, and delivers what was held. Its first segment is the
    /// client's ACK, which completes the server's handshake.
    fn open_session<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: &Segment,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let session = *self.sessions.get(id);
        let Some(agreed) = self
            .pending
            .get_mut(session.place_or_isn)
            .map(|pending| pending.agreed)
        else {
            return Verdict::Drop(packet, DropReason::ServerAnswerInvalid);
        };
        let offered = Offered {
            window_scale: agreed.window_scale.is_some(),
            sack: agreed.sack,
            timestamps: agreed.timestamps,
            ecn: agreed.ecn,
        };
        let ecn = read.flags & (flags::ECE | flags::CWR) == flags::ECE;
        let (server, port) = (session.server, session.server_port);
        let told_window = self.servers.traits(server, port).window;
        let heard = Heard {
            offered,
            options: &read.options,
            window: read.window,
            ecn,
        };
        self.learn(server, port, &heard, ctx);
        if agreed.timestamps && read.options.timestamps.is_none() {
            // The client will drop segments without timestamps, and the server sends none.
            self.reset_client_of_opening(id, ctx);
            self.tell_gone(id, ctx);
            self.release_opening(id, DropReason::SessionMismatch, ctx);
            ctx.counters.count(Event::SessionRefused);
            return answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx);
        }
        let source = source_of(session.client);
        let Some(pending) = self.pending.remove(session.place_or_isn, source) else {
            return Verdict::Drop(packet, DropReason::ServerAnswerInvalid);
        };
        let session = self.sessions.get_mut(id);
        let from = session.state;
        splice_of(session, &pending, read, told_window);
        self.tallies
            .follow(session, Some(from), Some(session.state));
        session.last_seen = self.tick;
        let place = session.server;
        self.note_firsts(id);
        ctx.counters.count(Event::SessionOpened);
        self.learn_from_server(place, packet.bytes(), parsed);
        self.arm_idle(id, ctx);
        if pending.held.is_empty() {
            let timestamps = read
                .options
                .timestamps
                .map(|stamps| (pending.client_timestamp, stamps.value));
            self.acknowledge_server(id, timestamps, ctx);
        }
        for mut held in pending.held {
            self.deliver_held(id, &mut held);
            ctx.route(held);
        }
        self.tell(id, ctx);
        drop(packet);
        ctx.counters.count(Event::Consumed);
        Verdict::Hold
    }

    pub(super) fn deliver_held(&mut self, id: Id, held: &mut B) {
        let session = self.sessions.get_mut(id);
        // It was read once already when it came.
        let Ok(parsed) = parse_network(held.bytes()) else {
            return;
        };
        let Ok(read) = Segment::read(held.bytes(), &parsed) else {
            return;
        };
        let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
        session.note_client(read.end(), acknowledgement, read.has(flags::FIN));
        splice::to_server(
            session,
            &mut held.bytes_mut()[usize::from(parsed.transport)..],
            &read,
        );
    }

    /// The server's RST goes on to the client in the client's own numbers.
    fn server_refused<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let _ = parsed;
        self.reset_client_of_opening(id, ctx);
        self.tell_gone(id, ctx);
        self.tallies.failed(self.sessions.get(id));
        self.release_opening(id, DropReason::ServerRefused, ctx);
        ctx.counters.count(Event::SessionRefused);
        Verdict::Drop(packet, DropReason::ServerRefused)
    }

    /// A SYN-ACK on a live session: our ACK was lost, so it is given again.
    pub(super) fn answer_repeated_syn_ack(
        &mut self,
        id: Id,
        read: &Segment,
        packet: B,
        parsed: &Parsed,
    ) -> Verdict<B> {
        let session = self.sessions.get(id);
        if !read.has(flags::ACK) {
            return Verdict::Drop(packet, DropReason::SynOnSession);
        }
        let options = match read.options.timestamps {
            Some(stamps) => Options {
                timestamps: Some((stamps.echo, stamps.value)),
                ..answer::NO_OPTIONS
            },
            None => answer::NO_OPTIONS,
        };
        let answer = Answer {
            sequence: session.client_next,
            acknowledgement: session.server_acked,
            flags: flags::ACK,
            window: window::in_place_of_client(session),
        };
        answer::reply(packet, parsed, &answer, &options)
    }

    /// A stranger's segment from a protected server's port: there is no client for it.
    pub(super) fn reset_server<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, self.read_to_act_on(&packet, parsed));
        if read.has(flags::RST) {
            return Verdict::Drop(packet, DropReason::ResetWithoutSession);
        }
        if self.shares.is_on() {
            // A guard that is cut off from here may carry it.
            return Verdict::Drop(packet, DropReason::NoSession);
        }
        answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx)
    }
}

/// Fills in an opening session from the server's SYN-ACK. The cookie's may have offered more.
fn splice_of<B>(session: &mut Session, pending: &Pending<B>, read: &Segment, told_window: u16) {
    let agreed = pending.agreed;
    let server_first = read.sequence.wrapping_add(1);
    session.state = State::Established;
    session.place_or_isn = pending.client_sequence;
    session.sequence_delta = read.sequence.wrapping_sub(pending.cookie.sequence);
    session.server_next = server_first;
    session.server_acked = server_first;
    let window = told_window.max(read.window);
    session.client_edge = session.client_acked.wrapping_add(u32::from(window));
    if let Some(stamps) = read.options.timestamps.filter(|_| agreed.timestamps) {
        session.timestamp_delta = stamps.value.wrapping_sub(pending.cookie.timestamp);
        session.flags |= flag::TIMESTAMPS;
    }
    if agreed.sack && !read.options.sack_permitted {
        session.flags |= flag::BLANK_SACK;
    }
    let server_scale = read
        .options
        .window_scale
        .filter(|_| agreed.window_scale.is_some());
    if agreed.window_scale.is_some() && server_scale.is_none() {
        session.flags |= flag::SERVER_UNSCALED;
    }
    session.set_scales(
        agreed.window_scale.unwrap_or(0),
        server_scale.unwrap_or(0),
        agreed.told_scale.unwrap_or(0),
    );
}
