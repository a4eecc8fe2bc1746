//! The guard's part in the short walk of usual frames ([`crate::usual`]): an open session's
//! segments, a SYN that is answered by a cookie, an ACK whose cookie is wrong, and what is not
//! guarded. Everything else, and everything that is out of the ordinary in these, is left to the
//! general walk, with nothing done yet.

use super::Guard;
use super::answer::{self, Ends};
use super::config::{Action, Mode, Unknown};
use super::cookie::{Awaited, Claim, Codes, Cookie, CookieError, Tuple};
use super::handshake::agree;
use super::server::UNKNOWN_SERVICE;
use super::session::{SessionKey, State, flag};
use super::splice::{Segment, check_client, is_out_of_turn, skip_unseen, to_client, to_server};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::{Candidate, Hash, Id};
use crate::io::{InterfaceId, Io};
use crate::packet::{Buffer, ChecksumStatus};
use crate::parse::{flags, parse};
use crate::usual::{self, NETWORK, OPTIONS, TRANSPORT, Usual};
use crate::wire::address::{Address, Family};
use crate::wire::bytes::{u16_at, u32_at};
use crate::wire::tcp::field;
use crate::wire::tcp_options::{self, TcpOptions, Timestamps};

/// What an interface is to the guard, for a burst that came in by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Clients are there.
    Outside,
    /// Servers are there.
    Inside,
    /// Neither, or nothing is guarded.
    Neither,
}

/// Where a usual frame's session is to be looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsualLookup {
    hash: Hash,
    candidate: Candidate,
    /// The place of the protected server, or [`NO_SERVER`].
    server: u16,
    /// The slot of the service whose cookie a SYN asks for, where codes are awaited or made.
    service: u16,
    /// Of the cookie that its segment asks for or bears,
    codes: Codes,
    /// where they have been made.
    has_codes: bool,
}

const NO_SERVER: u16 = u16::MAX;

impl UsualLookup {
    /// Takes the codes of its cookie.
    #[inline(always)]
    pub(crate) fn take_codes(&mut self, codes: Codes) {
        (self.codes, self.has_codes) = (codes, true);
    }

    #[inline(always)]
    fn codes(&self) -> Option<Codes> {
        self.has_codes.then_some(self.codes)
    }

    pub(crate) const NONE: Self = Self {
        hash: Hash::NONE,
        candidate: Candidate::UNKNOWN,
        server: NO_SERVER,
        service: UNKNOWN_SERVICE,
        codes: Codes::NONE,
        has_codes: false,
    };
}

/// What becomes of a usual frame.
#[must_use]
pub(crate) enum UsualVerdict<B> {
    /// To the next hop.
    Forward(B),
    /// Back to the station that sent it.
    Reply(B),
    /// Freed and counted.
    Drop(B, DropReason),
    /// Nothing is done yet: the general walk decides.
    General(B),
}

use UsualVerdict::{Drop, Forward, General, Reply};

impl<B: Buffer> Guard<B> {
    /// What `interface` is to the guard.
    #[inline]
    pub(crate) fn side_of(&self, interface: InterfaceId) -> Side {
        let is_idle = self.config.mode == Mode::Off && self.sessions.is_empty();
        if is_idle {
            Side::Neither
        } else if self.config.outside.contains(interface) {
            Side::Outside
        } else if self.config.inside.contains(interface) {
            Side::Inside
        } else {
            Side::Neither
        }
    }

    /// Where to look for the frame's session; asks for the line of the index.
    #[inline(always)]
    pub(crate) fn prepare_usual(&self, side: Side, usual: &Usual, into: &mut UsualLookup) {
        let server = match side {
            Side::Outside => usual.destination,
            Side::Inside => usual.source,
            Side::Neither => {
                into.server = NO_SERVER;
                return;
            }
        };
        let Some(place) = self.servers.find(Address::from_v4(server.to_be_bytes())) else {
            into.server = NO_SERVER;
            return;
        };
        let hash = self.sessions.hash(&key_of(side, usual, place));
        self.sessions.prefetch_bucket(hash);
        *into = UsualLookup {
            hash,
            candidate: Candidate::UNKNOWN,
            server: place,
            service: UNKNOWN_SERVICE,
            codes: Codes::NONE,
            has_codes: false,
        };
    }

    /// Asks for the session's line; whether a protected server is meant and there is no session.
    #[inline(always)]
    pub(crate) fn prefetch_usual(&self, lookup: &mut UsualLookup) -> bool {
        if lookup.server == NO_SERVER {
            return false;
        }
        lookup.candidate = self.sessions.prefetch_entry(lookup.hash);
        lookup.candidate.is_absent()
    }

