//! Somebody on the network between the guards who has no key.

use std::net::IpAddr;

use crate::appliance::REPLICATION_UDP_PORT;
use crate::frame::{Ends, Frame, Mac};
use crate::node::{Departure, Node};
use crate::random::Random;

/// Its station.
const INTRUDER_MAC: Mac = [2, 0, 0, 2, 0, 0xbb];
const UDP: u8 = 17;
/// When it begins, and ends.
const SPAN_NS: std::ops::Range<u64> = 1_000_000_000..35_000_000_000;

/// Sends a guard datagrams of drawn octets in another one's name, from a station of its own.
pub(super) struct Intruder {
    guards: Vec<(Mac, IpAddr)>,
    every_ns: u64,
    next_ns: u64,
    random: Random,
}

impl Intruder {
    pub(super) fn new(guards: Vec<(Mac, IpAddr)>, every_ns: u64, seed: u64) -> Self {
        Self {
            guards,
            every_ns,
            next_ns: SPAN_NS.start,
            random: Random::new(!seed),
        }
    }

    fn datagram(&mut self) -> Vec<u8> {
        let count = self.guards.len() as u64;
        let victim = self.random.below(count);
        let other = (victim + 1 + self.random.below(count - 1)) % count;
        let ((station, destination), (_, source)) =
            (self.guards[victim as usize], self.guards[other as usize]);
        let ends = Ends {
            source,
            source_port: REPLICATION_UDP_PORT,
            destination,
            destination_port: REPLICATION_UDP_PORT,
        };
        let octets = self.random.below(200) as u16;
        let mut datagram = Vec::new();
        for word in [ends.source_port, ends.destination_port, 8 + octets, 0] {
            datagram.extend(word.to_be_bytes());
        }
        datagram.extend((0..octets).map(|_| self.random.next_u64() as u8));
        Frame::between(INTRUDER_MAC, station, ends).ip(UDP, &datagram)
    }
}

impl Node for Intruder {
    fn receive(&mut self, _port: usize, _frame: Vec<u8>, _now_ns: u64) {}

    fn poll(&mut self, now_ns: u64, out: &mut Vec<Departure>) {
        while self.next_ns <= now_ns && SPAN_NS.contains(&self.next_ns) {
            out.push((0, self.datagram()));
            self.next_ns += self.every_ns / 2 + self.random.below(self.every_ns) + 1;
        }
    }

    fn next_wake_ns(&self, _now_ns: u64) -> Option<u64> {
        SPAN_NS.contains(&self.next_ns).then_some(self.next_ns)
    }
}
