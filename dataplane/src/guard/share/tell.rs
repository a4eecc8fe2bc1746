//! What the peers are told of this guard's sessions.

use super::{DEFERRED, Retelling, told};
use crate::context::Context;
use crate::counters::Event;
use crate::flow::table::Id;
use crate::guard::Guard;
use crate::guard::config::Share;
use crate::guard::cookie::{Agreed, Cookie, Tuple};
use crate::guard::session::{Session, SessionKey, State, flag};
use crate::io::Io;
use crate::limits::{PAGE_RECORDS, RETOLD_PER_LOOP};
use crate::packet::Buffer;
use crate::replicate::record::{FlowKey, Record, SERVER_FIRST_MODULUS, Stage};
use crate::replicate::{Audience, PageRequest, PeerId, ToPeers};

/// The bits of [`told`] that a session's closing has come to.
fn closing_bits(session: &Session) -> u8 {
    let client = session.has(flag::CLIENT_FIN);
    let server = session.has(flag::SERVER_FIN);
    let mut bits = 0;
    if client {
        bits |= told::CLIENT_FIN;
        if session.client_acked == session.client_next {
            bits |= told::CLIENT_FIN_ACKED;
        }
    }
    if server {
        bits |= told::SERVER_FIN;
        if session.server_acked == session.server_next {
            bits |= told::SERVER_FIN_ACKED;
        }
    }
    bits
}

impl<B: Buffer> Guard<B> {
    pub(super) fn flow_key(&self, key: &SessionKey) -> FlowKey {
        FlowKey {
            client: key.client,
            server: self.servers.get(key.server).address,
            client_port: key.client_port,
            server_port: key.server_port,
        }
    }

    /// A session as the peers are to know it.
    fn record_of(&self, id: Id, stage: Stage) -> Record {
        let session = self.sessions.get(id);
        let mark = self.shares.marks[id.0 as usize];
        let key = SessionKey {
            client: session.client,
            client_port: session.client_port,
            server_port: session.server_port,
            server: session.server,
        };
        let mut record = Record {
            key: self.flow_key(&key),
            incarnation: mark.incarnation,
            stage,
            flags: session.flags & !flag::REMOTE | if mark.is_deferred() { DEFERRED } else { 0 },
            client_scale: session.client_scale(),
            server_scale: session.server_scale(),
            told_scale: session.told_scale(),
            client_sequence: session.client_isn(),
            sequence: session.sequence_delta,
            timestamp: session.timestamp_delta,
            client_next: session.client_next,
            client_acked: session.client_acked,
            client_edge: session.client_edge,
            server_next: session.server_next,
            server_acked: session.server_acked,
            seen_ms: self.site_ms_of(session.last_seen),
            revivals: mark.revivals,
            server_first: mark.server_first(session) % SERVER_FIRST_MODULUS,
            ..Record::default()
        };
        if session.state == State::Opening
            && !session.has(flag::TRACKED)
            && let Some(pending) = self.pending.get(session.place_or_isn)
        {
            record.sequence = pending.cookie.sequence;
            record.timestamp = pending.cookie.timestamp;
            record.client_timestamp = pending.client_timestamp;
            record.client_edge = pending.client_window_bytes;
            record.agreed = pending.agreed.packed();
        }
        record
    }

    fn stage_of(&self, id: Id) -> Stage {
        let session = self.sessions.get(id);
        match session.state {
            // There is no cookie by which a peer could finish it: it only lets the answer pass.
            State::Opening if session.has(flag::TRACKED | flag::BY_SERVER) => Stage::Established,
            State::Opening => Stage::Opening,
            State::Established => Stage::Established,
            State::Closed => Stage::Closed,
        }
    }

