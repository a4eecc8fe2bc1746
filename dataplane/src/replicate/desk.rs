//! The rings between a worker and whoever talks to the peers.
//!
//! Nothing here waits. What finds a ring full is counted by its sender and lost: a record that is
//! lost is told again with the session's next one, or when a peer asks.

use rtrb::{Consumer, Producer, RingBuffer};

use super::{FromPeers, ToPeers};
use crate::io::InterfaceId;
use crate::limits::{DATAGRAM_BYTES, DATAGRAM_RING, PEER_RING};
use crate::wire::ethernet::MacAddress;

/// Where a packet came from, as its frame says. Whether that is true is known only once the packet
/// is found authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The interface that it came in by.
    pub interface: InterfaceId,
    /// The MAC address of its sender.
    pub mac: MacAddress,
}

/// An IP packet of the replication port, on its way between a worker and the control thread. Empty
/// ones travel to the worker, so that it need not allocate.
#[derive(Debug)]
pub struct Datagram {
    origin: Option<Origin>,
    length: u16,
    bytes: [u8; DATAGRAM_BYTES],
}

impl Datagram {
    /// One without content.
    pub fn empty() -> Box<Self> {
        Box::new(Self {
            origin: None,
            length: 0,
            bytes: [0; DATAGRAM_BYTES],
        })
    }

    /// Its octets, from the IP header on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Makes these its octets; whether they fit.
    pub fn set(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= DATAGRAM_BYTES;
        if fits {
            self.bytes[..bytes.len()].copy_from_slice(bytes);
            self.length = bytes.len() as u16;
            self.origin = None;
        }
        fits
    }

    /// [`Self::set`] for a packet that came from there.
    pub fn set_from(&mut self, origin: Origin, bytes: &[u8]) -> bool {
        let fits = self.set(bytes);
        if fits {
            self.origin = Some(origin);
        }
        fits
    }

    /// Of a packet that arrived: where it came from. Of one to be sent: where what it answers came
    /// from, if it answers a peer that is not known yet.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Makes a packet to be sent an answer to what came from there, or to nothing.
    pub fn set_origin(&mut self, origin: Option<Origin>) {
        self.origin = origin;
    }

    /// All the room, to be filled in place; [`Self::set_len`] says how much was.
    pub fn room(&mut self) -> &mut [u8; DATAGRAM_BYTES] {
        &mut self.bytes
    }

    /// Says how many octets of [`Self::room`] count.
    pub fn set_len(&mut self, length: usize) {
        self.length = length.min(DATAGRAM_BYTES) as u16;
    }
}

/// The worker's ends.
pub struct WorkerPeers {
    /// What the peers are to hear.
    pub records: Producer<ToPeers>,
    /// What the peers say.
    pub news: Consumer<FromPeers>,
    /// IP packets to be sent, and empty ones for [`Self::arrived`].
    pub departing: Consumer<Box<Datagram>>,
    /// IP packets that arrived for the replication port, and those that were sent, emptied.
    pub arrived: Producer<Box<Datagram>>,
}

/// The ends of whoever talks to the peers.
pub struct ControlPeers {
    /// What the worker says.
    pub records: Consumer<ToPeers>,
    /// What the worker is to hear.
    pub news: Producer<FromPeers>,
    /// IP packets to be sent, and empty ones.
    pub departing: Producer<Box<Datagram>>,
    /// IP packets that arrived, and emptied ones.
    pub arrived: Consumer<Box<Datagram>>,
}

/// The rings of one worker.
pub fn desk() -> (ControlPeers, WorkerPeers) {
    let (records_in, records_out) = RingBuffer::new(PEER_RING);
    let (news_in, news_out) = RingBuffer::new(PEER_RING);
    let (departing_in, departing_out) = RingBuffer::new(DATAGRAM_RING);
    let (arrived_in, arrived_out) = RingBuffer::new(DATAGRAM_RING);
    (
        ControlPeers {
            records: records_out,
            news: news_in,
            departing: departing_in,
            arrived: arrived_out,
        },
        WorkerPeers {
            records: records_in,
            news: news_out,
            departing: departing_out,
            arrived: arrived_in,
        },
    )
}
