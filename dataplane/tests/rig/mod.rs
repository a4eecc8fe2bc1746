//! Whole workers on queues in memory, with a NIC's receive-side scaling before them and stations
//! around them. After every poll each worker's count of frames must add up.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod conversation;
pub(crate) mod mixes;
mod neighbours;
pub(crate) mod packets;
pub(crate) mod pool;
pub(crate) mod queues;
pub(crate) mod wire;

use std::sync::Arc;

use dataplane::classify::{Condition, Rules};
use dataplane::command::{Command, Configuration, ControlDesk, Report, desk};
use dataplane::counters::{Counters, Event, Published};
use dataplane::drop_reason::DropReason;
use dataplane::fragment::Reassembler;
use dataplane::guard::Guard;
use dataplane::guard::config::{
    Action, EchoMode, FloodThresholds, GuardConfig, InterfaceSet, Mode, ProtectedServer,
    ServerOverrides, Timers, Unknown,
};
use dataplane::guard::cookie::{CookieJar, CookieKey};
use dataplane::hop::{Hop, HopConfig, HopTables, Interface, ReplicationPort, Route};
use dataplane::io::{InterfaceId, PortId, WorkerId};
use dataplane::mesh::Mesh;
use dataplane::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Kind, Parsed, parse, parse_network};
use dataplane::replicate::desk::{ControlPeers, desk as peers_desk};
use dataplane::shard::Shard;
use dataplane::transmit::{Transmit, TransmitWay};
use dataplane::wire::ethernet::{self, MacAddress, write_ethernet};
use dataplane::worker::{Time, Worker, WorkerParts};

use conversation::Conversation;
use packets::{address, assert_sound, prefix};
use pool::{Pool, PooledBuffer};
use queues::Queues;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;
const MS_NS: u64 = 1_000_000;
/// The wall clock when a rig begins.
const UNIX_S: u64 = 1_700_000_000;
pub(crate) const OUTSIDE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub(crate) const INSIDE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub(crate) const ROUTER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 1]);
pub(crate) const SERVER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 2]);
/// A source that a rule denies, and one that a rule rejects.
pub(crate) const DENIED: &str = "203.0.113.66";
pub(crate) const REJECTED: &str = "203.0.113.67";

/// One of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Outside,
    Inside,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Outside, Self::Inside];

    pub(crate) fn port(self) -> PortId {
        PortId(self as u8)
    }

    /// Our station, and that of the neighbour.
    pub(crate) fn stations(self) -> (MacAddress, MacAddress) {
        match self {
            Self::Outside => (OUTSIDE_MAC, ROUTER_MAC),
            Self::Inside => (INSIDE_MAC, SERVER_MAC),
        }
    }
}

/// What a rig is made with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    /// The VLAN of each port's interface.
    pub(crate) vlans: [Option<u16>; 2],
    /// Whether each port has one queue, which is worker 0's, instead of one for each worker.
    pub(crate) single_queue: [bool; 2],
    /// Whether frames on a port of several queues come to any of them.
    pub(crate) is_scattered: bool,
    pub(crate) mode: Mode,
    pub(crate) unknown: Unknown,
    /// Sessions of each worker.
    pub(crate) capacity: u32,
    pub(crate) mtu_bytes: [u16; 2],
    /// Packet buffers in all.
    pub(crate) buffers: usize,
    /// Where peers' datagrams come in.
    pub(crate) replication: Option<ReplicationPort>,
    /// Whether the two ports are a transparent wire, and what it does with SYNs.
    pub(crate) wire: Option<EchoMode>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            vlans: [None; 2],
            single_queue: [false; 2],
            is_scattered: false,
            mode: Mode::Always,
            unknown: Unknown::Drop,
            capacity: 256,
            mtu_bytes: [1500; 2],
            buffers: 1024,
            replication: None,
            wire: None,
        }
    }
}

impl Setup {
    pub(crate) fn workers(workers: usize) -> Self {
        Self {
            workers,
            ..Self::default()
        }
    }

    /// The hop's and the guard's configuration, as a reload hands them over.
    pub(crate) fn configuration(&self) -> Configuration {
        Configuration {
            refused_servers: 0,
            hop: Arc::new(HopTables::new(&self.hop_config()).expect("a usable configuration")),
            guard: Box::new(self.guard_config()),
        }
    }

