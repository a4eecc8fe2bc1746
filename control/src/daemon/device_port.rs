//! A device of the profile, also while the kernel's interface behind it is gone.

use arrayvec::ArrayVec;
use bindings::port::PortStats;
use bindings::{Interface, Port, PortInfo};
use dataplane::limits::MAX_QUEUES_PER_WORKER;
use dataplane::port::PortQueues;

use super::claim::Claim;
use super::departures::Departed;
use super::hardware::mtu_of;
use crate::configuration::DeviceFacts;
use crate::profile::Device;

/// Drivers whose frames the kernel may have relieved of their VLAN tag.
const DRIVERS_THAT_STRIP_TAGS: [&str; 1] = ["net_af_packet"];

/// A link, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    pub(super) is_up: bool,
    pub(super) mbps: Option<u32>,
}

/// A device's port; or, while its interface is gone, what is remembered of it.
pub(super) struct DevicePort {
    /// `None` once a lost port is closed.
    port: Option<Port>,
    info: PortInfo,
    /// What was counted on interfaces that are gone.
    past: PortStats,
    /// The kernel's interface that the port stands on, as it was last seen.
    interface: Option<Interface>,
    /// That the device is ours alone.
    claim: Option<Claim>,
    is_lost: bool,
    losses: u64,
    link_changes: u64,
}

impl DevicePort {
    pub(super) fn new(port: Port, interface: Option<Interface>, claim: Option<Claim>) -> Self {
        Self {
            info: port.info().clone(),
            port: Some(port),
            past: PortStats::default(),
            interface,
            claim,
            is_lost: false,
            losses: 0,
            link_changes: 0,
        }
    }

    /// What the port is; of one that is lost, what it was.
    pub(super) fn info(&self) -> &PortInfo {
        &self.info
    }

    /// Whether the interface is gone that the port stood on.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// How often it was lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// How often its link went up or down.
    pub(super) fn link_changes(&self) -> u64 {
        self.link_changes
    }

    pub(super) fn count_link_change(&mut self) {
        self.link_changes += 1;
    }

    /// The largest packet, in bytes: no larger than the kernel takes.
    pub(super) fn mtu_bytes(&self, device: &Device) -> u16 {
        let own = mtu_of(device, &self.info);
        let kernels = self.interface.map(|interface| interface.mtu_bytes);
        kernels.map_or(own, |kernels| {
            own.min(kernels.try_into().unwrap_or(u16::MAX))
        })
    }

    /// What the hop must know of it.
    pub(super) fn facts(&self, device: &Device) -> DeviceFacts {
        DeviceFacts {
            mac: self.mac(),
            mtu_bytes: self.mtu_bytes(device),
        }
    }

    /// Its own address. A kernel interface may be given another.
    pub(super) fn mac(&self) -> [u8; 6] {
        self.interface
            .map_or(self.info.mac, |interface| interface.mac)
    }

    /// The state of its link. Of a kernel interface the kernel knows more than the driver; one that
    /// has vanished is down.
    pub(super) fn link(&self, device: &Device) -> Option<LinkState> {
        if let Some(name) = device.kernel_interface() {
            let now = Interface::named(name).ok();
            return Some(LinkState {
                is_up: !self.is_lost && now.is_some_and(|now| now.is_running),
                mbps: None,
            });
        }
        let link = self.port.as_ref()?.link().ok()?;
        Some(LinkState {
            is_up: link.up,
            mbps: link.speed_mbps,
        })
    }

    /// What the device has counted, on all the interfaces that it has stood on.
    pub(super) fn stats(&self) -> PortStats {
        let now = self.port.as_ref().and_then(|port| port.stats().ok());
        sum(&self.past, &now.unwrap_or_default())
    }

    /// Sees the interface as it is now, and which have left of late. `None`, another than the port stands
    /// on, or one that was away is a loss; it is told once.
    pub(super) fn see(&mut self, now: Option<Interface>, departed: &Departed) -> bool {
        let (Some(own), false) = (self.interface, self.is_lost) else {
            return false;
        };
        let has_stayed = |now: &Interface| now.index == own.index && !departed.may_be(own.index);
        if let Some(now) = now.filter(has_stayed) {
            self.interface = Some(now);
            return false;
        }
        self.is_lost = true;
        self.claim = None;
        self.losses += 1;
        true
    }

    /// Closes a lost port, once no worker has a queue of it any more; whether it is closed.
    pub(super) fn close(&mut self) -> bool {
        let Some(port) = self.port.as_ref().filter(|port| port.is_unused()) else {
            return self.port.is_none();
        };
        self.past = sum(&self.past, &port.stats().unwrap_or_default());
        // A virtual device that EAL does not forget now is forgotten when it is attached anew.
        let _ = Port::detach(&mut self.port);
        true
    }

    /// Stands on a port that was started in the place of the one that was lost.
    pub(super) fn renew(&mut self, port: Port, interface: Interface, claim: Claim) {
        self.info = port.info().clone();
        self.port = Some(port);
        self.interface = Some(interface);
        self.claim = Some(claim);
        self.is_lost = false;
    }

    /// A worker's queues.
    pub(super) fn deal_to(&mut self, worker: usize, workers: usize) -> PortQueues {
        let Some(port) = &mut self.port else {
            return PortQueues::default();
        };
        let receive: ArrayVec<_, MAX_QUEUES_PER_WORKER> = (0..self.info.rx_queues)
            .filter(|&queue| usize::from(queue) % workers == worker)
            .filter_map(|queue| port.take_rx_queue(queue))
            .collect();
        let mut drivers = DRIVERS_THAT_STRIP_TAGS.iter();
        PortQueues {
            receive,
            transmit: port.take_tx_queue(worker as u16),
            restores_vlan_tags: drivers.any(|name| self.info.driver.starts_with(name)),
        }
    }
}

fn sum(one: &PortStats, other: &PortStats) -> PortStats {
    PortStats {
        ipackets: one.ipackets + other.ipackets,
        opackets: one.opackets + other.opackets,
        ibytes: one.ibytes + other.ibytes,
        obytes: one.obytes + other.obytes,
        imissed: one.imissed + other.imissed,
        ierrors: one.ierrors + other.ierrors,
        oerrors: one.oerrors + other.oerrors,
        rx_nombuf: one.rx_nombuf + other.rx_nombuf,
    }
}