    /// Whether strangers' segments of this side are answered or refused by cookies, and by nothing
    /// else.
    #[inline]
    pub(crate) fn goes_by_cookies(&self, side: Side) -> bool {
        side == Side::Outside
            && self.is_active()
            && !self.shares.is_on()
            && !self.is_draining
            && self.carrier.is_none()
    }

    /// Has the codes made of the cookie that a stranger's SYN asks for, or its ACK bears.
    #[inline(always)]
    pub(crate) fn await_codes(
        &self,
        place: usize,
        packet: &B,
        usual: &Usual,
        lookup: &mut UsualLookup,
        unix_s: u64,
        awaited: &mut Awaited,
    ) {
        if lookup.server == NO_SERVER || !lookup.candidate.is_absent() {
            return;
        }
        let bytes = packet.bytes();
        let (tuple, claim) = if usual.is_plain() {
            let Some(read) = read_usual(bytes, usual) else {
                return;
            };
            let (tuple, cookie, stamps) = proof_of(usual, &read);
            (tuple, Claim::of(cookie, stamps, unix_s))
        } else {
            let Some(read) = read_usual_syn(bytes, usual) else {
                return;
            };
            let servers = &self.servers;
            lookup.service = servers.slot_of_service(lookup.server, usual.destination_port());
            let traits = servers.traits_in(lookup.service, lookup.server);
            let agreed = agree(&read, Family::V4, &traits);
            let claim = Claim::new(agreed, unix_s);
            (tuple_of(usual, read.sequence), claim)
        };
        let jar = &self.config.jar;
        jar.await_codes(place, &tuple, &claim, unix_s, awaited);
    }

    /// Makes the codes that were awaited, and tells each with its place.
    #[inline(always)]
    pub(crate) fn make_codes(
        &self,
        awaited: &Awaited,
        unix_s: u64,
        tell: impl FnMut(usize, Codes),
    ) {
        self.config.jar.make_codes(awaited, unix_s, tell);
    }

