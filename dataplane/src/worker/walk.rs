//! One burst's walk. The steps are those of the crate's README, in their order.

use arrayvec::ArrayVec;

use super::{Time, Worker, context};
use crate::capture::{Passage, Sighting};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::fragment::{FragmentOutcome, Fragments};
use crate::guard::{self, Lookup};
use crate::hop::{Admitted, Complaint, Egress};
use crate::io::{InterfaceId, Io, PortId, WorkerId};
use crate::limits::BURST;
use crate::mesh::Message;
use crate::packet::{Buffer, Burst, ChecksumStatus};
use crate::parse::{Fragment, Kind, Parsed, parse, protocol};
use crate::verdict::Verdict;
use crate::wire::address::Family;
use crate::wire::checksum::internet_checksum;

/// A frame with its facts.
struct Arrival<B> {
    frame: B,
    parsed: Parsed,
    interface: InterfaceId,
    lookup: Option<Lookup>,
}

type Arrivals<B> = ArrayVec<Arrival<B>, BURST>;

impl<I: Io> Worker<I> {
    /// Takes a burst from receive to send.
    #[inline]
    pub(super) fn walk(&mut self, port: PortId, burst: Burst<I::Buffer>, time: Time) {
        self.counters.add(Event::Received, burst.len() as u64);
        let mut arrivals = Arrivals::new();
        for frame in &burst {
            frame.prefetch();
        }
        for frame in burst {
            if let Some(arrival) = self.read(port, frame)
                && let Some(arrival) = self.steer(port, arrival)
            {
                arrivals.push(arrival);
            }
        }
        for arrival in &mut arrivals {
            arrival.lookup = self.guard.prepare(&arrival.parsed, arrival.interface);
        }
        for lookup in arrivals
            .iter()
            .filter_map(|arrival| arrival.lookup.as_ref())
        {
            self.guard.prefetch(lookup);
        }
        for arrival in arrivals {
            self.handle(port, arrival, time);
        }
    }

    /// A frame that another worker received: its flow is ours.
    pub(super) fn walk_one(&mut self, port: PortId, frame: I::Buffer, time: Time) {
        if let Some(mut arrival) = self.read_again(port, frame) {
            arrival.lookup = self.guard.prepare(&arrival.parsed, arrival.interface);
            self.handle(port, arrival, time);
        }
    }

    /// Parses a frame; what is malformed ends here.
    #[inline]
    fn read(&mut self, port: PortId, frame: I::Buffer) -> Option<Arrival<I::Buffer>> {
        let read = parse_whole(&frame);
        let interface = read.and_then(|parsed| {
            self.hop
                .interface_of(port, parsed.vlan)
                .ok_or(DropReason::UnknownVlan)
        });
        if let Some(tap) = &mut self.transmit.tap {
            let sighting = Sighting {
                port,
                interface: interface.unwrap_or(InterfaceId(u8::MAX)),
                passage: Passage::In,
                parsed: read.as_ref().ok(),
            };
            tap.offer(frame.bytes(), &sighting, &mut self.counters);
        }
        match (read, interface) {
            (Ok(parsed), Ok(interface)) => {
                let traffic = self.counters.traffic_mut(usize::from(interface.0));
                traffic.received_packets += 1;
                traffic.received_bytes += frame.bytes().len() as u64;
                Some(Arrival {
                    frame,
                    parsed,
                    interface,
                    lookup: None,
                })
            }
            (Err(reason), _) | (_, Err(reason)) => {
                self.counters.dropped(reason);
                None
            }
        }
    }

    /// Parses a frame that was parsed before it was handed over.
    fn read_again(&mut self, port: PortId, frame: I::Buffer) -> Option<Arrival<I::Buffer>> {
        let read = parse_whole(&frame);
        let interface = read.and_then(|parsed| {
            self.hop
                .interface_of(port, parsed.vlan)
                .ok_or(DropReason::UnknownVlan)
        });
        match (read, interface) {
            (Ok(parsed), Ok(interface)) => Some(Arrival {
                frame,
                parsed,
                interface,
                lookup: None,
            }),
            (Err(reason), _) | (_, Err(reason)) => {
                self.counters.dropped(reason);
                None
            }
        }
    }

    /// Hands a frame to the worker that owns its flow, if that is another.
    #[inline]
    fn steer(&mut self, port: PortId, arrival: Arrival<I::Buffer>) -> Option<Arrival<I::Buffer>> {
        let workers = self.mesh.workers();
        if workers == 1 || arrival.parsed.kind == Kind::Arp {
            return Some(arrival);
        }
        let owner = self.owner_of(arrival.frame.bytes(), &arrival.parsed);
        if owner == self.mesh.own() {
            return Some(arrival);
        }
        match self.mesh.send(owner, Message::Frame(port, arrival.frame)) {
            Ok(()) => self.counters.count(Event::HandedOff),
            Err(_) => self.counters.dropped(DropReason::HandOffFull),
        }
        None
    }

