//! A transparent wire is nobody's hop: what it has no part in crosses it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Invariant;
use crate::appliance::{Appliance, INSIDE, OUTSIDE};
use crate::frame::{self, Mac, Packet};
use crate::site::{INSIDE_MAC, OUTSIDE_MAC};
use crate::trace::{Passage, Place};
use crate::world::{NodeId, World};

/// Every frame but the packets of servers crosses the wire as it came, once for each time that it
/// came; none of the wire's own stations is ever seen; and what goes to a server goes to that
/// server's station (CASES 13).
///
/// Neighbour discovery crosses also where it is a server's.
pub struct Crossing {
    appliance: NodeId,
    /// The servers' addresses and stations.
    servers: BTreeMap<IpAddr, Mac>,
    /// Whether the appliance is short of room at times.
    may_lose: bool,
    /// Frames that are to cross, by the port that they must leave by, and how often.
    under_way: BTreeMap<(usize, Vec<u8>), usize>,
}

impl Crossing {
    /// Of this appliance before these servers. Where it `may_lose` frames, some need not arrive.
    #[must_use]
    pub fn new(appliance: NodeId, servers: BTreeMap<IpAddr, Mac>, may_lose: bool) -> Self {
        Self {
            appliance,
            servers,
            may_lose,
            under_way: BTreeMap::new(),
        }
    }

    /// Whether the guard may have a part in a frame.
    fn is_guards(&self, passage: &Passage) -> bool {
        let ends = frame::addresses_of(&passage.frame).into_iter().flatten();
        let is_servers = ends
            .into_iter()
            .any(|address| self.servers.contains_key(&address));
        let packet = passage.packet.as_ref();
        is_servers && !packet.is_some_and(Packet::is_neighbour_discovery)
    }

    fn departs(&mut self, passage: &Passage) -> Result<(), String> {
        let source = passage.frame.get(6..12).unwrap_or_default();
        if [OUTSIDE_MAC, INSIDE_MAC].iter().any(|own| own == source) {
            return Err("a frame bears a station of the wire's own".into());
        }
        if self.is_guards(passage) {
            return self.goes_to_its_server(passage);
        }
        let key = (passage.port, passage.frame.clone());
        match self.under_way.get_mut(&key) {
            Some(1) => {
                self.under_way.remove(&key);
            }
            Some(count) => *count -= 1,
            None => {
                let line = frame::describe(&passage.frame);
                return Err(format!("what leaves has not come like this: {line}"));
            }
        }
        Ok(())
    }

    fn goes_to_its_server(&self, passage: &Passage) -> Result<(), String> {
        let Some(packet) = passage.packet.as_ref().filter(|_| passage.port == INSIDE) else {
            return Ok(());
        };
        match self.servers.get(&packet.destination) {
            Some(station) if *station != packet.to_station => {
                Err(format!("the server's station is another: {packet}"))
            }
            _ => Ok(()),
        }
    }
}

impl Invariant for Crossing {
    fn name(&self) -> &'static str {
        "a wire passes what is not the guard's"
    }

    fn observe(&mut self, passage: &Passage) -> Result<(), String> {
        if passage.node != self.appliance {
            return Ok(());
        }
        let across = match passage.port {
            OUTSIDE => INSIDE,
            INSIDE => OUTSIDE,
            _ => return Ok(()),
        };
        match passage.place {
            Place::Departed => self.departs(passage),
            Place::Arrived if self.is_guards(passage) => Ok(()),
            Place::Arrived => {
                let key = (across, passage.frame.clone());
                *self.under_way.entry(key).or_default() += 1;
                Ok(())
            }
        }
    }

    fn check(&mut self, world: &World) -> Result<(), String> {
        let appliance = world.get::<Appliance>(self.appliance);
        if self.under_way.is_empty() || !appliance.is_settled() {
            return Ok(());
        }
        let lost = std::mem::take(&mut self.under_way);
        match lost.keys().next() {
            Some((_, frame)) if !self.may_lose => {
                Err(format!("it has not crossed: {}", frame::describe(frame)))
            }
            _ => Ok(()),
        }
    }
}
