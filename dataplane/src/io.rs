//! Ports as a worker sees them, whatever stands behind: a NIC, veth, or memory.

use crate::drop_reason::DropReason;
use crate::packet::{Buffer, Burst};
use crate::port::PortQueues;

/// A DPDK port of this appliance, by its place in the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u8);

/// A logical interface: a port, or one VLAN of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u8);

/// A worker, by its place in the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

/// The queues and the packet memory that one worker owns.
pub trait Io {
    /// The packets that come and go.
    type Buffer: Buffer;

    /// Takes what has arrived on `port`, up to the room left in `burst`; returns how many. A port
    /// without a receive queue of this worker gives none.
    fn receive(&mut self, port: PortId, burst: &mut Burst<Self::Buffer>) -> usize;

    /// Sends from the front of `burst`; returns how many went. What did not stays in `burst`, in
    /// order.
    fn transmit(&mut self, port: PortId, burst: &mut Burst<Self::Buffer>) -> usize;

    /// Why a frame that [`Self::transmit`] has left in the burst did not go.
    fn refusal(&self, _port: PortId) -> DropReason {
        DropReason::TransmitFull
    }

    /// Puts `queues` in the place of a port's own, which stand there afterwards. Without any the
    /// port neither receives nor sends.
    fn exchange(&mut self, _port: PortId, _queues: &mut PortQueues) {}

    /// A fresh, empty packet with room before it for a link-layer header.
    fn allocate(&mut self) -> Option<Self::Buffer>;

    /// A counter of the processor's cycles, for the worker's stopwatch; where there is none, 0.
    #[inline]
    fn cycles(&self) -> u64 {
        0
    }
}
