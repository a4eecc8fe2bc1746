//! Guards whose workers are maps, and the links between them.
#![expect(
    clippy::print_stdout,
    reason = "what a failed schedule came to is told"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::limits::PEER_NEWS;
use crate::replicate::config::{Destination, PeerConfig, ReplicatorConfig, Transport};
use crate::replicate::frame::BootId;
use crate::replicate::keys::ReplicationKey;
use crate::replicate::record::{FlowKey, Record, Stage};
use crate::replicate::replicator::Replicator;
use crate::replicate::status::{PeerEvent, PeerState};
use crate::replicate::tally::Tally;
use crate::replicate::{Audience, FromPeers, PageRequest, PeerId, ToPeers};
use crate::wire::address::Address;
use crate::worker::Time;

pub(super) const MS: u64 = 1_000_000;
const UNIX_MS: u64 = 1_763_673_000_000;
/// What a stalled guard's socket holds.
const INBOX: usize = 256;

/// SplitMix64.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub(super) fn flow(number: u32) -> FlowKey {
    FlowKey {
        client: Address::from_v4([198, 51, (number >> 8) as u8, number as u8]),
        server: Address::from_v4([10, 0, 0, 10]),
        client_port: 1_024 + (number * 7 % 60_000) as u16,
        server_port: 443,
    }
}

/// A session as `step` of its progress.
pub(super) fn record(number: u32, incarnation: u32, stage: Stage, step: u32) -> Record {
    Record {
        key: flow(number),
        incarnation,
        stage,
        client_next: step,
        ..Record::default()
    }
}

/// What orders two records of one flow.
pub(super) fn version(record: &Record) -> (u32, Stage, u32) {
    (record.incarnation, record.stage, record.client_next)
}

/// A worker: a table of places, and nothing else.
#[derive(Clone, Default)]
pub(super) struct Worker {
    places: Vec<Record>,
    index: BTreeMap<FlowKey, usize>,
    pub(super) peers: Option<u8>,
    pub(super) site: Option<crate::replicate::Site>,
    /// How often it was told that it has heard all.
    pub(super) caught_up: u32,
    pub(super) unknown: Vec<FlowKey>,
    /// Places that it gives at once, if not 40.
    pub(super) portion: Option<u32>,
    /// It does not read what it is told.
    pub(super) is_stuck: bool,
}

impl Worker {
    /// Whether the record is newer than what was known.
    pub(super) fn apply(&mut self, record: &Record) -> bool {
        if let Some(&place) = self.index.get(&record.key) {
            let is_newer = version(record) > version(&self.places[place]);
            if is_newer {
                self.places[place] = *record;
            }
            return is_newer;
        }
        self.index.insert(record.key, self.places.len());
        self.places.push(*record);
        true
    }

    /// A part of the table, in portions of fewer places than were asked for.
    fn page(&self, page: &PageRequest) -> Vec<ToPeers> {
        let end = page
            .end
            .min(page.first.saturating_add(self.portion.unwrap_or(40)));
        let from = self.places.len().min(page.first as usize);
        let to = self.places.len().min(end as usize);
        let records = self.places[from..to].iter();
        let mut said: Vec<_> = records
            .map(|record| ToPeers::Record(*record, Audience::Peer(page.peer)))
            .collect();
        said.push(ToPeers::PageEnd {
            peer: page.peer,
            request: page.request,
            next: (to < self.places.len()).then_some(end),
        });
        said
    }

    fn hear(&mut self, news: &FromPeers) -> Vec<ToPeers> {
        match news {
            FromPeers::Record(record, _) => {
                self.apply(record);
                Vec::new()
            }
            FromPeers::Query(flow, peer) => vec![match self.index.get(flow) {
                Some(&place) => ToPeers::Record(self.places[place], Audience::Peer(*peer)),
                None => ToPeers::Unknown(*flow, *peer),
            }],
            FromPeers::Unknown(flow) => {
                self.unknown.push(*flow);
                Vec::new()
            }
            FromPeers::Page(page) => self.page(page),
            FromPeers::Peers(count) => {
                self.peers = Some(*count);
                Vec::new()
            }
            FromPeers::Site(site) => {
                self.site = Some(*site);
                Vec::new()
            }
            FromPeers::CaughtUp => {
                self.caught_up += 1;
                Vec::new()
            }
            FromPeers::Station(..) => panic!("it does not know of stations"),
        }
    }
}

