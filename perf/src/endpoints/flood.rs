//! A flood beside the legitimate connections: spoofed SYNs and forged ACKs, or another attack, out
//! of the same port.

use dataplane::parse::flags;
use dataplane::wire::address::{Address, Family, Prefix};
use dataplane::wire::tcp::MAX_OPTION_BYTES;
use dataplane::wire::tcp_options::SynOptions;
use simulator::Random;

use super::attack::{self, Part, Way};
use super::load::{Load, Pacer};
use super::segment::{Head, Link, Sink, Tuple, Writer, timestamps};
use super::tcb::{OWN_SCALE, SYN_WINDOW};

/// What a flood's packets are. All but [`Kind::Scan`] are for the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs and forged ACKs, by [`FloodConfig::acks`].
    Handshakes,
    /// SYNs.
    Syns,
    /// ACKs that answer no SYN-ACK.
    Acks,
    /// Whole datagrams of UDP, as anybody may send them.
    Harmless,
    /// Datagrams for addresses that nobody has, in the networks that the subject is connected to.
    Scan,
    /// First fragments whose rest never comes; one in [`DATAGRAMS`] is a whole datagram in two.
    Fragments,
    /// ICMP errors about segments that no server has sent.
    Errors,
    /// Datagrams that have no hop left, of which their senders are to be told.
    Expired,
}

/// Of so many packets beside fragments, one pair is a datagram that should arrive.
pub const DATAGRAMS: u64 = 128;

/// What a flood is.
#[derive(Clone, Debug, PartialEq)]
pub struct FloodConfig {
    /// Where its packets claim to come from, of each family at most once.
    pub sources: Vec<Prefix>,
    /// Whom it is for.
    pub destinations: Vec<(Address, u16)>,
    /// Networks that the subject is connected to, of each family at most once: what is scanned.
    pub neighbours: Vec<Prefix>,
    /// Forged ACKs among the SYNs, from 0 to 1.
    pub acks: f64,
    /// What makes two runs send the same packets.
    pub seed: u64,
}

/// What was sent of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloodSent {
    /// SYNs.
    pub syns: u64,
    /// ACKs.
    pub acks: u64,
    /// All others.
    pub others: u64,
    /// Of these, whole datagrams in two fragments.
    pub datagrams: u64,
    /// Packets that were due and not sent.
    pub unsent: u64,
}

impl FloodSent {
    /// All packets that were sent.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.syns + self.acks + self.others
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            syns: self.syns - earlier.syns,
            acks: self.acks - earlier.acks,
            others: self.others - earlier.others,
            datagrams: self.datagrams - earlier.datagrams,
            unsent: self.unsent - earlier.unsent,
        }
    }
}

/// Sends a flood.
pub(super) struct Flood {
    config: FloodConfig,
    writer: Writer,
    random: Random,
    pub(super) sent: FloodSent,
    link: Link,
    /// Packets of other kinds for which there was no room.
    refused: u64,
}

impl Flood {
    pub(super) fn new(config: FloodConfig, link: Link) -> Self {
        Self {
            random: Random::new(config.seed),
            config,
            writer: Writer::new(link),
            sent: FloodSent::default(),
            link,
            refused: 0,
        }
    }

    /// A pacer of so many packets a second from `now_ns` on.
    pub(super) fn pacer(per_s: f64, now_ns: u64) -> Pacer {
        Pacer::new(Load::Rate { per_s }, std::time::Duration::ZERO, now_ns)
    }

    /// Sends `count` packets.
    pub(super) fn send(&mut self, kind: Kind, count: u64, now_ns: u64, sink: &mut impl Sink) {
        for _ in 0..count {
            let Some(way) = self.way(kind) else {
                self.sent.unsent += 1;
                continue;
            };
            match kind {
                Kind::Handshakes => {
                    let is_ack = self.random.chance(self.config.acks);
                    self.send_segment(&way, is_ack, now_ns, sink);
                }
                Kind::Syns => self.send_segment(&way, false, now_ns, sink),
                Kind::Acks => self.send_segment(&way, true, now_ns, sink),
                _ => self.send_other(kind, &way, sink),
            }
        }
    }

    fn way(&mut self, kind: Kind) -> Option<Way> {
        let bits = self.random.next_u64();
        let destinations = &self.config.destinations;
        let (destination, port) = destinations[bits as usize % destinations.len()];
        let family = destination.family();
        let destination = match kind {
            Kind::Scan => self.within(Self::net(&self.config.neighbours, family)?),
            _ => destination,
        };
        Some(Way {
            source: self.within(Self::net(&self.config.sources, family)?),
            destination,
            port,
            bits: self.random.next_u64(),
        })
    }

    fn send_other(&mut self, kind: Kind, way: &Way, sink: &mut impl Sink) {
        let link = &self.link;
        let is_datagram = kind == Kind::Fragments && way.bits.is_multiple_of(DATAGRAMS);
        let is_sent = match kind {
            Kind::Fragments if is_datagram => {
                let is_first_sent = attack::fragment(sink, link, way, Part::First);
                let are_both = is_first_sent && attack::fragment(sink, link, way, Part::Last);
                self.sent.others += u64::from(are_both);
                self.sent.datagrams += u64::from(are_both);
                are_both
            }
            Kind::Fragments => attack::fragment(sink, link, way, Part::First),
            Kind::Errors => attack::error(sink, link, way),
            Kind::Expired => attack::datagram(sink, link, way, Some(1)),
            _ => attack::datagram(sink, link, way, None),
        };
        self.sent.others += u64::from(is_sent);
        self.refused += u64::from(!is_sent);
    }

    fn send_segment(&mut self, way: &Way, is_ack: bool, now_ns: u64, sink: &mut impl Sink) {
        let tuple = Tuple {
            source: way.source,
            destination: way.destination,
            source_port: 1024 + ((way.bits >> 32) as u16 % 64_512),
            destination_port: way.port,
        };
        let numbers = self.random.next_u64();
        let mut bytes = [0; MAX_OPTION_BYTES];
        let head = if is_ack {
            self.sent.acks += 1;
            let stamps = timestamps((now_ns / 1_000_000) as u32, (numbers >> 16) as u32);
            bytes[..stamps.len()].copy_from_slice(&stamps);
            Head {
                sequence: numbers as u32,
                acknowledgement: (numbers >> 32) as u32,
                flags: flags::ACK,
                window: SYN_WINDOW,
                options: &bytes[..stamps.len()],
            }
        } else {
            self.sent.syns += 1;
            let options = SynOptions {
                mss: Some(1460),
                window_scale: Some(OWN_SCALE),
                sack_permitted: true,
                timestamps: Some(((now_ns / 1_000_000) as u32, 0)),
            };
            let length = options.write(&mut bytes);
            Head {
                sequence: numbers as u32,
                acknowledgement: 0,
                flags: flags::SYN,
                window: SYN_WINDOW,
                options: &bytes[..length],
            }
        };
        self.writer.send(sink, &tuple, &head, &[]);
    }

    fn net(nets: &[Prefix], family: Family) -> Option<Prefix> {
        nets.iter().find(|net| net.family() == family).copied()
    }

    /// An address of a net.
    fn within(&mut self, net: Prefix) -> Address {
        let random = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        let host_bits = 128 - u32::from(net.mapped_length());
        let mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        Address::from_bits(net.network().to_bits() | (random & mask))
    }

    pub(super) fn refused(&self) -> u64 {
        self.writer.refused + self.refused
    }
}
