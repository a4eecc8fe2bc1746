//! A host without a stack: it says what it is told to and keeps what it hears.

use std::collections::VecDeque;

use crate::frame::{Body, Packet, Station, decode};
use crate::node::{Departure, Node};

/// A host that answers for its addresses and otherwise only says what it is told.
pub struct Puppet {
    station: Station,
    waiting: Vec<Vec<u8>>,
    heard: VecDeque<(Packet, Vec<u8>)>,
}

impl Puppet {
    /// A puppet at this station.
    #[must_use]
    pub fn new(station: Station) -> Self {
        Self {
            station,
            waiting: Vec::new(),
            heard: VecDeque::new(),
        }
    }

    /// Sends a frame at the next poll.
    pub fn say(&mut self, frame: Vec<u8>) {
        self.waiting.push(frame);
    }

    /// The next packet that came in and was not taken yet, with its frame. Neighbour messages are
    /// not among them.
    pub fn hear(&mut self) -> Option<(Packet, Vec<u8>)> {
        self.heard.pop_front()
    }

    /// How many packets [`Self::hear`] still has.
    #[must_use]
    pub fn unheard(&self) -> usize {
        self.heard.len()
    }
}

impl Node for Puppet {
    fn receive(&mut self, _port: usize, frame: Vec<u8>, _now_ns: u64) {
        self.waiting.extend(self.station.answer(&frame));
        let is_ours = frame.get(..6) == Some(&self.station.mac);
        if let Some(packet) = decode(&frame).filter(|_| is_ours) {
            let is_talk = match &packet.body {
                Body::Tcp(_) | Body::Fragment { .. } => true,
                Body::Icmp(_) => !packet.is_neighbour_discovery(),
                Body::Other(_) => false,
            };
            if is_talk {
                self.heard.push_back((packet, frame));
            }
        }
    }

    fn poll(&mut self, _now_ns: u64, out: &mut Vec<Departure>) {
        out.extend(self.waiting.drain(..).map(|frame| (0, frame)));
    }

    fn next_wake_ns(&self, _now_ns: u64) -> Option<u64> {
        None
    }
}
