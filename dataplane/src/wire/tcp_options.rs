//! TCP options: what a segment bears, and what a SYN of ours says.

#[cfg(test)]
mod tests;

use crate::drop_reason::DropReason;
use crate::wire::bytes::{put_u16, put_u32, u16_at, u32_at};
use crate::wire::checksum::Update;
use crate::wire::tcp::{HEADER_BYTES, MAX_OPTION_BYTES};

/// Option kinds (IANA).
pub mod kind {
    /// End of the list.
    pub const END: u8 = 0;
    /// No operation.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW_SCALE: u8 = 3;
    /// SACK permitted.
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK blocks.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 8;
    /// Fast open cookie.
    pub const FAST_OPEN: u8 = 34;
    /// Shared by experiments, told apart by a 16-bit identifier (RFC 6994).
    pub const EXPERIMENT: u8 = 254;
}

/// The greatest window scale that means anything; a greater one counts as this (RFC 7323 §2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;
/// The most SACK blocks that fit beside nothing else (RFC 2018 §3).
pub const MAX_SACK_BLOCKS: u8 = 4;
/// Fast open's identifier among the experiments (RFC 7413 §4.1.1).
const FAST_OPEN_EXPERIMENT: u16 = 0xf989;

/// The timestamps option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock (TSval).
    pub value: u32,
    /// The peer's clock as last seen (TSecr).
    pub echo: u32,
    /// Octets from the first of the TCP header to the TSval field; TSecr is four further.
    pub offset: u8,
}

/// Where a segment's SACK blocks stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlocks {
    /// Octets from the first of the TCP header to the first block.
    pub offset: u8,
    /// How many blocks of eight octets (1 to 4).
    pub count: u8,
}

impl SackBlocks {
    /// The offset of every edge, left and right in turn.
    #[inline]
    pub fn edge_offsets(self) -> impl Iterator<Item = usize> {
        (0..usize::from(self.count) * 2).map(move |edge| usize::from(self.offset) + edge * 4)
    }

    /// Adds `delta` to every edge of the blocks in `segment`, which begins with the TCP header that
    /// was parsed, and records the change.
    ///
    /// # Panics
    /// When `segment` is not the one that was parsed and is shorter.
    #[inline]
    pub fn shift(self, segment: &mut [u8], delta: u32, mut update: Update) -> Update {
        for offset in self.edge_offsets() {
            let edge = u32_at(segment, offset).wrapping_add(delta);
            update = update.set_long(segment, offset, edge);
        }
        update
    }
}

/// What a segment's options say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size as sent; 0 is possible.
    pub mss: Option<u16>,
    /// Window scale, at most [`MAX_WINDOW_SCALE`].
    pub window_scale: Option<u8>,
    /// Whether SACK is permitted.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack_blocks: Option<SackBlocks>,
    /// Whether a fast open cookie is sent or asked for.
    pub fast_open: bool,
}

/// One option's place in the list.
struct Found {
    kind: u8,
    /// Index of its kind.
    start: usize,
    /// Index after its last octet.
    end: usize,
}

/// The next option at or after `at` that is not padding. `Ok(None)` at the end of the list.
#[inline]
fn next_option(options: &[u8], mut at: usize) -> Result<Option<Found>, DropReason> {
    while let Some(&kind) = options.get(at) {
        match kind {
            kind::END => return Ok(None),
            kind::NOP => at += 1,
            _ => {
                let length = options.get(at + 1).copied().unwrap_or(0);
                let end = at + usize::from(length);
                return if length < 2 || end > options.len() {
                    Err(DropReason::MalformedTcpOptions)
                } else {
                    let start = at;
                    Ok(Some(Found { kind, start, end }))
                };
            }
        }
    }
    Ok(None)
}

/// Reads a header's options, which begin after its first 20 octets.
///
/// Strict in what it knows: an option of wrong size or one that is repeated refuses the segment.
/// Unknown options are passed over, and the list may end early. For SYNs of clients; anything else
/// is [`read`].
///
/// # Errors
/// [`DropReason::MalformedTcpOptions`].
#[inline(always)]
pub fn parse(options: &[u8]) -> Result<TcpOptions, DropReason> {
    if let Some(usual) = parse_usual(options) {
        return Ok(usual);
    }
    parse_list(options)
}

/// Reads a header's options as Linux does (`tcp_parse_options`), and with it what segments of a live
/// connection say: whoever receives them takes them, whatever stands between the options.
///
/// It never fails. The list ends where a length is below 2 or beyond the header; an option that is
/// unknown or of a wrong size is passed over; of one that is repeated the last counts.
#[inline(always)]
pub fn read(options: &[u8]) -> TcpOptions {
    match parse_usual(options) {
        Some(usual) => usual,
        None => read_list(options),
    }
}

