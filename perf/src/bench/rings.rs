//! Two ports in memory: a worker's ends of their rings, and the traffic maker's.

use arrayvec::ArrayVec;
use bindings::ring::MbufRing;
use bindings::ring::{Receiver, Sender};
use bindings::{Eal, Error, Mbuf, Mempool};
use dataplane::io::{Io, PortId};
use dataplane::packet::Burst;

/// Ports of the appliance under measurement: outside and inside.
pub(super) const PORTS: usize = 2;
/// Frames that are put before a port at once; more than stay in the nearest cache.
pub(super) const BATCH: usize = 512;
const RING: u32 = 4096;

/// Frames on their way into or out of the appliance.
pub(super) type Batch = ArrayVec<Mbuf, BATCH>;

/// A worker's ends.
pub(super) struct RingIo {
    receivers: ArrayVec<Receiver, PORTS>,
    senders: ArrayVec<Sender, PORTS>,
    pool: Mempool,
}

/// The traffic maker's ends.
pub(super) struct Peer {
    senders: ArrayVec<Sender, PORTS>,
    receivers: ArrayVec<Receiver, PORTS>,
    pool: Mempool,
}

/// Two ports, both ends.
pub(super) fn ports(eal: &Eal, pool: &Mempool) -> Result<(RingIo, Peer), Error> {
    let mut io = RingIo {
        receivers: ArrayVec::new(),
        senders: ArrayVec::new(),
        pool: pool.clone(),
    };
    let mut peer = Peer {
        senders: ArrayVec::new(),
        receivers: ArrayVec::new(),
        pool: pool.clone(),
    };
    for _ in 0..PORTS {
        let (sender, receiver) = MbufRing::new(eal, "in", RING, None)?;
        peer.senders.push(sender);
        io.receivers.push(receiver);
        let (sender, receiver) = MbufRing::new(eal, "out", RING, None)?;
        io.senders.push(sender);
        peer.receivers.push(receiver);
    }
    Ok((io, peer))
}

impl Io for RingIo {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, port: PortId, burst: &mut Burst<Mbuf>) -> usize {
        self.receivers[usize::from(port.0)].receive_burst(burst)
    }

    #[inline]
    fn transmit(&mut self, port: PortId, burst: &mut Burst<Mbuf>) -> usize {
        self.senders[usize::from(port.0)].send_burst(burst)
    }

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }

    #[inline]
    fn cycles(&self) -> u64 {
        bindings::clock::cycles()
    }
}

impl Peer {
    /// A fresh buffer of `length` octets.
    ///
    /// # Panics
    /// When the pool is empty: the harness lost packets.
    pub(super) fn buffer(&self, length: usize) -> Mbuf {
        let mut frame = self
            .pool
            .allocate()
            .expect("the harness's pool holds every frame it uses");
        assert!(
            frame.set_len(length),
            "a frame of {length} octets fits a buffer"
        );
        frame
    }

    /// A frame of these octets.
    pub(super) fn frame(&self, bytes: &[u8]) -> Mbuf {
        let mut frame = self.buffer(bytes.len());
        frame.data_mut().copy_from_slice(bytes);
        frame
    }

    /// Puts a batch before a port.
    pub(super) fn send(&mut self, port: usize, batch: &mut Batch) {
        let wanted = batch.len();
        let sent = self.senders[port].send_burst(batch);
        assert_eq!(sent, wanted, "the ring holds a batch");
    }

    /// What left by a port.
    pub(super) fn receive(&mut self, port: usize) -> Batch {
        let mut batch = Batch::new();
        self.receivers[port].receive_burst(&mut batch);
        batch
    }

    /// Buffers that are neither free nor in a thread's cache.
    pub(super) fn in_use(&self) -> usize {
        self.pool.in_use()
    }
}
