//! One session, many guards: what this guard tells its peers of its sessions, what it takes over of
//! theirs, and what waits until a peer has explained it (seed 000, FIG. 7 and 9).
//!
//! Each session has a [`Mark`] beside it that says which of the sessions of its ports it is and
//! what the peers have been told. Records are made from the session as it stands, so that a lost
//! one is made good by the next. Who takes which record how: `apply.rs`. Packets that came before
//! their session: `waiting.rs`.

mod apply;
mod begun;
mod opened;
mod order;
mod tell;
mod waiting;

use std::collections::VecDeque;

use self::begun::BegunTable;
use self::waiting::Waiting;
use super::config::{Share, Sharing};
use super::session::State;
use super::{Guard, Lookup};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::{InterfaceId, Io};
use crate::limits::{MAX_RELEASED, MAX_UNTOLD, QUERIES_PER_SECOND, QUERY_BURST};
use crate::packet::Buffer;
use crate::replicate::ToPeers;
use crate::tcp::sequence;
use crate::verdict::Verdict;

/// What the peers have been told of a session.
mod told {
    /// The client's FIN.
    pub(super) const CLIENT_FIN: u8 = 1;
    /// The server's FIN.
    pub(super) const SERVER_FIN: u8 = 1 << 1;
    /// That the server has acknowledged the client's FIN.
    pub(super) const CLIENT_FIN_ACKED: u8 = 1 << 2;
    /// That the client has acknowledged the server's FIN.
    pub(super) const SERVER_FIN_ACKED: u8 = 1 << 3;
    /// All of these: what a session's closing has come to.
    pub(super) const CLOSING: u8 = CLIENT_FIN | SERVER_FIN | CLIENT_FIN_ACKED | SERVER_FIN_ACKED;
    /// That it is there: every peer knows.
    pub(super) const ALL: u8 = 1 << 4;
    /// That it is there: its director knows.
    pub(super) const DIRECTOR: u8 = 1 << 5;
    /// Its last change found no room: it is still to be told.
    pub(super) const OWED: u8 = 1 << 6;
}

/// How long after a change of the peers a guard may not know yet what they know.
const SETTLING_NS: u64 = 15_000_000_000;

/// How often a session that a peer opens is looked at, in times of a server's first SYN.
pub(super) const REMOTE_OPENING_LOOKS: u64 = 3;

/// In a record's flags, where a session has whose it is: only its director is told.
const DEFERRED: u8 = super::session::flag::REMOTE;

/// What stands beside a session for the peers' sake.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Which of the sessions of its ports it is.
    incarnation: u32,
    /// The session's `last_seen` that the peers know.
    told_tick: u32,
    /// The sum of both sides' initial numbers, to tell its bytes and which of two servers' answers
    /// came first; before the server has answered, the client's.
    base: u32,
    /// See [`told`].
    told: u8,
    /// When its peers are told.
    share: Share,
    /// How often its end was taken back.
    revivals: u8,
}

impl Mark {
    /// Whether only its director is told so far.
    fn is_deferred(self) -> bool {
        self.share == Share::Deferred && self.told & told::ALL == 0
    }
}

/// A guard's part in sharing.
pub(super) struct Shares<B> {
    is_on: bool,
    /// How far the site's clock, which is the fastest one of its guards', is ahead of ours.
    lead_ms: u32,
    /// The site's clock at the last look at it, in milliseconds.
    site_ms: u32,
    /// All guards of the site are there, but for those that said good-bye.
    is_whole: bool,
    /// Since when this guard may not carry sprayed traffic, as far as it may not.
    apart_since_ns: Option<u64>,
    /// Other guards that are there,
    peers: u8,
    /// and since when they are these; `None` before the first look at the clock.
    peers_since_ns: Option<u64>,
    /// By the session's place; empty when nothing is shared.
    marks: Vec<Mark>,
    untold: VecDeque<ToPeers>,
    waiting: Waiting<B>,
    /// Packets that need wait no longer, for the worker to walk again.
    released: VecDeque<(InterfaceId, B)>,
    begun: BegunTable,
    /// The packet that is handled has waited already: it is decided on now.
    is_last_chance: bool,
    queries: Bucket,
    retelling: Option<Retelling>,
    /// Some session's change found no room.
    owes: bool,
    catching_up: CatchingUp,
    /// Until when what comes may be older than what was heard of the peers.
    stale_until_ns: u64,
    /// What the rule of the segment that is handled says.
    share: Share,
}

