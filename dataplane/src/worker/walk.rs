//! One burst's walk. The steps are those of the crate's README, in their order.

use arrayvec::ArrayVec;

use super::usual::Line;
use super::{Time, Worker, context};
use crate::capture::{Passage, Sighting};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::fragment::{FragmentOutcome, Fragments};
use crate::guard::{self, Lookup};
use crate::hop::{Complaint, Concluded, Egress, Judgement};
use crate::io::{InterfaceId, Io, PortId, WorkerId};
use crate::limits::BURST;
use crate::mesh::Message;
use crate::packet::{Buffer, Burst, ChecksumStatus};
use crate::parse::{Fragment, Kind, Parsed, parse_into, parse_tagged_into, protocol};
use crate::runtime::Stage;
use crate::verdict::Verdict;
use crate::wire::address::Family;
use crate::wire::checksum::internet_checksum;

/// What is known of one frame of a burst. It is filled in where it stands: such a record, moved,
/// would be read back before its parts have left the store buffer.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) parsed: Parsed,
    egress: Egress,
    pub(super) lookup: Option<Lookup>,
    pub(super) interface: InterfaceId,
}

impl Facts {
    pub(super) const NONE: Self = Self {
        parsed: Parsed::NONE,
        egress: Egress::NONE,
        lookup: None,
        interface: InterfaceId(0),
    };

    /// Room for a burst's facts.
    pub(super) fn of_burst() -> Box<[Self]> {
        vec![Self::NONE; BURST].into()
    }
}

impl<I: Io> Worker<I> {
    /// Takes a burst from receive to send. Each step takes the whole burst.
    #[inline(always)]
    pub(super) fn walk(&mut self, port: PortId, burst: &mut Burst<I::Buffer>, time: Time) {
        self.counters.add(Event::Received, burst.len() as u64);
        for frame in burst.iter() {
            frame.prefetch();
        }
        let mut facts = std::mem::take(&mut self.facts);
        let mut lines = std::mem::take(&mut self.lines);
        let gate = self.open_gate(port);
        let mut transit = Burst::new();
        let mut are_usual = true;
        for frame in burst.drain(..) {
            let (facts, line) = (&mut facts[transit.len()], &mut lines[transit.len()]);
            line.is_usual = self.read_usual(gate.as_ref(), &frame, line);
            if line.is_usual {
                transit.push(frame);
            } else if let Some(frame) = self
                .read(port, frame, facts)
                .and_then(|frame| self.steer(port, frame, &facts.parsed))
                .and_then(|frame| self.admit(frame, facts, time))
            {
                are_usual = false;
                transit.push(frame);
            }
        }
        self.lap(Stage::Classify);
        let has_strangers = if are_usual {
            lines[..transit.len()].iter_mut().fold(false, |has, line| {
                self.guard.prefetch_usual(&mut line.lookup) | has
            })
        } else {
            self.look_up(&mut lines[..transit.len()], &mut facts)
        };
        if has_strangers {
            self.make_codes(gate.as_ref(), &transit, &mut lines[..], time);
        }
        self.lap(Stage::LookUp);
        for ((frame, facts), line) in transit.drain(..).zip(&mut facts).zip(&lines) {
            match &gate {
                Some(gate) if line.is_usual => {
                    self.handle_usual(port, gate, frame, line, facts, time);
                }
                _ => self.handle(port, frame, facts, time),
            }
        }
        self.lap(Stage::Handle);
        self.facts = facts;
        self.lines = lines;
    }

    /// Asks for every hash's bucket, then for every session's line. Whether there is a usual frame
    /// without a session.
    #[inline(never)]
    fn look_up(&mut self, lines: &mut [Line], facts: &mut [Facts]) -> bool {
        for (line, facts) in lines.iter().zip(facts.iter_mut()) {
            if !line.is_usual {
                self.guard
                    .prepare_into(&facts.parsed, facts.interface, &mut facts.lookup);
            }
        }
        let mut has_strangers = false;
        for (line, facts) in lines.iter_mut().zip(facts) {
            if line.is_usual {
                has_strangers |= self.guard.prefetch_usual(&mut line.lookup);
            } else if let Some(lookup) = &mut facts.lookup {
                self.guard.prefetch(lookup);
            }
        }
        has_strangers
    }

    /// A frame that another worker received: its flow is ours.
    pub(super) fn walk_one(&mut self, port: PortId, frame: I::Buffer, time: Time) {
        if let Some(bridge) = self.guard.bridge().filter(|it| it.end_of(port).is_some()) {
            return self.walk_one_of_wire(bridge, port, frame, time);
        }
        let mut facts = Facts::NONE;
        if let Err(reason) = self.parse(port, &frame, &mut facts) {
            self.counters.dropped(reason);
        } else if let Some(frame) = self.admit(frame, &mut facts, time) {
            facts.lookup = self.guard.prepare(&facts.parsed, facts.interface);
            self.handle(port, frame, &facts, time);
        }
    }

