//! What time alone does to sessions.

use super::Guard;
use super::TICK_SHIFT;
use super::answer::{self, Answer};
use super::session::{OPENED_SLACK_NS, Session, State, flag};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::limits::MAX_TIMERS_PER_LOOP;
use crate::packet::Buffer;
use crate::parse::flags;

/// When a session that could not go, since its handshake found no room to be remembered, tries again.
const SPENT_RETRY_NS: u64 = 1_000_000_000;

impl<B: Buffer> Guard<B> {
    /// Takes notice of the time. To be called at the start of each loop, before packets.
    #[inline]
    pub fn set_time(&mut self, now_ns: u64) {
        self.tick = (now_ns >> TICK_SHIFT) as u32;
    }

    /// Serves the timers that are due, a bounded number of them. Returns how many there were.
    #[inline]
    pub fn tick<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) -> usize {
        let change = self.flood.turn(ctx.now_ns, &self.config.flood);
        self.note_flood(change, ctx);
        self.probe_servers(ctx);
        let (mut served, mut budget) = (self.tick_shares(ctx), MAX_TIMERS_PER_LOOP);
        // Each may send two segments. What to give up is for those who have heard their peers.
        while !self.shares.is_catching_up()
            && ctx.outbox.remaining_capacity() >= 2
            && let Some(id) = self.wheel.pop_expired(ctx.now_ns, &mut budget)
        {
            self.expire(Id(id), ctx);
            served += 1;
        }
        served
    }

    /// When [`Self::tick`] is next due, if anything waits.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        // No timer is served before the peers are heard.
        let timers = match self.shares.is_catching_up() {
            true => None,
            false => self.wheel.next_deadline_ns(),
        };
        let deadlines = [
            timers,
            self.flood.next_deadline_ns(),
            self.probe.next_deadline_ns(),
            self.shares.next_deadline_ns(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn expire<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let session = *self.sessions.get(id);
        match session.state {
            State::Opening if session.has(flag::TRACKED) => {
                self.remove(id);
                ctx.counters.count(Event::SessionIdled);
            }
            State::Opening => self.ask_again_or_give_up(id, &session, ctx),
            State::Established => self.check_idle(id, &session, ctx),
            State::Closed if self.forget(id, ctx) => {}
            State::Closed => self.linger(id, SPENT_RETRY_NS, ctx),
        }
    }

    fn ask_again_or_give_up<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        session: &Session,
        ctx: &mut Context<'_, I>,
    ) {
        if self.is_remote(id) {
            return self.keep_or_release_remote(id, session, ctx);
        }
        let (is_clients_turn, attempts) = match self.pending.get(session.place_or_isn) {
            Some(pending) => (pending.has_data || pending.is_elsewhere, pending.attempts),
            None => (false, u8::MAX),
        };
        if attempts <= self.config.timers.server_syn_retries {
            if self.shares.is_on() && is_clients_turn {
                self.wait_for_client(id, ctx);
            } else {
                self.send_server_syn(id, ctx);
            }
        } else if self.may_be_open_elsewhere(session, ctx.now_ns) {
            self.release_opening(id, DropReason::ServerSilent, ctx);
        } else {
            self.reset_client_of_opening(id, ctx);
            self.tell_gone(id, ctx);
            self.tallies.failed(session);
            self.release_opening(id, DropReason::ServerSilent, ctx);
            ctx.counters.count(Event::SessionRefused);
        }
    }

    /// Sends no SYN: another guard may have opened the session. The client's next segment tells.
    fn wait_for_client<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let place = self.sessions.get(id).place_or_isn;
        if let Some(pending) = self.pending.get_mut(place) {
            let wait_ns = self.config.timers.server_syn_ns << pending.attempts.min(8);
            pending.attempts = pending.attempts.saturating_add(1);
            self.wheel.arm(id.0, ctx.now_ns + wait_ns);
        }
    }

    /// For how long a server is asked.
    pub(super) fn asks_for_ns(&self) -> u64 {
        let timers = &self.config.timers;
        timers.server_syn_ns << (u32::from(timers.server_syn_retries) + 1).min(8)
    }

    /// Another guard asks the server: what it answers may come here as long as that guard asks.
    fn keep_or_release_remote<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        session: &Session,
        ctx: &mut Context<'_, I>,
    ) {
        if session.age_ns(self.tick) < self.asks_for_ns() + OPENED_SLACK_NS {
            let wait_ns = super::share::REMOTE_OPENING_LOOKS * self.config.timers.server_syn_ns;
            self.wheel.arm(id.0, ctx.now_ns + wait_ns);
        } else {
            self.release_opening(id, DropReason::SessionExpired, ctx);
        }
    }

    /// Whether the server may be silent because another guard has opened the session.
    fn may_be_open_elsewhere(&self, session: &Session, now_ns: u64) -> bool {
        let pending = self.pending.get(session.place_or_isn);
        pending.is_some_and(|pending| pending.is_elsewhere) || self.shares.may_be_ignorant(now_ns)
    }

    /// For how long an open session may be silent.
    pub(super) fn idle_limit_ns(&self, session: &Session) -> u64 {
        let timers = &self.config.timers;
        if session.is_unanswered() {
            timers.half_open_ns
        } else if session.is_closing() {
            timers.closing_idle_ns
        } else {
            timers.established_idle_ns
        }
    }

    fn check_idle<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        session: &Session,
        ctx: &mut Context<'_, I>,
    ) {
        // Of one that is not answered yet nobody is reminded: it would never be forgotten.
        if !session.is_unanswered() {
            self.refresh(id, ctx);
        }
        let base_ns = self.idle_limit_ns(session);
        // Whoever carries its packets tells it as often as this.
        let limit_ns = if self.shares.is_on() {
            base_ns + base_ns / 4
        } else {
            base_ns
        };
        let idle_ns = u64::from(self.tick.wrapping_sub(session.last_seen)) << TICK_SHIFT;
        // A closing session may be due earlier than its timer was armed for.
        let wait_ns = limit_ns.saturating_sub(idle_ns);
        if wait_ns > 0 {
            let wait_ns = wait_ns.min(self.watch_ns(id, base_ns));
            self.wheel.arm(id.0, ctx.now_ns + wait_ns);
            return;
        }
        if session.is_unanswered() {
            // Whoever saw the server's SYN gives up by itself.
            self.remove(id);
            ctx.counters.count(Event::SessionIdled);
            return;
        }
        if !session.has(flag::TRACKED) {
            self.reset_both(session, ctx);
        }
        self.tell_gone(id, ctx);
        if self.forget(id, ctx) {
            ctx.counters.count(Event::SessionIdled);
        } else {
            self.end(id, Event::SessionIdled, ctx);
        }
    }

    /// Frees both ends of what they held for the session.
    pub(super) fn reset_both<I: Io<Buffer = B>>(
        &self,
        session: &Session,
        ctx: &mut Context<'_, I>,
    ) {
        let to_server = Answer {
            sequence: session.client_acked,
            acknowledgement: session.server_next,
            flags: flags::RST | flags::ACK,
            window: 0,
        };
        let to_client = Answer {
            sequence: session
                .server_believes_acked()
                .wrapping_sub(session.sequence_delta),
            acknowledgement: session.client_next,
            flags: flags::RST | flags::ACK,
            window: 0,
        };
        let ends = [
            (self.ends_to_server(session), to_server),
            (self.ends_to_client(session), to_client),
        ];
        for (ends, reset) in ends {
            if answer::send(ends, &reset, &answer::NO_OPTIONS, ctx) {
                ctx.counters.count(Event::ResetSent);
            }
        }
    }
}