/// A walk over all sessions, to tell them to those who came or took over.
#[derive(Clone, Copy, Debug)]
struct Retelling {
    after: Option<Id>,
    to_all: bool,
}

/// How long after it has caught up a guard may still have packets from before.
const STALE_NS: u64 = 20_000_000;

/// What is to be heard before anything new is decided: after a stall of this worker, its rings hold
/// packets whose sessions may have begun and ended elsewhere meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CatchingUp {
    /// Nothing.
    No,
    /// All that the peers know, and whoever talks to them has yet to be told so.
    Unsaid,
    /// The same; that it has been heard will be told.
    Said,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    tokens: u64,
    filled_ns: u64,
}

impl Bucket {
    fn take(&mut self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.filled_ns);
        let earned = u128::from(since_ns) * u128::from(QUERIES_PER_SECOND) / 1_000_000_000;
        if earned > 0 || self.filled_ns == 0 {
            let earned = if self.filled_ns == 0 {
                QUERY_BURST
            } else {
                u64::try_from(earned).unwrap_or(u64::MAX)
            };
            self.tokens = self.tokens.saturating_add(earned).min(QUERY_BURST);
            self.filled_ns = now_ns;
        }
        let allowed = self.tokens > 0;
        self.tokens -= u64::from(allowed);
        allowed
    }
}

impl<B> Shares<B> {
    /// For a table of `capacity` sessions.
    pub(super) fn new(sharing: Option<&Sharing>, capacity: u32, seed: [u64; 2]) -> Self {
        let is_on = sharing.is_some();
        let room = |count: usize| if is_on { count } else { 0 };
        Self {
            is_on,
            lead_ms: 0,
            site_ms: 0,
            is_whole: true,
            apart_since_ns: None,
            peers: 0,
            peers_since_ns: None,
            marks: vec![Mark::default(); room(capacity as usize)],
            untold: VecDeque::with_capacity(room(MAX_UNTOLD)),
            waiting: Waiting::new(is_on, seed),
            released: VecDeque::with_capacity(room(MAX_RELEASED)),
            begun: BegunTable::new(sharing.is_some(), seed),
            is_last_chance: false,
            queries: Bucket::default(),
            retelling: None,
            owes: false,
            catching_up: CatchingUp::No,
            stale_until_ns: 0,
            share: Share::Established,
        }
    }

    /// Packets that wait, or are to be walked again.
    pub(super) fn held(&self) -> usize {
        self.waiting.frames() + self.released.len()
    }

    /// Octets beside the session table.
    pub(super) fn memory_bytes(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>()
    }

