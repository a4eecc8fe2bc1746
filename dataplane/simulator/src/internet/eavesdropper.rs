//! The attacker who hears what clients send.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{BLIND_MAC, INTERNET_MAC};
use crate::invariant::Invariant;
use crate::trace::{Passage, Place};
use crate::world::NodeId;

/// What an attacker overheard of real clients: frames that reached the appliance from outside.
pub type Overheard = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// How many frames an attacker remembers.
const REMEMBERED: usize = 256;

/// Lets an attacker overhear what clients send to the appliance.
pub struct Eavesdropper {
    appliance: NodeId,
    overheard: Overheard,
}

impl Eavesdropper {
    /// At the appliance's outside port.
    #[must_use]
    pub fn new(appliance: NodeId, overheard: Overheard) -> Self {
        Self {
            appliance,
            overheard,
        }
    }
}

impl Invariant for Eavesdropper {
    fn name(&self) -> &'static str {
        "an attacker overhears the clients"
    }

    fn observe(&mut self, passage: &Passage) -> Result<(), String> {
        let is_arrival = passage.node == self.appliance && passage.place == Place::Arrived;
        let packet = passage.packet.as_ref();
        let is_client = packet.is_some_and(|packet| {
            let is_attacker = [INTERNET_MAC, BLIND_MAC].contains(&packet.from_station);
            !is_attacker && packet.segment().is_some()
        });
        if is_arrival && is_client && passage.port == crate::appliance::OUTSIDE {
            let mut overheard = self.overheard.borrow_mut();
            if overheard.len() == REMEMBERED {
                overheard.pop_front();
            }
            overheard.push_back(passage.frame.clone());
        }
        Ok(())
    }
}
