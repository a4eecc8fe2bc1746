//! What the echo carries: the SYN's TCP header, the time, and a keyed tag over both and the two
//! addresses.

use zeroize::Zeroize;

use crate::guard::cookie::CookieKey;
use crate::siphash::SipKey;
use crate::wire::address::Address;
use crate::wire::bytes::{put_u32, u32_at};
use crate::wire::tcp::{HEADER_BYTES as TCP_HEADER_BYTES, MAX_OPTION_BYTES, field};

/// What a payload of ours begins with.
pub const MAGIC: [u8; 4] = *b"TGEC";
/// The version of the layout that is written here, and the only one that is read.
pub const VERSION: u8 = 1;
/// Octets before the carried TCP header.
pub const HEADER_BYTES: usize = 32;
/// The most octets of a payload.
pub const MAX_PAYLOAD_BYTES: usize = HEADER_BYTES + MAX_TCP_BYTES;
/// How old an echo may be when it comes back, in milliseconds; by as much the clocks of two guards
/// may differ.
pub const MAX_AGE_MS: u64 = 4_000;

/// The longest TCP header.
const MAX_TCP_BYTES: usize = TCP_HEADER_BYTES + MAX_OPTION_BYTES;

/// Where each field stands.
mod at {
    pub(super) const VERSION: usize = 4;
    pub(super) const FLAGS: usize = 5;
    pub(super) const TCP_BYTES: usize = 6;
    pub(super) const RESERVED: usize = 7;
    pub(super) const TIME: usize = 8;
    pub(super) const TAG: usize = 16;
}

/// What an echo is for.
pub mod flag {
    /// It only asks whether the server answers pings: its reply is answered by nobody.
    pub const PROBE: u8 = 1;
}

/// What an echo brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// See [`flag`].
    pub flags: u8,
    /// Octets of the carried TCP header, which stands [`HEADER_BYTES`] after the payload's first.
    pub tcp_bytes: usize,
}

/// Why an echo that looks like ours was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoError {
    /// It is cut short, or contradicts itself.
    Malformed,
    /// It is of another version.
    Version,
    /// Its tag was not made with our keys, for these addresses and this SYN.
    Forged,
    /// It is too old, or from the future.
    Expired,
}

struct PreparedKey {
    not_before_ms: u64,
    key: SipKey,
}

impl Drop for PreparedKey {
    fn drop(&mut self) {
        self.key.erase();
    }
}

/// The keys of the echoes' tags, each made from a cookie key of the same time.
pub struct EchoJar {
    /// By rising time; never empty.
    keys: Vec<PreparedKey>,
}

impl EchoJar {
    /// The keys that follow from these. The earliest one also serves the time before it.
    ///
    /// # Panics
    /// Without any key.
    pub fn new(keys: &[CookieKey]) -> Self {
        assert!(!keys.is_empty(), "an echo jar needs a key");
        let mut keys: Vec<_> = keys.iter().map(prepare).collect();
        keys.sort_by_key(|key| key.not_before_ms);
        Self { keys }
    }

    /// Writes the payload that carries `tcp`, a SYN's TCP header of 20 to 60 octets, at the start
    /// of `into`, which has room for it; gives back its octets.
    ///
    /// # Panics
    /// When it has not, or `tcp` is longer than a TCP header.
    pub fn seal(
        &self,
        into: &mut [u8],
        tcp: &[u8],
        flags: u8,
        ends: (Address, Address),
        unix_ms: u64,
    ) -> usize {
        let into = &mut into[..HEADER_BYTES + tcp.len()];
        into[..4].copy_from_slice(&MAGIC);
        into[at::VERSION] = VERSION;
        into[at::FLAGS] = flags;
        into[at::TCP_BYTES] = tcp.len() as u8;
        into[at::RESERVED] = 0;
        put_u32(into, at::TIME, (unix_ms >> 32) as u32);
        put_u32(into, at::TIME + 4, unix_ms as u32);
        into[HEADER_BYTES..].copy_from_slice(tcp);
        let tag = self.tag(into, ends, unix_ms);
        into[at::TAG..HEADER_BYTES].copy_from_slice(&tag);
        into.len()
    }

    /// Whether a payload has our mark; anything else is a stranger's ping.
    #[inline]
    pub fn is_ours(payload: &[u8]) -> bool {
        payload.starts_with(&MAGIC)
    }

