//! A port that is a queue pair of a DPDK device.

use arrayvec::ArrayVec;
use bindings::mbuf::free_burst;
use bindings::{Mbuf, Mempool, RxQueue, TxQueue};

use super::arena::Port;
use super::segment::Sink;

const BURST: usize = 64;
/// How often a full device is tried again before frames are lost.
const TRIES: usize = 64;

/// Answers what is asked of the port itself, such as its station: a frame to be sent, if any.
pub type Neighbour = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>>>;

/// Frames on their way out of a device.
pub struct DeviceOut {
    queue: TxQueue,
    pool: Mempool,
    burst: ArrayVec<Mbuf, BURST>,
    lost: u64,
}

impl DeviceOut {
    /// Hands over what waits. What a device that stays full does not take is lost, as on a cable
    /// to one that does not keep up.
    fn send(&mut self) {
        for _ in 0..TRIES {
            if self.burst.is_empty() {
                return;
            }
            self.queue.transmit(&mut self.burst);
        }
        self.lost += self.burst.len() as u64;
        free_burst(&mut self.burst);
    }
}

impl Sink for DeviceOut {
    #[inline]
    fn frame(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if self.burst.is_full() {
            self.send();
        }
        let mut buffer = self.pool.allocate()?;
        if !buffer.set_len(bytes) {
            return None;
        }
        self.burst.push(buffer);
        self.burst.last_mut().map(Mbuf::data_mut)
    }
}

/// A queue pair of a device.
pub struct DevicePort {
    queue: RxQueue,
    out: DeviceOut,
    neighbour: Neighbour,
}

impl DevicePort {
    /// A port of these queues, whose frames' buffers are of `pool`.
    pub fn new(receive: RxQueue, transmit: TxQueue, pool: Mempool, neighbour: Neighbour) -> Self {
        Self {
            queue: receive,
            out: DeviceOut {
                queue: transmit,
                pool,
                burst: ArrayVec::new(),
                lost: 0,
            },
            neighbour,
        }
    }
}

impl Port for DevicePort {
    type Out = DeviceOut;

    #[inline]
    fn receive(&mut self, mut each: impl FnMut(&[u8], &mut DeviceOut) -> bool) -> usize {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let count = self.queue.receive(&mut burst);
        for frame in &burst {
            if each(frame.data(), &mut self.out) {
                continue;
            }
            if let Some(answer) = (self.neighbour)(frame.data())
                && let Some(room) = self.out.frame(answer.len())
            {
                room.copy_from_slice(&answer);
            }
        }
        free_burst(&mut burst);
        count
    }

    fn out(&mut self) -> &mut DeviceOut {
        &mut self.out
    }

    #[inline]
    fn flush(&mut self) {
        self.out.send();
    }

    fn lost(&self) -> u64 {
        self.out.lost
    }
}
