//! A port: found or attached, configured as far as its device can, started, and split into queues.
//!
//! [`Port::configure`] asks for no more than the device offers and tells in [`PortInfo`] what came
//! of it. [`Port::start`] it, then take the queues; a port cannot be stopped while one is alive,
//! and is closed when the last of them and the port itself are dropped.

mod configure;
mod counters;
mod rss;

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::eal::{Eal, State};
use crate::error::{Call, Error, c_string};
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use rss::Scaling;

pub use counters::{Link, PortStats};
pub use rss::{RSS_INDIRECTION_ENTRIES, RSS_KEY_WORD};

/// The number that DPDK gave a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u16);

impl PortId {
    /// The bare number, as DPDK's logs have it.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// Checksums that a device computes or verifies: what is wanted, or what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Verifies IPv4 header checksums of what comes in.
    pub rx_ipv4_checksum: bool,
    /// Verifies TCP checksums of what comes in.
    pub rx_tcp_checksum: bool,
    /// Verifies UDP checksums of what comes in.
    pub rx_udp_checksum: bool,
}

impl Offloads {
    /// Everything.
    pub const ALL: Self = Self {
        rx_ipv4_checksum: true,
        rx_tcp_checksum: true,
        rx_udp_checksum: true,
    };
}

/// Which packets receive-side scaling spreads by their ports too, and not by addresses alone.
///
/// The key is symmetric: both directions of a connection fall on one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rss {
    /// TCP by addresses and ports.
    pub tcp: bool,
    /// UDP by addresses and ports.
    pub udp: bool,
    /// The key is this word, repeated.
    pub key_word: u16,
}

/// What is wanted of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues; fewer where the device has fewer.
    pub rx_queues: u16,
    /// Transmit queues; fewer where the device has fewer.
    pub tx_queues: u16,
    /// Descriptors of each receive queue, brought within the device's limits; 0 for its own
    /// preference.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, likewise.
    pub tx_descriptors: u16,
    /// Largest IP packet, in bytes; less where the device takes less, or one buffer of the pool
    /// has not the room, for a packet is received in one piece.
    pub mtu: u16,
    /// Receive-side scaling over several queues, where the device has it.
    pub rss: Option<Rss>,
    /// Checksum offloads, where the device has them.
    pub offloads: Offloads,
    /// Receive frames for any address, where the device can; else those for groups all the same.
    pub promiscuous: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            rss: Some(Rss {
                tcp: true,
                udp: false,
                key_word: RSS_KEY_WORD,
            }),
            offloads: Offloads::ALL,
            promiscuous: true,
        }
    }
}

/// What a configured port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// DPDK's number.
    pub id: PortId,
    /// The device's name: a PCI address, or a virtual device's.
    pub name: String,
    /// The driver's name.
    pub driver: String,
    /// The port's own address.
    pub mac: [u8; 6],
    /// The device's NUMA node, where it has one.
    pub socket: Option<u32>,
    /// Receive queues set up.
    pub rx_queues: u16,
    /// Transmit queues set up.
    pub tx_queues: u16,
    /// The most receive queues that the device has.
    pub max_rx_queues: u16,
    /// The most transmit queues that the device has.
    pub max_tx_queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Offloads that are on.
    pub offloads: Offloads,
    /// Whether the device spreads flows over the receive queues by the Toeplitz hash under
    /// [`Rss::key_word`] and a table of [`RSS_INDIRECTION_ENTRIES`]. Known once it is started; where
    /// it does not, any queue may get any flow.
    pub rss: bool,
    /// Whether frames for any address come in.
    pub promiscuous: bool,
}

/// What keeps a port open: held by the port and by each of its queues.
pub(crate) struct PortState {
    pub(crate) id: u16,
    /// One call at a time on the control side; drivers do not lock.
    control: Mutex<()>,
    started: AtomicBool,
    /// The driver fills its queues from it.
    _pool: Mempool,
    eal: Arc<State>,
}

impl PortState {
    fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PortState {
    fn drop(&mut self) {
        // SAFETY: EAL runs, for we hold its state; no queue is left that could be polling. What
        // fails here has no one to be told, and EAL logs it.
        unsafe {
            if self.started.load(Ordering::Acquire) {
                dpdk_sys::rte_eth_dev_stop(self.id);
            }
            dpdk_sys::rte_eth_dev_close(self.id);
        }
        self.eal.resources().ports.remove(&self.id);
    }
}

/// A configured port, the only owner of its device.
pub struct Port {
    state: Arc<PortState>,
    info: PortInfo,
    scaling: Option<Scaling>,
    rx_taken: Vec<bool>,
    tx_taken: Vec<bool>,
}

impl Port {
    /// The port of a device that EAL already knows, by the device's name.
    pub fn find(_eal: &Eal, name: &str) -> Result<PortId, Error> {
        let call = Call::to("rte_eth_dev_get_port_by_name");
        let doing = || format!("finding port {name}");
        let text = c_string(name, "rte_eth_dev_get_port_by_name", doing)?;
        let mut id = 0;
        // SAFETY: EAL runs; the name is a string, and the number is written to `id`.
        let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(text.as_ptr(), &mut id) };
        call.check(result, doing).map(|_| PortId(id))
    }

