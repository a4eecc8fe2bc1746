//! The devices of a tester: EAL and packet memory, and two ports that are looked at before anything
//! is sent.

use std::time::{Duration, Instant};

use bindings::mempool::MempoolConfig;
use bindings::port::{Offloads, Rss};
use bindings::system::Affinity;
use bindings::{Eal, EalConfig, Interface, LogLevel, Mempool, Port, PortConfig};
use dataplane::parse::ETHERNET_HEADER_BYTES;

use super::checks::{self, Device};
use super::stop::Stop;
use crate::wiring::Wiring;

/// Descriptors of each queue.
const DESCRIPTORS: u16 = 1024;
/// Buffers that each thread keeps to itself.
const CACHE: u32 = 256;
/// An ordinary frame's buffer.
const DATA_ROOM_BYTES: usize = 2048;
/// A buffer's header, its headroom, and what the pool adds.
const BUFFER_OVERHEAD_BYTES: usize = 128 + 128 + 64;
/// Without huge pages no buffer reaches from a page into the next.
const PAGE_BYTES: usize = 4096;
/// What EAL and drivers take besides.
const EAL_MIB: usize = 64;
/// Link-layer header, two tags and check sequence.
const FRAME_OVERHEAD_BYTES: usize = 26;
/// Drivers whose transmit queue is emptied by the other side of the link: full, it tells that the
/// other side does not fetch, and what finds it full is lost as on a cable.
const FETCHED_BY_PEER: [&str; 5] = [
    "net_memif",
    "net_ring",
    "net_vhost",
    "net_virtio_user",
    "eth_ring",
];

/// How often links are looked at that are to come up.
const POLL_LINKS: Duration = Duration::from_millis(20);

/// Why a tester cannot begin: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// What an engine is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Every device that will be opened and is on the PCI bus; others may be named too.
    pub devices: Vec<String>,
    /// The cores that send and receive; empty for one, the last that this process may use.
    pub cores: Vec<usize>,
    /// The largest frame, check sequence included, in octets.
    pub largest_frame: usize,
    /// How many pairs of devices are open at once.
    pub pairs: usize,
    /// Buffers beside those that devices and threads hold.
    pub extra_buffers: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            cores: Vec::new(),
            largest_frame: 1518,
            pairs: 1,
            extra_buffers: 0,
        }
    }
}

/// EAL and the packet memory: one for the life of a process.
pub struct Engine {
    pub(super) pool: Mempool,
    pub(super) cores: Vec<usize>,
    largest_frame: usize,
    huge_pages: bool,
    eal: Eal,
}

/// Two open ports.
pub(super) struct Pair {
    pub(super) ports: [Port; 2],
    devices: [Device; 2],
}

impl Engine {
    /// Looks at the devices, starts EAL and makes the pool.
    ///
    /// # Errors
    /// When a device is missing, in use or named twice, or there is no memory.
    pub fn start(settings: &EngineSettings) -> Result<Self, Refusal> {
        let devices: Vec<Device> = settings
            .devices
            .iter()
            .map(|text| Device::new(text))
            .collect();
        checks::before_start(&devices)?;
        let (cores, main_core) = cores(&settings.cores)?;
        let data_room = (settings.largest_frame + FRAME_OVERHEAD_BYTES)
            .next_multiple_of(64)
            .max(DATA_ROOM_BYTES);
        let queues = queues(&cores);
        let descriptors = settings.pairs.max(1) * 4 * queues * usize::from(DESCRIPTORS);
        let buffers =
            (descriptors + (cores.len() + 1) * 2 * CACHE as usize + 1024).next_power_of_two() - 1;
        let buffers = buffers + settings.extra_buffers;
        let huge_mib = (buffers * (data_room + BUFFER_OVERHEAD_BYTES)) / (1 << 20) + EAL_MIB;
        let huge_pages = checks::free_huge_mib() >= huge_mib;
        let in_page = (PAGE_BYTES / (data_room + BUFFER_OVERHEAD_BYTES)).max(1);
        let pages = (data_room + BUFFER_OVERHEAD_BYTES).div_ceil(PAGE_BYTES);
        let memory_mib = buffers / in_page * pages * PAGE_BYTES / (1 << 20) + EAL_MIB;
        let pci: Vec<String> = devices
            .iter()
            .filter(|device| device.is_pci())
            .map(|device| device.text.clone())
            .collect();
        let config = EalConfig {
            program: "tidegate-perf".into(),
            file_prefix: format!("tidegate-perf-{}", std::process::id()),
            huge_pages,
            memory_mib: if huge_pages { 0 } else { memory_mib as u32 },
            main_core,
            service_cores: vec![main_core],
            pci: !pci.is_empty(),
            pci_allow: pci,
            log_level: LogLevel::Error,
            ..EalConfig::default()
        };
        let eal = Eal::init(&config).map_err(|error| {
            Refusal::new(error.to_string(), "`tidegate doctor` says what DPDK lacks")
        })?;
        let pool = MempoolConfig {
            name: "tester".into(),
            count: buffers as u32,
            cache: CACHE,
            data_room_bytes: data_room as u16,
            socket: None,
        };
        let pool = Mempool::new(&eal, &pool)
            .map_err(|error| Refusal::new(error.to_string(), "free memory, or use fewer cores"))?;
        Ok(Self {
            pool,
            cores,
            largest_frame: settings.largest_frame,
            huge_pages,
            eal,
        })
    }

    /// The cores that send and receive.
    #[must_use]
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// Whether packets are in huge pages.
    #[must_use]
    pub fn has_huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// EAL, for those who open ports of their own.
    #[must_use]
    pub fn eal(&self) -> &Eal {
        &self.eal
    }

