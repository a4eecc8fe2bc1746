//! Receive-side scaling: which queue a NIC puts a flow on.
//!
//! Key and indirection table are set so that software can tell the queue from the packet alone,
//! and read back, because some devices accept both and keep their own.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_rss_conf, rte_eth_rss_reta_entry64};

use super::{PortId, Rss};

/// The hash key is one word, repeated: this one unless another is drawn. Under such a key swapping source and destination leaves
/// the hash as it is, for every 16-bit word of the input meets the same 32 bits of key.
pub const RSS_KEY_WORD: u16 = 0x6d5a;

/// The queue of a packet is entry `hash % RSS_INDIRECTION_ENTRIES` of a table, whose entry `n`
/// is `n % queues`. A device with a larger table has this one repeated.
pub const RSS_INDIRECTION_ENTRIES: u16 = 128;

/// Longer than any device's key.
const KEY_BYTES_MAX: usize = 64;
const KEY_BYTES_USUAL: u8 = 40;
/// Entries in each element of DPDK's array.
const GROUP_ENTRIES: u16 = 64;

/// Drivers that accept key and table, but whose packets land on a queue by the kernel's hash, or
/// by none.
const DRIVERS_WITHOUT_REAL_RSS: [&str; 2] = ["net_tap", "net_null"];

/// What is asked of a device with several receive queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaling {
    pub(super) types: u64,
    pub(super) key_bytes: u8,
    key_word: u16,
    table_entries: u16,
    queues: u16,
}

impl Scaling {
    /// `None` where there is nothing to scale over, or no hash to scale by.
    pub(super) fn plan(
        wanted: Option<Rss>,
        queues: u16,
        device: &rte_eth_dev_info,
    ) -> Option<Self> {
        let wanted = wanted?;
        let types = hash_types(wanted) & device.flow_type_rss_offloads;
        if queues < 2 || types == 0 {
            return None;
        }
        let key_bytes = match device.hash_key_size {
            0 => KEY_BYTES_USUAL,
            size if usize::from(size) > KEY_BYTES_MAX => return None,
            size => size,
        };
        Some(Self {
            types,
            key_bytes,
            key_word: wanted.key_word,
            table_entries: device.reta_size,
            queues,
        })
    }

    /// Puts it into the configuration; `key` is pointed to and has to outlive the call.
    pub(super) fn ask(&self, conf: &mut rte_eth_conf, key: &mut [u8; KEY_BYTES_MAX]) {
        conf.rxmode.mq_mode = dpdk_sys::rte_eth_rx_mq_mode_RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf = self.hash_conf(key);
    }

    #[allow(clippy::needless_update)] // DPDK 24.11 has one field more.
    fn hash_conf(&self, key: &mut [u8; KEY_BYTES_MAX]) -> rte_eth_rss_conf {
        rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: self.key_bytes,
            rss_hf: self.types,
            ..rte_eth_rss_conf::default()
        }
    }

    /// Sets what the start has left at the driver's defaults. Whether software can tell every
    /// packet's queue from now on.
    pub(super) fn settle(&self, id: PortId, driver: &str) -> bool {
        let keyed = self.has_our_key(id) || (self.set_key(id) && self.has_our_key(id));
        let tabled = self.set_table(id);
        keyed && tabled && !DRIVERS_WITHOUT_REAL_RSS.contains(&driver)
    }

    /// The key, as long as any device wants it.
    pub(super) fn key(&self) -> [u8; KEY_BYTES_MAX] {
        std::array::from_fn(|index| self.key_word.to_be_bytes()[index % 2])
    }

    fn has_our_key(&self, id: PortId) -> bool {
        let mut key = [0; KEY_BYTES_MAX];
        let mut conf = self.hash_conf(&mut key);
        // SAFETY: the port is configured; the key has room for more than the length that is told.
        let result = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(id.0, &mut conf) };
        let used = usize::from(self.key_bytes);
        result == 0 && key[..used] == self.key()[..used] && conf.rss_hf & self.types == self.types
    }

    fn set_key(&self, id: PortId) -> bool {
        let mut key = self.key();
        let mut conf = self.hash_conf(&mut key);
        // SAFETY: the port is configured; key and configuration are read during the call.
        unsafe { dpdk_sys::rte_eth_dev_rss_hash_update(id.0, &mut conf) == 0 }
    }

    /// A table whose size is no multiple of ours cannot hold it.
    fn set_table(&self, id: PortId) -> bool {
        if self.table_entries == 0 || !self.table_entries.is_multiple_of(RSS_INDIRECTION_ENTRIES) {
            return false;
        }
        let mut groups: Vec<_> = (0..self.table_entries / GROUP_ENTRIES)
            .map(|group| rte_eth_rss_reta_entry64 {
                mask: u64::MAX,
                reta: std::array::from_fn(|entry| {
                    let entry = group * GROUP_ENTRIES + entry as u16;
                    entry % RSS_INDIRECTION_ENTRIES % self.queues
                }),
            })
            .collect();
        // SAFETY: the port is configured; the array has as many groups as the entries fill, and
        // is read during the call.
        unsafe {
            dpdk_sys::rte_eth_dev_rss_reta_update(id.0, groups.as_mut_ptr(), self.table_entries)
                == 0
        }
    }
}

fn hash_types(rss: Rss) -> u64 {
    let tcp = if rss.tcp { dpdk_sys::SHIM_RSS_TCP } else { 0 };
    let udp = if rss.udp { dpdk_sys::SHIM_RSS_UDP } else { 0 };
    dpdk_sys::SHIM_RSS_IP | tcp | udp
}
