//! One worker's queues: fixed rings of pooled buffers.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use dataplane::io::{Io, PortId};
use dataplane::packet::Burst;

use super::pool::{Pool, PooledBuffer};

/// Frames that a queue takes without growing.
const QUEUE: usize = 8192;
/// Cycles that each call for a burst takes.
pub(crate) const CYCLES_PER_CALL: u64 = 100;

/// A worker's queues on every port.
pub(crate) struct Queues {
    arrived: Vec<VecDeque<PooledBuffer>>,
    departed: Vec<VecDeque<PooledBuffer>>,
    pool: Arc<Pool>,
    /// How many more frames all ports together take; `None` for no bound.
    pub(crate) transmit_room: Option<usize>,
    /// How many more buffers there are for what the worker makes; `None` for all of the pool.
    pub(crate) allocations_left: Option<usize>,
    /// Whether to take and free a block of the heap for every burst.
    pub(crate) is_wasteful: bool,
    cycles: Cell<u64>,
}

impl Queues {
    pub(crate) fn new(ports: usize, pool: &Arc<Pool>) -> Self {
        let queues = || (0..ports).map(|_| VecDeque::with_capacity(QUEUE)).collect();
        Self {
            arrived: queues(),
            departed: queues(),
            pool: Arc::clone(pool),
            transmit_room: None,
            allocations_left: None,
            is_wasteful: false,
            cycles: Cell::new(0),
        }
    }

    /// Puts a frame before `port`.
    pub(crate) fn arrive(&mut self, port: PortId, frame: PooledBuffer) {
        let queue = &mut self.arrived[usize::from(port.0)];
        assert!(queue.len() < QUEUE, "a receive queue overflows");
        queue.push_back(frame);
    }

    /// The next frame that left by `port`.
    pub(crate) fn departed(&mut self, port: PortId) -> Option<PooledBuffer> {
        self.departed[usize::from(port.0)].pop_front()
    }

    /// Frames that stand in the queues.
    pub(crate) fn standing(&self) -> usize {
        let queues = self.arrived.iter().chain(&self.departed);
        queues.map(VecDeque::len).sum()
    }

    /// Frames that have not been received yet.
    pub(crate) fn waiting(&self) -> usize {
        self.arrived.iter().map(VecDeque::len).sum()
    }
}

impl Io for Queues {
    type Buffer = PooledBuffer;

    fn receive(&mut self, port: PortId, burst: &mut Burst<PooledBuffer>) -> usize {
        if self.is_wasteful {
            drop(std::hint::black_box(Box::new(port)));
        }
        let queue = &mut self.arrived[usize::from(port.0)];
        let count = queue.len().min(burst.remaining_capacity());
        burst.extend(queue.drain(..count));
        self.cycles.set(self.cycles.get() + CYCLES_PER_CALL);
        count
    }

    fn transmit(&mut self, port: PortId, burst: &mut Burst<PooledBuffer>) -> usize {
        let queue = &mut self.departed[usize::from(port.0)];
        let room = (QUEUE - queue.len()).min(self.transmit_room.unwrap_or(usize::MAX));
        let count = room.min(burst.len());
        if let Some(room) = &mut self.transmit_room {
            *room -= count;
        }
        queue.extend(burst.drain(..count));
        self.cycles.set(self.cycles.get() + CYCLES_PER_CALL);
        count
    }

    fn allocate(&mut self) -> Option<PooledBuffer> {
        if let Some(left) = &mut self.allocations_left {
            *left = left.checked_sub(1)?;
        }
        self.pool.take(&[])
    }

    fn cycles(&self) -> u64 {
        self.cycles.set(self.cycles.get() + 1);
        self.cycles.get()
    }
}
