//! The keys of the frames: one secret that all guards have, an epoch at a time, and out of it a key
//! of its own for every life of every guard.
//!
//! A nonce is a frame's number, which begins anew with each life; so the sealing key is derived
//! (HKDF, RFC 5869) from the epoch's secret, the sender's number and its boot id, and no pair of
//! key and nonce ever comes twice.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroize;

use super::PeerId;
use super::frame::{BootId, CHECKED_BYTES, HEADER_BYTES, TAG_BYTES};
use super::tally::Tally;
use crate::siphash::SipKey;

/// For how long before its time and after its successor's time a key still opens frames, in
/// seconds: what clocks may differ by and frames be late.
pub const KEY_OVERLAP_S: u64 = 64;
/// Keys of one file.
pub const MAX_REPLICATION_KEYS: usize = 16;

/// What separates these keys from any others that are made of the same secret.
const SALT: &[u8] = b"tidegate replication 1";

/// A secret and the time from which it seals.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplicationKey {
    /// Seconds since 1970 from which this key is used. All guards have the same.
    pub not_before_s: u64,
    /// 256 secret bits.
    pub secret: [u8; 32],
}

impl Drop for ReplicationKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl std::fmt::Debug for ReplicationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplicationKey(from {} s)", self.not_before_s)
    }
}

/// A length for HKDF's output.
struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// `N` octets out of `secret`, for the purpose that `info` names.
fn expand<const N: usize>(secret: &Prk, info: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    secret
        .expand(info, Octets(N))
        .and_then(|okm| okm.fill(&mut key))
        .expect("HKDF gives as few octets as these");
    key
}

/// One key of the file, ready for use.
struct Epoch {
    not_before_s: u64,
    secret: Prk,
    /// Of the header check.
    check: SipKey,
}

impl Epoch {
    fn new(key: &ReplicationKey) -> Self {
        let secret = Salt::new(HKDF_SHA256, SALT).extract(&key.secret);
        let mut check: [u8; 16] = expand(&secret, &[b"header"]);
        let prepared = SipKey::new(&check);
        check.zeroize();
        Self {
            not_before_s: key.not_before_s,
            secret,
            check: prepared,
        }
    }

    /// Its name in a header.
    fn name(&self) -> u32 {
        self.not_before_s as u32
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.check.erase();
    }
}

/// The keys that are known.
pub(super) struct Keys {
    /// By rising time.
    epochs: Vec<Epoch>,
}

impl Keys {
    /// Out of what a file holds: of several for the same time the first one, and the first
    /// [`MAX_REPLICATION_KEYS`] by time.
    pub(super) fn new(keys: &[ReplicationKey]) -> Self {
        let mut epochs: Vec<_> = keys.iter().map(Epoch::new).collect();
        epochs.sort_by_key(|epoch| epoch.not_before_s);
        epochs.dedup_by_key(|epoch| epoch.not_before_s);
        epochs.truncate(MAX_REPLICATION_KEYS);
        Self { epochs }
    }

    /// The place of the key that seals at `now_s`: the newest whose time has come. The first one
    /// also serves the time before it. `None` without any key.
    pub(super) fn sealing(&self, now_s: u64) -> Option<usize> {
        let begun = self
            .epochs
            .iter()
            .rposition(|epoch| epoch.not_before_s <= now_s);
        begun.or((!self.epochs.is_empty()).then_some(0))
    }

    /// The place of the key of this name.
    pub(super) fn place(&self, name: u32) -> Option<usize> {
        self.epochs.iter().rposition(|epoch| epoch.name() == name)
    }

    /// The place of the key that a header names, if it opens at `now_s`.
    pub(super) fn opening(&self, name: u32, now_s: u64) -> Option<usize> {
        let place = self.place(name)?;
        let begins = self.epochs[place].not_before_s;
        let ends = self
            .epochs
            .get(place + 1)
            .map_or(u64::MAX, |next| next.not_before_s);
        let has_begun = place == 0 || begins <= now_s.saturating_add(KEY_OVERLAP_S);
        let is_over = ends.saturating_add(KEY_OVERLAP_S) < now_s;
        (has_begun && !is_over).then_some(place)
    }

    /// The name of the key at `place`.
    pub(super) fn name(&self, place: usize) -> u32 {
        self.epochs[place].name()
    }

    /// The header check: a stranger's frame ends here, before a key is derived for it.
    pub(super) fn check(&self, place: usize, header: &[u8; CHECKED_BYTES]) -> [u8; 8] {
        let mut words = [0; CHECKED_BYTES / 8];
        for (word, octets) in words.iter_mut().zip(header.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*octets);
        }
        let hash = self.epochs[place].check.hash(&words);
        hash.first().to_le_bytes()
    }

    /// The key of one life of one sender.
    pub(super) fn derive(&self, place: usize, sender: PeerId, boot: BootId) -> FrameKey {
        let info = [
            &b"frame"[..],
            &[sender.0],
            &boot.started_ms.to_be_bytes(),
            &boot.random.to_be_bytes(),
        ];
        let mut key: [u8; 32] = expand(&self.epochs[place].secret, &info);
        let unbound = UnboundKey::new(&AES_256_GCM, &key).expect("32 octets are a key");
        key.zeroize();
        FrameKey {
            epoch: self.name(place),
            key: LessSafeKey::new(unbound),
        }
    }
}

