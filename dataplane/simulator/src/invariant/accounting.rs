//! Every packet of the appliance's is accounted for, its tables keep their bounds, and nothing
//! leaves it with a wrong checksum.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::counters::{Counters, Event};
use dataplane::drop_reason::DropReason;
use dataplane::limits::{MAX_HALF_OPEN, MAX_HELD};

use super::Invariant;
use crate::appliance::Appliance;
use crate::frame;
use crate::trace::{Passage, Place};
use crate::world::{NodeId, World};

/// `received + created = sent + held + dropped (by reason) + consumed`.
pub struct Accounting {
    appliance: NodeId,
    /// The counters when the account was last balanced.
    balanced: Counters,
    /// The appliance's turns when it was last looked at.
    turns: u64,
}

impl Accounting {
    /// Of this appliance.
    #[must_use]
    pub fn new(appliance: NodeId) -> Self {
        Self {
            appliance,
            balanced: Counters::default(),
            turns: u64::MAX,
        }
    }
}

/// What was counted between the two, as text.
fn difference(earlier: &Counters, later: &Counters) -> String {
    let events = Event::ALL
        .iter()
        .map(|&event| (event.label(), later.event(event) - earlier.event(event)));
    let drops = DropReason::ALL
        .iter()
        .map(|&reason| (reason.label(), later.drops(reason) - earlier.drops(reason)));
    let changed = events.chain(drops).filter(|(_, count)| *count > 0);
    changed
        .map(|(label, count)| format!(" {label} {count}"))
        .collect()
}

impl Invariant for Accounting {
    fn name(&self) -> &'static str {
        "every packet is accounted for"
    }

    fn check(&mut self, world: &World) -> Result<(), String> {
        let appliance = world.get::<Appliance>(self.appliance);
        if std::mem::replace(&mut self.turns, appliance.turns()) == appliance.turns() {
            return Ok(());
        }
        let unaccounted = appliance.unaccounted();
        if unaccounted < 0 || (appliance.is_settled() && unaccounted != 0) {
            let counted = difference(&self.balanced, &appliance.counters());
            let what = "packets came in or were made and are nowhere; counted since all was well:";
            return Err(format!("{unaccounted} {what}{counted}"));
        }
        if unaccounted == 0 && appliance.is_settled() {
            self.balanced = appliance.counters();
        }
        Ok(())
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        self.turns = u64::MAX;
        self.check(world)
    }
}

/// Sessions, half-open server sides and held packets stay within their bounds, and are gone when
/// their time is over.
pub struct Bounds {
    appliance: NodeId,
    /// The appliance's turns when it was last looked at.
    turns: u64,
}

impl Bounds {
    /// Of this appliance.
    #[must_use]
    pub fn new(appliance: NodeId) -> Self {
        Self {
            appliance,
            turns: u64::MAX,
        }
    }
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "tables keep their bounds"
    }

    fn check(&mut self, world: &World) -> Result<(), String> {
        let appliance = world.get::<Appliance>(self.appliance);
        if std::mem::replace(&mut self.turns, appliance.turns()) == appliance.turns() {
            return Ok(());
        }
        for status in appliance.guards() {
            let holds = status.sessions <= status.capacity
                && status.live <= status.sessions
                && status.opening <= status.live.min(MAX_HALF_OPEN)
                && status.held <= MAX_HELD;
            if !holds {
                return Err(format!("{status:?}"));
            }
        }
        Ok(())
    }
}

/// What leaves the appliance has right checksums and can be read.
pub struct Checksums {
    appliance: NodeId,
    /// The only hosts whose packets the appliance has a part in, if it is a wire.
    servers: Option<BTreeSet<IpAddr>>,
}

impl Checksums {
    /// Of this appliance.
    #[must_use]
    pub fn new(appliance: NodeId) -> Self {
        Self {
            appliance,
            servers: None,
        }
    }

    /// Of an appliance that is a wire before these servers. Strangers' frames cross as they came,
    /// broken ones too ([`Crossing`]): they are not its own to vouch for.
    ///
    /// [`Crossing`]: super::Crossing
    #[must_use]
    pub fn of_wire(appliance: NodeId, servers: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            appliance,
            servers: Some(servers.into_iter().collect()),
        }
    }

    fn is_strangers(&self, frame: &[u8]) -> bool {
        let ends = frame::addresses_of(frame);
        self.servers.as_ref().is_some_and(|servers| {
            ends.is_none_or(|ends| ends.iter().all(|address| !servers.contains(address)))
        })
    }
}

impl Invariant for Checksums {
    fn name(&self) -> &'static str {
        "checksums are right"
    }

    fn observe(&mut self, passage: &Passage) -> Result<(), String> {
        if passage.node != self.appliance || passage.place != Place::Departed {
            return Ok(());
        }
        if self.is_strangers(&passage.frame) {
            return Ok(());
        }
        frame::verify(&passage.frame)?;
        let is_ip = matches!(passage.frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
        if is_ip && passage.packet.is_none() {
            return Err("a frame that cannot be read leaves the appliance".into());
        }
        Ok(())
    }
}
