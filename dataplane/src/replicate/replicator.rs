//! The protocol between guards, without its sockets.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::bucket::Bucket;
use super::catch_up::CatchUp;
use super::config::{MAX_PAYLOAD_BYTES, ReplicatorConfig};
use super::director::Directors;
use super::keys::{FrameKey, Keys, ReplicationKey};
use super::peer::{MAX_DIRECTED, Peer};
use super::record::{FlowKey, Record};
use super::resync::Resync;
use super::send::Outgoing;
use super::site::SiteView;
use super::standing::Standing;
use super::status::{PeerEvent, PeerState, PeerStatus};
use super::stream::Stream;
use super::tally::{Tallies, Tally};
use super::{Audience, FromPeers, PeerId, ToPeers};
use crate::limits::{MAX_WORKERS, PEER_NEWS};
use crate::shard::{Shard, Tuple};
use crate::wire::address::Address;
use crate::worker::Time;

/// Events that wait for the log.
const MAX_EVENTS: usize = 1_024;
/// Unknown lives a second that keys are derived for, and how many at once.
const DERIVATIONS: (u64, u64) = (200, 32);
/// How often the log hears that another appliance has our number.
const NUMBER_TAKEN_NS: u64 = 10_000_000_000;
/// Parts of tables and repeated batches go out so many frames at a time; then it is live traffic's
/// turn again.
pub(super) const BULK_FRAMES: u32 = 32;
/// Greetings are no closer than this, whatever there is to tell.
pub(super) const HELLO_SPACING_NS: u64 = 5_000_000;

/// What stands between an appliance's workers and those of its peers: it turns [`ToPeers`] into
/// UDP payloads and these into [`FromPeers`].
///
/// Give it what came ([`Self::receive`]), what the workers say ([`Self::take`]), and the time when
/// the deadline is over ([`Self::tick`]). After one or many of these, take out what it has:
/// [`Self::next_datagram`], [`Self::next_news`] and [`Self::next_event`], each until `None`, and
/// ask for [`Self::next_deadline_ns`] again. It keeps no clock: it takes all times as they are
/// handed to it. All that it keeps is bounded, and what finds no room is counted and made up for:
/// by repair, by a resync, or by who asked asking again.
pub struct Replicator {
    pub(super) config: ReplicatorConfig,
    pub(super) now: Time,
    ticked_ns: u64,
    pub(super) shard: Shard,
    pub(super) keys: Keys,
    /// The key that seals now.
    pub(super) sealing: Option<FrameKey>,
    /// The number of the last frame sealed in this life.
    pub(super) frame_number: u64,
    pub(super) stream: Stream,
    pub(super) peers: Vec<Peer>,
    /// Where in `peers` each number stands.
    places: [u8; 256],
    pub(super) directors: Directors,
    /// We know what the others know.
    pub(super) in_step: bool,
    pub(super) standing: Standing,
    pub(super) resync: Resync,
    pub(super) site: SiteView,
    pub(super) catch_up: CatchUp,
    pub(super) outgoing: Outgoing,
    /// A frame being opened.
    pub(super) scratch: Vec<u8>,
    news: VecDeque<(u8, FromPeers)>,
    /// How many workers know how many peers there are.
    workers_told: usize,
    alive: u8,
    events: VecDeque<PeerEvent>,
    pub(super) tallies: Tallies,
    pub(super) derivations: Bucket,
    queries: Bucket,
    pub(super) number_taken: Bucket,
}

const NOWHERE: u8 = u8::MAX;

impl Replicator {
    /// Begins a life at `now`; takes all the memory that it will need.
    pub fn new(mut config: ReplicatorConfig, now: Time) -> Self {
        config.workers = config.workers.clamp(1, MAX_WORKERS);
        config.peers = config.valid_peers();
        let peers: Vec<_> = config
            .peers
            .iter()
            .map(|peer| Peer::new(peer, now.now_ns))
            .collect();
        let mut places = [NOWHERE; 256];
        for (place, peer) in peers.iter().enumerate() {
            places[usize::from(peer.id.0)] = place as u8;
        }
        let mut replicator = Self {
            now,
            ticked_ns: now.now_ns,
            shard: config
                .shard
                .take()
                .unwrap_or_else(|| Shard::new(config.workers)),
            keys: Keys::new(&config.keys),
            sealing: None,
            frame_number: 0,
            stream: Stream::new(config.history_batches, config.records_per_batch()),
            peers,
            places,
            directors: Directors::default(),
            in_step: false,
            standing: Standing::default(),
            resync: Resync::new(now.now_ns, &config),
            site: SiteView::new(config.peers.is_empty()),
            catch_up: CatchUp::new(),
            outgoing: Outgoing::new(now.now_ns),
            scratch: Vec::with_capacity(MAX_PAYLOAD_BYTES),
            news: VecDeque::with_capacity(PEER_NEWS),
            workers_told: config.workers,
            alive: 0,
            events: VecDeque::with_capacity(MAX_EVENTS),
            tallies: Tallies::default(),
            derivations: Bucket::new(DERIVATIONS.0, DERIVATIONS.1),
            queries: Bucket::new(
                config.queries_per_second,
                config.queries_per_second / 20 + 1,
            ),
            number_taken: Bucket::every(NUMBER_TAKEN_NS),
            config,
        };
        replicator.choose_key();
        replicator.review();
        replicator
    }

