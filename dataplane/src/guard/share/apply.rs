//! What is taken over of the peers' sessions.
//!
//! Within an incarnation a session's stage only rises and its numbers only advance; a later
//! incarnation takes the place of an earlier one. So it does not matter in which order records
//! come, or how often.

use super::order::{self, Relation};
use super::{CatchingUp, DEFERRED, Mark, told};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::guard::Guard;
use crate::guard::answer::{self, Answer};
use crate::guard::config::Share;
use crate::guard::cookie::{Agreed, Cookie, Tuple};
use crate::guard::pending::{Pending, source_of};
use crate::guard::session::{Session, SessionKey, State, flag};
use crate::guard::window;
use crate::io::Io;
use crate::limits::{MAX_RELEASED, MAX_WAITING_PER_FLOW};
use crate::packet::Buffer;
use crate::parse::flags;
use crate::replicate::record::{Record, Stage};
use crate::replicate::{Audience, FromPeers, ToPeers};
use crate::tcp::sequence::{self, later};

/// What is known to have ended for so long, and is told as living, is not merely out of order.
const LONG_OVER_NS: u64 = 1_000_000_000;

impl<B: Buffer> Guard<B> {
    /// Takes notice of what a peer says.
    pub fn hear<I: Io<Buffer = B>>(&mut self, news: &FromPeers, ctx: &mut Context<'_, I>) {
        if !self.shares.is_on {
            return;
        }
        self.shares.site_ms = self.shares.site_ms(ctx.unix_ms);
        match news {
            FromPeers::Record(record, _) => self.apply(record, ctx),
            FromPeers::Query(key, asker) => self.answer_query(key, *asker, ctx),
            FromPeers::Unknown(_) => {
                // The record may still be on its way to both: the packet waits its time.
                ctx.counters.count(Event::DirectorUnaware);
            }
            FromPeers::Page(page) => self.tell_page(page, ctx),
            FromPeers::Peers(count) => self.peers_changed(*count, ctx.now_ns),
            FromPeers::Site(site) => {
                self.shares.lead_ms = site.lead_ms;
                self.shares.is_whole = site.is_whole;
                self.shares.apart_since_ns = match site.may_carry {
                    true => None,
                    false => self.shares.apart_since_ns.or(Some(ctx.now_ns)),
                };
            }
            // Another stall may have come since.
            FromPeers::CaughtUp if self.shares.catching_up == CatchingUp::Unsaid => {}
            FromPeers::CaughtUp => {
                self.shares.catching_up = CatchingUp::No;
                self.shares.stale_until_ns = ctx.now_ns + super::STALE_NS;
            }
            // The hop's.
            FromPeers::Station(..) => {}
        }
    }

    fn apply<I: Io<Buffer = B>>(&mut self, record: &Record, ctx: &mut Context<'_, I>) {
        let Some(key) = self.session_key(&record.key) else {
            ctx.counters.count(Event::RecordForeign);
            return;
        };
        if record.stage == Stage::Begun {
            return self.note_begun(record, ctx);
        }
        let found = self.sessions.find(self.sessions.hash(&key), &key);
        match found.map(|id| (id, self.relate(id, record))) {
            Some((_, Relation::Earlier)) => {
                ctx.counters.count(Event::RecordStale);
                return;
            }
            Some((id, Relation::Same)) => {
                let was_open = self.is_open(id);
                self.merge(id, record, ctx);
                if was_open && self.is_open(id) {
                    // What waits here is of the next session of its ports: not yet.
                    return;
                }
            }
            Some((id, Relation::Next)) => {
                self.make_way_for_next(id, ctx);
                self.take_in(key, record, ctx);
            }
            None => self.take_in(key, record, ctx),
        }
        self.release_waiting(&key, ctx);
    }

    fn is_open(&self, id: Id) -> bool {
        self.sessions.contains(id) && self.sessions.get(id).state == State::Established
    }

