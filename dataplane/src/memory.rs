//! Ports and packets in plain memory: the edge that tests and the simulator put around a worker.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::drop_reason::DropReason;
use crate::io::{Io, PortId};
use crate::packet::{Buffer, Burst, ChecksumStatus};

/// Room before a fresh packet, as DPDK leaves it.
pub const HEADROOM_BYTES: usize = 128;

/// A packet on the heap with bounded room before and after its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryBuffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
    /// What a NIC would have said of both checksums.
    pub checksum: ChecksumStatus,
}

impl MemoryBuffer {
    /// A packet of these bytes, with room for `tail_bytes` more.
    pub fn with_tail(bytes: &[u8], tail_bytes: usize) -> Self {
        let end = HEADROOM_BYTES + bytes.len();
        let mut storage = vec![0; end + tail_bytes];
        storage[HEADROOM_BYTES..end].copy_from_slice(bytes);
        Self {
            storage,
            start: HEADROOM_BYTES,
            end,
            checksum: ChecksumStatus::Unknown,
        }
    }

    /// Makes it a packet of these bytes, as a fresh one is. `false`, and nothing done, when they
    /// do not fit.
    #[must_use]
    pub fn refill(&mut self, bytes: &[u8]) -> bool {
        let end = HEADROOM_BYTES + bytes.len();
        let fits = end <= self.storage.len();
        if fits {
            self.storage[HEADROOM_BYTES..end].copy_from_slice(bytes);
            (self.start, self.end) = (HEADROOM_BYTES, end);
            self.checksum = ChecksumStatus::Unknown;
        }
        fits
    }

    /// A packet of these bytes in a buffer of the usual size.
    pub fn new(bytes: &[u8]) -> Self {
        Self::with_tail(bytes, 2048usize.saturating_sub(bytes.len()))
    }
}

impl std::fmt::Debug for MemoryBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryBuffer({:02x?})", self.bytes())
    }
}

impl Buffer for MemoryBuffer {
    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    fn set_len(&mut self, length: usize) -> bool {
        let fits = self.start + length <= self.storage.len();
        if fits {
            self.end = self.start + length;
        }
        fits
    }

    fn prepend(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
        }
        fits
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count <= self.end - self.start;
        if fits {
            self.start += count;
        }
        fits
    }

    fn network_checksum(&self) -> ChecksumStatus {
        self.checksum
    }

    fn transport_checksum(&self) -> ChecksumStatus {
        self.checksum
    }

    fn is_contiguous(&self) -> bool {
        true
    }
}

/// One worker's ports in memory: what is put into [`MemoryIo::arrive`] is received, what is sent
/// can be taken by [`MemoryIo::departed`].
#[derive(Debug, Default)]
pub struct MemoryIo {
    arrived: Vec<VecDeque<MemoryBuffer>>,
    departed: Vec<VecDeque<MemoryBuffer>>,
    /// How many frames each port still takes before its transmit queue counts as full.
    pub transmit_room: Option<usize>,
    /// Whether the ports take nothing, since what is behind them is gone.
    pub is_lost: bool,
    /// How many packets may still be allocated; `None` for no bound.
    pub allocations_left: Option<usize>,
    cycles: Cell<u64>,
}

impl MemoryIo {
    /// `ports` empty ports.
    pub fn new(ports: usize) -> Self {
        Self {
            arrived: (0..ports).map(|_| VecDeque::new()).collect(),
            departed: (0..ports).map(|_| VecDeque::new()).collect(),
            transmit_room: None,
            is_lost: false,
            allocations_left: None,
            cycles: Cell::new(0),
        }
    }

    /// Lets so many cycles pass. Each reading of their counter takes seven more.
    pub fn pass(&self, cycles: u64) {
        self.cycles.set(self.cycles.get() + cycles);
    }

    /// Puts a frame before `port`.
    pub fn arrive(&mut self, port: PortId, frame: MemoryBuffer) {
        self.arrived[usize::from(port.0)].push_back(frame);
    }

    /// Takes the next frame that was sent on `port`.
    pub fn departed(&mut self, port: PortId) -> Option<MemoryBuffer> {
        self.departed[usize::from(port.0)].pop_front()
    }
}

impl Io for MemoryIo {
    type Buffer = MemoryBuffer;

    fn receive(&mut self, port: PortId, burst: &mut Burst<MemoryBuffer>) -> usize {
        let queue = &mut self.arrived[usize::from(port.0)];
        let count = queue.len().min(burst.remaining_capacity());
        burst.extend(queue.drain(..count));
        count
    }

    fn transmit(&mut self, port: PortId, burst: &mut Burst<MemoryBuffer>) -> usize {
        if self.is_lost {
            return 0;
        }
        let count = self
            .transmit_room
            .map_or(burst.len(), |room| room.min(burst.len()));
        if let Some(room) = &mut self.transmit_room {
            *room -= count;
        }
        self.departed[usize::from(port.0)].extend(burst.drain(..count));
        count
    }

    fn refusal(&self, _port: PortId) -> DropReason {
        if self.is_lost {
            DropReason::PortLost
        } else {
            DropReason::TransmitFull
        }
    }

    fn allocate(&mut self) -> Option<MemoryBuffer> {
        if let Some(left) = &mut self.allocations_left {
            *left = left.checked_sub(1)?;
        }
        Some(MemoryBuffer::new(&[]))
    }

    fn cycles(&self) -> u64 {
        self.pass(7);
        self.cycles.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_before_and_after_is_bounded() {
        let mut packet = MemoryBuffer::with_tail(&[1, 2, 3], 2);
        assert!(packet.trim_front(1));
        assert_eq!(packet.bytes(), [2, 3]);
        assert!(packet.prepend(1 + HEADROOM_BYTES));
        assert!(!packet.prepend(1));
        assert!(!packet.set_len(HEADROOM_BYTES + 6));
        assert!(packet.set_len(HEADROOM_BYTES + 5));
    }

    #[test]
    fn a_buffer_that_is_filled_again_is_as_fresh() {
        let mut packet = MemoryBuffer::with_tail(&[1, 2, 3], 2);
        assert!(packet.trim_front(2));
        packet.checksum = ChecksumStatus::Bad;
        assert!(!packet.refill(&[0; 6]));
        assert_eq!(packet.bytes(), [3]);
        assert!(packet.refill(&[7; 5]));
        assert_eq!(packet.bytes(), [7; 5]);
        assert_eq!(packet.transport_checksum(), ChecksumStatus::Unknown);
        assert!(packet.prepend(HEADROOM_BYTES));
    }

    #[test]
    fn a_full_transmit_queue_leaves_the_rest_in_order() {
        let mut io = MemoryIo::new(1);
        io.transmit_room = Some(1);
        let mut burst: Burst<_> = [1u8, 2, 3]
            .map(|n| MemoryBuffer::new(&[n]))
            .into_iter()
            .collect();
        assert_eq!(io.transmit(PortId(0), &mut burst), 1);
        assert_eq!(
            burst.iter().map(|p| p.bytes()[0]).collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!(io.departed(PortId(0)).unwrap().bytes(), [1]);
    }
}
