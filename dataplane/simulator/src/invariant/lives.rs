//! Who has no part in a session does not end it.

use dataplane::counters::Event;

use super::Invariant;
use crate::appliance::Appliance;
use crate::frame::Mac;
use crate::trace::{Passage, Place};
use crate::world::{NodeId, World};

/// While none but attackers send to an appliance, no session of its ends but by its age
/// (RFC 5961, CASES 3).
pub struct Lives {
    appliance: NodeId,
    attacker: Mac,
    /// What was when the appliance was last at rest.
    before: Standing,
    /// Whether anybody but the attacker has sent something since then.
    others_spoke: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    live: u64,
    /// Sessions that a segment has ended,
    ended: u64,
    /// and those that ended since nothing came any more.
    aged: u64,
}

impl Lives {
    /// Of this appliance; the attacker's station is where all attacks come from.
    #[must_use]
    pub fn new(appliance: NodeId, attacker: Mac) -> Self {
        Self {
            appliance,
            attacker,
            before: Standing::default(),
            others_spoke: false,
        }
    }
}

fn standing(appliance: &Appliance) -> Standing {
    let mut standing = Standing::default();
    for worker in appliance.workers() {
        let count = |event| worker.counters().event(event);
        standing.live += worker.guard().status().live as u64;
        standing.ended += count(Event::SessionReset) + count(Event::SessionClosed);
        standing.aged += count(Event::SessionIdled) + count(Event::SessionRefused);
    }
    standing
}

impl Invariant for Lives {
    fn name(&self) -> &'static str {
        "a stranger ends no session"
    }

    fn observe(&mut self, passage: &Passage) -> Result<(), String> {
        let comes = passage.node == self.appliance && passage.place == Place::Arrived;
        self.others_spoke |= comes && passage.frame.get(6..12) != Some(&self.attacker[..]);
        Ok(())
    }

    fn check(&mut self, world: &World) -> Result<(), String> {
        let appliance = world.get::<Appliance>(self.appliance);
        if !appliance.is_settled() {
            return Ok(());
        }
        let now = standing(appliance);
        let (before, others_spoke) = (self.before, self.others_spoke);
        (self.before, self.others_spoke) = (now, false);
        // A session that ended by its age was live until then.
        let is_whole =
            now.ended <= before.ended && now.live + (now.aged - before.aged) >= before.live;
        if others_spoke || is_whole {
            return Ok(());
        }
        Err(format!(
            "nobody who has one said a word: {before:?}, then {now:?}"
        ))
    }
}
