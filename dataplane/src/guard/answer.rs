//! Segments that the guard writes itself.

use crate::context::Context;
use crate::counters::Event;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::verdict::Verdict;
use crate::wire::address::Address;
use crate::wire::tcp_options::SynOptions;
use crate::wire::tcp_segment::{MAX_HEADERS_BYTES, TcpSegment, write_bare};

/// The TTL or hop limit of what is made here.
pub(super) const TTL: u8 = 64;

/// The four numbers of a segment without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
}

/// The two ends of a segment, from its sender's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

impl Ends {
    /// The way back from where `parsed` came.
    pub(super) fn back(parsed: &Parsed) -> Self {
        Self {
            source: parsed.destination,
            destination: parsed.source,
            source_port: parsed.destination_port,
            destination_port: parsed.source_port,
        }
    }
}

/// Options of a segment that is made here.
pub(super) type Options = SynOptions;

/// No option.
pub(super) const NO_OPTIONS: Options = SynOptions {
    mss: None,
    window_scale: None,
    sack_permitted: false,
    timestamps: None,
};

/// Writes `answer` at the start of `into`; gives back its octets.
#[inline(always)]
pub(super) fn write(
    into: &mut [u8],
    ends: Ends,
    answer: &Answer,
    options: &Options,
) -> Option<usize> {
    // What nearly every client offers and every server does: written with nothing left to decide.
    if let (Some(mss), Some(scale), true, Some(stamps)) = (
        options.mss,
        options.window_scale,
        options.sack_permitted,
        options.timestamps,
    ) {
        let all = SynOptions {
            mss: Some(mss),
            window_scale: Some(scale),
            sack_permitted: true,
            timestamps: Some(stamps),
        };
        return write_with(into, ends, answer, &all);
    }
    write_some(into, ends, answer, options)
}

/// [`write`] of an answer that has not all options.
#[inline(never)]
pub(super) fn write_some(
    into: &mut [u8],
    ends: Ends,
    answer: &Answer,
    options: &Options,
) -> Option<usize> {
    write_with(into, ends, answer, options)
}

/// [`write`] where it is known which options there are.
#[inline(always)]
pub(super) fn write_with(
    into: &mut [u8],
    ends: Ends,
    answer: &Answer,
    options: &Options,
) -> Option<usize> {
    write_bare(
        into,
        &TcpSegment {
            source: ends.source,
            destination: ends.destination,
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            sequence: answer.sequence,
            acknowledgement: answer.acknowledgement,
            flags: answer.flags,
            window: answer.window,
            options: &[],
            payload: &[],
            ttl: TTL,
            dscp_ecn: 0,
            identification: 0,
        },
        options,
    )
}

/// Makes the answer in a buffer of its own and has it routed. Whether it could be made.
pub(super) fn send<I: Io>(
    ends: Ends,
    answer: &Answer,
    options: &Options,
    ctx: &mut Context<'_, I>,
) -> bool {
    let Some(mut packet) = ctx.allocate() else {
        return false;
    };
    let written = packet
        .set_len(MAX_HEADERS_BYTES)
        .then(|| write(packet.bytes_mut(), ends, answer, options))
        .flatten();
    match written {
        Some(length) if packet.set_len(length) => {
            ctx.route(packet);
            true
        }
        _ => {
            ctx.discard(packet, crate::drop_reason::DropReason::NoBuffer);
            false
        }
    }
}

/// Turns `packet` into the answer to itself, its link-layer header kept. The answer must not be
/// longer than the packet: no unproved source gets more octets than it sent.
#[inline(always)]
pub(super) fn reply<B: Buffer>(
    mut packet: B,
    parsed: &Parsed,
    answer: &Answer,
    options: &Options,
) -> Verdict<B> {
    let network = usize::from(parsed.network);
    let ends = Ends::back(parsed);
    let into = &mut packet.bytes_mut()[network..usize::from(parsed.end)];
    match write(into, ends, answer, options) {
        Some(length) if packet.set_len(network + length) => Verdict::Reply(packet),
        _ => Verdict::Drop(packet, crate::drop_reason::DropReason::NoBuffer),
    }
}

/// The RST that a segment deserves which belongs to no connection (RFC 9293 §3.10.7.1).
#[inline]
pub(super) fn reset<I: Io>(
    packet: I::Buffer,
    parsed: &Parsed,
    acknowledgement: u32,
    end: u32,
    ctx: &mut Context<'_, I>,
) -> Verdict<I::Buffer> {
    let answer = if parsed.tcp_flags & flags::ACK != 0 {
        Answer {
            sequence: acknowledgement,
            acknowledgement: 0,
            flags: flags::RST,
            window: 0,
        }
    } else {
        let flags = flags::RST | flags::ACK;
        Answer {
            sequence: 0,
            acknowledgement: end,
            flags,
            window: 0,
        }
    };
    ctx.counters.count(Event::ResetSent);
    reply(packet, parsed, &answer, &NO_OPTIONS)
}
