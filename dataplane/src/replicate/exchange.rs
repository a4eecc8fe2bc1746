//! What stands between the workers' desks and the replicator: the whole work of the thread that
//! talks to the peers, but for its waiting.

use super::config::{Destination, MAX_PAYLOAD_BYTES};
use super::desk::{ControlPeers, Datagram, Origin};
use super::envelope;
use super::receive::Heard;
use super::replicator::Replicator;
use super::stations::Stations;
use super::{FromPeers, PeerId};
use crate::limits::{DATAGRAM_RING, NEWS_PER_TURN, RECORDS_PER_TURN};
use crate::wire::address::Address;
use crate::worker::Time;

/// Where the peers are.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Our own, on the replication port: one of each family that is used.
    pub own: Vec<Address>,
    /// Each peer's; none where everything goes to the group.
    pub peers: Vec<(PeerId, Address)>,
    /// The group's, if there is one.
    pub group: Option<Address>,
    /// The UDP port of all of them.
    pub udp_port: u16,
}

impl Addresses {
    fn of(&self, destination: Destination) -> Option<Address> {
        match destination {
            Destination::Group => self.group,
            Destination::Peer(peer) => {
                let known = self.peers.iter().find(|(id, _)| *id == peer);
                known.map(|&(_, address)| address)
            }
        }
    }

    fn source_for(&self, destination: Address) -> Option<Address> {
        let family = destination.family();
        self.own.iter().copied().find(|own| own.family() == family)
    }
}

/// What was lost here, each for its own reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that came to the replication port and are no sound UDP datagrams.
    pub malformed: u64,
    /// Datagrams that no worker had room for.
    pub no_room: u64,
    /// Datagrams to a peer of whom no address, or no address of ours of its family, is known.
    pub no_address: u64,
}

/// The replicator and its ends of all workers' rings.
#[allow(clippy::vec_box, reason = "the boxes go through the rings")]
pub struct Exchange {
    replicator: Replicator,
    desks: Vec<ControlPeers>,
    addresses: Addresses,
    spare: Vec<Box<Datagram>>,
    /// The worker that sends next.
    turn_of: usize,
    /// News that found its worker's ring full.
    kept: Option<(usize, FromPeers)>,
    stations: Stations,
    losses: Losses,
}

impl Exchange {
    /// Puts them together; one desk for each worker, in their order.
    pub fn new(replicator: Replicator, desks: Vec<ControlPeers>, addresses: Addresses) -> Self {
        Self {
            replicator,
            desks,
            addresses,
            spare: Vec::with_capacity(DATAGRAM_RING),
            turn_of: 0,
            kept: None,
            stations: Stations::new(),
            losses: Losses::default(),
        }
    }

    /// The replicator.
    pub fn replicator(&self) -> &Replicator {
        &self.replicator
    }

    /// The replicator, to change its keys or have it leave.
    pub fn replicator_mut(&mut self) -> &mut Replicator {
        &mut self.replicator
    }

