//! What a handler may touch besides its own state.

use arrayvec::ArrayVec;

use crate::counters::{Counters, Event};
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io, PortId};
use crate::limits::MAX_OUTBOX;
use crate::transmit::Transmit;

/// Packets that a handler caused to be sent. Each begins with its IP header: the hop routes it and
/// puts the link-layer header before it.
pub type Outbox<B> = ArrayVec<B, MAX_OUTBOX>;

/// One handler's surroundings for one packet or timer.
pub struct Context<'a, I: Io> {
    /// The time, in nanoseconds of a clock that never goes back; one reading serves a burst.
    pub now_ns: u64,
    /// The wall clock, in milliseconds since 1970, for what boxes must agree on.
    pub unix_ms: u64,
    /// Packet memory and ports.
    pub io: &'a mut I,
    /// This worker's counters.
    pub counters: &'a mut Counters,
    /// Where packets to be routed go.
    pub outbox: &'a mut Outbox<I::Buffer>,
    /// Where frames that are ready for a port go.
    pub transmit: &'a mut Transmit<I::Buffer>,
}

impl<I: Io> Context<'_, I> {
    /// The wall clock, in seconds since 1970.
    #[inline]
    pub fn unix_s(&self) -> u64 {
        self.unix_ms / 1_000
    }

    /// A fresh packet buffer; its absence is counted.
    pub fn allocate(&mut self) -> Option<I::Buffer> {
        let buffer = self.io.allocate();
        match buffer {
            Some(_) => self.counters.count(Event::Created),
            None => self.counters.count(Event::BufferUnavailable),
        }
        buffer
    }

    /// Has `packet`, which begins with its IP header, routed and sent. With the outbox full it is
    /// counted and freed.
    pub fn route(&mut self, packet: I::Buffer) {
        if self.outbox.try_push(packet).is_err() {
            self.counters.dropped(DropReason::TransmitFull);
        }
    }

    /// Sends `frame`, whole from its Ethernet header on.
    #[inline]
    pub fn transmit(&mut self, port: PortId, interface: InterfaceId, frame: I::Buffer) {
        self.transmit
            .push(port, interface, frame, self.io, self.counters);
    }

    /// Frees `packet` and counts why.
    pub fn discard(&mut self, packet: I::Buffer, reason: DropReason) {
        drop(packet);
        self.counters.dropped(reason);
    }
}
