//! The pcap format (draft-ietf-opsawg-pcap), with the variants that libpcap reads.

use super::bytes::Order;
use super::link::{self, Link};
use super::{LARGEST_RECORD, Packet, Record, Refusal};

const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;
/// Of the header's last word: the link layer, whether the next field is told, and the check
/// sequence's length in steps of two bytes.
const LINK_MASK: u32 = 0x03ff_ffff;
const CHECK_TOLD: u32 = 1 << 26;
const CHECK_SHIFT: u32 = 28;

/// How a file is written, told by its first bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    order: Order,
    ns_per_tick: i128,
    /// Bytes before each packet.
    record_bytes: usize,
}

impl Format {
    pub(super) fn of(data: &[u8]) -> Option<Self> {
        [Order::Little, Order::Big].into_iter().find_map(|order| {
            let (ns_per_tick, record_bytes) = match order.u32(data, 0)? {
                0xa1b2_c3d4 => (1_000, RECORD_BYTES),
                0xa1b2_3c4d => (1, RECORD_BYTES),
                // Kuznetzov's, with the interface and more behind each length.
                0xa1b2_cd34 => (1_000, RECORD_BYTES + 8),
                _ => return None,
            };
            Some(Self {
                order,
                ns_per_tick,
                record_bytes,
            })
        })
    }
}

/// The packets of a whole file.
pub(super) fn packets(data: &[u8], format: Format) -> Result<Vec<Packet>, Refusal> {
    let order = format.order;
    let told = (order.u16(data, 4), order.u16(data, 6), order.u32(data, 20));
    let (Some(major), Some(minor), Some(network)) = told else {
        return Err(Refusal::damaged("the file ends within its header"));
    };
    if major != 2 {
        let what = format!("it is of pcap's version {major}.{minor}, not 2.4");
        return Err(Refusal::new(what, "convert it by `tcpdump -r FILE -w NEW`"));
    }
    let check_bytes = match network & CHECK_TOLD {
        0 => 0,
        _ => (network >> CHECK_SHIFT) as usize * 2,
    };
    let link = Link::of(network & LINK_MASK);
    let mut packets = Vec::new();
    let mut rest = data.get(HEADER_BYTES..).unwrap_or(&[]);
    while !rest.is_empty() {
        let number = packets.len() + 1;
        let ended = || Refusal::damaged(format!("the file ends within packet {number}"));
        let (header, behind) = rest
            .split_at_checked(format.record_bytes)
            .ok_or_else(ended)?;
        let at = |place| order.u32(header, place).unwrap_or(0);
        let [mut captured, mut length] = [at(8), at(12)].map(|size| size as usize);
        // Old writers had them the other way round.
        if minor < 3 || (minor == 3 && captured > length) {
            (captured, length) = (length, captured);
        }
        if captured > LARGEST_RECORD {
            let what = format!("packet {number} claims {captured} bytes");
            return Err(Refusal::damaged(what));
        }
        let (data, behind) = behind.split_at_checked(captured).ok_or_else(ended)?;
        rest = behind;
        let ticks = i128::from(at(4)) * format.ns_per_tick;
        let link = link.as_ref().map_err(|name| link::refusal(number, name))?;
        let record = Record {
            number,
            time_ns: Some(i128::from(at(0)) * 1_000_000_000 + ticks),
            data,
            length,
            check_bytes,
            link: *link,
        };
        packets.push(record.packet()?);
    }
    Ok(packets)
}