    /// Takes what a worker says.
    pub fn take(&mut self, now: Time, worker: usize, message: ToPeers) {
        self.pass_time(now);
        match message {
            ToPeers::Record(record, Audience::All) => {
                self.stream.push(&record, now.now_ns);
                self.tallies.count(Tally::RecordSent);
            }
            ToPeers::Record(record, Audience::Director) => self.tell_director(&record),
            ToPeers::Record(record, Audience::Peer(peer)) => self.tell(worker, &record, peer),
            ToPeers::Stalled => self.note_stalled(worker),
            ToPeers::Query(flow) => self.ask_director(&flow),
            ToPeers::Unknown(flow, peer) => self.tell_unknown(flow, peer),
            ToPeers::PageEnd {
                peer,
                request,
                next,
            } => {
                if let Some(place) = self.place_of(peer)
                    && self.peers[place].served.end(worker, request, next)
                {
                    self.tallies.count(Tally::PageServed);
                }
            }
        }
    }

    fn tell_director(&mut self, record: &Record) {
        match self.directors.of(&record.key).0 {
            Some(director) if director == self.config.id => {
                self.tallies.count(Tally::RecordToSelf);
            }
            Some(director) => self.tell_record(record, director),
            None => self.tallies.count(Tally::RecordUnsent),
        }
    }

    /// A record for one peer: a part of what it fetches, or an answer.
    fn tell(&mut self, worker: usize, record: &Record, peer: PeerId) {
        let Some(place) = self.place_of(peer) else {
            return self.tallies.count(Tally::RecordUnsent);
        };
        if self.peers[place].served.take(worker, record) {
            self.tallies.count(Tally::RecordTold);
        } else {
            self.tell_record(record, peer);
        }
    }

    fn tell_record(&mut self, record: &Record, peer: PeerId) {
        let told = self.alive_peer(peer).is_some_and(|peer| {
            let has_room = peer.told.len() < MAX_DIRECTED;
            if has_room {
                peer.told.push_back(*record);
            }
            has_room
        });
        self.tallies.count(if told {
            Tally::RecordTold
        } else {
            Tally::RecordUnsent
        });
    }

    /// The director is asked. When that is ourselves, whoever would be it without us is: it was the
    /// director before we came, and may know what has not reached us; but it cannot say with
    /// authority that the flow is unknown, so then the packet waits as long as its worker lets it.
    fn ask_director(&mut self, flow: &FlowKey) {
        let asked = match self.directors.of(flow) {
            (Some(first), second) if first == self.config.id => second,
            (first, _) => first,
        };
        let Some(asked) = asked else {
            return self.tallies.count(Tally::QueryUnsent);
        };
        if !self.queries.take(self.now.now_ns) {
            return self.tallies.count(Tally::QueryLimited);
        }
        let sent = self.alive_peer(asked).is_some_and(|peer| {
            let has_room = peer.queries.len() < MAX_DIRECTED;
            if has_room {
                peer.queries.push_back(*flow);
            }
            has_room
        });
        self.tallies.count(if sent {
            Tally::QuerySent
        } else {
            Tally::QueryUnsent
        });
    }

    /// While we lack something ourselves, what we do not know is not unknown.
    fn tell_unknown(&mut self, flow: FlowKey, peer: PeerId) {
        if !self.in_step {
            return;
        }
        let told = self.alive_peer(peer).is_some_and(|peer| {
            let has_room = peer.unknown.len() < MAX_DIRECTED;
            if has_room {
                peer.unknown.push_back(flow);
            }
            has_room
        });
        if told {
            self.tallies.count(Tally::UnknownSent);
        }
    }

    /// Does what is due: keys change, peers die, greetings and requests go out.
    pub fn tick(&mut self, now: Time) {
        self.pass_time(now);
        self.ticked_ns = self.now.now_ns;
        self.choose_key();
        self.outgoing.tick();
        self.tick_resync();
        self.review();
        self.review_catch_up();
    }

