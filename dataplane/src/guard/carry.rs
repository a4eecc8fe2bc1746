//! A guard without addresses lets the server's own path bring the answer: the SYN goes to the
//! server in an echo request, and whichever guard the echo reply comes through answers the client
//! with the cookie (seed 000 FIG. 8 and 10, seed 001 claims 13–20).
//!
//! A server whose pings are dropped or limited is noticed ([`super::echoes`]): its SYNs are answered at
//! once, and it is asked again now and then by an echo that nobody answers.

use super::answer::{self, Ends};
use super::config::{Action, EchoMode, Mode};
use super::echoes::{CarriedSyns, Course, EchoStanding, Listener, Sent, SynPlace};
use super::icmp::message_is_sound;
use super::session::SessionKey;
use super::splice::Segment;
use super::{Direction, Guard, Lookup};
use crate::bridge::{self, Bridge, LinkHeader, Paths};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::echo::{self, EchoError, EchoMessage};
use crate::io::{InterfaceId, Io};
use crate::limits::MAX_PLACES;
use crate::packet::Buffer;
use crate::parse::{Parsed, flags, protocol};
use crate::verdict::{Verdict, or_drop};
use crate::wire::address::Address;
use crate::wire::bytes::u32_at;
use crate::wire::tcp::field;

/// What a guard on a transparent wire keeps.
pub(super) struct Carrier {
    /// By the servers' places.
    listeners: Vec<Listener>,
    carried: CarriedSyns,
    to_servers: Vec<Option<LinkHeader>>,
    to_clients: Paths,
}

impl Carrier {
    pub(super) fn new(key: u128) -> Box<Self> {
        Box::new(Self {
            listeners: vec![Listener::default(); MAX_PLACES],
            carried: CarriedSyns::new(),
            to_servers: vec![None; MAX_PLACES],
            to_clients: Paths::new(key),
        })
    }

    /// The place is another server's now.
    pub(super) fn forget(&mut self, place: u16) {
        self.listeners[usize::from(place)] = Listener::default();
        self.to_servers[usize::from(place)] = None;
    }
}

impl<B: Buffer> Guard<B> {
    /// The wire that this guard stands in, if it is transparent.
    #[inline]
    pub fn bridge(&self) -> Option<Bridge> {
        let transparent = self.config.transparent.as_ref()?;
        self.carrier.is_some().then_some(transparent.bridge)
    }

    /// Whether every frame of the wire is to cross as it is: there is nothing to guard, no rule that
    /// tells frames apart, and nothing under way from before.
    #[inline]
    pub(crate) fn lets_all_cross(&self, now_ns: u64) -> bool {
        let echo = self.config.transparent.as_ref().map(|wire| wire.echo);
        let sends_all_on = matches!(
            self.config.rules.outcome_of_all(),
            Some(Action::Forward | Action::Guard | Action::GuardShared(_))
        );
        self.config.mode == Mode::Off
            && (self.config.servers.is_empty() || echo == Some(EchoMode::Off))
            && self.config.probe_from.is_empty()
            && sends_all_on
            && self.sessions.is_empty()
            && !self.shares.is_on()
            && !self.has_cookies_out(now_ns)
    }

    /// Whether `address` is that of a server of ours.
    pub fn is_server(&self, address: Address) -> bool {
        self.servers.find(address).is_some()
    }

    /// The side that `destination` is on and the link-layer header that leads there, for a packet
    /// made here.
    pub fn path_to(&self, destination: Address) -> Option<(Direction, &LinkHeader)> {
        let carrier = self.carrier.as_ref()?;
        match self.servers.find(destination) {
            Some(place) => {
                let header = carrier.to_servers[usize::from(place)].as_ref()?;
                Some((Direction::ToServer, header))
            }
            None => {
                let header = carrier.to_clients.find(destination)?;
                Some((Direction::ToClient, header))
            }
        }
    }

