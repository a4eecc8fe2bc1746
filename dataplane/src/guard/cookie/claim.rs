//! What a cookie says, and what its codes are made of.

use super::{Agreed, Codes, Cookie, CookieError, TICK_S, Tuple, halves};
use crate::wire::address::{Address, Family};

/// Bits of a timestamp that say what was agreed on; the others authenticate it.
const DETAIL_BITS: u32 = 10;
const DETAIL_MASK: u32 = (1 << DETAIL_BITS) - 1;

/// What a cookie says of what was agreed on: whether there are timestamps in the highest bit, the class
/// of the MSS from bit 24 on, the rest from bit 8 on. So it stands in what its codes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement(u32);

impl Statement {
    /// Nothing that is looked at.
    pub(crate) const NONE: Self = Self(0);

    #[inline(always)]
    fn new(timestamps: bool, mss_class: u8, details: u16) -> Self {
        Self(u32::from(timestamps) << 31 | u32::from(mss_class) << 24 | u32::from(details) << 8)
    }

    /// What is said of `agreed`.
    #[inline(always)]
    pub(crate) fn of(agreed: Agreed) -> Self {
        if agreed.timestamps {
            Self::new(true, agreed.mss_class & 31, agreed.fine())
        } else {
            Self::new(false, agreed.mss_class & 7, u16::from(agreed.coarse()))
        }
    }

    #[inline(always)]
    fn timestamps(self) -> bool {
        self.0 >> 31 != 0
    }

    #[inline(always)]
    fn mss_class(self) -> u8 {
        (self.0 >> 24) as u8 & 31
    }

    #[inline(always)]
    fn details(self) -> u16 {
        (self.0 >> 8) as u16
    }
}

/// What a cookie says, of which its codes are made: all of it but the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// When it was made, as far as it can be told.
    pub(super) tick: u64,
    /// Ticks since then, modulo four.
    age: u32,
    statement: Statement,
}

impl Claim {
    /// That of a cookie that is made now.
    #[inline(always)]
    pub(crate) fn new(statement: Statement, unix_s: u64) -> Self {
        Self {
            tick: unix_s / TICK_S,
            age: 0,
            statement,
        }
    }

    /// That of a cookie that has come back.
    #[inline(always)]
    pub(crate) fn of(cookie: Cookie, timestamps: bool, unix_s: u64) -> Self {
        let now = unix_s / TICK_S;
        let age = (now as u32).wrapping_sub(cookie.sequence >> 6) & 3;
        Self {
            // Age 3 is one tick into the future: a peer whose clock runs ahead.
            tick: if age == 3 {
                now + 1
            } else {
                now.saturating_sub(u64::from(age))
            },
            age,
            // What was agreed on is authenticated as it stands, and read when it is found good.
            statement: if timestamps {
                let details = (cookie.timestamp & DETAIL_MASK) as u16;
                Statement::new(true, (cookie.sequence >> 1 & 31) as u8, details)
            } else {
                let details = (cookie.sequence & 7) as u16;
                Statement::new(false, (cookie.sequence >> 3 & 7) as u8, details)
            },
        }
    }

    /// The cookie that says so.
    #[inline(always)]
    pub(crate) fn cookie(&self, codes: Codes) -> Cookie {
        let statement = self.statement;
        let (class, details) = (
            u32::from(statement.mss_class()),
            u32::from(statement.details()),
        );
        let (low, timestamp) = if statement.timestamps() {
            (class << 1, codes.timestamp << DETAIL_BITS | details)
        } else {
            (class << 3 | details, 0)
        };
        Cookie {
            sequence: codes.sequence << 8 | (self.tick as u32 & 3) << 6 | low,
            timestamp,
        }
    }

    /// What was agreed on, if `codes` are those that `cookie`, whose claim this is, should bear.
    #[inline(always)]
    pub(crate) fn judge(&self, cookie: Cookie, codes: Codes) -> Result<Agreed, CookieError> {
        let timestamps = self.statement.timestamps();
        let coarse = (cookie.sequence & 7) as u8;
        let sequence_fits = codes.sequence << 8 == cookie.sequence & !0xff;
        let timestamp_fits =
            !timestamps || codes.timestamp << DETAIL_BITS == cookie.timestamp & !DETAIL_MASK;
        let details_fit = !timestamps || coarse & 1 == 0;
        if !(sequence_fits & timestamp_fits & details_fit) {
            return Err(CookieError::Invalid);
        }
        if self.age == 2 {
            return Err(CookieError::Expired);
        }
        let mss_class = self.statement.mss_class();
        Ok(if timestamps {
            Agreed::from_fine(mss_class, self.statement.details())
        } else {
            Agreed::from_coarse(mss_class, coarse)
        })
    }

    /// The cipher's input for an IPv4 connection.
    #[inline(always)]
    pub(super) fn blocks(&self, tuple: &Tuple) -> [u128; 2] {
        let octets = |address: Address| u64::from((address.to_bits() as u32).swap_bytes());
        let addresses = octets(tuple.client) | octets(tuple.server) << 32;
        [
            u128::from(self.meta(Family::V4)),
            halves(addresses, tuple.numbers()),
        ]
    }

    /// Tells the family, and so how many blocks there are.
    #[inline(always)]
    pub(super) fn meta(&self, family: Family) -> u64 {
        u64::from(self.statement.0) << 32
            | u64::from(family == Family::V6) << 62
            | self.tick & 0xff_ffff_ffff
    }
}