    /// Uses these addresses from now on.
    pub fn set_addresses(&mut self, addresses: Addresses) {
        self.addresses = addresses;
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Serves what waits on either side, a bounded part of it. Returns how much there was; after 0
    /// nothing is to be done before [`Self::next_deadline_ns`] or the next arrival.
    pub fn turn(&mut self, now: Time) -> usize {
        let mut served = 0;
        for worker in 0..self.desks.len() {
            served += self.take_records(worker, now);
            served += self.take_arrived(worker, now);
        }
        self.replicator.tick(now);
        served + self.give_news() + self.send_datagrams(now.now_ns)
    }

    /// When [`Self::turn`] has something to do, if nothing arrives before.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if self.kept.is_some() {
            return Some(0);
        }
        self.replicator.next_deadline_ns()
    }

    /// Datagrams that the workers have not fetched yet.
    pub fn departing(&self) -> usize {
        let waiting = |desk: &ControlPeers| DATAGRAM_RING - desk.departing.slots();
        self.desks.iter().map(waiting).sum()
    }

    fn take_records(&mut self, worker: usize, now: Time) -> usize {
        let records = &mut self.desks[worker].records;
        let waiting = records.slots().min(RECORDS_PER_TURN);
        let Ok(chunk) = records.read_chunk(waiting) else {
            return 0;
        };
        for message in chunk {
            self.replicator.take(now, worker, message);
        }
        waiting
    }

    fn take_arrived(&mut self, worker: usize, now: Time) -> usize {
        let mut served = 0;
        while served < DATAGRAM_RING
            && let Ok(mut datagram) = self.desks[worker].arrived.pop()
        {
            served += 1;
            if datagram.bytes().is_empty() {
                self.keep(datagram);
                continue;
            }
            match envelope::unpack(datagram.bytes()) {
                Some((source, payload)) => {
                    let heard = self.replicator.receive(now, source, payload);
                    if let (Some(heard), Some(origin)) = (heard, datagram.origin()) {
                        self.note_station(heard, source.0, origin, now.now_ns);
                    }
                }
                None => self.losses.malformed += 1,
            }
            datagram.set_len(0);
            // The worker's stock gets it back.
            if let Err(rtrb::PushError::Full(datagram)) =
                self.desks[worker].departing.push(datagram)
            {
                self.keep(datagram);
            }
        }
        served
    }

    /// Tells the workers where a peer's datagram came from, now and then; a greeting that proves
    /// nothing only earns its answer. Where peers are sent to by a group's address, no worker needs
    /// to know.
    #[inline]
    fn note_station(&mut self, heard: Heard, address: Address, origin: Origin, now_ns: u64) {
        if self.addresses.group.is_some() {
            return;
        }
        match heard {
            Heard::Greeting(peer) => self.stations.note_greeting(peer, origin, now_ns),
            Heard::Proved(peer) if self.stations.is_news(peer, origin, now_ns) => {
                for desk in &mut self.desks {
                    // With the ring full, it is told again in a second.
                    let _ = desk.news.push(FromPeers::Station(address, origin));
                }
            }
            Heard::Proved(_) => {}
        }
    }

    fn keep(&mut self, datagram: Box<Datagram>) {
        if self.spare.len() < self.spare.capacity() {
            self.spare.push(datagram);
        }
    }

    fn give_news(&mut self) -> usize {
        for served in 0..NEWS_PER_TURN {
            let Some((worker, news)) = self.kept.take().or_else(|| self.replicator.next_news())
            else {
                return served;
            };
            let Some(desk) = self.desks.get_mut(worker) else {
                continue;
            };
            if let Err(rtrb::PushError::Full(news)) = desk.news.push(news) {
                self.kept = Some((worker, news));
                return served;
            }
        }
        NEWS_PER_TURN
    }

    fn send_datagrams(&mut self, now_ns: u64) -> usize {
        let mut served = 0;
        // As many as the workers have room for: what waits longer is the replicator's to keep.
        while served < DATAGRAM_RING
            && let Some(worker) = self.next_sender()
        {
            let mut datagram = self.spare.pop().unwrap_or_else(Datagram::empty);
            // Written beside it: only now it is known which headers come before it.
            let mut payload = [0; MAX_PAYLOAD_BYTES];
            let Some((to, length)) = self.replicator.next_datagram(&mut payload) else {
                self.keep(datagram);
                return served;
            };
            served += 1;
            let way = self.addresses.of(to).and_then(|destination| {
                let source = self.addresses.source_for(destination)?;
                Some((source, destination))
            });
            let Some((source, destination)) = way else {
                self.losses.no_address += 1;
                self.keep(datagram);
                continue;
            };
            let fill = |room: &mut [u8]| {
                room.get_mut(..length)?.copy_from_slice(&payload[..length]);
                Some(length)
            };
            let udp_port = self.addresses.udp_port;
            if !envelope::pack(&mut datagram, source, destination, udp_port, fill) {
                self.losses.no_room += 1;
                self.keep(datagram);
                continue;
            }
            datagram.set_origin(match to {
                Destination::Peer(peer) => self.stations.answered(peer, now_ns),
                Destination::Group => None,
            });
            if let Err(rtrb::PushError::Full(datagram)) =
                self.desks[worker].departing.push(datagram)
            {
                self.losses.no_room += 1;
                self.keep(datagram);
            }
        }
        served
    }

    /// The next worker whose ring has room, each in its turn.
    fn next_sender(&mut self) -> Option<usize> {
        let count = self.desks.len();
        let first = (0..count)
            .map(|step| (self.turn_of + step) % count)
            .find(|&worker| !self.desks[worker].departing.is_full())?;
        self.turn_of = (first + 1) % count;
        Some(first)
    }
}