/// One guard.
pub(super) struct Guard {
    pub(super) config: ReplicatorConfig,
    pub(super) replicator: Option<Replicator>,
    pub(super) workers: Vec<Worker>,
    pub(super) stalled_until_ns: u64,
    inbox: VecDeque<(Address, Vec<u8>)>,
    pub(super) events: Vec<PeerEvent>,
}

impl Guard {
    pub(super) fn peer(&mut self) -> &mut Replicator {
        self.replicator.as_mut().expect("it runs")
    }

    pub(super) fn state_of(&self, id: u8) -> PeerState {
        let status = self.replicator.as_ref().expect("it runs").status();
        let mut peers = status.iter().filter(|peer| peer.id == PeerId(id));
        peers.next().expect("a peer of this number").state
    }

    pub(super) fn tally(&self, what: Tally) -> u64 {
        self.replicator
            .as_ref()
            .map_or(0, |it| it.tallies().get(what))
    }

    /// Says what is known of a guard, for a test that fails.
    pub(super) fn describe(&self) {
        let Some(replicator) = &self.replicator else {
            return;
        };
        println!("guard {:?}, {:?}", self.config.id, self.config.boot);
        for status in replicator.status() {
            println!("  {status:?}");
        }
        for peer in &replicator.peers {
            println!("  debt {:?}, it reports:", peer.debt);
            for report in &peer.reports {
                println!("    {report:?}");
            }
        }
        for event in self.events.iter().rev().take(12).rev() {
            println!("  {event:?}");
        }
        let counted = replicator.tallies().iter().filter(|(_, count)| *count > 0);
        let counted: Vec<_> = counted.map(|(what, count)| (what.label(), count)).collect();
        println!("  {counted:?}");
    }

    pub(super) fn holds(&self) -> BTreeMap<FlowKey, (u32, Stage, u32)> {
        let records = self.workers.iter().flat_map(|worker| &worker.places);
        records
            .map(|record| (record.key, version(record)))
            .collect()
    }

    pub(super) fn get(&self, flow: &FlowKey) -> Option<Record> {
        let mut found = self.workers.iter().filter_map(|worker| {
            let place = worker.index.get(flow)?;
            Some(worker.places[*place])
        });
        found.next()
    }
}

/// What links do to frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) loss_percent: u64,
    pub(super) double_percent: u64,
    pub(super) delay_ns: u64,
    /// Up to so much more, at random: that is what puts frames out of order.
    pub(super) jitter_ns: u64,
    /// Now and then a frame is late by up to two seconds.
    pub(super) late_percent: u64,
}

type Flight = Reverse<(u64, u64, usize, usize, Vec<u8>)>;

/// All guards and all links.
pub(super) struct Net {
    pub(super) now_ns: u64,
    pub(super) guards: Vec<Guard>,
    pub(super) random: Random,
    pub(super) weather: Weather,
    /// Which half each guard is in; frames pass within a half.
    pub(super) halves: Vec<u8>,
    flights: BinaryHeap<Flight>,
    flown: u64,
    /// Every frame sent, when they are recorded.
    pub(super) recorded: Option<Vec<(usize, usize, Vec<u8>)>>,
}

pub(super) fn keys() -> Vec<ReplicationKey> {
    vec![ReplicationKey {
        not_before_s: 1_000,
        secret: [7; 32],
    }]
}

pub(super) fn address_of(guard: usize) -> Address {
    Address::from_v4([192, 0, 2, guard as u8 + 1])
}

pub(super) fn id_of(guard: usize) -> PeerId {
    PeerId(guard as u8 + 1)
}

impl Net {
    /// `guards` guards that all start now.
    pub(super) fn new(guards: usize, seed: u64, adjust: impl Fn(&mut ReplicatorConfig)) -> Self {
        let mut net = Self {
            now_ns: 5_000_000_000,
            guards: Vec::new(),
            random: Random(seed),
            weather: Weather {
                delay_ns: 50_000,
                ..Weather::default()
            },
            halves: vec![0; guards],
            flights: BinaryHeap::new(),
            flown: 0,
            recorded: None,
        };
        for place in 0..guards {
            let mut config = ReplicatorConfig::new(id_of(place), BootId::default());
            config.peers = (0..guards)
                .map(|other| PeerConfig {
                    id: id_of(other),
                    address: Some(address_of(other)),
                })
                .collect();
            config.keys = keys();
            config.workers = 1 + place % 3;
            config.table_places = 4_096;
            config.history_batches = 64;
            adjust(&mut config);
            net.guards.push(Guard {
                config,
                replicator: None,
                workers: Vec::new(),
                stalled_until_ns: 0,
                inbox: VecDeque::new(),
                events: Vec::new(),
            });
        }
        net
    }

