//! What is sent: streams of frames, each with its sizes, its flows and its rate.
//!
//! Sizes count a frame as RFC 2544 does: from the destination's station address to the end of the
//! check sequence, so the smallest is 64 octets. The check sequence's four octets are the device's;
//! what is built here is that much shorter.

mod addresses;
mod capture;
mod file;
mod raw;
mod replay;
mod sizes;
mod words;

use std::sync::Arc;

use dataplane::parse::ETHERNET_HEADER_BYTES;
use dataplane::wire::address::Family;
use dataplane::wire::ethernet::link_header_bytes;
use dataplane::wire::{ipv4, ipv6};

pub use addresses::{AddressRange, NumberRange, Order};
pub(crate) use addresses::{Walk, mix};
pub use file::{json_schema_text, load};
pub use replay::Capture;
pub use sizes::{IMIX, RFC2544_SIZES, SizeError, Sizes};

/// Octets of the frame check sequence, which devices add and take away.
pub const CHECK_SEQUENCE_BYTES: usize = 4;
/// Octets of preamble, start delimiter and gap, which a frame takes on a cable beside its own.
pub const PREAMBLE_AND_GAP_BYTES: usize = 20;
/// Octets of the signature by which frames are known again.
pub(crate) const SIGNATURE_BYTES: usize = 18;
/// Octets of both station addresses.
const STATIONS_BYTES: usize = 12;
/// Flows of one stream.
pub const MAXIMUM_FLOWS: u32 = 1 << 20;
/// Streams of one description, both directions counted.
pub const MAXIMUM_STREAMS: usize = 64;

/// A description of traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// What a report calls it.
    pub name: String,
    /// What makes two runs draw the same addresses.
    pub seed: u64,
    /// The streams, at least one and at most [`MAXIMUM_STREAMS`].
    pub streams: Vec<Stream>,
}

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first device to the second, from outside to inside.
    Inward,
    /// From the second device to the first.
    Outward,
}

impl Direction {
    /// The side that sends: 0 for the first device, 1 for the second.
    #[must_use]
    pub const fn sender(self) -> usize {
        match self {
            Self::Inward => 0,
            Self::Outward => 1,
        }
    }
}

/// Frames of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// What messages call it.
    pub name: String,
    /// Which way it goes.
    pub direction: Direction,
    /// What a frame is.
    pub kind: Kind,
    /// The 802.1Q identifier, if frames bear a tag.
    pub vlan: Option<u16>,
    /// How large frames are.
    pub sizes: Sizes,
    /// How many flows there are; frames go round them.
    pub flows: u32,
    /// How many frames, and when.
    pub rate: Rate,
    /// Whether the rate is kept up or comes in bursts.
    pub shape: Shape,
    /// Whether frames bear a signature, by which the other side knows them again.
    pub is_signed: bool,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A datagram or segment over IP.
    Ip(Packet),
    /// These octets, which stand behind the station addresses.
    Raw(Vec<u8>),
    /// The frames of a capture, with station addresses of the link that they are sent on.
    Replay(Arc<Capture>),
}

/// The headers of an IP packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// What is in it.
    pub transport: Transport,
    /// Which IP it is, where the addresses do not say it.
    pub is_ipv6: bool,
    /// Where it claims to come from; what lies behind the sending side, if nothing is said.
    pub source: Option<AddressRange>,
    /// Where it goes; what lies behind the receiving side, if nothing is said.
    pub destination: Option<AddressRange>,
    /// Ports that it comes from.
    pub source_port: NumberRange,
    /// Ports that it goes to.
    pub destination_port: NumberRange,
    /// The time to live, or hop limit.
    pub ttl: u8,
    /// The differentiated services code point.
    pub dscp: u8,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// A TCP segment that asks for a connection; its sequence number varies.
    TcpSyn,
    /// A TCP segment that claims to belong to a connection; both its numbers vary.
    TcpAck,
}

impl Transport {
    /// Octets of the header.
    #[must_use]
    pub const fn header_bytes(self) -> usize {
        match self {
            Self::Udp => 8,
            Self::TcpSyn | Self::TcpAck => 20,
        }
    }

    /// IP's number for it.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::TcpSyn | Self::TcpAck => 6,
        }
    }
}

