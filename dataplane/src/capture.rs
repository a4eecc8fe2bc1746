//! Copies of packets for a person to look at, taken in the process, whatever the port.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::classify::Filter;
use crate::counters::{Counters, Event};
use crate::io::{InterfaceId, PortId};
use crate::limits::CAPTURE_RING;
use crate::parse::Parsed;

/// Octets of a packet that a capture keeps.
pub const SNAP_BYTES: usize = 2048;

/// Whether a packet came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// A copied packet.
#[derive(Clone, Debug)]
pub struct Captured {
    /// When, by the worker's clock, in nanoseconds.
    pub time_ns: u64,
    /// Where.
    pub port: PortId,
    /// Which way.
    pub passage: Passage,
    /// Its octets on the wire.
    pub original_bytes: u32,
    kept_bytes: u16,
    bytes: [u8; SNAP_BYTES],
}

impl Captured {
    /// What was kept of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.kept_bytes)]
    }
}

/// Where and when a frame passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting<'a> {
    pub(crate) port: PortId,
    pub(crate) interface: InterfaceId,
    pub(crate) passage: Passage,
    /// Its facts, if it has any.
    pub(crate) parsed: Option<&'a Parsed>,
    pub(crate) time_ns: u64,
}

/// A worker's side of a capture.
pub struct Tap {
    port: Option<PortId>,
    filter: Option<Filter>,
    ring: Producer<Captured>,
}

impl Tap {
    /// A tap on one port, or all, for packets that match the filter, or all; and the ring in
    /// which their copies are found.
    pub fn new(port: Option<PortId>, filter: Option<Filter>) -> (Box<Self>, Consumer<Captured>) {
        let (ring, copies) = RingBuffer::new(CAPTURE_RING);
        (Box::new(Self { port, filter, ring }), copies)
    }

    /// Copies the frame if it is wanted. A full ring is counted and survived.
    pub(crate) fn offer(&mut self, frame: &[u8], seen: &Sighting<'_>, counters: &mut Counters) {
        if self.port.is_some_and(|wanted| wanted != seen.port) {
            return;
        }
        if let Some(filter) = &self.filter
            && !seen
                .parsed
                .is_some_and(|parsed| filter.matches(seen.interface, parsed))
        {
            return;
        }
        let Ok(chunk) = self.ring.write_chunk_uninit(1) else {
            counters.count(Event::CapturesLost);
            return;
        };
        let kept = frame.len().min(SNAP_BYTES);
        let mut copy = Captured {
            time_ns: seen.time_ns,
            port: seen.port,
            passage: seen.passage,
            original_bytes: frame.len() as u32,
            kept_bytes: kept as u16,
            bytes: [0; SNAP_BYTES],
        };
        copy.bytes[..kept].copy_from_slice(&frame[..kept]);
        chunk.fill_from_iter(std::iter::once(copy));
    }
}