    pub(super) fn with_all_started(mut self) -> Self {
        (0..self.guards.len()).for_each(|place| self.start(place));
        self
    }

    pub(super) fn time(&self) -> Time {
        Time {
            now_ns: self.now_ns,
            unix_ms: UNIX_MS + self.now_ns / MS,
        }
    }

    /// Begins a new life of a guard.
    pub(super) fn start(&mut self, place: usize) {
        let boot = BootId {
            started_ms: self.time().unix_ms,
            random: self.random.next(),
        };
        self.restart_as(place, boot);
    }

    /// Begins the life of a guard that takes it for `boot`.
    pub(super) fn restart_as(&mut self, place: usize, boot: BootId) {
        let time = self.time();
        let guard = &mut self.guards[place];
        guard.config.boot = boot;
        guard.workers = vec![Worker::default(); guard.config.workers];
        guard.inbox.clear();
        guard.stalled_until_ns = 0;
        guard.replicator = Some(Replicator::new(guard.config.clone(), time));
        self.drain(place);
    }

    pub(super) fn crash(&mut self, place: usize) {
        self.guards[place].replicator = None;
        self.guards[place].workers.clear();
    }

    /// A worker of the guard says something of its flow.
    pub(super) fn say(&mut self, place: usize, record: &Record, audience: Audience) {
        let time = self.time();
        let guard = &mut self.guards[place];
        let worker = usize::from(guard.peer().worker_of(&record.key));
        guard.workers[worker].apply(record);
        guard
            .peer()
            .take(time, worker, ToPeers::Record(*record, audience));
    }

    pub(super) fn ask(&mut self, place: usize, flow: FlowKey) {
        let time = self.time();
        let worker = usize::from(self.guards[place].peer().worker_of(&flow));
        self.guards[place]
            .peer()
            .take(time, worker, ToPeers::Query(flow));
        self.drain(place);
    }

    /// Takes out everything that a guard has, and sends it.
    pub(super) fn drain(&mut self, place: usize) {
        let time = self.time();
        let mut payload = [0; 2_048];
        loop {
            let guard = &mut self.guards[place];
            let Some(replicator) = &mut guard.replicator else {
                return;
            };
            assert!(replicator.news_waiting() <= PEER_NEWS + guard.workers.len());
            while let Some(event) = replicator.next_event() {
                guard.events.push(event);
            }
            let stuck = guard.workers.iter().any(|worker| worker.is_stuck);
            let mut said = Vec::new();
            while !stuck && let Some((worker, news)) = replicator.next_news() {
                let answers = guard.workers[worker].hear(&news);
                said.extend(answers.into_iter().map(|answer| (worker, answer)));
            }
            let is_quiet = said.is_empty();
            for (worker, message) in said {
                replicator.take(time, worker, message);
            }
            let mut sent = Vec::new();
            while let Some((destination, length)) = replicator.next_datagram(&mut payload) {
                sent.push((destination, payload[..length].to_vec()));
            }
            let is_quiet = is_quiet && sent.is_empty();
            for (destination, frame) in sent {
                self.send(place, destination, &frame);
            }
            if is_quiet {
                return;
            }
        }
    }

    fn send(&mut self, from: usize, destination: Destination, frame: &[u8]) {
        match destination {
            Destination::Peer(peer) => {
                assert_eq!(self.guards[from].config.transport, Transport::PointToPoint);
                self.fly(from, usize::from(peer.0) - 1, frame);
            }
            Destination::Group => (0..self.guards.len()).for_each(|to| self.fly(from, to, frame)),
        }
    }