    /// When the first packet has waited long enough.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        let has_more = self.retelling.is_some() || self.owes;
        if has_more || !self.released.is_empty() || self.catching_up == CatchingUp::Unsaid {
            return Some(0);
        }
        if self.is_catching_up() {
            return None;
        }
        self.waiting.next_deadline_ns()
    }

    /// Whether packets of unknown flows are to wait for a peer's word.
    #[inline]
    pub(super) fn may_ask(&self) -> bool {
        (self.peers > 0 || self.is_catching_up()) && !self.is_last_chance
    }

    /// Whether nothing new may be decided before the peers have been heard.
    #[inline]
    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up != CatchingUp::No
    }

    /// Whether a packet of this flow waits, and more may.
    pub(super) fn has_waiting(&self, key: &crate::guard::session::SessionKey) -> bool {
        self.may_ask() && self.waiting.has(key)
    }

    /// The site's clock, in milliseconds since 1970, modulo 2^32.
    fn site_ms(&self, unix_ms: u64) -> u32 {
        (unix_ms as u32).wrapping_add(self.lead_ms)
    }

    /// Whether sessions are shared at all.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Sets when the session that the present segment may open is shared.
    #[inline]
    pub(super) fn set_share(&mut self, share: Option<Share>, config: Option<&Sharing>) {
        if self.is_on {
            let default = config.map_or(Share::Established, |sharing| sharing.share);
            self.share = share.unwrap_or(default);
        }
    }

    /// Whether a guard that drains may still open the present session: its peers hear of it at once,
    /// and carry it when this guard has gone.
    pub(super) fn opens_for_peers(&mut self) -> bool {
        self.tell_all_at_once();
        self.peers > 0 && self.share != Share::Never
    }

    /// Has the session that the present segment opens told to all peers at once.
    pub(super) fn tell_all_at_once(&mut self) {
        if self.share == Share::Deferred {
            self.share = Share::Established;
        }
    }

    /// Whether a guard that is cut off from here, or of which nothing is known here yet, may carry
    /// sessions of this site.
    pub(super) fn may_be_ignorant(&self, now_ns: u64) -> bool {
        let settled = self
            .peers_since_ns
            .is_some_and(|since_ns| now_ns.saturating_sub(since_ns) > SETTLING_NS);
        self.is_on && !(settled && self.is_whole)
    }

    /// Whether a client's data of which nothing is known here had better go by another guard: this one
    /// is cut off, or has just come, and its handshake's ACK may have gone there. Who still gets all
    /// of a client's segments after a while is the only one. After a stall the data may be old, and
    /// its client served just now.
    pub(super) fn leaves_data_to_others(&self, now_ns: u64) -> bool {
        let is_apart = self
            .apart_since_ns
            .is_some_and(|since_ns| now_ns.saturating_sub(since_ns) < SETTLING_NS);
        is_apart || self.is_catching_up() || now_ns < self.stale_until_ns
    }

    fn push(&mut self, message: ToPeers) -> bool {
        let has_room = self.untold.len() < MAX_UNTOLD;
        if has_room {
            self.untold.push_back(message);
        }
        has_room
    }
}

impl<B: Buffer> Guard<B> {
    /// The next message for the peers.
    #[inline]
    pub fn next_to_peers(&mut self) -> Option<ToPeers> {
        self.shares.untold.pop_front()
    }

    /// The next packet that need wait no longer, with the interface that it came by. It is to be
    /// handled again, between two calls of [`Self::set_last_chance`].
    #[inline]
    pub fn next_released(&mut self) -> Option<(InterfaceId, B)> {
        self.shares.released.pop_front()
    }

    /// This worker did nothing for a while, and what came meanwhile waits in its rings.
    #[cold]
    pub fn note_stall(&mut self) {
        if self.shares.is_on {
            self.shares.catching_up = CatchingUp::Unsaid;
        }
    }

    /// Whether packets may no longer be made to wait for the peers' word.
    pub fn set_last_chance(&mut self, is_last_chance: bool) {
        self.shares.is_last_chance = is_last_chance;
    }

    /// How many other guards are there.
    pub fn peers(&self) -> u8 {
        self.shares.peers
    }

    /// Which incarnation a session is.
    pub(super) fn incarnation_of(&self, id: Id) -> Option<u32> {
        self.shares
            .marks
            .get(id.0 as usize)
            .map(|mark| mark.incarnation)
    }

