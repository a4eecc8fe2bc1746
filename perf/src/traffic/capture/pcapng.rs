//! The pcapng format (draft-ietf-opsawg-pcapng): sections, each with a byte order and interfaces of
//! its own.

use super::bytes::Order;
use super::link::{self, Link};
use super::{LARGEST_RECORD, Packet, Record, Refusal};

/// Types of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// What a section header says of its byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Options of interfaces, and of packets.
const IF_TSRESOL: u16 = 9;
const IF_FCSLEN: u16 = 13;
const IF_TSOFFSET: u16 = 14;
const EPB_FLAGS: u16 = 2;
/// Type and length before a block's body, and the length again behind it.
const HEAD_BYTES: usize = 8;
const TAIL_BYTES: usize = 4;

const NS_PER_S: i128 = 1_000_000_000;

/// Whether a file begins as one of this format.
pub(super) fn is_begun(data: &[u8]) -> bool {
    data.starts_with(&SECTION.to_be_bytes())
}

/// An interface of a section.
struct Interface {
    /// Its link layer, or what it is called where packets of it are not sent.
    link: Result<Link, String>,
    /// Bytes that were recorded at most of each packet; 0 for all.
    snaplen: usize,
    /// How many ticks of its times make a second; none for a unit that no file has.
    ticks_per_s: Option<u128>,
    /// Seconds to add to its times.
    offset_s: i64,
    check_bytes: usize,
}

/// The packets of a whole file.
pub(super) fn packets(data: &[u8]) -> Result<Vec<Packet>, Refusal> {
    let mut reader = Reader {
        order: Order::Little,
        interfaces: Vec::new(),
        packets: Vec::new(),
    };
    let mut at = 0;
    while at < data.len() {
        at += reader.block(&data[at..], at)?;
    }
    Ok(reader.packets)
}

struct Reader {
    /// Byte order of the section.
    order: Order,
    /// Interfaces of the section.
    interfaces: Vec<Interface>,
    packets: Vec<Packet>,
}

impl Reader {
    /// Reads the block that begins here, at this place of the file, and returns its length.
    fn block(&mut self, rest: &[u8], place: usize) -> Result<usize, Refusal> {
        let after = self.packets.len();
        let ended = || {
            Refusal::damaged(format!(
                "the file ends within a block behind packet {after}"
            ))
        };
        let kind = self.order.u32(rest, 0).ok_or_else(ended)?;
        if kind == SECTION {
            let told = [Order::Little, Order::Big].into_iter();
            let mut told = told.filter(|order| order.u32(rest, HEAD_BYTES) == Some(BYTE_ORDER));
            self.order = told.next().ok_or_else(|| {
                Refusal::damaged(format!("the section at byte {place} tells no byte order"))
            })?;
            self.interfaces.clear();
        }
        let told = self.order.size(rest, 4).ok_or_else(ended)?;
        // Some writers do not count the padding.
        let length = told.next_multiple_of(4);
        let wrong = || {
            Refusal::damaged(format!(
                "the block at byte {place}, behind packet {after}, tells a wrong length"
            ))
        };
        if told < HEAD_BYTES + TAIL_BYTES {
            return Err(wrong());
        }
        let block = rest.get(..length).ok_or_else(ended)?;
        if self.order.size(block, length - TAIL_BYTES) != Some(told) {
            return Err(wrong());
        }
        let body = &block[HEAD_BYTES..length - TAIL_BYTES];
        match kind {
            SECTION if self.order.u16(body, 4) != Some(1) => {
                let what = format!("the section at byte {place} is not of pcapng's version 1");
                return Err(Refusal::new(what, "convert it by `tcpdump -r FILE -w NEW`"));
            }
            INTERFACE => {
                let interface = self.interface(body).ok_or_else(wrong)?;
                self.interfaces.push(interface);
            }
            OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => self.packet(kind, body)?,
            // Names, statistics, secrets and what is yet to come have no packets.
            _ => {}
        }
        Ok(length)
    }

