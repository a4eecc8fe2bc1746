//! EAL, the packet memory and the ports: from a profile to queues that are ready to be polled.

use std::fs;
use std::path::Path;

use arrayvec::ArrayVec;
use bindings::mempool::MempoolConfig;
use bindings::packet_socket::hands_over_fragments;
use bindings::port::{Offloads, Rss};
use bindings::{Eal, EalConfig, Interface, Mempool, Port, PortConfig, PortInfo};
use dataplane::io::{PortId, WorkerId};
use dataplane::limits::MAX_PORTS;
use dataplane::port::DpdkIo;
use dataplane::shard::{Shard, key_word};
use dataplane::transmit::TransmitWay;
use tracing::{info, warn};

use super::claim::Claim;
use super::crew::random;
use super::departures::Departures;
use super::device_port::DevicePort;
use super::memory::{self, CACHE, DESCRIPTORS, QueueCount};
use crate::configuration::{DeviceFacts, Layout};
use crate::failure::Failure;
use crate::logging;
use crate::profile::{ChecksumOffload, Device, Link, Profile, is_pci_address};

/// Drivers that say of a missing checksum that it does not matter, as between virtual machines.
const DRIVERS_WITHOUT_CHECKSUMS: [&str; 3] = ["net_virtio", "net_virtio_user", "net_vhost"];

/// The started hardware. Dropped, it is closed: not before the workers' queues are.
pub(super) struct Hardware {
    /// The devices, in the order of [`Layout::devices`].
    pub(super) ports: Vec<DevicePort>,
    /// The packet memory.
    pub(super) pool: Mempool,
    /// Which worker owns a flow: by the NICs' hash where one of them chooses, else in secret.
    pub(super) shard: Shard,
    /// What the NICs' RSS keys are made of.
    rss_word: u16,
    /// The interfaces that leave.
    pub(super) departures: Departures,
    eal: Eal,
}

/// What one worker polls, and how it sends.
pub(super) struct WorkerQueues {
    /// Its queues.
    pub(super) io: DpdkIo,
    /// The ports that it receives from.
    pub(super) receives: ArrayVec<PortId, MAX_PORTS>,
    /// Its way out by each port.
    pub(super) ways: Vec<TransmitWay>,
}

pub(super) fn device(profile: &Profile, index: usize) -> &Device {
    match &profile.ports[index].link {
        Link::Device(device) => device,
        Link::Parent(_) => unreachable!("a layout lists only ports with a device"),
    }
}

/// The device as DPDK is told it: with the queues that the profile asks for, where the driver
/// must know them beforehand.
fn device_arguments(device: &Device) -> String {
    match device.queues {
        Some(queues)
            if device.is_packet_socket() && queues > 1 && device.argument("qpairs").is_none() =>
        {
            format!("{},qpairs={queues}", device.arguments)
        }
        _ => device.arguments.clone(),
    }
}

