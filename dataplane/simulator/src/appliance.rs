//! The appliance: the very workers that run on NICs, on ports in memory.

mod settings;

use std::sync::Arc;

use arrayvec::ArrayVec;
use dataplane::command::{Command, Configuration, ControlDesk, Report, desk};
use dataplane::counters::{Counters, Event, Published};
use dataplane::drop_reason::DropReason;
use dataplane::fragment::Reassembler;
use dataplane::guard::{Guard, GuardStatus};
use dataplane::hop::Hop;
use dataplane::io::{PortId, WorkerId};
use dataplane::memory::{MemoryBuffer, MemoryIo};
use dataplane::mesh::Mesh;
use dataplane::parse::parse;
use dataplane::replicate::desk::desk as peers_desk;
use dataplane::replicate::exchange::Exchange;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::status::{PeerEvent, PeerStatus};
use dataplane::shard::Shard;
use dataplane::transmit::{Transmit, TransmitWay};
use dataplane::worker::{Time, Worker, WorkerParts};

pub use self::settings::{ApplianceSettings, Queues, REPLICATION_UDP_PORT, Replication, Side};
use self::settings::{exchange, guard_config, hop_tables};
use crate::node::{Departure, Node};
use crate::random::Random;

/// The appliance's port towards clients.
pub const OUTSIDE: usize = 0;
/// The appliance's port towards servers.
pub const INSIDE: usize = 1;
/// The appliance's port towards its peers.
pub const SYNC: usize = 2;

/// A machine with the ports [`OUTSIDE`] and [`INSIDE`], with [`SYNC`] where there are peers, and
/// the daemon's workers.
pub struct Appliance {
    settings: ApplianceSettings,
    workers: Vec<Worker<MemoryIo>>,
    desks: Vec<ControlDesk>,
    exchange: Option<Exchange>,
    events: Vec<PeerEvent>,
    /// It has no power.
    is_down: bool,
    /// Frames that have come while it does nothing; `None` while it works.
    stalled: Option<usize>,
    reports: Vec<Report>,
    shard: Shard,
    random: Random,
    /// Rounds of polls since there was last something to do.
    idle_rounds: u32,
    /// How often it may have changed.
    turns: u64,
}

impl Appliance {
    /// Builds the workers; they announce their addresses when first polled.
    ///
    /// # Panics
    /// When the settings cannot be used.
    #[must_use]
    pub fn new(settings: ApplianceSettings) -> Self {
        Self::started_at(settings, 0)
    }

    /// The same at a later time of the world.
    ///
    /// # Panics
    /// When the settings cannot be used.
    #[must_use]
    pub fn started_at(settings: ApplianceSettings, now_ns: u64) -> Self {
        let mut random = Random::new(settings.seed ^ now_ns);
        let tables = Arc::new(hop_tables(&settings));
        let mut workers = Vec::new();
        let mut peers = Vec::new();
        let ports = if settings.replication.is_some() { 3 } else { 2 };
        let mut desks = Vec::new();
        for mesh in Mesh::new(settings.workers) {
            let (control, own) = desk();
            let is_sender = settings.queues != Queues::Single || mesh.own() == WorkerId(0);
            let way = if is_sender {
                TransmitWay::Queue
            } else {
                TransmitWay::Through(WorkerId(0))
            };
            let key = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            let seed = [random.next_u64(), random.next_u64()];
            let mut guard = Guard::new(Box::new(guard_config(&settings)), settings.capacity, seed);
            guard.set_time(now_ns);
            let shares = settings.replication.as_ref().map(|_| {
                let (control, own) = peers_desk();
                peers.push(control);
                own
            });
            workers.push(Worker::new(WorkerParts {
                io: MemoryIo::new(ports),
                receives: (0..ports as u8).map(PortId).collect::<ArrayVec<_, _>>(),
                hop: Hop::new(Arc::clone(&tables), key),
                fragments: Reassembler::new(key),
                guard,
                mesh,
                transmit: Transmit::new(&[way; 3][..ports]),
                published: Published::new(),
                desk: own,
                peers: shares,
            }));
            desks.push(control);
        }
        let exchange = settings
            .replication
            .as_ref()
            .map(|replication| exchange(replication, &settings, peers, &mut random, now_ns));
        let mut appliance = Self {
            exchange,
            events: Vec::new(),
            is_down: false,
            stalled: None,
            shard: Shard::new(settings.workers),
            settings,
            workers,
            desks,
            reports: Vec::new(),
            random,
            idle_rounds: 0,
            turns: 0,
        };
        appliance.command(0, Command::Announce);
        appliance
    }

