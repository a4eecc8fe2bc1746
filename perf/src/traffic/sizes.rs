//! Sizes of frames: one, or a mix that repeats itself.

/// The frame sizes of RFC 2544 §9.1 for Ethernet, check sequence included.
pub const RFC2544_SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// The simple Internet mix: seven small, four medium, one large.
pub const IMIX: [(u16, u32); 3] = [(64, 7), (570, 4), (1518, 1)];

/// The smallest Ethernet frame.
const SMALLEST: u16 = 64;
/// The largest that a packet buffer is made for.
const LARGEST: u16 = 9018;
/// Frames after which a mix repeats itself.
const LONGEST_MIX: u32 = 1024;

/// Sizes of a stream's frames, check sequence included, in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    sequence: Vec<u16>,
}

/// What is no size, or no mix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No Ethernet frame has it.
    #[error("a frame has {SMALLEST} to {LARGEST} octets, check sequence included, not {0}")]
    OutOfRange(u32),
    /// A letter that RFC 6985 does not give a size to.
    #[error(
        "`{0}` is no size of an IMIX genome; write a (64), b (128), c (256), d (512), e (1024), \
         f (1280), g (1518), h (2112), i (9000)"
    )]
    Letter(char),
    /// Nothing to send.
    #[error("a mix has at least one frame")]
    Empty,
    /// More than can be kept in order.
    #[error("a mix repeats itself after {LONGEST_MIX} frames at the most, not after {0}")]
    TooLong(u64),
}

impl Sizes {
    /// Frames of one size.
    ///
    /// # Errors
    /// When no frame has it.
    pub fn fixed(size: u32) -> Result<Self, SizeError> {
        let sequence = vec![checked(size)?];
        Ok(Self { sequence })
    }

    /// So many frames of each size, spread evenly.
    ///
    /// # Errors
    /// When there is none, or one of them is no size, or there are too many.
    pub fn mix(parts: &[(u16, u32)]) -> Result<Self, SizeError> {
        let total: u64 = parts.iter().map(|(_, count)| u64::from(*count)).sum();
        if total == 0 {
            return Err(SizeError::Empty);
        }
        if total > LONGEST_MIX.into() {
            return Err(SizeError::TooLong(total));
        }
        for (size, _) in parts {
            checked((*size).into())?;
        }
        // Whatever part is furthest behind its share comes next.
        let mut sent = vec![0_u64; parts.len()];
        let mut sequence = Vec::new();
        for position in 1..=total {
            let lag = |part: usize| {
                let due = position * u64::from(parts[part].1);
                due as i64 - (sent[part] * total) as i64
            };
            let next = (0..parts.len())
                .max_by_key(|part| (lag(*part), std::cmp::Reverse(*part)))
                .ok_or(SizeError::Empty)?;
            sent[next] += 1;
            sequence.push(parts[next].0);
        }
        Ok(Self { sequence })
    }

    /// The sizes of an IMIX genome in their order (RFC 6985 §3).
    ///
    /// # Errors
    /// When a letter has no size, or there is none.
    pub fn genome(letters: &str) -> Result<Self, SizeError> {
        let size = |letter: char| match letter {
            'a' => Ok(64),
            'b' => Ok(128),
            'c' => Ok(256),
            'd' => Ok(512),
            'e' => Ok(1024),
            'f' => Ok(1280),
            'g' => Ok(1518),
            'h' => Ok(2112),
            'i' => Ok(9000),
            other => Err(SizeError::Letter(other)),
        };
        let sequence = letters.chars().map(size).collect::<Result<Vec<_>, _>>()?;
        match sequence.len() {
            0 => Err(SizeError::Empty),
            long if long > LONGEST_MIX as usize => Err(SizeError::TooLong(long as u64)),
            _ => Ok(Self { sequence }),
        }
    }

    /// The simple Internet mix.
    #[must_use]
    pub fn imix() -> Self {
        // The parts are constants that `mix` takes, as a test sees.
        Self::mix(&IMIX).unwrap_or(Self { sequence: vec![64] })
    }

    /// The sizes of frames without check sequence, which are sent one after the other.
    pub(super) fn of_frames(octets: impl Iterator<Item = usize>) -> Self {
        let size = |octets: usize| (octets + super::CHECK_SEQUENCE_BYTES) as u16;
        Self {
            sequence: octets.map(size).collect(),
        }
    }

    /// The sizes in the order in which they are sent, again and again.
    #[must_use]
    pub fn sequence(&self) -> &[u16] {
        &self.sequence
    }

    /// The mean, in octets.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.sequence.iter().map(|size| f64::from(*size)).sum();
        sum / self.sequence.len() as f64
    }

    /// The smallest, in octets.
    #[must_use]
    pub fn smallest(&self) -> usize {
        self.sequence.iter().copied().min().unwrap_or(0).into()
    }

    /// The largest, in octets.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.sequence.iter().copied().max().unwrap_or(0).into()
    }
}

fn checked(size: u32) -> Result<u16, SizeError> {
    u16::try_from(size)
        .ok()
        .filter(|size| (SMALLEST..=LARGEST).contains(size))
        .ok_or(SizeError::OutOfRange(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simple_mix_has_its_shares_and_its_mean() {
        let imix = Sizes::imix();
        let of = |size| imix.sequence().iter().filter(|one| **one == size).count();
        assert_eq!((of(64), of(570), of(1518)), (7, 4, 1));
        assert!((imix.mean() - 353.83).abs() < 0.01, "{}", imix.mean());
    }

    #[test]
    fn a_mix_is_spread_evenly() {
        let sizes = Sizes::mix(&[(64, 3), (128, 3)]).unwrap();
        assert_eq!(sizes.sequence(), [64, 128, 64, 128, 64, 128]);
    }

    #[test]
    fn a_genome_is_read_letter_by_letter() {
        let sizes = Sizes::genome("aaag").unwrap();
        assert_eq!(sizes.sequence(), [64, 64, 64, 1518]);
        assert_eq!(Sizes::genome("az"), Err(SizeError::Letter('z')));
        assert_eq!(Sizes::genome(""), Err(SizeError::Empty));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        assert_eq!(Sizes::fixed(63), Err(SizeError::OutOfRange(63)));
        assert_eq!(Sizes::fixed(70_000), Err(SizeError::OutOfRange(70_000)));
        assert_eq!(Sizes::mix(&[]), Err(SizeError::Empty));
        assert_eq!(Sizes::mix(&[(64, 2000)]), Err(SizeError::TooLong(2000)));
    }
}
