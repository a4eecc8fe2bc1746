//! A hop with ports in memory, and frames to try on it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::context::{Context, Outbox};
use crate::counters::{Counters, Event};
use crate::drop_reason::DropReason;
use crate::hop::{Admitted, Egress, Hop, HopConfig, HopTables, Interface, Route};
use crate::io::{InterfaceId, PortId};
use crate::memory::{MemoryBuffer, MemoryIo};
use crate::packet::Buffer;
use crate::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Parsed, parse, protocol};
use crate::transmit::{Transmit, TransmitWay};
use crate::verdict::Verdict;
use crate::wire::address::{Address, Family, Prefix};
use crate::wire::ethernet::{MacAddress, write_ethernet};
use crate::wire::ipv4::{Ipv4Header, write_ipv4};
use crate::wire::ipv6::{Ipv6Header, write_ipv6};

pub(super) const SECOND_NS: u64 = 1_000_000_000;
pub(super) const OUTSIDE: InterfaceId = InterfaceId(0);
pub(super) const INSIDE: InterfaceId = InterfaceId(1);
pub(super) const TAGGED: InterfaceId = InterfaceId(2);
pub(super) const OTHER_TAGGED: InterfaceId = InterfaceId(3);
pub(super) const OUTSIDE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub(super) const INSIDE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub(super) const ROUTER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 1]);
pub(super) const SERVER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 2]);

pub(super) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

pub(super) fn prefix(text: &str) -> Prefix {
    let (network, length) = text.split_once('/').unwrap();
    Prefix::new(address(network), length.parse().unwrap()).unwrap()
}

fn interface(port: u8, vlan: Option<u16>, mac: MacAddress, own: &[(&str, &str)]) -> Interface {
    Interface {
        port: PortId(port),
        vlan,
        mac,
        mtu_bytes: 1500,
        addresses: own
            .iter()
            .map(|(own, network)| (address(own), prefix(network)))
            .collect(),
        protected: false,
    }
}

/// Outside with a default route, inside with the servers, and two VLANs of a third port.
pub(super) fn config() -> HopConfig {
    let outside = [
        ("192.0.2.1", "192.0.2.0/24"),
        ("2001:db8:1::1", "2001:db8:1::/64"),
    ];
    let inside = [("10.0.0.1", "10.0.0.0/24"), ("fd00:1::1", "fd00:1::/64")];
    let tagged = [("10.1.0.1", "10.1.0.0/24")];
    let other_tagged = [("10.2.0.1", "10.2.0.0/24")];
    let route = |to: &str, via: &str, interface| Route {
        prefix: prefix(to),
        via: Some(address(via)),
        interface,
    };
    let mut config = HopConfig {
        interfaces: vec![
            interface(0, None, OUTSIDE_MAC, &outside),
            interface(1, None, INSIDE_MAC, &inside),
            interface(2, Some(100), MacAddress([2, 0, 0, 0, 0, 3]), &tagged),
            interface(2, Some(200), MacAddress([2, 0, 0, 0, 0, 3]), &other_tagged),
        ],
        routes: vec![
            route("0.0.0.0/0", "192.0.2.254", OUTSIDE),
            route("::/0", "2001:db8:1::fe", OUTSIDE),
            route("10.9.0.0/16", "10.0.0.9", INSIDE),
        ],
        replication: None,
        reserved: Vec::new(),
    };
    config.interfaces[1].protected = true;
    config
}

