//! Clients and servers joined by two simulated links, on a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dataplane::wire::address::Address;
use dataplane::wire::ethernet::MacAddress;
use simulator::{Link as Wire, LinkSettings};

use crate::endpoints::{
    ClientConfig, Clients, Close, End, Link, Pool, ServerConfig, Servers, Talk,
};

pub(super) const LINK: Link = Link::between(
    MacAddress([2, 0, 0, 0, 0, 1]),
    MacAddress([2, 0, 0, 0, 0, 2]),
);
pub(super) const SERVER: Address = Address::from_v4([10, 0, 0, 10]);
const TURN_NS: u64 = 5_000_000;
pub(super) const MILLISECOND_NS: u64 = 1_000_000;
pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// Four clients with a few ports each, which ask two ports of a server.
pub(super) fn pool() -> Pool {
    Pool {
        first: Address::from_v4([192, 0, 2, 7]),
        addresses: 4,
        first_port: 2000,
        ports: 64,
        servers: vec![(SERVER, 80), (SERVER, 8080)],
    }
}

pub(super) fn pool_of_ipv6() -> Pool {
    let net = |host: u128| Address::from_bits(0x2001_0db8_u128 << 96 | host);
    Pool {
        first: net(0xffff),
        servers: vec![(net(1), 80)],
        ..pool()
    }
}

pub(super) fn talk(request_bytes: u32, body_bytes: u32) -> Talk {
    Talk::Verified {
        request_bytes,
        body_bytes,
    }
}

/// What happens to a frame before it is sent to the client.
pub(super) type Tamper = fn(&mut Vec<u8>);

/// When a frame arrives, its number, its direction, and the frame.
type Arrival = (u64, u64, usize, Vec<u8>);

pub(super) struct Joined {
    pub(super) clients: Clients,
    pub(super) servers: Servers,
    pub(super) now_ns: u64,
    pub(super) tamper: Option<Tamper>,
    wires: [Wire; 2],
    on_the_way: BinaryHeap<Reverse<Arrival>>,
    number: u64,
}

impl Joined {
    pub(super) fn new(config: ClientConfig, wire: LinkSettings, seed: u64) -> Self {
        let listens = config.pools.iter().flat_map(|pool| pool.servers.clone());
        let mut serving = ServerConfig::new(LINK, listens.collect(), 300);
        serving.tries = config.tries;
        serving.mtu_bytes = config.mtu_bytes;
        Self {
            clients: Clients::new(config, SECOND_NS).unwrap(),
            servers: Servers::new(serving, SECOND_NS).unwrap(),
            now_ns: SECOND_NS,
            tamper: None,
            wires: [Wire::new(wire, seed), Wire::new(wire, !seed)],
            on_the_way: BinaryHeap::new(),
            number: 0,
        }
    }

    /// Of the pool of IPv4, over a wire that only takes its time.
    pub(super) fn plain(talk: Talk, close: Close) -> Self {
        let config = ClientConfig {
            talk,
            close,
            ..ClientConfig::new(LINK, pool())
        };
        let wire = LinkSettings {
            delay_ns: MILLISECOND_NS,
            ..LinkSettings::default()
        };
        Self::new(config, wire, 1)
    }

    pub(super) fn open(&mut self, connections: u32) {
        let mut frames = Vec::new();
        for _ in 0..connections {
            self.clients.open(self.now_ns, &mut frames).unwrap();
        }
        self.send(0, frames);
    }

    /// Has `act` do something with the clients and what they send.
    pub(super) fn act(&mut self, act: impl FnOnce(&mut Clients, u64, &mut Vec<Vec<u8>>)) {
        let mut frames = Vec::new();
        act(&mut self.clients, self.now_ns, &mut frames);
        self.send(0, frames);
    }

    fn send(&mut self, direction: usize, frames: Vec<Vec<u8>>) {
        for mut frame in frames {
            if let (1, Some(tamper)) = (direction, self.tamper) {
                tamper(&mut frame);
            }
            for arrival_ns in self.wires[direction].offer(frame.len(), self.now_ns) {
                self.number += 1;
                let entry = (arrival_ns, self.number, direction, frame.clone());
                self.on_the_way.push(Reverse(entry));
            }
        }
    }

    /// Goes on until `limit_ns` from now, or until nothing is on the way and no connection open.
    pub(super) fn run(&mut self, limit_ns: u64) {
        let until_ns = self.now_ns + limit_ns;
        while self.now_ns < until_ns {
            let is_quiet = self.on_the_way.is_empty()
                && self.clients.ends().open() == self.clients.held()
                && self.servers.open() as u64 == self.clients.held();
            if is_quiet {
                return;
            }
            self.turn();
        }
    }

    pub(super) fn turn(&mut self) {
        let turn_ends_ns = self.now_ns + TURN_NS;
        while let Some(Reverse((arrival_ns, ..))) = self.on_the_way.peek()
            && *arrival_ns <= turn_ends_ns
            && let Some(Reverse((arrival_ns, _, direction, frame))) = self.on_the_way.pop()
        {
            self.now_ns = self.now_ns.max(arrival_ns);
            let mut frames = Vec::new();
            if direction == 0 {
                self.servers.receive(&frame, self.now_ns, &mut frames);
                self.servers.flush(self.now_ns, &mut frames);
            } else {
                self.clients.receive(&frame, self.now_ns, &mut frames);
                self.clients.flush(self.now_ns, &mut frames);
            }
            self.send(1 - direction, frames);
        }
        self.now_ns = turn_ends_ns;
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        self.clients.poll(self.now_ns, &mut asked);
        self.servers.poll(self.now_ns, &mut answered);
        self.send(0, asked);
        self.send(1, answered);
    }

    /// Asserts that the sums hold at both ends.
    pub(super) fn assert_sums(&self) {
        let ends = self.clients.ends();
        assert_eq!(ends.started, ends.ended() + ends.open());
        let counters = self.servers.counters();
        assert_eq!(
            counters.accepted,
            counters.ended() + self.servers.open() as u64,
            "{counters:?}"
        );
    }

    pub(super) fn assert_completed(&self, connections: u64) {
        let ends = self.clients.ends();
        assert_eq!(ends.of(End::Completed), connections, "{}", ends.failures());
        self.assert_sums();
    }
}
