//! The servers' SYN cookie: what a client said in its SYN comes back with the end of its
//! handshake, so that a SYN costs an answer and no memory.

use dataplane::wire::address::Family;

use super::super::client::mss_of;
use super::super::segment::Segment;
use super::super::tcb::DEFAULT_MSS;

/// Segment sizes that are told apart; a SYN's is rounded down to one of these.
const SIZES: [u16; 8] = [DEFAULT_MSS, 1200, 1300, 1380, 1420, 1440, 1460, 8940];
const SCALE_BITS: u32 = 4;
const SIZE_BITS: u32 = 3;
/// No window scale was offered.
const NO_SCALE: u32 = 15;

/// What of a client's SYN is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) mss: u16,
    pub(super) scale: Option<u8>,
    pub(super) has_timestamps: bool,
}

impl Remembered {
    /// Of a SYN, for a server that sends packets of at most `mtu_bytes`.
    pub(super) fn of_syn(segment: &Segment<'_>, mtu_bytes: u16) -> Self {
        let own = mss_of(mtu_bytes, segment.source.family());
        let offered = segment.options.mss.unwrap_or(DEFAULT_MSS).min(own);
        let size = SIZES.iter().rev().find(|&&size| size <= offered);
        Self {
            mss: *size.unwrap_or(&DEFAULT_MSS),
            scale: segment.options.window_scale,
            has_timestamps: segment.options.timestamps.is_some(),
        }
    }

    fn bits(self) -> u32 {
        let size = SIZES.iter().position(|&size| size == self.mss).unwrap_or(0);
        u32::from(self.has_timestamps)
            | (size as u32) << 1
            | self.scale.map_or(NO_SCALE, u32::from) << (1 + SIZE_BITS)
    }

    fn of_bits(bits: u32) -> Self {
        let scale = bits >> (1 + SIZE_BITS) & ((1 << SCALE_BITS) - 1);
        Self {
            mss: SIZES[(bits >> 1) as usize % SIZES.len()],
            scale: (scale != NO_SCALE).then_some(scale as u8),
            has_timestamps: bits & 1 != 0,
        }
    }
}

/// Makes and checks initial sequence numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookies {
    key: u64,
}

impl Cookies {
    pub(super) fn new(key: u64) -> Self {
        Self { key }
    }

    /// The initial sequence number that answers a SYN.
    pub(super) fn make(&self, syn: &Segment<'_>, remembered: Remembered) -> u32 {
        self.code(syn, syn.sequence, remembered.bits())
    }

    /// What the SYN said, if `segment` acknowledges its answer and is the first behind the SYN.
    pub(super) fn check(&self, segment: &Segment<'_>) -> Option<Remembered> {
        let own = segment.acknowledgement.wrapping_sub(1);
        let theirs = segment.sequence.wrapping_sub(1);
        let remembered = Remembered::of_bits(own & 0xff);
        let fits = own == self.code(segment, theirs, own & 0xff)
            && remembered.has_timestamps == segment.options.timestamps.is_some();
        fits.then_some(remembered)
    }

    /// Eight bits that are remembered below 24 that prove them. The tester's own hash: a stranger
    /// who could work it out is not on its two links.
    fn code(&self, segment: &Segment<'_>, theirs: u32, bits: u32) -> u32 {
        let ports = u64::from(segment.source_port) << 16 | u64::from(segment.destination_port);
        let numbers = u64::from(theirs) << 32 | u64::from(bits);
        let words = match segment.source.family() {
            Family::V4 => [
                segment.source.to_bits() as u64,
                segment.destination.to_bits() as u64,
            ],
            Family::V6 => {
                let both = segment.source.to_bits() ^ segment.destination.to_bits().rotate_left(29);
                [both as u64, (both >> 64) as u64]
            }
        };
        let mut hash = self.key;
        for word in words.into_iter().chain([ports, numbers]) {
            let product = u128::from(hash ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
            hash = (product as u64) ^ (product >> 64) as u64 ^ self.key.rotate_left(23);
        }
        (hash as u32) << 8 | bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::parse::flags;
    use dataplane::wire::address::Address;
    use dataplane::wire::tcp_options::{TcpOptions, Timestamps};

    fn syn(scale: Option<u8>, mss: u16, stamped: bool) -> Segment<'static> {
        let stamps = Timestamps {
            value: 1,
            echo: 0,
            offset: 0,
        };
        Segment {
            source: Address::from_v4([192, 0, 2, 1]),
            destination: Address::from_v4([10, 0, 0, 1]),
            source_port: 4000,
            destination_port: 80,
            sequence: 77,
            acknowledgement: 0,
            flags: flags::SYN,
            window: 100,
            options: TcpOptions {
                mss: Some(mss),
                window_scale: scale,
                timestamps: stamped.then_some(stamps),
                ..TcpOptions::default()
            },
            payload: &[],
        }
    }

    #[test]
    fn an_acknowledgement_brings_back_what_the_syn_said_and_a_forged_one_does_not() {
        let cookies = Cookies::new(5);
        for (scale, mss, stamped, kept) in [
            (Some(14), 1460, true, 1460),
            (None, 1459, false, 1440),
            (Some(0), 9000, true, 1460),
            (Some(7), 100, true, DEFAULT_MSS),
        ] {
            let syn = syn(scale, mss, stamped);
            let remembered = Remembered::of_syn(&syn, 1500);
            assert_eq!((remembered.mss, remembered.scale), (kept, scale));
            let last = Segment {
                sequence: 78,
                acknowledgement: cookies.make(&syn, remembered).wrapping_add(1),
                flags: flags::ACK,
                ..syn
            };
            assert_eq!(cookies.check(&last), Some(remembered));
            for bit in 8..32 {
                let forged = Segment {
                    acknowledgement: last.acknowledgement ^ 1 << bit,
                    ..last
                };
                assert_eq!(cookies.check(&forged), None);
            }
            let other = Segment {
                source_port: 4001,
                ..last
            };
            assert_eq!(cookies.check(&other), None);
        }
    }
}