    /// The port of a device, which is attached if EAL does not know it yet. `device` is what
    /// DPDK calls devargs: a PCI address or a virtual device, with its arguments behind commas.
    pub fn attach(eal: &Eal, device: &str) -> Result<PortId, Error> {
        let name = device_name(device);
        if let Ok(found) = Self::find(eal, &name) {
            return Ok(found);
        }
        let call = Call::to("rte_dev_probe");
        let doing = || format!("attaching device {device}");
        let text = c_string(device, "rte_dev_probe", doing)?;
        // SAFETY: EAL runs, and the argument is a string, which is copied.
        call.check(unsafe { dpdk_sys::rte_dev_probe(text.as_ptr()) }, doing)?;
        // Most drivers name the port after the device; one with several ports on a device
        // does not.
        let found = Self::find(eal, &name);
        if let Ok(id) = found.or_else(|error| first_port_of(&text).ok_or(error)) {
            return Ok(id);
        }
        // A virtual device outlives its port, and is not probed a second time.
        forget_virtual_device(&name)?;
        let call = Call::to("rte_dev_probe");
        // SAFETY: as above.
        call.check(unsafe { dpdk_sys::rte_dev_probe(text.as_ptr()) }, doing)?;
        Self::find(eal, &name)
    }

    /// All ports that EAL knows and nobody has taken into a driver's bond.
    pub fn list(_eal: &Eal) -> Vec<PortId> {
        let mut ports = Vec::new();
        let mut next = 0;
        loop {
            // SAFETY: EAL runs; any number may be asked for.
            let found = unsafe { dpdk_sys::rte_eth_find_next(next) };
            if u32::from(found) >= dpdk_sys::SHIM_MAX_ETHPORTS {
                return ports;
            }
            ports.push(PortId(found));
            next = found + 1;
        }
    }

    /// Takes the port and sets it up, with no more than the device offers. Its queues are filled
    /// from `pool`. An error closes the device.
    pub fn configure(
        eal: &Eal,
        id: PortId,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<Self, Error> {
        let state = eal.state();
        let doing = || format!("configuring port {}", id.0);
        if !pool.belongs_to(&state) {
            return Err(Error::new("Port::configure", libc::EINVAL, doing()));
        }
        if !state.resources().ports.insert(id.0) {
            return Err(Error::new("Port::configure", libc::EBUSY, doing()));
        }
        let state = Arc::new(PortState {
            id: id.0,
            control: Mutex::new(()),
            started: AtomicBool::new(false),
            _pool: pool.clone(),
            eal: state,
        });
        let (info, scaling) = configure::configure(id, config, pool)?;
        Ok(Self {
            state,
            rx_taken: vec![false; info.rx_queues.into()],
            tx_taken: vec![false; info.tx_queues.into()],
            scaling,
            info,
        })
    }

    /// What the port is.
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// The port's own address.
    pub fn mac(&self) -> [u8; 6] {
        self.info.mac
    }

    /// Starts the device. The queues can be taken from then on.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.is_started() {
            return Ok(());
        }
        let call = Call::to("rte_eth_dev_start");
        // SAFETY: the port is configured and no queue of it has been taken, so no thread looks at
        // the table of functions that this fills.
        let result = unsafe { dpdk_sys::rte_eth_dev_start(self.state.id) };
        call.check(result, || format!("starting port {}", self.info.name))?;
        self.state.started.store(true, Ordering::Release);
        let settled = self
            .scaling
            .map(|scaling| scaling.settle(self.info.id, &self.info.driver));
        self.info.rss = settled == Some(true);
        Ok(())
    }

    /// Whether the device runs.
    pub fn is_started(&self) -> bool {
        self.state.started.load(Ordering::Acquire)
    }

    /// Stops the device. `EBUSY` while one of its queues is alive, for a thread may be polling
    /// it. Queues can be taken anew after the next start.
    pub fn stop(&mut self) -> Result<(), Error> {
        let doing = format!("stopping port {}", self.info.name);
        if Arc::get_mut(&mut self.state).is_none() {
            return Err(Error::new("Port::stop", libc::EBUSY, doing));
        }
        let call = Call::to("rte_eth_dev_stop");
        // SAFETY: the port is configured, and none of its queues is alive.
        call.check(unsafe { dpdk_sys::rte_eth_dev_stop(self.state.id) }, || {
            doing
        })?;
        self.state.started.store(false, Ordering::Release);
        self.rx_taken.fill(false);
        self.tx_taken.fill(false);
        Ok(())
    }

    /// Whether none of its queues is alive, so that it can be stopped or detached.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.state) == 1
    }

    /// Closes the port, and has EAL forget its virtual device, so that the device can be attached
    /// anew. `EBUSY` while one of the queues is alive: then the port stays where it is.
    pub fn detach(port: &mut Option<Self>) -> Result<(), Error> {
        let Some(own) = port.take_if(|own| own.is_unused()) else {
            let doing = "detaching a port whose queues are in use";
            return Err(Error::new("Port::detach", libc::EBUSY, doing));
        };
        let name = own.info.name.clone();
        drop(own);
        forget_virtual_device(&name)
    }

    /// Receive queue `number`, once; `None` before the start, past the last queue, or again.
    pub fn take_rx_queue(&mut self, number: u16) -> Option<RxQueue> {
        take(self.is_started(), &mut self.rx_taken, number)?;
        Some(RxQueue::new(Arc::clone(&self.state), number))
    }

    /// Transmit queue `number`, likewise.
    pub fn take_tx_queue(&mut self, number: u16) -> Option<TxQueue> {
        take(self.is_started(), &mut self.tx_taken, number)?;
        Some(TxQueue::new(Arc::clone(&self.state), number))
    }

    /// Changes the largest IP packet; some drivers want the port stopped for it.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        let call = Call::to("rte_eth_dev_set_mtu");
        let _control = self.state.control();
        // SAFETY: the port is configured.
        let result = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.state.id, mtu) };
        call.check(result, || {
            format!("setting the MTU of port {} to {mtu}", self.info.name)
        })?;
        self.info.mtu = mtu;
        Ok(())
    }
}

