//! The sending half of a lane: takes frames from their templates when they are due.

use std::time::Duration;

use arrayvec::ArrayVec;
use bindings::mbuf::free_burst;
use bindings::{Clock, Mbuf, Mempool, TxQueue};
use dataplane::wire::address::Address;

use super::frames::{self, Flow, Template};
use super::pace::Pace;
use super::signature::{Key, Signature, TICK_NS};
use crate::traffic::{Order, Stream, Walk};

/// Frames of one call to a device; more only waits longer.
pub(super) const BURST: usize = 32;
pub(super) type Burst = ArrayVec<Mbuf, BURST>;

/// What became of the frames that were due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Frames that the device took.
    pub(super) taken: u64,
    /// Of those, frames that nobody is meant to know again.
    pub(super) unsigned: u64,
    /// Frames that found the other side's ring full: it did not fetch in time.
    pub(super) refused: u64,
    /// When the first left, by the trial's clock.
    pub(super) first_ns: Option<u64>,
    /// When the last left.
    pub(super) last_ns: u64,
}

impl Sent {
    pub(super) fn merge(&mut self, other: Self) {
        self.taken += other.taken;
        self.unsigned += other.unsigned;
        self.refused += other.refused;
        self.last_ns = self.last_ns.max(other.last_ns);
        self.first_ns = match (self.first_ns, other.first_ns) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// A range that a field of the frames walks through.
pub(super) struct Range<T> {
    pub(super) first: T,
    pub(super) walk: Walk,
}

/// The fields that differ between flows.
pub(super) struct Fields {
    pub(super) source: Range<Address>,
    pub(super) destination: Range<Address>,
    pub(super) source_port: Range<u16>,
    pub(super) destination_port: Range<u16>,
}

impl<T> Range<T> {
    /// A range whose walk begins so many flows after the first.
    pub(super) fn new(first: T, count: u32, order: Order, seed: u64, skipped: u32) -> Self {
        let walk = Walk::new(count, order, seed, skipped);
        Self { first, walk }
    }
}

impl Fields {
    #[inline]
    fn flow(&self) -> Flow {
        let address = |range: &Range<Address>| {
            Address::from_bits(range.first.to_bits() + u128::from(range.walk.position()))
        };
        let port = |range: &Range<u16>| range.first.wrapping_add(range.walk.position() as u16);
        Flow {
            source: address(&self.source),
            destination: address(&self.destination),
            source_port: port(&self.source_port),
            destination_port: port(&self.destination_port),
        }
    }

    fn walks(&mut self) -> [&mut Walk; 4] {
        [
            &mut self.source.walk,
            &mut self.destination.walk,
            &mut self.source_port.walk,
            &mut self.destination_port.walk,
        ]
    }
}

/// A stream, or a lane's share of its flows.
pub(super) struct Line {
    stream: Stream,
    templates: Vec<Template>,
    /// Which template each frame of the mix takes.
    order: Vec<u32>,
    position: usize,
    fields: Fields,
    /// The first flow's number among those of its side, with the side's bit.
    first_flow: u32,
    flow: u32,
    flows: u32,
    sequence: u32,
    numbers: u64,
    pace: Pace,
}

impl Line {
    pub(super) fn new(
        stream: Stream,
        templates: Vec<Template>,
        order: Vec<u32>,
        fields: Fields,
        first_flow: u32,
    ) -> Self {
        let flows = stream.flows;
        let pace = Pace::new(0.0, stream.shape.clone(), 1.0, Duration::ZERO, 0);
        Self {
            stream,
            templates,
            order,
            position: 0,
            fields,
            first_flow,
            flow: 0,
            flows,
            sequence: 0,
            numbers: u64::from(first_flow),
            pace,
        }
    }

    fn begin(&mut self, frames_per_s: f64, factor: f64, duration: Duration) {
        self.pace = Pace::new(
            frames_per_s,
            self.stream.shape.clone(),
            factor,
            duration,
            self.stream.most(),
        );
        self.position = 0;
        self.sequence = 0;
        self.first();
    }

    fn first(&mut self) {
        self.flow = 0;
        for walk in self.fields.walks() {
            walk.reset();
        }
    }

    /// On to the next flow; after the last begins the next round, with the next number.
    #[inline]
    fn advance(&mut self) {
        self.position += 1;
        if self.position == self.order.len() {
            self.position = 0;
        }
        self.flow += 1;
        if self.flow == self.flows {
            self.sequence = self.sequence.wrapping_add(1);
            self.first();
        } else {
            for walk in self.fields.walks() {
                walk.advance();
            }
        }
    }

    #[inline]
    fn write(&mut self, stamp: &Stamp, time: u32, into: &mut Mbuf) -> bool {
        let template = &self.templates[self.order[self.position] as usize];
        if !into.set_len(template.len()) {
            return false;
        }
        let signature = Signature {
            trial: stamp.trial,
            flow: self.first_flow + self.flow,
            sequence: self.sequence,
            time,
        };
        let numbers = frames::numbers(&mut self.numbers);
        let flow = self.fields.flow();
        template.write(&flow, signature.write(stamp.key), numbers, into.data_mut());
        true
    }
}

/// What all signatures of a trial share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) key: Key,
    pub(super) trial: u16,
}

/// The streams that a lane sends.
pub(super) struct Generator {
    lines: Vec<Line>,
    stamp: Stamp,
    /// Whether a full device means that the other side of it does not fetch: as on a cable, such
    /// frames are sent and lost.
    refuses: bool,
    /// Frames that the device had no room for yet.
    pending: Burst,
    next: usize,
    sent: Sent,
}

impl Generator {
    pub(super) fn new(lines: Vec<Line>, stamp: Stamp, refuses: bool) -> Self {
        Self {
            lines,
            stamp,
            refuses,
            pending: Burst::new(),
            next: 0,
            sent: Sent::default(),
        }
    }