    fn hop_config(&self) -> HopConfig {
        let interface = |side: Side, own: [(&str, &str); 2]| Interface {
            port: side.port(),
            vlan: self.vlans[side as usize],
            mac: side.stations().0,
            mtu_bytes: self.mtu_bytes[side as usize],
            addresses: own
                .iter()
                .filter(|_| self.wire.is_none())
                .map(|(own, network)| (address(own), prefix(network)))
                .collect(),
            protected: side == Side::Inside,
        };
        let route = |to: &str, via: &str| Route {
            prefix: prefix(to),
            via: Some(address(via)),
            interface: InterfaceId(0),
        };
        let outside = [
            ("192.0.2.1", "192.0.2.0/24"),
            ("2001:db8:1::1", "2001:db8:1::/64"),
        ];
        let inside = [("10.0.0.1", "10.0.0.0/24"), ("fd00:1::1", "fd00:1::/64")];
        HopConfig {
            interfaces: vec![
                interface(Side::Outside, outside),
                interface(Side::Inside, inside),
            ],
            routes: match self.wire {
                Some(_) => Vec::new(),
                None => vec![
                    route("0.0.0.0/0", "192.0.2.254"),
                    route("2001:db8::/32", "2001:db8:1::fe"),
                ],
            },
            replication: self.replication,
            reserved: self
                .guard_config()
                .servers
                .iter()
                .map(|it| it.address)
                .collect(),
        }
    }

    fn guard_config(&self) -> GuardConfig {
        let server = |text| ProtectedServer {
            address: address(text),
            ports: [80..=80].into_iter().collect(),
            overrides: ServerOverrides::default(),
        };
        let from = |text: &str| Condition::Source(prefix(&format!("{text}/32")));
        let rules = [
            (from(DENIED), Action::Deny),
            (from(REJECTED), Action::Reject),
        ];
        GuardConfig {
            outside: InterfaceSet::default().with(InterfaceId(0)),
            inside: InterfaceSet::default().with(InterfaceId(1)),
            mode: self.mode,
            servers: vec![server("10.0.0.10"), server("fd00:1::10")],
            rules: Rules::new(&rules, Action::Guard).expect("few rules"),
            jar: cookie_jar(),
            flood: FloodThresholds {
                enter_syns_per_s: 1000,
                leave_syns_per_s: 500,
                hold_ns: SECOND_NS,
            },
            timers: Timers::default(),
            half_open_per_source: 16,
            unknown: self.unknown,
            probe_from: Vec::new(),
            outside_mtu: self.mtu_bytes[0],
            inside_mtu: self.mtu_bytes[1],
            sharing: None,
            transparent: self.transparent(),
        }
    }
}

/// The cookie keys of every rig.
pub(crate) fn cookie_keys() -> [CookieKey; 1] {
    [CookieKey {
        not_before_s: 0,
        secret: [9; 16],
    }]
}

/// The same, to make cookies with.
pub(crate) fn cookie_jar() -> CookieJar {
    CookieJar::new(&cookie_keys())
}

/// Workers and what is around them.
pub(crate) struct Rig {
    pub(crate) workers: Vec<Worker<Queues>>,
    pub(crate) desks: Vec<ControlDesk>,
    /// Where replication is set up, of each worker.
    pub(crate) peers: Vec<ControlPeers>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) setup: Setup,
    pub(crate) now_ns: u64,
    /// Whether the stations around answer when they are asked for.
    pub(crate) neighbours_answer: bool,
    /// Counts what the thread asked of the heap.
    pub(crate) heap_calls: fn() -> u64,
    /// What the workers asked of the heap while they were polled.
    pub(crate) heap_calls_in_polls: u64,
    shard: Shard,
    /// Of which worker the next scattered frame comes to.
    turn: usize,
}

impl Rig {
    pub(crate) fn new(setup: Setup) -> Self {
        let pool = Pool::new(setup.buffers);
        let configuration = setup.configuration();
        let mut workers = Vec::new();
        let mut desks = Vec::new();
        let mut all_peers = Vec::new();
        for mesh in Mesh::new(setup.workers) {
            let own = mesh.own();
            let (control, desk) = desk();
            let ways = setup.single_queue.map(|single| match single {
                true if own != WorkerId(0) => TransmitWay::Through(WorkerId(0)),
                _ => TransmitWay::Queue,
            });
            let receives = Side::BOTH
                .into_iter()
                .filter(|&side| own == WorkerId(0) || !setup.single_queue[side as usize]);
            let guard = Box::new(setup.guard_config());
            let peers = setup.replication.map(|_| {
                let (control, worker) = peers_desk();
                all_peers.push(control);
                worker
            });
            workers.push(Worker::new(WorkerParts {
                io: Queues::new(2, &pool),
                receives: receives.map(Side::port).collect(),
                hop: Hop::new(Arc::clone(&configuration.hop), 7),
                fragments: Reassembler::new(11),
                guard: Guard::new(guard, setup.capacity, [1, 2]),
                mesh,
                transmit: Transmit::new(&ways),
                published: Published::new(),
                desk,
                peers,
            }));
            desks.push(control);
        }
        Self {
            workers,
            desks,
            peers: all_peers,
            pool,
            now_ns: 100 * SECOND_NS,
            neighbours_answer: true,
            heap_calls: || 0,
            heap_calls_in_polls: 0,
            shard: Shard::new(setup.workers),
            turn: 0,
            setup,
        }
    }