    /// Reads a payload with our mark that came back to the client `ends.0` from the server
    /// `ends.1`.
    ///
    /// # Errors
    /// When nothing may follow from it.
    pub fn open(
        &self,
        payload: &[u8],
        ends: (Address, Address),
        unix_ms: u64,
    ) -> Result<Carried, EchoError> {
        if payload.len() < HEADER_BYTES + TCP_HEADER_BYTES {
            return Err(EchoError::Malformed);
        }
        if payload[at::VERSION] != VERSION {
            return Err(EchoError::Version);
        }
        let tcp_bytes = usize::from(payload[at::TCP_BYTES]);
        let flags = payload[at::FLAGS];
        let is_whole = payload.len() == HEADER_BYTES + tcp_bytes
            && (TCP_HEADER_BYTES..=MAX_TCP_BYTES).contains(&tcp_bytes);
        let is_known = flags & !flag::PROBE == 0 && payload[at::RESERVED] == 0;
        if !(is_whole && is_known) {
            return Err(EchoError::Malformed);
        }
        let high = u64::from(u32_at(payload, at::TIME));
        let made_ms = high << 32 | u64::from(u32_at(payload, at::TIME + 4));
        let tag = self.tag(payload, ends, made_ms);
        // All of it is compared, whatever differs first.
        let difference = tag
            .iter()
            .zip(&payload[at::TAG..HEADER_BYTES])
            .fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        if difference != 0 {
            return Err(EchoError::Forged);
        }
        if unix_ms.abs_diff(made_ms) > MAX_AGE_MS {
            return Err(EchoError::Expired);
        }
        // We wrap nothing else; this holds whatever a peer of another make may have wrapped.
        if usize::from(payload[HEADER_BYTES + field::OFFSET_AND_FLAGS] >> 4) * 4 != tcp_bytes {
            return Err(EchoError::Malformed);
        }
        Ok(Carried { flags, tcp_bytes })
    }

    /// SipHash-2-4 over the first 16 octets, both addresses and the TCP header filled up to 64
    /// octets with zeros; its length stands in the first 16.
    fn tag(&self, payload: &[u8], ends: (Address, Address), made_ms: u64) -> [u8; 16] {
        let mut input = [0; 112];
        input[..at::TAG].copy_from_slice(&payload[..at::TAG]);
        input[16..32].copy_from_slice(&ends.0.octets());
        input[32..48].copy_from_slice(&ends.1.octets());
        let tcp = &payload[HEADER_BYTES..];
        input[48..48 + tcp.len()].copy_from_slice(tcp);
        let mut words = [0; 14];
        for (word, octets) in words.iter_mut().zip(input.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*octets);
        }
        let hash = self.key_of(made_ms).hash(&words);
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&hash.first().to_le_bytes());
        tag[8..].copy_from_slice(&hash.second().to_le_bytes());
        tag
    }

    fn key_of(&self, made_ms: u64) -> &SipKey {
        let found = self
            .keys
            .iter()
            .rev()
            .find(|key| key.not_before_ms <= made_ms);
        &found.unwrap_or(&self.keys[0]).key
    }
}