    /// Marks a session that begins here; `previous` is the last one of the same ports.
    pub(super) fn begin_mark<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        previous: Option<u32>,
        ctx: &Context<'_, I>,
    ) {
        let (share, tick) = (self.shares.share, self.tick);
        let now = self.shares.site_ms(ctx.unix_ms);
        let Some(mark) = self.shares.marks.get_mut(id.0 as usize) else {
            return;
        };
        let next = previous.map_or(now, |previous| previous.wrapping_add(1));
        let session = self.sessions.get(id);
        *mark = Mark {
            incarnation: if sequence::after(next, now) {
                next
            } else {
                now
            },
            told_tick: tick,
            base: session.client_isn(),
            told: 0,
            share,
            revivals: 0,
        };
        if session.state == State::Established {
            mark.note_firsts(session);
        }
    }

    /// Notes what the sides of a session that was just spliced here began with.
    pub(super) fn note_firsts(&mut self, id: Id) {
        if let Some(mark) = self.shares.marks.get_mut(id.0 as usize) {
            mark.note_firsts(self.sessions.get(id));
        }
    }

    /// Takes the end of a session back. Peers hold it as ended, which else is the last word.
    #[cold]
    pub(super) fn revive_and_tell<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        self.revive(id, ctx);
        if let Some(mark) = self.shares.marks.get_mut(id.0 as usize) {
            mark.revivals = mark.revivals.wrapping_add(1);
            self.tell(id, ctx);
        }
    }

    /// A session whose beginning was not seen is a guess: whatever a peer knows of its ports counts more.
    pub(super) fn rank_as_guess(&mut self, id: Id) {
        if let Some(mark) = self.shares.marks.get_mut(id.0 as usize) {
            mark.incarnation = mark.incarnation.wrapping_sub(1 << 30);
        }
    }

    /// Makes a packet of a flow that is not known wait, and asks the peers for it. Gives the
    /// packet back when it may not wait.
    pub(super) fn await_peers<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        packet: B,
        ctx: &mut Context<'_, I>,
    ) -> Result<Verdict<B>, B> {
        let Some(sharing) = &self.config.sharing else {
            return Err(packet);
        };
        let deadline_ns = ctx.now_ns + sharing.hold_ns;
        let hash = self.shares.waiting.hash(&lookup.key);
        let is_first =
            self.shares
                .waiting
                .push(hash, &lookup.key, (lookup.interface, packet), deadline_ns)?;
        ctx.counters.count(Event::PeersAwaited);
        if is_first && self.shares.queries.take(ctx.now_ns) {
            let key = self.flow_key(&lookup.key);
            if self.shares.push(ToPeers::Query(key)) {
                ctx.counters.count(Event::DirectorAsked);
            }
        }
        Ok(Verdict::Hold)
    }

    /// The same for a packet that is dropped if it may not wait.
    pub(super) fn await_peers_or_drop<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        packet: B,
        reason: DropReason,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if !self.shares.may_ask() {
            return Verdict::Drop(packet, reason);
        }
        match self.await_peers(lookup, packet, ctx) {
            Ok(verdict) => verdict,
            Err(packet) => Verdict::Drop(packet, reason),
        }
    }

    /// What time alone does: packets that have waited long enough, and the walk over all sessions.
    pub(super) fn tick_shares<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) -> usize {
        if !self.shares.is_on {
            return 0;
        }
        self.shares.peers_since_ns.get_or_insert(ctx.now_ns);
        self.shares.site_ms = self.shares.site_ms(ctx.unix_ms);
        if self.shares.catching_up == CatchingUp::Unsaid && self.shares.push(ToPeers::Stalled) {
            self.shares.catching_up = CatchingUp::Said;
            ctx.counters.count(Event::StallNoticed);
        }
        self.settle_debts();
        let mut served = 0;
        while !self.shares.is_catching_up()
            && self.shares.released.len() + crate::limits::MAX_WAITING_PER_FLOW <= MAX_RELEASED
            && let Some(frames) = self.shares.waiting.pop_expired(ctx.now_ns)
        {
            ctx.counters.add(Event::PeersSilent, frames.len() as u64);
            self.shares.released.extend(frames);
            served += 1;
        }
        served + self.go_on_retelling(ctx)
    }
}
