//! What an Ethernet link can carry at most, to set a figure beside.

use schemars::JsonSchema;
use serde::Serialize;

/// The speeds that figures are set beside, in gigabits a second.
pub const SPEEDS_GBIT: [u32; 4] = [10, 25, 40, 100];

/// Octets that a frame takes on the wire besides itself: preamble with start delimiter, and the
/// gap between packets (IEEE 802.3 §3.1.1, §4.4.2).
const PREAMBLE_AND_GAP: f64 = 20.0;
const CHECK_SEQUENCE: f64 = 4.0;
/// The shortest frame, its check sequence included; shorter ones are padded.
const SHORTEST: f64 = 64.0;

/// Frames a second that a link carries when they follow each other without a break.
///
/// `frame_bytes` is without check sequence, as programs see frames.
#[must_use]
pub fn frames_per_s(speed_gbit: u32, frame_bytes: f64) -> f64 {
    f64::from(speed_gbit) * 1e9 / 8.0 / wire_bytes(frame_bytes)
}

/// Bits a second that frames take on the wire, with preamble and gap.
#[must_use]
pub fn wire_bits_per_s(frames_per_s: f64, frame_bytes: f64) -> f64 {
    frames_per_s * wire_bytes(frame_bytes) * 8.0
}

fn wire_bytes(frame_bytes: f64) -> f64 {
    (frame_bytes + CHECK_SEQUENCE).max(SHORTEST) + PREAMBLE_AND_GAP
}

/// A figure beside a link's line rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LineShare {
    /// The link's speed in gigabits a second.
    pub speed_gbit: u32,
    /// What that link carries at most of such frames.
    pub line_frames_per_s: f64,
    /// The part of it that one core reached, 1 being all of it.
    pub share_per_core: f64,
    /// How many such cores that rate takes, if more cores do more in proportion.
    pub cores: u64,
}

/// Sets a rate that so many cores reached beside the line rate of each speed.
#[must_use]
pub fn shares(rate_frames_per_s: f64, frame_bytes: f64, cores: u32) -> Vec<LineShare> {
    let per_core = rate_frames_per_s / f64::from(cores.max(1));
    let one = |speed_gbit| {
        let line = frames_per_s(speed_gbit, frame_bytes);
        LineShare {
            speed_gbit,
            line_frames_per_s: line,
            share_per_core: per_core / line,
            cores: (line / per_core).ceil() as u64,
        }
    };
    if per_core > 0.0 {
        SPEEDS_GBIT.map(one).to_vec()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_rates_are_those_of_the_field() {
        // RFC 5180 and every data sheet: 14.88 million of the shortest frames at 10 Gbit/s.
        assert_eq!(frames_per_s(10, 60.0).round(), 14_880_952.0);
        assert_eq!(frames_per_s(100, 60.0).round(), 148_809_524.0);
        assert_eq!(frames_per_s(10, 1514.0).round(), 812_744.0);
        assert_eq!(frames_per_s(25, 1020.0).round(), 2_993_295.0);
    }

    #[test]
    fn frames_below_the_shortest_are_padded() {
        assert_eq!(frames_per_s(10, 40.0), frames_per_s(10, 60.0));
        assert_eq!(wire_bits_per_s(1.0, 42.0), 84.0 * 8.0);
    }

    #[test]
    fn a_share_says_how_many_cores_the_rate_takes() {
        let shares = shares(14_880_952.0, 60.0, 2);
        assert_eq!(shares[0].speed_gbit, 10);
        assert!((shares[0].share_per_core - 0.5).abs() < 1e-6);
        assert_eq!(shares[0].cores, 3, "two would be 0.4 frames a second short");
        assert_eq!(shares[3].cores, 21);
        assert!(super::shares(0.0, 60.0, 1).is_empty());
    }
}
