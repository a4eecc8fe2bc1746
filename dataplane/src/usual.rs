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
    const KIND: u32 = 0x00ff_ffff;
    const IPV4_WITHOUT_OPTIONS: u32 = 0x0045_0008;
    const MORE_OR_OFFSET: u16 = 0xff3f;
    let bytes = frame.bytes();
    let head: &[u8; OPTIONS] = bytes.first_chunk()?;
    let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let wide = |at: usize| u64::from(long(at)) | u64::from(long(at + 4)) << 32;
    let differing = (wide(0) ^ station) & STATIONS
        | u64::from(long(12) & KIND ^ IPV4_WITHOUT_OPTIONS)
        | u64::from(short(20) & MORE_OR_OFFSET)
        | u64::from(head[23] ^ protocol::TCP);
    let total = u32::from(short(16).swap_bytes());
    let header = u32::from(head[46] >> 4) * 4;
    let fits = (20..).contains(&header)
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