#[inline(never)]
fn read_list(options: &[u8]) -> TcpOptions {
    let options = &options[..options.len().min(MAX_OPTION_BYTES)];
    let mut read = TcpOptions::default();
    let mut at = 0;
    while let Ok(Some(found)) = next_option(options, at) {
        at = found.end;
        let body = &options[found.start + 2..found.end];
        // The fields of `one` that stay empty are those that this option says nothing of.
        let mut one = TcpOptions::default();
        let offset = HEADER_BYTES + found.start + 2;
        if take_option(&mut one, found.kind, body, offset).is_none() {
            continue;
        }
        read = TcpOptions {
            // A size of 0 says nothing.
            mss: one.mss.filter(|&mss| mss > 0).or(read.mss),
            window_scale: one.window_scale.or(read.window_scale),
            sack_permitted: one.sack_permitted | read.sack_permitted,
            timestamps: one.timestamps.or(read.timestamps),
            sack_blocks: one.sack_blocks.or(read.sack_blocks),
            fast_open: one.fast_open | read.fast_open,
        };
    }
    read
}

/// [`parse`] of what nearly every segment bears: nothing, timestamps behind two NOPs, or what
/// Linux, and with it most of the Internet, says in a SYN. `None` for anything else.
#[inline(always)]
pub(crate) fn parse_usual(options: &[u8]) -> Option<TcpOptions> {
    let Ok(syn) = <&[u8; USUAL_SYN_BYTES]>::try_from(options) else {
        return parse_stamps(options);
    };
    let syn = parse_usual_syn(syn)?;
    Some(TcpOptions {
        mss: Some(syn.mss),
        window_scale: Some(syn.window_scale),
        sack_permitted: true,
        timestamps: Some(syn.timestamps),
        ..TcpOptions::default()
    })
}

/// Octets of what Linux says in a SYN.
pub(crate) const USUAL_SYN_BYTES: usize = 20;

/// What Linux says in a SYN, besides that it permits SACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsualSyn {
    pub(crate) mss: u16,
    pub(crate) window_scale: u8,
    pub(crate) timestamps: Timestamps,
}

/// The options of a SYN, if they are such as Linux says.
#[inline(always)]
pub(crate) fn parse_usual_syn(options: &[u8; USUAL_SYN_BYTES]) -> Option<UsualSyn> {
    const MSS: u32 = (kind::MSS as u32) << 8 | 4;
    const SACK_AND_TIMESTAMPS: u32 =
        (kind::SACK_PERMITTED as u32) << 24 | 2 << 16 | (kind::TIMESTAMPS as u32) << 8 | 10;
    const SCALE: u32 = (kind::NOP as u32) << 16 | (kind::WINDOW_SCALE as u32) << 8 | 3;
    let (first, last) = (u32_at(options, 0), u32_at(options, 16));
    let is_usual =
        first >> 16 == MSS && u32_at(options, 4) == SACK_AND_TIMESTAMPS && last >> 8 == SCALE;
    is_usual.then(|| UsualSyn {
        mss: first as u16,
        window_scale: (last as u8).min(MAX_WINDOW_SCALE),
        timestamps: timestamps_at(&options[8..], HEADER_BYTES + 8),
    })
}

/// [`parse_usual`] of what is no SYN.
#[inline(always)]
pub(crate) fn parse_stamps(options: &[u8]) -> Option<TcpOptions> {
    const STAMPS: u32 =
        (kind::NOP as u32) << 24 | (kind::NOP as u32) << 16 | (kind::TIMESTAMPS as u32) << 8 | 10;
    let none = TcpOptions::default();
    if options.is_empty() {
        return Some(none);
    }
    let options: &[u8; 12] = options.try_into().ok()?;
    (u32_at(options, 0) == STAMPS).then(|| TcpOptions {
        timestamps: Some(timestamps_at(&options[4..], HEADER_BYTES + 4)),
        ..none
    })
}

#[inline]
fn timestamps_at(body: &[u8], offset: usize) -> Timestamps {
    Timestamps {
        value: u32_at(body, 0),
        echo: u32_at(body, 4),
        offset: offset as u8,
    }
}

#[inline(never)]
fn parse_list(options: &[u8]) -> Result<TcpOptions, DropReason> {
    if options.len() > MAX_OPTION_BYTES {
        return Err(DropReason::MalformedTcpOptions);
    }
    let mut parsed = TcpOptions::default();
    let mut at = 0;
    while let Some(found) = next_option(options, at)? {
        at = found.end;
        let body_start = found.start + 2;
        let body = &options[body_start..found.end];
        let offset = HEADER_BYTES + body_start;
        take_option(&mut parsed, found.kind, body, offset)
            .ok_or(DropReason::MalformedTcpOptions)?;
    }
    Ok(parsed)
}