/// A hop and its surroundings. After each test everything must add up: see [`Rig::balance`].
pub(super) struct Rig {
    pub(super) hop: Hop<MemoryBuffer>,
    pub(super) io: MemoryIo,
    pub(super) counters: Counters,
    pub(super) outbox: Outbox<MemoryBuffer>,
    pub(super) transmit: Transmit<MemoryBuffer>,
    pub(super) now_ns: u64,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(&config())
    }

    pub(super) fn with(config: &HopConfig) -> Self {
        let tables = Arc::new(HopTables::new(config).unwrap());
        Self {
            hop: Hop::new(tables, 7),
            io: MemoryIo::new(3),
            counters: Counters::default(),
            outbox: Outbox::new(),
            transmit: Transmit::new(&[TransmitWay::Queue; 3]),
            now_ns: 100 * SECOND_NS,
        }
    }

    /// Lets `act` act, then sends what is to be sent.
    pub(super) fn act<R>(
        &mut self,
        act: impl FnOnce(&mut Hop<MemoryBuffer>, &mut Context<'_, MemoryIo>) -> R,
    ) -> R {
        let mut ctx = Context {
            now_ns: self.now_ns,
            unix_ms: 0,
            io: &mut self.io,
            counters: &mut self.counters,
            outbox: &mut self.outbox,
            transmit: &mut self.transmit,
        };
        let result = act(&mut self.hop, &mut ctx);
        while let Some(packet) = ctx.outbox.pop_at(0) {
            self.hop.output(packet, &mut ctx);
        }
        ctx.transmit.flush(ctx.io, ctx.counters);
        result
    }

    /// Has a frame come in and be dealt with as a worker would; what is left of it comes back.
    pub(super) fn receive(&mut self, interface: InterfaceId, frame: &[u8]) -> Outcome {
        self.counters.count(Event::Received);
        let parsed = match parse(frame) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.counters.dropped(reason);
                return Outcome::Dropped(reason);
            }
        };
        let (port, _) = self.hop.port_of(interface).unwrap();
        assert_eq!(self.hop.interface_of(port, parsed.vlan), Some(interface));
        let buffer = MemoryBuffer::new(frame);
        self.act(
            |hop, ctx| match hop.admit(interface, buffer, &parsed, ctx) {
                Admitted::Transit(buffer, egress) => {
                    assert_eq!(
                        buffer.bytes(),
                        frame,
                        "nothing is changed before it is sent on"
                    );
                    hop.forward(buffer, &parsed, &egress, ctx);
                    Outcome::Routed(egress)
                }
                Admitted::Done(Verdict::Drop(buffer, reason)) => {
                    ctx.discard(buffer, reason);
                    Outcome::Dropped(reason)
                }
                Admitted::Done(Verdict::Reply(buffer)) => {
                    hop.reply(buffer, &parsed, interface, ctx);
                    Outcome::Taken
                }
                Admitted::Done(Verdict::Hold) => Outcome::Taken,
                Admitted::Local(buffer) => {
                    ctx.discard(buffer, DropReason::NotForUs);
                    Outcome::Dropped(DropReason::NotForUs)
                }
                Admitted::Peers(buffer) => {
                    // As the worker would say.
                    ctx.counters.count(Event::Consumed);
                    drop(buffer);
                    Outcome::Taken
                }
                Admitted::Done(_) => panic!("the hop gives no such verdict"),
            },
        )
    }

    pub(super) fn dropped(&mut self, interface: InterfaceId, frame: &[u8]) -> DropReason {
        match self.receive(interface, frame) {
            Outcome::Dropped(reason) => reason,
            other => panic!("not dropped: {other:?}"),
        }
    }

    pub(super) fn tick_after(&mut self, elapsed_ns: u64) {
        self.now_ns += elapsed_ns;
        self.act(|hop, ctx| hop.tick(ctx));
    }

    /// The next frame that was sent by `interface`.
    pub(super) fn sent(&mut self, interface: InterfaceId) -> Option<Vec<u8>> {
        let (port, _) = self.hop.port_of(interface).unwrap();
        self.io.departed(port).map(|frame| frame.bytes().to_vec())
    }

    /// The next frame that was sent by `interface`, and what it carries.
    pub(super) fn sent_packet(&mut self, interface: InterfaceId) -> (Vec<u8>, Parsed) {
        let frame = self.sent(interface).expect("a frame was sent");
        let parsed = parse(&frame).expect("what is sent can be read");
        (frame, parsed)
    }

    /// Makes a neighbour known, by a question that it asks us.
    pub(super) fn acquaint(&mut self, interface: InterfaceId, neighbour: &str, mac: MacAddress) {
        let update = crate::hop::NeighbourUpdate {
            interface,
            address: address(neighbour),
            mac,
            asked: true,
            overrides: true,
        };
        self.act(|hop, ctx| hop.apply_update(update, ctx));
    }

    /// Every frame left by one way: sent, held, used up, or dropped for a reason.
    pub(super) fn balance(&self) {
        let event = |event| self.counters.event(event);
        let came = event(Event::Received) + event(Event::Created);
        let left = event(Event::Sent)
            + event(Event::Consumed)
            + self.counters.all_drops()
            + self.hop.held() as u64;
        assert_eq!(came, left, "{:?}", self.counters);
        assert_eq!(self.transmit.waiting(), 0);
        assert!(self.outbox.is_empty());
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Routed(Egress),
    Taken,
    Dropped(DropReason),
}

