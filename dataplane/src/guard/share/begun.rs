//! Handshakes that a peer began: who shares already with the SYN-ACK lets any guard finish them,
//! even one that has not got the key of their cookies (seed 000, "interim connection parameters").

use crate::guard::cookie::{Agreed, Cookie, MAX_AGE_S, Tuple};
use crate::limits::MAX_BEGUN;
use crate::siphash::SipKey;

/// One handshake as the peer told it.
#[derive(Clone, Copy, Debug)]
struct Begun {
    tuple: Tuple,
    cookie: Cookie,
    agreed: Agreed,
    until_ns: u64,
}

/// The last handshakes that were told, each in the one place that its flow has: a flood replaces
/// them and takes no more room.
pub(super) struct BegunTable {
    places: Vec<Option<Begun>>,
    key: SipKey,
}

impl BegunTable {
    pub(super) fn new(is_on: bool, seed: [u64; 2]) -> Self {
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&seed[0].to_le_bytes());
        secret[8..].copy_from_slice(&seed[1].to_le_bytes());
        Self {
            places: vec![None; if is_on { MAX_BEGUN } else { 0 }],
            key: SipKey::new(&secret),
        }
    }

    fn place_of(&self, tuple: &Tuple) -> usize {
        let bits = tuple.client.to_bits() ^ tuple.server.to_bits().rotate_left(64);
        let ports = u64::from(tuple.client_port) << 16 | u64::from(tuple.server_port);
        let hash = self.key.hash(&[(bits >> 64) as u64, bits as u64, ports]);
        hash.first() as usize % self.places.len().max(1)
    }

    /// Remembers a handshake.
    pub(super) fn put(&mut self, tuple: Tuple, cookie: Cookie, agreed: Agreed, now_ns: u64) {
        let place = self.place_of(&tuple);
        if let Some(into) = self.places.get_mut(place) {
            *into = Some(Begun {
                tuple,
                cookie,
                agreed,
                until_ns: now_ns + MAX_AGE_S * 1_000_000_000,
            });
        }
    }

    /// What was agreed on, if this very handshake was told and is young enough.
    pub(super) fn check(
        &self,
        tuple: &Tuple,
        cookie: Cookie,
        timestamps: bool,
        now_ns: u64,
    ) -> Option<Agreed> {
        let begun = self.places.get(self.place_of(tuple))?.as_ref()?;
        let fits = begun.tuple == *tuple
            && begun.cookie.sequence == cookie.sequence
            && begun.agreed.timestamps == timestamps
            && (!timestamps || begun.cookie.timestamp == cookie.timestamp);
        (fits && now_ns <= begun.until_ns).then_some(begun.agreed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::Address;

    #[test]
    fn only_the_very_handshake_passes_and_only_for_a_while() {
        let tuple = Tuple {
            client: Address::from_v4([198, 51, 100, 7]),
            server: Address::from_v4([10, 0, 0, 10]),
            client_port: 40_000,
            server_port: 80,
            client_sequence: 7,
        };
        let cookie = Cookie {
            sequence: 1,
            timestamp: 2,
        };
        let agreed = Agreed {
            timestamps: true,
            ..Agreed::default()
        };
        let mut table = BegunTable::new(true, [3, 4]);
        assert_eq!(table.check(&tuple, cookie, true, 0), None);
        table.put(tuple, cookie, agreed, 0);
        assert_eq!(table.check(&tuple, cookie, true, 0), Some(agreed));
        let other = Tuple {
            client_sequence: 8,
            ..tuple
        };
        assert_eq!(table.check(&other, cookie, true, 0), None);
        let forged = Cookie {
            timestamp: 3,
            ..cookie
        };
        assert_eq!(table.check(&tuple, forged, true, 0), None);
        assert_eq!(table.check(&tuple, cookie, false, 0), None);
        assert_eq!(table.check(&tuple, cookie, true, u64::MAX), None);
    }
}