    /// Takes its power away: all it knew is gone.
    pub fn stop(&mut self) {
        self.is_down = true;
    }

    /// Gives it its power back.
    pub fn restart(&mut self, now_ns: u64) {
        let turns = self.turns + 1;
        *self = Self::started_at(self.settings.clone(), now_ns);
        self.turns = turns;
    }

    /// Has it do nothing until [`Self::wake`], as a machine that is moved or swapped out: what
    /// comes waits in its rings as long as these have room.
    pub fn stall(&mut self) {
        self.stalled = Some(0);
        self.idle_rounds = 0;
    }

    /// Has it go on where it stalled.
    pub fn wake(&mut self) {
        self.stalled = None;
    }

    /// Whether it has power.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.is_down
    }

    /// How it sees its peers.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let exchange = self.exchange.as_ref();
        exchange.map_or_else(Vec::new, |exchange| exchange.replicator().status())
    }

    /// What has happened to its peers since it was last asked.
    pub fn take_events(&mut self) -> Vec<PeerEvent> {
        std::mem::take(&mut self.events)
    }

    /// Says good-bye to its peers.
    pub fn say_goodbye(&mut self) {
        self.idle_rounds = 0;
        if let Some(exchange) = &mut self.exchange {
            exchange.replicator_mut().leave();
        }
    }

    /// What it was built from, or last reconfigured to.
    #[must_use]
    pub fn settings(&self) -> &ApplianceSettings {
        &self.settings
    }

    /// Gives a worker a command; its report is kept for [`Self::take_reports`].
    ///
    /// # Panics
    /// When the worker's ring of commands is full.
    pub fn command(&mut self, worker: usize, command: Command) {
        self.idle_rounds = 0;
        let pushed = self.desks[worker].commands.push(command);
        assert!(pushed.is_ok(), "the ring of commands is full");
    }

    /// Takes another replication key beside those that it has.
    pub fn add_replication_key(&mut self, key: ReplicationKey, now_ns: u64) {
        self.idle_rounds = 0;
        let unix_ms = self.settings.unix_s * 1_000 + now_ns / 1_000_000;
        if let (Some(exchange), Some(replication)) =
            (&mut self.exchange, &mut self.settings.replication)
        {
            replication.keys.push(key);
            let replicator = exchange.replicator_mut();
            replicator.reconfigure(Time { now_ns, unix_ms }, &replication.keys);
        }
    }

    /// Puts changed settings in force on every worker, as a reload does. What concerns workers,
    /// queues and capacity stays.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut ApplianceSettings)) {
        change(&mut self.settings);
        let hop = Arc::new(hop_tables(&self.settings));
        for worker in 0..self.workers.len() {
            let guard = Box::new(guard_config(&self.settings));
            let configuration = Configuration {
                refused_servers: 0,
                hop: Arc::clone(&hop),
                guard,
            };
            self.command(worker, Command::Reconfigure(Box::new(configuration)));
        }
    }

    /// Opens no session at all.
    pub fn leave(&mut self) {
        (0..self.workers.len()).for_each(|worker| self.command(worker, Command::Leave));
    }

    /// Opens no more sessions, but those that its peers can carry on.
    pub fn drain(&mut self) {
        (0..self.workers.len()).for_each(|worker| self.command(worker, Command::Drain));
    }

    /// What the workers have reported.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// The counters of all workers together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut total = Counters::default();
        self.workers
            .iter()
            .for_each(|worker| total.merge(worker.counters()));
        total
    }

    /// How each worker's guard stands.
    pub fn guards(&self) -> impl Iterator<Item = GuardStatus> + '_ {
        self.workers.iter().map(|worker| worker.guard().status())
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &[Worker<MemoryIo>] {
        &self.workers
    }

    /// A worker's ports, to make them refuse frames or buffers.
    pub fn io_mut(&mut self, worker: usize) -> &mut MemoryIo {
        self.workers[worker].io_mut()
    }

    /// Packets that wait inside the workers.
    #[must_use]
    pub fn held(&self) -> usize {
        self.workers.iter().map(Worker::held).sum()
    }

    /// A number that differs whenever something may have happened to it.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Whether nothing is on its way between workers, or waiting to be received.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.idle_rounds > IDLE_ROUNDS
    }

    /// How many packets came in or were made of which no account is given. It is 0 whenever the
    /// appliance is settled, and else the number of those on their way between workers.
    #[must_use]
    pub fn unaccounted(&self) -> i64 {
        let mut passed = 0;
        for counters in self.workers.iter().map(Worker::counters) {
            let event = |event| counters.event(event) as i64;
            let came = event(Event::Received) + event(Event::Created);
            let went = event(Event::Sent) + event(Event::Consumed) + counters.all_drops() as i64;
            passed += came - went;
        }
        passed - self.held() as i64
    }

    /// How many packets ended for `reason`.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.counters().drops(reason)
    }

    fn worker_for(&self, frame: &[u8]) -> usize {
        let count = self.workers.len();
        match self.settings.queues {
            Queues::Single => 0,
            Queues::Scattered => parse(frame).map_or(0, |parsed| {
                let (from, to) = (
                    parsed.source.to_bits() as usize,
                    usize::from(parsed.source_port),
                );
                (from.wrapping_mul(31) ^ to.wrapping_mul(17)) / 3 % count
            }),
            Queues::Steered => {
                let owner = parse(frame).map(|parsed| self.shard.worker_of(&parsed));
                owner.map_or(0, |owner| usize::from(owner.0))
            }
        }
    }
}