    /// A packet in a frame of the neighbour on `side`.
    pub(crate) fn framed(&self, side: Side, packet: &[u8]) -> Vec<u8> {
        let ether_type = match packet[0] >> 4 {
            4 => ETHER_TYPE_IPV4,
            _ => ETHER_TYPE_IPV6,
        };
        let (ours, theirs) = side.stations();
        self.frame(side, ours, theirs, ether_type, packet)
    }

    /// A frame with this link-layer header.
    pub(crate) fn frame(
        &self,
        side: Side,
        to: MacAddress,
        from: MacAddress,
        ether_type: u16,
        rest: &[u8],
    ) -> Vec<u8> {
        let mut frame = vec![0; 18];
        let vlan = self.setup.vlans[side as usize];
        let length = write_ethernet(&mut frame, to, from, vlan, ether_type);
        frame.truncate(length);
        frame.extend(rest);
        frame
    }

    /// The worker whose queue a NIC puts the frame on.
    pub(crate) fn queue_of(&mut self, side: Side, frame: &[u8]) -> usize {
        if self.setup.single_queue[side as usize] {
            return 0;
        }
        if self.setup.is_scattered {
            self.turn = (self.turn + 1) % self.setup.workers;
            return self.turn;
        }
        let worker = parse(frame).map_or(WorkerId(0), |parsed| self.shard.worker_of(&parsed));
        worker.0.into()
    }

    /// The worker that owns a flow.
    pub(crate) fn owner_of(&self, parsed: &Parsed) -> usize {
        self.shard.worker_of(parsed).0.into()
    }

    /// Puts a frame before the port of `side`.
    pub(crate) fn arrive(&mut self, side: Side, frame: &[u8]) {
        let worker = self.queue_of(side, frame);
        self.arrive_at(worker, side, frame);
    }

    /// Puts a frame before one worker's queue.
    pub(crate) fn arrive_at(&mut self, worker: usize, side: Side, frame: &[u8]) {
        let buffer = self
            .pool
            .take(frame)
            .expect("the pool holds what a test uses");
        self.workers[worker].io_mut().arrive(side.port(), buffer);
    }

    /// Puts a packet before the port of `side`, from the neighbour there.
    pub(crate) fn send(&mut self, side: Side, packet: &[u8]) {
        let frame = self.framed(side, packet);
        self.arrive(side, &frame);
    }

    /// The next frame that left by `side`, whichever worker sent it.
    pub(crate) fn departed(&mut self, side: Side) -> Option<(usize, PooledBuffer)> {
        let workers = self.workers.iter_mut().enumerate();
        let mut departed = workers.map(|(number, worker)| {
            let frame = worker.io_mut().departed(side.port());
            frame.map(|frame| (number, frame))
        });
        departed.find_map(|departed| departed)
    }

    pub(crate) fn time(&self) -> Time {
        Time {
            now_ns: self.now_ns,
            unix_ms: UNIX_S * 1_000 + self.now_ns / 1_000_000,
        }
    }

    /// Polls every worker once, each at the same time.
    pub(crate) fn poll(&mut self) -> usize {
        let time = self.time();
        let mut served = 0;
        for worker in 0..self.workers.len() {
            let before = (self.heap_calls)();
            served += self.workers[worker].poll(time);
            self.heap_calls_in_polls += (self.heap_calls)() - before;
            self.balance(worker);
        }
        self.balance_buffers();
        served
    }

    /// Polls one worker alone.
    pub(crate) fn poll_only(&mut self, worker: usize) -> usize {
        let time = self.time();
        let served = self.workers[worker].poll(time);
        self.balance(worker);
        self.balance_buffers();
        served
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.now_ns += ms * MS_NS;
        self.poll();
    }

    /// Polls until nothing moves any more; stations that are asked for answer, if they do at all.
    /// Gives back the packets that left, by side, without those questions.
    pub(crate) fn settle(&mut self) -> Vec<(Side, Vec<u8>)> {
        let mut packets = Vec::new();
        for _ in 0..1000 {
            let served = self.poll();
            let answered = self.take_departed(&mut packets);
            let waiting = self.workers.iter_mut().any(|w| w.io_mut().waiting() > 0);
            if served == 0 && !answered && !waiting {
                return packets;
            }
        }
        panic!("the workers never rest");
    }

