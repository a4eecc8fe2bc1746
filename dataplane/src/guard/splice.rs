//! Translating a live session's segments, and refusing those that cannot be its own.

use super::answer::{self, Answer, Ends};
use super::mss::SMALLEST_MSS;
use super::session::{Session, State, flag};
use super::{Guard, Lookup, window};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::Id;
use crate::io::Io;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::tcp::sequence;
use crate::verdict::{Verdict, or_drop};
use crate::wire::checksum::Update;
use crate::wire::tcp::{Tcp, field};
use crate::wire::tcp_options::{self, TcpOptions, kind};

/// What a segment says, in the numbers it was received with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    /// Sequence numbers it takes: its octets, and one for a SYN or FIN.
    pub(super) length: u32,
    pub(super) window: u16,
    pub(super) flags: u8,
    pub(super) options: TcpOptions,
}

impl Segment {
    /// Reads the segment of a frame, its options as its receiver reads them.
    ///
    /// # Errors
    /// When its header is malformed.
    #[inline(always)]
    pub(super) fn read(frame: &[u8], parsed: &Parsed) -> Result<Self, DropReason> {
        Self::read_with(frame, parsed, |options| Ok(tcp_options::read(options)))
    }

    /// Reads a client's SYN, which is refused for options that no client sends.
    ///
    /// # Errors
    /// When its header or its options are malformed.
    #[inline(always)]
    pub(super) fn read_syn(frame: &[u8], parsed: &Parsed) -> Result<Self, DropReason> {
        Self::read_with(frame, parsed, tcp_options::parse)
    }

    #[inline(always)]
    fn read_with(
        frame: &[u8],
        parsed: &Parsed,
        options: impl Fn(&[u8]) -> Result<TcpOptions, DropReason>,
    ) -> Result<Self, DropReason> {
        let tcp = Tcp::new(&frame[usize::from(parsed.transport)..usize::from(parsed.end)])?;
        let flags = tcp.flags();
        let virtual_octets =
            u32::from(flags & flags::SYN != 0) + u32::from(flags & flags::FIN != 0);
        Ok(Self {
            sequence: tcp.sequence(),
            acknowledgement: tcp.acknowledgement(),
            length: parsed.payload_bytes() as u32 + virtual_octets,
            window: tcp.window(),
            flags,
            options: options(tcp.options())?,
        })
    }

    /// The same for a segment without options or with nothing but timestamps, laid out as everyone
    /// lays them out; `None` for any other. What it gives can stay in registers.
    #[inline(always)]
    pub(super) fn read_usual(frame: &[u8], parsed: &Parsed) -> Option<Self> {
        let segment = frame.get(usize::from(parsed.transport)..usize::from(parsed.end))?;
        let tcp = Tcp::new(segment).ok()?;
        let flags = tcp.flags();
        let virtual_octets =
            u32::from(flags & flags::SYN != 0) + u32::from(flags & flags::FIN != 0);
        Some(Self {
            sequence: tcp.sequence(),
            acknowledgement: tcp.acknowledgement(),
            length: parsed.payload_bytes() as u32 + virtual_octets,
            window: tcp.window(),
            flags,
            options: tcp_options::parse_usual(tcp.options())?,
        })
    }

    /// Whether a SYN offers a size that no cookie can tell, since that would be more.
    #[inline(always)]
    pub(super) fn is_mss_too_small(&self) -> bool {
        self.options.mss.is_some_and(|mss| mss < SMALLEST_MSS)
    }

