//! The walk of a burst that came in by a transparent wire: parse → steer → look up → handle, and
//! across, whatever else it is.

use super::walk::{Facts, header_is_sound};
use super::{Time, Worker, context};
use crate::bridge::Bridge;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::echo;
use crate::io::{InterfaceId, Io, PortId};
use crate::packet::{Buffer, Burst};
use crate::parse::{
    ETHERNET_HEADER_BYTES, Fragment, Kind, Parsed, parse_network, parse_tagged_into, protocol,
};
use crate::runtime::Stage;
use crate::shard::Tuple;
use crate::verdict::Verdict;
use crate::wire::address::Family;
use crate::wire::bytes::u16_at;

impl<I: Io> Worker<I> {
    /// Takes a burst of one end of the wire from receive to send.
    pub(super) fn walk_wire(
        &mut self,
        bridge: Bridge,
        port: PortId,
        burst: &mut Burst<I::Buffer>,
        time: Time,
    ) {
        if self.cross_at_once(bridge, port, burst, time) {
            return;
        }
        self.counters.add(Event::Received, burst.len() as u64);
        for frame in burst.iter() {
            frame.prefetch();
        }
        let mut facts = std::mem::take(&mut self.facts);
        let mut transit = Burst::new();
        for frame in burst.drain(..) {
            let facts = &mut facts[transit.len()];
            if let Some(frame) = self
                .read_of_wire(bridge, port, frame, facts, time)
                .and_then(|frame| self.steer_of_wire(port, frame, &facts.parsed))
            {
                transit.push(frame);
            }
        }
        self.lap(Stage::Classify);
        for facts in &mut facts[..transit.len()] {
            self.guard
                .prepare_into(&facts.parsed, facts.interface, &mut facts.lookup);
        }
        for facts in &mut facts[..transit.len()] {
            if let Some(lookup) = &mut facts.lookup {
                self.guard.prefetch(lookup);
            }
        }
        self.lap(Stage::LookUp);
        for (frame, facts) in transit.drain(..).zip(&facts) {
            self.handle_of_wire(bridge, port, frame, facts, time);
        }
        self.lap(Stage::Handle);
        self.facts = facts;
    }

    /// A wire on which nothing is to be decided is a wire: the burst crosses unread. Not where a
    /// frame is too large or in pieces, while somebody captures or fragments wait, nor with other
    /// workers, who may know of something.
    fn cross_at_once(
        &mut self,
        bridge: Bridge,
        port: PortId,
        burst: &mut Burst<I::Buffer>,
        time: Time,
    ) -> bool {
        let is_bare = self.mesh.workers() == 1
            && self.transmit.tap.is_none()
            && self.fragments.held() == 0
            && self.guard.lets_all_cross(time.now_ns);
        let (true, Some(from)) = (is_bare, bridge.end_of(port)) else {
            return false;
        };
        let to = bridge.across(port);
        let largest = ETHERNET_HEADER_BYTES + usize::from(to.mtu_bytes);
        let (mut bytes, mut is_plain) = (0, true);
        for frame in burst.iter() {
            let length = frame.bytes().len();
            bytes += length as u64;
            is_plain &= length <= largest && frame.is_contiguous();
        }
        if !is_plain {
            return false;
        }
        let count = burst.len() as u64;
        self.counters.add(Event::Received, count);
        self.counters.add(Event::Bridged, count);
        let traffic = self.counters.traffic_mut(usize::from(from.interface.0));
        traffic.received_packets += count;
        traffic.received_bytes += bytes;
        let (io, counters) = (&mut self.io, &mut self.counters);
        self.transmit
            .push_all(to.port, to.interface, burst, bytes, io, counters);
        true
    }