    /// Parses a frame; what is malformed ends here.
    #[inline(always)]
    fn read(&mut self, port: PortId, frame: I::Buffer, facts: &mut Facts) -> Option<I::Buffer> {
        let read = self.parse(port, &frame, facts);
        if self.transmit.tap.is_some() {
            self.show(port, &frame, &read, facts);
        }
        match read {
            Ok(()) => {
                let traffic = self.counters.traffic_mut(usize::from(facts.interface.0));
                traffic.received_packets += 1;
                traffic.received_bytes += frame.bytes().len() as u64;
                Some(frame)
            }
            Err(reason) => {
                self.counters.dropped(reason);
                None
            }
        }
    }

    /// Finds out what a frame is and which interface it came in by.
    #[inline(always)]
    pub(super) fn parse(
        &self,
        port: PortId,
        frame: &I::Buffer,
        facts: &mut Facts,
    ) -> Result<(), DropReason> {
        facts.interface = InterfaceId(u8::MAX);
        parse_whole(frame, &mut facts.parsed)?;
        facts.interface = self
            .hop
            .interface_of(port, facts.parsed.vlan)
            .ok_or(DropReason::UnknownVlan)?;
        Ok(())
    }

    /// Shows a frame that came in to whoever captures.
    #[cold]
    pub(super) fn show(
        &mut self,
        port: PortId,
        frame: &I::Buffer,
        read: &Result<(), DropReason>,
        facts: &Facts,
    ) {
        let is_parsed = matches!(read, Ok(()) | Err(DropReason::UnknownVlan));
        let sighting = Sighting {
            port,
            interface: facts.interface,
            passage: Passage::In,
            parsed: is_parsed.then_some(&facts.parsed),
        };
        if let Some(tap) = &mut self.transmit.tap {
            tap.offer(frame.bytes(), &sighting, &mut self.counters);
        }
    }

    /// Hands a frame to the worker that owns its flow, if that is another.
    #[inline(always)]
    fn steer(&mut self, port: PortId, frame: I::Buffer, parsed: &Parsed) -> Option<I::Buffer> {
        let workers = self.mesh.workers();
        if workers == 1 || parsed.kind == Kind::Arp {
            return Some(frame);
        }
        let owner = self.owner_of(frame.bytes(), parsed);
        self.steer_to(owner, port, frame)
    }

    /// Hands a frame to `owner`, if that is another.
    #[inline(always)]
    pub(super) fn steer_to(
        &mut self,
        owner: WorkerId,
        port: PortId,
        frame: I::Buffer,
    ) -> Option<I::Buffer> {
        if owner == self.mesh.own() {
            return Some(frame);
        }
        match self.mesh.send(owner, Message::Frame(port, frame)) {
            Ok(()) => self.counters.count(Event::HandedOff),
            Err(_) => self.counters.dropped(DropReason::HandOffFull),
        }
        None
    }

