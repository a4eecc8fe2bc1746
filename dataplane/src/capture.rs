//! Copies of packets for a person to look at, taken in the process, whatever the port.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::classify::Filter;
use crate::counters::{Counters, Event};
use crate::io::{InterfaceId, PortId};
use crate::limits::CAPTURE_RING;
use crate::parse::{Parsed, parse};

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
}

/// A worker's side of a capture.
#[derive(Debug)]
pub struct Tap {
    port: Option<PortId>,
    filter: Option<Filter>,
    ring: Producer<Captured>,
    now_ns: u64,
}

impl Tap {
    /// A tap on one port, or all, for packets that match the filter, or all; and the ring in
    /// which their copies are found.
    pub fn new(port: Option<PortId>, filter: Option<Filter>) -> (Box<Self>, Consumer<Captured>) {
        let (ring, copies) = RingBuffer::new(CAPTURE_RING);
        let tap = Self {
            port,
            filter,
            ring,
            now_ns: 0,
        };
        (Box::new(tap), copies)
    }

    /// Says what time it is; to be called before a loop's first frame.
    pub(crate) fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Copies a frame that is about to be handed to `port`, if it is wanted.
    pub(crate) fn offer_departure(
        &mut self,
        frame: &[u8],
        port: PortId,
        interface: InterfaceId,
        counters: &mut Counters,
    ) {
        let parsed = self.filter.as_ref().and_then(|_| parse(frame).ok());
        let seen = Sighting {
            port,
            interface,
            passage: Passage::Out,
            parsed: parsed.as_ref(),
        };
        self.offer(frame, &seen, counters);
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
            time_ns: self.now_ns,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Condition;
    use crate::limits::CAPTURE_RING;
    use crate::memory::{MemoryBuffer, MemoryIo};
    use crate::transmit::{Transmit, TransmitWay};

    const ARP: [u8; 42] = {
        let mut frame = [0; 42];
        (frame[12], frame[13], frame[14], frame[15]) = (0x08, 0x06, 0, 1);
        (frame[16], frame[17], frame[18], frame[19], frame[21]) = (8, 0, 6, 4, 1);
        frame
    };

    fn depart(tap: Box<Tap>, frames: &[(u8, &[u8])]) -> Counters {
        let ways = [TransmitWay::Queue; 2];
        let (mut transmit, mut io) = (Transmit::new(&ways), MemoryIo::new(2));
        let mut counters = Counters::default();
        transmit.tap = Some(tap);
        for (port, bytes) in frames {
            let frame = MemoryBuffer::new(bytes);
            let interface = InterfaceId(*port);
            transmit.push(PortId(*port), interface, frame, &mut io, &mut counters);
        }
        transmit.flush(&mut io, &mut counters);
        counters
    }

    #[test]
    fn what_leaves_by_the_port_is_copied() {
        let (mut tap, mut copies) = Tap::new(Some(PortId(1)), None);
        tap.set_time(77);
        depart(tap, &[(0, &[1; 60]), (1, &[2; 60]), (1, &[3; 9000])]);
        let first = copies.pop().unwrap();
        assert_eq!((first.bytes(), first.original_bytes), (&[2; 60][..], 60));
        assert_eq!(
            (first.port, first.passage, first.time_ns),
            (PortId(1), Passage::Out, 77)
        );
        let long = copies.pop().unwrap();
        assert_eq!(
            (long.bytes().len(), long.original_bytes),
            (SNAP_BYTES, 9000)
        );
        assert!(copies.pop().is_err());
    }

    #[test]
    fn what_leaves_is_filtered() {
        let filter = Filter::new(&Condition::Arp).unwrap();
        let (tap, mut copies) = Tap::new(None, Some(filter));
        depart(tap, &[(0, &[1; 60]), (1, &ARP)]);
        assert_eq!(copies.pop().unwrap().bytes(), ARP);
        assert!(copies.pop().is_err());
    }

    #[test]
    fn a_full_ring_is_counted_and_the_frames_leave() {
        let (tap, copies) = Tap::new(None, None);
        let frames = vec![(0, &[1_u8; 60][..]); CAPTURE_RING + 3];
        let counters = depart(tap, &frames);
        assert_eq!(counters.event(Event::CapturesLost), 3);
        assert_eq!(counters.event(Event::Sent) as usize, frames.len());
        assert_eq!(copies.slots(), CAPTURE_RING);
    }
}
