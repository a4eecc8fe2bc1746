//! SYN cookies: the whole of a half-open connection in 32 bits of sequence number and, where the
//! client does timestamps, 32 bits of timestamp. `docs/wire/cookie.md` tells the layout.
//!
//! A guard that has the key can check a cookie that another guard made: the key is chosen by the
//! cookie's own time, so no state and no epoch number is needed.

mod agreed;
mod claim;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;
use bindings::cipher::CipherKey;
use zeroize::Zeroize;

pub use self::agreed::{Agreed, COARSE_TOLD_SCALE};
pub(crate) use self::claim::{Claim, Statement};
use crate::limits::BURST;
use crate::siphash::SipKey;
use crate::wire::address::{Address, Family};

/// Seconds of one tick of the coarse clock. A cookie is good in the tick it was made in and in the
/// next, so for 32 to 64 seconds.
pub const TICK_S: u64 = 32;

/// How long a cookie can be good at most, in seconds.
pub const MAX_AGE_S: u64 = 2 * TICK_S;

/// A cookie as it stands in the SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The SYN-ACK's sequence number.
    pub sequence: u32,
    /// The SYN-ACK's timestamp value; meaningless without timestamps.
    pub timestamp: u32,
}

/// The connection that a cookie is for, as the client's SYN told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// The client's address.
    pub client: Address,
    /// The server's address.
    pub server: Address,
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
    /// The client's initial sequence number.
    pub client_sequence: u32,
}

/// Why a cookie was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieError {
    /// Not ours, or of another connection.
    Invalid,
    /// Made in a tick that is over.
    Expired,
}

/// A key and the time from which it makes cookies.
#[derive(Clone)]
pub struct CookieKey {
    /// Seconds since 1970 from which this key is used.
    pub not_before_s: u64,
    /// 128 secret bits.
    pub secret: [u8; 16],
}

impl Drop for CookieKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CookieKey(from {} s)", self.not_before_s)
    }
}

struct PreparedKey {
    first_tick: u64,
    key: CipherKey,
}

/// The cipher's key of a cookie key: what is known of the one tells nothing of the other.
fn prepare(key: &CookieKey) -> PreparedKey {
    const LABEL: [u64; 2] = [
        u64::from_le_bytes(*b"tidegate"),
        u64::from_le_bytes(*b"cookie 3"),
    ];
    let mut master = SipKey::new(&key.secret);
    let derived = master.hash(&LABEL);
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&derived.first().to_le_bytes());
    secret[8..].copy_from_slice(&derived.second().to_le_bytes());
    let prepared = PreparedKey {
        first_tick: key.not_before_s.div_ceil(TICK_S),
        key: CipherKey::new(&secret),
    };
    secret.zeroize();
    master.erase();
    prepared
}

/// What a cookie authenticates itself by: parts of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codes {
    /// 24 bits of it.
    sequence: u32,
    /// 22 others.
    timestamp: u32,
}

impl Codes {
    /// In place of codes that are not made.
    pub(crate) const NONE: Self = Self {
        sequence: 0,
        timestamp: 0,
    };

    /// Of all 128 bits.
    #[inline(always)]
    fn of(code: u128) -> Self {
        Self {
            sequence: code as u32 & 0xff_ffff,
            timestamp: (code >> 64) as u32 & 0x3f_ffff,
        }
    }
}

impl Tuple {
    #[inline(always)]
    fn numbers(&self) -> u64 {
        let ports = u32::from(self.client_port) << 16 | u32::from(self.server_port);
        u64::from(self.client_sequence) << 32 | u64::from(ports)
    }
}

#[inline(always)]
fn halves(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// Cookies of a burst of IPv4 segments, whose codes are made at once: alone, each would wait for its
/// own rounds of the cipher.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    /// Where in its burst each stands.
    places: ArrayVec<u8, BURST>,
    blocks: ArrayVec<[u128; 2], BURST>,
}

/// The keys of a guard: makes cookies and checks them.
pub struct CookieJar {
    /// By rising first tick; never empty.
    keys: Vec<PreparedKey>,
}

