//! Asking a server what it does before the first client comes: a SYN from our own address, whose
//! SYN-ACK is read and reset. The application behind it never hears of it.
//!
//! The probe's number is a cookie, so the answer proves itself to whichever worker it meets; a
//! worker that is not met asks again, from another port.

use super::Guard;
use super::answer::{self, Answer, Ends, Options};
use super::cookie::{Agreed, Cookie, Tuple};
use super::server::{Heard, Offered};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::packet::Buffer;
use crate::parse::{Parsed, flags};
use crate::verdict::{Verdict, or_drop};
use crate::wire::address::Address;

/// From one round of questions to the next.
const INTERVAL_NS: u64 = 1_000_000_000;
/// Services asked in one turn of the loop,
const MAX_ASKED: usize = 8;
/// and looked at.
const MAX_LOOKED_AT: usize = 64;
/// The first of the ports that are asked from (RFC 6335 §6: dynamic ports).
const FIRST_PORT: u16 = 49_152;
const PORT_COUNT: u16 = 16_384;
const _: () = assert!(PORT_COUNT.is_power_of_two());

/// Who is asked next, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Schedule {
    next_ns: u64,
    place: usize,
    /// Which of that server's ports.
    nth: usize,
    round: u16,
    /// Whether this round has asked anybody, and whether the last one did.
    has_asked: bool,
    is_idle: bool,
}

impl Schedule {
    /// When servers are next asked, unless all have answered.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        (!self.is_idle).then_some(self.next_ns)
    }

    /// The servers have changed: there may be some to ask again.
    pub(super) fn resume(&mut self) {
        self.is_idle = false;
    }
}

impl<B: Buffer> Guard<B> {
    /// Asks those services that have not answered yet, a bounded number at once.
    #[inline]
    pub(super) fn probe_servers<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        if ctx.now_ns >= self.probe.next_ns {
            self.probe_round(ctx);
        }
    }

    #[cold]
    fn probe_round<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        let mut asked = 0;
        for _ in 0..MAX_LOOKED_AT {
            let has_room = ctx.outbox.remaining_capacity() >= MAX_ASKED;
            if self.probe.place >= self.servers.len() || asked == MAX_ASKED || !has_room {
                break;
            }
            let (place, nth) = (self.probe.place as u16, self.probe.nth);
            let port = self.servers.get(place).probed_ports().nth(nth);
            if let Some(port) = port {
                asked += usize::from(self.ask(place, port, ctx));
                self.probe.nth += 1;
            } else {
                self.probe.place += 1;
                self.probe.nth = 0;
            }
        }
        if self.probe.place >= self.servers.len() {
            self.probe.place = 0;
            self.probe.round = self.probe.round.wrapping_add(1);
            self.probe.next_ns = ctx.now_ns + INTERVAL_NS;
            self.probe.is_idle = !std::mem::take(&mut self.probe.has_asked);
        }
    }

    /// Whether the service was asked.
    fn ask<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        server_port: u16,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        let server = self.servers.get(place);
        let family = server.address.family();
        let from = self
            .config
            .probe_from
            .iter()
            .find(|own| own.family() == family);
        let Some(&own) = from else {
            return false;
        };
        if self.servers.is_learned(place, server_port) || self.is_draining {
            return false;
        }
        let port = self.port_to_ask_from(own, (place, server_port), ctx);
        let ends = Ends {
            source: own,
            destination: server.address,
            source_port: port,
            destination_port: server_port,
        };
        let tuple = Tuple {
            client: own,
            server: server.address,
            client_port: port,
            server_port,
            client_sequence: 0,
        };
        let cookie = self
            .config
            .jar
            .make(&tuple, Agreed::default(), ctx.unix_s());
        let options = Options {
            mss: Some(self.largest_mss(family)),
            window_scale: Some(0),
            sack_permitted: true,
            timestamps: Some((1, 0)),
        };
        let syn = Answer {
            sequence: cookie.sequence,
            acknowledgement: 0,
            flags: flags::SYN | flags::ECE | flags::CWR,
            window: 0xffff,
        };
        self.probe.has_asked = true;
        let is_sent = answer::send(ends, &syn, &options, ctx);
        if is_sent {
            ctx.counters.count(Event::ProbeSent);
        }
        is_sent
    }

    /// A port that nobody outside can tell (RFC 6056 §3.1), and another one in each round: bits of a
    /// cookie that is never sent.
    fn port_to_ask_from<I: Io<Buffer = B>>(
        &self,
        own: Address,
        (place, server_port): (u16, u16),
        ctx: &Context<'_, I>,
    ) -> u16 {
        let unsent = Tuple {
            client: own,
            server: self.servers.get(place).address,
            client_port: 0,
            server_port,
            client_sequence: self.probe.round.into(),
        };
        let jar = &self.config.jar;
        let cookie = jar.make(&unsent, Agreed::default(), ctx.unix_s());
        let mixed = cookie.sequence.wrapping_mul(0x9e37_79b9);
        FIRST_PORT + (mixed >> (32 - PORT_COUNT.trailing_zeros())) as u16
    }

    /// Learns from a service's SYN-ACK that has proved to be its own.
    pub(super) fn learn<I: Io<Buffer = B>>(
        &mut self,
        place: u16,
        port: u16,
        heard: &Heard<'_>,
        ctx: &mut Context<'_, I>,
    ) {
        self.tallies.answered(place, port);
        if !self.servers.learn(place, port, heard) {
            ctx.counters.count(Event::ServiceUnkept);
        }
    }

    /// A segment for one of our own addresses: a server's answer to a probe, or nothing of ours.
    pub fn take_local<I: Io<Buffer = B>>(
        &mut self,
        packet: B,
        parsed: &Parsed,
        interface: InterfaceId,
        ctx: &mut Context<'_, I>,
    ) -> Verdict<B> {
        let place = self.servers.find(parsed.source);
        let Some(place) = place.filter(|_| self.config.inside.contains(interface)) else {
            return Verdict::Drop(packet, DropReason::NotForUs);
        };
        let read = or_drop!(packet, self.read_to_act_on(&packet, parsed));
        let tuple = Tuple {
            client: parsed.destination,
            server: parsed.source,
            client_port: parsed.destination_port,
            server_port: parsed.source_port,
            client_sequence: 0,
        };
        let cookie = Cookie {
            sequence: read.acknowledgement.wrapping_sub(1),
            timestamp: 0,
        };
        let is_syn_ack = read.has(flags::SYN) && read.has(flags::ACK) && !read.has(flags::RST);
        if !is_syn_ack
            || self
                .config
                .jar
                .check(&tuple, cookie, false, ctx.unix_s())
                .is_err()
        {
            return Verdict::Drop(packet, DropReason::NotForUs);
        }
        let everything = Offered {
            window_scale: true,
            sack: true,
            timestamps: true,
            ecn: true,
        };
        let ecn = read.flags & (flags::ECE | flags::CWR) == flags::ECE;
        let heard = Heard {
            offered: everything,
            options: &read.options,
            window: read.window,
            ecn,
        };
        self.learn(place, parsed.source_port, &heard, ctx);
        answer::reset(packet, parsed, read.acknowledgement, read.end(), ctx)
    }
}
