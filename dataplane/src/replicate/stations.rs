//! When the workers are told which MAC address a peer's authentic datagrams come from.

use super::PeerId;
use super::desk::Origin;

/// How often the same is told again: a worker may have asked for the peer meanwhile, in vain.
const REPEAT_NS: u64 = 1_000_000_000;
/// How close together a peer's changes are told.
const SPACING_NS: u64 = 250_000_000;

/// What was told of each peer, and when.
pub(super) struct Stations(Box<[Option<(Origin, u64)>; 256]>);

impl Stations {
    /// Nothing told yet.
    pub(super) fn new() -> Self {
        Self(Box::new([None; 256]))
    }

    /// Whether the workers are to be told that a datagram of `peer` came from `origin`. Then they
    /// count as told.
    pub(super) fn is_news(&mut self, peer: PeerId, origin: Origin, now_ns: u64) -> bool {
        let told = &mut self.0[usize::from(peer.0)];
        let is_news = told.is_none_or(|(known, at_ns)| {
            let pause_ns = if known == origin {
                REPEAT_NS
            } else {
                SPACING_NS
            };
            now_ns >= at_ns.saturating_add(pause_ns)
        });
        if is_news {
            *told = Some((origin, now_ns));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::InterfaceId;
    use crate::wire::ethernet::MacAddress;

    fn origin(last: u8) -> Origin {
        Origin {
            interface: InterfaceId(1),
            mac: MacAddress([2, 0, 0, 0, 0, last]),
        }
    }

    /// Seconds in which a peer sends every millisecond, each time from the next of so many.
    fn told_in(seconds: u64, origins: u64) -> usize {
        let mut stations = Stations::new();
        let times = 0..seconds * 1_000;
        times
            .filter(|ms| {
                let origin = origin((ms % origins) as u8);
                stations.is_news(PeerId(2), origin, ms * 1_000_000)
            })
            .count()
    }

    #[test]
    fn b2_however_much_a_peer_sends_its_station_is_told_a_few_times_a_second() {
        assert_eq!(told_in(10, 1), 10);
        assert_eq!(told_in(10, 2), 40);
        assert_eq!(told_in(10, 200), 40);
    }

    #[test]
    fn b2_each_peer_has_its_own_limit() {
        let mut stations = Stations::new();
        for peer in 0..=255 {
            assert!(stations.is_news(PeerId(peer), origin(1), 0));
            assert!(!stations.is_news(PeerId(peer), origin(2), 1));
        }
    }
}
