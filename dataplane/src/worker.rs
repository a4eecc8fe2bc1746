//! THE loop: receive → parse → admit → steer → look up → handle → send, then timers and commands.

mod commands;
mod datagrams;
mod peers;
mod usual;
mod walk;
mod wire;

use self::datagrams::Stock;
use self::usual::Line;
use self::walk::Facts;
use crate::command::WorkerDesk;
use crate::context::{Context, Outbox};
use crate::counters::{Counters, Event, Published};
use crate::drop_reason::DropReason;
use crate::fragment::Reassembler;
use crate::guard::Guard;
use crate::hop::Hop;
use crate::io::{Io, PortId, WorkerId};
use crate::mesh::{Mesh, Message};
use crate::packet::{Buffer, Burst};
use crate::replicate::desk::WorkerPeers;
use crate::runtime::{self, Figures, Stage, Stopwatch};
use crate::shard::Shard;
use crate::transmit::Transmit;
use arrayvec::ArrayVec;
use std::sync::Arc;

use crate::limits::{BURST, MAX_PORTS};

/// One reading of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Time {
    /// Nanoseconds of a clock that never goes back.
    pub now_ns: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

impl Time {
    /// Seconds since 1970.
    #[inline]
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1_000
    }
}

/// How often counters are made visible to the control thread.
const PUBLISH_NS: u64 = 10_000_000;

/// One worker: it owns its queues, its shard of every table, its timers and its counters.
///
/// Call [`Worker::poll`] again and again with the time; when it returns 0 there was nothing to
/// do. It takes no lock, makes no system call of its own and allocates nothing.
pub struct Worker<I: Io> {
    io: I,
    /// The ports that this worker receives from.
    receives: ArrayVec<PortId, MAX_PORTS>,
    hop: Hop<I::Buffer>,
    fragments: Reassembler<I::Buffer>,
    guard: Guard<I::Buffer>,
    mesh: Mesh<I::Buffer>,
    shard: Shard,
    transmit: Transmit<I::Buffer>,
    outbox: Outbox<I::Buffer>,
    /// Counted as dropped, and freed with the burst that they came in.
    dropped: Burst<I::Buffer>,
    /// Beside the burst that is walked.
    facts: Box<[Facts]>,
    /// The same of usual frames.
    lines: Box<[Line]>,
    counters: Counters,
    published: Arc<Published>,
    published_ns: u64,
    desk: WorkerDesk,
    peers: Option<WorkerPeers>,
    /// When its last turn began; only where there are peers.
    turned_ns: u64,
    stopwatch: Stopwatch,
    /// Empty packets for what comes from the peers.
    stock: Stock,
    is_stopped: bool,
}

/// What a worker is made of.
pub struct WorkerParts<I: Io> {
    /// Its queues and packet memory.
    pub io: I,
    /// The ports that it receives from.
    pub receives: ArrayVec<PortId, MAX_PORTS>,
    /// The hop.
    pub hop: Hop<I::Buffer>,
    /// Fragments on their way to being whole.
    pub fragments: Reassembler<I::Buffer>,
    /// The guard.
    pub guard: Guard<I::Buffer>,
    /// The rings to the other workers.
    pub mesh: Mesh<I::Buffer>,
    /// The ways out.
    pub transmit: Transmit<I::Buffer>,
    /// Where its counters are made visible.
    pub published: Arc<Published>,
    /// The rings to the control thread.
    pub desk: WorkerDesk,
    /// The rings to whoever talks to the peers, if there can be any.
    pub peers: Option<WorkerPeers>,
}

/// Borrows what a handler may touch, apart from the handlers themselves.
macro_rules! context {
    ($worker:expr, $time:expr) => {
        Context {
            now_ns: $time.now_ns,
            unix_ms: $time.unix_ms,
            io: &mut $worker.io,
            counters: &mut $worker.counters,
            outbox: &mut $worker.outbox,
            transmit: &mut $worker.transmit,
        }
    };
}
use context;

impl<I: Io> Worker<I> {
    /// Puts a worker together.
    pub fn new(parts: WorkerParts<I>) -> Self {
        Self {
            io: parts.io,
            receives: parts.receives,
            hop: parts.hop,
            fragments: parts.fragments,
            guard: parts.guard,
            shard: parts.mesh.shard().clone(),
            mesh: parts.mesh,
            transmit: parts.transmit,
            outbox: Outbox::new(),
            dropped: Burst::new(),
            facts: Facts::of_burst(),
            lines: Line::of_burst(),
            counters: Counters::default(),
            published: parts.published,
            published_ns: 0,
            desk: parts.desk,
            stock: Stock::of(parts.peers.as_ref()),
            peers: parts.peers,
            turned_ns: u64::MAX,
            stopwatch: Stopwatch::new(runtime::PERIOD),
            is_stopped: false,
        }
    }

