//! Windows, in the scale that each side believes the other to use.

use super::session::{Session, flag};

/// The window field by which a client that was told `scale` hears of an offer of `bytes`. What is
/// less than a unit is told as a whole one: rounded down, a server that offers little would seem to
/// be closed, and its client would wait for an offer that never comes.
#[inline(always)]
pub(super) fn told(bytes: u32, scale: u8) -> u16 {
    let unit = 1u32 << scale;
    (bytes.saturating_add(unit - 1) >> scale).min(0xffff) as u16
}

/// The window field of a segment that is sent to a server in its client's place: what a SYN can
/// offer at most.
pub(super) fn in_place_of_client(session: &Session) -> u16 {
    if session.has(flag::SERVER_UNSCALED) {
        0xffff
    } else {
        0xffff >> session.client_scale()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn e1_a_window_is_told_with_less_than_one_unit_more(
            bytes in prop_oneof![0u32..70_000, 0u32..1 << 30, Just(u32::MAX)], scale in 0u8..15,
        ) {
            let field = told(bytes, scale);
            let heard = u64::from(field) << scale;
            prop_assert_eq!(field == 0, bytes == 0);
            prop_assert!(heard < u64::from(bytes) + (1 << scale));
            prop_assert!(heard >= u64::from(bytes).min(0xffff << scale));
        }
    }
}