impl CookieJar {
    /// A jar of these keys. The earliest key also serves the time before it.
    ///
    /// # Panics
    /// Without any key.
    pub fn new(keys: &[CookieKey]) -> Self {
        assert!(!keys.is_empty(), "a cookie jar needs a key");
        let mut keys: Vec<_> = keys.iter().map(prepare).collect();
        keys.sort_by_key(|key| key.first_tick);
        Self { keys }
    }

    /// The cookie for a SYN, or a SYN's answer, at `unix_s` seconds since 1970. `agreed` must be
    /// representable: without timestamps, pass it through [`Agreed::without_timestamps`].
    #[inline(always)]
    pub fn make(&self, tuple: &Tuple, agreed: Agreed, unix_s: u64) -> Cookie {
        let claim = Claim::new(Statement::of(agreed), unix_s);
        claim.cookie(self.codes(tuple, &claim))
    }

    /// What was agreed on, if `cookie` was made for this connection and is young enough.
    /// `cookie.timestamp` counts only with `timestamps`.
    ///
    /// # Errors
    /// When it was not, or is not. A cookie two ticks old cannot be told from a forged one and
    /// from one four ticks old; it is called expired where its code still proves it.
    #[inline(always)]
    pub fn check(
        &self,
        tuple: &Tuple,
        cookie: Cookie,
        timestamps: bool,
        unix_s: u64,
    ) -> Result<Agreed, CookieError> {
        let claim = Claim::of(cookie, timestamps, unix_s);
        claim.judge(cookie, self.codes(tuple, &claim))
    }

    /// The codes of a connection's cookie that says so.
    #[inline(always)]
    pub(crate) fn codes(&self, tuple: &Tuple, claim: &Claim) -> Codes {
        let key = &self.key_of(claim.tick).key;
        // Addresses stand in network order, numbers in little-endian order.
        Codes::of(match tuple.client.family() {
            Family::V4 => key.code(claim.blocks(tuple)),
            Family::V6 => {
                let octets = |address: Address| address.to_bits().swap_bytes();
                let ends = [octets(tuple.client), octets(tuple.server)];
                let first = halves(claim.meta(Family::V6), tuple.numbers());
                key.code([first, ends[0], ends[1]])
            }
        })
    }

    /// The same, where they are rarely asked for.
    #[cold]
    #[inline(never)]
    pub(crate) fn codes_alone(&self, tuple: &Tuple, claim: &Claim) -> Codes {
        self.codes(tuple, claim)
    }

    /// Has the codes of an IPv4 connection's cookie made with others, if their key is the present
    /// one. They come out at `place`.
    #[inline(always)]
    pub(crate) fn await_codes(
        &self,
        place: usize,
        tuple: &Tuple,
        claim: &Claim,
        unix_s: u64,
        awaited: &mut Awaited,
    ) {
        let has_one_key = self.keys.len() == 1
            || std::ptr::eq(self.key_of(claim.tick), self.key_of(unix_s / TICK_S));
        if has_one_key && !awaited.blocks.is_full() {
            awaited.places.push(place as u8);
            awaited.blocks.push(claim.blocks(tuple));
        }
    }

    /// Makes the codes that were awaited, and tells each with its place.
    #[inline(always)]
    pub(crate) fn make_codes(
        &self,
        awaited: &Awaited,
        unix_s: u64,
        mut tell: impl FnMut(usize, Codes),
    ) {
        let key = &self.key_of(unix_s / TICK_S).key;
        let mut places = awaited.places.iter();
        key.code_all(&awaited.blocks, |code| {
            if let Some(&place) = places.next() {
                tell(usize::from(place), Codes::of(code));
            }
        });
    }

    #[inline(always)]
    fn key_of(&self, tick: u64) -> &PreparedKey {
        self.keys
            .iter()
            .rev()
            .find(|key| key.first_tick <= tick)
            .unwrap_or(&self.keys[0])
    }
}
