//! Windows, in the scale that each side believes the other to use.

use super::session::{Session, flag};

/// The window field by which a client that was told `scale` hears of an offer of `bytes`. It is rounded
/// down, unless an eighth or more of the offer would be lost by that: a server that offers little
/// would seem to offer nothing, and its client would wait for what never comes. Rounded up, its
/// client may send what the server does not take, and sends it again.
#[inline(always)]
pub(super) fn told(bytes: u32, scale: u8) -> u16 {
    let whole = bytes >> scale;
    let lost = bytes - (whole << scale);
    (whole + u32::from(lost > bytes / 8)).min(0xffff) as u16
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
        fn e1_a_window_is_told_almost_as_it_is_and_open_if_it_is_open(
            bytes in prop_oneof![0u32..70_000, 0u32..1 << 30, Just(u32::MAX)], scale in 0u8..15,
        ) {
            let field = told(bytes, scale);
            let heard = u64::from(field) << scale;
            prop_assert_eq!(field == 0, bytes == 0);
            let bytes = u64::from(bytes);
            prop_assert!(heard < bytes + (1 << scale));
            prop_assert!(heard <= bytes || bytes < 8 << scale);
            prop_assert!(heard >= (bytes - bytes / 8).min(0xffff << scale));
        }
    }
}
