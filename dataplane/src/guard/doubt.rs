//! A client's segments on an open session that its own view does not bear out.
//!
//! Where a guard is alone and active it refuses them. Where it is not active, or other guards may know
//! better, they go on to their receiver; what they say changes nothing here until something that an
//! outsider cannot make up bears it out: numbers that follow from the last ones, a good cookie, or
//! the server's own word.

use super::answer::{self, Answer};
use super::cookie::Cookie;
use super::ended::Former;
use super::handshake::tuple_of;
use super::session::flag;
use super::splice::{Refusal, Segment, is_near};
use super::{Guard, Lookup, window};
use crate::context::Context;
use crate::counters::Event;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::tcp::sequence;
use crate::verdict::Verdict;

impl<B: Buffer> Guard<B> {
    /// A client's segment on an open session that was refused, is a RST, or is out of turn.
    #[inline(never)]
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet, what was read of it, and its session"
    )]
    pub(super) fn take_doubtful<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        refusal: Option<Refusal>,
        read: &Segment,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if self.takes_answer_to_server(id, read, ctx) {
            return self.pass_to_server(id, read, packet, parsed, ctx);
        }
        let is_shared = self.shares.is_on();
        match refusal {
            None => {}
            Some(refusal) if is_shared && refusal.is_of_numbers() => {
                ctx.counters.count(Event::BeyondView);
            }
            Some(refusal) if self.is_active() => {
                return self.refuse(id, refusal, packet, parsed, ctx);
            }
            Some(_) => ctx.counters.count(Event::WouldRefuse),
        }
        if read.has(flags::RST) {
            return self.take_client_reset(id, refusal.is_none(), read, packet, parsed, ctx);
        }
        // What follows the first segment of the next session bears no cookie, but waits with it.
        let begins_anew =
            |guard: &Self, ctx: &Context<'_, I>| guard.begins_anew(id, lookup, read, parsed, ctx);
        if is_shared && (self.shares.has_waiting(&lookup.key) || begins_anew(self, ctx)) {
            packet = match self.await_next_session(id, lookup, read, packet, parsed, ctx) {
                Ok(verdict) => return verdict,
                Err(packet) => packet,
            };
        }
        if refusal.is_none() || is_shared && is_near(self.sessions.get(id), read) {
            self.note_client(id, read, ctx);
        }
        self.pass_to_server(id, read, packet, parsed, ctx)
    }

    /// A client's RST goes on. It ends the session if it bears the number that the server expects, as
    /// the server will judge it (RFC 5961 §3.2); where no other guard carries packets that this one
    /// does not see, also by the number that the client has come to. Else the server is asked whether
    /// it believed it.
    fn take_client_reset<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        is_exact: bool,
        read: &Segment,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let verdict = self.pass_to_server(id, read, packet, parsed, ctx);
        let is_shared = self.shares.is_on();
        let session = self.sessions.get_mut(id);
        let is_tracked = session.has(flag::TRACKED);
        let is_expected = read.sequence == session.client_acked;
        if is_expected || is_exact && (is_tracked || !is_shared) {
            session.flags |= flag::RESET;
            // From what the server acknowledges beyond it one can tell that it did not believe it.
            session.client_acked = read.sequence;
            self.close(id, Event::SessionReset, ctx);
        } else if !is_tracked {
            self.ask_server(id, ctx);
        }
        verdict
    }

    /// Asks the server of a session whether it still knows it, as a keepalive does (RFC 9293 §3.8.4):
    /// its RST ends the session, its ACK tells that it lives.
    fn ask_server<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let session = self.sessions.get_mut(id);
        if !session.may_challenge(ctx.now_ns) {
            return;
        }
        let question = Answer {
            sequence: session.client_acked.wrapping_sub(1),
            acknowledgement: session.server_believes_acked(),
            flags: flags::ACK,
            window: window::in_place_of_client(session),
        };
        let ends = self.ends_to_server(self.sessions.get(id));
        if answer::send(ends, &question, &answer::NO_OPTIONS, ctx) {
            ctx.counters.count(Event::ServerAsked);
        }
    }

    /// Whether a segment on a shared session proves another handshake of the same ports: another guard
    /// saw this session end, and its record has not come.
    fn begins_anew<I: Io<Buffer = B>>(
        &self,
        id: Id,
        lookup: &Lookup,
        read: &Segment,
        parsed: &Parsed,
        ctx: &Context<'_, I>,
    ) -> bool {
        let session = self.sessions.get(id);
        let isn = read.sequence.wrapping_sub(1);
        // In turn, it is this session's own.
        if read.sequence == session.client_next || isn == session.client_isn() {
            return false;
        }
        self.bears_good_cookie(read, parsed, ctx.unix_s())
            && self.takes_cookies(lookup, parsed, ctx.now_ns)
            && !self.spent.contains(&lookup.key, isn, ctx.now_ns)
    }

    /// Whether a client's segment acknowledges a cookie that we, or a guard with our keys, made for it.
    pub(super) fn bears_good_cookie(&self, read: &Segment, parsed: &Parsed, unix_s: u64) -> bool {
        let stamps = read.options.timestamps;
        let cookie = Cookie {
            sequence: read.acknowledgement.wrapping_sub(1),
            timestamp: stamps.map_or(0, |stamps| stamps.echo),
        };
        let tuple = tuple_of(parsed, read.sequence.wrapping_sub(1));
        let jar = &self.config.jar;
        read.has(flags::ACK) && jar.check(&tuple, cookie, stamps.is_some(), unix_s).is_ok()
    }

    /// Has the peers asked about a segment that begins the next session. Without their word it does, if
    /// its number comes after all of this session's: a client's numbers rise (RFC 6528), so a late
    /// copy of an earlier handshake does not.
    ///
    /// # Errors
    /// The packet, when it is to be taken for the present session's.
    fn await_next_session<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        read: &Segment,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Result<Verdict<B>, B> {
        if self.shares.may_ask() {
            packet = match self.await_peers(lookup, packet, ctx) {
                Ok(verdict) => return Ok(verdict),
                Err(packet) => packet,
            };
        }
        if !sequence::after(read.sequence, self.sessions.get(id).client_next) {
            return Err(packet);
        }
        let former = Former { id, is_late: false };
        Ok(self.handle_stranger(lookup, Some(former), packet, parsed, lookup.interface, ctx))
    }
}
