//! What a port tells while it runs.

use super::Port;
use crate::error::{Call, Error};

/// A port's counters since it was started, in DPDK's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Packets received.
    pub ipackets: u64,
    /// Packets sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Packets that the device dropped because no one fetched them in time.
    pub imissed: u64,
    /// Packets received with an error.
    pub ierrors: u64,
    /// Packets that could not be sent.
    pub oerrors: u64,
    /// Packets lost because the pool was empty.
    pub rx_nombuf: u64,
}

/// The state of a port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Whether there is one.
    pub up: bool,
    /// Its speed, where the device knows.
    pub speed_mbps: Option<u32>,
    /// Whether both sides may send at once.
    pub full_duplex: bool,
}

impl Port {
    /// The port's counters.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let mut raw = dpdk_sys::rte_eth_stats::default();
        let call = Call::to("rte_eth_stats_get");
        let _control = self.state.control();
        // SAFETY: the port is configured, and the counters are there to be written.
        let result = unsafe { dpdk_sys::rte_eth_stats_get(self.state.id, &mut raw) };
        call.check(result, || {
            format!("reading the counters of port {}", self.info.name)
        })?;
        Ok(PortStats {
            ipackets: raw.ipackets,
            opackets: raw.opackets,
            ibytes: raw.ibytes,
            obytes: raw.obytes,
            imissed: raw.imissed,
            ierrors: raw.ierrors,
            oerrors: raw.oerrors,
            rx_nombuf: raw.rx_nombuf,
        })
    }

    /// All counters that the driver has beside those, by its own names.
    pub fn extended_stats(&self) -> Result<Vec<(String, u64)>, Error> {
        let doing = || format!("reading the extended counters of port {}", self.info.name);
        let id = self.state.id;
        let _control = self.state.control();
        let call = Call::to("rte_eth_xstats_get_names");
        // SAFETY: with no array to fill, the call returns how long it has to be.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
        let count = call.check(count, doing)? as usize;
        let mut names = vec![dpdk_sys::rte_eth_xstat_name::default(); count];
        let mut values = vec![dpdk_sys::rte_eth_xstat::default(); count];
        let call = Call::to("rte_eth_xstats_get_names");
        // SAFETY: the array has the length that is told.
        let named =
            unsafe { dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count as u32) };
        let named = call.check(named, doing)? as usize;
        let call = Call::to("rte_eth_xstats_get");
        // SAFETY: as above.
        let got = unsafe { dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count as u32) };
        let got = call.check(got, doing)? as usize;
        // A result beyond the length means that the driver has more now; what fits was not
        // necessarily filled in.
        if named > count || got > count {
            return Ok(Vec::new());
        }
        let named = |value: &dpdk_sys::rte_eth_xstat| {
            let name = names[..named].get(usize::try_from(value.id).ok()?)?;
            // SAFETY: DPDK ends each name with a zero within its array.
            Some((unsafe { super::text_of(name.name.as_ptr()) }, value.value))
        };
        Ok(values[..got].iter().filter_map(named).collect())
    }

    /// The link's state, without waiting for it to settle.
    pub fn link(&self) -> Result<Link, Error> {
        let mut raw = dpdk_sys::shim_link::default();
        let call = Call::to("rte_eth_link_get_nowait");
        let _control = self.state.control();
        // SAFETY: the port is configured, and the link is there to be written.
        let result = unsafe { dpdk_sys::shim_link_get(self.state.id, &mut raw) };
        call.check(result, || {
            format!("asking port {} for its link", self.info.name)
        })?;
        Ok(Link {
            up: raw.up != 0,
            speed_mbps: (1..u32::MAX)
                .contains(&raw.speed_mbps)
                .then_some(raw.speed_mbps),
            full_duplex: raw.full_duplex != 0,
        })
    }
}
