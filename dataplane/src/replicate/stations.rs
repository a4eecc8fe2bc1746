//! Which MAC addresses the peers' datagrams come from: when the workers are told, and where a peer
//! is answered that is not proved yet.

use super::PeerId;
use super::desk::Origin;

/// How often the same is told again: a worker may have asked for the peer meanwhile, in vain.
const REPEAT_NS: u64 = 1_000_000_000;
/// How close together a peer's changes are told.
const SPACING_NS: u64 = 250_000_000;
/// For how long what is sent to a peer may go back to where its last unproved greeting came from.
const GREETED_NS: u64 = 1_000_000_000;

/// Of one peer.
#[derive(Clone, Copy, Default)]
struct Station {
    /// What the workers were told, and when.
    told: Option<(Origin, u64)>,
    /// Where its last greeting came from that did not prove to be its own, and when.
    greeted: Option<(Origin, u64)>,
}

/// Of all peers, by their numbers.
pub(super) struct Stations(Box<[Station; 256]>);

impl Stations {
    /// Nothing heard yet.
    pub(super) fn new() -> Self {
        Self(Box::new([Station::default(); 256]))
    }

    /// A datagram that proved to be `peer`'s came from `origin`. Whether the workers are to be told;
    /// then they count as told.
    pub(super) fn is_news(&mut self, peer: PeerId, origin: Origin, now_ns: u64) -> bool {
        let station = &mut self.0[usize::from(peer.0)];
        station.greeted = None;
        let is_news = station.told.is_none_or(|(known, at_ns)| {
            let pause_ns = if known == origin {
                REPEAT_NS
            } else {
                SPACING_NS
            };
            now_ns >= at_ns.saturating_add(pause_ns)
        });
        if is_news {
            station.told = Some((origin, now_ns));
        }
        is_news
    }

    /// A greeting of a life of `peer` that is not believed yet came from `origin`.
    pub(super) fn note_greeting(&mut self, peer: PeerId, origin: Origin, now_ns: u64) {
        self.0[usize::from(peer.0)].greeted = Some((origin, now_ns));
    }

    /// Where what is sent to `peer` now is an answer to, if it greets without proof.
    pub(super) fn answered(&self, peer: PeerId, now_ns: u64) -> Option<Origin> {
        let greeted = self.0[usize::from(peer.0)].greeted;
        let is_late = |at_ns: u64| now_ns >= at_ns.saturating_add(GREETED_NS);
        greeted.and_then(|(origin, at_ns)| (!is_late(at_ns)).then_some(origin))
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
    fn b2_a_greeting_is_answered_where_it_came_from_until_its_peer_is_proved() {
        let mut stations = Stations::new();
        stations.note_greeting(PeerId(2), origin(1), 0);
        assert_eq!(stations.answered(PeerId(2), 1), Some(origin(1)));
        assert_eq!(stations.answered(PeerId(3), 1), None);
        assert_eq!(stations.answered(PeerId(2), GREETED_NS), None);
        assert!(stations.is_news(PeerId(2), origin(3), 2));
        assert_eq!(stations.answered(PeerId(2), 2), None);
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