/// How often a stream sends, by itself. A search offers all streams together at other rates, and
/// keeps their proportions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Frames a second.
    FramesPerS(f64),
    /// Bits a second of frames, check sequence included, without preamble and gap.
    BitsPerS(f64),
    /// A share, from 0 to 1, of what the device's line carries, preambles and gaps included.
    Line(f64),
}

impl Rate {
    /// So many times the rate.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        match self {
            Self::FramesPerS(rate) => Self::FramesPerS(rate * factor),
            Self::BitsPerS(rate) => Self::BitsPerS(rate * factor),
            Self::Line(rate) => Self::Line(rate * factor),
        }
    }
}

/// How a rate is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Evenly.
    Continuous,
    /// So many frames at the rate, and again when the period is over.
    Bursts {
        /// Frames in a burst.
        frames: u32,
        /// From the start of a burst to the start of the next, in seconds.
        period_s: f64,
    },
    /// At these times, in nanoseconds since the first frame, and no more after the last.
    Recorded(Arc<[u64]>),
}

impl Stream {
    /// Octets of its frames as they are built, without check sequence: the mean.
    #[must_use]
    pub fn built_bytes(&self) -> f64 {
        self.sizes.mean() - CHECK_SEQUENCE_BYTES as f64
    }

    /// Frames a second, by itself, over time.
    #[must_use]
    pub fn frames_per_s(&self, line_bits_per_s: f64) -> f64 {
        let rate = self.frames_per_s_within_a_burst(line_bits_per_s);
        match &self.shape {
            Shape::Continuous | Shape::Recorded(_) => rate,
            Shape::Bursts { frames, period_s } => rate.min(f64::from(*frames) / period_s),
        }
    }

    /// Frames a second while it sends.
    #[must_use]
    pub fn frames_per_s_within_a_burst(&self, line_bits_per_s: f64) -> f64 {
        if let Shape::Recorded(times_ns) = &self.shape {
            let last_ns = times_ns.last().copied().unwrap_or(0).max(1);
            return times_ns.len() as f64 * 1e9 / last_ns as f64;
        }
        let on_line = self.sizes.mean() + PREAMBLE_AND_GAP_BYTES as f64;
        match self.rate {
            Rate::FramesPerS(rate) => rate,
            Rate::BitsPerS(bits) => bits / (self.sizes.mean() * 8.0),
            Rate::Line(share) => share * line_bits_per_s / (on_line * 8.0),
        }
    }
}

impl Stream {
    /// Octets before what its frames carry.
    pub(crate) fn header_bytes(&self) -> usize {
        match &self.kind {
            Kind::Raw(octets) => STATIONS_BYTES + octets.len(),
            Kind::Replay(_) => ETHERNET_HEADER_BYTES,
            Kind::Ip(packet) => {
                let network = match packet.family() {
                    Family::V4 => ipv4::HEADER_BYTES,
                    Family::V6 => ipv6::HEADER_BYTES,
                };
                link_header_bytes(self.vlan) + network + packet.transport.header_bytes()
            }
        }
    }

    /// The smallest frame that it can have, check sequence included, in octets.
    pub(crate) fn smallest(&self) -> usize {
        let signature = if self.is_signed { SIGNATURE_BYTES } else { 0 };
        self.header_bytes() + signature + CHECK_SEQUENCE_BYTES
    }

    /// How many frames it sends at the most.
    pub(crate) fn most(&self) -> u64 {
        match &self.kind {
            Kind::Replay(capture) => capture.times_ns.len() as u64,
            Kind::Ip(_) | Kind::Raw(_) => u64::MAX,
        }
    }
}

impl Traffic {
    /// UDP in both directions at equal rates, of these sizes, in 1024 flows each way: what
    /// RFC 2544 measures with.
    #[must_use]
    pub fn both_ways(name: &str, sizes: &Sizes, is_ipv6: bool) -> Self {
        let directions = [Direction::Inward, Direction::Outward];
        Self {
            name: name.to_owned(),
            seed: 1,
            streams: directions
                .into_iter()
                .map(|direction| Stream::udp(direction, sizes.clone(), is_ipv6))
                .collect(),
        }
    }