/// An IP packet to try: UDP-like payload of a protocol that nobody looks into.
#[derive(Clone)]
pub(super) struct Probe {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) dont_fragment: bool,
    pub(super) payload: Vec<u8>,
}

/// A UDP packet of 60 octets (IPv4) with its ports and length right.
pub(super) fn probe(from: &'static str, to: &'static str) -> Probe {
    let mut payload = vec![0x12, 0x34, 0x00, 0x35, 0, 40, 0, 0];
    payload.extend(0..32);
    Probe {
        from,
        to,
        ttl: 64,
        protocol: protocol::UDP,
        dont_fragment: false,
        payload,
    }
}

impl Probe {
    /// The packet from its IP header on.
    pub(super) fn packet(&self) -> Vec<u8> {
        let (source, destination) = (address(self.from), address(self.to));
        let mut packet;
        match source.family() {
            Family::V4 => {
                packet = vec![0; 20];
                let header = Ipv4Header {
                    source,
                    destination,
                    protocol: self.protocol,
                    ttl: self.ttl,
                    total_bytes: (20 + self.payload.len()) as u16,
                    identification: 0x4242,
                    dont_fragment: self.dont_fragment,
                    dscp_ecn: 0,
                };
                write_ipv4(&mut packet, &header);
            }
            Family::V6 => {
                packet = vec![0; 40];
                let header = Ipv6Header {
                    source,
                    destination,
                    protocol: self.protocol,
                    hop_limit: self.ttl,
                    payload_bytes: self.payload.len() as u16,
                    dscp_ecn: 0,
                    flow_label: 7,
                };
                write_ipv6(&mut packet, &header);
            }
        }
        packet.extend(&self.payload);
        packet
    }

    /// The packet in a frame.
    pub(super) fn frame(&self, to: MacAddress, from: MacAddress, vlan: Option<u16>) -> Vec<u8> {
        framed(&self.packet(), to, from, vlan)
    }

    /// The packet in a frame from the router outside.
    pub(super) fn outside(&self) -> Vec<u8> {
        self.frame(OUTSIDE_MAC, ROUTER_MAC, None)
    }

    /// The packet in a frame from the server inside.
    pub(super) fn inside(&self) -> Vec<u8> {
        self.frame(INSIDE_MAC, SERVER_MAC, None)
    }
}

/// An IP packet behind an Ethernet header.
pub(super) fn framed(
    packet: &[u8],
    to: MacAddress,
    from: MacAddress,
    vlan: Option<u16>,
) -> Vec<u8> {
    let ether_type = match packet[0] >> 4 {
        4 => ETHER_TYPE_IPV4,
        _ => ETHER_TYPE_IPV6,
    };
    let mut frame = vec![0; 18];
    let length = write_ethernet(&mut frame, to, from, vlan, ether_type);
    frame.truncate(length);
    frame.extend(packet);
    frame
}
