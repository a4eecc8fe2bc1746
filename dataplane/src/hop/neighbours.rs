//! Which station has which address: the table behind ARP and neighbour discovery.
//!
//! It sends nothing itself. [`Neighbours::resolve`] says what to do with a packet for a neighbour,
//! [`Neighbours::due`] what a timer asks for, and the `hear` functions take what the network says.
//! Only what we forward makes entries that wait for an answer, of which there is a bound; only a
//! request addressed to us or an answer makes one that is ready (RFC 826, RFC 4861 §7.2.3). Who has
//! answered is never given up for who has not, and whom the configuration names for nobody
//! ([`super::shares`]).

use std::sync::Arc;

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use super::shares::{Share, Shares};
use crate::deadlines::Deadlines;
use crate::drop_reason::DropReason;
use crate::io::InterfaceId;
use crate::keyed::{Keyed, Spread};
use crate::limits::{MAX_NEIGHBOUR_UPDATES, NEIGHBOUR_PLACES};
use crate::wire::address::Address;
use crate::wire::ethernet::MacAddress;

mod places;

const SECOND_NS: u64 = 1_000_000_000;
/// How long an answer is believed (RFC 4861 §10, REACHABLE_TIME).
pub(crate) const REACHABLE_NS: u64 = 30 * SECOND_NS;
/// How long an unused entry is kept after that.
pub(crate) const STALE_NS: u64 = 600 * SECOND_NS;
/// The time between two requests (RFC 4861 §10, RETRANS_TIMER).
pub(crate) const RETRY_NS: u64 = SECOND_NS;
/// How many requests go unanswered before a neighbour counts as gone (MAX_MULTICAST_SOLICIT,
/// MAX_UNICAST_SOLICIT).
pub(crate) const MAX_REQUESTS: u8 = 3;
/// How long a neighbour that did not answer is not asked again.
pub(crate) const FAILED_NS: u64 = SECOND_NS;
/// How long after an answer an unasked claim of another station is not believed.
pub(crate) const LOCKED_NS: u64 = SECOND_NS;
const HINTS: usize = 256;

/// How far a neighbour's resolution has come (RFC 4861 §7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Asked for; not answered yet.
    Incomplete,
    /// It answered not long ago.
    Reachable,
    /// It answered long ago and nothing was sent to it since.
    Stale,
    /// It answered long ago, is still sent to, and is being asked again.
    Probe,
    /// It did not answer.
    Failed,
}

/// A neighbour as shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it is.
    pub interface: InterfaceId,
    /// Its address.
    pub address: Address,
    /// Its station; zero while it is not known.
    pub mac: MacAddress,
    /// How far its resolution has come.
    pub state: NeighbourState,
}

/// What one worker tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourUpdate {
    /// Where the neighbour is.
    pub interface: InterfaceId,
    /// Its address.
    pub address: Address,
    /// Its station.
    pub mac: MacAddress,
    /// Whether the telling worker had asked. If not, the answer came in on its queue by chance and
    /// only helps a worker that has an entry.
    pub asked: bool,
    /// Whether it may replace a station that is known.
    pub overrides: bool,
}

/// What to do with a packet for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Send it.
    Ready(MacAddress),
    /// Send it, and ask that station whether it is still there.
    ReadyAndProbe(MacAddress),
    /// Hold it under this slot.
    Wait(u16),
    /// Hold it under this slot, and ask.
    Ask(u16),
    /// Refuse it.
    Refuse(DropReason),
}

/// What a timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask everyone again.
    Ask(u16),
    /// Ask the station itself.
    Probe(u16),
    /// It is gone: what is held under this slot must be released.
    Failed(u16),
    /// Nothing.
    Aged,
}

/// What is said of a neighbour, by how much it is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// An answer to us. Changes an entry that exists.
    Answer,
    /// An answer to us that must not replace a known station (RFC 4861 §7.2.5).
    MeekAnswer,
    /// The sender of a request for one of our addresses. Makes an entry.
    Request,
    /// Said to everyone, unasked. Changes an entry that exists.
    Unasked,
    /// Another worker's answer. Makes an entry.
    Told,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    interface: InterfaceId,
    address: Address,
    mac: MacAddress,
    /// `None` for a slot that is free.
    state: Option<NeighbourState>,
    /// Whose place it takes.
    share: Share,
    /// Requests since the last answer.
    requests: u8,
    /// Whether something was sent to it since the last answer.
    used: bool,
    answered_ns: u64,
}

