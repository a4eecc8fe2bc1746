//! What a cookie tells of the connection: what both ends agreed on.

use crate::guard::mss;
use crate::wire::address::Family;

/// The window scales that a cookie without timestamps can tell; a client's is rounded down, which
/// only makes its window look smaller than it is.
const COARSE_SCALES: [u8; 6] = [0, 3, 5, 7, 8, 10];
/// The window scale that a client is told for the server by a cookie without timestamps.
pub const COARSE_TOLD_SCALE: u8 = 7;
/// What the connection has agreed on, as far as both ends will know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Agreed {
    /// The client's maximum segment size, by its place in the table: one for those that do
    /// timestamps, one of the family for others.
    pub mss_class: u8,
    /// The client's window scale, if both sides scale.
    pub window_scale: Option<u8>,
    /// The window scale that the client was told for the server, if both sides scale.
    pub told_scale: Option<u8>,
    /// Whether both sides may send SACK.
    pub sack: bool,
    /// Whether both sides do ECN.
    pub ecn: bool,
    /// Whether both sides do timestamps.
    pub timestamps: bool,
}

impl Agreed {
    /// The client's maximum segment size in octets.
    pub fn mss(&self, family: Family) -> u16 {
        mss::of_class(self.mss_class, family, self.timestamps)
    }

    /// The class of the largest tabled size that does not exceed `mss`; sizes below the table are
    /// told as its smallest.
    #[inline(always)]
    pub fn class_of_mss(mss: u16, family: Family, timestamps: bool) -> u8 {
        mss::class_of(mss, family, timestamps)
    }

    /// What remains of this when the cookie has to do without timestamps, of which `mss_class` must
    /// be one already: ECN is not told, and window scaling only together with SACK, coarsely, the
    /// server's scale as [`COARSE_TOLD_SCALE`].
    #[inline]
    pub fn without_timestamps(mut self) -> Self {
        self.timestamps = false;
        Self::from_coarse(self.mss_class, self.coarse())
    }

    /// All of it in sixteen bits, for records.
    pub(crate) fn packed(&self) -> u16 {
        self.fine() | u16::from(self.mss_class & 31) << 10 | u16::from(self.timestamps) << 15
    }

    /// What [`Self::packed`] made.
    pub(crate) fn from_packed(packed: u16) -> Self {
        Self {
            timestamps: packed >> 15 & 1 != 0,
            ..Self::from_fine((packed >> 10 & 31) as u8, packed & 0x3ff)
        }
    }

    #[inline]
    pub(super) fn coarse(&self) -> u8 {
        match (self.sack, self.window_scale) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(scale)) => {
                1 + COARSE_SCALES
                    .iter()
                    .take_while(|&&tabled| tabled <= scale)
                    .count() as u8
            }
        }
    }

    #[inline]
    pub(super) fn from_coarse(mss_class: u8, coarse: u8) -> Self {
        let window_scale = COARSE_SCALES
            .get(usize::from(coarse).wrapping_sub(2))
            .copied();
        Self {
            mss_class,
            sack: coarse > 0,
            window_scale,
            told_scale: window_scale.and(Some(COARSE_TOLD_SCALE)),
            ecn: false,
            timestamps: false,
        }
    }

    #[inline]
    pub(super) fn fine(&self) -> u16 {
        let nibble = |scale: Option<u8>| u16::from(scale.map_or(15, |scale| scale.min(14)));
        nibble(self.told_scale) << 6
            | nibble(self.window_scale) << 2
            | u16::from(self.sack) << 1
            | u16::from(self.ecn)
    }

    #[inline]
    pub(super) fn from_fine(mss_class: u8, fine: u16) -> Self {
        let scale = |nibble: u16| (nibble & 15 < 15).then_some(nibble as u8 & 15);
        Self {
            mss_class,
            window_scale: scale(fine >> 2),
            told_scale: scale(fine >> 6),
            sack: fine & 2 != 0,
            ecn: fine & 1 != 0,
            timestamps: true,
        }
    }
}
