//! The timer wheel: one timer for each place of the session table.
//!
//! Four levels of 64 slots; a slot of one level is as long as the whole level below it. Lists are
//! linked through arrays beside the table, so that a timer costs twelve bytes and no allocation.

#[cfg(test)]
mod tests;

/// A tick is 2²⁴ ns, 16.8 ms.
const TICK_BITS: u32 = 24;
/// The length of a tick: no timer fires before its deadline, nor later than this after it.
pub const TICK_NS: u64 = 1 << TICK_BITS;

const LEVELS: usize = 4;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The farthest slot that is not the current one again: 77 hours. What is due later waits there
/// and is put on from there.
const HORIZON_TICKS: u64 = ((SLOTS - 1) as u64) << (SLOT_BITS * (LEVELS as u32 - 1));
/// The farthest deadline, 417 days, so that 32-bit ticks compare rightly.
const MAX_DELAY_TICKS: u64 = i32::MAX as u64;
/// No timer.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    previous: u32,
    /// [`NONE`] when the timer is not armed.
    next: u32,
    /// The low half of the tick at which the timer is due.
    deadline: u32,
}

/// Timers for the numbers below the capacity, at most one each.
///
/// Each poll of its owner: [`pop_expired`](Self::pop_expired) until it gives `None`, with a budget
/// that bounds the poll's work; what it gives is not armed any more. Arming again for later costs
/// one write (the timer stays where it is until its old time, and moves then), so an idle timer
/// may be armed with every packet.
pub struct Wheel {
    /// The timers, and after them the heads of the slots' circular lists.
    nodes: Vec<Node>,
    /// One bit for each slot that has a timer.
    occupied: [u64; LEVELS],
    /// The tick whose slots are being emptied; those of earlier ticks are empty.
    now: u64,
    timers: u32,
    armed: u32,
}

impl Wheel {
    /// A wheel for the numbers below `timers`, none of them armed, at the time `now_ns`.
    pub fn new(timers: u32, now_ns: u64) -> Self {
        let heads = (LEVELS * SLOTS) as u32;
        let timers = timers.min(NONE - 1 - heads);
        let nodes = super::filled((timers + heads) as usize, |index| {
            let link = if (index as u32) < timers {
                NONE
            } else {
                index as u32
            };
            Node {
                previous: link,
                next: link,
                deadline: 0,
            }
        });
        Self {
            nodes,
            occupied: [0; LEVELS],
            now: now_ns >> TICK_BITS,
            timers,
            armed: 0,
        }
    }

    /// How many timers are armed.
    #[inline]
    pub fn len(&self) -> usize {
        self.armed as usize
    }

    /// Whether no timer is armed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Octets taken by the wheel.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
    }

    /// Whether the timer `id` is armed.
    #[inline]
    pub fn is_armed(&self, id: u32) -> bool {
        id < self.timers && self.nodes[id as usize].next != NONE
    }

    /// Arms the timer `id` for `deadline_ns`, in place of what it was armed for.
    ///
    /// # Panics
    /// When `id` is not below the capacity.
    #[inline]
    pub fn arm(&mut self, id: u32, deadline_ns: u64) {
        assert!(id < self.timers, "timer {id} of {}", self.timers);
        let deadline = deadline_ns.div_ceil(TICK_NS);
        let deadline = deadline.clamp(self.now, self.now + MAX_DELAY_TICKS);
        let node = &mut self.nodes[id as usize];
        if node.next != NONE {
            let later = deadline as i64 - unfold(self.now, node.deadline) as i64;
            if later >= 0 {
                node.deadline = deadline as u32;
                return;
            }
            self.unlink(id);
        } else {
            self.armed += 1;
        }
        self.nodes[id as usize].deadline = deadline as u32;
        self.link(id, deadline);
    }

    /// Disarms the timer `id`, if it is armed.
    #[inline]
    pub fn cancel(&mut self, id: u32) {
        if self.is_armed(id) {
            self.unlink(id);
            self.armed -= 1;
        }
    }

    /// Takes a timer whose deadline has passed at `now_ns`. Every timer looked at costs one of
    /// `budget`; `None` says that there is no more to be done now, or that the budget is used up,
    /// and the next call goes on from there.
    #[inline]
    pub fn pop_expired(&mut self, now_ns: u64, budget: &mut u32) -> Option<u32> {
        let target = now_ns >> TICK_BITS;
        loop {
            while let Some(id) = self.first_due_slot_entry() {
                *budget = budget.checked_sub(1)?;
                self.unlink(id);
                let deadline = unfold(self.now, self.nodes[id as usize].deadline);
                if deadline <= self.now {
                    self.armed -= 1;
                    return Some(id);
                }
                self.link(id, deadline);
            }
            if self.now >= target {
                return None;
            }
            self.now = self.next_occupied().map_or(target, |tick| tick.min(target));
        }
    }

    /// A time before which no call gives a timer; at it there may be none yet, only work towards
    /// one. `None` when none is armed.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let due = self.first_due_slot_entry().map(|_| self.now);
        due.or_else(|| self.next_occupied())
            .map(|tick| tick << TICK_BITS)
    }

    /// The first timer of the slots whose time has come, the highest level first: its timers fall
    /// to lower ones.
    #[inline]
    fn first_due_slot_entry(&self) -> Option<u32> {
        (0..LEVELS).rev().find_map(|level| {
            let slot = slot_of(self.now, level);
            let due = self.occupied[level] >> slot & 1 != 0;
            due.then(|| self.nodes[self.head(level, slot) as usize].next)
        })
    }

    /// The first tick after the present one whose slots hold a timer.
    #[inline]
    fn next_occupied(&self) -> Option<u64> {
        (0..LEVELS).find_map(|level| {
            let slot = slot_of(self.now, level);
            let ahead = self.occupied[level].rotate_right(slot as u32) & !1;
            let shift = level as u32 * SLOT_BITS;
            let begin = self.now >> shift;
            (ahead != 0).then(|| (begin + u64::from(ahead.trailing_zeros())) << shift)
        })
    }

    /// Puts a timer into the slot of the lowest level that tells its tick from the present one.
    #[inline]
    fn link(&mut self, id: u32, deadline: u64) {
        let tick = deadline.clamp(self.now, self.now + HORIZON_TICKS);
        let differing = (tick ^ self.now) | 1;
        let level = ((differing.ilog2() / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = slot_of(tick, level);
        let head = self.head(level, slot);
        let last = self.nodes[head as usize].previous;
        self.nodes[last as usize].next = id;
        self.nodes[head as usize].previous = id;
        let node = &mut self.nodes[id as usize];
        (node.previous, node.next) = (last, head);
        self.occupied[level] |= 1 << slot;
    }

    #[inline]
    fn unlink(&mut self, id: u32) {
        let Node { previous, next, .. } = self.nodes[id as usize];
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
        self.nodes[id as usize].next = NONE;
        if previous == next && next >= self.timers {
            let slot = (next - self.timers) as usize;
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    #[inline]
    fn head(&self, level: usize, slot: usize) -> u32 {
        self.timers + (level * SLOTS + slot) as u32
    }
}

#[inline]
fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (level as u32 * SLOT_BITS)) as usize % SLOTS
}

/// The tick nearest to `now` whose low half is `low`.
#[inline]
fn unfold(now: u64, low: u32) -> u64 {
    now.wrapping_add_signed(i64::from(low.wrapping_sub(now as u32) as i32))
}