    /// Decides on a usual frame that is in transit.
    #[inline(always)]
    pub(crate) fn handle_usual<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        usual: &Usual,
        side: Side,
        interface: InterfaceId,
        lookup: &UsualLookup,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        if lookup.server == NO_SERVER {
            return self.pass_usual(packet, interface, ctx);
        }
        let key = key_of(side, usual, lookup.server);
        let found = self
            .sessions
            .find_prefetched(lookup.candidate, lookup.hash, &key);
        match (found, side) {
            (Some(id), Side::Outside) => self.splice_usual_to_server(id, packet, usual, ctx),
            (Some(id), _) => self.splice_usual_to_client(id, packet, usual, ctx),
            (None, _) if self.config.mode == Mode::Off => self.pass_usual(packet, interface, ctx),
            (None, Side::Outside) => {
                self.meet_usual_stranger(packet, usual, interface, lookup, ctx)
            }
            (None, _) => General(packet),
        }
    }

    /// What the rules say of the frame.
    #[inline(always)]
    fn action_of_usual(&self, packet: &B, interface: InterfaceId) -> Option<Action> {
        match self.config.rules.outcome_of_all() {
            Some(action) => Some(action),
            None => self.evaluate_usual(packet, interface),
        }
    }

    #[inline(never)]
    fn evaluate_usual(&self, packet: &B, interface: InterfaceId) -> Option<Action> {
        let parsed = parse(packet.bytes()).ok()?;
        Some(self.config.rules.evaluate(interface, &parsed).outcome)
    }

    /// What no protected service concerns.
    #[inline(always)]
    fn pass_usual<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        match self.action_of_usual(&packet, interface) {
            Some(Action::Forward | Action::Guard | Action::GuardShared(_)) => {
                ctx.counters.count(Event::Forwarded);
                Forward(packet)
            }
            _ => General(packet),
        }
    }

    /// A client's segment on an open session.
    #[inline(always)]
    fn splice_usual_to_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        mut packet: B,
        usual: &Usual,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        let is_shared = self.shares.is_on();
        let session = self.sessions.get_mut(id);
        let is_usual = session.state == State::Established && session.flags & UNUSUAL == 0;
        let read = match read_usual(packet.bytes(), usual) {
            Some(read) if is_usual && usual.is_plain() => read,
            _ => return General(packet),
        };
        if check_client(session, &read).is_err() || is_shared && is_out_of_turn(session, &read) {
            return General(packet);
        }
        let acknowledgement = read.acknowledgement.wrapping_add(session.sequence_delta);
        session.note_client(read.end(), acknowledgement, false);
        session.last_seen = self.tick;
        translate(&mut packet, &read, |segment, read| {
            to_server(session, segment, read);
        });
        ctx.counters.count(Event::Spliced);
        Forward(packet)
    }

    /// A server's segment on an open session.
    #[inline(always)]
    fn splice_usual_to_client<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        mut packet: B,
        usual: &Usual,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        let is_shared = self.shares.is_on();
        let session = self.sessions.get_mut(id);
        let is_usual = session.state == State::Established && session.flags & UNUSUAL == 0;
        let read = match read_usual(packet.bytes(), usual) {
            Some(read) if is_usual && usual.is_plain() => read,
            _ => return General(packet),
        };
        if is_shared {
            skip_unseen(session, &read);
        }
        let window_bytes = u32::from(read.window) << session.server_scale();
        session.note_server(read.end(), read.acknowledgement, window_bytes, false);
        session.last_seen = self.tick;
        translate(&mut packet, &read, |segment, read| {
            to_client(session, segment, read);
        });
        ctx.counters.count(Event::Spliced);
        Forward(packet)
    }

    /// A client's segment that belongs to no session.
    #[inline(always)]
    fn meet_usual_stranger<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        usual: &Usual,
        interface: InterfaceId,
        lookup: &UsualLookup,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        let server = self.servers.get(lookup.server);
        let is_ours = self.goes_by_cookies(Side::Outside)
            && server.protects(usual.destination_port())
            && self.action_of_usual(&packet, interface) == Some(Action::Guard);
        if !is_ours {
            return General(packet);
        }
        if usual.is_plain() {
            self.refuse_usual(packet, usual, lookup, ctx)
        } else {
            self.answer_usual(packet, usual, lookup, ctx)
        }
    }

    /// An ACK: refused if its cookie is not good.
    #[inline(always)]
    fn refuse_usual<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        usual: &Usual,
        lookup: &UsualLookup,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        let read = match read_usual(packet.bytes(), usual) {
            Some(read) if self.config.unknown == Unknown::Drop => read,
            _ => return General(packet),
        };
        let (tuple, cookie, stamps) = proof_of(usual, &read);
        let claim = Claim::of(cookie, stamps, ctx.unix_s());
        let codes = lookup.codes();
        let codes = codes.unwrap_or_else(|| self.config.jar.codes(&tuple, &claim));
        debug_assert_eq!(codes, self.config.jar.codes(&tuple, &claim));
        match claim.judge(cookie, codes) {
            Ok(_) => General(packet),
            Err(CookieError::Invalid) => Drop(packet, DropReason::CookieInvalid),
            Err(CookieError::Expired) => Drop(packet, DropReason::CookieExpired),
        }
    }

    /// A SYN: answered by a cookie, in its own buffer.
    #[inline(always)]
    fn answer_usual<I: Io<Buffer = B>>(
        &mut self,
        mut packet: B,
        usual: &Usual,
        lookup: &UsualLookup,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        let read = match read_usual_syn(packet.bytes(), usual) {
            Some(read) if checksum_holds(&packet, usual) => read,
            _ => return General(packet),
        };
        let tuple = tuple_of(usual, read.sequence);
        let room = usize::from(usual.payload) - OPTIONS;
        self.count_syn(ctx);
        let traits = match lookup.has_codes {
            true => self.servers.traits_in(lookup.service, lookup.server),
            false => self.servers.traits(lookup.server, tuple.server_port),
        };
        let agreed = agree(&read, Family::V4, &traits);
        let answered = self.cookie_for(&traits, agreed, &read, &tuple, room, lookup.codes(), ctx);
        let (answer, options) = match answered {
            Ok(answered) => answered,
            Err(reason) => return Drop(packet, reason),
        };
        let ends = Ends {
            source: tuple.server,
            destination: tuple.client,
            source_port: tuple.server_port,
            destination_port: tuple.client_port,
        };
        let into = &mut packet.bytes_mut()[NETWORK..usize::from(usual.end)];
        match answer::write(into, ends, &answer, &options) {
            Some(length) if packet.set_len(NETWORK + length) => Reply(packet),
            _ => Drop(packet, DropReason::NoBuffer),
        }
    }
}

