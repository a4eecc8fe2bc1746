//! Packets of the replication port, on their way between the network and whoever talks to the
//! peers. None is made or freed here: full ones go one way, empty ones come back the other.

use super::{Time, Worker, context};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::limits::{DATAGRAM_STOCK, MAX_DATAGRAMS_PER_LOOP};
use crate::packet::Buffer;
use crate::parse::Parsed;
use crate::replicate::desk::{Datagram, Origin, WorkerPeers};
use crate::verdict::Verdict;
use crate::wire::ethernet;

/// Empty packets.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "the boxes go through the rings")]
pub(super) struct Stock(Vec<Box<Datagram>>);

impl Stock {
    /// A full stock where there are peers.
    pub(super) fn of(peers: Option<&WorkerPeers>) -> Self {
        let count = peers.map_or(0, |_| DATAGRAM_STOCK);
        Self((0..count).map(|_| Datagram::empty()).collect())
    }

    fn is_full(&self) -> bool {
        self.0.len() >= DATAGRAM_STOCK
    }
}

impl<I: Io> Worker<I> {
    /// Passes a packet of the replication port on, as a copy from its IP header on, with
    /// where it came from: what that is worth is known when the copy is found authentic.
    pub(super) fn take_from_peers(
        &mut self,
        frame: I::Buffer,
        parsed: &Parsed,
        interface: InterfaceId,
    ) -> Verdict<I::Buffer> {
        let Some(peers) = &mut self.peers else {
            return Verdict::Drop(frame, DropReason::NotForUs);
        };
        let packet = &frame.bytes()[usize::from(parsed.network)..usize::from(parsed.end)];
        if peers.arrived.is_full() {
            return Verdict::Drop(frame, DropReason::PeersBusy);
        }
        let Some(mut datagram) = self.stock.0.pop() else {
            return Verdict::Drop(frame, DropReason::PeersBusy);
        };
        let origin = Origin {
            interface,
            mac: ethernet::source(frame.bytes()),
        };
        if !datagram.set_from(origin, packet) {
            self.stock.0.push(datagram);
            return Verdict::Drop(frame, DropReason::PeersBusy);
        }
        // There was room, and nobody else fills the ring.
        if let Err(rtrb::PushError::Full(datagram)) = peers.arrived.push(datagram) {
            self.stock.0.push(datagram);
            return Verdict::Drop(frame, DropReason::PeersBusy);
        }
        drop(frame);
        self.counters.count(Event::PeersHeard);
        self.counters.count(Event::Consumed);
        Verdict::Hold
    }

    /// Sends what the peers are to hear, and takes back the packets that it came in.
    #[inline]
    pub(super) fn send_to_peers(&mut self, time: Time) -> usize {
        match &self.peers {
            Some(peers) if !peers.departing.is_empty() => self.send_waiting(time),
            _ => 0,
        }
    }

    #[cold]
    fn send_waiting(&mut self, time: Time) -> usize {
        let mut served = 0;
        while served < MAX_DATAGRAMS_PER_LOOP
            && let Some(mut datagram) = self.next_departing()
        {
            served += 1;
            if !datagram.bytes().is_empty() {
                self.send_datagram(&datagram, time);
                datagram.set_len(0);
            }
            self.put_back(datagram);
        }
        self.route_outbox(time);
        served
    }

    /// The next one, if it can be put back afterwards.
    fn next_departing(&mut self) -> Option<Box<Datagram>> {
        let peers = self.peers.as_mut()?;
        if self.stock.is_full() && peers.arrived.is_full() {
            return None;
        }
        peers.departing.pop().ok()
    }

    /// Keeps an empty packet, or gives it to whoever talks to the peers.
    fn put_back(&mut self, datagram: Box<Datagram>) {
        if !self.stock.is_full() {
            self.stock.0.push(datagram);
        } else if let Some(peers) = &mut self.peers {
            let pushed = peers.arrived.push(datagram);
            debug_assert!(pushed.is_ok(), "there was room");
        }
    }

    fn send_datagram(&mut self, datagram: &Datagram, time: Time) {
        let packet = datagram.bytes();
        let mut ctx = context!(self, time);
        let Some(mut buffer) = ctx.allocate() else {
            return ctx.counters.count(Event::PeersUntold);
        };
        if !buffer.set_len(packet.len()) {
            return ctx.discard(buffer, DropReason::NoBuffer);
        }
        buffer.bytes_mut().copy_from_slice(packet);
        ctx.counters.count(Event::PeersTold);
        match datagram.origin() {
            Some(origin) => self.hop.output_back(buffer, origin, &mut ctx),
            None => self.hop.output(buffer, &mut ctx),
        }
    }
}