    /// A frame of the wire that another worker received: its flow is ours.
    #[cold]
    pub(super) fn walk_one_of_wire(
        &mut self,
        bridge: Bridge,
        port: PortId,
        frame: I::Buffer,
        time: Time,
    ) {
        let mut facts = Facts::NONE;
        let Some(end) = bridge.end_of(port) else {
            return self.counters.dropped(DropReason::UnknownVlan);
        };
        facts.interface = end.interface;
        match parse_tagged_into(frame.bytes(), &mut facts.parsed) {
            Ok(()) => {
                facts.lookup = self.guard.prepare(&facts.parsed, facts.interface);
                self.handle_of_wire(bridge, port, frame, &facts, time);
            }
            Err(reason) => {
                drop(frame);
                self.counters.dropped(reason);
            }
        }
    }

    /// Parses a frame; what is no packet that the guard can read crosses at once.
    fn read_of_wire(
        &mut self,
        bridge: Bridge,
        port: PortId,
        frame: I::Buffer,
        facts: &mut Facts,
        time: Time,
    ) -> Option<I::Buffer> {
        let interface = bridge.end_of(port)?.interface;
        facts.interface = interface;
        let read = read(&frame, &mut facts.parsed);
        if self.transmit.tap.is_some() {
            self.show(port, &frame, &read, facts);
        }
        let traffic = self.counters.traffic_mut(usize::from(interface.0));
        traffic.received_packets += 1;
        traffic.received_bytes += frame.bytes().len() as u64;
        let reason = match read {
            Ok(()) if facts.parsed.kind == Kind::Ip => return Some(frame),
            Ok(()) => {
                self.counters.count(Event::Bridged);
                bridge.cross(port, frame, &mut context!(self, time));
                return None;
            }
            Err(reason) => reason,
        };
        if reason == DropReason::MultiSegment {
            drop(frame);
            self.counters.dropped(reason);
            return None;
        }
        let guard = &self.guard;
        let mut ctx = context!(self, time);
        bridge.pass_unread(
            port,
            frame,
            reason,
            |address| guard.is_server(address),
            &mut ctx,
        );
        None
    }

    /// Hands a frame to the worker that owns its flow, if that is another. An echo that carries a
    /// SYN goes to that of the SYN.
    fn steer_of_wire(
        &mut self,
        port: PortId,
        frame: I::Buffer,
        parsed: &Parsed,
    ) -> Option<I::Buffer> {
        if self.mesh.workers() == 1 {
            return Some(frame);
        }
        let owner = match carried_tuple(frame.bytes(), parsed) {
            Some(tuple) => self.shard.worker_of_tuple(&tuple),
            None => self.owner_of(frame.bytes(), parsed),
        };
        self.steer_to(owner, port, frame)
    }

    fn handle_of_wire(
        &mut self,
        bridge: Bridge,
        port: PortId,
        frame: I::Buffer,
        facts: &Facts,
        time: Time,
    ) {
        let (parsed, interface) = (&facts.parsed, facts.interface);
        if parsed.fragment != Fragment::Whole && self.may_be_guarded(parsed) {
            self.gather(port, frame, parsed, interface, time);
        } else {
            let mut ctx = context!(self, time);
            let verdict =
                self.guard
                    .handle(frame, parsed, interface, facts.lookup.as_ref(), &mut ctx);
            self.settle_of_wire(bridge, port, verdict, parsed, interface, time);
        }
        self.route_outbox(time);
    }

    /// Whether a fragment may be of a guarded server's TCP. Later fragments of IPv6 may name a
    /// header that stands before TCP's.
    fn may_be_guarded(&self, parsed: &Parsed) -> bool {
        let may_be_tcp = match parsed.protocol {
            protocol::TCP => true,
            protocol::UDP | protocol::ICMP | protocol::ICMPV6 => false,
            _ => parsed.family == Family::V6,
        };
        may_be_tcp
            && (self.guard.is_server(parsed.destination) || self.guard.is_server(parsed.source))
    }

