//! The guard: no connection reaches a protected server before its client has proved that it
//! exists (seeds 000 and 001).
//!
//! It does no I/O. For each transit packet call [`Guard::prepare`] (and [`Guard::prefetch`] once a
//! whole burst is prepared), then [`Guard::handle`]; call [`Guard::tick`] once a loop. What it
//! makes itself goes to the context's outbox.

mod answer;
mod answered;
mod carry;
pub mod config;
pub mod cookie;
mod doubt;
mod echoes;
mod ended;
pub mod flood;
mod forms;
mod handshake;
mod icmp;
mod lifetime;
pub mod mss;
mod opening;
mod outbound;
mod pending;
mod probe;
mod queue;
pub mod server;
pub mod service;
pub mod session;
mod share;
mod spent;
mod splice;
mod tally;
#[cfg(test)]
mod tests;
mod timers;
mod track;
mod usual;
mod window;

pub use self::echoes::EchoStanding;
pub(crate) use self::icmp::quoted_tuple;
pub use self::tally::Tally;
pub(crate) use self::usual::{Side, UsualLookup, UsualVerdict};

use self::config::{Action, GuardConfig, Mode, Share};
use self::ended::Former;
use self::flood::{FloodChange, FloodMeter};
use self::forms::FormTable;
use self::pending::PendingTable;
use self::queue::Queue;
use self::server::ServerTable;
use self::session::{Session, SessionKey, State};
use self::share::Shares;
use self::spent::SpentTable;
use self::tally::Tallies;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::{Candidate, Hash, Id, Table};
use crate::flow::wheel::Wheel;
use crate::io::{InterfaceId, Io};
use crate::limits::{MAX_HALF_OPEN, MIN_SPENT, SPENT_PER_SESSION};
use crate::packet::Buffer;
use crate::parse::{Parsed, flags, protocol};
use crate::verdict::Verdict;

/// Which side a segment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client, to a protected server.
    ToServer,
    /// From a protected server.
    ToClient,
}

/// Where a packet's session is to be looked for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    hash: Hash,
    key: SessionKey,
    direction: Direction,
    interface: InterfaceId,
    candidate: Candidate,
}

/// How a guard stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardStatus {
    /// Sessions that are being opened.
    pub opening: usize,
    /// Sessions that are not yet ended, opening ones included.
    pub live: usize,
    /// All sessions in the table.
    pub sessions: usize,
    /// How many the table can hold.
    pub capacity: usize,
    /// Segments that wait for servers' answers.
    pub held: usize,
    /// Whether SYNs are answered by cookie now.
    pub is_active: bool,
    /// Whether a flood is on.
    pub is_flood: bool,
    /// SYNs for protected services a second.
    pub syns_per_s: u64,
    /// Octets of the session table, its index and its timers.
    pub memory_bytes: usize,
}

/// One worker's share of the guard.
pub struct Guard<B> {
    config: Box<GuardConfig>,
    servers: ServerTable,
    forms: FormTable,
    sessions: Table<Session>,
    wheel: Wheel,
    pending: PendingTable<B>,
    shares: Shares<B>,
    /// Ended sessions in the order in which they ended, for eviction.
    ended: Queue,
    /// What ended sessions leave behind that go early.
    spent: SpentTable,
    live: usize,
    tallies: Tallies,
    /// Half-open sessions that are only watched.
    tracked_half_open: usize,
    flood: FloodMeter,
    is_draining: bool,
    is_leaving: bool,
    /// When a SYN was last answered by cookie.
    cookie_sent_ns: Option<u64>,
    probe: probe::Schedule,
    /// What it takes to stand in a transparent wire.
    carrier: Option<Box<carry::Carrier>>,
    /// The coarse time that sessions remember: units of 2^24 ns.
    tick: u32,
}

/// Nanoseconds of one unit of a session's memory of time, as a power of two.
const TICK_SHIFT: u32 = 24;

impl<B: Buffer> Guard<B> {
    /// A guard with room for `capacity` sessions. `seed` keys the table's hash and must be secret.
    pub fn new(config: Box<GuardConfig>, capacity: u32, seed: [u64; 2]) -> Self {
        let mut servers = ServerTable::new();
        servers.install(&config.servers, 0, |_| {});
        Self {
            servers,
            forms: FormTable::new(seed[1]),
            sessions: Table::with_capacity(capacity, seed),
            wheel: Wheel::new(capacity, 0),
            pending: PendingTable::new(MAX_HALF_OPEN.min(capacity as usize), seed[0] ^ seed[1]),
            shares: Shares::new(config.sharing.as_ref(), capacity, seed),
            ended: Queue::new(capacity),
            spent: SpentTable::new(MIN_SPENT.max(capacity as usize * SPENT_PER_SESSION), seed),
            live: 0,
            tallies: Tallies::new(seed),
            tracked_half_open: 0,
            flood: FloodMeter::default(),
            is_draining: false,
            is_leaving: false,
            cookie_sent_ns: None,
            probe: probe::Schedule::default(),
            carrier: config
                .transparent
                .is_some()
                .then(|| carry::Carrier::new(u128::from(seed[1]) << 64 | u128::from(seed[0]))),
            tick: 0,
            config,
        }
    }