    /// Tells those who are to know how a session stands now. Where no peer is there, it is noted for
    /// those who come; what finds no room is told as soon as there is some.
    pub(in crate::guard) fn tell<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        if !self.shares.is_on {
            return;
        }
        let stage = self.stage_of(id);
        self.tell_as(id, stage, ctx);
    }

    /// Tells that a session is over, whatever its state.
    pub(in crate::guard) fn tell_gone<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) {
        if self.shares.is_on {
            self.tell_as(id, Stage::Closed, ctx);
        }
    }

    /// Whether a session is only watched and its server has not been heard: peers would take it for one
    /// that is opened by cookie, and they watch it themselves.
    fn is_watched_half_open(&self, id: Id) -> bool {
        let session = self.sessions.get(id);
        let is_watched = session.state == State::Opening && session.has(flag::TRACKED);
        is_watched && !session.has(flag::BY_SERVER)
    }

    #[cold]
    fn tell_as<I: Io<Buffer = B>>(&mut self, id: Id, stage: Stage, ctx: &mut Context<'_, I>) {
        if self.is_watched_half_open(id) {
            return;
        }
        let mark = self.shares.marks[id.0 as usize];
        let audience = match mark.share {
            Share::Never => return,
            // Of a session that it did not open, who opened it must hear. An end is told to all: a
            // word to one alone is not repeated when it is lost.
            Share::Deferred
                if mark.is_deferred() && !self.is_remote(id) && stage != Stage::Closed =>
            {
                Audience::Director
            }
            Share::Deferred | Share::Begun | Share::Established => Audience::All,
        };
        let record = self.record_of(id, stage);
        if !self.shares.push(ToPeers::Record(record, audience)) {
            ctx.counters.count(Event::RecordPutOff);
            self.shares.marks[id.0 as usize].told |= told::OWED;
            self.shares.owes = true;
            return;
        }
        ctx.counters.count(Event::RecordTold);
        let session = self.sessions.get(id);
        let (last_seen, closing) = (session.last_seen, closing_bits(session));
        let mark = &mut self.shares.marks[id.0 as usize];
        mark.told_tick = last_seen;
        mark.told &= !told::OWED;
        mark.told |= closing
            | match audience {
                Audience::Director => told::DIRECTOR,
                _ => told::ALL,
            };
    }

    /// Tells a session that its director alone was told once more: that word may have been lost.
    pub(in crate::guard) fn repeat_to_director<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) {
        let mark = self.shares.marks.get(id.0 as usize);
        if mark.is_some_and(|mark| mark.is_deferred()) && !self.is_remote(id) {
            self.tell(id, ctx);
        }
    }

    /// A client's FIN may show that the one which was noted was forged: what the peers were told of that
    /// does not count.
    #[cold]
    pub(in crate::guard) fn correct_client_end(&mut self, id: Id, end: u32) {
        if self.shares.is_on && self.sessions.get(id).is_earlier_fin(end) {
            let mark = &mut self.shares.marks[id.0 as usize];
            mark.told &= !(told::CLIENT_FIN | told::CLIENT_FIN_ACKED);
        }
    }

    /// A closing session took a step: tells it, unless the peers know already.
    pub(in crate::guard) fn tell_closing<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) {
        if !self.shares.is_on {
            return;
        }
        let bits = closing_bits(self.sessions.get(id));
        if bits & !self.shares.marks[id.0 as usize].told != 0 {
            self.tell(id, ctx);
        }
    }

    /// Tells a handshake that has just been answered by cookie, where that is wanted.
    #[inline]
    pub(in crate::guard) fn tell_begun<I: Io<Buffer = B>>(
        &mut self,
        tuple: &Tuple,
        cookie: Cookie,
        agreed: Agreed,
        ctx: &mut Context<'_, I>,
    ) {
        if self.shares.is_on && self.shares.peers > 0 && self.shares.share == Share::Begun {
            let site_ms = self.shares.site_ms(ctx.unix_ms);
            let is_told = self.push_begun(tuple, cookie, agreed, site_ms);
            ctx.counters.count(if is_told {
                Event::RecordTold
            } else {
                Event::RecordLost
            });
        }
    }

    /// It takes no context: were one lent from the path of usual frames to a function that stands by
    /// itself, each frame's would have to be put together in memory.
    #[cold]
    fn push_begun(&mut self, tuple: &Tuple, cookie: Cookie, agreed: Agreed, site_ms: u32) -> bool {
        let record = Record {
            key: FlowKey {
                client: tuple.client,
                server: tuple.server,
                client_port: tuple.client_port,
                server_port: tuple.server_port,
            },
            incarnation: site_ms,
            stage: Stage::Begun,
            agreed: agreed.packed(),
            client_sequence: tuple.client_sequence,
            sequence: cookie.sequence,
            timestamp: cookie.timestamp,
            ..Record::default()
        };
        // A flood of SYNs must not keep sessions' own records from their peers.
        let is_crowded = self.shares.untold.len() > crate::limits::MAX_UNTOLD / 2;
        !is_crowded && self.shares.push(ToPeers::Record(record, Audience::All))
    }

    /// How long the timer of an established session may run: the peers are told now and then that
    /// it lives, and a transitory one is looked at more often.
    pub(in crate::guard) fn watch_ns(&self, id: Id, limit_ns: u64) -> u64 {
        match (&self.config.sharing, self.shares.marks.get(id.0 as usize)) {
            (Some(sharing), Some(mark)) => {
                let look_ns = if mark.is_deferred() {
                    (sharing.deferred_after_ns / 4).clamp(10_000_000, 1_000_000_000)
                } else {
                    u64::MAX
                };
                (limit_ns / 4).min(look_ns)
            }
            _ => limit_ns,
        }
    }

    /// At a live session's timer: tells the peers what they do not know yet.
    pub(in crate::guard) fn refresh<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        ctx: &mut Context<'_, I>,
    ) {
        let (Some(sharing), Some(&mark)) =
            (&self.config.sharing, self.shares.marks.get(id.0 as usize))
        else {
            return;
        };
        let session = self.sessions.get(id);
        let octets = session
            .client_next
            .wrapping_add(session.server_next)
            .wrapping_sub(mark.base);
        if mark.is_deferred() {
            // Who opened it tells all in time, unless it died.
            let (after_ns, after_bytes) = if self.is_remote(id) {
                (2 * sharing.deferred_after_ns, u32::MAX)
            } else {
                (sharing.deferred_after_ns, sharing.deferred_after_bytes)
            };
            let age_ns =
                u64::from(self.tick.wrapping_sub(mark.told_tick)) << crate::guard::TICK_SHIFT;
            if age_ns >= after_ns || octets >= after_bytes {
                self.shares.marks[id.0 as usize].told |= told::ALL;
                self.tell(id, ctx);
            }
        } else if session.last_seen != mark.told_tick || mark.told & told::ALL == 0 {
            self.tell(id, ctx);
        }
    }

    /// Answers a peer that holds a packet of this flow.
    pub(super) fn answer_query<I: Io<Buffer = B>>(
        &mut self,
        key: &FlowKey,
        asker: PeerId,
        ctx: &mut Context<'_, I>,
    ) {
        let known = self.find_flow(key);
        let Some(id) = known.filter(|&id| !self.is_watched_half_open(id)) else {
            self.shares.push(ToPeers::Unknown(*key, asker));
            return;
        };
        let mark = &mut self.shares.marks[id.0 as usize];
        // Somebody else sees packets of it: it is not transitory to one guard.
        if mark.is_deferred() {
            mark.told |= told::ALL;
            return self.tell(id, ctx);
        }
        let record = self.record_of(id, self.stage_of(id));
        if self
            .shares
            .push(ToPeers::Record(record, Audience::Peer(asker)))
        {
            ctx.counters.count(Event::RecordTold);
        } else {
            ctx.counters.count(Event::RecordLost);
        }
    }

    /// Gives a peer that was away a part of the sessions.
    pub(super) fn tell_page<I: Io<Buffer = B>>(
        &mut self,
        page: &PageRequest,
        ctx: &mut Context<'_, I>,
    ) {
        let mut after = page.first.checked_sub(1).map(Id);
        let mut next = None;
        for told in 0.. {
            let Some(id) = self.sessions.next_after(after).filter(|id| id.0 < page.end) else {
                break;
            };
            let room = crate::limits::MAX_UNTOLD - self.shares.untold.len();
            if told == PAGE_RECORDS || room <= 1 {
                next = Some(id.0);
                break;
            }
            after = Some(id);
            let is_shared = self.shares.marks[id.0 as usize].share != Share::Never;
            if is_shared && !self.is_watched_half_open(id) {
                let record = self.record_of(id, self.stage_of(id));
                self.shares
                    .push(ToPeers::Record(record, Audience::Peer(page.peer)));
                ctx.counters.count(Event::RecordTold);
            }
        }
        self.shares.push(ToPeers::PageEnd {
            peer: page.peer,
            request: page.request,
            next,
        });
    }

    /// The guards that are there have changed: what only a director knows, its successor must hear.
    pub(super) fn peers_changed(&mut self, count: u8, now_ns: u64) {
        self.shares.peers = count;
        self.shares.peers_since_ns = Some(now_ns);
        let to_all = self.shares.retelling.is_some_and(|walk| walk.to_all);
        self.shares.retelling = Some(Retelling {
            after: None,
            to_all,
        });
    }

    /// This guard is about to leave: every peer hears what only it and a director know.
    pub(in crate::guard) fn tell_all_before_leaving(&mut self) {
        if self.shares.is_on && self.shares.peers > 0 {
            self.shares.retelling = Some(Retelling {
                after: None,
                to_all: true,
            });
        }
    }

    pub(super) fn go_on_retelling<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) -> usize {
        let Some(mut walk) = self.shares.retelling else {
            return 0;
        };
        for _ in 0..RETOLD_PER_LOOP {
            let Some(id) = self.sessions.next_after(walk.after) else {
                self.shares.retelling = None;
                return 1;
            };
            walk.after = Some(id);
            let mark = self.shares.marks[id.0 as usize];
            let is_directors = mark.is_deferred()
                && !self.is_remote(id)
                && self.sessions.get(id).state != State::Closed;
            if is_directors && walk.to_all {
                self.shares.marks[id.0 as usize].told |= told::ALL;
            }
            if is_directors || mark.told & told::OWED != 0 {
                self.tell(id, ctx);
            }
        }
        self.shares.retelling = Some(walk);
        1
    }

    /// Begins a walk over all sessions when some of them had no room to be told, and there is some.
    pub(super) fn settle_debts(&mut self) {
        let has_room = self.shares.untold.len() < crate::limits::MAX_UNTOLD / 2;
        if self.shares.owes && has_room && self.shares.retelling.is_none() {
            self.shares.owes = false;
            self.shares.retelling = Some(Retelling {
                after: None,
                to_all: false,
            });
        }
    }

    /// The session of a flow, if it is known here.
    pub(super) fn find_flow(&self, key: &FlowKey) -> Option<Id> {
        let key = self.session_key(key)?;
        self.sessions.find(self.sessions.hash(&key), &key)
    }

    /// What the flow is called here, if its server is protected.
    pub(super) fn session_key(&self, key: &FlowKey) -> Option<SessionKey> {
        Some(SessionKey {
            client: key.client,
            client_port: key.client_port,
            server_port: key.server_port,
            server: self.servers.find(key.server)?,
        })
    }
}