    /// One past its last sequence number.
    #[inline]
    pub(super) fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length)
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Rewrites a client's segment to the server's numbers. `segment` begins with the TCP header that
/// was read.
#[inline(always)]
pub(super) fn to_server(session: &Session, segment: &mut [u8], read: &Segment) {
    let mut update = Update::new();
    if read.has(flags::ACK) {
        let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
        update = update.set_long(segment, field::ACKNOWLEDGEMENT, acknowledgement);
    }
    if let Some(timestamps) = read.options.timestamps
        && session.has(flag::TIMESTAMPS)
    {
        let echo = timestamps.echo.wrapping_add(session.timestamp_delta);
        update = update.set_long(segment, usize::from(timestamps.offset) + 4, echo);
    }
    if let Some(blocks) = read.options.sack_blocks {
        update = if session.has(flag::BLANK_SACK) {
            let options_end = usize::from(segment[field::OFFSET_AND_FLAGS] >> 4) * 4;
            let options = &mut segment[crate::wire::tcp::HEADER_BYTES..options_end];
            update.and(tcp_options::blank(options, kind::SACK))
        } else {
            blocks.shift(segment, session.sequence_delta, update)
        };
    }
    if session.has(flag::SERVER_UNSCALED) {
        let bytes = u32::from(read.window) << session.client_scale();
        update = update.set_word(segment, field::WINDOW, bytes.min(0xffff) as u16);
    }
    apply(update, segment);
}

/// Rewrites a server's segment to the client's numbers.
#[inline(always)]
pub(super) fn to_client(session: &Session, segment: &mut [u8], read: &Segment) {
    let sequence = read.sequence.wrapping_sub(session.sequence_delta);
    let mut update = Update::new().set_long(segment, field::SEQUENCE, sequence);
    if let Some(timestamps) = read.options.timestamps
        && session.has(flag::TIMESTAMPS)
    {
        let value = timestamps.value.wrapping_sub(session.timestamp_delta);
        update = update.set_long(segment, usize::from(timestamps.offset), value);
    }
    if session.server_scale() != session.told_scale() {
        let bytes = u32::from(read.window) << session.server_scale();
        let window = window::told(bytes, session.told_scale());
        update = update.set_word(segment, field::WINDOW, window);
    }
    apply(update, segment);
}

#[inline(always)]
fn apply(update: Update, segment: &mut [u8]) {
    let checksum = u16::from_be_bytes([segment[field::CHECKSUM], segment[field::CHECKSUM + 1]]);
    segment[field::CHECKSUM..field::CHECKSUM + 2]
        .copy_from_slice(&update.apply(checksum).to_be_bytes());
}

/// Why a client's segment is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    /// Whether the client is to be told what is expected (RFC 5961).
    pub(super) challenge: bool,
}

impl Refusal {
    /// Whether it is for numbers that another guard may have seen the reason of.
    pub(super) fn is_of_numbers(self) -> bool {
        matches!(
            self.reason,
            DropReason::OutOfWindow | DropReason::AckOfUnsent | DropReason::ResetNotExact
        )
    }

    const fn challenged(reason: DropReason) -> Self {
        Self {
            reason,
            challenge: true,
        }
    }

    const fn silent(reason: DropReason) -> Self {
        Self {
            reason,
            challenge: false,
        }
    }
}

/// What hardly a connection has on its way. The widest windows are a quarter of all numbers: there a
/// stranger's guess would hit.
const FAR_BYTES: u32 = 1 << 24;

/// Whether a client's segment beyond what this guard has seen of a shared session still follows from
/// it: both its numbers are within a window of the last ones. What does not is not noted, since
/// anybody can make it up; its receiver knows better.
pub(super) fn is_near(session: &Session, read: &Segment) -> bool {
    let room = |scale: u8| (0xffff << scale).min(FAR_BYTES);
    let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
    let client = sequence::later(session.client_next, session.client_acked);
    let server = sequence::later(session.server_acked, session.server_next);
    read.flags & (flags::ACK | flags::RST) == flags::ACK
        && sequence::near(read.sequence, client, room(session.server_scale()))
        && sequence::near(acknowledgement, server, room(session.client_scale()))
}

/// Whether a client's segment skips some of its numbers and takes back some of its acknowledgements,
/// as hardly a segment of this session does, but the first one of the next session of its ports.
#[inline(always)]
pub(super) fn is_out_of_turn(session: &Session, read: &Segment) -> bool {
    let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
    sequence::after(read.sequence, session.client_next)
        && sequence::before(acknowledgement, session.server_acked)
}