/// Sessions that have one of these set go by the general walk.
const UNUSUAL: u8 = flag::TRACKED
    | flag::CLIENT_FIN
    | flag::SERVER_FIN
    | flag::BLANK_SACK
    | flag::SERVER_UNSCALED
    | flag::RESET
    | flag::REMOTE;

#[inline(always)]
fn key_of(side: Side, usual: &Usual, server: u16) -> SessionKey {
    let (client, client_port, server_port) = match side {
        Side::Inside => (
            usual.destination,
            usual.destination_port(),
            usual.source_port(),
        ),
        _ => (usual.source, usual.source_port(), usual.destination_port()),
    };
    SessionKey {
        client: Address::from_v4(client.to_be_bytes()),
        client_port,
        server_port,
        server,
    }
}

#[inline(always)]
fn tuple_of(usual: &Usual, client_sequence: u32) -> Tuple {
    Tuple {
        client: Address::from_v4(usual.source.to_be_bytes()),
        server: Address::from_v4(usual.destination.to_be_bytes()),
        client_port: usual.source_port(),
        server_port: usual.destination_port(),
        client_sequence,
    }
}

/// Rewrites the header and options of a segment that [`read_usual`] has read. Each of its two forms
/// is written out, so that of neither the length has to be looked at.
#[inline(always)]
fn translate<B: Buffer>(packet: &mut B, read: &Segment, rewrite: impl Fn(&mut [u8], &Segment)) {
    let Some(segment) = packet.bytes_mut().get_mut(TRANSPORT..) else {
        return;
    };
    match read.options.timestamps {
        Some(stamps) => {
            if let Some(segment) = segment.first_chunk_mut::<{ 20 + 12 }>() {
                let options = TcpOptions {
                    timestamps: Some(Timestamps {
                        offset: 20 + 4,
                        ..stamps
                    }),
                    ..TcpOptions::default()
                };
                rewrite(segment, &Segment { options, ..*read });
            }
        }
        None => {
            if let Some(segment) = segment.first_chunk_mut::<20>() {
                let options = TcpOptions::default();
                rewrite(segment, &Segment { options, ..*read });
            }
        }
    }
}

/// A segment without options, or with nothing but timestamps.
#[inline(always)]
fn read_usual(bytes: &[u8], usual: &Usual) -> Option<Segment> {
    let options = tcp_options::parse_stamps(&bytes[OPTIONS..usize::from(usual.payload)])?;
    Some(Segment {
        options,
        ..numbers_of(bytes, usual)
    })
}

/// A SYN without options, or with those that nearly everyone sends.
#[inline(always)]
fn read_usual_syn(bytes: &[u8], usual: &Usual) -> Option<Segment> {
    const KIND: u8 = flags::SYN | flags::ACK | flags::FIN | flags::RST;
    if usual.tcp_flags & KIND != flags::SYN {
        return None;
    }
    let options = tcp_options::parse_usual(&bytes[OPTIONS..usize::from(usual.payload)])?;
    Some(Segment {
        options,
        length: usual.payload_bytes() + 1,
        ..numbers_of(bytes, usual)
    })
}

/// The connection that an ACK begins, the cookie that it bears, and whether it has timestamps.
#[inline(always)]
fn proof_of(usual: &Usual, read: &Segment) -> (Tuple, Cookie, bool) {
    let stamps = read.options.timestamps;
    let cookie = Cookie {
        sequence: read.acknowledgement.wrapping_sub(1),
        timestamp: stamps.map_or(0, |stamps| stamps.echo),
    };
    let tuple = tuple_of(usual, read.sequence.wrapping_sub(1));
    (tuple, cookie, stamps.is_some())
}

#[inline(always)]
fn numbers_of(bytes: &[u8], usual: &Usual) -> Segment {
    let header = bytes[TRANSPORT..].first_chunk::<20>().unwrap_or(&[0; 20]);
    Segment {
        sequence: u32_at(header, field::SEQUENCE),
        acknowledgement: u32_at(header, field::ACKNOWLEDGEMENT),
        length: usual.payload_bytes(),
        window: u16_at(header, field::WINDOW),
        flags: usual.tcp_flags,
        options: TcpOptions::default(),
    }
}

#[inline(always)]
fn checksum_holds<B: Buffer>(packet: &B, usual: &Usual) -> bool {
    match packet.transport_checksum() {
        ChecksumStatus::Good => true,
        ChecksumStatus::Bad => false,
        ChecksumStatus::Unknown => usual::segment_is_sound(packet.bytes(), usual),
    }
}