fn take(started: bool, taken: &mut [bool], number: u16) -> Option<()> {
    let slot = taken.get_mut(usize::from(number))?;
    (started && !std::mem::replace(slot, true)).then_some(())
}

/// The name by which EAL knows a device: devargs without the arguments, a PCI address with its
/// domain.
fn device_name(device: &str) -> String {
    let name = device.split(',').next().unwrap_or_default();
    let is_short_pci = name.len() == 7
        && name.bytes().enumerate().all(|(index, byte)| match index {
            2 => byte == b':',
            5 => byte == b'.',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_short_pci {
        format!("0000:{name}")
    } else {
        name.to_owned()
    }
}

/// Has EAL forget a virtual device that has no port any more.
fn forget_virtual_device(name: &str) -> Result<(), Error> {
    let doing = || format!("removing device {name}");
    let text = c_string(name, "rte_eal_hotplug_remove", doing)?;
    let call = Call::to("rte_eal_hotplug_remove");
    // SAFETY: EAL runs, and both arguments are strings. No port of the device is left that
    // somebody could use: there would be no second probe.
    let result = unsafe { dpdk_sys::rte_eal_hotplug_remove(c"vdev".as_ptr(), text.as_ptr()) };
    call.check(result, doing).map(drop)
}

/// The first port of a device that has just been probed.
fn first_port_of(device: &CStr) -> Option<PortId> {
    let mut iterator = dpdk_sys::rte_dev_iterator::default();
    // SAFETY: EAL runs; the iterator is zeroed as the call wants it, and is given back if a port
    // was found (past the last one DPDK gives it back itself).
    unsafe {
        if dpdk_sys::rte_eth_iterator_init(&mut iterator, device.as_ptr()) != 0 {
            return None;
        }
        let id = dpdk_sys::rte_eth_iterator_next(&mut iterator);
        if u32::from(id) >= dpdk_sys::SHIM_MAX_ETHPORTS {
            return None;
        }
        dpdk_sys::rte_eth_iterator_cleanup(&mut iterator);
        Some(PortId(id))
    }
}

/// Copies a string of DPDK's; a null pointer is an empty one.
///
/// # Safety
/// `text` is null or a string that is valid for the time of the call.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::device_name;

    #[test]
    fn devices_are_known_by_their_names() {
        assert_eq!(device_name("net_af_packet0,iface=out0"), "net_af_packet0");
        assert_eq!(device_name("03:00.1,rxq=2"), "0000:03:00.1");
        assert_eq!(device_name("0000:03:00.1"), "0000:03:00.1");
        assert_eq!(device_name("net_tap"), "net_tap");
    }
}