/// Starts EAL, makes the pool, and starts every port.
pub(super) fn start(profile: &Profile, layout: &Layout) -> Result<Hardware, Failure> {
    // From before the ports stand on them.
    let departures = Departures::listen();
    let mut claims = Vec::new();
    for &index in &layout.devices {
        let (name, device) = (&profile.ports[index].name, device(profile, index));
        interface_exists(name, device)?;
        claims.push(Claim::on(name, device)?);
    }
    let workers = profile.runtime.workers.len();
    let queues = layout.devices.iter();
    let queues: Vec<u16> = queues
        .map(|&index| device(profile, index).wanted_queues(workers))
        .collect();
    let count = QueueCount {
        receive: queues.iter().map(|&queues| u32::from(queues)).sum(),
        transmit: (workers * layout.devices.len()) as u32,
    };
    let plan = memory::plan(profile, count, true)?;
    let wanted = profile.runtime.huge_pages;
    let huge_pages = memory::huge_pages(Path::new("/"), wanted, plan.memory_mib)?;
    let plan = memory::plan(profile, count, huge_pages)?;
    let eal = start_eal(profile, layout, huge_pages, plan.memory_mib)?;
    let pool = MempoolConfig {
        name: "packets".into(),
        count: plan.buffers,
        cache: CACHE,
        data_room_bytes: plan.data_room_bytes,
        socket: None,
    };
    let pool = Mempool::new(&eal, &pool).map_err(|error| {
        Failure::new(
            error.to_string(),
            "give it more memory by `runtime.memory_mib`, or free huge pages",
        )
    })?;
    info!(
        buffers = plan.buffers,
        data_room_bytes = plan.data_room_bytes,
        memory_mib = plan.memory_mib,
        huge_pages,
        "packet memory"
    );
    let rss_word = key_word(u16::from_ne_bytes(random()?));
    let mut ports = Vec::new();
    let mut is_chosen_by_nic = false;
    for ((&index, &queues), claim) in layout.devices.iter().zip(&queues).zip(claims) {
        let interface = interface_of(device(profile, index));
        let port = start_port(profile, index, queues, rss_word, &eal, &pool)?;
        is_chosen_by_nic |= port.info().rss;
        ports.push(DevicePort::new(port, interface, claim));
    }
    // What a NIC has put on the right queue need not be handed on.
    let shard = if is_chosen_by_nic {
        Shard::as_nics(workers, rss_word)
    } else {
        let secret: [u8; 32] = random()?;
        let words = secret
            .chunks_exact(8)
            .map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
        let mut secret = [0; 4];
        secret
            .iter_mut()
            .zip(words)
            .for_each(|(to, word)| *to = word);
        Shard::in_secret(workers, secret)
    };
    Ok(Hardware {
        ports,
        shard,
        rss_word,
        pool,
        departures,
        eal,
    })
}

fn start_eal(
    profile: &Profile,
    layout: &Layout,
    huge_pages: bool,
    memory_mib: u32,
) -> Result<Eal, Failure> {
    let devices = layout.devices.iter().map(|&index| device(profile, index));
    let pci: Vec<String> = devices
        .filter(|device| is_pci_address(&device.arguments))
        .map(|device| device.arguments.clone())
        .collect();
    let config = EalConfig {
        file_prefix: profile.runtime.file_prefix.clone(),
        huge_pages,
        // Huge pages are taken as they are needed; all that a process without them will ever
        // have is reserved at the start.
        memory_mib: if huge_pages { 0 } else { memory_mib },
        main_core: profile.runtime.control_core as usize,
        service_cores: vec![profile.runtime.control_core as usize],
        pci: !pci.is_empty(),
        pci_allow: pci,
        log_level: logging::dpdk_level_of(profile.runtime.log.level),
        ..EalConfig::default()
    };
    info!(
        dpdk = bindings::eal::version(),
        arguments = config.arguments()[1..].join(" "),
        "EAL"
    );
    bindings::log::set_log_sink(logging::dpdk_line)
        .and_then(|()| Eal::init(&config))
        .map_err(|error| {
            Failure::new(
                error.to_string(),
                "`tidegate doctor` says what DPDK lacks here",
            )
        })
}

/// The kernel's interface behind a device, as it is now.
pub(super) fn interface_of(device: &Device) -> Option<Interface> {
    Interface::named(device.kernel_interface()?).ok()
}

/// A kernel interface that is not there is DPDK's most opaque error.
fn interface_exists(port: &str, device: &Device) -> Result<(), Failure> {
    let Some(wanted) = device.kernel_interface() else {
        return Ok(());
    };
    if Interface::named(wanted).is_ok() {
        return Ok(());
    }
    Err(Failure::new(
        format!("port {port}: there is no network interface {wanted} in this network name space"),
        format!("create it, or correct `ports.{port}.device`"),
    ))
}

