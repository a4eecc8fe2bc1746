//! Arithmetic on sequence numbers, modulo 2^32 (RFC 9293 §3.4).

/// Whether `a` comes after `b`.
#[inline]
pub const fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Whether `a` comes before `b`.
#[inline]
pub const fn before(a: u32, b: u32) -> bool {
    after(b, a)
}

/// The later of two numbers.
#[inline]
pub const fn later(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}

/// Whether two numbers are less than `distance` apart, whichever comes first.
#[inline]
pub const fn near(a: u32, b: u32, distance: u32) -> bool {
    a.wrapping_sub(b) < distance || b.wrapping_sub(a) < distance
}

/// Whether `low <= value <= high` on the circle.
#[inline]
pub const fn within(value: u32, low: u32, high: u32) -> bool {
    value.wrapping_sub(low) <= high.wrapping_sub(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_holds_across_the_wrap(base in any::<u32>(), step in 1u32..1 << 31) {
            let next = base.wrapping_add(step);
            prop_assert!(after(next, base) && before(base, next) && !after(base, base));
            prop_assert!(within(next, base, next) && within(base, base, next));
            prop_assert!(!within(base.wrapping_sub(1), base, next));
        }
    }
}