    /// [`Self::settle`], and the only packet that left, which must have left by `side`.
    pub(crate) fn settle_one(&mut self, side: Side) -> Vec<u8> {
        let mut packets = self.settle();
        assert_eq!(packets.len(), 1, "{packets:02x?}");
        let (left_by, packet) = packets.remove(0);
        assert_eq!(left_by, side);
        packet
    }

    fn take_departed(&mut self, packets: &mut Vec<(Side, Vec<u8>)>) -> bool {
        let mut answered = false;
        for side in Side::BOTH {
            while let Some((_, frame)) = self.departed(side) {
                let bytes = frame.packet().clone();
                drop(frame);
                let bytes = dataplane::packet::Buffer::bytes(&bytes);
                let parsed = parse(bytes).expect("what is sent can be read");
                assert_eq!(ethernet::source(bytes), side.stations().0);
                let vlan = self.setup.vlans[side as usize].unwrap_or(0);
                assert_eq!(parsed.vlan, vlan);
                if self.is_question(side, bytes, &parsed) {
                    if self.neighbours_answer {
                        answered |= self.answer(side, bytes, &parsed);
                    }
                    continue;
                }
                if parsed.kind == Kind::Ip {
                    let packet = &bytes[usize::from(parsed.network)..];
                    packets.push((side, packet.to_vec()));
                }
            }
        }
        answered
    }

    /// A whole handshake on both sides.
    pub(crate) fn open(&mut self, talk: &mut Conversation) {
        self.send(Side::Outside, &talk.syn());
        let cookie = self.settle_one(Side::Outside);
        talk.take_cookie(&cookie);
        let ack = talk.client_sends(dataplane::parse::flags::ACK, b"");
        self.send(Side::Outside, &ack);
        let syn = self.settle_one(Side::Inside);
        assert_eq!(conversation::see(&syn).flags, dataplane::parse::flags::SYN);
        self.send(Side::Inside, &talk.syn_ack());
        let ack = conversation::see(&self.settle_one(Side::Inside));
        assert_eq!(ack.acknowledgement, talk.server_next());
    }

    /// All workers' counters together.
    pub(crate) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        for worker in &self.workers {
            all.merge(worker.counters());
        }
        all
    }

    pub(crate) fn event(&self, event: Event) -> u64 {
        self.counters().event(event)
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.counters().drops(reason)
    }

    /// Gives a worker a command and takes its report.
    pub(crate) fn command(&mut self, worker: usize, command: Command) -> Report {
        let pushed = self.desks[worker].commands.push(command);
        assert!(pushed.is_ok(), "the ring of commands is full");
        self.poll();
        self.desks[worker].reports.pop().expect("a report")
    }

    /// Every frame that a worker has had left it by one way, or is held.
    fn balance(&self, number: usize) {
        let worker = &self.workers[number];
        let counters = worker.counters();
        let event = |event| counters.event(event);
        let came = event(Event::Received) + event(Event::Created) + event(Event::TakenOver);
        let left = event(Event::Sent)
            + event(Event::HandedOff)
            + event(Event::Consumed)
            + counters.all_drops()
            + worker.held() as u64;
        assert_eq!(
            came,
            left,
            "worker {number}, held {}: {}",
            worker.held(),
            described(counters)
        );
        // What waits does not wait for ever.
        assert!(worker.held() == 0 || worker.next_deadline_ns().is_some());
    }

    /// Every live buffer stands in a queue, waits in a worker, or is between two.
    fn balance_buffers(&mut self) {
        let counters = self.counters();
        let between = counters.event(Event::HandedOff) - counters.event(Event::TakenOver);
        let held: usize = self.workers.iter().map(Worker::held).sum();
        let workers = self.workers.iter_mut();
        let standing: usize = workers.map(|worker| worker.io_mut().standing()).sum();
        assert_eq!(
            self.pool.live(),
            standing + held + between as usize,
            "{standing} stand in queues, {held} are held, {between} are between workers: {}",
            described(&counters)
        );
    }
}

/// The counters that are not zero.
pub(crate) fn described(counters: &Counters) -> String {
    let events = Event::ALL.iter();
    let events = events.map(|&event| (event.label(), counters.event(event)));
    let drops = DropReason::ALL.iter();
    let drops = drops.map(|&reason| (reason.label(), counters.drops(reason)));
    let counted = events.chain(drops).filter(|&(_, count)| count > 0);
    let texts: Vec<_> = counted.map(|(name, n)| format!("{name}={n}")).collect();
    texts.join(" ")
}

/// Every checksum of these packets holds.
pub(crate) fn all_sound(packets: &[(Side, Vec<u8>)]) {
    packets.iter().for_each(|(_, packet)| assert_sound(packet));
}

/// The facts of a packet.
pub(crate) fn facts(packet: &[u8]) -> Parsed {
    parse_network(packet).expect("a packet")
}
