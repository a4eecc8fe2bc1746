//! The guard's part in the short walk of usual frames ([`crate::usual`]): an open session's
//! segments, a SYN that is answered by a cookie, an ACK whose cookie is wrong, and what is not
//! guarded. Everything else, and everything that is out of the ordinary in these, is left to the
//! general walk, with nothing done yet.

use super::Guard;
use super::answer::{self, Answer, Ends, Options};
use super::config::{Action, Mode, Unknown};
use super::cookie::{Awaited, Claim, Codes, Cookie, CookieError, Statement, Tuple};
use super::forms::{Form, Offer, Terms};
use super::session::{SessionKey, State, flag};
use super::splice::{Segment, check_client, is_out_of_turn, skip_unseen, to_client, to_server};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::{Candidate, Hash, Id};
use crate::io::{InterfaceId, Io};
use crate::packet::{Buffer, ChecksumStatus};
use crate::parse::parse;
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
    /// Whether `codes` have been made.
    has_codes: bool,
    /// The codes of the cookie that the segment asks for or bears.
    codes: Codes,
    /// What a SYN's cookie says, of which `codes` have been made.
    statement: Statement,
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
        has_codes: false,
        codes: Codes::NONE,
        statement: Statement::NONE,
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
            ..UsualLookup::NONE
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
        &mut self,
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
            let Some(form) = Form::of(bytes, usual, lookup.server) else {
                return;
            };
            lookup.statement = self.terms(form).statement;
            let claim = Claim::new(lookup.statement, unix_s);
            (tuple_of(usual, sequence_of(bytes)), claim)
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
        let codes = codes.unwrap_or_else(|| self.config.jar.codes_alone(&tuple, &claim));
        debug_assert_eq!(codes, self.config.jar.codes(&tuple, &claim));
        match claim.judge(cookie, codes) {
            Ok(_) => General(packet),
            Err(CookieError::Invalid) => Drop(packet, DropReason::CookieInvalid),
            Err(CookieError::Expired) => Drop(packet, DropReason::CookieExpired),
        }
    }

    /// A SYN: answered by a cookie, in its own buffer. No peer is told: shared sessions do not come here.
    #[inline(always)]
    fn answer_usual<I: Io<Buffer = B>>(
        &mut self,
        mut packet: B,
        usual: &Usual,
        lookup: &UsualLookup,
        ctx: &mut Context<'_, I>,
    ) -> UsualVerdict<B> {
        let form = match Form::of(packet.bytes(), usual, lookup.server) {
            Some(form) if checksum_holds(&packet, usual) => form,
            _ => return General(packet),
        };
        self.count_syn(lookup.server, usual.destination_port(), ctx);
        let terms = *self.terms(form);
        if terms.offer == Offer::Refused {
            return Drop(packet, DropReason::MssTooSmall);
        }
        let tuple = tuple_of(usual, sequence_of(packet.bytes()));
        let claim = Claim::new(terms.statement, ctx.unix_s());
        // An answer to another frame of the burst may have changed what is known of the server.
        let codes = lookup
            .codes()
            .filter(|_| lookup.statement == terms.statement)
            .unwrap_or_else(|| self.config.jar.codes_alone(&tuple, &claim));
        debug_assert_eq!(codes, self.config.jar.codes(&tuple, &claim));
        let cookie = claim.cookie(codes);
        ctx.counters.count(Event::CookieSent);
        self.cookie_sent_ns = Some(ctx.now_ns);
        let answer = Answer {
            sequence: cookie.sequence,
            acknowledgement: tuple.client_sequence.wrapping_add(1),
            flags: terms.flags,
            window: terms.window,
        };
        let ends = Ends {
            source: tuple.server,
            destination: tuple.client,
            source_port: tuple.server_port,
            destination_port: tuple.client_port,
        };
        let into = &mut packet.bytes_mut()[NETWORK..usize::from(usual.end)];
        // With options, the SYN has all of them.
        let stamps = |into: &[u8]| (cookie.timestamp, u32_at(into, STAMP - NETWORK));
        let written = match terms.offer {
            Offer::All { mss, window_scale } => {
                let options = Options {
                    mss: Some(mss),
                    window_scale: Some(window_scale),
                    sack_permitted: true,
                    timestamps: Some(stamps(into)),
                };
                answer::write_with(into, ends, &answer, &options)
            }
            Offer::Some(options) => {
                let timestamps = options.timestamps.map(|_| stamps(into));
                let options = Options {
                    timestamps,
                    ..options
                };
                answer::write_some(into, ends, &answer, &options)
            }
            Offer::Refused => None,
        };
        match written {
            Some(length) if packet.set_len(NETWORK + length) => Reply(packet),
            _ => Drop(packet, DropReason::NoBuffer),
        }
    }

    /// What SYNs of a form are answered.
    #[inline(always)]
    fn terms(&mut self, form: Form) -> &Terms {
        let changes = self.servers.changes();
        if !self.forms.has(form, changes) {
            self.find_terms(form);
        }
        self.forms.at(form)
    }

    #[cold]
    #[inline(never)]
    fn find_terms(&mut self, form: Form) {
        let traits = self.servers.traits(form.place(), form.port());
        let terms = Terms::of(form, &traits, self.largest_mss(Family::V4));
        self.forms.remember(form, self.servers.changes(), terms);
    }
}

/// Where a usual SYN has its timestamp.
const STAMP: usize = OPTIONS + 8;

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
fn sequence_of(bytes: &[u8]) -> u32 {
    let header = bytes[TRANSPORT..].first_chunk::<20>().unwrap_or(&[0; 20]);
    u32_at(header, field::SEQUENCE)
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
