//! What stands at the ends of links.

use std::any::Any;

/// A frame that a node sends: from which of its ports, and its octets.
pub type Departure = (usize, Vec<u8>);

/// A machine of the virtual network.
///
/// The world calls [`Node::receive`] for each frame that arrives, and soon after
/// [`Node::poll`]; it also polls when [`Node::next_wake_ns`] says so. A node has no clock: the
/// time it is told never goes back.
pub trait Node: Any {
    /// A frame arrives at `port`.
    fn receive(&mut self, port: usize, frame: Vec<u8>, now_ns: u64);

    /// Serves what has arrived and what is due; what is to be sent goes to `out`.
    fn poll(&mut self, now_ns: u64, out: &mut Vec<Departure>);

    /// When it must be polled again if nothing arrives before; a time that has come already means
    /// at once.
    fn next_wake_ns(&self, now_ns: u64) -> Option<u64>;
}

/// A switch: it learns stations by their frames, and floods what it has not learned.
#[derive(Debug, Default)]
pub struct Switch {
    ports: usize,
    stations: std::collections::BTreeMap<[u8; 6], usize>,
    /// From which port to which other one nothing goes.
    blocked: std::collections::BTreeSet<(usize, usize)>,
    waiting: Vec<Departure>,
}

impl Switch {
    /// A switch of so many ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        Self {
            ports,
            ..Self::default()
        }
    }

    /// Lets nothing through from one port to another, or all again.
    pub fn block(&mut self, from: usize, to: usize, is_blocked: bool) {
        if is_blocked {
            self.blocked.insert((from, to));
        } else {
            self.blocked.remove(&(from, to));
        }
    }
}

impl Node for Switch {
    fn receive(&mut self, port: usize, frame: Vec<u8>, _now_ns: u64) {
        if frame.len() < 14 {
            return;
        }
        let (mut to, mut from) = ([0; 6], [0; 6]);
        to.copy_from_slice(&frame[..6]);
        from.copy_from_slice(&frame[6..12]);
        self.stations.insert(from, port);
        match self.stations.get(&to) {
            Some(&known) if known == port || self.blocked.contains(&(port, known)) => {}
            Some(&known) => self.waiting.push((known, frame)),
            None => {
                let is_open =
                    |&other: &usize| other != port && !self.blocked.contains(&(port, other));
                let others = (0..self.ports).filter(is_open);
                self.waiting
                    .extend(others.map(|other| (other, frame.clone())));
            }
        }
    }

    fn poll(&mut self, _now_ns: u64, out: &mut Vec<Departure>) {
        out.append(&mut self.waiting);
    }

    fn next_wake_ns(&self, _now_ns: u64) -> Option<u64> {
        None
    }
}