    /// What is known of the pings of the server at `place`; `None` unless the guard is transparent.
    pub fn echo_of(&self, place: u16) -> Option<EchoStanding> {
        let (carrier, config) = (self.carrier.as_ref()?, self.config.transparent.as_ref()?);
        Some(match config.echo {
            EchoMode::Off => EchoStanding::Off,
            EchoMode::Always => EchoStanding::Answers,
            EchoMode::Auto => carrier.listeners[usize::from(place)].standing(),
        })
    }

    /// Sends a SYN for a protected server to that server in an echo request, or answers it.
    pub(super) fn carry_syn<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let place = lookup.key.server;
        let Some(echo) = self.config.transparent.as_ref().map(|wire| wire.echo) else {
            return self.answer_syn(place, packet, parsed, ctx);
        };
        let can_be = bridge::check_syn(packet.bytes(), parsed)
            .and_then(|()| Segment::read_syn(packet.bytes(), parsed))
            .and_then(|read| match read.is_mss_too_small() {
                true => Err(DropReason::MssTooSmall),
                false => Ok(read.sequence),
            });
        let sequence = or_drop!(packet, can_be);
        let course = match echo {
            EchoMode::Always => Course::Carry,
            EchoMode::Off => Course::Answer,
            EchoMode::Auto => self.choose_course(lookup, sequence, ctx),
        };
        if course == Course::Answer {
            return self.answer_syn(place, packet, parsed, ctx);
        }
        if !self.checksum_holds(&packet, parsed) {
            return Verdict::Drop(packet, DropReason::BadTransportChecksum);
        }
        if self.is_draining {
            return Verdict::Drop(packet, DropReason::Draining);
        }
        if echo == EchoMode::Auto {
            self.remember_syn(lookup, sequence, course, ctx.now_ns);
        }
        if course == Course::AnswerAndProbe {
            self.probe_by_echo(&packet, parsed, ctx);
            return self.answer_syn(place, packet, parsed, ctx);
        }
        let Some(transparent) = &self.config.transparent else {
            return Verdict::Drop(packet, DropReason::NoBuffer);
        };
        if !echo::wrap(&mut packet, parsed, 0, &transparent.jar, ctx.unix_ms) {
            return Verdict::Drop(packet, DropReason::NoBuffer);
        }
        ctx.counters.count(Event::EchoCarried);
        self.cookie_sent_ns = Some(ctx.now_ns);
        Verdict::Forward(packet)
    }

    /// What is to become of a SYN where servers are judged. One that its client repeats is answered:
    /// its echo came to nothing, or the answer did not reach the client.
    #[inline(never)]
    fn choose_course<I: Io<Buffer = B>>(
        &mut self,
        lookup: &Lookup,
        sequence: u32,
        ctx: &mut Context<'_, I>,
    ) -> Course {
        let Some(carrier) = &mut self.carrier else {
            return Course::Answer;
        };
        let listener = &mut carrier.listeners[usize::from(lookup.key.server)];
        if let Some(change) = listener.look(ctx.now_ns) {
            ctx.counters.count(change);
        }
        let syn = SynPlace::of(lookup.hash, sequence);
        if listener.may_carry()
            && let Some(sent) = carrier.carried.settle(syn)
        {
            listener.hear_again(sent, ctx.now_ns);
            ctx.counters.count(Event::EchoRepeated);
            return Course::Answer;
        }
        listener.choose(self.shares.is_on(), ctx.now_ns)
    }

    /// Remembers a SYN whose echo leaves now, so that its return is known and its repetition too.
    #[inline(never)]
    fn remember_syn(&mut self, lookup: &Lookup, sequence: u32, course: Course, now_ns: u64) {
        let Some(carrier) = &mut self.carrier else {
            return;
        };
        let listener = &mut carrier.listeners[usize::from(lookup.key.server)];
        let sent = Sent {
            number: listener.send(now_ns),
            is_settled: course == Course::AnswerAndProbe,
        };
        let syn = SynPlace::of(lookup.hash, sequence);
        carrier.carried.insert(syn, sent);
    }

    /// Asks a silent server whether it answers pings again, by a copy of the SYN in `packet`.
    #[cold]
    fn probe_by_echo<I: Io<Buffer = B>>(
        &mut self,
        packet: &B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) {
        let Some(transparent) = &self.config.transparent else {
            return;
        };
        let Some(mut copy) = ctx.allocate() else {
            return;
        };
        // What follows the header, if anything, is not carried.
        let frame = &packet.bytes()[..usize::from(parsed.payload)];
        let is_made = copy.set_len(frame.len()) && {
            copy.bytes_mut().copy_from_slice(frame);
            let (flags, jar) = (echo::flag::PROBE, &transparent.jar);
            echo::wrap(&mut copy, parsed, flags, jar, ctx.unix_ms)
        };
        if !is_made {
            return ctx.discard(copy, DropReason::NoBuffer);
        }
        ctx.counters.count(Event::EchoProbed);
        let inside = transparent.bridge.inside;
        ctx.transmit(inside.port, inside.interface, copy);
    }

    /// An ICMP message that may concern an echo of ours; back comes what does not.
    #[inline]
    pub(super) fn take_icmp<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Result<Verdict<B>, B> {
        match echo::message_of(packet.bytes(), parsed) {
            Some(message) if message.is_reply => {
                Ok(self.take_echo(message, packet, parsed, interface, ctx))
            }
            Some(_) => Err(packet),
            // What it quotes would tell the client of a message that it has not sent.
            None if super::icmp::quotes_our_echo(packet.bytes(), parsed) => {
                Ok(Verdict::Drop(packet, DropReason::EchoRefused))
            }
            None => Err(packet),
        }
    }

    /// An echo reply with our mark: the client never sees it. A good one is answered by the cookie
    /// SYN-ACK for the SYN that it carries, in its own frame.
    fn take_echo<I: Io<Buffer = B>>(
        &mut self,
        message: EchoMessage,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let Some(transparent) = &self.config.transparent else {
            return Verdict::Drop(packet, DropReason::EchoUnprotected);
        };
        if !self.config.inside.contains(interface) {
            return Verdict::Drop(packet, DropReason::EchoMisplaced);
        }
        if !message_is_sound(packet.bytes(), parsed) {
            return Verdict::Drop(packet, DropReason::BadTransportChecksum);
        }
        let payload = &packet.bytes()[message.payload..usize::from(parsed.end)];
        let ends = (parsed.destination, parsed.source);
        let carried = match transparent.jar.open(payload, ends, ctx.unix_ms) {
            Ok(carried) => carried,
            Err(error) => return Verdict::Drop(packet, reason_of(error)),
        };
        let syn = carried_syn(packet.bytes(), parsed, message, carried.tcp_bytes);
        let place = self.servers.find(syn.destination);
        let Some(place) =
            place.filter(|&place| self.servers.get(place).protects(syn.destination_port))
        else {
            return Verdict::Drop(packet, DropReason::EchoUnprotected);
        };
        self.hear_echo(place, &syn, packet.bytes(), ctx);
        if carried.flags & echo::flag::PROBE != 0 {
            drop(packet);
            ctx.counters.count(Event::EchoProbeReturned);
            ctx.counters.count(Event::Consumed);
            return Verdict::Hold;
        }
        self.answer_carried(place, &syn, packet, parsed, ctx)
    }

    /// An echo of a guard with our keys came back, maybe one that left here.
    fn hear_echo<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        syn: &Parsed,
        frame: &[u8],
        ctx: &mut Context<'_, I>,
    ) {
        let key = SessionKey {
            client: syn.source,
            client_port: syn.source_port,
            server_port: syn.destination_port,
            server: place,
        };
        let hash = self.sessions.hash(&key);
        let Some(carrier) = &mut self.carrier else {
            return;
        };
        let sequence = u32_at(frame, usize::from(syn.transport) + field::SEQUENCE);
        let sent = carrier.carried.settle(SynPlace::of(hash, sequence));
        let number = sent.map(|sent| sent.number);
        let heard = carrier.listeners[usize::from(place)].hear(number, ctx.now_ns);
        if let Some(event) = heard {
            ctx.counters.count(event);
        }
    }

    fn answer_carried<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        syn: &Parsed,
        mut packet: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        if syn.tcp_flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) != flags::SYN {
            return Verdict::Drop(packet, DropReason::EchoMalformed);
        }
        if self.is_draining {
            return Verdict::Drop(packet, DropReason::Draining);
        }
        let answered = Segment::read_syn(packet.bytes(), syn)
            .and_then(|read| self.cookie_answer(place, &read, syn, ctx));
        let (answer, options) = match answered {
            Ok(answered) => answered,
            Err(reason) => return Verdict::Drop(packet, reason),
        };
        let network = usize::from(parsed.network);
        let into = &mut packet.bytes_mut()[network..];
        match answer::write(into, Ends::back(syn), &answer, &options) {
            Some(length) if packet.set_len(network + length) => {
                ctx.counters.count(Event::EchoReturned);
                Verdict::Forward(packet)
            }
            _ => Verdict::Drop(packet, DropReason::NoBuffer),
        }
    }

    /// A frame of a client that is proved, whose SYN had this number: its header leads to the server,
    /// and back.
    pub(super) fn learn_from_client(
        &mut self,
        lookup: &Lookup,
        client_sequence: u32,
        frame: &[u8],
        parsed: &Parsed,
        now_ns: u64,
    ) {
        let Some(carrier) = &mut self.carrier else {
            return;
        };
        let place = usize::from(lookup.key.server);
        let network = usize::from(parsed.network);
        let sent = carrier
            .carried
            .settle(SynPlace::of(lookup.hash, client_sequence));
        carrier.listeners[place].hear_of_cookie(sent, now_ns);
        if let Some(header) = bridge::header_of(frame, network) {
            carrier.to_servers[place] = Some(header);
        }
        if let Some(header) = bridge::header_back(frame, network) {
            carrier.to_clients.learn(parsed.source, header);
        }
    }

    /// The answer of the server at `place`, for a session that is proved: its header leads to the
    /// client, and back.
    pub(super) fn learn_from_server(&mut self, place: u16, frame: &[u8], parsed: &Parsed) {
        let Some(carrier) = &mut self.carrier else {
            return;
        };
        let network = usize::from(parsed.network);
        if let Some(header) = bridge::header_of(frame, network) {
            carrier.to_clients.learn(parsed.destination, header);
        }
        // What clients' frames bear is better known.
        let known = &mut carrier.to_servers[usize::from(place)];
        if known.is_none() {
            *known = bridge::header_back(frame, network);
        }
    }
}

const fn reason_of(error: EchoError) -> DropReason {
    match error {
        EchoError::Malformed => DropReason::EchoMalformed,
        EchoError::Version => DropReason::EchoVersion,
        EchoError::Forged => DropReason::EchoForged,
        EchoError::Expired => DropReason::EchoExpired,
    }
}

/// The facts of the SYN that an echo reply brought back, where it stands in the reply.
fn carried_syn(frame: &[u8], parsed: &Parsed, message: EchoMessage, tcp_bytes: usize) -> Parsed {
    let transport = message.payload + echo::HEADER_BYTES;
    let port = |place: usize| {
        let at = transport + place;
        u16::from_be_bytes([frame[at], frame[at + 1]])
    };
    let end = (transport + tcp_bytes) as u16;
    Parsed {
        source: parsed.destination,
        destination: parsed.source,
        source_port: port(field::SOURCE_PORT),
        destination_port: port(field::DESTINATION_PORT),
        transport: transport as u16,
        payload: end,
        end,
        protocol: protocol::TCP,
        tcp_flags: frame[transport + field::OFFSET_AND_FLAGS + 1],
        ..*parsed
    }
}
