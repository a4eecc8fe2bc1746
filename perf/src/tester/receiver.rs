//! The receiving half of a lane: knows the frames of the other side again, and counts.

use hdrhistogram::Histogram;

use super::frames::filler_is_whole;
use super::sequence::{Arrival, Sequences};
use super::signature::{Found, Key, SECOND_SIDE, SIGNATURE_BYTES, Signature, TICK_NS};

/// The longest time on the way that is told apart from longer ones: less than after which the
/// times in signatures come round again.
const LONGEST_NS: u64 = 17_000_000_000;
/// Significant digits of latencies.
const DIGITS: u8 = 3;

/// What came in during a trial, in frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Frames of this trial, each once.
    pub(super) once: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) corrupted: u64,
    /// Frames of earlier trials.
    pub(super) late: u64,
    /// Frames that this side sent itself.
    pub(super) returned: u64,
    jitter_ticks: u64,
    jitters: u64,
}

/// What came in during a trial.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) counts: Counts,
    pub(super) latency_ns: Histogram<u64>,
}

impl Received {
    pub(super) fn new() -> Self {
        // The bounds are constants that the histogram takes, as every test sees.
        let latency_ns = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
            .unwrap_or_else(|error| unreachable!("fixed bounds: {error}"));
        Self {
            counts: Counts::default(),
            latency_ns,
        }
    }

    fn clear(&mut self) {
        self.counts = Counts::default();
        self.latency_ns.reset();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let (into, from) = (&mut self.counts, &other.counts);
        into.once += from.once;
        into.duplicated += from.duplicated;
        into.reordered += from.reordered;
        into.corrupted += from.corrupted;
        into.late += from.late;
        into.returned += from.returned;
        into.jitter_ticks += from.jitter_ticks;
        into.jitters += from.jitters;
        // Both have the same bounds, so every value fits.
        let _ = self.latency_ns.add(&other.latency_ns);
    }

    /// The mean difference between neighbours of a flow, in nanoseconds.
    pub(super) fn jitter_ns(&self) -> f64 {
        match self.counts.jitters {
            0 => 0.0,
            jitters => self.counts.jitter_ticks as f64 * TICK_NS as f64 / jitters as f64,
        }
    }
}

/// The flows of one stream among those of its side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The first flow behind it.
    pub(super) end: u32,
    /// Octets before the filler.
    pub(super) headers: usize,
}

/// Knows the frames that the other side sends.
pub(super) struct Receiver {
    key: Key,
    trial: u16,
    /// The side bit of what the other side sends.
    side: u32,
    known: Vec<Known>,
    /// Octets of the frames that this side sends itself.
    own_sizes: Vec<usize>,
    sequences: Sequences,
    pub(super) received: Received,
}

impl Receiver {
    /// For the frames of the streams `known`, sent by the side that is the second or not.
    pub(super) fn new(
        key: Key,
        is_from_second: bool,
        known: Vec<Known>,
        own_sizes: Vec<usize>,
        sequences: Sequences,
    ) -> Self {
        Self {
            key,
            trial: 0,
            side: if is_from_second { SECOND_SIDE } else { 0 },
            known,
            own_sizes,
            sequences,
            received: Received::new(),
        }
    }

    pub(super) fn begin(&mut self, trial: u16) {
        self.trial = trial;
        self.sequences.clear();
        self.received.clear();
    }

    fn last(frame: &[u8]) -> Option<&[u8; SIGNATURE_BYTES]> {
        frame.last_chunk()
    }

    /// Asks the processor for what counting the frame will need.
    #[inline]
    pub(super) fn prefetch(&self, frame: &[u8]) {
        if let Some(octets) = Self::last(frame) {
            let (Found::Valid(signature) | Found::Doubtful(signature)) =
                Signature::read(octets, self.key);
            self.sequences.prefetch(signature.flow & !SECOND_SIDE);
        }
    }

    /// Counts a frame; false if it bears no signature of this process.
    #[inline]
    pub(super) fn take(&mut self, frame: &[u8], now_ns: u64) -> bool {
        let Some(octets) = Self::last(frame) else {
            return false;
        };
        match Signature::read(octets, self.key) {
            Found::Valid(signature) => self.count(signature, frame, now_ns),
            Found::Doubtful(signature) => self.doubt(signature, frame),
        }
    }

    #[inline]
    fn count(&mut self, signature: Signature, frame: &[u8], now_ns: u64) -> bool {
        let flow = signature.flow & !SECOND_SIDE;
        if signature.flow & SECOND_SIDE != self.side {
            // What quotes such a frame, as an ICMP error does, has another size.
            if self.own_sizes.contains(&frame.len()) {
                self.received.counts.returned += 1;
                return true;
            }
            return false;
        }
        if signature.trial != self.trial || flow >= self.sequences.flows() {
            self.received.counts.late += 1;
            return true;
        }
        if !filler_is_whole(frame, self.headers(flow)) {
            self.received.counts.corrupted += 1;
            return true;
        }
        match self.sequences.arrive(flow, signature.sequence) {
            Arrival::Duplicate => {
                self.received.counts.duplicated += 1;
                return true;
            }
            Arrival::Reordered => self.received.counts.reordered += 1,
            Arrival::InOrder => {}
        }
        self.received.counts.once += 1;
        let ticks = ((now_ns / TICK_NS) as u32).wrapping_sub(signature.time);
        let latency_ns = u64::from(ticks) * TICK_NS;
        self.received
            .latency_ns
            .saturating_record(latency_ns.max(1));
        if let Some(jitter) = self.sequences.transit(flow, signature.sequence, ticks) {
            self.received.counts.jitter_ticks += u64::from(jitter);
            self.received.counts.jitters += 1;
        }
        true
    }

    /// A signature that is wrong: of a stranger, unless all else fits this trial.
    #[cold]
    fn doubt(&mut self, signature: Signature, frame: &[u8]) -> bool {
        let flow = signature.flow & !SECOND_SIDE;
        let is_ours = signature.trial == self.trial
            && signature.flow & SECOND_SIDE == self.side
            && flow < self.sequences.flows()
            && filler_is_whole(frame, self.headers(flow));
        if is_ours {
            self.received.counts.corrupted += 1;
        }
        is_ours
    }

    /// Octets before the filler of a flow's frames.
    #[inline]
    fn headers(&self, flow: u32) -> usize {
        let place = match &self.known[..] {
            [_] => 0,
            several => several.partition_point(|known| known.end <= flow),
        };
        self.known
            .get(place)
            .map_or(usize::MAX / 2, |known| known.headers)
    }
}