    /// The packet memory, likewise.
    #[must_use]
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Opens a port with this many queues each way, in promiscuous mode, started. Its device must
    /// have another name than every one that this process opened before.
    ///
    /// # Errors
    /// When DPDK refuses.
    pub fn open_port(&self, device: &str, queues: u16) -> Result<Port, Refusal> {
        let refused = |error: bindings::Error| {
            let (what, remedy) = checks::in_words(&Device::new(device), &error);
            Refusal::new(what, remedy)
        };
        let id = Port::attach(&self.eal, device).map_err(refused)?;
        let config = PortConfig {
            rx_queues: queues,
            tx_queues: queues,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu: (self.largest_frame.max(1518) - 18) as u16,
            rss: Some(Rss {
                tcp: true,
                udp: true,
                key_word: bindings::port::RSS_KEY_WORD,
            }),
            offloads: Offloads::default(),
            promiscuous: true,
        };
        let mut port = Port::configure(&self.eal, id, &config, &self.pool).map_err(refused)?;
        port.start().map_err(refused)?;
        Ok(port)
    }

    /// Opens both devices of a wiring and waits until both have a link.
    pub(super) fn open(
        &self,
        wiring: &Wiring,
        link_wait: Duration,
        stop: &Stop,
    ) -> Result<Pair, Refusal> {
        let devices = [&wiring.outside, &wiring.inside].map(|side| Device::new(&side.device));
        checks::before_start(&devices)?;
        for device in &devices {
            wait_for_socket(device, link_wait, stop)?;
        }
        let queues = queues(&self.cores) as u16;
        let open = |device: &Device| self.open_port(&device.text, queues);
        let ports = [open(&devices[0])?, open(&devices[1])?];
        let pair = Pair { ports, devices };
        pair.wait_for_links(link_wait, stop)?;
        Ok(pair)
    }
}

/// Waits for the other side of a memif, which makes the socket.
fn wait_for_socket(device: &Device, longest: Duration, stop: &Stop) -> Result<(), Refusal> {
    let Some(socket) = device.awaited_socket() else {
        return Ok(());
    };
    let began = Instant::now();
    while !socket.exists() {
        if stop.is_raised() || began.elapsed() > longest {
            return Err(device.has_no_link(began.elapsed()));
        }
        std::thread::sleep(POLL_LINKS);
    }
    Ok(())
}

/// Queue pairs of each device.
pub(crate) fn queues(cores: &[usize]) -> usize {
    (cores.len() / 2).max(1)
}

/// The cores to poll on, and one for everything else.
fn cores(wanted: &[usize]) -> Result<(Vec<usize>, usize), Refusal> {
    let refused = |error: bindings::Error| Refusal::new(error.to_string(), "see `lscpu`");
    let allowed = Affinity::current().map_err(refused)?.cores();
    let last = allowed.last().copied().unwrap_or(0);
    let cores = if wanted.is_empty() {
        vec![last]
    } else {
        wanted.to_vec()
    };
    if let Some(absent) = cores.iter().find(|core| !allowed.contains(core)) {
        return Err(Refusal::new(
            format!("core {absent} is not among those that this process may use: {allowed:?}"),
            "choose others by `--cores`",
        ));
    }
    if let Some((place, twice)) = cores
        .iter()
        .enumerate()
        .find(|(place, core)| cores[..*place].contains(core))
    {
        return Err(Refusal::new(
            format!("core {twice} is named again in place {}", place + 1),
            "name each core once in `--cores`",
        ));
    }
    let free = allowed.iter().find(|core| !cores.contains(core));
    Ok((cores, free.copied().unwrap_or(last)))
}

impl Pair {
    /// Whether a side has a link.
    pub(super) fn has_link(&self, side: usize) -> bool {
        if let Some(interface) = self.devices[side].kernel_interface() {
            return Interface::named(interface).is_ok_and(|now| now.is_running);
        }
        self.ports[side].link().is_ok_and(|link| link.up)
    }

    /// The device as the user named it.
    pub(super) fn name(&self, side: usize) -> &str {
        &self.devices[side].text
    }

    /// The largest packet behind an Ethernet header that the device sends and receives, in bytes.
    pub(super) fn mtu_bytes(&self, side: usize) -> usize {
        let device = &self.devices[side];
        let Some(interface) = device.kernel_interface() else {
            return self.ports[side].info().mtu.into();
        };
        let mtu = Interface::named(interface).map_or(usize::MAX, |now| now.mtu_bytes as usize);
        mtu.min(device.ring_frame_bytes() - ETHERNET_HEADER_BYTES)
    }

    /// Whether a full device loses frames as a cable to a busy box does.
    pub(super) fn refuses(&self, side: usize) -> bool {
        let driver = self.ports[side].info().driver.as_str();
        FETCHED_BY_PEER.contains(&driver)
    }

    /// The slower link's bits a second, where devices tell one.
    pub(super) fn line_bits_per_s(&self) -> Option<f64> {
        let speed = |port: &Port| port.link().ok()?.speed_mbps;
        let speeds = self.ports.iter().filter_map(speed);
        speeds.min().map(|mbps| f64::from(mbps) * 1e6)
    }

    fn wait_for_links(&self, longest: Duration, stop: &Stop) -> Result<(), Refusal> {
        let began = Instant::now();
        loop {
            let down: Vec<usize> = (0..2).filter(|side| !self.has_link(*side)).collect();
            let Some(first) = down.first() else {
                return Ok(());
            };
            if stop.is_raised() || began.elapsed() > longest {
                return Err(self.devices[*first].has_no_link(began.elapsed()));
            }
            std::thread::sleep(POLL_LINKS);
        }
    }
}
