//! From one input to another that is nearly as good.

use crate::{frame, sequence};

/// The most octets of an input.
pub(crate) const MAX_INPUT_BYTES: usize = 2048;

/// How a target's inputs are shaped.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Just octets.
    Bytes,
    /// An Ethernet frame: most mutants have their lengths and checksums made right again, lest all
    /// of them end at the first check.
    Frame,
    /// Several frames, as [`crate::sequence`] lays them out.
    Sequence,
}

/// SplitMix64: small, and good enough to choose mutations.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `choices`.
    pub(crate) fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

const OCTETS: [u8; 12] = [0, 1, 2, 3, 4, 7, 8, 10, 0x7f, 0x80, 0xfe, 0xff];
const WORDS: [u16; 10] = [0, 1, 20, 40, 0x1fff, 0x2000, 0x7fff, 0x8000, 0xfffe, 0xffff];
const LONGS: [u32; 6] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// Beginnings of TCP options, extension headers and neighbour options.
const TOKENS: [&[u8]; 14] = [
    &[1],
    &[2, 4, 5, 0xb4],
    &[3, 3, 7],
    &[4, 2],
    &[5, 10],
    &[5, 34],
    &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
    &[34, 2],
    &[254, 4, 0xf9, 0x89],
    &[6, 0, 0, 0, 0, 0, 0, 0],
    &[44, 0, 0, 1, 0, 0, 0, 1],
    &[1, 1, 2, 0, 0, 0, 0, 1],
    &[0x81, 0x00, 0x00, 0x64],
    &[0x45, 0x00],
];

/// A mutant of `base`, with pieces of `other`.
pub(crate) fn mutant(random: &mut Random, shape: Shape, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    match shape {
        Shape::Bytes => mutate_octets(random, &mut bytes, other),
        Shape::Frame => mutate_frame(random, &mut bytes, other),
        Shape::Sequence => return sequence::mutant(random, base, other),
    }
    bytes
}

fn mutate_octets(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..1 + random.below(6) {
        mutate_once(random, bytes, other);
    }
    bytes.truncate(MAX_INPUT_BYTES);
}

/// Changes a frame, and mostly makes its lengths and checksums right again.
pub(crate) fn mutate_frame(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    mutate_octets(random, bytes, other);
    if random.below(4) != 0 {
        let fix_length = random.below(2) == 0;
        frame::repair(bytes, fix_length);
    }
}

fn mutate_once(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    let some = 1 + random.below(8);
    match random.below(12) {
        0 => {
            if let Some(octet) = bytes.get_mut(at) {
                *octet ^= 1 << random.below(8);
            }
        }
        1 => overwrite(bytes, at, &[*random.choose(&OCTETS)]),
        2 => overwrite(bytes, at, &[random.next() as u8]),
        3 => overwrite(bytes, at, &random.choose(&WORDS).to_be_bytes()),
        4 => overwrite(bytes, at, &random.choose(&LONGS).to_be_bytes()),
        5 => {
            if let Some(octet) = bytes.get_mut(at) {
                *octet = octet.wrapping_add(random.below(17) as u8).wrapping_sub(8);
            }
        }
        6 => bytes.truncate(at),
        7 => drop(bytes.drain(at..(at + some).min(bytes.len()))),
        8 => {
            let copy = bytes[at..(at + some * 4).min(bytes.len())].to_vec();
            bytes.splice(at..at, copy);
        }
        9 => drop(bytes.splice(at..at, random.choose(&TOKENS).iter().copied())),
        10 => overwrite(bytes, at, random.choose::<&[u8]>(&TOKENS)),
        _ => {
            let from = random.below(other.len() + 1);
            let piece = &other[from..(from + some * 8).min(other.len())];
            overwrite(bytes, at, piece);
        }
    }
}

/// Overwrites from `at` on, as far as there are octets.
fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (octet, new) in bytes[at..].iter_mut().zip(with) {
        *octet = *new;
    }
}