fn start_port(
    profile: &Profile,
    index: usize,
    queues: u16,
    rss_word: u16,
    eal: &Eal,
    pool: &Mempool,
) -> Result<Port, Failure> {
    let (name, device) = (&profile.ports[index].name, device(profile, index));
    let failed = |error: bindings::Error| {
        let cure = if device.is_pci() {
            "bind the device to vfio-pci; `tidegate doctor PROFILE` says what it lacks".into()
        } else {
            format!("correct `ports.{name}.device`; `tidegate doctor PROFILE` says what it lacks")
        };
        Failure::new(format!("port {name}: {error}"), cure)
    };
    let id = Port::attach(eal, &device_arguments(device)).map_err(failed)?;
    let mut config = PortConfig {
        rx_queues: queues,
        tx_queues: profile.runtime.workers.len() as u16,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        mtu: profile.ports[index].mtu_bytes,
        rss: Some(Rss {
            tcp: true,
            udp: true,
            key_word: rss_word,
        }),
        offloads: Offloads::default(),
        promiscuous: device.promiscuous,
    };
    let without = DRIVERS_WITHOUT_CHECKSUMS;
    let is_without = without
        .iter()
        .any(|driver| device.arguments.starts_with(driver));
    if device.checksum_offload == ChecksumOffload::Auto && !is_without {
        config.offloads = Offloads::ALL;
    }
    let mut port = Port::configure(eal, id, &config, pool).map_err(failed)?;
    port.start().map_err(failed)?;
    tell(profile, index, &port);
    Ok(port)
}

/// The largest packet that a device takes. AF_PACKET's driver tells the usual one whatever its ring
/// holds; there a frame also holds what the kernel says of it, and a tag.
pub(super) fn mtu_of(device: &Device, info: &PortInfo) -> u16 {
    const RING_OVERHEAD_BYTES: u32 = 84;
    let frame_bytes = device.argument("framesz");
    let frame_bytes = frame_bytes.filter(|_| device.is_packet_socket());
    let frame_bytes = frame_bytes.and_then(|number| number.parse::<u32>().ok());
    frame_bytes.map_or(info.mtu, |frame_bytes| {
        let mtu = frame_bytes.saturating_sub(RING_OVERHEAD_BYTES);
        mtu.min(u16::MAX.into()) as u16
    })
}

/// Logs a started port, and what about it is not as it was asked for.
fn tell(profile: &Profile, index: usize, port: &Port) {
    let (name, info) = (&profile.ports[index].name, port.info());
    let mtu = mtu_of(device(profile, index), info);
    // What the kernel's interface takes may be less.
    let kernels = interface_of(device(profile, index)).map(|interface| interface.mtu_bytes);
    let mtu = mtu.min(kernels.unwrap_or(u32::MAX).try_into().unwrap_or(u16::MAX));
    info!(
        port = name,
        device = info.name,
        driver = info.driver,
        mac = mac_text(info.mac),
        mtu,
        receive_queues = info.rx_queues,
        transmit_queues = info.tx_queues,
        rss = info.rss,
        offloads = offload_names(info.offloads).join(" "),
        numa_node = info.socket,
        "port"
    );
    if mtu < profile.ports[index].mtu_bytes {
        warn!(
            "port {name} takes packets of {} bytes, not of {}; set `ports.{name}.mtu: {}`",
            mtu, profile.ports[index].mtu_bytes, mtu
        );
    }
    if device(profile, index).is_packet_socket() && !hands_over_fragments() {
        warn!(
            "port {name} gets IPv4 fragments joined, and cut where they outgrow the MTU: something \
             was loaded before this program's own `setsockopt`; see LD_PRELOAD"
        );
    }
    for &core in &profile.runtime.workers {
        if let (Some(port_node), Some(core_node)) = (info.socket, numa_node_of(core))
            && port_node != core_node
        {
            warn!(
                "port {name} is on NUMA node {port_node}, and the worker on core {core} is on \
                 node {core_node}, so each packet crosses between them; choose cores of node \
                 {port_node} for `runtime.workers` (see `lscpu`)"
            );
        }
    }
}

/// The NUMA node of a core, on a machine that has several.
fn numa_node_of(core: u32) -> Option<u32> {
    let folder = fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    let names = folder.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.strip_prefix("node")?.parse().ok())
        .next()
}

/// A station address as people write it.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The names of the offloads that are on.
pub(super) fn offload_names(offloads: Offloads) -> Vec<&'static str> {
    [
        (offloads.rx_ipv4_checksum, "rx-ipv4-checksum"),
        (offloads.rx_tcp_checksum, "rx-tcp-checksum"),
        (offloads.rx_udp_checksum, "rx-udp-checksum"),
    ]
    .into_iter()
    .filter_map(|(is_on, name)| is_on.then_some(name))
    .collect()
}

impl Hardware {
    /// What the hop must know of each device.
    pub(super) fn facts(&self, profile: &Profile, layout: &Layout) -> Vec<DeviceFacts> {
        let facts = |(port, &index): (&DevicePort, &usize)| port.facts(device(profile, index));
        self.ports.iter().zip(&layout.devices).map(facts).collect()
    }