    /// The streams from the first device to the second only.
    #[must_use]
    pub fn one_way_only(mut self) -> Self {
        let is_kept = |stream: &Stream| stream.direction == Direction::Inward;
        self.streams.retain(is_kept);
        self
    }

    /// The same traffic with every frame of these sizes.
    #[must_use]
    pub fn with_sizes(mut self, sizes: &Sizes) -> Self {
        for stream in &mut self.streams {
            stream.sizes = sizes.clone();
        }
        self
    }

    /// The largest frame, check sequence included, in octets.
    #[must_use]
    pub fn largest(&self) -> usize {
        let sizes = self.streams.iter().map(|stream| stream.sizes.largest());
        sizes.max().unwrap_or(0)
    }

    /// Frames a second of all streams by their own rates.
    #[must_use]
    pub fn frames_per_s(&self, line_bits_per_s: f64) -> f64 {
        let rates = self.streams.iter();
        rates
            .map(|stream| stream.frames_per_s(line_bits_per_s))
            .sum()
    }

    /// The mean of frames as they are built, without check sequence, weighted by rate, in octets.
    #[must_use]
    pub fn built_bytes(&self, line_bits_per_s: f64) -> f64 {
        let octets = |stream: &Stream| stream.frames_per_s(line_bits_per_s) * stream.built_bytes();
        let all: f64 = self.streams.iter().map(octets).sum();
        all / self.frames_per_s(line_bits_per_s)
    }
}

/// Flows of the traffic that RFC 2544's measures use.
const FLOWS: u16 = 1024;
/// The ports of RFC 2544's test frames (appendix C.2.6.4): from 0xC020, to echo.
const SOURCE_PORT: u16 = 0xc020;
const ECHO_PORT: u16 = 7;
/// TTL of frames that may cross a few routers.
pub(crate) const TTL: u8 = 64;

/// Source and destination ports of frames, where nothing else is said.
fn usual_ports() -> [NumberRange; 2] {
    [
        NumberRange::counting(SOURCE_PORT, FLOWS),
        NumberRange::counting(ECHO_PORT, 1),
    ]
}

impl Stream {
    /// UDP with the ports of RFC 2544's test frames, in 1024 flows.
    fn udp(direction: Direction, sizes: Sizes, is_ipv6: bool) -> Self {
        Self {
            name: match direction {
                Direction::Inward => "inward".into(),
                Direction::Outward => "outward".into(),
            },
            direction,
            kind: Kind::Ip(Packet {
                transport: Transport::Udp,
                is_ipv6,
                source: None,
                destination: None,
                source_port: usual_ports()[0],
                destination_port: usual_ports()[1],
                ttl: TTL,
                dscp: 0,
            }),
            vlan: None,
            sizes,
            flows: FLOWS.into(),
            rate: Rate::FramesPerS(1.0),
            shape: Shape::Continuous,
            is_signed: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_all_units_are_frames_a_second() {
        let sizes = Sizes::fixed(64).unwrap();
        let mut stream = Stream::udp(Direction::Inward, sizes, false);
        stream.rate = Rate::Line(1.0);
        // 10 Gbit/s carry 14.88 million of the smallest frames a second.
        assert_eq!(stream.frames_per_s(10e9).round(), 14_880_952.0);
        stream.rate = Rate::BitsPerS(512e6);
        assert_eq!(stream.frames_per_s(0.0), 1e6);
        stream.rate = Rate::FramesPerS(1e6);
        stream.shape = Shape::Bursts {
            frames: 100,
            period_s: 0.01,
        };
        assert_eq!(stream.frames_per_s(0.0), 1e4);
        assert_eq!(stream.frames_per_s_within_a_burst(0.0), 1e6);
    }

    #[test]
    fn the_mean_of_a_mix_is_weighted_by_rate() {
        let mut traffic = Traffic::both_ways("mix", &Sizes::fixed(64).unwrap(), false);
        traffic.streams[1].sizes = Sizes::fixed(164).unwrap();
        traffic.streams[1].rate = Rate::FramesPerS(3.0);
        assert_eq!(traffic.built_bytes(0.0), 60.0 + 75.0);
        assert_eq!(traffic.largest(), 164);
    }
}