    /// The worker that owns a packet's flow. An ICMP error goes to that of the packet it quotes.
    #[inline]
    pub(super) fn owner_of(&self, frame: &[u8], parsed: &Parsed) -> WorkerId {
        if matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6)
            && let Some(tuple) = guard::quoted_tuple(frame, parsed)
        {
            return self.shard.worker_of_tuple(&tuple);
        }
        self.shard.worker_of(parsed)
    }

    #[inline(never)]
    pub(super) fn handle(&mut self, port: PortId, frame: I::Buffer, facts: &Facts, time: Time) {
        let (parsed, interface) = (&facts.parsed, facts.interface);
        if parsed.fragment == Fragment::Whole {
            let mut ctx = context!(self, time);
            let verdict =
                self.guard
                    .handle(frame, parsed, interface, facts.lookup.as_ref(), &mut ctx);
            self.settle(verdict, parsed, interface, Some(&facts.egress), time);
        } else {
            self.gather(port, frame, parsed, interface, time);
        }
        self.route_outbox(time);
    }

    /// A frame that waited for the peers' word: whole, and not the first time here.
    pub(super) fn handle_waited(&mut self, frame: I::Buffer, facts: &Facts, time: Time) {
        let (parsed, interface) = (&facts.parsed, facts.interface);
        let mut ctx = context!(self, time);
        let verdict = self
            .guard
            .handle(frame, parsed, interface, facts.lookup.as_ref(), &mut ctx);
        self.settle(verdict, parsed, interface, Some(&facts.egress), time);
        self.route_outbox(time);
    }

    /// What the hop lets through, with its way out.
    #[inline(always)]
    pub(super) fn admit(
        &mut self,
        frame: I::Buffer,
        facts: &mut Facts,
        time: Time,
    ) -> Option<I::Buffer> {
        let interface = facts.interface;
        let judgement = self
            .hop
            .judge(interface, &frame, &facts.parsed, &mut facts.egress);
        if matches!(judgement, Judgement::Route) {
            return Some(frame);
        }
        self.conclude(judgement, frame, facts, time);
        None
    }

    /// What concerns the hop alone.
    #[cold]
    fn conclude(&mut self, judgement: Judgement, frame: I::Buffer, facts: &Facts, time: Time) {
        let (parsed, interface) = (&facts.parsed, facts.interface);
        let mut ctx = context!(self, time);
        let verdict = match self
            .hop
            .conclude(judgement, interface, frame, parsed, &mut ctx)
        {
            Concluded::Done(verdict) => verdict,
            Concluded::Local(frame) => self.guard.take_local(frame, parsed, interface, &mut ctx),
            Concluded::Peers(frame) => self.take_from_peers(frame, parsed, interface),
        };
        self.settle(verdict, parsed, interface, None, time);
        self.route_outbox(time);
    }

    /// Does what a verdict says.
    #[inline(always)]
    pub(super) fn settle(
        &mut self,
        verdict: Verdict<I::Buffer>,
        parsed: &Parsed,
        interface: InterfaceId,
        egress: Option<&Egress>,
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
            (Verdict::Drop(frame, reason), _) => self.drop_later(frame, reason),
        }
    }

    /// Counts a frame as dropped, and frees it with others.
    #[inline(always)]
    pub(super) fn drop_later(&mut self, frame: I::Buffer, reason: DropReason) {
        self.counters.dropped(reason);
        if self.dropped.is_full() {
            self.free_dropped();
        }
        self.dropped.push(frame);
    }

    /// A fragment waits for the rest of its datagram, or completes it.
    #[cold]
    pub(super) fn gather(
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
    pub(super) fn drop_all(
        &mut self,
        frames: impl Iterator<Item = (I::Buffer, Parsed)>,
        reason: DropReason,
    ) {
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
            let mut parsed = Parsed::NONE;
            // The other worker has found it whole and sound; on a wire it may bear two tags.
            match parse_tagged_into(frame.bytes(), &mut parsed) {
                Ok(()) if !datagram.is_full() => datagram.push((frame, parsed)),
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
        if let Some(bridge) = self.guard.bridge().filter(|it| it.end_of(port).is_some()) {
            return self.handle_wire_datagram(bridge, port, first, &head, fragments, time);
        }
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
        let verdict = self
            .guard
            .handle(first, &head, interface, lookup.as_ref(), &mut ctx);
        let fate = match &verdict {
            Verdict::Forward(_) => Ok(()),
            Verdict::Drop(_, reason) => Err(*reason),
            _ => Err(DropReason::FragmentOfGuarded),
        };
        self.settle(verdict, &parsed, interface, Some(&egress), time);
        for (frame, parsed) in fragments {
            let verdict = match fate {
                Ok(()) => Verdict::Forward(frame),
                Err(reason) => Verdict::Drop(frame, reason),
            };
            self.settle(verdict, &parsed, interface, Some(&egress), time);
        }
    }
}

/// Parses a frame that stands in one piece and whose IPv4 header checksum holds, as the NIC or
/// its sum says (RFC 1812 §5.2.2).
#[inline(always)]
pub(super) fn parse_whole<B: Buffer>(frame: &B, parsed: &mut Parsed) -> Result<(), DropReason> {
    if !frame.is_contiguous() {
        return Err(DropReason::MultiSegment);
    }
    parse_into(frame.bytes(), parsed)?;
    if parsed.kind == Kind::Ip && parsed.family == Family::V4 && !header_is_sound(frame, parsed) {
        return Err(DropReason::BadIpv4Checksum);
    }
    Ok(())
}

#[inline(always)]
pub(super) fn header_is_sound<B: Buffer>(frame: &B, parsed: &Parsed) -> bool {
    match frame.network_checksum() {
        ChecksumStatus::Good => true,
        ChecksumStatus::Bad => false,
        ChecksumStatus::Unknown => {
            let packet = &frame.bytes()[usize::from(parsed.network)..];
            // Nearly every header has no options: of a known length, the sum needs no loop.
            if let Some(header) = packet.first_chunk::<20>()
                && header[0] & 0x0f == 5
            {
                return internet_checksum(header) == 0;
            }
            let header_bytes = usize::from(packet[0] & 0x0f) * 4;
            internet_checksum(&packet[..header_bytes]) == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBuffer;
    use crate::wire::address::Address;
    use crate::wire::ipv4::{Ipv4Header, write_ipv4};

    fn read(frame: &MemoryBuffer) -> Result<(), DropReason> {
        parse_whole(frame, &mut Parsed::default())
    }

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
        assert!(read(&MemoryBuffer::new(&bytes)).is_ok());
        bytes[14 + 8] -= 1;
        let mut broken = MemoryBuffer::new(&bytes);
        assert_eq!(read(&broken), Err(DropReason::BadIpv4Checksum));
        broken.checksum = ChecksumStatus::Good;
        assert!(read(&broken).is_ok());
        broken.checksum = ChecksumStatus::Bad;
        assert_eq!(read(&broken), Err(DropReason::BadIpv4Checksum));
    }
}