    /// One turn of the loop. Returns how many packets, timers and commands it served.
    pub fn poll(&mut self, time: Time) -> usize {
        self.guard.set_time(time.now_ns);
        if self.peers.is_some() {
            self.watch_for_stalls(time);
        }
        if let Some(tap) = &mut self.transmit.tap {
            tap.set_time(time.now_ns);
        }
        self.stopwatch.begin(&self.io, &self.counters);
        let mut served = 0;
        for place in 0..self.receives.len() {
            let port = self.receives[place];
            let mut burst = Burst::new();
            if self.io.receive(port, &mut burst) > 0 {
                served += burst.len();
                self.stopwatch.received(burst.len(), burst.is_full());
                self.lap(Stage::Receive);
                match self.guard.bridge() {
                    Some(bridge) if bridge.end_of(port).is_some() => {
                        self.walk_wire(bridge, port, &mut burst, time);
                    }
                    _ => self.walk(port, &mut burst, time),
                }
            }
        }
        self.lap(Stage::Receive);
        served += self.take_from_other_workers(time);
        self.lap(Stage::TakeOver);
        served += self.send_to_peers(time);
        served += self.hear_peers(time);
        self.lap(Stage::Peers);
        served += self.serve_timers(time);
        self.lap(Stage::Timers);
        served += self.serve_command(time);
        self.lap(Stage::Commands);
        self.tell_peers();
        self.lap(Stage::Peers);
        self.free_dropped();
        self.send();
        self.lap(Stage::Transmit);
        self.stopwatch.end(served > 0, &self.counters);
        served
    }

    /// What has passed since the last lap belongs to `stage`.
    #[inline(always)]
    fn lap(&mut self, stage: Stage) {
        self.stopwatch.lap(stage, &self.io);
    }

    /// Where the time went.
    pub fn runtime(&self) -> Figures {
        self.stopwatch.figures()
    }

    /// Begins to measure anew: of `period` busy turns one, every turn with 1, none with 0.
    pub fn measure_one_turn_in(&mut self, period: u32) {
        self.stopwatch = Stopwatch::new(period);
    }

    /// Whether it was told to leave the loop.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// The counters, for whoever runs the worker in its own thread.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The guard, likewise.
    pub fn guard(&self) -> &Guard<I::Buffer> {
        &self.guard
    }

    /// The queues, likewise.
    pub fn io_mut(&mut self) -> &mut I {
        &mut self.io
    }

    /// Packets that wait inside: for neighbours, for servers, for the rest of their datagram, for
    /// a transmit queue.
    pub fn held(&self) -> usize {
        self.hop.held()
            + self.guard.status().held
            + self.fragments.held()
            + self.transmit.waiting()
            + self.outbox.len()
    }

    /// When [`Self::poll`] next has something to do, if nothing arrives before.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        [
            self.hop.next_deadline_ns(),
            self.guard.next_deadline_ns(),
            self.fragments.next_deadline_ns(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn serve_timers(&mut self, time: Time) -> usize {
        let mut ctx = context!(self, time);
        let served = self.guard.tick(&mut ctx);
        self.hop.tick(&mut ctx);
        self.fragments.tick(&mut ctx);
        self.route_outbox(time);
        if time.now_ns.wrapping_sub(self.published_ns) >= PUBLISH_NS {
            self.published_ns = time.now_ns;
            self.published.store(&self.counters);
        }
        served
    }

    /// Routes what the handlers made.
    #[inline]
    fn route_outbox(&mut self, time: Time) {
        if !self.outbox.is_empty() {
            self.route_made(time);
        }
    }

    #[inline(never)]
    fn route_made(&mut self, time: Time) {
        // Routing may itself make packets: an ICMP error, a question for a neighbour.
        let made: ArrayVec<_, { crate::limits::MAX_OUTBOX }> = self.outbox.take();
        let bridge = self.guard.bridge();
        for packet in made {
            match bridge {
                Some(bridge) => self.output_by_wire(bridge, packet, time),
                None => self.hop.output(packet, &mut context!(self, time)),
            }
        }
        for packet in self.outbox.take() {
            self.hop.output(packet, &mut context!(self, time));
        }
        for packet in self.outbox.drain(..) {
            drop(packet);
            self.counters.dropped(DropReason::NeighbourUnresolved);
        }
    }

    #[inline]
    fn free_dropped(&mut self) {
        if !self.dropped.is_empty() {
            I::Buffer::free_all(&mut self.dropped);
        }
    }

    /// Hands the bursts to the ports, and to the workers that own the other ports' queues.
    fn send(&mut self) {
        self.transmit.flush(&mut self.io, &mut self.counters);
        for (owner, port, interface, frame) in self.transmit.passed_on() {
            let message = Message::Departure(port, interface, frame);
            match self.mesh.send(owner, message) {
                Ok(()) => self.counters.count(Event::HandedOff),
                Err(_) => self.counters.dropped(DropReason::HandOffFull),
            }
        }
        if self.mesh.workers() > 1 {
            self.share_neighbours();
        }
    }

    fn share_neighbours(&mut self) {
        let own = self.mesh.own();
        for update in self.hop.take_updates() {
            for other in (0..self.mesh.workers() as u8)
                .map(WorkerId)
                .filter(|&id| id != own)
            {
                // A worker that misses it asks for itself.
                let _ = self.mesh.send(other, Message::Neighbour(update));
            }
        }
    }

    fn take_from_other_workers(&mut self, time: Time) -> usize {
        let mut served = 0;
        for from in 0..self.mesh.workers() {
            for _ in 0..BURST {
                let Some(message) = self.mesh.receive(from) else {
                    break;
                };
                served += 1;
                if !matches!(message, Message::Neighbour(_)) {
                    self.counters.count(Event::TakenOver);
                }
                match message {
                    Message::Frame(port, frame) => self.walk_one(port, frame, time),
                    Message::Datagram(port, first, count) => {
                        self.take_datagram(from, port, first, count, time);
                    }
                    Message::Departure(port, interface, frame) => {
                        let io = &mut self.io;
                        self.transmit
                            .push(port, interface, frame, io, &mut self.counters);
                    }
                    Message::Neighbour(update) => {
                        self.hop.apply_update(update, &mut context!(self, time));
                    }
                }
            }
        }
        served
    }
}
