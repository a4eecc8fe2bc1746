//! Several frames in one input: before each its circumstances (an octet) and its length (two).
//! Every input can be read as such.

use crate::mutate::{Random, mutate_frame};

/// The most octets of an input.
const MAX_BYTES: usize = 16_384;
/// The most frames of an input.
pub(crate) const MAX_FRAMES: usize = 64;

/// A frame, and how it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// See the accessors.
    pub(crate) circumstances: u8,
    pub(crate) frame: Vec<u8>,
}

/// How much time passes before a frame, by three bits of its circumstances.
const WAITS_MS: [u64; 8] = [0, 1, 100, 1_000, 5_000, 70_000, 300_000, 7_300_000];

impl Arrival {
    /// A frame that comes at once, with buffers and room for all that it causes.
    pub(crate) fn plain(is_inside: bool, frame: Vec<u8>) -> Self {
        Self {
            circumstances: u8::from(is_inside),
            frame,
        }
    }

    /// Whether it comes from the servers' side.
    pub(crate) fn is_inside(&self) -> bool {
        self.circumstances & 1 != 0
    }

    pub(crate) fn wait_ms(&self) -> u64 {
        WAITS_MS[usize::from(self.circumstances >> 1 & 7)]
    }

    /// Whether there is no buffer for what it causes to be made.
    pub(crate) fn finds_no_buffer(&self) -> bool {
        self.circumstances & 0x10 != 0
    }

    /// Whether no port takes a frame meanwhile.
    pub(crate) fn finds_no_room(&self) -> bool {
        self.circumstances & 0x20 != 0
    }

    /// Whether no neighbour answers meanwhile.
    pub(crate) fn finds_no_neighbour(&self) -> bool {
        self.circumstances & 0x40 != 0
    }

    /// Whether the configuration is loaded again before it.
    pub(crate) fn follows_a_reload(&self) -> bool {
        self.circumstances & 0x80 != 0
    }
}

pub(crate) fn decode(mut input: &[u8]) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    while let Some((&[circumstances, high, low], rest)) = input.split_first_chunk()
        && arrivals.len() < MAX_FRAMES
    {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        arrivals.push(Arrival {
            circumstances,
            frame: frame.to_vec(),
        });
        input = rest;
    }
    arrivals
}

pub(crate) fn encode(arrivals: &[Arrival]) -> Vec<u8> {
    let mut input = Vec::new();
    for arrival in arrivals {
        let length = arrival.frame.len() as u16;
        input.push(arrival.circumstances);
        input.extend(length.to_be_bytes());
        input.extend(&arrival.frame[..length.into()]);
    }
    input
}

/// A mutant of `base`: a frame changed, left out, doubled or moved, or one of `other`'s between.
pub(crate) fn mutant(random: &mut Random, base: &[u8], other: &[u8]) -> Vec<u8> {
    let (mut arrivals, others) = (decode(base), decode(other));
    for _ in 0..1 + random.below(4) {
        let at = random.below(arrivals.len() + 1);
        let donor = (!others.is_empty()).then(|| &others[random.below(others.len())]);
        if at == arrivals.len() {
            arrivals.extend(donor.cloned());
            continue;
        }
        match random.below(10) {
            0 => drop(arrivals.remove(at)),
            1 => arrivals.insert(at, arrivals[at].clone()),
            2 => {
                let moved = arrivals.remove(at);
                arrivals.insert(random.below(arrivals.len() + 1), moved);
            }
            3 => arrivals.splice(at..at, donor.cloned()).for_each(drop),
            4 => arrivals[at].circumstances ^= 1 << random.below(8),
            _ => {
                let piece = donor.map_or(&[][..], |donor| &donor.frame);
                mutate_frame(random, &mut arrivals[at].frame, piece);
            }
        }
    }
    let mut input = encode(&arrivals);
    input.truncate(MAX_BYTES);
    input
}

#[test]
fn what_is_encoded_is_decoded() {
    let arrivals = vec![
        Arrival::plain(false, vec![1, 2, 3]),
        Arrival::plain(true, Vec::new()),
    ];
    assert_eq!(decode(&encode(&arrivals)), arrivals);
    assert_eq!(decode(&[7, 0xff, 0xff, 1]).len(), 1);
    assert_eq!(decode(&[7, 0]).len(), 0);
    assert_eq!(arrivals[1].wait_ms(), 0);
    assert!(arrivals[1].is_inside());
}
