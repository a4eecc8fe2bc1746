//! The server's side of a session while its answer is awaited: the SYN that it is sent, and what its
//! client says meanwhile.
//!
//! The client's ACK that proved it is kept, to become the ACK that the server waits for.

use super::Guard;
use super::Lookup;
use super::answer::{self, Answer, Ends, Options};
use super::cookie::{Agreed, Cookie, Tuple};
use super::ended::Former;
use super::pending::{Pending, Refused, source_of};
use super::session::{Session, State};
use super::splice::Segment;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags, parse_network};
use crate::tcp::sequence;
use crate::verdict::{Verdict, or_drop};
use crate::wire::address::Family;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

/// What a client's good cookie proved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    /// The connection.
    pub(super) tuple: Tuple,
    /// What the client was sent.
    pub(super) cookie: Cookie,
    /// What it and the guard agreed on.
    pub(super) agreed: Agreed,
    /// What stands in the table for its ports, which gives way.
    pub(super) former: Option<Former>,
}

impl<B: Buffer> Guard<B> {
    /// The client is proved: takes a place in the table, keeps its segment and sends the server a
    /// SYN with the client's own sequence number.
    pub(super) fn open_server_side<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        proof: &Proof,
        read: &Segment,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let Proof {
            tuple,
            cookie,
            agreed,
            former,
        } = *proof;
        let source = source_of(tuple.client);
        let previous = former.and_then(|former| self.incarnation_of(former.id));
        let is_opening = |former: &Former| self.sessions.get(former.id).state == State::Opening;
        // A handshake that takes the place of another one needs no place of its own.
        let mut former = former;
        if let Some(opening) = former.take_if(|former| is_opening(former))
            && !self.replace(Some(opening), ctx)
        {
            return Verdict::Drop(packet, DropReason::SessionTableFull);
        }
        match self.pending.admit(source, self.config.half_open_per_source) {
            Ok(()) => {}
            Err(Refused::Full) => return Verdict::Drop(packet, DropReason::HalfOpenLimit),
            Err(Refused::Source) => return Verdict::Drop(packet, DropReason::HalfOpenSourceLimit),
        }
        if !self.replace(former, ctx) {
            return Verdict::Drop(packet, DropReason::SessionTableFull);
        }
        let session = Session::opening(lookup.key, tuple.client_sequence);
        let Some(id) = self.insert(lookup.hash, session, ctx) else {
            return Verdict::Drop(packet, DropReason::SessionTableFull);
        };
        self.learn_from_client(
            lookup,
            tuple.client_sequence,
            packet.bytes(),
            parsed,
            ctx.now_ns,
        );
        if !cut_to_network(&mut packet, parsed, self.hops()) {
            self.remove(id);
            return Verdict::Drop(packet, DropReason::NoBuffer);
        }
        let pending = Pending {
            client_sequence: tuple.client_sequence,
            cookie,
            agreed,
            client_timestamp: read.options.timestamps.map_or(0, |stamps| stamps.value),
            client_window_bytes: u32::from(read.window) << agreed.window_scale.unwrap_or(0),
            attempts: 0,
            is_elsewhere: false,
            has_data: read.length > 0,
            asked_ns: ctx.now_ns,
            held: [packet].into_iter().collect(),
        };
        let place = self.pending.insert(pending, source);
        self.sessions.get_mut(id).place_or_isn = place.unwrap_or(u32::MAX);
        ctx.counters.count(Event::CookieAccepted);
        ctx.counters.count(Event::SegmentHeld);
        self.begin_mark(id, previous, ctx);
        self.send_server_syn(id, ctx);
        self.tell(id, ctx);
        Verdict::Hold
    }

    /// Sends the server the SYN of an opening session, and arms the timer for the next one.
    pub(super) fn send_server_syn<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let session = *self.sessions.get(id);
        let family = session.client.family();
        let largest_mss = self.largest_mss(family);
        let ends = self.ends_to_server(&session);
        let Some(pending) = self.pending.get_mut(session.place_or_isn) else {
            return;
        };
        let agreed = pending.agreed;
        let options = Options {
            mss: Some(agreed.mss(family).min(largest_mss)),
            window_scale: agreed.window_scale,
            sack_permitted: agreed.sack,
            timestamps: agreed.timestamps.then_some((pending.client_timestamp, 0)),
        };
        let syn = Answer {
            sequence: pending.client_sequence,
            acknowledgement: 0,
            flags: flags::SYN
                | if agreed.ecn {
                    flags::ECE | flags::CWR
                } else {
                    0
                },
            window: pending.client_window_bytes.min(0xffff) as u16,
        };
        let timers = &self.config.timers;
        let wait_ns =
            timers.server_syn_ns << pending.attempts.min(timers.server_syn_retries).min(8);
        let is_repeated = pending.attempts > 0;
        pending.attempts = pending.attempts.saturating_add(1);
        pending.asked_ns = ctx.now_ns;
        self.wheel.arm(id.0, ctx.now_ns + wait_ns);
        if is_repeated {
            ctx.counters.count(Event::ServerSynRetried);
            self.repeat_to_director(id, ctx);
        }
        if answer::send(ends, &syn, &options, ctx) {
            ctx.counters.count(Event::ServerSynSent);
        }
    }

    /// A client's segment while its server has not answered.
    pub(super) fn wait_for_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        if parsed.behind > 0 {
            // The rest of it could not wait with it.
            return Verdict::Drop(packet, DropReason::FragmentOfGuarded);
        }
        let session = self.sessions.get(id);
        let (place, first) = (session.place_or_isn, session.client_acked);
        if read.has(flags::SYN) {
            if read.sequence == first.wrapping_sub(1) {
                return Verdict::Drop(packet, DropReason::SynOnSession);
            }
            return self.begin_beside(id, lookup, packet, parsed, ctx);
        }
        let is_in_window = sequence::within(read.sequence, first, first.wrapping_add(0xffff));
        if read.has(flags::RST) {
            if !is_in_window {
                return Verdict::Drop(packet, DropReason::OutOfWindow);
            }
            return self.client_gave_up(id, &read, packet, ctx);
        }
        let Some(pending) = self.pending.get(place) else {
            return Verdict::Drop(packet, DropReason::NoSession);
        };
        let is_acked = read.acknowledgement == pending.cookie.sequence.wrapping_add(1);
        if !read.has(flags::ACK) || !is_in_window || !is_acked {
            let reason = if is_in_window {
                DropReason::AckOfUnsent
            } else {
                DropReason::OutOfWindow
            };
            return self.begin_beside_or_drop(id, lookup, &read, packet, parsed, reason, ctx);
        }
        let is_repeated = pending.held.iter().any(|held| {
            let known = parse_network(held.bytes()).and_then(|p| Segment::read(held.bytes(), &p));
            known.is_ok_and(|known| known.sequence == read.sequence && known.length >= read.length)
        });
        if is_repeated {
            self.client_still_waits(id, ctx);
            return Verdict::Drop(packet, DropReason::DuplicateHeld);
        }
        if let Some(pending) = self.pending.get_mut(place) {
            pending.has_data |= read.length > 0;
        }
        if !self.checksum_holds(&packet, parsed) {
            return Verdict::Drop(packet, DropReason::BadTransportChecksum);
        }
        if !cut_to_network(&mut packet, parsed, self.hops()) {
            return Verdict::Drop(packet, DropReason::NoBuffer);
        }
        match self.pending.hold(place, packet) {
            Ok(()) => {
                ctx.counters.count(Event::SegmentHeld);
                self.client_still_waits(id, ctx);
                Verdict::Hold
            }
            Err(packet) => Verdict::Drop(packet, DropReason::HoldQueueFull),
        }
    }

    /// A client speaks again some time after its server was asked. Where another guard may have opened
    /// its session, and even served it to its end, that is when the server is asked again: the session of
    /// a client that waits is not over. What lay in our rings while we stalled is no news of it.
    fn client_still_waits<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let apart_ns = self.config.timers.server_syn_ns / 4;
        let session = self.sessions.get(id);
        // However often it speaks, a silent server is asked no longer than else.
        let is_in_time = session.age_ns(self.tick) < self.asks_for_ns();
        let is_due = self.pending.get(session.place_or_isn).is_some_and(|it| {
            let since_ns = ctx.now_ns.saturating_sub(it.asked_ns);
            is_in_time && it.has_data && !it.is_elsewhere && since_ns >= apart_ns
        });
        if self.shares.is_on() && is_due && !self.shares.leaves_data_to_others(ctx.now_ns) {
            self.take_over_opening(id);
            self.send_server_syn(id, ctx);
        }
    }

    /// A client's segment that is not of the handshake whose server has not answered: the client may
    /// have begun another one. Its SYN is answered as any; its cookie, if it is good, ends the
    /// handshake before.
    fn begin_beside<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let former = Former { id, is_late: false };
        self.handle_stranger(lookup, Some(former), packet, parsed, lookup.interface, ctx)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the packet, what was read of it, and its session"
    )]
    fn begin_beside_or_drop<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        read: &Segment,
        packet: B,
        parsed: &Parsed,
        reason: DropReason,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if read.has(flags::ACK) && self.takes_cookies(lookup, parsed, ctx.now_ns) {
            self.begin_beside(id, lookup, packet, parsed, ctx)
        } else {
            Verdict::Drop(packet, reason)
        }
    }

    /// Gives a server side up whose client has begun anew: its handshake counts as used, else a copy
    /// of it could end the next one. False if there is no room to remember it.
    pub(super) fn abandon_opening<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        if !self.remember(id, ctx) {
            return false;
        }
        self.reset_server_of_opening(id, ctx);
        self.tell_gone(id, ctx);
        self.release_opening(id, DropReason::SessionExpired, ctx);
        ctx.counters.count(Event::SessionReplaced);
        true
    }

    /// A RST of the client's before the server has answered: the server's half goes too.
    fn client_gave_up<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: &Segment,
        packet: B,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let session = *self.sessions.get(id);
        if read.sequence != session.client_acked {
            let known = self.pending.get_mut(session.place_or_isn).map(|pending| {
                pending.held.iter().any(|held| {
                    let end = parse_network(held.bytes())
                        .and_then(|parsed| Segment::read(held.bytes(), &parsed))
                        .map(|held| held.end());
                    end == Ok(read.sequence)
                })
            });
            if known != Some(true) {
                return Verdict::Drop(packet, DropReason::ResetNotExact);
            }
        }
        // Its handshake is used: a copy must not open for a client that has gone.
        let _ = self.remember(id, ctx);
        self.reset_server_of_opening(id, ctx);
        self.tell_gone(id, ctx);
        self.release_opening(id, DropReason::SessionExpired, ctx);
        ctx.counters.count(Event::SessionReset);
        Verdict::Drop(packet, DropReason::SessionExpired)
    }

    /// Tells the server of an opening session that it is over.
    pub(super) fn reset_server_of_opening<I: Io<Buffer = B>>(
        &self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) {
        let session = self.sessions.get(id);
        let reset = Answer {
            sequence: session.client_acked,
            acknowledgement: 0,
            flags: flags::RST,
            window: 0,
        };
        let ends = self.ends_to_server(session);
        answer::send(ends, &reset, &answer::NO_OPTIONS, ctx);
    }

    /// Tells the client of an opening session that it is over.
    pub(super) fn reset_client_of_opening<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) {
        let session = *self.sessions.get(id);
        let Some(pending) = self.pending.get_mut(session.place_or_isn) else {
            return;
        };
        let reset = Answer {
            sequence: pending.cookie.sequence.wrapping_add(1),
            acknowledgement: session.client_acked,
            flags: flags::RST | flags::ACK,
            window: 0,
        };
        if answer::send(
            self.ends_to_client(&session),
            &reset,
            &answer::NO_OPTIONS,
            ctx,
        ) {
            ctx.counters.count(Event::ResetSent);
        }
    }

    /// Takes an opening session out; what it held is counted under `reason`.
    pub(super) fn release_opening<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        reason: DropReason,
        ctx: &mut Context<'_, I>,
    ) {
        let session = self.sessions.get(id);
        let (place, source) = (session.place_or_isn, source_of(session.client));
        if let Some(pending) = self.pending.remove(place, source) {
            for held in pending.held {
                ctx.discard(held, reason);
            }
        }
        self.remove(id);
    }

    /// How many hops older a packet gets here: none in a transparent wire.
    fn hops(&self) -> u8 {
        u8::from(self.carrier.is_none())
    }

    pub(super) fn ends_to_server(&self, session: &Session) -> Ends {
        Ends {
            source: session.client,
            destination: self.servers.get(session.server).address,
            source_port: session.client_port,
            destination_port: session.server_port,
        }
    }

    pub(super) fn ends_to_client(&self, session: &Session) -> Ends {
        Ends {
            source: self.servers.get(session.server).address,
            destination: session.client,
            source_port: session.server_port,
            destination_port: session.client_port,
        }
    }
}

/// Cuts a frame down to its IP packet, none or one of `hops` older, as the way out expects it.
fn cut_to_network<B: Buffer>(packet: &mut B, parsed: &Parsed, hops: u8) -> bool {
    if !packet.trim_front(usize::from(parsed.network)) || !packet.set_len(parsed.packet_bytes()) {
        return false;
    }
    if hops == 0 {
        return true;
    }
    let bytes = packet.bytes_mut();
    match parsed.family {
        Family::V4 => Ipv4::new(bytes)
            .map(|mut header| header.decrement_ttl())
            .is_ok(),
        Family::V6 => Ipv6::new(bytes)
            .map(|mut header| header.decrement_hop_limit())
            .is_ok(),
    }
}