    /// Does what a verdict says, on a wire.
    fn settle_of_wire(
        &mut self,
        bridge: Bridge,
        port: PortId,
        verdict: Verdict<I::Buffer>,
        parsed: &Parsed,
        interface: InterfaceId,
        time: Time,
    ) {
        let mut ctx = context!(self, time);
        match verdict {
            Verdict::Forward(frame) => bridge.cross(port, frame, &mut ctx),
            Verdict::Reply(frame) => bridge.back(port, frame, &mut ctx),
            // Without an address there is nobody who could say why.
            Verdict::Reject(frame) => ctx.discard(frame, DropReason::DeniedByRule),
            other => self.settle(other, parsed, interface, None, time),
        }
    }

    /// The first fragment is handled as the packet it heads; the others share its fate.
    pub(super) fn handle_wire_datagram(
        &mut self,
        bridge: Bridge,
        port: PortId,
        first: I::Buffer,
        head: &Parsed,
        rest: impl Iterator<Item = (I::Buffer, Parsed)>,
        time: Time,
    ) {
        let Some(end) = bridge.end_of(port) else {
            drop(first);
            self.counters.dropped(DropReason::NoRoute);
            return self.drop_all(rest, DropReason::NoRoute);
        };
        let interface = end.interface;
        let lookup = self.guard.prepare(head, interface);
        let mut ctx = context!(self, time);
        let verdict = self
            .guard
            .handle(first, head, interface, lookup.as_ref(), &mut ctx);
        let fate = match &verdict {
            Verdict::Forward(_) => Ok(()),
            Verdict::Drop(_, reason) => Err(*reason),
            _ => Err(DropReason::FragmentOfGuarded),
        };
        self.settle_of_wire(bridge, port, verdict, head, interface, time);
        match fate {
            Ok(()) => {
                for (frame, _) in rest {
                    bridge.cross(port, frame, &mut context!(self, time));
                }
            }
            Err(reason) => self.drop_all(rest, reason),
        }
    }

    /// Sends what a handler made: by the wire if a proved frame has shown the way, else by a route
    /// of another port's.
    #[cold]
    pub(super) fn output_by_wire(&mut self, bridge: Bridge, packet: I::Buffer, time: Time) {
        let destination = match parse_network(packet.bytes()) {
            Ok(parsed) => parsed.destination,
            Err(reason) => {
                drop(packet);
                return self.counters.dropped(reason);
            }
        };
        let mut ctx = context!(self, time);
        if let Some((towards, header)) = self.guard.path_to(destination) {
            bridge.output(towards, header, packet, &mut ctx);
        } else if self.hop.egress(destination, None).is_some() {
            self.hop.output(packet, &mut ctx);
        } else {
            ctx.discard(packet, DropReason::PathUnknown);
        }
    }
}

/// Parses a frame that stands in one piece and whose IPv4 header checksum holds.
#[inline(always)]
fn read<B: Buffer>(frame: &B, parsed: &mut Parsed) -> Result<(), DropReason> {
    if !frame.is_contiguous() {
        return Err(DropReason::MultiSegment);
    }
    parse_tagged_into(frame.bytes(), parsed)?;
    if parsed.kind == Kind::Ip && parsed.family == Family::V4 && !header_is_sound(frame, parsed) {
        return Err(DropReason::BadIpv4Checksum);
    }
    Ok(())
}

/// The tuple of the SYN that an echo of ours carries, as far as it can be read.
fn carried_tuple(frame: &[u8], parsed: &Parsed) -> Option<Tuple> {
    if !matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6) {
        return None;
    }
    let message = echo::message_of(frame, parsed)?;
    let tcp = frame.get(message.payload + echo::HEADER_BYTES..usize::from(parsed.end))?;
    (tcp.len() >= 4).then(|| Tuple {
        source: parsed.source,
        destination: parsed.destination,
        source_port: u16_at(tcp, 0),
        destination_port: u16_at(tcp, 2),
    })
}
