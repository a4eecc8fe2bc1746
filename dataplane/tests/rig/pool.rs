//! Packet buffers that are counted, and come back to their pool when they are dropped.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use dataplane::memory::MemoryBuffer;
use dataplane::packet::{Buffer, ChecksumStatus};

/// A fixed number of buffers. Taking and giving back allocates nothing, on any thread.
#[derive(Debug)]
pub(crate) struct Pool {
    free: ArrayQueue<MemoryBuffer>,
}

impl Pool {
    /// `capacity` free buffers.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let free = ArrayQueue::new(capacity);
        for _ in 0..capacity {
            let _ = free.push(MemoryBuffer::new(&[]));
        }
        Arc::new(Self { free })
    }

    /// Buffers that are out.
    pub(crate) fn live(&self) -> usize {
        self.free.capacity() - self.free.len()
    }

    /// A free buffer, filled with `bytes`.
    pub(crate) fn take(self: &Arc<Self>, bytes: &[u8]) -> Option<PooledBuffer> {
        let mut packet = self.free.pop()?;
        assert!(packet.refill(bytes), "{} octets", bytes.len());
        Some(PooledBuffer {
            packet: Some(packet),
            pool: Arc::clone(self),
            is_contiguous: true,
        })
    }
}

/// A packet of a [`Pool`].
#[derive(Debug)]
pub(crate) struct PooledBuffer {
    /// There until it is dropped.
    packet: Option<MemoryBuffer>,
    pool: Arc<Pool>,
    /// Whether it pretends to be in one piece.
    pub(crate) is_contiguous: bool,
}

impl PooledBuffer {
    pub(crate) fn packet(&self) -> &MemoryBuffer {
        self.packet.as_ref().expect("a live packet")
    }

    pub(crate) fn packet_mut(&mut self) -> &mut MemoryBuffer {
        self.packet.as_mut().expect("a live packet")
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(packet) = self.packet.take() {
            let back = self.pool.free.push(packet);
            assert!(back.is_ok(), "more buffers come back than there are");
        }
    }
}

impl Buffer for PooledBuffer {
    fn bytes(&self) -> &[u8] {
        self.packet().bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.packet_mut().bytes_mut()
    }

    fn set_len(&mut self, length: usize) -> bool {
        self.packet_mut().set_len(length)
    }

    fn prepend(&mut self, count: usize) -> bool {
        self.packet_mut().prepend(count)
    }

    fn trim_front(&mut self, count: usize) -> bool {
        self.packet_mut().trim_front(count)
    }

    fn network_checksum(&self) -> ChecksumStatus {
        self.packet().network_checksum()
    }

    fn transport_checksum(&self) -> ChecksumStatus {
        self.packet().transport_checksum()
    }

    fn is_contiguous(&self) -> bool {
        self.is_contiguous
    }
}