    /// A peer has begun the next session of the same ports.
    fn make_way_for_next<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let session = self.sessions.get(id);
        if session.state == State::Opening && !session.has(flag::TRACKED) {
            // A copy of its handshake must not end the next one.
            let _ = self.remember(id, ctx);
            self.release_opening(id, DropReason::SessionExpired, ctx);
        } else if !self.forget(id, ctx) {
            self.remove(id);
        }
    }

    /// A session that is not known here yet.
    fn take_in<I: Io<Buffer = B>>(
        &mut self,
        key: SessionKey,
        record: &Record,
        ctx: &mut Context<'_, I>,
    ) {
        if record.flags & flag::TRACKED == 0 {
            let (isn, now_ns) = (record.client_sequence, ctx.now_ns);
            let is_spent = self.spent.contains(&key, isn, now_ns);
            let is_short = record.flags & DEFERRED != 0 || !was_open(record);
            if is_spent && (is_short || record.stage != Stage::Closed) {
                // It has ended, and has left the table since.
                return self.tell_ended(record, ctx);
            }
            if is_short && record.stage == Stage::Closed {
                // There is nothing to be told of it but that its handshake is used.
                if self.remember_ended(key, record, ctx) {
                    ctx.counters.count(Event::RecordApplied);
                }
                return;
            }
        }
        let mut session = Session::opening(key, record.client_sequence);
        session.state = match record.stage {
            Stage::Begun | Stage::Opening => State::Opening,
            Stage::Established | Stage::Closed => State::Established,
        };
        if session.state == State::Opening && !self.pending.has_room() {
            ctx.counters.count(Event::RecordRefused);
            return;
        }
        if record.stage == Stage::Closed && self.linger_left_ns(record) == 0 {
            // Else two guards could keep the memory of it alive for each other.
            self.remember_ended(key, record, ctx);
            ctx.counters.count(Event::RecordStale);
            return;
        }
        let hash = self.sessions.hash(&key);
        let Some(id) = self.insert(hash, session, ctx) else {
            if record.stage == Stage::Closed {
                // An older record of it may come when there is room.
                self.remember_ended(key, record, ctx);
            }
            ctx.counters.count(Event::RecordRefused);
            return;
        };
        let seen = self.tick_of(record.seen_ms);
        self.sessions.get_mut(id).last_seen = seen;
        let is_deferred = record.flags & DEFERRED != 0;
        self.shares.marks[id.0 as usize] = Mark {
            incarnation: record.incarnation,
            told_tick: self.tick,
            base: order::base_of(record),
            told: if is_deferred {
                told::DIRECTOR
            } else {
                told::ALL
            },
            share: if is_deferred {
                Share::Deferred
            } else {
                Share::Established
            },
            revivals: record.revivals,
        };
        self.sessions.get_mut(id).flags |= flag::REMOTE;
        ctx.counters.count(Event::SessionLearned);
        if record.stage == Stage::Opening {
            self.take_in_opening(id, record, ctx);
        } else {
            self.splice_as_told(id, record);
            self.merge(id, record, ctx);
        }
    }

    /// Notes that the handshake of an ended session is used. Returns whether there was room for that.
    fn remember_ended<I: Io<Buffer = B>>(
        &mut self,
        key: SessionKey,
        record: &Record,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        if record.flags & flag::TRACKED != 0 {
            return false;
        }
        let has_room = self.spent.insert(&key, record.client_sequence, ctx.now_ns);
        if !has_room {
            ctx.counters.count(Event::SpentFull);
        }
        has_room
    }

    fn take_in_opening<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        record: &Record,
        ctx: &mut Context<'_, I>,
    ) {
        let pending = Pending {
            client_sequence: record.client_sequence,
            cookie: Cookie {
                sequence: record.sequence,
                timestamp: record.timestamp,
            },
            agreed: Agreed::from_packed(record.agreed),
            client_timestamp: record.client_timestamp,
            client_window_bytes: record.client_edge,
            attempts: 0,
            is_elsewhere: false,
            has_data: false,
            asked_ns: ctx.now_ns,
            held: arrayvec::ArrayVec::new(),
        };
        let source = source_of(record.key.client);
        let place = self.pending.insert(pending, source);
        self.sessions.get_mut(id).place_or_isn = place.unwrap_or(u32::MAX);
        // If whoever opens it died, and the client speaks to us, we ask its server.
        let wait_ns = super::REMOTE_OPENING_LOOKS * self.config.timers.server_syn_ns;
        self.wheel.arm(id.0, ctx.now_ns + wait_ns);
    }

    /// Fills in a session that a peer has spliced.
    pub(super) fn splice_as_told(&mut self, id: Id, record: &Record) {
        let session = self.sessions.get_mut(id);
        let (from, to) = (session.state, State::Established);
        self.tallies.follow(session, Some(from), Some(to));
        session.state = to;
        session.flags = session.flags & flag::REMOTE | record.flags & !flag::REMOTE;
        session.set_scales(record.client_scale, record.server_scale, record.told_scale);
        session.sequence_delta = record.sequence;
        session.timestamp_delta = record.timestamp;
        session.client_next = record.client_next;
        session.client_acked = record.client_acked;
        session.client_edge = record.client_edge;
        session.server_next = record.server_next;
        session.server_acked = record.server_acked;
        session.place_or_isn = record.client_sequence;
        if let Some(mark) = self.shares.marks.get_mut(id.0 as usize) {
            mark.base = order::base_of(record);
        }
    }

    /// Brings a session that is known up to what a record of it says. All guards come to the same,
    /// in whatever order records come: the last revival counts, then the furthest stage.
    fn merge<I: Io<Buffer = B>>(&mut self, id: Id, record: &Record, ctx: &mut Context<'_, I>) {
        if record.stage == Stage::Established && self.merge_opened_by_server(id, record, ctx) {
            return;
        }
        let mark = &mut self.shares.marks[id.0 as usize];
        mark.incarnation = later(mark.incarnation, record.incarnation);
        let revivals = record.revivals.wrapping_sub(mark.revivals) as i8;
        mark.revivals = mark.revivals.wrapping_add(revivals.max(0) as u8);
        let state = self.sessions.get(id).state;
        let is_tracked = self.sessions.get(id).has(flag::TRACKED);
        match (state, record.stage) {
            (State::Established | State::Closed, _) if revivals < 0 => {
                ctx.counters.count(Event::RecordStale);
            }
            (State::Closed, Stage::Established) if revivals > 0 => {
                ctx.counters.count(Event::RecordApplied);
                if disproves_reset(self.sessions.get(id), record) {
                    self.revive(id, ctx);
                    self.advance(id, record);
                    self.settle_merged(id, record, ctx);
                } else {
                    // It has ended in another way, or again since.
                    self.tell(id, ctx);
                }
            }
            (State::Closed, Stage::Opening | Stage::Established) => {
                ctx.counters.count(Event::RecordStale);
                if self.has_been_over_for(id, LONG_OVER_NS) {
                    self.tell(id, ctx);
                }
            }
            (_, Stage::Begun | Stage::Opening) => ctx.counters.count(Event::RecordStale),
            // A guard that opened it a second time has given up: that ends nothing.
            (State::Established, Stage::Closed) if !is_tracked && !was_open(record) => {
                ctx.counters.count(Event::RecordStale);
            }
            // The server knows nothing of what was opened here: it was over when it was opened again.
            (State::Established, Stage::Closed)
                if !is_tracked && self.sessions.get(id).sequence_delta != record.sequence =>
            {
                let session = *self.sessions.get(id);
                self.reset_both(&session, ctx);
                ctx.counters.count(Event::RecordApplied);
                self.settle_merged(id, record, ctx);
            }
            (State::Opening, Stage::Closed) if !is_tracked => {
                // As at a peer that had not heard of it: a copy of its handshake opens nothing.
                let _ = self.remember(id, ctx);
                if was_open(record) {
                    self.reset_server_of_opening(id, ctx);
                }
                self.release_opening(id, DropReason::ServerRefused, ctx);
                ctx.counters.count(Event::RecordApplied);
            }
            (State::Opening, Stage::Established) if !is_tracked => {
                self.finish_opening(id, record, ctx);
                ctx.counters.count(Event::RecordApplied);
            }
            // It is only watched here, and the peer has seen its handshake end.
            (State::Opening, Stage::Established) => {
                self.stop_counting_half_open(id);
                self.splice_as_told(id, record);
                ctx.counters.count(Event::RecordApplied);
                self.settle_merged(id, record, ctx);
            }
            _ => {
                self.advance(id, record);
                ctx.counters.count(Event::RecordApplied);
                self.settle_merged(id, record, ctx);
            }
        }
    }

    /// A peer has spliced a session that was opening here: what was held goes on.
    fn finish_opening<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        record: &Record,
        ctx: &mut Context<'_, I>,
    ) {
        let session = self.sessions.get(id);
        let source = source_of(session.client);
        let pending = self.pending.remove(session.place_or_isn, source);
        self.splice_as_told(id, record);
        let Some(pending) = pending else {
            return;
        };
        self.arm_idle(id, ctx);
        for mut held in pending.held {
            self.deliver_held(id, &mut held);
            ctx.route(held);
        }
        self.settle_merged(id, record, ctx);
    }

    /// Takes over what is further along in a record.
    fn advance(&mut self, id: Id, record: &Record) {
        let seen = self.tick_of(record.seen_ms);
        let session = self.sessions.get_mut(id);
        let client_acked = later(session.client_acked, record.client_acked);
        session.client_next = match client_end(session, record, client_acked) {
            Some(end) => {
                session.flags |= flag::CLIENT_FIN;
                end
            }
            None => {
                session.flags &= !flag::CLIENT_FIN;
                later(client_acked, later(session.client_next, record.client_next))
            }
        };
        session.flags |= record.flags & flag::SERVER_FIN;
        session.client_acked = client_acked;
        session.client_edge = later(session.client_edge, record.client_edge);
        session.server_next = later(session.server_next, record.server_next);
        session.server_acked = later(session.server_acked, record.server_acked);
        session.last_seen = later(session.last_seen, seen);
        let last_seen = session.last_seen;
        let mark = &mut self.shares.marks[id.0 as usize];
        mark.told_tick = last_seen;
        if record.flags & DEFERRED != 0 {
            // It was told here alone.
            return;
        }
        if mark.is_deferred() {
            // All hold it now, and of its closing only the director was told.
            mark.told &= !told::CLOSING;
        }
        mark.told |= told::ALL;
        if record.flags & flag::CLIENT_FIN != 0 {
            mark.told |= told::CLIENT_FIN;
        }
        if record.flags & flag::SERVER_FIN != 0 {
            mark.told |= told::SERVER_FIN;
        }
    }

    /// The tick of a time on the site's clock, as near as this guard's clock agrees with its peers';
    /// rounded down, so that a time which goes to and fro never becomes later.
    fn tick_of(&self, seen_ms: u32) -> u32 {
        let ago_ms = self.shares.site_ms.wrapping_sub(seen_ms);
        // A clock that runs ahead of ours, or a time that is longer ago than anything is kept.
        let ago_ms = if ago_ms > u32::MAX / 2 { 0 } else { ago_ms };
        let ago_ticks = (u64::from(ago_ms) * 1_000_000).div_ceil(1 << crate::guard::TICK_SHIFT);
        self.tick.wrapping_sub(ago_ticks as u32)
    }

    /// The time on the site's clock of a tick, rounded down.
    pub(super) fn site_ms_of(&self, tick: u32) -> u32 {
        let ago_ticks = u64::from(self.tick.wrapping_sub(tick));
        let ago_ms = (ago_ticks << crate::guard::TICK_SHIFT).div_ceil(1_000_000);
        self.shares.site_ms.wrapping_sub(ago_ms as u32)
    }

    /// Whether the last segment of a session passed so long ago.
    fn has_been_over_for(&self, id: Id, ns: u64) -> bool {
        let idle_ticks = self.tick.wrapping_sub(self.sessions.get(id).last_seen);
        u64::from(idle_ticks) << crate::guard::TICK_SHIFT >= ns
    }

    /// Answers a record of a session that has ended and left the table: nobody is to hold it as living.
    fn tell_ended<I: Io<Buffer = B>>(&mut self, record: &Record, ctx: &mut Context<'_, I>) {
        ctx.counters.count(Event::RecordStale);
        if record.stage != Stage::Established {
            return;
        }
        let ended = Record {
            stage: Stage::Closed,
            flags: record.flags & !DEFERRED,
            ..*record
        };
        let is_told = self.shares.push(ToPeers::Record(ended, Audience::All));
        ctx.counters.count(if is_told {
            Event::RecordTold
        } else {
            Event::RecordLost
        });
    }

    /// For how much longer a session that has ended is to be remembered.
    fn linger_left_ns(&self, record: &Record) -> u64 {
        let idle_ticks = self.tick.wrapping_sub(self.tick_of(record.seen_ms));
        let idle_ns = u64::from(idle_ticks) << crate::guard::TICK_SHIFT;
        self.config.timers.linger_ns.saturating_sub(idle_ns)
    }

    /// Arms or ends a session as its merged numbers say.
    pub(super) fn settle_merged<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        record: &Record,
        ctx: &mut Context<'_, I>,
    ) {
        if self.sessions.get(id).state == State::Closed {
            return;
        }
        if record.stage == Stage::Closed {
            let reset = record.flags & flag::RESET;
            self.sessions.get_mut(id).flags |= reset;
            self.end(id, Event::SessionEndedByPeer, ctx);
            let wait_ns = self.linger_left_ns(record);
            self.wheel.arm(id.0, ctx.now_ns + wait_ns);
            return;
        }
        self.arm_idle(id, ctx);
        if self.sessions.get(id).is_finished() {
            self.close(id, Event::SessionClosed, ctx);
        } else {
            self.tell_closing(id, ctx);
        }
    }

    /// Completes the server's handshake for a session whose client spoke to another guard: there
    /// is no segment of the client's here that could.
    pub(in crate::guard) fn acknowledge_server<I: Io<Buffer = B>>(
        &self,
        id: Id,
        timestamps: Option<(u32, u32)>,
        ctx: &mut Context<'_, I>,
    ) {
        let session = self.sessions.get(id);
        let acknowledgement = Answer {
            sequence: session.client_acked,
            acknowledgement: session.server_next,
            flags: flags::ACK,
            window: window::in_place_of_client(session),
        };
        let options = answer::Options {
            timestamps,
            ..answer::NO_OPTIONS
        };
        answer::send(
            self.ends_to_server(session),
            &acknowledgement,
            &options,
            ctx,
        );
    }

    fn note_begun<I: Io<Buffer = B>>(&mut self, record: &Record, ctx: &mut Context<'_, I>) {
        let tuple = Tuple {
            client: record.key.client,
            server: record.key.server,
            client_port: record.key.client_port,
            server_port: record.key.server_port,
            client_sequence: record.client_sequence,
        };
        let cookie = Cookie {
            sequence: record.sequence,
            timestamp: record.timestamp,
        };
        let agreed = Agreed::from_packed(record.agreed);
        self.shares.begun.put(tuple, cookie, agreed, ctx.now_ns);
        ctx.counters.count(Event::RecordApplied);
    }

    /// Has the packets of a flow decided on now.
    fn release_waiting<I: Io<Buffer = B>>(&mut self, key: &SessionKey, ctx: &mut Context<'_, I>) {
        if self.shares.released.len() + MAX_WAITING_PER_FLOW > MAX_RELEASED {
            // They go when they are due.
            return;
        }
        if let Some(frames) = self.shares.waiting.take(key) {
            ctx.counters.add(Event::PeersAnswered, frames.len() as u64);
            self.shares.released.extend(frames);
        }
    }

    /// Whether a peer was seen to open this session: its end is the peer's to tell.
    pub(in crate::guard) fn is_remote(&self, id: Id) -> bool {
        self.sessions.get(id).has(flag::REMOTE)
    }

    /// From now on this guard opens a session that a peer has left half open.
    pub(in crate::guard) fn take_over_opening(&mut self, id: Id) {
        self.sessions.get_mut(id).flags &= !flag::REMOTE;
    }

    /// What was agreed on in a handshake that a peer told, for a cookie that no key of ours made.
    pub(in crate::guard) fn agreed_elsewhere(
        &self,
        tuple: &Tuple,
        cookie: Cookie,
        timestamps: bool,
        now_ns: u64,
    ) -> Option<Agreed> {
        if !self.shares.is_on {
            return None;
        }
        self.shares.begun.check(tuple, cookie, timestamps, now_ns)
    }
}

/// Whether the session of a record was ever spliced: an ended one may have been given up before.
pub(super) fn was_open(record: &Record) -> bool {
    (record.server_next, record.server_acked) != (0, 0)
}

/// Whether a peer has seen the server acknowledge more than the number of the RST that ended a session.
fn disproves_reset(session: &Session, record: &Record) -> bool {
    session.has(flag::RESET) && sequence::after(record.client_acked, session.client_acked)
}

/// Where the client's bytes end, by what is known here and at a peer: the earliest FIN that the server
/// has not disproved by acknowledging more. A FIN that lies beyond the client's own is a forgery.
fn client_end(session: &Session, record: &Record, client_acked: u32) -> Option<u32> {
    let known = [
        (session.flags, session.client_next),
        (record.flags, record.client_next),
    ];
    let stands = |&(flags, end): &(u8, u32)| {
        flags & flag::CLIENT_FIN != 0 && !sequence::before(end, client_acked)
    };
    let ends = known
        .iter()
        .filter(|known| stands(known))
        .map(|&(_, end)| end);
    ends.min_by_key(|end| end.wrapping_sub(client_acked))
}
