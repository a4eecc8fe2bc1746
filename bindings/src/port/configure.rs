//! Bringing what is wanted of a port and what its device offers together.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::rss::Scaling;
use super::{Offloads, PortConfig, PortId, PortInfo, text_of};
use crate::error::{Call, Error};
use crate::mempool::Mempool;

/// Link-layer header and trailer, where a driver does not tell.
const FRAME_OVERHEAD_BYTES: u32 = 18;
/// What every link carries (RFC 791, RFC 894).
const MTU_MIN_BYTES: u16 = 68;
/// What is asked of the device, all of it within what it offers.
struct Plan {
    rx_queues: u16,
    tx_queues: u16,
    mtu: u16,
    offloads: Offloads,
    rx_offloads: u64,
    scaling: Option<Scaling>,
}

pub(super) fn configure(
    id: PortId,
    config: &PortConfig,
    pool: &Mempool,
) -> Result<(PortInfo, Option<Scaling>), Error> {
    let name = name_of(id);
    let device = device_info(id, &name)?;
    // SAFETY: the driver's name is a string that lives as long as the driver.
    let driver = unsafe { text_of(device.driver_name) };
    let mut plan = plan(config, &device, pool.data_room_bytes());
    if let Err(error) = apply(id, &name, &plan) {
        // Some devices scale, but not by a key of ours: then by their own, or not at all.
        plan.scaling.take().ok_or(error)?;
        apply(id, &name, &plan)?;
    }
    let (rx_descriptors, tx_descriptors) = set_up_queues(id, &name, config, &plan, &device, pool)?;
    let info = PortInfo {
        id,
        mac: mac_of(id, &name)?,
        socket: socket_of(id),
        rx_queues: plan.rx_queues,
        tx_queues: plan.tx_queues,
        max_rx_queues: device.max_rx_queues,
        max_tx_queues: device.max_tx_queues,
        rx_descriptors,
        tx_descriptors,
        mtu: mtu_of(id).unwrap_or(plan.mtu),
        offloads: plan.offloads,
        rss: false,
        driver,
        promiscuous: receive_beyond_own(id, config.promiscuous),
        name,
    };
    Ok((info, plan.scaling))
}

fn name_of(id: PortId) -> String {
    // RTE_ETH_NAME_MAX_LEN, and some.
    let mut name = [0; 256];
    // SAFETY: the longest name and its end fit.
    unsafe {
        if dpdk_sys::rte_eth_dev_get_name_by_port(id.0, name.as_mut_ptr()) != 0 {
            return format!("port {}", id.0);
        }
        text_of(name.as_ptr())
    }
}

fn device_info(id: PortId, name: &str) -> Result<rte_eth_dev_info, Error> {
    let mut info = rte_eth_dev_info::default();
    let call = Call::to("rte_eth_dev_info_get");
    // SAFETY: EAL runs, and `info` is there to be written.
    let result = unsafe { dpdk_sys::rte_eth_dev_info_get(id.0, &mut info) };
    call.check(result, || format!("asking port {name} what it can do"))?;
    Ok(info)
}

fn plan(config: &PortConfig, device: &rte_eth_dev_info, data_room_bytes: u32) -> Plan {
    let rx_queues = config.rx_queues.clamp(1, device.max_rx_queues.max(1));
    let tx_queues = config.tx_queues.clamp(1, device.max_tx_queues.max(1));
    let overhead = frame_overhead(device);
    let mtu = mtu_within(config.mtu, device, overhead, data_room_bytes);
    let scaling = Scaling::plan(config.rss, rx_queues, device);
    let (offloads, mut rx_offloads) = checksum_offloads(config.offloads, device);
    if scaling.is_some() {
        rx_offloads |= dpdk_sys::SHIM_PORT_RX_RSS_HASH & device.rx_offload_capa;
    }
    Plan {
        rx_queues,
        tx_queues,
        mtu,
        offloads,
        rx_offloads,
        scaling,
    }
}

/// Bytes of a frame beside its IP packet, as the driver counts them.
fn frame_overhead(device: &rte_eth_dev_info) -> u32 {
    match device.max_rx_pktlen.checked_sub(device.max_mtu.into()) {
        Some(overhead) if device.max_mtu != u16::MAX && overhead > 0 => overhead,
        _ => FRAME_OVERHEAD_BYTES,
    }
}

