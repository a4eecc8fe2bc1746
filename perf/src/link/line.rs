//! One direction: the link that decides, and the frames on their way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use simulator::{Link, LinkCounters, LinkSettings};

/// A frame that leaves later than this after its time counts as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;

/// What a line has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LineCounters {
    /// What the link decided.
    pub(super) link: LinkCounters,
    /// Deliveries that came to nothing because too much was on its way.
    pub(super) no_room: u64,
    /// Deliveries more than a millisecond after their time.
    pub(super) late: u64,
    /// The longest time that a delivery was late.
    pub(super) latest_ns: u64,
}

/// One direction of a link with its frames. What a frame is kept in is its user's affair.
pub(super) struct Line<F> {
    link: Link,
    /// Those that kept their order, and so their times too.
    in_order: VecDeque<Due<F>>,
    /// Those that others may pass.
    held_back: BinaryHeap<Reverse<Due<F>>>,
    taken: u64,
    counters: LineCounters,
}

/// A frame on its way. Two that are due at once keep the order that they came in.
struct Due<F> {
    at_ns: u64,
    number: u64,
    frame: F,
}

impl<F> Due<F> {
    fn key(&self) -> (u64, u64) {
        (self.at_ns, self.number)
    }
}

impl<F> PartialEq for Due<F> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<F> Eq for Due<F> {}

impl<F> PartialOrd for Due<F> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<F> Ord for Due<F> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<F> Line<F> {
    /// A line on which nothing is yet.
    pub(super) fn new(settings: LinkSettings, seed: u64) -> Self {
        Self {
            link: Link::new(settings, seed),
            in_order: VecDeque::new(),
            held_back: BinaryHeap::new(),
            taken: 0,
            counters: LineCounters::default(),
        }
    }

    /// Changes what happens to frames from here on; those on their way keep their times.
    pub(super) fn set(&mut self, settings: LinkSettings) {
        self.link.set(settings);
    }

    pub(super) fn counters(&self) -> LineCounters {
        LineCounters {
            link: self.link.counters(),
            ..self.counters
        }
    }

    /// Frames on their way.
    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.held_back.len()
    }

    /// Takes a frame of so many octets. `copy` makes another for one that arrives twice; where it
    /// cannot, or `has_room` is not so, a delivery comes to nothing and is counted.
    pub(super) fn offer(
        &mut self,
        frame: F,
        length_bytes: usize,
        now_ns: u64,
        has_room: bool,
        copy: impl FnOnce(&F) -> Option<F>,
    ) {
        let arrivals = self.link.offer(length_bytes, now_ns);
        let [first_ns, more @ ..] = &arrivals[..] else {
            return;
        };
        if !has_room {
            self.counters.no_room += arrivals.len() as u64;
            return;
        }
        // The frame that came first is delivered first.
        let second = more.first().map(|&at_ns| (at_ns, copy(&frame)));
        self.push(*first_ns, frame);
        match second {
            Some((at_ns, Some(frame))) => self.push(at_ns, frame),
            Some((_, None)) => self.counters.no_room += 1,
            None => {}
        }
    }

    fn push(&mut self, at_ns: u64, frame: F) {
        self.taken += 1;
        let due = Due {
            at_ns,
            number: self.taken,
            frame,
        };
        if self.in_order.back().is_none_or(|last| last.at_ns <= at_ns) {
            self.in_order.push_back(due);
        } else {
            self.held_back.push(Reverse(due));
        }
    }

    /// When the next frame is due.
    pub(super) fn next_ns(&self) -> u64 {
        let (in_order, held_back) = self.fronts();
        in_order.min(held_back).0
    }

    /// The first of each kind; the largest numbers where there is none.
    fn fronts(&self) -> ((u64, u64), (u64, u64)) {
        const NONE: (u64, u64) = (u64::MAX, u64::MAX);
        let in_order = self.in_order.front().map_or(NONE, Due::key);
        let held_back = self.held_back.peek().map_or(NONE, |due| due.0.key());
        (in_order, held_back)
    }

    /// The next frame that is due.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<F> {
        let (in_order, held_back) = self.fronts();
        let due = if in_order.min(held_back).0 > now_ns {
            None
        } else if in_order < held_back {
            self.in_order.pop_front()
        } else {
            self.held_back.pop().map(|due| due.0)
        }?;
        let late_ns = now_ns - due.at_ns;
        self.counters.latest_ns = self.counters.latest_ns.max(late_ns);
        self.counters.late += u64::from(late_ns > LATE_NS);
        Some(due.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn delivered(line: &mut Line<u64>) -> Vec<u64> {
        let mut frames = Vec::new();
        while line.next_ns() < u64::MAX {
            let now_ns = line.next_ns();
            frames.extend(line.take(now_ns));
        }
        frames
    }

    #[test]
    fn frames_leave_when_they_are_due_and_in_order() {
        let settings = LinkSettings {
            delay_ns: 10 * MS,
            jitter_ns: 3 * MS,
            ..LinkSettings::default()
        };
        let mut line = Line::new(settings, 1);
        for n in 0..1_000 {
            line.offer(n, 100, n * MS / 10, true, |_| None);
        }
        assert_eq!(line.len(), 1_000);
        assert_eq!(line.take(10 * MS - 1), None);
        assert_eq!(delivered(&mut line), (0..1_000).collect::<Vec<_>>());
        assert_eq!(line.counters().late, 0);
    }

    #[test]
    fn those_held_back_are_passed_and_those_doubled_come_twice() {
        let settings = LinkSettings {
            delay_ns: MS,
            reorder: 0.1,
            duplicate: 0.1,
            loss: 0.1,
            ..LinkSettings::default()
        };
        let mut line = Line::new(settings, 1);
        for n in 0..10_000 {
            line.offer(n, 100, n * MS, true, |frame| Some(*frame));
        }
        let frames = delivered(&mut line);
        let counters = line.counters().link;
        assert_eq!(frames.len() as u64, counters.delivered);
        let mut highest = 0;
        let mut passed = 0;
        for &frame in &frames {
            passed += u64::from(frame < highest);
            highest = highest.max(frame);
        }
        // One of a pair that is held back together with the other is passed as well.
        assert!(
            passed >= counters.reordered * 9 / 10,
            "{passed} {counters:?}"
        );
        let mut once = frames.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!((frames.len() - once.len()) as u64, counters.duplicated);
    }

    #[test]
    fn without_room_deliveries_come_to_nothing_and_are_counted() {
        let settings = LinkSettings {
            duplicate: 1.0,
            ..LinkSettings::default()
        };
        let mut line = Line::new(settings, 1);
        line.offer(1, 100, 0, false, |_| Some(1));
        line.offer(2, 100, 0, true, |_| None);
        line.offer(3, 100, 0, true, |frame| Some(*frame));
        assert_eq!(delivered(&mut line), [2, 3, 3]);
        assert_eq!(line.counters().no_room, 3);
    }

    #[test]
    fn lateness_is_told() {
        let mut line = Line::new(LinkSettings::default(), 1);
        line.offer(1, 100, 0, true, |_| None);
        line.offer(2, 100, 5 * MS, true, |_| None);
        assert_eq!(line.take(5 * MS), Some(1));
        assert_eq!(line.take(5 * MS), Some(2));
        let counters = line.counters();
        assert_eq!((counters.late, counters.latest_ns), (1, 5 * MS));
    }
}
