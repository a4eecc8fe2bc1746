//! The short walk of usual frames ([`crate::usual`]): read → look up → handle → send, beside the
//! others of their burst and in their order.

use super::walk::Facts;
use super::{Time, Worker, context};
use crate::context::Context;
use crate::guard::cookie::Awaited;
use crate::guard::{Side, UsualLookup, UsualVerdict};
use crate::hop::{ExitKey, Gate};
use crate::io::{Io, PortId};
use crate::limits::BURST;
use crate::packet::Buffer;
use crate::shard::Tuple;
use crate::usual::{self, Usual};
use crate::verdict::Verdict;
use crate::wire::address::Address;

/// What is known of one usual frame of a burst: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Line {
    pub(super) is_usual: bool,
    exit: ExitKey,
    usual: Usual,
    pub(super) lookup: UsualLookup,
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    const NONE: Self = Self {
        is_usual: false,
        exit: ExitKey::NONE,
        usual: Usual::NONE,
        lookup: UsualLookup::NONE,
    };

    /// Room for a burst's lines.
    pub(super) fn of_burst() -> Box<[Self]> {
        vec![Self::NONE; BURST].into()
    }
}

/// How a burst of usual frames comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenGate {
    gate: Gate,
    side: Side,
}

impl<I: Io> Worker<I> {
    /// How usual frames of this port come in; `None` while all must take the general walk.
    #[inline]
    pub(super) fn open_gate(&self, port: PortId) -> Option<OpenGate> {
        if self.transmit.tap.is_some() {
            return None;
        }
        let gate = self.hop.gate_of(port)?;
        let side = self.guard.side_of(gate.interface);
        Some(OpenGate { gate, side })
    }

    /// Reads, steers and admits a frame, if it is usual and this worker's. If not, nothing is done.
    #[inline(always)]
    pub(super) fn read_usual(
        &mut self,
        gate: Option<&OpenGate>,
        frame: &I::Buffer,
        line: &mut Line,
    ) -> bool {
        let Some(OpenGate { gate, side }) = gate else {
            return false;
        };
        let Some(usual) = usual::read(frame, gate.station) else {
            return false;
        };
        if self.mesh.workers() > 1 && !self.owns(&usual) {
            return false;
        }
        let Some(exit) = self.hop.judge_usual(gate, &usual) else {
            return false;
        };
        line.usual = usual;
        line.exit = exit;
        self.guard.prepare_usual(*side, &usual, &mut line.lookup);
        let traffic = self.counters.traffic_mut(usize::from(gate.interface.0));
        traffic.received_packets += 1;
        traffic.received_bytes += frame.bytes().len() as u64;
        true
    }

    fn owns(&self, usual: &Usual) -> bool {
        let tuple = Tuple {
            source: Address::from_v4(usual.source.to_be_bytes()),
            destination: Address::from_v4(usual.destination.to_be_bytes()),
            source_port: usual.source_port(),
            destination_port: usual.destination_port(),
        };
        self.shard.worker_of_tuple(&tuple) == self.mesh.own()
    }

    /// Has the cookies' codes made of those that no session is known for, all at once.
    #[inline(always)]
    pub(super) fn make_codes(
        &mut self,
        gate: Option<&OpenGate>,
        frames: &[I::Buffer],
        lines: &mut [Line],
        time: Time,
    ) {
        if !gate.is_some_and(|gate| self.guard.goes_by_cookies(gate.side)) {
            return;
        }
        let mut awaited = Awaited::default();
        let usual = lines.iter_mut().zip(frames).enumerate();
        for (place, (line, frame)) in usual.filter(|(_, (line, _))| line.is_usual) {
            let (usual, lookup) = (&line.usual, &mut line.lookup);
            self.guard
                .await_codes(place, frame, usual, lookup, time.unix_s(), &mut awaited);
        }
        self.guard
            .make_codes(&awaited, time.unix_s(), |place, codes| {
                lines[place].lookup.take_codes(codes);
            });
    }

    /// Decides on a usual frame, and does it.
    #[inline(always)]
    pub(super) fn handle_usual(
        &mut self,
        port: PortId,
        open: &OpenGate,
        frame: I::Buffer,
        line: &Line,
        facts: &mut Facts,
        time: Time,
    ) {
        let gate = &open.gate;
        let mut ctx = context!(self, time);
        let verdict = self.guard.handle_usual(
            frame,
            &line.usual,
            open.side,
            gate.interface,
            &line.lookup,
            &mut ctx,
        );
        match verdict {
            UsualVerdict::Forward(frame) => {
                let sent = self
                    .hop
                    .forward_usual(frame, line.usual.end, line.exit, &mut ctx);
                if let Err(frame) = sent {
                    self.forward_generally(port, frame, facts, time);
                }
            }
            UsualVerdict::Reply(frame) => self.hop.reply_usual(frame, gate, &mut ctx),
            UsualVerdict::Drop(frame, reason) => self.drop_later(frame, reason),
            UsualVerdict::General(frame) => self.handle_generally(port, frame, facts, time),
        }
    }

    /// A frame that turned out to need the general walk.
    #[cold]
    #[inline(never)]
    fn handle_generally(&mut self, port: PortId, frame: I::Buffer, facts: &mut Facts, time: Time) {
        if let Err(reason) = self.parse(port, &frame, facts) {
            self.counters.dropped(reason);
        } else if let Some(frame) = self.admit(frame, facts, time) {
            facts.lookup = self.guard.prepare(&facts.parsed, facts.interface);
            self.handle(port, frame, facts, time);
        }
    }

    /// A frame whose way out is not at hand, or asks for more than a header.
    #[inline(never)]
    fn forward_generally(&mut self, port: PortId, frame: I::Buffer, facts: &mut Facts, time: Time) {
        if let Err(reason) = self.parse(port, &frame, facts) {
            return self.counters.dropped(reason);
        }
        let way = self
            .hop
            .egress(facts.parsed.destination, Some(facts.interface));
        let verdict = Verdict::Forward(frame);
        self.settle(verdict, &facts.parsed, facts.interface, way.as_ref(), time);
        self.route_outbox(time);
    }
}