fn mtu_within(wanted: u16, device: &rte_eth_dev_info, overhead: u32, data_room_bytes: u32) -> u16 {
    let mut most = u32::from(device.max_mtu);
    if device.max_rx_pktlen > overhead {
        most = most.min(device.max_rx_pktlen - overhead);
    }
    most = most.min(data_room_bytes.saturating_sub(overhead));
    let least = device.min_mtu.max(MTU_MIN_BYTES);
    let most = u16::try_from(most).unwrap_or(u16::MAX).max(least);
    wanted.clamp(least, most)
}

/// The wanted offloads that the device has, and DPDK's flags for them.
fn checksum_offloads(wanted: Offloads, device: &rte_eth_dev_info) -> (Offloads, u64) {
    let mut flags = 0;
    let mut enable = |wanted: bool, flag: u64| {
        let enabled = wanted && device.rx_offload_capa & flag != 0;
        flags |= if enabled { flag } else { 0 };
        enabled
    };
    let enabled = Offloads {
        rx_ipv4_checksum: enable(wanted.rx_ipv4_checksum, dpdk_sys::SHIM_PORT_RX_IPV4_CKSUM),
        rx_tcp_checksum: enable(wanted.rx_tcp_checksum, dpdk_sys::SHIM_PORT_RX_TCP_CKSUM),
        rx_udp_checksum: enable(wanted.rx_udp_checksum, dpdk_sys::SHIM_PORT_RX_UDP_CKSUM),
    };
    (enabled, flags)
}

fn apply(id: PortId, name: &str, plan: &Plan) -> Result<(), Error> {
    let mut key = plan.scaling.map(|scaling| scaling.key());
    let mut conf = rte_eth_conf::default();
    conf.rxmode.mtu = plan.mtu.into();
    conf.rxmode.offloads = plan.rx_offloads;
    if let (Some(scaling), Some(key)) = (plan.scaling, &mut key) {
        scaling.ask(&mut conf, key);
    }
    let call = Call::to("rte_eth_dev_configure");
    // SAFETY: EAL runs and the port is ours; the configuration and the key in it are read during
    // the call (drivers that keep a key copy it).
    let result =
        unsafe { dpdk_sys::rte_eth_dev_configure(id.0, plan.rx_queues, plan.tx_queues, &conf) };
    call.check(result, || {
        let Plan { rx_queues, tx_queues, mtu, .. } = plan;
        format!("configuring port {name} with {rx_queues} receive and {tx_queues} transmit queues and an MTU of {mtu}")
    })?;
    Ok(())
}

fn set_up_queues(
    id: PortId,
    name: &str,
    config: &PortConfig,
    plan: &Plan,
    device: &rte_eth_dev_info,
    pool: &Mempool,
) -> Result<(u16, u16), Error> {
    let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
    let call = Call::to("rte_eth_dev_adjust_nb_rx_tx_desc");
    // SAFETY: the port is configured; both numbers are there to be changed.
    let result = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id.0, &mut rx, &mut tx) };
    call.check(result, || format!("fitting the descriptors of port {name}"))?;
    let socket = socket_of(id).map_or(u32::MAX, |socket| socket);
    for queue in 0..plan.rx_queues {
        let mut conf = device.default_rxconf;
        conf.offloads = plan.rx_offloads;
        let call = Call::to("rte_eth_rx_queue_setup");
        // SAFETY: the port is configured with that many queues; it keeps the pool, which lives
        // as long as EAL does, and reads `conf` during the call.
        let result = unsafe {
            dpdk_sys::rte_eth_rx_queue_setup(id.0, queue, rx, socket, &conf, pool.as_ptr())
        };
        call.check(result, || {
            format!("setting up receive queue {queue} of port {name}")
        })?;
    }
    for queue in 0..plan.tx_queues {
        let conf = device.default_txconf;
        let call = Call::to("rte_eth_tx_queue_setup");
        // SAFETY: as above.
        let result = unsafe { dpdk_sys::rte_eth_tx_queue_setup(id.0, queue, tx, socket, &conf) };
        call.check(result, || {
            format!("setting up transmit queue {queue} of port {name}")
        })?;
    }
    Ok((rx, tx))
}

