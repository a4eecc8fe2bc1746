//! Ports that change under the daemon: interfaces that go and come back, links that go up and down,
//! other MTUs, other addresses.

use std::time::{Duration, Instant};

use bindings::Interface;
use dataplane::command::Command;
use dataplane::io::PortId;
use dataplane::port::PortQueues;
use tracing::{info, warn};

use super::control_loop::Control;
use super::crew::Orders;
use super::departures::Departed;
use super::hardware::{self, mac_text};
use crate::configuration::{self, DeviceFacts};
use crate::failure::Failure;

/// How long to wait after a first failure to take a port up again, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the control thread remembers of a port between two looks.
#[derive(Default)]
pub(super) struct Watched {
    /// Whether its link was up.
    is_up: Option<bool>,
    flaps: Flaps,
    /// What the workers were told last.
    told: Option<DeviceFacts>,
    /// When a lost port is next tried, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    /// What a failed try was told as.
    said: String,
}

/// Changes of a link within a minute from which on they are not logged each.
const FLAPPING: u32 = 8;
const MINUTE: Duration = Duration::from_secs(60);

/// What the log says of a link's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Now,
    /// That the link flaps.
    Summed,
    Not,
}

/// How often a link went up or down of late.
#[derive(Default)]
struct Flaps {
    count: u32,
    /// When the count began; of a link that flaps, when it last changed.
    since: Option<Instant>,
}

impl Flaps {
    fn change(&mut self, now: Instant) -> Said {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= MINUTE)
        {
            (self.count, self.since) = (0, Some(now));
        }
        self.count = self.count.saturating_add(1);
        if self.count < FLAPPING {
            return Said::Now;
        }
        self.since = Some(now);
        if self.count == FLAPPING {
            Said::Summed
        } else {
            Said::Not
        }
    }

    /// Whether one that flapped has been steady for long enough; said once.
    fn has_settled(&mut self, now: Instant) -> bool {
        let is_steady = |since: Instant| now.duration_since(since) >= MINUTE;
        let has = self.count >= FLAPPING && self.since.is_some_and(is_steady);
        if has {
            *self = Self::default();
        }
        has
    }
}

impl Control {
    /// Looks at every port, and follows what has changed.
    pub(super) fn look_at_ports(&mut self) {
        let mut is_to_announce = false;
        // Before the interfaces are looked at: what leaves meanwhile is heard of at the next look.
        let departed = self.hardware.departures.take();
        for place in 0..self.hardware.ports.len() {
            self.look_for_its_interface(place, &departed);
        }
        let changed = self.changed_facts();
        if !changed.is_empty() {
            is_to_announce = self.follow_facts(&changed);
        }
        for place in 0..self.hardware.ports.len() {
            is_to_announce |= self.look_at_link(place);
        }
        if is_to_announce {
            self.announce();
        }
    }

    fn port_name(&self, place: usize) -> String {
        self.profile.ports[self.layout.devices[place]].name.clone()
    }

    /// Takes leave of an interface that is gone, and takes the port up again when one of its name
    /// is there.
    fn look_for_its_interface(&mut self, place: usize, departed: &Departed) {
        let device = hardware::device(&self.profile, self.layout.devices[place]);
        let Some(interface) = device.kernel_interface().map(str::to_owned) else {
            return;
        };
        let now = Interface::named(&interface).ok();
        if self.hardware.ports[place].see(now, departed) {
            let name = self.port_name(place);
            warn!(
                "port {name} is lost: its interface {interface} was deleted or moved away{}; it is taken up again \
                 when an interface {interface} is there",
                if now.is_some() { " and is back" } else { "" }
            );
            self.take_queues_back(place);
            self.watched[place].retry = None;
        }
        if let Some(now) = now
            && self.hardware.ports[place].is_lost()
        {
            self.try_to_take_up(place, now, &interface);
        }
    }

    /// Gives each worker queues of a port in the place of those that it has.
    fn exchange_queues(
        &mut self,
        place: usize,
        mut queues: impl FnMut(&mut Self, usize) -> PortQueues,
    ) {
        for worker in 0..self.crew.members.len() {
            let fresh = Box::new(queues(self, worker));
            let command = Command::Queues(PortId(place as u8), fresh);
            // What comes back is dropped here; what comes too late is dropped when it comes.
            if let Err(text) = self.crew.ask(worker, command) {
                warn!("{text}");
            }
        }
    }

    fn take_queues_back(&mut self, place: usize) {
        self.exchange_queues(place, |_, _| PortQueues::default());
        self.hardware.ports[place].close();
    }

    fn try_to_take_up(&mut self, place: usize, now: Interface, interface: &str) {
        let retry = self.watched[place].retry;
        if retry.is_some_and(|(at, _)| Instant::now() < at) {
            return;
        }
        let wait = retry.map_or(FIRST_WAIT, |(_, wait)| wait);
        self.watched[place].retry = Some((Instant::now() + wait, (wait * 2).min(LONGEST_WAIT)));
        let name = self.port_name(place);
        let told = match self.take_up(place, now) {
            Ok(()) => {
                info!(port = name, interface, "the port works again");
                self.watched[place].retry = None;
                String::new()
            }
            Err(failure) => failure.to_string(),
        };
        let said = std::mem::replace(&mut self.watched[place].said, told.clone());
        if !told.is_empty() && told != said {
            warn!("port {name} is still lost: {told}");
        }
    }

