//! Whom to ask for a flow: the *director*, which every guard finds alike without asking.

use std::hash::{Hash, Hasher};

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher13;

use super::PeerId;
use super::record::FlowKey;
use crate::limits::MAX_PEERS;

/// The key of the hash, the same for all guards at all times: were it secret, it would change with
/// the keys, and the directors with it. Who knows it can choose whom his own flows' questions go
/// to; how many are asked is limited by those who ask.
const KEY: (u64, u64) = (0x7469_6465_6761_7465, 0x6469_7265_6374_6f72);

/// The guards that can be asked, ourselves among them when we can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directors(pub(super) ArrayVec<PeerId, MAX_PEERS>);

impl Directors {
    /// The director of a flow, and who would be if it were not there (rendezvous hashing, Thaler
    /// and Ravishankar, 1998): when a guard comes or goes, only its own flows change theirs.
    pub(super) fn of(&self, flow: &FlowKey) -> (Option<PeerId>, Option<PeerId>) {
        let mut hasher = SipHasher13::new_with_keys(KEY.0, KEY.1);
        hasher.write(&flow.write());
        let hash = hasher.finish();
        let (mut first, mut second) = (None, None);
        for &peer in &self.0 {
            let candidate = Some((weight(hash, peer), peer));
            if candidate > first {
                second = first;
                first = candidate;
            } else if candidate > second {
                second = candidate;
            }
        }
        (first.map(|(_, peer)| peer), second.map(|(_, peer)| peer))
    }
}

fn weight(hash: u64, peer: PeerId) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(hash, KEY.1);
    peer.0.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::Address;

    fn flow(number: u32) -> FlowKey {
        FlowKey {
            client: Address::from_v4(number.to_be_bytes()),
            server: Address::from_v4([10, 0, 0, 10]),
            client_port: number as u16,
            server_port: 443,
        }
    }

    fn directors(peers: &[u8]) -> Directors {
        Directors(peers.iter().map(|&peer| PeerId(peer)).collect())
    }

    #[test]
    fn shares_are_equal_and_only_the_goners_flows_move() {
        let all = directors(&[1, 2, 3, 9]);
        let fewer = directors(&[9, 1, 3]);
        let mut shares = [0; 10];
        for number in 0..8_000 {
            let (first, second) = all.of(&flow(number));
            shares[usize::from(first.unwrap().0)] += 1;
            assert_ne!(first, second);
            let heir = if first == Some(PeerId(2)) {
                second
            } else {
                first
            };
            assert_eq!(fewer.of(&flow(number)).0, heir);
        }
        for peer in [1, 2, 3, 9] {
            assert!((1_800..2_200).contains(&shares[peer]), "{shares:?}");
        }
    }

    #[test]
    fn nobody_and_one_alone() {
        assert_eq!(directors(&[]).of(&flow(1)), (None, None));
        assert_eq!(directors(&[7]).of(&flow(1)), (Some(PeerId(7)), None));
    }
}
