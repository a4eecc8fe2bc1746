//! The usual frame: a whole TCP segment in an IPv4 packet without options, untagged, from one
//! station to another. Nearly every frame is one, and of such a frame everything stands at a known
//! place, so that it can be read at once and be handled by a shorter walk than the general one.
//!
//! [`read`] says `None` of whatever is not quite so, and of whatever is wrong: the general walk then
//! finds out what it is.

use crate::packet::{Buffer, ChecksumStatus};
use crate::parse::{flags, protocol};
use crate::wire::ethernet::MacAddress;

/// Where the IP header begins.
pub(crate) const NETWORK: usize = 14;
/// Where the TCP header begins.
pub(crate) const TRANSPORT: usize = NETWORK + 20;
/// Where the options begin, or the payload.
pub(crate) const OPTIONS: usize = TRANSPORT + 20;

/// What a usual frame says, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    /// The source port in the high half, the destination port in the low one.
    pub(crate) ports: u32,
    /// Where the IP packet ends; the frame may be padded beyond.
    pub(crate) end: u16,
    /// Where the payload begins.
    pub(crate) payload: u16,
    pub(crate) tcp_flags: u8,
}

impl Usual {
    pub(crate) const NONE: Self = Self {
        source: 0,
        destination: 0,
        ports: 0,
        end: 0,
        payload: 0,
        tcp_flags: 0,
    };

    #[inline(always)]
    pub(crate) fn source_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    #[inline(always)]
    pub(crate) fn destination_port(&self) -> u16 {
        self.ports as u16
    }

    /// Octets of the IP packet.
    #[inline(always)]
    pub(crate) fn packet_bytes(&self) -> u16 {
        self.end - NETWORK as u16
    }

    /// Octets of the TCP payload.
    #[inline(always)]
    pub(crate) fn payload_bytes(&self) -> u32 {
        u32::from(self.end - self.payload)
    }

    /// Whether nothing but the acknowledgement, and what does not change the connection's state, is
    /// set.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        const SEEN: u8 = flags::ACK | flags::SYN | flags::FIN | flags::RST;
        self.tcp_flags & SEEN == flags::ACK
    }
}

/// The first octets of a frame, in the order in which they would be stored.
#[inline(always)]
pub(crate) fn station_of(station: MacAddress) -> u64 {
    let [a, b, c, d, e, f] = station.0;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// Reads a usual frame to `station` ([`station_of`]) from one that is no group, with a packet that
/// has hops left and a sound header.
#[inline(always)]
pub(crate) fn read<B: Buffer>(frame: &B, station: u64) -> Option<Usual> {
    /// Both the destination and the bit of the source that marks a group.
    const STATIONS: u64 = 0x0001_ffff_ffff_ffff;
    /// EtherType, version and length of the header.
    const KIND: u32 = 0x00ff_ffff;
    const IPV4_WITHOUT_OPTIONS: u32 = 0x0045_0008;
    /// More fragments, the fragment's offset, and the protocol behind the time to live.
    const WHOLE: u32 = 0xff00_ff3f;
    const TCP: u32 = (protocol::TCP as u32) << 24;
    let bytes = frame.bytes();
    let head: &[u8; OPTIONS] = bytes.first_chunk()?;
    let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let wide = |at: usize| u64::from(long(at)) | u64::from(long(at + 4)) << 32;
    let differing = (wide(0) ^ station) & STATIONS
        | u64::from((long(12) & KIND) ^ IPV4_WITHOUT_OPTIONS)
        | u64::from((long(20) & WHOLE) ^ TCP);
    let total = u32::from(short(16).swap_bytes());
    let header = u32::from(head[46] >> 4) * 4;
    let fits = (header >= 20)
        & (total >= header + 20)
        & (total as usize + NETWORK <= bytes.len())
        & (head[22] > 1);
    if differing != 0 || !fits || !frame.is_contiguous() {
        return None;
    }
    match frame.network_checksum() {
        ChecksumStatus::Good => {}
        ChecksumStatus::Bad => return None,
        ChecksumStatus::Unknown => {
            let sum = u128::from(wide(14)) + u128::from(wide(22)) + u128::from(long(30));
            // Of a sum that is not zero, nothing remains modulo 0xffff where the checksum holds.
            let folded = u64::from(sum as u32) + u64::from((sum >> 32) as u32) + (sum >> 64) as u64;
            let halves = (folded & 0xffff) + (folded >> 16 & 0xffff) + (folded >> 32);
            let folded = (halves & 0xffff) + (halves >> 16);
            if folded != 0xffff {
                return None;
            }
        }
    }
    Some(Usual {
        source: long(26).swap_bytes(),
        destination: long(30).swap_bytes(),
        ports: long(34).swap_bytes(),
        end: (total as usize + NETWORK) as u16,
        payload: (header as usize + TRANSPORT) as u16,
        tcp_flags: head[47],
    })
}

/// Whether the TCP checksum of a usual frame is right.
#[inline(always)]
pub(crate) fn segment_is_sound(bytes: &[u8], usual: &Usual) -> bool {
    let Some(segment) = bytes.get(TRANSPORT..usize::from(usual.end)) else {
        return false;
    };
    let protocol_and_length = u32::from(protocol::TCP) + segment.len() as u32;
    let ends =
        u64::from(usual.source.swap_bytes()) << 32 | u64::from(usual.destination.swap_bytes());
    let rest = u64::from((protocol_and_length as u16).swap_bytes());
    // The most usual SYN: of a known length, the sum needs no loop.
    let sum = match segment.first_chunk::<40>() {
        Some(segment) if usual.end as usize == TRANSPORT + 40 => sum(segment, ends),
        _ => sum(segment, ends),
    };
    let (sum, carry) = sum.overflowing_add(rest);
    let sum = sum + u64::from(carry);
    let words = (sum & 0xffff_ffff) + (sum >> 32);
    let halves = (words & 0xffff) + (words >> 16 & 0xffff) + (words >> 32);
    // The pseudo header is never all zeros, so a right sum is not zero either.
    (halves & 0xffff) + (halves >> 16) == 0xffff
}

/// Adds up octets as numbers of 64 bits in native order, the carry brought around.
#[inline(always)]
fn sum(bytes: &[u8], initial: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total = initial;
    let mut add = |word: u64| {
        let (sum, carry) = total.overflowing_add(word);
        total = sum + u64::from(carry);
    };
    words.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        add(u64::from_ne_bytes(last));
    }
    total
}