    /// Deals the queues out: receive queue q to worker q modulo the workers, transmit queue q to
    /// worker q. A worker that a port has no transmit queue for sends through another one.
    pub(super) fn deal(&mut self, workers: usize) -> Vec<WorkerQueues> {
        (0..workers)
            .map(|worker| self.deal_to(worker, workers))
            .collect()
    }

    fn deal_to(&mut self, worker: usize, workers: usize) -> WorkerQueues {
        let mut queues = ArrayVec::new();
        let mut receives = ArrayVec::new();
        let mut ways = Vec::new();
        for (place, port) in self.ports.iter_mut().enumerate() {
            let dealt = port.deal_to(worker, workers);
            if !dealt.receive.is_empty() {
                receives.push(PortId(place as u8));
            }
            ways.push(match &dealt.transmit {
                Some(_) => TransmitWay::Queue,
                None => {
                    let owner = worker % usize::from(port.info().tx_queues);
                    TransmitWay::Through(WorkerId(owner as u8))
                }
            });
            queues.push(dealt);
        }
        WorkerQueues {
            io: DpdkIo::new(queues, self.pool.clone()),
            receives,
            ways,
        }
    }

    /// Takes a port up again on the interface that is there now: with as many queues as before, for
    /// workers know them.
    pub(super) fn take_up(
        &mut self,
        profile: &Profile,
        index: usize,
        place: usize,
        now: Interface,
    ) -> Result<(), Failure> {
        let name = &profile.ports[index].name;
        let interface = device(profile, index)
            .kernel_interface()
            .unwrap_or_default();
        let claim = Claim::on_interface(name, interface, now.index)?;
        let queues = self.ports[place].info().rx_queues;
        let (eal, pool) = (&self.eal, &self.pool);
        let fresh = start_port(profile, index, queues, self.rss_word, eal, pool)?;
        let is_like = |of: &PortInfo| (of.rx_queues, of.tx_queues);
        if is_like(fresh.info()) != is_like(self.ports[place].info()) {
            return Err(Failure::new(
                format!("port {name}: the interface has other queues than it had"),
                "restart the daemon",
            ));
        }
        self.ports[place].renew(fresh, now, claim);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(arguments: &str, queues: Option<u16>) -> Device {
        Device {
            arguments: arguments.into(),
            queues,
            promiscuous: true,
            checksum_offload: ChecksumOffload::Auto,
        }
    }

    #[test]
    fn queues_are_those_written_else_one_a_worker() {
        assert_eq!(device("0000:3b:00.0", None).wanted_queues(4), 4);
        assert_eq!(device("0000:3b:00.0", Some(2)).wanted_queues(4), 2);
        let given = "net_af_packet0,iface=out0,qpairs=3";
        assert_eq!(device(given, None).wanted_queues(1), 3);
        assert_eq!(device_arguments(&device(given, Some(3))), given);
        assert_eq!(
            device_arguments(&device("net_af_packet0,iface=out0", Some(2))),
            "net_af_packet0,iface=out0,qpairs=2"
        );
        assert_eq!(device_arguments(&device("net_tap0", Some(2))), "net_tap0");
    }

    // CASES 28: port gone.
    #[test]
    fn an_interface_that_is_not_there_is_told_with_its_cure() {
        let gone = device("eth_af_packet0,iface=nosuch0", None);
        assert!(interface_exists("outside", &gone).is_err());
        let gone = device("net_af_packet0,iface=nosuch0", None);
        let failure = interface_exists("outside", &gone).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "port outside: there is no network interface nosuch0 in this network name space; \
             create it, or correct `ports.outside.device`"
        );
        assert_eq!(
            interface_exists("outside", &device("net_af_packet0,iface=lo", None)),
            Ok(())
        );
        assert_eq!(
            interface_exists("outside", &device("net_tap0,iface=tap7", None)),
            Ok(())
        );
    }

    #[test]
    fn a_mac_is_written_by_twos() {
        assert_eq!(mac_text([0, 1, 0xab, 3, 4, 0xff]), "00:01:ab:03:04:ff");
    }
}