/// The key of one epoch, sender and life.
pub(super) struct FrameKey {
    /// Its epoch's name in a header.
    pub(super) epoch: u32,
    key: LessSafeKey,
}

impl FrameKey {
    /// Seals what stands behind the header in `frame`, and adds the tag.
    pub(super) fn seal(&self, number: u64, frame: &mut Vec<u8>) {
        let (header, items) = frame.split_at_mut(HEADER_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::from(&*header), items)
            .expect("a frame is shorter than what one nonce may seal");
        frame.extend_from_slice(tag.as_ref());
    }

    /// Opens a whole frame in place and gives its items.
    pub(super) fn open<'a>(&self, number: u64, frame: &'a mut [u8]) -> Result<&'a [u8], Tally> {
        let (header, sealed) = frame
            .split_at_mut_checked(HEADER_BYTES)
            .ok_or(Tally::RefusedTruncated)?;
        let end = sealed
            .len()
            .checked_sub(TAG_BYTES)
            .ok_or(Tally::RefusedTruncated)?;
        let (items, tag) = sealed.split_at_mut(end);
        let tag = Tag::try_from(&*tag).map_err(|_| Tally::RefusedTruncated)?;
        self.key
            .open_in_place_separate_tag(nonce(number), Aad::from(&*header), tag, items, 0..)
            .map(|items| &*items)
            .map_err(|_| Tally::RefusedTag)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut octets = [0; 12];
    octets[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId {
        started_ms: 1_000,
        random: 7,
    };

    fn keys(times: &[u64]) -> Keys {
        let key = |&not_before_s: &u64| ReplicationKey {
            not_before_s,
            secret: [not_before_s as u8; 32],
        };
        Keys::new(&times.iter().map(key).collect::<Vec<_>>())
    }

    fn sealed(key: &FrameKey) -> Vec<u8> {
        let mut frame = vec![3; HEADER_BYTES + 100];
        key.seal(1, &mut frame);
        frame
    }

    #[test]
    fn the_newest_begun_seals_and_neighbours_open_within_the_overlap() {
        // CASES 14
        let keys = keys(&[3_000, 1_000, 2_000]);
        assert_eq!(keys.sealing(0), Some(0));
        assert_eq!(keys.sealing(1_999), Some(0));
        assert_eq!(keys.sealing(2_000), Some(1));
        assert_eq!(keys.opening(1_000, 0), Some(0));
        assert_eq!(keys.opening(1_000, 2_064), Some(0));
        assert_eq!(keys.opening(1_000, 2_065), None);
        assert_eq!(keys.opening(2_000, 1_935), None);
        assert_eq!(keys.opening(2_000, 1_936), Some(1));
        assert_eq!(keys.opening(3_000, 1 << 40), Some(2));
        assert_eq!(keys.opening(4_000, 3_000), None);
        assert_eq!(Keys::new(&[]).sealing(5), None);
    }

    #[test]
    fn every_life_sender_and_epoch_has_its_own_key() {
        // CASES 14
        let keys = keys(&[1, 2]);
        let frame = sealed(&keys.derive(0, PeerId(1), BOOT));
        let others = [
            keys.derive(1, PeerId(1), BOOT),
            keys.derive(0, PeerId(2), BOOT),
            keys.derive(0, PeerId(1), BootId { random: 8, ..BOOT }),
            keys.derive(
                0,
                PeerId(1),
                BootId {
                    started_ms: 1_001,
                    ..BOOT
                },
            ),
        ];
        for other in others {
            let refused = other.open(1, &mut frame.clone()).err();
            assert_eq!(refused, Some(Tally::RefusedTag));
        }
        let own = keys.derive(0, PeerId(1), BOOT);
        assert_eq!(own.open(1, &mut frame.clone()), Ok(&[3; 100][..]));
        assert_eq!(own.open(2, &mut frame.clone()), Err(Tally::RefusedTag));
    }

    #[test]
    fn no_changed_bit_opens() {
        // CASES 14
        let keys = keys(&[1]);
        let key = keys.derive(0, PeerId(1), BOOT);
        let frame = sealed(&key);
        for bit in 0..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(1, &mut changed), Err(Tally::RefusedTag), "{bit}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = ReplicationKey {
            not_before_s: 5,
            secret: [99; 32],
        };
        assert_eq!(format!("{key:?}"), "ReplicationKey(from 5 s)");
    }
}