const FREE: Entry = Entry {
    interface: InterfaceId(0),
    address: Address::UNSPECIFIED,
    mac: MacAddress([0; 6]),
    state: None,
    share: Share::Asked,
    requests: 0,
    used: false,
    answered_ns: 0,
};

/// The neighbours that one worker knows.
#[derive(Debug)]
pub(crate) struct Neighbours {
    entries: Box<[Entry]>,
    free: Vec<u16>,
    slots: HashMap<(u8, Address), u16, Keyed>,
    shares: Shares,
    /// Who has a reserved place, in order.
    reserved: Arc<[(InterfaceId, Address)]>,
    deadlines: Deadlines,
    /// The slot that was last found for a hash of the address: saves the keyed hash.
    hints: Box<[u16; HINTS]>,
    spread: Spread,
    /// Counts changes of what [`Self::station_in_use`] says.
    version: u64,
    updates: ArrayVec<NeighbourUpdate, MAX_NEIGHBOUR_UPDATES>,
}

impl Neighbours {
    /// No neighbour yet. `reserved` is in order.
    pub(crate) fn new(key: u128, reserved: Arc<[(InterfaceId, Address)]>) -> Self {
        Self {
            entries: vec![FREE; NEIGHBOUR_PLACES].into(),
            free: (0..NEIGHBOUR_PLACES as u16).rev().collect(),
            // Twice the entries: with fewer, erased ones would make the table grow.
            slots: HashMap::with_capacity_and_hasher(2 * NEIGHBOUR_PLACES, Keyed::new(key)),
            shares: Shares::new(),
            reserved,
            deadlines: Deadlines::new(NEIGHBOUR_PLACES),
            hints: Box::new([0; HINTS]),
            spread: Spread::new(key as u64),
            version: 1,
            updates: ArrayVec::new(),
        }
    }

    /// What to do with a packet for `address`.
    #[inline(always)]
    pub(crate) fn resolve(
        &mut self,
        interface: InterfaceId,
        address: Address,
        now_ns: u64,
    ) -> Resolution {
        let Some(slot) = self.find(interface, address) else {
            return self.begin(interface, address, now_ns);
        };
        let entry = &mut self.entries[usize::from(slot)];
        match entry.state {
            Some(NeighbourState::Reachable | NeighbourState::Probe) => {
                if !entry.used {
                    entry.used = true;
                    self.version += 1;
                }
                Resolution::Ready(entry.mac)
            }
            Some(NeighbourState::Stale) => {
                entry.used = true;
                self.ask_again(slot, NeighbourState::Probe, now_ns);
                Resolution::ReadyAndProbe(self.entries[usize::from(slot)].mac)
            }
            Some(NeighbourState::Incomplete) => Resolution::Wait(slot),
            Some(NeighbourState::Failed) | None => {
                Resolution::Refuse(DropReason::NeighbourUnresolved)
            }
        }
    }

    /// The station of a neighbour of whom [`Self::resolve`] would say no more than that, and
    /// remember nothing.
    pub(crate) fn station_in_use(
        &mut self,
        interface: InterfaceId,
        address: Address,
    ) -> Option<MacAddress> {
        let slot = self.find(interface, address)?;
        let entry = &self.entries[usize::from(slot)];
        let is_ready = matches!(
            entry.state,
            Some(NeighbourState::Reachable | NeighbourState::Probe)
        );
        (is_ready && entry.used).then_some(entry.mac)
    }

    /// Changes whenever [`Self::station_in_use`] may say otherwise of one that it knew.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    #[cold]
    fn begin(&mut self, interface: InterfaceId, address: Address, now_ns: u64) -> Resolution {
        let Some(slot) = self.insert(interface, address, Share::Asked) else {
            return Resolution::Refuse(DropReason::NeighbourTableFull);
        };
        self.entries[usize::from(slot)].state = Some(NeighbourState::Incomplete);
        self.ask_again(slot, NeighbourState::Incomplete, now_ns);
        Resolution::Ask(slot)
    }

    fn ask_again(&mut self, slot: u16, state: NeighbourState, now_ns: u64) {
        self.version += 1;
        let entry = &mut self.entries[usize::from(slot)];
        entry.state = Some(state);
        entry.requests += 1;
        self.deadlines.set(slot, now_ns + RETRY_NS);
    }

