//! What the replication thread does in one turn.

use std::sync::Arc;

use dataplane::limits::DATAGRAM_RING;
use dataplane::replicate::config::{Destination, MAX_PAYLOAD_BYTES, PeerConfig};
use dataplane::replicate::desk::{ControlPeers, Datagram};
use dataplane::replicate::envelope::{pack, unpack};
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::replicator::Replicator;
use dataplane::replicate::status::PeerEvent;
use dataplane::replicate::{FromPeers, PeerId};
use dataplane::wire::address::Address;
use dataplane::worker::Time;
use tracing::{info, warn};

use super::told::{Extra, Visible};

/// Datagrams that are taken from a worker in one turn.
const ARRIVALS: usize = 256;
/// What a worker says that is taken in one turn.
const MESSAGES: usize = 4_096;
/// Datagrams that are sent in one turn.
const DEPARTURES: usize = 256;
/// Datagrams that are made in all; beyond it one waits until some come back.
const DATAGRAMS: usize = DATAGRAM_RING;
/// How often it is made visible how the thread stands.
const SHOW_NS: u64 = 100_000_000;
/// The worker that sends. There always is one with this number, with a queue of every port.
const SENDER: usize = 0;

/// Datagrams that are nowhere else.
type Boxes = Vec<Box<Datagram>>;

/// How the others are reached.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// Our own address.
    pub(super) address: Address,
    /// The UDP port, ours and theirs.
    pub(super) udp_port: u16,
    /// The others.
    pub(super) peers: Vec<PeerConfig>,
    /// Where all of them are reached at once.
    pub(super) group: Option<Address>,
}

impl Way {
    fn to(&self, destination: Destination) -> Option<Address> {
        match destination {
            Destination::Group => self.group,
            Destination::Peer(id) => {
                let peer = self.peers.iter().find(|peer| peer.id == id);
                peer.and_then(|peer| peer.address)
            }
        }
    }
}

/// The replicator, and the rings that it hangs between.
pub(super) struct Carrier {
    replicator: Replicator,
    desks: Vec<ControlPeers>,
    way: Way,
    visible: Arc<Visible>,
    extra: Extra,
    /// News that found a worker's ring full.
    waiting: Option<(usize, FromPeers)>,
    /// Emptied datagrams that go back to each worker.
    back: Vec<Boxes>,
    /// Empty datagrams.
    stock: Boxes,
    made: usize,
    payload: Box<[u8; MAX_PAYLOAD_BYTES]>,
    shown_ns: u64,
}

impl Carrier {
    pub(super) fn new(
        replicator: Replicator,
        desks: Vec<ControlPeers>,
        way: Way,
        visible: Arc<Visible>,
    ) -> Self {
        Self {
            replicator,
            back: desks.iter().map(|_| Vec::new()).collect(),
            desks,
            way,
            visible,
            extra: Extra::default(),
            waiting: None,
            stock: Vec::new(),
            made: 0,
            payload: Box::new([0; MAX_PAYLOAD_BYTES]),
            shown_ns: 0,
        }
    }

    /// One turn; tells how much there was to do.
    pub(super) fn turn(&mut self, time: Time) -> usize {
        let mut served = self.hear_network(time);
        served += self.hear_workers(time);
        if time.now_ns >= self.deadline_ns() {
            self.replicator.tick(time);
            served += 1;
        }
        served += self.tell_workers();
        served += self.tell_network();
        while let Some(event) = self.replicator.next_event() {
            self.shown_ns = 0;
            log(event);
        }
        if time.now_ns.saturating_sub(self.shown_ns) >= SHOW_NS {
            self.shown_ns = time.now_ns;
            self.visible.show(&self.replicator, self.extra, time.now_ns);
        }
        served
    }

    /// When there is next something to do that nobody says.
    pub(super) fn deadline_ns(&self) -> u64 {
        self.replicator.next_deadline_ns().unwrap_or(u64::MAX)
    }

    pub(super) fn set_keys(&mut self, time: Time, keys: &[ReplicationKey]) {
        self.replicator.reconfigure(time, keys);
        info!("replication keys: {} in force", keys.len());
    }

    /// Lets the next turns say good-bye.
    pub(super) fn leave(&mut self) {
        self.replicator.leave();
    }

    /// Whether the workers have taken all that was sent.
    pub(super) fn is_all_sent(&self) -> bool {
        let departing = &self.desks[SENDER].departing;
        departing.slots() == DATAGRAM_RING
    }