    fn interface(&self, body: &[u8]) -> Option<Interface> {
        let order = self.order;
        let mut interface = Interface {
            link: Link::of(order.u16(body, 0)?.into()),
            snaplen: order.size(body, 4)?,
            ticks_per_s: Some(1_000_000),
            offset_s: 0,
            check_bytes: 0,
        };
        for (code, value) in options(order, &body[8..]) {
            match code {
                IF_TSRESOL => interface.ticks_per_s = value.first().and_then(|told| ticks(*told)),
                IF_TSOFFSET => interface.offset_s = order.i64(value, 0)?,
                // The draft counts bits, and gives 4 for an example.
                IF_FCSLEN => {
                    let told = value.first().copied().unwrap_or(0);
                    interface.check_bytes = usize::from(if told > 8 { told / 8 } else { told });
                }
                _ => {}
            }
        }
        Some(interface)
    }

    /// Reads a packet's block of any of the three kinds.
    fn packet(&mut self, kind: u32, body: &[u8]) -> Result<(), Refusal> {
        let order = self.order;
        let number = self.packets.len() + 1;
        let damaged = |what: &str| Refusal::damaged(format!("packet {number} {what}"));
        let short = || damaged("ends within its header");
        let header_bytes = if kind == SIMPLE_PACKET { 4 } else { 20 };
        let (header, data) = body.split_at_checked(header_bytes).ok_or_else(short)?;
        let at = |place| order.size(header, place).unwrap_or(0);
        let id = match kind {
            SIMPLE_PACKET => 0,
            OLD_PACKET => order.u16(header, 0).unwrap_or(0).into(),
            _ => at(0),
        };
        let interface = self.interfaces.get(id);
        let interface = interface
            .ok_or_else(|| damaged(&format!("is of interface {id}, which is not told")))?;
        let (captured, length) = match kind {
            SIMPLE_PACKET => {
                let most = match interface.snaplen {
                    0 => usize::MAX,
                    snaplen => snaplen,
                };
                (at(0).min(most).min(data.len()), at(0))
            }
            _ => (at(12), at(16)),
        };
        if captured > LARGEST_RECORD {
            return Err(damaged(&format!("claims {captured} bytes")));
        }
        let (data, behind) = data
            .split_at_checked(captured)
            .ok_or_else(|| damaged("is longer than its block"))?;
        let mut check_bytes = interface.check_bytes;
        if kind == ENHANCED_PACKET {
            let padding = captured.next_multiple_of(4) - captured;
            let mut told = options(order, behind.get(padding..).unwrap_or(&[]));
            let flags = told.find(|(code, _)| *code == EPB_FLAGS);
            let flags = flags
                .and_then(|(_, value)| order.u32(value, 0))
                .unwrap_or(0);
            match (flags >> 5) & 0xf {
                0 => {}
                told => check_bytes = told as usize,
            }
        }
        let time_ns = match kind {
            SIMPLE_PACKET => None,
            _ => {
                let ticks = (at(4) as u128) << 32 | at(8) as u128;
                let ticks_per_s = interface.ticks_per_s.ok_or_else(|| {
                    let what =
                        format!("packet {number}: interface {id} counts time in no unit that fits");
                    Refusal::new(
                        what,
                        "write it anew with `if_tsresol` of at most 19, or 2^-63 s",
                    )
                })?;
                let since = (ticks * NS_PER_S as u128 / ticks_per_s) as i128;
                Some(since + i128::from(interface.offset_s) * NS_PER_S)
            }
        };
        let link = interface.link.as_ref();
        let record = Record {
            number,
            time_ns,
            data,
            length,
            check_bytes,
            link: *link.map_err(|name| link::refusal(number, name))?,
        };
        self.packets.push(record.packet()?);
        Ok(())
    }
}

/// Ticks a second of `if_tsresol`: a power of ten, or of two.
fn ticks(told: u8) -> Option<u128> {
    match told & 0x7f {
        power if told & 0x80 != 0 => (power < 64).then(|| 1 << power),
        power => (power < 20).then(|| 10_u128.pow(power.into())),
    }
}

/// Options, as code and value, as far as they are whole.
fn options(order: Order, mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let code = order.u16(rest, 0).filter(|code| *code != 0)?;
        let length = usize::from(order.u16(rest, 2)?);
        let value = rest.get(4..4 + length)?;
        rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((code, value))
    })
}
