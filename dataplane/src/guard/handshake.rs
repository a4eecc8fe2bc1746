//! The client's side of a handshake: SYN → SYN-ACK keeps no state, and the ACK that comes back
//! proves its client by its cookie.

use super::Guard;
use super::Lookup;
use super::answer::{self, Answer, Options};
use super::config::Unknown;
use super::cookie::{Agreed, Cookie, CookieError, Tuple};
use super::ended::Former;
use super::opening::Proof;
use super::server::ServerTraits;
use super::session::State;
use super::splice::Segment;
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::{Buffer, ChecksumStatus};
use crate::parse::{Parsed, flags, protocol};
use crate::tcp::sequence;
use crate::verdict::{Verdict, or_drop};
use crate::wire::address::Family;
use crate::wire::checksum::{pseudo_header, transport_is_valid};
use crate::wire::tcp::HEADER_BYTES as TCP_HEADER_BYTES;

impl<B: Buffer> Guard<B> {
    /// Answers a SYN for the protected server at `place` with a cookie, in its own buffer.
    #[inline]
    pub(super) fn answer_syn<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        match Segment::read_usual(packet.bytes(), parsed) {
            Some(read) => self.answer_read_syn(place, read, packet, parsed, ctx),
            None => self.answer_unusual_syn(place, packet, parsed, ctx),
        }
    }

    #[inline(never)]
    fn answer_unusual_syn<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read_syn(packet.bytes(), parsed));
        self.answer_read_syn(place, read, packet, parsed, ctx)
    }

    #[inline(always)]
    fn answer_read_syn<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        read: Segment,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if !self.checksum_holds(&packet, parsed) {
            return Verdict::Drop(packet, DropReason::BadTransportChecksum);
        }
        if self.is_draining {
            return Verdict::Drop(packet, DropReason::Draining);
        }
        match self.cookie_answer(place, &read, parsed, ctx) {
            Ok((answer, options)) => answer::reply(packet, parsed, &answer, &options),
            Err(reason) => Verdict::Drop(packet, reason),
        }
    }

    /// The SYN-ACK with a cookie for the SYN that was read.
    ///
    /// # Errors
    /// When it would be longer than the SYN itself, or the SYN's MSS is smaller than can be told.
    #[inline(always)]
    pub(super) fn cookie_answer<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        read: &Segment,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Result<(Answer, Options), DropReason> {
        let room = usize::from(parsed.payload - parsed.transport) - TCP_HEADER_BYTES;
        let tuple = tuple_of(parsed, read.sequence);
        if read.is_mss_too_small() {
            return Err(DropReason::MssTooSmall);
        }
        let family = tuple.client.family();
        let traits = self.servers.traits(place, tuple.server_port);
        let agreed = agree(read, family, &traits);
        let told_mss = traits.mss.min(self.largest_mss(family));
        let cookie = self.config.jar.make(&tuple, agreed, ctx.unix_s());
        let stamps = read.options.timestamps.filter(|_| agreed.timestamps);
        let options = Options {
            mss: read.options.mss.map(|_| told_mss),
            window_scale: agreed.told_scale,
            sack_permitted: agreed.sack,
            timestamps: stamps.map(|stamps| (cookie.timestamp, stamps.value)),
        };
        if options.length() > room {
            // Only a SYN that packed its options without padding gets here.
            return Err(DropReason::MalformedTcpOptions);
        }
        let answer = Answer {
            sequence: cookie.sequence,
            acknowledgement: read.sequence.wrapping_add(1),
            flags: flags::SYN | flags::ACK | if agreed.ecn { flags::ECE } else { 0 },
            window: traits.window,
        };
        ctx.counters.count(Event::CookieSent);
        self.cookie_sent_ns = Some(ctx.now_ns);
        self.tell_begun(&tuple, cookie, agreed, ctx);
        Ok((answer, options))
    }

    /// Checks a stranger's ACK, and opens the server side if its cookie is good.
    pub(super) fn check_cookie<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        match Segment::read_usual(packet.bytes(), parsed) {
            Some(read) => self.check_read_cookie(lookup, former, read, packet, parsed, ctx),
            None => self.check_unusual_cookie(lookup, former, packet, parsed, ctx),
        }
    }

    #[inline(never)]
    fn check_unusual_cookie<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let read = or_drop!(packet, Segment::read(packet.bytes(), parsed));
        self.check_read_cookie(lookup, former, read, packet, parsed, ctx)
    }

    #[inline(always)]
    fn check_read_cookie<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        former: Option<Former>,
        read: Segment,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let tuple = tuple_of(parsed, read.sequence.wrapping_sub(1));
        let stamps = read.options.timestamps;
        let cookie = Cookie {
            sequence: read.acknowledgement.wrapping_sub(1),
            timestamp: stamps.map_or(0, |stamps| stamps.echo),
        };
        if self.shares.is_catching_up() && read.length > 0 {
            return Verdict::Drop(packet, DropReason::CatchingUp);
        }
        if self.shares.is_catching_up() {
            return self.await_peers_or_drop(lookup, packet, DropReason::CatchingUp, ctx);
        }
        let checked = self
            .config
            .jar
            .check(&tuple, cookie, stamps.is_some(), ctx.unix_s());
        let elsewhere = || self.agreed_elsewhere(&tuple, cookie, stamps.is_some(), ctx.now_ns);
        let agreed = match checked {
            // The session of a client that sends data may be open at another guard already.
            Ok(agreed) if read.length > 0 && self.shares.may_ask() => {
                match self.await_peers(lookup, packet, ctx) {
                    Ok(verdict) => return verdict,
                    Err(waited_in_vain) => packet = waited_in_vain,
                }
                agreed
            }
            Ok(agreed) => agreed,
            Err(_) if let Some(agreed) = elsewhere() => agreed,
            Err(_) if let Some(former) = former.filter(|former| former.is_late) => {
                return self.splice_late_to_server(former.id, read, packet, parsed, ctx);
            }
            Err(_) if let Some(reason) = former.and_then(|it| self.open_refuses(it, &read)) => {
                return Verdict::Drop(packet, reason);
            }
            // Protection has just gone off: whoever has no cookie passes.
            Err(_) if !self.is_active() => {
                return self.let_through(lookup, former, packet, parsed, ctx);
            }
            Err(error) => {
                let packet = if self.shares.may_ask() {
                    match self.await_peers(lookup, packet, ctx) {
                        Ok(verdict) => return verdict,
                        Err(packet) => packet,
                    }
                } else {
                    packet
                };
                return self.refuse_stranger(error, read, packet, parsed, ctx);
            }
        };
        if !self.checksum_holds(&packet, parsed) {
            return Verdict::Drop(packet, DropReason::BadTransportChecksum);
        }
        if self.is_spent(lookup, former, tuple.client_sequence, ctx.now_ns) {
            return Verdict::Drop(packet, DropReason::CookieReplayed);
        }
        if read.length > 0 && self.shares.leaves_data_to_others(ctx.now_ns) {
            return Verdict::Drop(packet, DropReason::LeftToOthers);
        }
        if self.is_leaving && self.peers() > 0 {
            return Verdict::Drop(packet, DropReason::LeftToOthers);
        }
        if self.is_draining && !self.shares.opens_for_peers() {
            return answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx);
        }
        let proof = Proof {
            tuple,
            cookie,
            agreed,
            former,
        };
        // A copy, so that what is refused need not stand in memory.
        let read = Segment { ..read };
        self.open_server_side(lookup, &proof, &read, packet, parsed, ctx)
    }

    /// Why a session that opens, or is open, has no use for a segment of its ports.
    fn open_refuses(&self, former: Former, read: &Segment) -> Option<DropReason> {
        let session = self.sessions.get(former.id);
        let first = session.client_acked;
        let is_in_window = sequence::within(read.sequence, first, first.wrapping_add(0xffff));
        (session.state != State::Closed).then_some(if is_in_window {
            DropReason::AckOfUnsent
        } else {
            DropReason::OutOfWindow
        })
    }

    #[inline(always)]
    fn refuse_stranger<I: Io<Buffer = B>>(
        &mut self,
        error: CookieError,
        read: Segment,
        packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let reason = match error {
            CookieError::Invalid => DropReason::CookieInvalid,
            CookieError::Expired => DropReason::CookieExpired,
        };
        match self.config.unknown {
            Unknown::Drop => Verdict::Drop(packet, reason),
            Unknown::Reset => answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx),
        }
    }

    /// Reads a segment that state will be made from, or an answer: its checksum must hold.
    #[inline]
    pub(super) fn read_to_act_on(
        &self,
        packet: &B,
        parsed: &Parsed,
    ) -> Result<Segment, DropReason> {
        let read = Segment::read(packet.bytes(), parsed)?;
        if self.checksum_holds(packet, parsed) {
            Ok(read)
        } else {
            Err(DropReason::BadTransportChecksum)
        }
    }

    #[inline(always)]
    pub(super) fn checksum_holds(&self, packet: &B, parsed: &Parsed) -> bool {
        match packet.transport_checksum() {
            ChecksumStatus::Good => true,
            ChecksumStatus::Bad => false,
            ChecksumStatus::Unknown => {
                let segment =
                    &packet.bytes()[usize::from(parsed.transport)..usize::from(parsed.end)];
                let (source, destination) = (parsed.source, parsed.destination);
                let pseudo = pseudo_header(source, destination, protocol::TCP, segment.len());
                transport_is_valid(segment, pseudo)
            }
        }
    }

    pub(super) fn largest_mss(&self, family: Family) -> u16 {
        let headers = match family {
            Family::V4 => 40,
            Family::V6 => 60,
        };
        self.config
            .outside_mtu
            .min(self.config.inside_mtu)
            .saturating_sub(headers)
    }
}