/// The echo key of a cookie key: what is known of the one tells nothing of the other. No cookie
/// has an input of two words.
fn prepare(cookie: &CookieKey) -> PreparedKey {
    const LABEL: [u64; 2] = [
        u64::from_le_bytes(*b"tidegate"),
        u64::from_le_bytes(*b" echo v1"),
    ];
    let mut master = SipKey::new(&cookie.secret);
    let derived = master.hash(&LABEL);
    let mut secret = [0; 16];
    secret[..8].copy_from_slice(&derived.first().to_le_bytes());
    secret[8..].copy_from_slice(&derived.second().to_le_bytes());
    let key = SipKey::new(&secret);
    secret.zeroize();
    master.erase();
    PreparedKey {
        not_before_ms: cookie.not_before_s.saturating_mul(1_000),
        key,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_123;

    fn ends() -> (Address, Address) {
        (
            Address::from_v4([198, 51, 100, 7]),
            Address::from_v4([10, 0, 0, 10]),
        )
    }

    fn key(byte: u8, not_before_s: u64) -> CookieKey {
        CookieKey {
            not_before_s,
            secret: [byte; 16],
        }
    }

    fn syn(option_words: usize) -> Vec<u8> {
        let mut tcp: Vec<u8> = (0..20 + option_words as u8 * 4).collect();
        tcp[field::OFFSET_AND_FLAGS] = (5 + option_words as u8) << 4;
        tcp
    }

    fn sealed(jar: &EchoJar, tcp: &[u8], unix_ms: u64) -> Vec<u8> {
        let mut payload = vec![0xaa; MAX_PAYLOAD_BYTES];
        let length = jar.seal(&mut payload, tcp, 0, ends(), unix_ms);
        payload.truncate(length);
        payload
    }

    #[test]
    fn an_echo_is_good_for_some_seconds_either_way() {
        // CASES 14
        let jar = EchoJar::new(&[key(1, 0)]);
        let payload = sealed(&jar, &syn(5), NOW_MS);
        for at_ms in [NOW_MS, NOW_MS + MAX_AGE_MS, NOW_MS - MAX_AGE_MS] {
            let carried = jar.open(&payload, ends(), at_ms).unwrap();
            assert_eq!((carried.flags, carried.tcp_bytes), (0, 40));
        }
        for at_ms in [NOW_MS + MAX_AGE_MS + 1, NOW_MS - MAX_AGE_MS - 1, 0] {
            let late = jar.open(&payload, ends(), at_ms);
            assert_eq!(late, Err(EchoError::Expired), "{at_ms}");
        }
    }

    #[test]
    fn two_guards_agree_across_a_rotation_of_the_key_file() {
        // CASES 14
        let rotation_s = NOW_MS / 1000 + 2;
        let (old, new) = ([key(1, 0)], [key(2, rotation_s), key(1, 0)]);
        let (old, new) = (EchoJar::new(&old), EchoJar::new(&new));
        let before = sealed(&old, &syn(0), NOW_MS);
        assert!(new.open(&before, ends(), rotation_s * 1000 + 500).is_ok());
        let after = sealed(&new, &syn(0), rotation_s * 1000);
        assert!(new.open(&after, ends(), rotation_s * 1000).is_ok());
        let refused = old.open(&after, ends(), rotation_s * 1000);
        assert_eq!(refused, Err(EchoError::Forged));
    }

    #[test]
    fn another_version_is_told_from_what_is_broken() {
        // CASES 14
        let jar = EchoJar::new(&[key(1, 0)]);
        let good = sealed(&jar, &syn(2), NOW_MS);
        let change = |place: usize, value: u8| {
            let mut changed = good.clone();
            changed[place] = value;
            jar.open(&changed, ends(), NOW_MS)
        };
        assert_eq!(change(at::VERSION, 2), Err(EchoError::Version));
        assert_eq!(change(at::FLAGS, 2), Err(EchoError::Malformed));
        assert_eq!(change(at::RESERVED, 1), Err(EchoError::Malformed));
        assert_eq!(change(at::TCP_BYTES, 24), Err(EchoError::Malformed));
        assert_eq!(change(at::TCP_BYTES, 255), Err(EchoError::Malformed));
        assert_eq!(change(at::FLAGS, flag::PROBE), Err(EchoError::Forged));
        for length in 0..good.len() {
            let cut = jar.open(&good[..length], ends(), NOW_MS);
            assert_eq!(cut, Err(EchoError::Malformed), "{length}");
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(jar.open(&longer, ends(), NOW_MS), Err(EchoError::Malformed));
    }

    #[test]
    fn the_key_of_a_cookie_is_not_that_of_an_echo() {
        let jar = EchoJar::new(&[key(1, 0)]);
        let payload = sealed(&jar, &syn(0), NOW_MS);
        let plain = EchoJar {
            keys: vec![PreparedKey {
                not_before_ms: 0,
                key: SipKey::new(&[1; 16]),
            }],
        };
        assert_eq!(plain.open(&payload, ends(), NOW_MS), Err(EchoError::Forged));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            option_words in 0usize..=10, fill in any::<u8>(), unix_ms in 0u64..1 << 45,
            probe in any::<bool>(), bits in any::<(u128, u128)>(),
        ) {
            let jar = EchoJar::new(&[key(7, 0)]);
            let mut tcp = vec![fill; 20 + option_words * 4];
            tcp[field::OFFSET_AND_FLAGS] = (5 + option_words as u8) << 4;
            let ends = (Address::from_bits(bits.0), Address::from_bits(bits.1));
            let mut payload = vec![0; MAX_PAYLOAD_BYTES];
            let length = jar.seal(&mut payload, &tcp, u8::from(probe), ends, unix_ms);
            let carried = jar.open(&payload[..length], ends, unix_ms).unwrap();
            prop_assert!(EchoJar::is_ours(&payload));
            prop_assert_eq!(carried.flags & flag::PROBE != 0, probe);
            prop_assert_eq!(&payload[HEADER_BYTES..HEADER_BYTES + carried.tcp_bytes], &tcp[..]);
        }

        #[test]
        fn a_flipped_bit_anywhere_is_refused(place in 0usize..72, bit in 0u8..8) {
            // CASES 14
            let jar = EchoJar::new(&[key(7, 0)]);
            let mut payload = sealed(&jar, &syn(5), NOW_MS);
            payload[place] ^= 1 << bit;
            prop_assert!(
                !EchoJar::is_ours(&payload) || jar.open(&payload, ends(), NOW_MS).is_err()
            );
        }

        #[test]
        fn it_is_good_for_its_two_ends_alone(bit in 0u32..256) {
            // CASES 14
            let jar = EchoJar::new(&[key(7, 0)]);
            let payload = sealed(&jar, &syn(5), NOW_MS);
            let flip = |address: Address, bit: u32| {
                Address::from_bits(address.to_bits() ^ 1u128.checked_shl(bit).unwrap_or(0))
            };
            let others = (flip(ends().0, bit), flip(ends().1, bit.wrapping_sub(128)));
            let refused = jar.open(&payload, others, NOW_MS);
            prop_assert_eq!(refused, Err(EchoError::Forged));
        }

        #[test]
        fn no_octets_make_it_panic(mut payload in proptest::collection::vec(any::<u8>(), 0..120)) {
            let jar = EchoJar::new(&[key(7, 0)]);
            if payload.len() > 7 {
                payload[..4].copy_from_slice(&MAGIC);
                payload[at::VERSION] = VERSION;
                payload[at::FLAGS] &= 1;
                payload[at::RESERVED] = 0;
                payload[at::TCP_BYTES] = payload.len().saturating_sub(HEADER_BYTES) as u8;
            }
            prop_assert!(jar.open(&payload, ends(), NOW_MS).is_err());
        }
    }
}