/// Whether a server's RST is of this session: its number lies where the client and the server have
/// come to. One that answers a late segment of another session of these ports bears that one's.
fn is_servers_own(session: &Session, read: &Segment) -> bool {
    let room = (0xffff << session.client_scale()).min(FAR_BYTES);
    [session.server_acked, session.server_next]
        .iter()
        .any(|&come_to| sequence::near(read.sequence, come_to, room))
}

/// Makes good for what of the server's went past other guards: numbers that are farther apart than
/// half their circle would seem to go back.
#[inline(always)]
pub(super) fn skip_unseen(session: &mut Session, read: &Segment) {
    const FAR: u32 = 1 << 30;
    let ahead = read.end().wrapping_sub(session.server_next);
    if (FAR..FAR.wrapping_neg()).contains(&ahead) {
        session.server_next = read.end();
    }
    let ahead = read.acknowledgement.wrapping_sub(session.client_acked);
    if (FAR..FAR.wrapping_neg()).contains(&ahead) {
        session.client_acked = read.acknowledgement;
        session.client_next = read.acknowledgement;
        session.client_edge = read.acknowledgement;
    }
}

/// Whether a client's segment can belong to the session, by what both sides have sent so far
/// (RFC 9293 §3.10.7.4, RFC 5961 §3 to §5).
#[inline(always)]
pub(super) fn check_client(session: &Session, read: &Segment) -> Result<(), Refusal> {
    if read.has(flags::SYN) {
        return Err(Refusal::challenged(DropReason::SynOnSession));
    }
    let window = 0xffff << session.server_scale();
    let low = session.client_acked.wrapping_sub(window);
    // A probe of a closed window may carry one octet more than is offered, and what is offered was
    // told in whole units.
    let high = session.client_edge.wrapping_add(1 << session.told_scale());
    let in_window = !sequence::after(read.sequence, high) && !sequence::before(read.end(), low);
    if read.has(flags::RST) {
        let is_exact =
            read.sequence == session.client_acked || read.sequence == session.client_next;
        return match (in_window, is_exact) {
            (_, true) => Ok(()),
            (true, _) => Err(Refusal::challenged(DropReason::ResetNotExact)),
            _ => Err(Refusal::silent(DropReason::OutOfWindow)),
        };
    }
    if !in_window {
        return Err(Refusal::challenged(DropReason::OutOfWindow));
    }
    if !read.has(flags::ACK) {
        return Err(Refusal::silent(DropReason::AckOfUnsent));
    }
    let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
    let oldest = session
        .server_acked
        .wrapping_sub(0xffff << session.client_scale());
    if !sequence::within(acknowledgement, oldest, session.server_next) {
        return Err(Refusal::challenged(DropReason::AckOfUnsent));
    }
    Ok(())
}