impl Node for Appliance {
    fn receive(&mut self, port: usize, frame: Vec<u8>, _now_ns: u64) {
        if self.is_down {
            return;
        }
        if let Some(waiting) = &mut self.stalled {
            *waiting += 1;
            if *waiting > RING_FRAMES {
                return;
            }
        }
        let worker = self.worker_for(&frame);
        self.turns += 1;
        self.idle_rounds = 0;
        let buffer = MemoryBuffer::new(&frame);
        self.workers[worker]
            .io_mut()
            .arrive(PortId(port as u8), buffer);
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<Departure>) {
        if self.is_down || self.stalled.is_some() {
            return;
        }
        self.turns += 1;
        let time = Time {
            now_ns,
            unix_ms: self.settings.unix_s * 1_000 + now_ns / 1_000_000,
        };
        let count = self.workers.len() as u64;
        if self.is_settled() {
            self.idle_rounds = 0;
        }
        let mut served = 0;
        // Now and then a worker is late: others run twice before it does.
        let turns = 2 * count;
        for _ in 0..turns {
            let worker = self.random.below(count) as usize;
            served += self.workers[worker].poll(time);
        }
        for worker in &mut self.workers {
            served += worker.poll(time);
        }
        if let Some(exchange) = &mut self.exchange {
            served += exchange.turn(time);
            while let Some(event) = exchange.replicator_mut().next_event() {
                self.events.push(event);
            }
        }
        for (worker, desk) in self.workers.iter_mut().zip(&mut self.desks) {
            while let Ok(report) = desk.reports.pop() {
                self.reports.push(report);
            }
            let ports = if self.settings.replication.is_some() {
                3
            } else {
                2
            };
            for port in 0..ports {
                while let Some(frame) = worker.io_mut().departed(PortId(port as u8)) {
                    use dataplane::packet::Buffer;
                    out.push((port, frame.bytes().to_vec()));
                }
            }
        }
        self.idle_rounds = if served > 0 { 0 } else { self.idle_rounds + 1 };
    }

    fn next_wake_ns(&self, now_ns: u64) -> Option<u64> {
        if self.is_down || self.stalled.is_some() {
            return None;
        }
        if !self.is_settled() {
            return Some(now_ns);
        }
        let next_ns = self
            .workers
            .iter()
            .filter_map(Worker::next_deadline_ns)
            .chain(self.exchange.as_ref().and_then(Exchange::next_deadline_ns))
            .min()?;
        // Timers have a grain: what is due now and was not served will be a little later.
        Some(next_ns.max(now_ns + TIMER_GRAIN_NS))
    }
}

/// After so many rounds without work there is none on its way between workers either: what a timer
/// has given another worker is not counted as served.
const IDLE_ROUNDS: u32 = 1;

/// Frames that its rings hold while it does nothing.
const RING_FRAMES: usize = 512;

const TIMER_GRAIN_NS: u64 = 100_000;
