//! A flood beside the legitimate connections: spoofed SYNs and forged ACKs, out of the same port.

use dataplane::parse::flags;
use dataplane::wire::address::{Address, Family, Prefix};
use dataplane::wire::tcp::MAX_OPTION_BYTES;
use dataplane::wire::tcp_options::SynOptions;
use simulator::Random;

use super::load::{Load, Pacer};
use super::segment::{Head, Link, Sink, Tuple, Writer, timestamps};
use super::tcb::{OWN_SCALE, SYN_WINDOW};

/// What a flood is.
#[derive(Clone, Debug, PartialEq)]
pub struct FloodConfig {
    /// Where its packets claim to come from, of each family at most once.
    pub sources: Vec<Prefix>,
    /// Whom it is for.
    pub destinations: Vec<(Address, u16)>,
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
    /// Packets that were due and not sent.
    pub unsent: u64,
}

/// Sends a flood.
pub(super) struct Flood {
    config: FloodConfig,
    writer: Writer,
    random: Random,
    pub(super) sent: FloodSent,
}

impl Flood {
    pub(super) fn new(config: FloodConfig, link: Link) -> Self {
        Self {
            random: Random::new(config.seed),
            config,
            writer: Writer::new(link),
            sent: FloodSent::default(),
        }
    }

    /// A pacer of so many packets a second from `now_ns` on.
    pub(super) fn pacer(per_s: f64, now_ns: u64) -> Pacer {
        Pacer::new(Load::Rate { per_s }, std::time::Duration::ZERO, now_ns)
    }

    /// Sends `count` packets.
    pub(super) fn send(&mut self, count: u64, now_ns: u64, sink: &mut impl Sink) {
        for _ in 0..count {
            self.send_one(now_ns, sink);
        }
    }

    fn send_one(&mut self, now_ns: u64, sink: &mut impl Sink) {
        let bits = self.random.next_u64();
        let destinations = &self.config.destinations;
        let (destination, destination_port) = destinations[bits as usize % destinations.len()];
        let Some(source) = self.source(destination.family()) else {
            self.sent.unsent += 1;
            return;
        };
        let tuple = Tuple {
            source,
            destination,
            source_port: 1024 + ((bits >> 32) as u16 % 64_512),
            destination_port,
        };
        let numbers = self.random.next_u64();
        let is_ack = self.random.chance(self.config.acks);
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

    /// An address of the family's spoofed net.
    fn source(&mut self, family: Family) -> Option<Address> {
        let mut nets = self.config.sources.iter();
        let net = nets.find(|net| net.family() == family)?;
        let random = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        let host_bits = 128 - u32::from(net.mapped_length());
        let mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        Some(Address::from_bits(
            net.network().to_bits() | (random & mask),
        ))
    }

    pub(super) fn refused(&self) -> u64 {
        self.writer.refused
    }
}