    /// When [`Self::tick`] is to be called, on the clock of [`Time::now_ns`]; `None` only without
    /// any peer.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if self.peers.is_empty() {
            return None;
        }
        let tick_ns = self.ticked_ns.saturating_add(self.config.hello_ns);
        let mut deadline_ns = self.outgoing.hello_at_ns().min(tick_ns);
        for peer in &self.peers {
            if peer.state.is_alive() {
                let dies_ns = peer.current.as_ref().map_or(u64::MAX, |life| {
                    life.heard_ns.saturating_add(self.config.dead_ns)
                });
                let ask_ns = peer.gaps.ask_at_ns().unwrap_or(u64::MAX);
                deadline_ns = deadline_ns.min(dies_ns).min(ask_ns);
                if peer.has_bulk() {
                    deadline_ns = deadline_ns.min(self.now.now_ns);
                }
            }
        }
        let resync_ns = self.resync.deadline_ns().unwrap_or(u64::MAX);
        Some(deadline_ns.min(resync_ns))
    }

    /// What a worker is to hear: which worker, and what.
    pub fn next_news(&mut self) -> Option<(usize, FromPeers)> {
        if let Some(news) = self.next_site_news() {
            return Some(news);
        }
        if self.workers_told < self.config.workers {
            self.workers_told += 1;
            return Some((self.workers_told - 1, FromPeers::Peers(self.alive)));
        }
        let (worker, news) = self.news.pop_front()?;
        Some((usize::from(worker), news))
    }

    /// What the log is to hear.
    pub fn next_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// Every peer, in the order of the configuration.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(|peer| self.status_of(peer)).collect()
    }

    fn status_of(&self, peer: &Peer) -> PeerStatus {
        let now_ns = self.now.now_ns;
        let (lag_batches, lag_ns) = self.lag_of(peer);
        PeerStatus {
            id: peer.id,
            state: peer.state,
            state_ns: now_ns.saturating_sub(peer.state_since_ns),
            boot: peer.current.as_ref().map(|life| life.boot),
            heard_ns: peer
                .current
                .as_ref()
                .map(|life| now_ns.saturating_sub(life.heard_ns)),
            lag_batches,
            lag_us: lag_ns / 1_000,
            missing_batches: peer.gaps.missing(),
            records_received: peer.records_received,
            gaps_asked: peer.gaps_asked,
            resyncs: peer.resyncs,
            is_resyncing: self.resync.source() == Some(peer.id),
            workers: peer.current.as_ref().map_or(0, |life| life.hello.workers),
        }
    }

    /// Whether we know what the others know.
    pub fn is_in_step(&self) -> bool {
        self.in_step
    }

    /// What was counted.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// News that wait for [`Self::next_news`].
    pub fn news_waiting(&self) -> usize {
        self.news.len() + (self.config.workers - self.workers_told) + self.site_news_waiting()
    }

    /// Takes other keys; what was sealed under one that is among them no longer is refused.
    pub fn reconfigure(&mut self, now: Time, keys: &[ReplicationKey]) {
        self.pass_time(now);
        self.keys = Keys::new(keys);
        self.config.keys = keys.to_vec();
        self.sealing = None;
        for peer in &mut self.peers {
            let lives = peer.current.iter_mut().chain(&mut peer.candidate);
            lives.for_each(|life| life.forget_keys());
        }
        self.choose_key();
    }

    /// Says good-bye once the peers have heard all that was told, or after half a second. The replicator
    /// is to be served until [`Self::has_left`].
    pub fn leave(&mut self) {
        self.outgoing.leave(self.now.now_ns);
    }

    /// Whether it has said good-bye, after [`Self::leave`].
    pub fn has_left(&self) -> bool {
        self.outgoing.has_left()
    }

    /// After a stall of ours, that nothing was heard in the meantime says nothing of the peers.
    pub(super) fn pass_time(&mut self, now: Time) {
        let stall_ns = now.now_ns.saturating_sub(self.now.now_ns);
        if stall_ns > self.config.hello_ns * 2 {
            for peer in &mut self.peers {
                if let Some(life) = &mut peer.current {
                    life.heard_ns = (life.heard_ns + stall_ns).min(now.now_ns);
                }
            }
        }
        self.now = Time {
            now_ns: now.now_ns.max(self.now.now_ns),
            ..now
        };
    }

    fn choose_key(&mut self) {
        let place = self.keys.sealing(self.now.unix_s());
        let name = place.map(|place| self.keys.name(place));
        if name != self.sealing.as_ref().map(|key| key.epoch) {
            self.sealing =
                place.map(|place| self.keys.derive(place, self.config.id, self.config.boot));
        }
    }

    pub(super) fn place_of(&self, peer: PeerId) -> Option<usize> {
        let place = self.places[usize::from(peer.0)];
        (place != NOWHERE).then_some(usize::from(place))
    }

    fn alive_peer(&mut self, peer: PeerId) -> Option<&mut Peer> {
        let place = self.place_of(peer)?;
        Some(&mut self.peers[place]).filter(|peer| peer.state.is_alive())
    }

    /// The worker that a flow belongs to.
    pub(super) fn worker_of(&self, flow: &FlowKey) -> u8 {
        let tuple = Tuple {
            source: flow.client,
            destination: flow.server,
            source_port: flow.client_port,
            destination_port: flow.server_port,
        };
        self.shard.worker_of_tuple(&tuple).0
    }

    /// How many news find room.
    pub(super) fn news_room(&self) -> usize {
        PEER_NEWS - self.news.len()
    }

    /// Adds news; the caller has seen that there is room.
    #[inline]
    pub(super) fn push_news(&mut self, worker: u8, news: FromPeers) {
        self.news.push_back((worker, news));
    }

    pub(super) fn push_event(&mut self, event: PeerEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.tallies.count(Tally::EventLost);
        }
    }

    pub(super) fn number_is_taken(&mut self, source: Address) {
        if self.number_taken.take(self.now.now_ns) {
            self.push_event(PeerEvent::NumberTaken { source });
        }
    }

    /// Batches of ours that the peer has not applied, and the age of the oldest in nanoseconds.
    fn lag_of(&self, peer: &Peer) -> (u64, u64) {
        if !peer.state.is_alive() {
            return (0, 0);
        }
        let behind = self.stream.sent().saturating_sub(peer.of_us.through);
        let age_ns = if behind == 0 {
            0
        } else {
            let made_ns = self.stream.made_ns(peer.of_us.through + 1);
            self.now.now_ns.saturating_sub(made_ns)
        };
        (behind, age_ns)
    }

    fn state_of(&self, peer: &Peer) -> PeerState {
        let now_ns = self.now.now_ns;
        let is_dead = |heard_ns: u64| now_ns.saturating_sub(heard_ns) >= self.config.dead_ns;
        let joins = peer
            .candidate
            .as_ref()
            .is_some_and(|life| !is_dead(life.heard_ns));
        let Some(life) = &peer.current else {
            return PeerState::Joining;
        };
        if life.hello.leaving {
            return if joins {
                PeerState::Joining
            } else {
                PeerState::Left
            };
        }
        if is_dead(life.heard_ns) {
            return if joins {
                PeerState::Joining
            } else {
                PeerState::Dead
            };
        }
        if !life.hello.in_step || peer.debt.is_some() || self.resync.source() == Some(peer.id) {
            return PeerState::Resync;
        }
        let was_lagging = peer.state == PeerState::Lagging;
        let limit_ns = self.config.lagging_ns >> u32::from(was_lagging);
        let behind_ns = if peer.state.is_alive() {
            self.lag_of(peer).1
        } else {
            0
        };
        if !peer.of_us.alive || behind_ns > limit_ns {
            return PeerState::Lagging;
        }
        PeerState::InStep
    }

    /// Looks at all peers, and at what follows from how they are.
    pub(super) fn review(&mut self) {
        let mut changed = false;
        for place in 0..self.peers.len() {
            let state = self.state_of(&self.peers[place]);
            let peer = &mut self.peers[place];
            let Some(from) = peer.enter(state, self.now.now_ns) else {
                continue;
            };
            let id = peer.id;
            if !state.is_alive() {
                peer.forget_queues();
            }
            changed |= from.is_alive() != state.is_alive();
            self.push_event(PeerEvent::State {
                peer: id,
                from,
                to: state,
            });
        }
        let in_step = self.resync.has_joined() && !self.owes();
        if in_step != self.in_step {
            self.in_step = in_step;
            self.push_event(PeerEvent::InStep(in_step));
            self.outgoing.hello_soon(self.now.now_ns);
        }
        let directors = self.find_directors();
        if changed || directors != self.directors {
            self.directors = directors;
            let alive = self.peers.iter().filter(|peer| peer.state.is_alive());
            self.alive = alive.count() as u8;
            self.workers_told = 0;
            self.outgoing.hello_soon(self.now.now_ns);
        }
        let standing = self.find_standing();
        if standing != self.standing {
            self.standing = standing;
            self.push_event(PeerEvent::Standing(standing));
        }
        self.review_site();
    }

    /// Those who are there, hear us, and know what there is to know.
    fn find_directors(&self) -> Directors {
        let can_answer = |peer: &&Peer| {
            let knows = peer.current.as_ref().is_some_and(|life| life.hello.in_step);
            peer.state.is_alive() && knows && peer.of_us.alive
        };
        let others = self.peers.iter().filter(can_answer).map(|peer| peer.id);
        let own = self.in_step.then_some(self.config.id);
        let mut directors: ArrayVec<_, _> = others.chain(own).collect();
        directors.sort_unstable();
        Directors(directors)
    }
}