/// What the client and the guard agree on: what both the client's SYN and the server's traits say.
#[inline]
pub(super) fn agree(read: &Segment, family: Family, traits: &ServerTraits) -> Agreed {
    let options = &read.options;
    let scales = options.window_scale.zip(traits.window_scale);
    let assumed_mss = match family {
        Family::V4 => 536,
        Family::V6 => 1220,
    };
    let timestamps = options.timestamps.is_some() && traits.timestamps;
    let agreed = Agreed {
        mss_class: Agreed::class_of_mss(options.mss.unwrap_or(assumed_mss), family, timestamps),
        window_scale: scales.map(|(client, _)| client),
        told_scale: scales.map(|(_, server)| server),
        sack: options.sack_permitted && traits.sack,
        ecn: read.flags & (flags::ECE | flags::CWR) == flags::ECE | flags::CWR && traits.ecn,
        timestamps,
    };
    if agreed.timestamps {
        agreed
    } else {
        agreed.without_timestamps()
    }
}

#[inline(always)]
pub(super) fn tuple_of(parsed: &Parsed, client_sequence: u32) -> Tuple {
    Tuple {
        client: parsed.source,
        server: parsed.destination,
        client_port: parsed.source_port,
        server_port: parsed.destination_port,
        client_sequence,
    }
}
