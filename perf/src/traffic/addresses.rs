//! Ranges of addresses and ports, and how flows go through them.

use dataplane::wire::address::{Address, Family};

/// How the flows of a stream take the values of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other, and again from the first.
    Counting,
    /// Drawn by the traffic's seed.
    Random,
}

/// Addresses of one family that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The first.
    pub first: Address,
    /// How many, at least one.
    pub count: u32,
    /// How flows take them.
    pub order: Order,
}

impl AddressRange {
    /// One address.
    #[must_use]
    pub const fn one(address: Address) -> Self {
        Self {
            first: address,
            count: 1,
            order: Order::Counting,
        }
    }

    /// Whether it is of IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        matches!(self.first.family(), Family::V6)
    }
}

/// Ports that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberRange {
    /// The first.
    pub first: u16,
    /// How many, at least one.
    pub count: u32,
    /// How flows take them.
    pub order: Order,
}

impl NumberRange {
    /// Ports that flows take one after the other.
    #[must_use]
    pub const fn counting(first: u16, count: u16) -> Self {
        Self {
            first,
            count: count as u32,
            order: Order::Counting,
        }
    }
}

/// A position in a range that moves with each flow.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    count: u32,
    order: Order,
    position: u32,
    drawn: u64,
    /// Position and generator at the first flow.
    begin: (u32, u64),
}

impl Walk {
    /// A walk that begins so many flows behind the range's first.
    pub(crate) fn new(count: u32, order: Order, seed: u64, skipped: u32) -> Self {
        let mut walk = Self {
            count,
            order,
            position: 0,
            drawn: seed,
            begin: (0, seed),
        };
        if order == Order::Random {
            walk.draw();
        }
        for _ in 0..skipped {
            walk.advance();
        }
        walk.begin = (walk.position, walk.drawn);
        walk
    }

    /// Back to the first flow.
    pub(crate) fn reset(&mut self) {
        (self.position, self.drawn) = self.begin;
    }

    /// Where the present flow is in the range.
    #[inline]
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// On to the next flow.
    #[inline]
    pub(crate) fn advance(&mut self) {
        match self.order {
            Order::Counting => {
                self.position += 1;
                if self.position == self.count {
                    self.position = 0;
                }
            }
            Order::Random => self.draw(),
        }
    }

    #[inline]
    fn draw(&mut self) {
        let number = mix(&mut self.drawn) >> 32;
        self.position = ((number * u64::from(self.count)) >> 32) as u32;
    }
}

/// The next number of a generator that is good enough for addresses (SplitMix64).
#[inline]
pub(crate) fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut number = *state;
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(walk: &mut Walk, count: usize) -> Vec<u32> {
        let next = |walk: &mut Walk| {
            let position = walk.position();
            walk.advance();
            position
        };
        (0..count).map(|_| next(walk)).collect()
    }

    #[test]
    fn a_counting_walk_begins_again() {
        let mut walk = Walk::new(3, Order::Counting, 7, 0);
        assert_eq!(positions(&mut walk, 5), [0, 1, 2, 0, 1]);
        walk.reset();
        assert_eq!(walk.position(), 0);
    }

    #[test]
    fn a_walk_that_begins_later_goes_the_same_way() {
        for order in [Order::Counting, Order::Random] {
            let whole = positions(&mut Walk::new(100, order, 7, 0), 50);
            let part = positions(&mut Walk::new(100, order, 7, 20), 30);
            assert_eq!(whole[20..], part);
        }
    }

    #[test]
    fn a_random_walk_repeats_itself_by_its_seed_and_stays_in_range() {
        let mut walk = Walk::new(100, Order::Random, 7, 0);
        let first = positions(&mut walk, 1000);
        assert!(first.iter().all(|position| *position < 100));
        assert!((0..100).all(|number| first.contains(&number)));
        walk.reset();
        assert_eq!(positions(&mut walk, 1000), first);
        assert_ne!(
            positions(&mut Walk::new(100, Order::Random, 8, 0), 1000),
            first
        );
    }
}