    /// Takes what is said of a neighbour. A slot comes back when packets held under it can go.
    pub(crate) fn hear(
        &mut self,
        claim: Claim,
        interface: InterfaceId,
        address: Address,
        mac: MacAddress,
        now_ns: u64,
    ) -> Option<u16> {
        let mut claim = claim;
        let found = self.find(interface, address);
        let overrides = claim != Claim::MeekAnswer;
        let is_answer = matches!(claim, Claim::Answer | Claim::MeekAnswer);
        if is_answer && !found.is_some_and(|slot| self.waits(slot)) {
            // Perhaps another worker asked. Here it counts as said to everyone.
            self.pass_on(interface, address, mac, overrides);
            claim = Claim::Unasked;
        }
        if !overrides && let Some(slot) = found.filter(|&slot| self.contradicts(slot, mac)) {
            self.doubt(slot, now_ns);
            return None;
        }
        let slot = match (found, claim) {
            (Some(slot), _) => slot,
            (None, Claim::Request) => self.insert(interface, address, Share::Claimed)?,
            (None, Claim::Told) => self.insert(interface, address, Share::Known)?,
            (None, _) => return None,
        };
        let entry = &mut self.entries[usize::from(slot)];
        let was = entry.state;
        let answered = !matches!(claim, Claim::Request | Claim::Unasked);
        if is_known(was) && !answered {
            let locked = now_ns < entry.answered_ns + LOCKED_NS;
            if entry.mac == mac || locked {
                return None;
            }
        }
        self.version += 1;
        entry.mac = mac;
        entry.requests = 0;
        entry.used = false;
        if answered {
            entry.answered_ns = now_ns;
            entry.state = Some(NeighbourState::Reachable);
            self.deadlines.set(slot, now_ns + REACHABLE_NS);
            if claim != Claim::Told {
                self.tell(NeighbourUpdate {
                    interface,
                    address,
                    mac,
                    asked: true,
                    overrides,
                });
            }
        } else {
            entry.state = Some(NeighbourState::Stale);
            self.deadlines.set(slot, now_ns + STALE_NS);
        }
        self.raise(slot, answered);
        (was == Some(NeighbourState::Incomplete)).then_some(slot)
    }

    /// Whether a station is known there, and is another.
    fn contradicts(&self, slot: u16, mac: MacAddress) -> bool {
        let entry = &self.entries[usize::from(slot)];
        is_known(entry.state) && entry.mac != mac
    }

    /// Another station says, without overriding, that it has the address: who is known to have it
    /// will be asked when next used (RFC 4861 §7.2.5).
    fn doubt(&mut self, slot: u16, now_ns: u64) {
        let entry = &mut self.entries[usize::from(slot)];
        let locked = now_ns < entry.answered_ns + LOCKED_NS;
        if entry.state == Some(NeighbourState::Reachable) && !locked {
            self.version += 1;
            entry.state = Some(NeighbourState::Stale);
            self.deadlines.set(slot, now_ns + STALE_NS);
        }
    }

    /// Whether there is an entry for `address`.
    pub(crate) fn knows(&mut self, interface: InterfaceId, address: Address) -> bool {
        self.find(interface, address).is_some()
    }

    /// Whether what is for `address` can be sent without asking; `None` when nothing is known of it.
    pub(crate) fn is_usable(&mut self, interface: InterfaceId, address: Address) -> Option<bool> {
        let slot = self.find(interface, address)?;
        let state = self.entries[usize::from(slot)].state;
        Some(matches!(
            state,
            Some(NeighbourState::Reachable | NeighbourState::Stale)
        ))
    }

    /// Whether packets for `address` are sent anywhere at all.
    pub(crate) fn has_station(&mut self, interface: InterfaceId, address: Address) -> bool {
        let found = self.find(interface, address);
        found.is_some_and(|slot| is_known(self.entries[usize::from(slot)].state))
    }

    /// Tells the other workers of an answer that nobody here asked for: perhaps one of them did.
    pub(crate) fn pass_on(
        &mut self,
        interface: InterfaceId,
        address: Address,
        mac: MacAddress,
        overrides: bool,
    ) {
        self.tell(NeighbourUpdate {
            interface,
            address,
            mac,
            asked: false,
            overrides,
        });
    }

    /// Takes what another worker learned. A slot comes back when packets held under it can go.
    pub(crate) fn apply(&mut self, update: NeighbourUpdate, now_ns: u64) -> Option<u16> {
        let NeighbourUpdate {
            interface,
            address,
            mac,
            asked,
            overrides,
        } = update;
        let found = self.find(interface, address);
        let waits = found.is_some_and(|slot| self.waits(slot));
        let contradicts = found.is_some_and(|slot| self.contradicts(slot, mac));
        // An answer by chance counts for one who asked, and no more; one that does not override
        // leaves who knows better alone.
        let claim = match (asked, waits) {
            (true, _) if overrides || !contradicts => Claim::Told,
            (false, true) if overrides => Claim::Answer,
            (false, true) => Claim::MeekAnswer,
            _ => return None,
        };
        self.hear(claim, interface, address, mac, now_ns)
    }

