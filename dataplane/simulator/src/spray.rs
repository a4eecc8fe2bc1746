//! A host's routers, which send each of its packets by whichever guard they like.

use crate::frame::Mac;
use crate::node::{Departure, Node};
use crate::random::Random;

/// The port towards the network.
pub const NETWORK: usize = 0;
/// The port towards the host.
pub const HOST: usize = 1;

/// Stands between a host and its network. The host knows one guard's address; of the IP packets
/// that it sends there, each goes to one of the guards at random.
#[derive(Debug)]
pub struct Spray {
    guards: Vec<Mac>,
    /// Which guards are used now.
    in_use: Vec<bool>,
    random: Random,
    waiting: Vec<Departure>,
}

const ETHER_TYPE: std::ops::Range<usize> = 12..14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;

impl Spray {
    /// Sprays over these guards, of which the host knows the first.
    #[must_use]
    pub fn new(guards: Vec<Mac>, seed: u64) -> Self {
        Self {
            in_use: vec![true; guards.len()],
            guards,
            random: Random::new(seed),
            waiting: Vec::new(),
        }
    }

    /// Uses a guard, or no longer.
    pub fn set_in_use(&mut self, guard: usize, in_use: bool) {
        self.in_use[guard] = in_use;
    }

    fn choose(&mut self) -> Option<Mac> {
        let used: Vec<Mac> = self
            .guards
            .iter()
            .zip(&self.in_use)
            .filter_map(|(mac, in_use)| in_use.then_some(*mac))
            .collect();
        let count = used.len() as u64;
        (count > 0).then(|| used[self.random.below(count) as usize])
    }
}

/// Whether a frame is one that routers choose a way for: not the neighbours' own messages.
fn is_routed(frame: &[u8]) -> bool {
    let kind = frame.get(ETHER_TYPE);
    kind == Some(&IPV4) || kind == Some(&IPV6) && frame.get(20) != Some(&ICMPV6)
}

impl Node for Spray {
    fn receive(&mut self, port: usize, mut frame: Vec<u8>, _now_ns: u64) {
        if port == NETWORK {
            self.waiting.push((HOST, frame));
            return;
        }
        if frame.get(..6) == self.guards.first().map(|mac| &mac[..]) && is_routed(&frame) {
            let Some(guard) = self.choose() else {
                return;
            };
            frame[..6].copy_from_slice(&guard);
        }
        self.waiting.push((NETWORK, frame));
    }

    fn poll(&mut self, _now_ns: u64, out: &mut Vec<Departure>) {
        out.append(&mut self.waiting);
    }

    fn next_wake_ns(&self, _now_ns: u64) -> Option<u64> {
        None
    }
}
