//! TCP segments in frames: read from what came, and written into what a [`Sink`] gives.

use dataplane::parse::{self, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHERNET_HEADER_BYTES, protocol};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::checksum::{pseudo_header, transport_is_valid};
use dataplane::wire::ethernet::{MacAddress, write_ethernet};
use dataplane::wire::tcp::Tcp;
use dataplane::wire::tcp_options::{self, TcpOptions};
use dataplane::wire::tcp_segment::{TcpSegment, write_segment};

/// Takes frames.
pub trait Sink {
    /// Room for a frame of `bytes` octets, which is sent with what is written there before the
    /// sink is asked again. `None` when there is no room: the frame is then lost as on a wire, and
    /// the sink counts it.
    fn frame(&mut self, bytes: usize) -> Option<&mut [u8]>;
}

/// Frames in their order, for tests and for ends that are joined in memory.
impl Sink for Vec<Vec<u8>> {
    fn frame(&mut self, bytes: usize) -> Option<&mut [u8]> {
        self.push(vec![0; bytes]);
        self.last_mut().map(Vec::as_mut_slice)
    }
}

/// The stations of a link, as one of them sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The sender.
    pub own: MacAddress,
    /// Whom packets of IPv4 are sent to.
    pub ipv4: MacAddress,
    /// Whom packets of IPv6 are sent to.
    pub ipv6: MacAddress,
}

impl Link {
    /// From one station to another.
    #[must_use]
    pub const fn between(own: MacAddress, peer: MacAddress) -> Self {
        Self {
            own,
            ipv4: peer,
            ipv6: peer,
        }
    }
}

/// A segment that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: TcpOptions,
    pub(super) payload: &'a [u8],
}

/// Why a frame is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSegment {
    /// It carries something else.
    Other,
    /// Its headers or its checksum are wrong.
    Malformed,
}

impl<'a> Segment<'a> {
    /// Reads a frame whose TCP checksum is complete.
    pub(super) fn read(frame: &'a [u8]) -> Result<Self, NoSegment> {
        let parsed = parse::parse(frame).map_err(|_| NoSegment::Malformed)?;
        if parsed.kind != parse::Kind::Ip || !parsed.is_whole_tcp() {
            return Err(NoSegment::Other);
        }
        let message = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
        let (source, destination) = (parsed.source, parsed.destination);
        let pseudo = pseudo_header(source, destination, protocol::TCP, message.len());
        let tcp = Tcp::new(message).map_err(|_| NoSegment::Malformed)?;
        if !transport_is_valid(message, pseudo) {
            return Err(NoSegment::Malformed);
        }
        Ok(Self {
            source,
            destination,
            source_port: parsed.source_port,
            destination_port: parsed.destination_port,
            sequence: tcp.sequence(),
            acknowledgement: tcp.acknowledgement(),
            flags: tcp.flags(),
            window: tcp.window(),
            options: tcp_options::parse(tcp.options()).map_err(|_| NoSegment::Malformed)?,
            payload: &frame[usize::from(parsed.payload)..usize::from(parsed.end)],
        })
    }

    /// Whether it has all these flags.
    #[inline]
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// Both ends of a connection, as one of them sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

impl Tuple {
    /// Of what answers `segment`.
    pub(super) fn answering(segment: &Segment<'_>) -> Self {
        Self {
            source: segment.destination,
            destination: segment.source,
            source_port: segment.destination_port,
            destination_port: segment.source_port,
        }
    }
}

/// What of a segment's header is not its tuple.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: &'a [u8],
}

const TTL: u8 = 64;

/// Writes segments.
#[derive(Debug)]
pub(super) struct Writer {
    link: Link,
    identification: u16,
    /// Segments sent, and those for which there was no room.
    pub(super) sent: u64,
    pub(super) refused: u64,
}

impl Writer {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            identification: 0,
            sent: 0,
            refused: 0,
        }
    }

    /// Writes one segment into a frame of the sink's.
    #[inline]
    pub(super) fn send(
        &mut self,
        sink: &mut impl Sink,
        tuple: &Tuple,
        head: &Head<'_>,
        payload: &[u8],
    ) {
        let (network_bytes, ether_type, peer) = match tuple.source.family() {
            Family::V4 => (20, ETHER_TYPE_IPV4, self.link.ipv4),
            Family::V6 => (40, ETHER_TYPE_IPV6, self.link.ipv6),
        };
        let bytes = ETHERNET_HEADER_BYTES + network_bytes + 20 + head.options.len() + payload.len();
        let Some(frame) = sink.frame(bytes) else {
            self.refused += 1;
            return;
        };
        write_ethernet(frame, peer, self.link.own, None, ether_type);
        self.identification = self.identification.wrapping_add(1);
        let segment = TcpSegment {
            source: tuple.source,
            destination: tuple.destination,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
            sequence: head.sequence,
            acknowledgement: head.acknowledgement,
            flags: head.flags,
            window: head.window,
            options: head.options,
            payload,
            ttl: TTL,
            dscp_ecn: 0,
            identification: self.identification,
        };
        let written = write_segment(&mut frame[ETHERNET_HEADER_BYTES..], &segment);
        debug_assert_eq!(written, Some(bytes - ETHERNET_HEADER_BYTES));
        self.sent += 1;
    }
}

/// The timestamps option between two NOPs and the payload (RFC 7323 appendix A).
pub(super) fn timestamps(value: u32, echo: u32) -> [u8; 12] {
    use tcp_options::kind;
    let mut option = [
        kind::NOP,
        kind::NOP,
        kind::TIMESTAMPS,
        10,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    option[4..8].copy_from_slice(&value.to_be_bytes());
    option[8..].copy_from_slice(&echo.to_be_bytes());
    option
}