fn mac_of(id: PortId, name: &str) -> Result<[u8; 6], Error> {
    let mut address = dpdk_sys::rte_ether_addr::default();
    let call = Call::to("rte_eth_macaddr_get");
    // SAFETY: the port is valid, and the address is there to be written.
    let result = unsafe { dpdk_sys::rte_eth_macaddr_get(id.0, &mut address) };
    call.check(result, || format!("asking port {name} for its address"))?;
    Ok(address.addr_bytes)
}

fn socket_of(id: PortId) -> Option<u32> {
    // SAFETY: any number may be asked for; what is not on a node, or no port, is negative.
    u32::try_from(unsafe { dpdk_sys::rte_eth_dev_socket_id(id.0) }).ok()
}

fn mtu_of(id: PortId) -> Option<u16> {
    let mut mtu = 0;
    // SAFETY: any number may be asked for, and the MTU is there to be written.
    (unsafe { dpdk_sys::rte_eth_dev_get_mtu(id.0, &mut mtu) } == 0).then_some(mtu)
}

/// Has frames come in that are not for the device's own address: all of them, or at least those
/// for groups, without which no neighbour could ask for an IPv6 address. A device that cannot is
/// no failure: on many virtual ones every frame comes in anyway.
fn receive_beyond_own(id: PortId, promiscuous: bool) -> bool {
    if promiscuous {
        return make_promiscuous(id);
    }
    // SAFETY: the port is configured.
    unsafe { dpdk_sys::rte_eth_allmulticast_enable(id.0) };
    false
}

fn make_promiscuous(id: PortId) -> bool {
    // SAFETY: the port is configured.
    unsafe {
        dpdk_sys::rte_eth_promiscuous_enable(id.0);
        dpdk_sys::rte_eth_promiscuous_get(id.0) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rss;
    use super::*;

    fn device() -> rte_eth_dev_info {
        rte_eth_dev_info {
            max_rx_queues: 1,
            max_tx_queues: 4,
            max_mtu: u16::MAX,
            max_rx_pktlen: 1518,
            ..Default::default()
        }
    }

    #[test]
    fn asks_for_no_more_than_the_device_offers() {
        let config = PortConfig {
            rx_queues: 8,
            tx_queues: 8,
            mtu: 9000,
            ..Default::default()
        };
        let plan = plan(&config, &device(), 2048);
        assert_eq!((plan.rx_queues, plan.tx_queues, plan.mtu), (1, 4, 1500));
        assert_eq!(plan.offloads, Offloads::default());
        assert_eq!((plan.rx_offloads, plan.scaling), (0, None));
    }

    #[test]
    fn takes_what_is_wanted_and_offered() {
        let device = rte_eth_dev_info {
            max_rx_queues: 16,
            max_rx_pktlen: 9728,
            rx_offload_capa: dpdk_sys::SHIM_PORT_RX_TCP_CKSUM | dpdk_sys::SHIM_PORT_RX_UDP_CKSUM,
            flow_type_rss_offloads: u64::MAX,
            ..device()
        };
        let wanted = Offloads {
            rx_udp_checksum: false,
            ..Offloads::ALL
        };
        let rss = Some(Rss {
            tcp: true,
            udp: false,
            key_word: 0x1234,
        });
        let config = PortConfig {
            rx_queues: 2,
            mtu: 9000,
            offloads: wanted,
            rss,
            ..Default::default()
        };
        let plan = plan(&config, &device, 9216);
        assert!(plan.offloads.rx_tcp_checksum && !plan.offloads.rx_ipv4_checksum);
        assert!(!plan.offloads.rx_udp_checksum);
        assert_eq!(plan.mtu, 9000);
        let scaling = plan.scaling.expect("two queues");
        assert_eq!(
            scaling.types,
            dpdk_sys::SHIM_RSS_IP | dpdk_sys::SHIM_RSS_TCP
        );
        assert_eq!(scaling.key_bytes, 40);
    }

    #[test]
    fn a_packet_fits_one_buffer() {
        let device = rte_eth_dev_info {
            max_rx_pktlen: 9728,
            ..device()
        };
        let config = PortConfig {
            mtu: 9000,
            ..Default::default()
        };
        assert_eq!(plan(&config, &device, 2048).mtu, 2048 - 18);
    }
}
