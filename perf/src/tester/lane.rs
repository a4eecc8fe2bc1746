//! A lane: one queue pair of a device, with its sending and its receiving half; and the loop that
//! runs lanes on a core through a trial.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use bindings::mbuf::free_burst;
use bindings::{Clock, Mbuf, Mempool, RxQueue, TxQueue};
use dataplane::wire::address::Address;
use dataplane::wire::ethernet::MacAddress;

use super::generator::{BURST, Generator, Sent};
use super::receiver::Receiver;
use super::station::{Answer, Said, Station};
use super::stop::Stop;
use crate::report::disturbance::Watch;

/// What may still come after the last frame that was missing: a copy of one.
const AFTER_LAST_NS: u64 = 1_000_000;

/// A queue pair of a device.
pub(super) struct Queues {
    /// The side of the tester that the device is.
    pub(super) side: usize,
    pub(super) receive: RxQueue,
    pub(super) transmit: TxQueue,
    pub(super) station: Station,
    /// Frames that are no one's here.
    pub(super) foreign: u64,
}

impl Queues {
    /// Sends one frame; what a full device does not take is lost, as neighbours ask again.
    pub(super) fn say(&mut self, frame: &Answer, pool: &Mempool) {
        let mut burst: ArrayVec<Mbuf, 1> = ArrayVec::new();
        if let Some(mut buffer) = pool.allocate()
            && buffer.set_data(frame)
        {
            burst.push(buffer);
            self.transmit.transmit(&mut burst);
        }
    }

    /// Hears a frame without a signature; the station that it makes known.
    pub(super) fn hear(&mut self, frame: &[u8], pool: &Mempool) -> Option<(Address, MacAddress)> {
        match self.station.hear(frame) {
            Said::Asked(answer) => self.say(&answer, pool),
            Said::Known(address, station) => return Some((address, station)),
            Said::Chatter => {}
            Said::Foreign => self.foreign += 1,
        }
        None
    }

    /// Takes what has come in, answers it and forgets the rest; how many frames there were.
    pub(super) fn clear(
        &mut self,
        pool: &Mempool,
        mut known: impl FnMut(Address, MacAddress),
    ) -> usize {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let count = self.receive.receive(&mut burst);
        for frame in &burst {
            if let Some((address, station)) = self.hear(frame.data(), pool) {
                known(address, station);
            }
        }
        free_burst(&mut burst);
        count
    }
}

/// A queue pair and what is done with it.
pub(super) struct Lane {
    pub(super) queues: Queues,
    pub(super) generator: Generator,
    pub(super) receiver: Receiver,
    /// What was sent, once sending is over, and what was due and was not.
    pub(super) sent: Option<(Sent, u64)>,
    last_arrival_ns: u64,
}

/// A trial's times, by its clock, and what ends it before.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) sending_ns: u64,
    /// After such a time without frames none is expected any more.
    pub(super) quiet_ns: u64,
    /// The longest time after sending.
    pub(super) longest_wait_ns: u64,
    pub(super) stop: Stop,
}

/// What lanes on several cores tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The trial's clock, when all cores are ready; none if they will never be.
    pub(super) clock: OnceLock<Option<Clock>>,
    /// Cores that wait for it.
    pub(super) ready: AtomicUsize,
    /// Of each side, the lanes that still send.
    pub(super) sending: [AtomicUsize; 2],
    /// Of each side, the frames with a signature that it sent.
    sent: [AtomicU64; 2],
    /// Of each side, the frames that it received in lanes of other cores and its own.
    received: [AtomicU64; 2],
    /// A frame came back to the side that sent it.
    is_loop: AtomicBool,
}

impl Lane {
    pub(super) fn new(queues: Queues, generator: Generator, receiver: Receiver) -> Self {
        Self {
            queues,
            generator,
            receiver,
            sent: None,
            last_arrival_ns: 0,
        }
    }

    /// Prepares for a trial whose generator and receiver have begun.
    pub(super) fn begin(&mut self) {
        self.sent = None;
        self.queues.foreign = 0;
        self.last_arrival_ns = 0;
    }

    #[inline]
    fn receive(&mut self, clock: &Clock, pool: &Mempool, shared: &Shared) {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        if self.queues.receive.receive(&mut burst) == 0 {
            return;
        }
        let now_ns = clock.now_ns();
        self.last_arrival_ns = now_ns;
        for frame in &burst {
            self.receiver.prefetch(frame.data());
        }
        let before = self.receiver.received.counts.once;
        for frame in &burst {
            if !self.receiver.take(frame.data(), now_ns) {
                self.queues.hear(frame.data(), pool);
            }
        }
        free_burst(&mut burst);
        let counts = &self.receiver.received.counts;
        shared.received[self.queues.side].fetch_add(counts.once - before, Ordering::Relaxed);
        if counts.returned > 0 {
            shared.is_loop.store(true, Ordering::Relaxed);
        }
    }

    fn finish(&mut self, elapsed_ns: u64, shared: &Shared) {
        let (sent, unsent) = self.generator.finish(elapsed_ns);
        let side = self.queues.side;
        shared.sent[side].fetch_add(
            sent.taken - sent.unsigned.min(sent.taken),
            Ordering::Relaxed,
        );
        shared.sending[side].fetch_sub(1, Ordering::Release);
        self.sent = Some((sent, unsent));
    }

    /// Whether nothing more is expected here.
    fn is_done(&self, now_ns: u64, course: &Course, shared: &Shared) -> bool {
        let other = 1 - self.queues.side;
        let quiet_since = self.last_arrival_ns.max(course.sending_ns);
        let is_complete = shared.sending[other].load(Ordering::Acquire) == 0
            && shared.received[self.queues.side].load(Ordering::Relaxed)
                >= shared.sent[other].load(Ordering::Relaxed);
        now_ns > course.sending_ns + course.longest_wait_ns
            || now_ns > quiet_since + course.quiet_ns
            || (is_complete && now_ns > quiet_since + AFTER_LAST_NS)
    }
}

/// Runs the lanes of one core through a trial; `watch` is told when the loop stands still.
pub(super) fn run(
    lanes: &mut [&mut Lane],
    pool: &Mempool,
    course: &Course,
    shared: &Shared,
    watch: &mut Watch,
) {
    shared.ready.fetch_add(1, Ordering::Release);
    let Some(clock) = *shared.clock.wait() else {
        return;
    };
    let mut last_ns = clock.now_ns();
    loop {
        let now_ns = clock.now_ns();
        watch.was_away(now_ns - last_ns);
        last_ns = now_ns;
        if course.stop.is_raised() || shared.is_loop.load(Ordering::Relaxed) {
            for lane in lanes.iter_mut().filter(|lane| lane.sent.is_none()) {
                lane.finish(now_ns.min(course.sending_ns), shared);
            }
            return;
        }
        let is_sending = now_ns < course.sending_ns;
        for lane in lanes.iter_mut() {
            if is_sending {
                lane.generator.poll(&clock, &mut lane.queues.transmit, pool);
            } else if lane.sent.is_none() {
                lane.finish(course.sending_ns, shared);
            }
            lane.receive(&clock, pool, shared);
        }
        let done = |lane: &&mut Lane| lane.is_done(now_ns, course, shared);
        if !is_sending && lanes.iter().all(done) {
            return;
        }
    }
}
