//! What each protected service is asked for and does, in numbers: for whoever operates the guard.

use super::session::{Session, State, flag};
use crate::limits::MAX_SERVICES;

/// One service's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// SYNs for it.
    pub syns: u64,
    /// SYN-ACKs of its server.
    pub answered: u64,
    /// Connections that its server refused or never answered.
    pub failed: u64,
    /// Sessions that have not ended, opening ones included.
    pub live: u32,
    /// Sessions that are being opened.
    pub opening: u32,
}

const SLOTS: usize = (MAX_SERVICES * 2).next_power_of_two();
/// How far from its home a service may stand. Where ports are a range, whoever floods it chooses them:
/// a look-up is to cost no more than this.
const PROBES: usize = 32;
/// A service of a place that no server has.
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u32,
    tally: Tally,
}

const FREE: Slot = Slot {
    key: EMPTY,
    tally: Tally {
        syns: 0,
        answered: 0,
        failed: 0,
        live: 0,
        opening: 0,
    },
};

/// The services' numbers, found by their server's place and their port. A service that finds no room is
/// counted nowhere.
#[derive(Debug)]
pub(super) struct Tallies {
    slots: Box<[Slot]>,
    len: usize,
    /// Odd, and nobody's but ours, so that nobody aims at a slot.
    multiplier: u64,
}

#[inline(always)]
fn key_of(place: u16, port: u16) -> u32 {
    u32::from(place) << 16 | u32::from(port)
}