    /// Prepares a trial, in which every stream sends `factor` times as often as by itself.
    /// `line_bits_per_s` is what shares of the line's rate are shares of.
    pub(super) fn begin(
        &mut self,
        trial: u16,
        factor: f64,
        line_bits_per_s: f64,
        duration: Duration,
    ) {
        self.stamp.trial = trial;
        self.sent = Sent::default();
        free_burst(&mut self.pending);
        for line in &mut self.lines {
            let rate = line.stream.frames_per_s_within_a_burst(line_bits_per_s);
            line.begin(rate, factor, duration);
        }
    }

    /// Sends what is due, at most one burst of one stream.
    #[inline]
    pub(super) fn poll(&mut self, clock: &Clock, queue: &mut TxQueue, pool: &Mempool) {
        let now_ns = clock.now_ns();
        if !self.pending.is_empty() {
            let sent = queue.transmit(&mut self.pending);
            self.note(sent, now_ns);
            if !self.pending.is_empty() {
                return;
            }
        }
        // Each stream comes first in its turn.
        for _ in 0..self.lines.len() {
            self.next += 1;
            if self.next >= self.lines.len() {
                self.next = 0;
            }
            let line = &mut self.lines[self.next];
            let due = line.pace.due(now_ns).min(BURST as u64) as usize;
            if due > 0 {
                self.send(due, now_ns, queue, pool);
                return;
            }
        }
    }

    #[inline]
    fn send(&mut self, count: usize, now_ns: u64, queue: &mut TxQueue, pool: &Mempool) {
        let line = &mut self.lines[self.next];
        if !pool.allocate_burst(&mut self.pending, count) {
            return;
        }
        let time = (now_ns / TICK_NS) as u32;
        let mut is_written = true;
        for frame in &mut self.pending {
            is_written &= line.write(&self.stamp, time, frame);
            line.advance();
        }
        line.pace.sent(count as u64);
        if !is_written {
            // No buffer of the pool has room for such a frame.
            free_burst(&mut self.pending);
            line.pace.give_up(count as u64);
            return;
        }
        if !line.stream.is_signed {
            self.sent.unsigned += count as u64;
        }
        let taken = queue.transmit(&mut self.pending);
        self.note(taken, now_ns);
        if self.refuses && !self.pending.is_empty() {
            self.sent.refused += self.pending.len() as u64;
            free_burst(&mut self.pending);
        }
    }

    #[inline]
    fn note(&mut self, taken: usize, now_ns: u64) {
        if taken > 0 {
            self.sent.taken += taken as u64;
            self.sent.first_ns.get_or_insert(now_ns);
            self.sent.last_ns = now_ns;
        }
    }

    /// Ends sending; what was sent, and how many frames were due by then and were not.
    pub(super) fn finish(&mut self, elapsed_ns: u64) -> (Sent, u64) {
        let mut unsent = self.pending.len() as u64;
        free_burst(&mut self.pending);
        for line in &mut self.lines {
            unsent += line.pace.finish(elapsed_ns);
        }
        (self.sent, unsent)
    }
}