    /// Takes over a new configuration and leaves the old one in its place. Sessions go on. Returns how many
    /// servers are not protected, for want of a place.
    pub fn reconfigure(&mut self, config: &mut Box<GuardConfig>) -> usize {
        let carrier = &mut self.carrier;
        let refused = self.servers.install(&config.servers, self.tick, |place| {
            if let Some(carrier) = carrier {
                carrier.forget(place);
            }
        });
        let servers = &self.servers;
        let is_protected = |place, port| servers.get(place).protects(port);
        self.tallies.retain(is_protected);
        self.probe.resume();
        std::mem::swap(&mut self.config, config);
        refused
    }

    /// Whether the server at `place` keeps it, however the protected servers change now.
    pub fn keeps_place(&self, place: u16) -> bool {
        self.servers.get(place).keeps_its_place(self.tick)
    }

    /// From now on only sessions are opened that peers can carry on.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.tell_all_before_leaving();
    }

    /// From now on no session is opened: what peers are told no more is lost with this guard.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        self.drain();
    }

    /// How the guard stands.
    pub fn status(&self) -> GuardStatus {
        GuardStatus {
            opening: self.pending.len(),
            live: self.live,
            sessions: self.sessions.len(),
            capacity: self.sessions.capacity(),
            held: self.pending.held() + self.shares.held(),
            is_active: self.is_active(),
            is_flood: self.flood.is_flood(),
            syns_per_s: self.flood.rate_per_s(),
            memory_bytes: self.sessions.memory_bytes()
                + self.wheel.memory_bytes()
                + self.shares.memory_bytes()
                + self.spent.memory_bytes()
                + self.ended.memory_bytes(),
        }
    }

    /// The protected servers and what is known of them.
    pub fn servers(&self) -> &ServerTable {
        &self.servers
    }

    /// What each service that was asked for does, in numbers, with its server's place and its port.
    pub fn tallies(&self) -> impl Iterator<Item = (u16, u16, &Tally)> {
        self.tallies.iter()
    }

    /// The session after `after` in no particular order, for listings.
    pub fn next_session(&self, after: Option<Id>) -> Option<(Id, &Session)> {
        let id = self.sessions.next_after(after)?;
        Some((id, self.sessions.get(id)))
    }

    /// Whether SYNs are answered by cookie now.
    #[inline]
    pub fn is_active(&self) -> bool {
        match self.config.mode {
            Mode::Always => true,
            Mode::OnFlood => self.flood.is_flood(),
            Mode::Monitor | Mode::Off => false,
        }
    }

    /// Whether a client may still acknowledge a cookie: also for a while after protection has gone
    /// off.
    fn has_cookies_out(&self, now_ns: u64) -> bool {
        let max_age_ns = cookie::MAX_AGE_S * 1_000_000_000;
        self.cookie_sent_ns
            .is_some_and(|sent_ns| now_ns.saturating_sub(sent_ns) <= max_age_ns)
    }

    /// Where to look for the packet's session, if it can have one.
    #[inline]
    pub fn prepare(&self, parsed: &Parsed, interface: InterfaceId) -> Option<Lookup> {
        let mut lookup = None;
        self.prepare_into(parsed, interface, &mut lookup);
        lookup
    }

    /// The same, written to where the burst's facts stand.
    #[inline(always)]
    pub(crate) fn prepare_into(
        &self,
        parsed: &Parsed,
        interface: InterfaceId,
        into: &mut Option<Lookup>,
    ) {
        *into = None;
        // A guard that is off and has no session left has nothing to look for.
        let is_idle = self.config.mode == Mode::Off && self.sessions.is_empty();
        if !parsed.is_whole_tcp() || is_idle {
            return;
        }
        let (direction, client, client_port, server, server_port) =
            if self.config.outside.contains(interface) {
                let Some(server) = self.servers.find(parsed.destination) else {
                    return;
                };
                let ports = (parsed.source_port, parsed.destination_port);
                (Direction::ToServer, parsed.source, ports.0, server, ports.1)
            } else if self.config.inside.contains(interface) {
                let Some(server) = self.servers.find(parsed.source) else {
                    return;
                };
                let ports = (parsed.destination_port, parsed.source_port);
                (
                    Direction::ToClient,
                    parsed.destination,
                    ports.0,
                    server,
                    ports.1,
                )
            } else {
                return;
            };
        let key = SessionKey {
            client,
            client_port,
            server_port,
            server,
        };
        let hash = self.sessions.hash(&key);
        self.sessions.prefetch_bucket(hash);
        *into = Some(Lookup {
            hash,
            key,
            direction,
            interface,
            candidate: Candidate::UNKNOWN,
        });
    }

    /// Fetches the session's line ahead of [`Self::handle`].
    #[inline]
    pub fn prefetch(&self, lookup: &mut Lookup) {
        lookup.candidate = self.sessions.prefetch_entry(lookup.hash);
    }

    /// Decides on a transit packet.
    #[inline(always)]
    pub fn handle<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        lookup: Option<&Lookup>,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let Some(lookup) = lookup else {
            return self.handle_other(packet, parsed, interface, ctx);
        };
        let found = self
            .sessions
            .find_prefetched(lookup.candidate, lookup.hash, &lookup.key);
        let Some(id) = found else {
            return self.handle_stranger(lookup, None, packet, parsed, interface, ctx);
        };
        let session = self.sessions.get(id);
        match (session.state, lookup.direction) {
            (State::Established, Direction::ToServer) => {
                self.splice_to_server(id, lookup, packet, parsed, ctx)
            }
            (State::Established, Direction::ToClient) if parsed.tcp_flags & flags::SYN != 0 => {
                self.take_server_syn(id, lookup, packet, parsed, ctx)
            }
            (State::Established, Direction::ToClient) => {
                self.splice_to_client(id, packet, parsed, ctx)
            }
            (State::Closed, Direction::ToServer) => {
                self.client_after_the_end(id, lookup, packet, parsed, ctx)
            }
            (State::Closed, Direction::ToClient) => {
                self.server_after_the_end(id, lookup, packet, parsed, ctx)
            }
            (State::Opening, _) if session.has(session::flag::TRACKED) => {
                self.follow_tracked(id, lookup, packet, parsed, ctx)
            }
            (State::Opening, Direction::ToServer) => {
                self.wait_for_server(id, lookup, packet, parsed, ctx)
            }
            (State::Opening, Direction::ToClient) => {
                self.server_answered(id, lookup, packet, parsed, ctx)
            }
        }
    }

    /// What is no whole TCP segment to or from a protected server.
    #[inline]
    fn handle_other<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let is_icmp = matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6);
        let mut packet = packet;
        if is_icmp && self.carrier.is_some() {
            packet = match self.take_icmp(packet, parsed, interface, ctx) {
                Ok(verdict) => return verdict,
                Err(packet) => packet,
            };
        }
        if is_icmp && let Some(error) = icmp::read_error(packet.bytes(), parsed) {
            return self.translate_error(error, packet, parsed, interface, ctx);
        }
        self.by_rule(packet, parsed, interface, ctx)
    }

    /// What no session and no protected service concerns.
    #[inline]
    fn by_rule<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let action = self.config.rules.outcome(interface, parsed);
        match action {
            Action::Forward | Action::Guard | Action::GuardShared(_) => {
                ctx.counters.count(Event::Forwarded);
                Verdict::Forward(packet)
            }
            Action::Deny => Verdict::Drop(packet, DropReason::DeniedByRule),
            Action::Reject => self.reject(packet, parsed, ctx),
        }
    }

    #[cold]
    fn reject<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if !parsed.is_whole_tcp() {
            return Verdict::Reject(packet);
        }
        match splice::Segment::read(packet.bytes(), parsed) {
            Ok(read) if !read.has(flags::RST) => {
                answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx)
            }
            Ok(_) => Verdict::Drop(packet, DropReason::DeniedByRule),
            Err(reason) => Verdict::Drop(packet, reason),
        }
    }

    /// A segment to or from a protected server that belongs to no session; `former` is what stands in
    /// the table for its ports.
    fn handle_stranger<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let Some(share) = self.guarded(lookup, parsed) else {
            self.make_way(former, lookup, parsed, ctx);
            return self.by_rule(packet, parsed, interface, ctx);
        };
        self.shares.set_share(share, self.config.sharing.as_ref());
        if parsed.behind > 0 && self.is_active() {
            return Verdict::Drop(packet, DropReason::FragmentOfGuarded);
        }
        let tcp_flags = parsed.tcp_flags;
        if !flags_make_sense(tcp_flags) {
            return Verdict::Drop(packet, DropReason::BadTcpFlags);
        }
        let is_syn = tcp_flags & (flags::SYN | flags::ACK) == flags::SYN;
        if is_syn && lookup.direction == Direction::ToServer {
            self.count_syn(lookup.key.server, lookup.key.server_port, ctx);
        }
        let is_ack = tcp_flags & (flags::ACK | flags::SYN | flags::RST) == flags::ACK;
        if is_syn && lookup.direction == Direction::ToClient {
            return self.open_for_server(lookup, former, packet, parsed, ctx);
        }
        match (self.is_active(), lookup.direction) {
            (false, Direction::ToServer) if is_ack && self.has_cookies_out(ctx.now_ns) => {
                self.check_cookie(lookup, former, packet, parsed, ctx)
            }
            // It may be spliced at a guard whose record has not come.
            (false, _) if is_ack && former.is_none() && self.shares.may_ask() => {
                match self.await_peers(lookup, packet, ctx) {
                    Ok(verdict) => verdict,
                    Err(packet) => self.let_through(lookup, former, packet, parsed, ctx),
                }
            }
            (false, _) => self.let_through(lookup, former, packet, parsed, ctx),
            (true, Direction::ToClient) if self.rules_let_clients_past(parsed) => {
                self.by_rule(packet, parsed, interface, ctx)
            }
            (true, Direction::ToClient) if self.shares.may_ask() => {
                match self.await_peers(lookup, packet, ctx) {
                    Ok(verdict) => verdict,
                    Err(packet) => self.reset_server(packet, parsed, ctx),
                }
            }
            (true, Direction::ToClient) => self.reset_server(packet, parsed, ctx),
            (true, Direction::ToServer) if is_syn && self.carrier.is_some() => {
                self.carry_syn(lookup, packet, parsed, ctx)
            }
            (true, Direction::ToServer) if is_syn => {
                self.answer_syn(lookup.key.server, packet, parsed, ctx)
            }
            (true, Direction::ToServer) if tcp_flags & flags::RST != 0 => {
                let reason = DropReason::ResetWithoutSession;
                self.await_peers_or_drop(lookup, packet, reason, ctx)
            }
            (true, Direction::ToServer) if is_ack => {
                self.check_cookie(lookup, former, packet, parsed, ctx)
            }
            (true, Direction::ToServer) => Verdict::Drop(packet, DropReason::NoSession),
        }
    }

    /// How a segment's session would be shared, if rules and protected services say that it is
    /// guarded; `None` for one that only the rules concern.
    fn guarded(&self, lookup: &Lookup, parsed: &Parsed) -> Option<Option<Share>> {
        if self.config.mode == Mode::Off {
            return None;
        }
        let action = self.config.rules.outcome(lookup.interface, parsed);
        let server = self.servers.get(lookup.key.server);
        let is_protected = server.protects(lookup.key.server_port);
        match action {
            Action::Guard if is_protected => Some(None),
            Action::GuardShared(share) if is_protected => Some(Some(share)),
            _ => None,
        }
    }

    /// Whether a rule lets the client of a server's segment past the guard, so that its server's answers are
    /// to pass, too: rules are written as clients' packets look.
    #[cold]
    fn rules_let_clients_past(&self, parsed: &Parsed) -> bool {
        if self.config.rules.outcome_of_all().is_some() {
            return false;
        }
        let tcp_flags = match parsed.tcp_flags & flags::SYN {
            0 => flags::ACK,
            _ => flags::SYN,
        };
        let of_client = Parsed {
            source: parsed.destination,
            destination: parsed.source,
            source_port: parsed.destination_port,
            destination_port: parsed.source_port,
            tcp_flags,
            ..*parsed
        };
        let mut outside = self.config.outside.iter();
        outside.any(|from| self.config.rules.outcome(from, &of_client) == Action::Forward)
    }

    /// Counts a SYN for a protected service.
    #[inline(always)]
    fn count_syn<I: Io<Buffer = B>>(&mut self, place: u16, port: u16, ctx: &mut Context<'_, I>) {
        self.tallies.count_syn(place, port);
        ctx.counters.count(Event::SynReceived);
        let change = self.flood.count(ctx.now_ns, &self.config.flood);
        self.note_flood(change, ctx);
    }

    fn note_flood<I: Io<Buffer = B>>(
        &mut self,
        change: Option<FloodChange>,
        ctx: &mut Context<'_, I>,
    ) {
        match change {
            Some(FloodChange::Entered) => ctx.counters.count(Event::FloodEntered),
            Some(FloodChange::Left) => ctx.counters.count(Event::FloodLeft),
            None => {}
        }
    }
}

/// Whether a segment can begin or continue a connection: exactly one of SYN, FIN and RST at most,
/// and something at all.
fn flags_make_sense(tcp_flags: u8) -> bool {
    let kinds = tcp_flags & (flags::SYN | flags::FIN | flags::RST);
    let something = tcp_flags & (flags::SYN | flags::RST | flags::ACK) != 0;
    kinds.count_ones() <= 1 && something
}