impl Tallies {
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self {
            slots: vec![FREE; SLOTS].into_boxed_slice(),
            len: 0,
            multiplier: (seed[0] ^ seed[1].rotate_left(32)) | 1,
        }
    }

    /// Where a service stands if its slot is free.
    #[inline(always)]
    fn home_of(&self, key: u32) -> usize {
        let mixed = u64::from(key).wrapping_mul(self.multiplier);
        (mixed >> (64 - SLOTS.trailing_zeros())) as usize
    }

    /// The service's numbers, if it has any.
    #[inline(always)]
    fn find(&mut self, place: u16, port: u16) -> Option<&mut Tally> {
        let key = key_of(place, port);
        let home = self.home_of(key);
        for step in 0..PROBES {
            let slot = (home + step) % SLOTS;
            let here = self.slots[slot].key;
            if here == key {
                return Some(&mut self.slots[slot].tally);
            }
            if here == EMPTY {
                break;
            }
        }
        None
    }

    #[cold]
    fn add(&mut self, place: u16, port: u16) -> Option<&mut Tally> {
        if self.len == MAX_SERVICES {
            return None;
        }
        let key = key_of(place, port);
        let home = self.home_of(key);
        let mut near = (0..PROBES).map(|step| (home + step) % SLOTS);
        let slot = near.find(|&slot| self.slots[slot].key == EMPTY)?;
        self.len += 1;
        self.slots[slot] = Slot { key, ..FREE };
        Some(&mut self.slots[slot].tally)
    }

    fn find_or_add(&mut self, place: u16, port: u16) -> Option<&mut Tally> {
        if self.find(place, port).is_none() {
            return self.add(place, port);
        }
        self.find(place, port)
    }

    /// Counts a SYN.
    #[inline(always)]
    pub(super) fn count_syn(&mut self, place: u16, port: u16) {
        if let Some(tally) = self.find(place, port) {
            tally.syns += 1;
        } else if let Some(tally) = self.add(place, port) {
            tally.syns += 1;
        }
    }

    /// Counts a SYN-ACK of the service.
    pub(super) fn answered(&mut self, place: u16, port: u16) {
        if let Some(tally) = self.find_or_add(place, port) {
            tally.answered += 1;
        }
    }

    /// Counts a connection that the service did not take.
    pub(super) fn failed(&mut self, session: &Session) {
        if let Some(tally) = self.find_or_add(session.server, session.server_port) {
            tally.failed += 1;
        }
    }

    /// Follows a session from one state to the next; `None` is before its beginning, or after it has
    /// left the table.
    pub(super) fn follow(&mut self, session: &Session, from: Option<State>, to: Option<State>) {
        // Its port is not one of a service.
        if session.has(flag::TRACKED | flag::BY_SERVER) {
            return;
        }
        let is_live = |state: Option<State>| {
            u32::from(matches!(state, Some(state) if state != State::Closed))
        };
        let is_opening = |state: Option<State>| u32::from(state == Some(State::Opening));
        let found = match from {
            None => self.find_or_add(session.server, session.server_port),
            Some(_) => self.find(session.server, session.server_port),
        };
        // One that found no room when it began may have a place by now.
        if let Some(tally) = found {
            tally.live = (tally.live + is_live(to)).saturating_sub(is_live(from));
            tally.opening = (tally.opening + is_opening(to)).saturating_sub(is_opening(from));
        }
    }

    /// All of them with their server's place and their port, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u16, &Tally)> {
        let used = self.slots.iter().filter(|slot| slot.key != EMPTY);
        used.map(|slot| ((slot.key >> 16) as u16, slot.key as u16, &slot.tally))
    }

    /// Forgets the services that are not to be kept, but for those with sessions.
    pub(super) fn retain(&mut self, keep: impl Fn(u16, u16) -> bool) {
        let goes = |slot: &Slot| {
            let (place, port) = ((slot.key >> 16) as u16, slot.key as u16);
            slot.key != EMPTY && slot.tally.live == 0 && !keep(place, port)
        };
        for slot in 0..SLOTS {
            // Another may have moved up.
            while goes(&self.slots[slot]) {
                self.remove(slot);
            }
        }
    }

    /// Empties a slot, and moves up those behind it that are found by way of it.
    fn remove(&mut self, mut hole: usize) {
        self.len -= 1;
        let mut slot = hole;
        loop {
            slot = (slot + 1) % SLOTS;
            let key = self.slots[slot].key;
            if key == EMPTY {
                break;
            }
            let home = self.home_of(key);
            let from_home = |to: usize| to.wrapping_sub(home) % SLOTS;
            if from_home(hole) < from_home(slot) {
                self.slots[hole] = self.slots[slot];
                hole = slot;
            }
        }
        self.slots[hole] = FREE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::session::SessionKey;
    use crate::wire::address::Address;

    const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

    fn session(port: u16) -> Session {
        let key = SessionKey {
            client: Address::from_v4([198, 51, 100, 1]),
            client_port: 4000,
            server: 3,
            server_port: port,
        };
        Session::opening(key, 1)
    }

    fn of(tallies: &Tallies, port: u16) -> Option<Tally> {
        let mut all = tallies.iter();
        all.find(|(place, there, _)| (*place, *there) == (3, port))
            .map(|(_, _, tally)| *tally)
    }

    #[test]
    fn i6_each_service_has_its_own_numbers() {
        let mut tallies = Tallies::new(SEED);
        tallies.count_syn(3, 80);
        tallies.count_syn(3, 80);
        tallies.count_syn(3, 443);
        tallies.answered(3, 80);
        tallies.failed(&session(443));
        let web = session(80);
        tallies.follow(&web, None, Some(State::Opening));
        tallies.follow(&web, None, Some(State::Opening));
        tallies.follow(&web, Some(State::Opening), Some(State::Established));
        let expected = Tally {
            syns: 2,
            answered: 1,
            failed: 0,
            live: 2,
            opening: 1,
        };
        assert_eq!(of(&tallies, 80), Some(expected));
        tallies.follow(&web, Some(State::Established), Some(State::Closed));
        tallies.follow(&web, Some(State::Closed), None);
        tallies.follow(&web, Some(State::Opening), None);
        let ended = Tally {
            live: 0,
            opening: 0,
            ..expected
        };
        assert_eq!(of(&tallies, 80), Some(ended));
        assert_eq!(
            of(&tallies, 443),
            Some(Tally {
                syns: 1,
                failed: 1,
                ..Tally::default()
            })
        );
        // A server's own connections have no service.
        let mut own = session(50_000);
        own.flags |= flag::TRACKED | flag::BY_SERVER;
        tallies.follow(&own, None, Some(State::Opening));
        assert_eq!(of(&tallies, 50_000), None);
    }

    #[test]
    fn f_ports_that_a_flood_chooses_cost_no_more_than_others() {
        let mut tallies = Tallies::new(SEED);
        // All that have one home, and those of the homes behind it.
        let mut aimed: Vec<u16> = (0..u16::MAX).collect();
        aimed.sort_by_key(|&port| tallies.home_of(key_of(3, port)));
        aimed.truncate(MAX_SERVICES);
        for &port in &aimed {
            tallies.count_syn(3, port);
        }
        let homes = 1 + aimed.len() / (usize::from(u16::MAX) / SLOTS);
        assert!(tallies.iter().count() <= homes + 2 * PROBES);
        tallies.count_syn(3, 65_000);
        assert!(of(&tallies, 65_000).is_some(), "another finds its place");
    }

    #[test]
    fn i6_more_services_than_there_is_room_for_are_not_counted() {
        let mut tallies = Tallies::new(SEED);
        for port in 0..2 * MAX_SERVICES as u16 {
            tallies.count_syn(3, port);
        }
        assert_eq!(tallies.iter().count(), MAX_SERVICES);
        let busy = session(7);
        tallies.follow(&busy, None, Some(State::Established));
        tallies.retain(|_, port| port % 2 == 0);
        assert_eq!(tallies.iter().count(), MAX_SERVICES / 2 + 1);
        assert!(of(&tallies, 7).is_some() && of(&tallies, 9).is_none());
        for port in (0..MAX_SERVICES as u16).step_by(2) {
            assert_eq!(
                of(&tallies, port).map(|tally| tally.syns),
                Some(1),
                "{port}"
            );
        }
        tallies.count_syn(3, 9999);
        assert!(of(&tallies, 9999).is_some());
    }
}
