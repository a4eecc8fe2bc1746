//! SYN cookies: the whole of a half-open connection in 32 bits of sequence number and, where the
//! client does timestamps, 32 bits of timestamp. `docs/wire/cookie.md` tells the layout.
//!
//! A guard that has the key can check a cookie that another guard made: the key is chosen by the
//! cookie's own time, so no state and no epoch number is needed.

use arrayvec::ArrayVec;
use bindings::cipher::CipherKey;
use zeroize::Zeroize;

use super::mss;
use crate::limits::BURST;
use crate::siphash::SipKey;
use crate::wire::address::{Address, Family};

/// Seconds of one tick of the coarse clock. A cookie is good in the tick it was made in and in the
/// next, so for 32 to 64 seconds.
pub const TICK_S: u64 = 32;

/// How long a cookie can be good at most, in seconds.
pub const MAX_AGE_S: u64 = 2 * TICK_S;

/// The window scales that a cookie without timestamps can tell; a client's is rounded down, which
/// only makes its window look smaller than it is.
const COARSE_SCALES: [u8; 6] = [0, 3, 5, 7, 8, 10];
/// The window scale that a client is told for the server by a cookie without timestamps.
pub const COARSE_TOLD_SCALE: u8 = 7;
/// Bits of a timestamp that say what was agreed on; the others authenticate it.
const DETAIL_BITS: u32 = 10;
const DETAIL_MASK: u32 = (1 << DETAIL_BITS) - 1;

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
    fn coarse(&self) -> u8 {
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
    fn from_coarse(mss_class: u8, coarse: u8) -> Self {
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
    fn fine(&self) -> u16 {
        let nibble = |scale: Option<u8>| u16::from(scale.map_or(15, |scale| scale.min(14)));
        nibble(self.told_scale) << 6
            | nibble(self.window_scale) << 2
            | u16::from(self.sack) << 1
            | u16::from(self.ecn)
    }

    #[inline]
    fn from_fine(mss_class: u8, fine: u16) -> Self {
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
    tick: u64,
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
    fn blocks(&self, tuple: &Tuple) -> [u128; 2] {
        let octets = |address: Address| u64::from((address.to_bits() as u32).swap_bytes());
        let addresses = octets(tuple.client) | octets(tuple.server) << 32;
        [
            u128::from(self.meta(Family::V4)),
            halves(addresses, tuple.numbers()),
        ]
    }

    /// Tells the family, and so how many blocks there are.
    #[inline(always)]
    fn meta(&self, family: Family) -> u64 {
        u64::from(self.statement.0) << 32
            | u64::from(family == Family::V6) << 62
            | self.tick & 0xff_ffff_ffff
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8, not_before_s: u64) -> CookieKey {
        CookieKey {
            not_before_s,
            secret: [byte; 16],
        }
    }

    fn tuple() -> Tuple {
        Tuple {
            client: Address::from_v4([198, 51, 100, 7]),
            server: Address::from_v4([10, 0, 0, 10]),
            client_port: 40_000,
            server_port: 80,
            client_sequence: 0xdead_beef,
        }
    }

    fn full() -> Agreed {
        Agreed {
            mss_class: 22,
            window_scale: Some(9),
            told_scale: Some(4),
            sack: true,
            ecn: true,
            timestamps: true,
        }
    }

    #[test]
    fn a_cookie_lasts_for_its_tick_and_the_next() {
        // CASES 2
        let jar = CookieJar::new(&[key(1, 0)]);
        let made_s = 1000 * TICK_S;
        let cookie = jar.make(&tuple(), full(), made_s);
        for age_s in [0, TICK_S - 1, TICK_S, 2 * TICK_S - 1] {
            assert_eq!(
                jar.check(&tuple(), cookie, true, made_s + age_s),
                Ok(full()),
                "{age_s}"
            );
        }
        let late = jar.check(&tuple(), cookie, true, made_s + 2 * TICK_S);
        assert_eq!(late, Err(CookieError::Expired));
        for age_s in [3 * TICK_S, 4 * TICK_S, 5 * TICK_S, 400 * TICK_S] {
            assert!(
                jar.check(&tuple(), cookie, true, made_s + age_s).is_err(),
                "{age_s}"
            );
        }
        // A peer whose clock is a tick behind takes it too.
        assert_eq!(jar.check(&tuple(), cookie, true, made_s - 1), Ok(full()));
    }

    #[test]
    fn two_guards_with_the_same_keys_agree_across_a_rotation() {
        let rotation_s = 5000 * TICK_S;
        let old = CookieJar::new(&[key(1, 0)]);
        let new = CookieJar::new(&[key(2, rotation_s), key(1, 0)]);
        let before = old.make(&tuple(), full(), rotation_s - 1);
        assert_eq!(
            new.check(&tuple(), before, true, rotation_s + 1),
            Ok(full())
        );
        let after = new.make(&tuple(), full(), rotation_s);
        assert_eq!(new.check(&tuple(), after, true, rotation_s), Ok(full()));
        assert_eq!(
            old.check(&tuple(), after, true, rotation_s),
            Err(CookieError::Invalid)
        );
    }

    #[test]
    fn leaving_the_timestamps_out_does_not_weaken_a_cookie_made_with_them() {
        let jar = CookieJar::new(&[key(1, 0)]);
        let cookie = jar.make(&tuple(), full(), 77);
        assert_eq!(
            jar.check(&tuple(), cookie, false, 77),
            Err(CookieError::Invalid)
        );
    }

    #[test]
    fn scales_are_rounded_down() {
        let coarse = Agreed {
            window_scale: Some(9),
            sack: true,
            ..full()
        }
        .without_timestamps();
        assert_eq!(coarse.window_scale, Some(8));
        assert!(!coarse.ecn);
    }

    fn any_agreed() -> impl Strategy<Value = Agreed> {
        let scale = || proptest::option::of(0u8..15);
        (
            0u8..32,
            scale(),
            scale(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(
                |(mss_class, window_scale, told_scale, sack, ecn, timestamps)| {
                    let agreed = Agreed {
                        mss_class,
                        window_scale,
                        told_scale,
                        sack,
                        ecn,
                        timestamps,
                    };
                    if timestamps {
                        agreed
                    } else {
                        let mss_class = mss_class & 7;
                        Agreed {
                            mss_class,
                            ..agreed
                        }
                        .without_timestamps()
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            agreed in any_agreed(), bits in any::<(u128, u128)>(), ports in any::<(u16, u16)>(),
            client_sequence in any::<u32>(), unix_s in 0u64..1 << 40, v6 in any::<bool>(),
        ) {
            let of = |bits: u128| if v6 {
                Address::from_bits(bits | 1 << 127)
            } else {
                Address::from_v4((bits as u32).to_be_bytes())
            };
            let tuple = Tuple {
                client: of(bits.0), server: of(bits.1),
                client_port: ports.0, server_port: ports.1, client_sequence,
            };
            let jar = CookieJar::new(&[key(7, 0)]);
            let cookie = jar.make(&tuple, agreed, unix_s);
            prop_assert_eq!(jar.check(&tuple, cookie, agreed.timestamps, unix_s), Ok(agreed));
            prop_assert_eq!(Agreed::from_packed(agreed.packed()), agreed);
        }

        #[test]
        fn a_flipped_bit_anywhere_is_refused(bit in 0usize..32, field in 0usize..6) {
            // CASES 2
            let jar = CookieJar::new(&[key(7, 0)]);
            let cookie = jar.make(&tuple(), full(), 640);
            let (mut other, mut forged) = (tuple(), cookie);
            match field {
                0 => forged.sequence ^= 1 << bit,
                1 => forged.timestamp ^= 1 << bit,
                2 => other.client_sequence ^= 1 << bit,
                3 => other.client_port ^= 1 << (bit & 15),
                4 => other.server_port ^= 1 << (bit & 15),
                _ => other.client = Address::from_bits(other.client.to_bits() ^ 1 << bit),
            }
            prop_assert!(jar.check(&other, forged, true, 640).is_err());
        }
    }

    #[test]
    fn few_of_many_guesses_are_accepted() {
        // 2^20 guesses at a 24-bit code: 1/16 expected for each of the four tick values.
        let jar = CookieJar::new(&[key(3, 0)]);
        let mut guess = 0x9e37_79b9u32;
        let accepted = (0..1 << 20)
            .filter(|_| {
                guess = guess.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                let cookie = Cookie {
                    sequence: guess,
                    timestamp: 0,
                };
                jar.check(&tuple(), cookie, false, 99).is_ok()
            })
            .count();
        assert!(accepted <= 4, "{accepted}");
    }
}