    /// The worker that owns a packet's flow. An ICMP error goes to that of the packet it quotes.
    #[inline]
    fn owner_of(&self, frame: &[u8], parsed: &Parsed) -> WorkerId {
        if matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6)
            && let Some(tuple) = guard::quoted_tuple(frame, parsed)
        {
            return self.shard.worker_of_tuple(&tuple);
        }
        self.shard.worker_of(parsed)
    }

    #[inline]
    fn handle(&mut self, port: PortId, arrival: Arrival<I::Buffer>, time: Time) {
        let Arrival {
            frame,
            parsed,
            interface,
            lookup,
        } = arrival;
        if let Some((frame, egress)) = self.admit(frame, &parsed, interface, time) {
            if parsed.fragment == Fragment::Whole {
                let mut ctx = context!(self, time);
                let verdict = self
                    .guard
                    .handle(frame, &parsed, interface, lookup, &mut ctx);
                self.settle(verdict, &parsed, interface, Some(egress), time);
            } else {
                self.gather(port, frame, &parsed, interface, time);
            }
        }
        self.route_outbox(time);
    }

    /// What the hop lets through, with its way out.
    #[inline]
    fn admit(
        &mut self,
        frame: I::Buffer,
        parsed: &Parsed,
        interface: InterfaceId,
        time: Time,
    ) -> Option<(I::Buffer, Egress)> {
        match self
            .hop
            .admit(interface, frame, parsed, &mut context!(self, time))
        {
            Admitted::Transit(frame, egress) => Some((frame, egress)),
            Admitted::Local(frame) => {
                let mut ctx = context!(self, time);
                let verdict = self.guard.take_local(frame, parsed, interface, &mut ctx);
                self.settle(verdict, parsed, interface, None, time);
                None
            }
            Admitted::Done(verdict) => {
                self.settle(verdict, parsed, interface, None, time);
                None
            }
        }
    }

    /// Does what a verdict says.
    #[inline]
    fn settle(
        &mut self,
        verdict: Verdict<I::Buffer>,
        parsed: &Parsed,
        interface: InterfaceId,
        egress: Option<Egress>,
        time: Time,
    ) {
        let mut ctx = context!(self, time);
        match (verdict, egress) {
            (Verdict::Forward(frame), Some(egress)) => {
                self.hop.forward(frame, parsed, egress, &mut ctx);
            }
            (Verdict::Forward(frame), None) => ctx.discard(frame, DropReason::NoRoute),
            (Verdict::Reply(frame), _) => self.hop.reply(frame, parsed, interface, &mut ctx),
            (Verdict::Hold, _) => {}
            (Verdict::Reject(frame), _) => {
                let packet = &frame.bytes()[usize::from(parsed.network)..usize::from(parsed.end)];
                self.hop
                    .complain(Complaint::Prohibited, packet, interface, &mut ctx);
                ctx.discard(frame, DropReason::DeniedByRule);
            }
            (Verdict::Drop(frame, reason), _) => ctx.discard(frame, reason),
        }
    }

    /// A fragment waits for the rest of its datagram, or completes it.
    #[cold]
    fn gather(
        &mut self,
        port: PortId,
        frame: I::Buffer,
        parsed: &Parsed,
        interface: InterfaceId,
        time: Time,
    ) {
        let mut ctx = context!(self, time);
        match self.fragments.insert(interface, frame, parsed, &mut ctx) {
            FragmentOutcome::Held => {}
            FragmentOutcome::Drop(frame, reason) => ctx.discard(frame, reason),
            FragmentOutcome::Complete(datagram) => self.steer_datagram(port, datagram, time),
        }
    }

    /// A whole datagram goes to the worker that owns its flow: fragments are spread by address
    /// alone, flows by their ports too.
    fn steer_datagram(&mut self, port: PortId, datagram: Fragments<I::Buffer>, time: Time) {
        let workers = self.mesh.workers();
        let Some((first, parsed)) = datagram.first() else {
            return;
        };
        let whole = Parsed {
            fragment: Fragment::Whole,
            ..*parsed
        };
        let owner = self.owner_of(first.bytes(), &whole);
        if workers == 1 || owner == self.mesh.own() {
            return self.handle_datagram(port, datagram, time);
        }
        let count = datagram.len();
        let messages = datagram
            .into_iter()
            .enumerate()
            .map(|(place, (frame, _))| match place {
                0 => Message::Datagram(port, frame, count as u8),
                _ => Message::Frame(port, frame),
            });
        // All at once, so that the other worker never sees a part of it.
        if self.mesh.send_together(owner, count, messages) {
            self.counters.add(Event::HandedOff, count as u64);
        } else {
            (0..count).for_each(|_| self.counters.dropped(DropReason::HandOffFull));
        }
    }

    /// Frees frames that share one fate.
    fn drop_all(&mut self, frames: impl Iterator<Item = (I::Buffer, Parsed)>, reason: DropReason) {
        for (frame, _) in frames {
            drop(frame);
            self.counters.dropped(reason);
        }
    }

    /// A datagram that another worker found whole.
    pub(super) fn take_datagram(
        &mut self,
        from: usize,
        port: PortId,
        first: I::Buffer,
        count: u8,
        time: Time,
    ) {
        let mut datagram = ArrayVec::new();
        let mut next = Some(first);
        for left in (0..count).rev() {
            let Some(frame) = next.take() else {
                break;
            };
            match parse_whole(&frame) {
                Ok(parsed) if !datagram.is_full() => datagram.push((frame, parsed)),
                _ => self.counters.dropped(DropReason::FragmentMalformed),
            }
            if left > 0
                && let Some(Message::Frame(_, frame)) = self.mesh.receive(from)
            {
                self.counters.count(Event::TakenOver);
                next = Some(frame);
            }
        }
        self.handle_datagram(port, datagram, time);
    }

    /// The first fragment is handled as the packet it heads; the others share its fate.
    fn handle_datagram(&mut self, port: PortId, datagram: Fragments<I::Buffer>, time: Time) {
        let behind: usize = datagram
            .iter()
            .skip(1)
            .map(|(_, p)| usize::from(p.end - p.transport))
            .sum();
        let mut fragments = datagram.into_iter();
        let Some((first, parsed)) = fragments.next() else {
            return;
        };
        let head = Parsed {
            fragment: Fragment::Whole,
            behind: behind as u16,
            ..parsed
        };
        let Some(interface) = self.hop.interface_of(port, parsed.vlan) else {
            // A reload took it away while the fragments waited.
            drop(first);
            self.counters.dropped(DropReason::UnknownVlan);
            return self.drop_all(fragments, DropReason::UnknownVlan);
        };
        // Each fragment was admitted when it came; the way out may have gone since.
        let Some(egress) = self.hop.egress(parsed.destination, Some(interface)) else {
            drop(first);
            self.counters.dropped(DropReason::NoRoute);
            return self.drop_all(fragments, DropReason::NoRoute);
        };
        let lookup = self.guard.prepare(&head, interface);
        let mut ctx = context!(self, time);
        let verdict = self.guard.handle(first, &head, interface, lookup, &mut ctx);
        let fate = match &verdict {
            Verdict::Forward(_) => Ok(()),
            Verdict::Drop(_, reason) => Err(*reason),
            _ => Err(DropReason::FragmentOfGuarded),
        };
        self.settle(verdict, &parsed, interface, Some(egress), time);
        for (frame, parsed) in fragments {
            let verdict = match fate {
                Ok(()) => Verdict::Forward(frame),
                Err(reason) => Verdict::Drop(frame, reason),
            };
            self.settle(verdict, &parsed, interface, Some(egress), time);
        }
    }
}

