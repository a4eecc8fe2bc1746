//! Places for connections, of which there are few. Who comes when all are taken gets the place of
//! one that waits for its client: so that whoever opens connections and says nothing, however many,
//! locks nobody out.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Whom a connection is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A process of this machine; `None` where the kernel does not tell which.
    Process(Option<i32>),
    /// A host, by its address; of IPv6 its /64, of which a host has all addresses.
    Host(IpAddr),
}

impl Source {
    /// The host with this address.
    pub(super) fn host(address: IpAddr) -> Self {
        Self::Host(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        })
    }
}

struct Taken {
    number: u64,
    source: Source,
    /// Since when it has waited for its client, by the count of what happened; `None` while the
    /// client waits for us.
    waits_since: Option<u64>,
    evicted: Arc<Notify>,
}

struct State {
    taken: Vec<Taken>,
    most: usize,
    /// Counts what happened, for numbers and for who has waited longest.
    count: u64,
}

impl State {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn find(&mut self, number: u64) -> Option<&mut Taken> {
        self.taken.iter_mut().find(|taken| taken.number == number)
    }

    /// Takes the place of the connection that has waited longest for its client, among those of the
    /// source that has most; whether there was one.
    fn evict_for(&mut self, newcomer: Source) -> bool {
        let of = |source: Source| {
            let taken = self.taken.iter().filter(|taken| taken.source == source);
            taken.count() + usize::from(source == newcomer)
        };
        let waiting = self.taken.iter().enumerate();
        let waiting = waiting.filter_map(|(place, taken)| Some((place, taken.waits_since?, taken)));
        let victim = waiting.max_by_key(|(_, since, taken)| (of(taken.source), u64::MAX - since));
        let Some(place) = victim.map(|(place, ..)| place) else {
            return false;
        };
        self.taken.swap_remove(place).evicted.notify_one();
        true
    }
}

/// The places of one listener.
#[derive(Clone)]
pub(super) struct Places(Arc<Mutex<State>>);

impl Places {
    /// So many places.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            taken: Vec::with_capacity(most),
            most,
            count: 0,
        })))
    }

    /// A place for a new connection, which waits for its client. `None` if all connections are
    /// being answered.
    pub(super) fn take(&self, source: Source) -> Option<Place> {
        let mut state = self.state();
        if state.taken.len() >= state.most && !state.evict_for(source) {
            return None;
        }
        let number = state.next();
        let evicted = Arc::new(Notify::new());
        state.taken.push(Taken {
            number,
            source,
            waits_since: Some(number),
            evicted: Arc::clone(&evicted),
        });
        drop(state);
        Some(Place {
            places: self.clone(),
            number,
            evicted,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, until it is dropped or another connection gets it.
pub(super) struct Place {
    places: Places,
    number: u64,
    evicted: Arc<Notify>,
}

impl Place {
    /// Waits until another connection has got the place.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The client waits for us from now on: nobody else gets the place.
    pub(super) fn client_waits(&self) {
        if let Some(taken) = self.places.state().find(self.number) {
            taken.waits_since = None;
        }
    }

    /// We wait for the client from now on.
    pub(super) fn wait_for_client(&self) {
        let mut state = self.places.state();
        let now = state.next();
        if let Some(taken) = state.find(self.number) {
            taken.waits_since = Some(now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.taken.retain(|taken| taken.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn is_evicted(place: &Place) -> bool {
        let state = place.places.state();
        !state.taken.iter().any(|taken| taken.number == place.number)
    }

    fn host(text: &str) -> Source {
        Source::host(text.parse().unwrap())
    }

    #[test]
    fn f5_who_has_waited_longest_makes_room_and_nobody_who_is_being_answered() {
        let places = Places::new(3);
        let source = Source::Process(Some(7));
        let held: Vec<Place> = (0..3).map(|_| places.take(source).unwrap()).collect();
        held[0].client_waits();
        let fourth = places.take(source).unwrap();
        assert!(!is_evicted(&held[0]) && is_evicted(&held[1]) && !is_evicted(&held[2]));
        // Its answer is sent: it comes to the end of the row.
        held[0].wait_for_client();
        let fifth = places.take(source).unwrap();
        assert!(!is_evicted(&held[0]) && is_evicted(&held[2]) && !is_evicted(&fourth));
        for place in [&held[0], &fourth, &fifth] {
            place.client_waits();
        }
        assert!(places.take(source).is_none());
        drop(fifth);
        assert!(places.take(source).is_some());
    }

    #[test]
    fn f5_whoever_has_most_connections_makes_room_for_the_others() {
        let places = Places::new(4);
        let patient = places.take(host("192.0.2.1")).unwrap();
        // A host has a whole /64.
        let attackers: Vec<Place> = (0..100)
            .map(|number| places.take(host(&format!("2001:db8::{number:x}"))).unwrap())
            .collect();
        assert!(!is_evicted(&patient));
        let left = attackers.iter().filter(|place| !is_evicted(place));
        assert_eq!(left.count(), 3);
        let other = places.take(host("::ffff:192.0.2.9")).unwrap();
        assert!(!is_evicted(&patient) && !is_evicted(&other));
    }

    #[tokio::test]
    async fn f5_who_loses_its_place_is_told() {
        let places = Places::new(1);
        let first = places.take(Source::Process(None)).unwrap();
        let _second = places.take(Source::Process(None)).unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), first.evicted());
        told.await.expect("it is told that its place is gone");
    }
}