    /// Whether an answer is due to us.
    fn waits(&self, slot: u16) -> bool {
        let state = self.entries[usize::from(slot)].state;
        matches!(
            state,
            Some(NeighbourState::Incomplete | NeighbourState::Probe)
        )
    }

    fn tell(&mut self, update: NeighbourUpdate) {
        // With the queue full the other workers ask for themselves.
        let _ = self.updates.try_push(update);
    }

    /// What the other workers should be told.
    pub(crate) fn take_updates(
        &mut self,
    ) -> arrayvec::Drain<'_, NeighbourUpdate, MAX_NEIGHBOUR_UPDATES> {
        self.updates.drain(..)
    }

    /// Serves the next timer that has run out.
    pub(crate) fn due(&mut self, now_ns: u64) -> Option<Due> {
        let slot = self.deadlines.pop_due(now_ns)?;
        self.version += 1;
        let entry = &mut self.entries[usize::from(slot)];
        let again = entry.requests < MAX_REQUESTS;
        Some(match entry.state {
            Some(NeighbourState::Incomplete) if again => {
                self.ask_again(slot, NeighbourState::Incomplete, now_ns);
                Due::Ask(slot)
            }
            Some(NeighbourState::Incomplete) => {
                entry.state = Some(NeighbourState::Failed);
                self.deadlines.set(slot, now_ns + FAILED_NS);
                Due::Failed(slot)
            }
            Some(NeighbourState::Probe) if again => {
                self.ask_again(slot, NeighbourState::Probe, now_ns);
                Due::Probe(slot)
            }
            Some(NeighbourState::Reachable) if entry.used => {
                self.ask_again(slot, NeighbourState::Probe, now_ns);
                Due::Probe(slot)
            }
            Some(NeighbourState::Reachable) => {
                entry.state = Some(NeighbourState::Stale);
                self.deadlines.set(slot, now_ns + STALE_NS);
                Due::Aged
            }
            Some(NeighbourState::Probe | NeighbourState::Stale | NeighbourState::Failed) | None => {
                self.remove(slot);
                Due::Aged
            }
        })
    }

    /// When the next timer runs out.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines.next_ns()
    }

    /// Forgets a neighbour. What is held for it must be taken first.
    pub(crate) fn forget(&mut self, slot: u16) {
        self.remove(slot);
    }

    /// The neighbour in `slot`.
    pub(crate) fn get(&self, slot: u16) -> Option<Neighbour> {
        let entry = self.entries.get(usize::from(slot))?;
        Some(Neighbour {
            interface: entry.interface,
            address: entry.address,
            mac: entry.mac,
            state: entry.state?,
        })
    }

    /// The first slot from `from` on that is taken.
    pub(crate) fn next_taken(&self, from: usize) -> Option<u16> {
        let taken = |slot: &usize| self.entries[*slot].state.is_some();
        (from..self.entries.len())
            .find(taken)
            .map(|slot| slot as u16)
    }

    #[inline(always)]
    fn find(&mut self, interface: InterfaceId, address: Address) -> Option<u16> {
        let hint = self.hint_of(interface, address);
        let slot = self.hints[hint];
        let entry = &self.entries[usize::from(slot)];
        if entry.address == address && entry.interface == interface && entry.state.is_some() {
            return Some(slot);
        }
        self.find_again(interface, address, hint)
    }

    /// Where the slot of a neighbour is kept at hand: a collision costs a look-up in the keyed table,
    /// nothing more.
    #[inline(always)]
    fn hint_of(&self, interface: InterfaceId, address: Address) -> usize {
        let bits = address.to_bits();
        let high = (bits >> 64) as u64 ^ u64::from(interface.0) << 56;
        self.spread.place_of_two::<HINTS>(bits as u64, high)
    }

    #[inline(never)]
    fn find_again(&mut self, interface: InterfaceId, address: Address, hint: usize) -> Option<u16> {
        let slot = *self.slots.get(&(interface.0, address))?;
        self.hints[hint] = slot;
        Some(slot)
    }
}

/// Whether an entry in this state has a station.
fn is_known(state: Option<NeighbourState>) -> bool {
    matches!(
        state,
        Some(NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Probe)
    )
}