    fn take_up(&mut self, place: usize, now: Interface) -> Result<(), Failure> {
        if !self.hardware.ports[place].close() {
            return Err(Failure::new(
                "a worker has not given its queues back",
                "see what else runs on the workers' cores",
            ));
        }
        let index = self.layout.devices[place];
        self.hardware.take_up(&self.profile, index, place, now)?;
        let workers = self.crew.members.len();
        self.exchange_queues(place, |control, worker| {
            control.hardware.ports[place].deal_to(worker, workers)
        });
        Ok(())
    }

    /// The ports of which the workers believe what is no longer so.
    fn changed_facts(&mut self) -> Vec<usize> {
        let facts = self.hardware.facts(&self.profile, &self.layout);
        let mut changed = Vec::new();
        for (place, facts) in facts.into_iter().enumerate() {
            let told = self.watched[place].told.get_or_insert(facts);
            if *told != facts && !self.hardware.ports[place].is_lost() {
                changed.push(place);
            }
        }
        changed
    }

    fn say_what_changed(&mut self, place: usize, facts: DeviceFacts) {
        let name = self.port_name(place);
        let Some(before) = self.watched[place].told.replace(facts) else {
            return;
        };
        if before.mac != facts.mac {
            info!(port = name, mac = mac_text(facts.mac), "another address");
        }
        if before.mtu_bytes < facts.mtu_bytes {
            info!(port = name, mtu = facts.mtu_bytes, "a larger MTU");
        } else if before.mtu_bytes > facts.mtu_bytes {
            let device = hardware::device(&self.profile, self.layout.devices[place]);
            warn!(
                "port {name} takes packets of {} bytes now, not of {}: senders of larger ones are \
                 told, and what comes in larger is lost in the kernel; `ip link set {} mtu {}`, or \
                 lower `ports.{name}.mtu`",
                facts.mtu_bytes,
                before.mtu_bytes,
                device.kernel_interface().unwrap_or_default(),
                before.mtu_bytes,
            );
            self.warn_of_the_guards_frames(place);
        }
    }

    /// How large frames to the other guards are made is settled at the start.
    fn warn_of_the_guards_frames(&self, place: usize) {
        let Some(with) = &self.profile.replication else {
            return;
        };
        if usize::from(self.layout.ports[with.port].0) == place {
            warn!(
                "frames to the other guards are still made for the former MTU, and the larger of \
                 them are lost, so that guards may not stay in step; put it back, or restart the daemon"
            );
        }
    }

    /// Has the workers go by the ports' present MTUs and addresses; whether an address is new.
    fn follow_facts(&mut self, changed: &[usize]) -> bool {
        for &place in changed {
            let device = hardware::device(&self.profile, self.layout.devices[place]);
            let facts = self.hardware.ports[place].facts(device);
            self.say_what_changed(place, facts);
        }
        let orders = configuration::cookie_keys(&self.profile)
            .and_then(|keys| Orders::new(&self.profile, &self.layout, &self.hardware, &keys));
        let outcome = match orders {
            Ok(orders) => self.crew.reconfigure(orders),
            Err(failure) => Err(failure.to_string()),
        };
        if let Err(text) = outcome {
            warn!(
                "the workers still go by the interfaces' former MTU and address: {text}; \
                 `tidegate reload` tries again"
            );
        }
        true
    }

    /// Follows a link's state; whether it has come up, so that its neighbours are to learn our
    /// addresses.
    fn look_at_link(&mut self, place: usize) -> bool {
        let device = hardware::device(&self.profile, self.layout.devices[place]);
        let Some(link) = self.hardware.ports[place].link(device) else {
            return false;
        };
        let before = self.watched[place].is_up.replace(link.is_up);
        if before == Some(link.is_up) {
            if self.watched[place].flaps.has_settled(Instant::now()) {
                let state = if link.is_up { "up" } else { "down" };
                info!(
                    port = self.port_name(place),
                    "the link is steady again: {state}"
                );
            }
            return false;
        }
        let name = self.port_name(place);
        let flaps = &mut self.watched[place].flaps;
        if before.is_some() {
            self.hardware.ports[place].count_link_change();
        }
        match flaps.change(Instant::now()) {
            Said::Now => {}
            Said::Summed => {
                warn!(
                    "the link of port {name} flaps: it went up or down {FLAPPING} times within a \
                     minute; see its cable and the other side. No more of it is logged until it is \
                     steady for a minute"
                );
                return link.is_up;
            }
            Said::Not => return link.is_up,
        }
        if link.is_up {
            info!(port = name, mbps = link.mbps, "link up");
        } else if !self.hardware.ports[place].is_lost() {
            warn!(
                "the link of port {name} is down; see its cable, or `ip link set … up` on both \
                 sides of a virtual one"
            );
        }
        link.is_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // H2
    #[test]
    fn a_link_that_flaps_is_told_once_until_it_is_quiet() {
        let began = Instant::now();
        let mut flaps = Flaps::default();
        let mut told = Vec::new();
        for change in 0..200 {
            told.push(flaps.change(began + Duration::from_millis(500 * change)));
        }
        assert!(told[..7].iter().all(|said| *said == Said::Now));
        assert_eq!(told[7], Said::Summed);
        assert!(told[8..].iter().all(|said| *said == Said::Not), "{told:?}");
        assert!(!flaps.has_settled(began + 2 * MINUTE));
        assert!(flaps.has_settled(began + 3 * MINUTE));
        assert!(!flaps.has_settled(began + 4 * MINUTE));
        assert_eq!(flaps.change(began + 4 * MINUTE), Said::Now);
        // Now and then is no flapping.
        let mut calm = Flaps::default();
        for change in 0..50 {
            let at = began + Duration::from_secs(20) * change;
            assert_eq!(calm.change(at), Said::Now);
        }
    }
}
