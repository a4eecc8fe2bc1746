//! Who has no part in a session does not end it.

use dataplane::counters::Event;

use super::Invariant;
use crate::appliance::Appliance;
use crate::frame::{Mac, Packet, flag};
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
    /// When somebody else last sent a RST.
    reset_ns: Option<u64>,
    /// The appliance's turns when it was last looked at.
    turns: u64,
}

/// For how long a guard that shares, and has not seen all of a session, may wait whether a RST was
/// believed.
const JUDGED_NS: u64 = 6_000_000_000;

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
            reset_ns: None,
            turns: u64::MAX,
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
        // A server that answers a ping has no part in a session either: before a wire it may be the
        // attacker's own SYN on its way back.
        let is_pong = passage.packet.as_ref().is_some_and(Packet::is_pong);
        let is_attackers = passage.frame.get(6..12) == Some(&self.attacker[..]);
        let is_others = comes && !is_attackers && !is_pong;
        self.others_spoke |= is_others;
        let segment = passage.packet.as_ref().and_then(Packet::segment);
        if is_others && segment.is_some_and(|segment| segment.has(flag::RST)) {
            self.reset_ns = Some(passage.now_ns);
        }
        Ok(())
    }

    fn check(&mut self, world: &World) -> Result<(), String> {
        let appliance = world.get::<Appliance>(self.appliance);
        if !appliance.is_up() {
            // What it knew is gone.
            self.others_spoke = true;
            return Ok(());
        }
        if !appliance.is_settled()
            || std::mem::replace(&mut self.turns, appliance.turns()) == appliance.turns()
        {
            return Ok(());
        }
        let now = standing(appliance);
        let (before, others_spoke) = (self.before, self.others_spoke);
        (self.before, self.others_spoke) = (now, false);
        if others_spoke {
            return Ok(());
        }
        let is_shared = appliance.settings().replication.is_some();
        // A session that ended by its age was live until then; one that another guard has opened
        // as well is let go without a word.
        let is_whole = now.ended <= before.ended
            && (is_shared || now.live + now.aged.saturating_sub(before.aged) >= before.live);
        let is_late = is_shared
            && self
                .reset_ns
                .is_some_and(|at_ns| world.now_ns() - at_ns < JUDGED_NS);
        if is_whole || is_late {
            return Ok(());
        }
        Err(format!(
            "nobody who has one said a word: {before:?}, then {now:?}"
        ))
    }
}