    fn hear_network(&mut self, time: Time) -> usize {
        let mut served = 0;
        for (desk, back) in self.desks.iter_mut().zip(&mut self.back) {
            for _ in 0..ARRIVALS {
                let Ok(mut datagram) = desk.arrived.pop() else {
                    break;
                };
                if datagram.bytes().is_empty() {
                    self.stock.push(datagram);
                    continue;
                }
                served += 1;
                match unpack(datagram.bytes()) {
                    Some((source, payload)) => self.replicator.receive(time, source, payload),
                    None => self.extra.damaged += 1,
                }
                datagram.set_len(0);
                back.push(datagram);
            }
            give_back(desk, back);
        }
        served
    }

    fn hear_workers(&mut self, time: Time) -> usize {
        let mut served = 0;
        for (worker, desk) in self.desks.iter_mut().enumerate() {
            for _ in 0..MESSAGES {
                let Ok(message) = desk.records.pop() else {
                    break;
                };
                self.replicator.take(time, worker, message);
                served += 1;
            }
        }
        served
    }

    /// Gives the workers their news, in order; where a ring is full, all wait for the next turn.
    fn tell_workers(&mut self) -> usize {
        let mut served = 0;
        while let Some((worker, news)) = self.waiting.take().or_else(|| self.replicator.next_news())
        {
            let Some(desk) = self.desks.get_mut(worker) else {
                continue;
            };
            if let Err(rtrb::PushError::Full(news)) = desk.news.push(news) {
                self.extra.news_delayed += 1;
                self.waiting = Some((worker, news));
                break;
            }
            served += 1;
        }
        served
    }

    /// Sends what there is, as far as there are datagrams for it and the worker takes them.
    fn tell_network(&mut self) -> usize {
        let mut served = 0;
        while served < DEPARTURES && !self.desks[SENDER].departing.is_full() {
            let Some(mut datagram) = self.empty_datagram() else {
                break;
            };
            let Some((destination, length)) = self.replicator.next_datagram(&mut self.payload[..])
            else {
                self.stock.push(datagram);
                break;
            };
            served += 1;
            let payload = &self.payload[..length];
            let is_packed = self.way.to(destination).is_some_and(|to| {
                pack(
                    &mut datagram,
                    self.way.address,
                    to,
                    self.way.udp_port,
                    |room| {
                        room.get_mut(..length)?.copy_from_slice(payload);
                        Some(length)
                    },
                )
            });
            if !is_packed {
                self.extra.unsendable += 1;
                self.stock.push(datagram);
            } else if let Err(rtrb::PushError::Full(datagram)) =
                self.desks[SENDER].departing.push(datagram)
            {
                self.extra.unsendable += 1;
                self.stock.push(datagram);
            }
        }
        served
    }

    fn empty_datagram(&mut self) -> Option<Box<Datagram>> {
        self.stock.pop().or_else(|| {
            let may_make = self.made < DATAGRAMS;
            self.made += usize::from(may_make);
            may_make.then(Datagram::empty)
        })
    }
}

fn give_back(desk: &mut ControlPeers, back: &mut Boxes) {
    while let Some(datagram) = back.pop() {
        if let Err(rtrb::PushError::Full(datagram)) = desk.departing.push(datagram) {
            back.push(datagram);
            return;
        }
    }
}

/// A line of the log for everything that changes between the guards.
fn log(event: PeerEvent) {
    let number = |PeerId(number): PeerId| number;
    match event {
        PeerEvent::State { peer, from, to } if to.is_alive() || !from.is_alive() => info!(
            peer = number(peer),
            from = from.label(),
            to = to.label(),
            "peer"
        ),
        PeerEvent::State { peer, from, to } => warn!(
            peer = number(peer),
            from = from.label(),
            to = to.label(),
            "peer"
        ),
        PeerEvent::InStep(true) => info!("this guard knows what the others know"),
        PeerEvent::InStep(false) => info!("this guard lacks what the others know"),
        PeerEvent::ResyncStarted { peer } => info!(peer = number(peer), "resync begins"),
        PeerEvent::ResyncFinished { peer, records } => {
            info!(peer = number(peer), records, "resync ends");
        }
        PeerEvent::ResyncAborted { peer } => {
            warn!(
                peer = number(peer),
                "resync breaks off; another way is looked for"
            );
        }
        PeerEvent::NumberTaken { source } => warn!(
            "another guard, at {}, has our number: give each its own `replication.own`",
            std::net::IpAddr::from(source)
        ),
    }
}

#[cfg(test)]
mod tests;