    fn fly(&mut self, from: usize, to: usize, frame: &[u8]) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push((from, to, frame.to_vec()));
        }
        let weather = self.weather;
        let copies = 1 + u64::from(self.random.chance(weather.double_percent));
        for _ in 0..copies {
            if self.halves[from] != self.halves[to] || self.random.chance(weather.loss_percent) {
                continue;
            }
            let late_ns = if self.random.chance(weather.late_percent) {
                self.random.below(2_000 * MS)
            } else {
                0
            };
            let jitter_ns = self.random.below(weather.jitter_ns + 1);
            let at_ns = self.now_ns + weather.delay_ns + jitter_ns + late_ns;
            self.flown += 1;
            self.flights
                .push(Reverse((at_ns, self.flown, from, to, frame.to_vec())));
        }
    }

    /// A frame reaches a guard, whoever sent it.
    pub(super) fn deliver(&mut self, source: Address, to: usize, frame: &[u8]) {
        let time = self.time();
        let now_ns = self.now_ns;
        let guard = &mut self.guards[to];
        let Some(replicator) = &mut guard.replicator else {
            return;
        };
        if guard.stalled_until_ns > now_ns {
            if guard.inbox.len() < INBOX {
                guard.inbox.push_back((source, frame.to_vec()));
            }
            return;
        }
        replicator.receive(time, (source, 9_000), frame);
        self.drain(to);
    }

    /// When a guard has to be called.
    fn deadline_ns(&self, place: usize) -> u64 {
        let guard = &self.guards[place];
        let deadline = guard
            .replicator
            .as_ref()
            .and_then(Replicator::next_deadline_ns);
        deadline.unwrap_or(u64::MAX).max(guard.stalled_until_ns)
    }

    fn wake(&mut self, place: usize) {
        let time = self.time();
        let inbox = std::mem::take(&mut self.guards[place].inbox);
        for (source, frame) in inbox {
            self.deliver(source, place, &frame);
        }
        if let Some(replicator) = &mut self.guards[place].replicator {
            replicator.tick(time);
        }
        self.drain(place);
    }

    /// Lets time pass until `end_ns`.
    pub(super) fn run_until(&mut self, end_ns: u64) {
        (0..self.guards.len()).for_each(|place| {
            if self.guards[place].stalled_until_ns <= self.now_ns {
                self.drain(place);
            }
        });
        loop {
            let flight_ns = self.flights.peek().map_or(u64::MAX, |flight| flight.0.0);
            let called = (0..self.guards.len()).min_by_key(|&place| self.deadline_ns(place));
            let call_ns = called.map_or(u64::MAX, |place| self.deadline_ns(place));
            if flight_ns.min(call_ns) > end_ns {
                break;
            }
            self.now_ns = self.now_ns.max(flight_ns.min(call_ns));
            if flight_ns <= call_ns {
                if let Some(Reverse((_, _, from, to, frame))) = self.flights.pop() {
                    self.deliver(address_of(from), to, &frame);
                }
            } else if let Some(place) = called {
                self.wake(place);
                // A deadline that stays in the past would stop the clock.
                if self.deadline_ns(place) <= self.now_ns {
                    self.now_ns += 10_000;
                }
            }
        }
        self.now_ns = end_ns.max(self.now_ns);
    }

    pub(super) fn run_ms(&mut self, time_ms: u64) {
        self.run_until(self.now_ns + time_ms * MS);
    }

    /// Whether every guard that runs holds the same, and knows it.
    pub(super) fn agrees(&self) -> Result<(), String> {
        let running: Vec<_> = (0..self.guards.len())
            .filter(|&place| self.guards[place].replicator.is_some())
            .collect();
        for &place in &running {
            let guard = &self.guards[place];
            let replicator = guard.replicator.as_ref().expect("it runs");
            if !replicator.is_in_step() {
                return Err(format!("{place} is not in step: {:?}", replicator.status()));
            }
            for &other in running.iter().filter(|&&other| other != place) {
                let state = guard.state_of(id_of(other).0);
                if state != PeerState::InStep {
                    return Err(format!("{place} sees {other} as {state:?}"));
                }
            }
            let first = self.guards[running[0]].holds();
            let holds = guard.holds();
            if holds != first {
                return Err(self.difference());
            }
        }
        Ok(())
    }

    /// A flow that not all know alike.
    fn difference(&self) -> String {
        let running = self
            .guards
            .iter()
            .filter(|guard| guard.replicator.is_some());
        let holds: Vec<_> = running.map(Guard::holds).collect();
        let flows: BTreeSet<_> = holds.iter().flat_map(BTreeMap::keys).collect();
        let known = |key: &FlowKey| {
            let versions = holds.iter().map(|held| held.get(key).copied());
            versions.collect::<Vec<_>>()
        };
        let differ = |key: &&FlowKey| known(key).windows(2).any(|pair| pair[0] != pair[1]);
        let differing: Vec<_> = flows.into_iter().filter(differ).collect();
        let first = differing.first().map(|key| known(key));
        format!(
            "{} flows differ, one of them is known as {first:?}",
            differing.len()
        )
    }
}