/// Enters one option; `None` when its size is wrong or it stands there already.
fn take_option(parsed: &mut TcpOptions, kind: u8, body: &[u8], offset: usize) -> Option<()> {
    match (kind, body.len()) {
        (kind::MSS, 2) if parsed.mss.is_none() => parsed.mss = Some(u16_at(body, 0)),
        (kind::WINDOW_SCALE, 1) if parsed.window_scale.is_none() => {
            parsed.window_scale = Some(body[0].min(MAX_WINDOW_SCALE));
        }
        (kind::SACK_PERMITTED, 0) if !parsed.sack_permitted => parsed.sack_permitted = true,
        (kind::TIMESTAMPS, 8) if parsed.timestamps.is_none() => {
            parsed.timestamps = Some(timestamps_at(body, offset));
        }
        (kind::SACK, 8 | 16 | 24 | 32) if parsed.sack_blocks.is_none() => {
            let count = (body.len() / 8) as u8;
            parsed.sack_blocks = Some(SackBlocks {
                offset: offset as u8,
                count,
            });
        }
        (kind::FAST_OPEN, _) if !parsed.fast_open => parsed.fast_open = true,
        (kind::EXPERIMENT, 2..) if u16_at(body, 0) == FAST_OPEN_EXPERIMENT => {
            parsed.fast_open = true;
        }
        (
            kind::MSS
            | kind::WINDOW_SCALE
            | kind::SACK_PERMITTED
            | kind::TIMESTAMPS
            | kind::SACK
            | kind::FAST_OPEN,
            _,
        ) => return None,
        _ => {}
    }
    Some(())
}

/// Overwrites every option of `kind` with NOPs and gives back the change to the checksum.
/// `options` begin after the TCP header's first 20 octets. A malformed list is changed up to where
/// it goes wrong.
pub fn blank(options: &mut [u8], kind: u8) -> Update {
    let mut update = Update::new();
    let mut at = 0;
    while let Ok(Some(found)) = next_option(options, at) {
        at = found.end;
        if found.kind == kind {
            for (index, octet) in (found.start..).zip(&mut options[found.start..found.end]) {
                let (old, new) = (u16::from(*octet), u16::from(kind::NOP));
                *octet = kind::NOP;
                update = match index % 2 {
                    0 => update.word(old << 8, new << 8),
                    _ => update.word(old, new),
                };
            }
        }
    }
    update
}

/// The options of a SYN or SYN-ACK that is made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SynOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale.
    pub window_scale: Option<u8>,
    /// Whether SACK is permitted.
    pub sack_permitted: bool,
    /// Timestamp value and echo.
    pub timestamps: Option<(u32, u32)>,
}

impl SynOptions {
    /// Writes the options in the order that Linux writes them (MSS, SACK permitted, timestamps,
    /// NOP, window scale) and gives back their octets, a multiple of four.
    pub fn write(&self, into: &mut [u8; MAX_OPTION_BYTES]) -> usize {
        let mut at = 0;
        if let Some(mss) = self.mss {
            into[..2].copy_from_slice(&[kind::MSS, 4]);
            put_u16(into, 2, mss);
            at = 4;
        }
        if self.sack_permitted || self.timestamps.is_some() {
            let sack = [kind::SACK_PERMITTED, 2];
            let padding = [kind::NOP; 2];
            into[at..at + 2].copy_from_slice(if self.sack_permitted { &sack } else { &padding });
            into[at + 2..at + 4].copy_from_slice(&padding);
            at += 4;
        }
        if let Some((value, echo)) = self.timestamps {
            into[at - 2..at].copy_from_slice(&[kind::TIMESTAMPS, 10]);
            put_u32(into, at, value);
            put_u32(into, at + 4, echo);
            at += 8;
        }
        if let Some(scale) = self.window_scale {
            into[at..at + 4].copy_from_slice(&[kind::NOP, kind::WINDOW_SCALE, 3, scale]);
            at += 4;
        }
        at
    }
}

impl SynOptions {
    /// Octets of what [`SynOptions::write`] writes.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        let has_stamps = self.timestamps.is_some();
        4 * (usize::from(self.mss.is_some())
            + usize::from(self.sack_permitted || has_stamps)
            + 2 * usize::from(has_stamps)
            + usize::from(self.window_scale.is_some()))
    }

    /// [`SynOptions::write`] into exactly as many octets, of which the sum comes back, in words of
    /// 32 bits.
    #[inline(always)]
    pub(crate) fn write_summed(&self, into: &mut [u8]) -> u64 {
        const SACK_PERMITTED: u32 = (kind::SACK_PERMITTED as u32) << 8 | 2;
        const TIMESTAMPS: u32 = (kind::TIMESTAMPS as u32) << 8 | 10;
        const PADDING: u32 = (kind::NOP as u32) << 8 | kind::NOP as u32;
        let mut places = into.as_chunks_mut::<4>().0.iter_mut();
        let mut sum = 0;
        let mut add = |word: u32| {
            if let Some(place) = places.next() {
                *place = word.to_be_bytes();
            }
            sum += u64::from(word);
        };
        if let Some(mss) = self.mss {
            add(u32::from(kind::MSS) << 24 | 4 << 16 | u32::from(mss));
        }
        let sack = if self.sack_permitted {
            SACK_PERMITTED
        } else {
            PADDING
        };
        if let Some((value, echo)) = self.timestamps {
            add(sack << 16 | TIMESTAMPS);
            add(value);
            add(echo);
        } else if self.sack_permitted {
            add(sack << 16 | PADDING);
        }
        if let Some(scale) = self.window_scale {
            let head = u32::from(kind::NOP) << 16 | u32::from(kind::WINDOW_SCALE) << 8 | 3;
            add(head << 8 | u32::from(scale));
        }
        sum
    }
}