impl<B: Buffer> Guard<B> {
    /// A client's segment on an established session.
    #[inline(always)]
    pub(super) fn splice_to_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        match Segment::read_usual(packet.bytes(), parsed) {
            Some(read) => self.take_client_segment(id, lookup, read, packet, parsed, ctx),
            None => self.splice_unusual_to_server(id, lookup, packet, parsed, ctx),
        }
    }

    #[inline(never)]
    fn splice_unusual_to_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        self.take_client_segment(id, lookup, read, packet, parsed, ctx)
    }

    #[inline(always)]
    fn take_client_segment<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        lookup: &Lookup,
        read: Segment,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let is_shared = self.shares.is_on();
        let session = self.sessions.get(id);
        let checked = check_client(session, &read);
        if checked.is_err() || read.has(flags::RST) || is_shared && is_out_of_turn(session, &read) {
            // A copy, so that the other paths' need not stand in memory.
            let read = Segment { ..read };
            let refusal = checked.err();
            return self.take_doubtful(id, lookup, refusal, &read, packet, parsed, ctx);
        }
        self.note_client(id, &read, ctx);
        self.pass_to_server(id, &read, packet, parsed, ctx)
    }

    /// Notes a client's segment that is believed.
    #[inline(always)]
    pub(super) fn note_client<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: &Segment,
        ctx: &mut Context<'_, I>,
    ) {
        if read.has(flags::FIN) {
            self.correct_client_end(id, read.end());
        }
        let session = self.sessions.get_mut(id);
        let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
        session.note_client(read.end(), acknowledgement, read.has(flags::FIN));
        if session.flags & (flag::CLIENT_FIN | flag::SERVER_FIN) != 0 {
            self.follow_closing(id, ctx);
        }
    }

    /// Sends a client's segment on in the server's numbers.
    #[inline(always)]
    pub(super) fn pass_to_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: &Segment,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let session = self.sessions.get_mut(id);
        if !session.has(flag::TRACKED) {
            let frame = packet.bytes_mut();
            to_server(session, &mut frame[usize::from(parsed.transport)..], read);
        }
        session.last_seen = self.tick;
        if session.has(flag::REMOTE) {
            ctx.counters.count(Event::NeverMet);
        }
        ctx.counters.count(Event::Spliced);
        Verdict::Forward(packet)
    }

    /// A server's segment on an established or closed session.
    #[inline(always)]
    pub(super) fn splice_to_client<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        match Segment::read_usual(packet.bytes(), parsed) {
            Some(read) => self.take_server_segment(id, read, packet, parsed, ctx),
            None => self.splice_unusual_to_client(id, packet, parsed, ctx),
        }
    }

    #[inline(never)]
    fn splice_unusual_to_client<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        self.take_server_segment(id, read, packet, parsed, ctx)
    }

    #[inline(always)]
    fn take_server_segment<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        read: Segment,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let is_shared = self.shares.is_on();
        let session = self.sessions.get_mut(id);
        if read.has(flags::SYN) && !session.has(flag::TRACKED) {
            // A copy, so that the other paths' need not stand in memory.
            let read = Segment { ..read };
            return self.answer_repeated_syn_ack(id, &read, packet, parsed);
        }
        let is_reset = read.has(flags::RST);
        if is_reset && !session.has(flag::TRACKED) && !is_servers_own(session, &read) {
            // It answers a segment of the next session of these ports, which it would end.
            return Verdict::Drop(packet, DropReason::ResetWithoutSession);
        }
        if session.disbelieves_reset(&read) {
            self.revive_and_tell(id, ctx);
        }
        let session = self.sessions.get_mut(id);
        if !is_reset && session.state == State::Established {
            let window_bytes = u32::from(read.window) << session.server_scale();
            let fin = read.has(flags::FIN);
            if is_shared {
                session.note_acknowledged_answer(&read);
                skip_unseen(session, &read);
            }
            session.note_server(read.end(), read.acknowledgement, window_bytes, fin);
        }
        if !session.has(flag::TRACKED) {
            let frame = packet.bytes_mut();
            to_client(session, &mut frame[usize::from(parsed.transport)..], &read);
        }
        session.last_seen = self.tick;
        if session.has(flag::REMOTE) {
            ctx.counters.count(Event::NeverMet);
        }
        let is_reset = is_reset && is_servers_own(self.sessions.get(id), &read);
        self.follow_server(id, is_reset, ctx);
        ctx.counters.count(Event::Spliced);
        Verdict::Forward(packet)
    }

    /// Moves the session along after a server's segment. A RST of its own is the end: the server knows
    /// nothing of the session any more.
    #[inline(always)]
    fn follow_server<I: Io<Buffer = B>>(&mut self, id: Id, reset: bool, ctx: &mut Context<'_, I>) {
        let session = self.sessions.get(id);
        match session.state {
            State::Established if reset => self.close(id, Event::SessionReset, ctx),
            State::Established if session.flags & (flag::CLIENT_FIN | flag::SERVER_FIN) != 0 => {
                self.follow_closing(id, ctx);
            }
            _ => {}
        }
    }

    /// A segment of a session of which a side has closed.
    #[inline(never)]
    fn follow_closing<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        if self.sessions.get(id).is_finished() {
            self.close(id, Event::SessionClosed, ctx);
        } else {
            self.arm_idle(id, ctx);
            self.tell_closing(id, ctx);
        }
    }

    /// Drops a client's segment, and tells the client what is expected where that is due.
    #[cold]
    pub(super) fn refuse<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        refusal: Refusal,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let now_ns = ctx.now_ns;
        let session = self.sessions.get_mut(id);
        if refusal.challenge && session.state == State::Established {
            if session.may_challenge(now_ns) {
                let offered = session.client_edge.wrapping_sub(session.client_acked);
                let challenge = Answer {
                    sequence: session.server_next.wrapping_sub(session.sequence_delta),
                    acknowledgement: session.client_acked,
                    flags: flags::ACK,
                    window: window::told(offered, session.told_scale()),
                };
                // No timestamps: the server's clock is not known here, and what the refused
                // segment echoes may be an outsider's number, by which the client would judge
                // the server's next segments to be old (RFC 7323 §5.3).
                if answer::send(Ends::back(parsed), &challenge, &answer::NO_OPTIONS, ctx) {
                    ctx.counters.count(Event::ChallengeSent);
                }
            } else {
                ctx.counters.count(Event::ChallengeSuppressed);
            }
        }
        Verdict::Drop(packet, refusal.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut session = Session {
            client_next: 1000,
            client_acked: 900,
            client_edge: 900 + 8000,
            server_next: 5000,
            server_acked: 4000,
            sequence_delta: 100,
            state: State::Established,
            ..Session::default()
        };
        session.set_scales(0, 0, 0);
        session
    }

    fn segment(sequence: u32, acknowledgement: u32, length: u32, flags: u8) -> Segment {
        Segment {
            sequence,
            acknowledgement,
            length,
            window: 0,
            flags,
            options: TcpOptions::default(),
        }
    }

    fn verdict(read: Segment) -> Option<(DropReason, bool)> {
        check_client(&session(), &read)
            .err()
            .map(|refusal| (refusal.reason, refusal.challenge))
    }

    #[test]
    fn what_a_live_client_sends_passes() {
        for (sequence, acknowledgement, length) in [
            (1000, 4900, 100),
            (1000, 3900, 0),
            (900, 4900, 100),
            (800, 4900, 100),
            (8900, 4900, 1),
        ] {
            let read = segment(sequence, acknowledgement, length, flags::ACK);
            assert_eq!(verdict(read), None, "{sequence} {acknowledgement}");
        }
        assert_eq!(verdict(segment(1000, 0, 0, flags::RST)), None);
        assert_eq!(verdict(segment(900, 0, 0, flags::RST)), None);
    }

    #[test]
    fn what_a_blind_attacker_sends_does_not() {
        // CASES 3
        let syn = segment(1000, 0, 1, flags::SYN);
        assert_eq!(verdict(syn), Some((DropReason::SynOnSession, true)));
        let near_reset = segment(1001, 0, 0, flags::RST);
        assert_eq!(verdict(near_reset), Some((DropReason::ResetNotExact, true)));
        let far_reset = segment(900_000, 0, 0, flags::RST);
        assert_eq!(verdict(far_reset), Some((DropReason::OutOfWindow, false)));
        let far = segment(20_000, 4900, 10, flags::ACK);
        assert_eq!(verdict(far), Some((DropReason::OutOfWindow, true)));
        let unsent = segment(1000, 4901, 10, flags::ACK);
        assert_eq!(verdict(unsent), Some((DropReason::AckOfUnsent, true)));
        let ancient = segment(1000, 4900u32.wrapping_sub(100_000), 10, flags::ACK);
        assert_eq!(verdict(ancient), Some((DropReason::AckOfUnsent, true)));
        let no_ack = segment(1000, 4900, 10, flags::PSH);
        assert_eq!(verdict(no_ack), Some((DropReason::AckOfUnsent, false)));
    }
}
