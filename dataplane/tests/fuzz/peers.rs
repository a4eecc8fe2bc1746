//! Frames of a peer: what it sealed says anything, or nobody sealed it.
//!
//! The frames are sealed here by what `docs/wire/replication.md` says, and by nothing else.

use dataplane::drop_reason::DropReason;
use dataplane::limits::PEER_NEWS;
use dataplane::replicate::PeerId;
use dataplane::replicate::config::{MAX_PAYLOAD_BYTES, PeerConfig, ReplicatorConfig};
use dataplane::replicate::frame::BootId;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::replicator::Replicator;
use dataplane::replicate::tally::Tally;
use dataplane::wire::address::Address;
use dataplane::worker::Time;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use crate::engine::shape_of;

const SECRET: [u8; 32] = [7; 32];
const OWN: BootId = BootId {
    started_ms: 1_000,
    random: 1,
};
/// Frames that one frame may cause: greetings, and what was asked for.
const MAX_ANSWERS: usize = 64;

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(info: &[u8]) -> [u8; N] {
    let secret = Salt::new(HKDF_SHA256, b"tidegate replication 1").extract(&SECRET);
    let mut key = [0; N];
    let info = [info];
    let okm = secret.expand(&info, Octets(N)).unwrap();
    okm.fill(&mut key).unwrap();
    key
}

/// A frame of peer 2.
fn sealed(number: u64, items: &[u8]) -> Vec<u8> {
    let boot: Vec<u8> = [2_000u64, 2]
        .iter()
        .flat_map(|half| half.to_be_bytes())
        .collect();
    let mut frame = vec![1, 0, 2, 255, 0, 0, 0, 5];
    frame.extend(&boot);
    frame.extend(number.to_be_bytes());
    let mut hasher = SipHasher24::new_with_key(&expand(b"header"));
    hasher.write(&frame);
    frame.extend(hasher.finish128().h1.to_le_bytes());
    let key: [u8; 32] = expand(&[b"frame", &[2][..], &boot].concat());
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    let mut items = items.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let header = Aad::from(frame.clone());
    key.seal_in_place_append_tag(nonce, header, &mut items)
        .unwrap();
    frame.extend(items);
    frame
}

/// The items by which peer 2 shows that it knows our life.
fn greeting() -> Vec<u8> {
    let mut items = vec![1, 0, 0, 32, 1, 2, 0, 0, 0, 0, 16, 0];
    items.extend(
        [1_000u64, 1, 1]
            .iter()
            .flat_map(|number| number.to_be_bytes()),
    );
    items.extend([2, 0, 0, 46, 0, 1, 0, 42, 1, 1]);
    let numbers = [OWN.started_ms, OWN.random, 0, 0, 0];
    items.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    items
}

fn begun() -> Replicator {
    let mut config = ReplicatorConfig::new(PeerId(1), OWN);
    config.peers = [2, 3]
        .map(|id| PeerConfig {
            id: PeerId(id),
            address: None,
        })
        .to_vec();
    config.keys = vec![ReplicationKey {
        not_before_s: 5,
        secret: SECRET,
    }];
    config.workers = 2;
    config.history_batches = 4;
    Replicator::new(config, time(0))
}

fn time(now_ms: u64) -> Time {
    Time {
        now_ns: 1_000_000_000 + now_ms * 1_000_000,
        unix_ms: 1_763_673_000_000 + now_ms,
    }
}

/// Takes everything out; how many frames and news there were.
fn drain(replicator: &mut Replicator) -> (usize, usize) {
    let mut payload = [0; MAX_PAYLOAD_BYTES];
    let mut frames = 0;
    while let Some((_, length)) = replicator.next_datagram(&mut payload) {
        assert!(length <= 1_400);
        frames += 1;
        assert!(frames <= MAX_ANSWERS, "an answer without end");
    }
    let mut news = 0;
    while replicator.next_news().is_some() {
        news += 1;
    }
    while replicator.next_event().is_some() {}
    (frames, news)
}

/// The first octet says whether the others are a frame or the items of one that is sealed.
pub(crate) fn peers(input: &[u8]) -> Result<u64, DropReason> {
    let source = (Address::from_v4([192, 0, 2, 2]), 9_000);
    let mut replicator = begun();
    replicator.receive(time(1), source, &sealed(1, &greeting()));
    drain(&mut replicator);
    assert_eq!(replicator.tallies().get(Tally::FrameReceived), 1);
    let Some((&how, rest)) = input.split_first() else {
        return Ok(0);
    };
    let is_sealed = how & 1 == 0;
    let frame = if is_sealed {
        sealed(2, rest)
    } else {
        rest.to_vec()
    };
    let before = replicator.status();
    replicator.receive(time(1), source, &frame);
    assert!(replicator.news_waiting() <= PEER_NEWS);
    let refused = |what: Tally| what.label().starts_with("refused");
    let is_refused = replicator
        .tallies()
        .iter()
        .any(|(what, count)| refused(what) && count > 0);
    let counted: u64 = replicator.tallies().iter().map(|(_, count)| count).sum();
    assert!(counted > 1, "the frame is not accounted for");
    if is_refused {
        assert_eq!(
            replicator.status(),
            before,
            "a refused frame changed something"
        );
        assert_eq!(drain(&mut replicator).1, 0);
    }
    assert!(
        is_sealed || is_refused || frame[2] != 2,
        "it was not sealed"
    );
    let mut answers = (0, 0);
    for step in 0..8 {
        replicator.tick(time(2 + step * 60));
        let (frames, news) = drain(&mut replicator);
        answers = (answers.0 + frames, answers.1 + news);
    }
    let happened: Vec<_> = replicator
        .tallies()
        .iter()
        .map(|(_, count)| count.min(3))
        .collect();
    Ok(shape_of((happened, answers.0.min(40), answers.1.min(8))))
}