/// Parses a frame that stands in one piece and whose IPv4 header checksum holds, as the NIC or
/// its sum says (RFC 1812 §5.2.2).
#[inline]
fn parse_whole<B: Buffer>(frame: &B) -> Result<Parsed, DropReason> {
    if !frame.is_contiguous() {
        return Err(DropReason::MultiSegment);
    }
    let parsed = parse(frame.bytes())?;
    if parsed.kind == Kind::Ip && parsed.family == Family::V4 {
        let holds = match frame.network_checksum() {
            ChecksumStatus::Good => true,
            ChecksumStatus::Bad => false,
            ChecksumStatus::Unknown => {
                let start = usize::from(parsed.network);
                let header_bytes = usize::from(frame.bytes()[start] & 0x0f) * 4;
                internet_checksum(&frame.bytes()[start..start + header_bytes]) == 0
            }
        };
        if !holds {
            return Err(DropReason::BadIpv4Checksum);
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBuffer;
    use crate::wire::address::Address;
    use crate::wire::ipv4::{Ipv4Header, write_ipv4};

    #[test]
    fn a_broken_ipv4_header_ends_here_unless_the_nic_vouches_for_it() {
        let mut bytes = [0; 14 + 20];
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        let header = Ipv4Header {
            source: Address::from_v4([192, 0, 2, 7]),
            destination: Address::from_v4([10, 0, 0, 10]),
            protocol: 253,
            ttl: 64,
            total_bytes: 20,
            identification: 0,
            dont_fragment: true,
            dscp_ecn: 0,
        };
        write_ipv4(&mut bytes[14..], &header);
        assert!(parse_whole(&MemoryBuffer::new(&bytes)).is_ok());
        bytes[14 + 8] -= 1;
        let mut broken = MemoryBuffer::new(&bytes);
        assert_eq!(parse_whole(&broken), Err(DropReason::BadIpv4Checksum));
        broken.checksum = ChecksumStatus::Good;
        assert!(parse_whole(&broken).is_ok());
        broken.checksum = ChecksumStatus::Bad;
        assert_eq!(parse_whole(&broken), Err(DropReason::BadIpv4Checksum));
    }
}
