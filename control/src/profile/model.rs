//! What a profile means, once everything in it has been checked.
//!
//! Names are resolved (a port is its index in [`Profile::ports`]), paths are
//! absolute or relative to the process, and every number is within its range.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use dataplane::limits::MAX_QUEUES_PER_WORKER;
use serde::{Serialize, Serializer};

use super::address::{InterfaceAddress, Prefix};
use super::model_replication::{Replication, Share};

/// A whole, checked profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The appliance's name: letters, digits, `-` and `_`, at most 63 of them.
    pub name: String,
    /// How the process runs.
    pub runtime: Runtime,
    /// The ports, in the order of the profile; at least one, names unique.
    pub ports: Vec<Port>,
    /// Static routes, in the order of the profile; destinations unique.
    pub routes: Vec<Route>,
    /// The guard, if the profile has one.
    pub guard: Option<Guard>,
    /// The other guards, if there are any; never without a guard.
    pub replication: Option<Replication>,
    /// Ordered rules; the first that matches decides.
    pub rules: Vec<Rule>,
    /// What happens to a packet that no rule matches.
    pub default_action: Action,
}

impl Profile {
    /// The index of the port of this name.
    #[must_use]
    pub fn port_index(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }
}

/// How the process runs: cores, memory, sockets, logs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Runtime {
    /// The cores of the workers, one worker each; never empty, no core twice.
    pub workers: Vec<u32>,
    /// Whether `workers: auto` chose them.
    pub workers_are_automatic: bool,
    /// The core of the control thread and of all that is slow; not a worker's, unless the
    /// machine has no other.
    pub control_core: u32,
    /// Whether an idle worker keeps polling or backs off.
    pub poll: Poll,
    /// Whether packet memory is taken from huge pages.
    pub huge_pages: HugePages,
    /// Packet memory in MiB; `None` leaves it to the number of ports, queues and sessions.
    pub memory_mib: Option<u32>,
    /// EAL's `--file-prefix`; unique for each process on the machine.
    pub file_prefix: String,
    /// The UNIX socket on which the daemon answers.
    pub control_socket: PathBuf,
    /// Where Prometheus metrics are served over HTTP; `None` when off.
    pub metrics: Option<SocketAddr>,
    /// How the log is written.
    pub log: Log,
    /// How many sessions the appliance can hold, over all workers.
    pub sessions: u32,
    /// Whether the kernel may write an image of the process, keys included, when it crashes.
    pub core_dumps: bool,
}

/// What a worker does when a poll finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Poll {
    /// Back off after a while, so that other processes get the core.
    Adaptive,
    /// Poll at once again, always.
    Busy,
}

/// Whether packet memory is taken from huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HugePages {
    /// When the machine has enough free ones.
    Auto,
    /// Always; without them the process does not start.
    On,
    /// Never.
    Off,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe line that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For a person.
    Human,
    /// One JSON object a line.
    Json,
}

/// How severe a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is wrong, and work goes on.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What explains a decision.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name as `tracing` reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A port: a device, or one VLAN of another port's device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Port {
    /// The port's name.
    pub name: String,
    /// What stands behind it.
    pub link: Link,
    /// The 802.1Q identifier that its frames carry; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// The appliance's addresses on it, in the order of the profile.
    pub addresses: Vec<InterfaceAddress>,
    /// The largest IP packet, in bytes, that is sent on it.
    pub mtu_bytes: u16,
}

/// What stands behind a port.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// A DPDK device of its own.
    Device(Device),
    /// The device of the port with this index, which is a [`Link::Device`]; this port's
    /// `vlan` is then always set.
    Parent(usize),
}

/// The drivers of packet sockets on the kernel's interfaces: one, under two names.
const PACKET_SOCKETS: [&str; 2] = ["net_af_packet", "eth_af_packet"];
/// Those of AF_XDP sockets.
const XDP_SOCKETS: [&str; 1] = ["net_af_xdp"];

fn has_driver(device: &str, names: &[&str]) -> bool {
    names.iter().any(|name| device.starts_with(name))
}

/// Whether a device's text names a driver that is no more than a socket on a kernel interface.
#[must_use]
pub fn is_kernel_socket(device: &str) -> bool {
    has_driver(device, &PACKET_SOCKETS) || has_driver(device, &XDP_SOCKETS)
}

/// A DPDK device and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// A PCI address (`0000:3b:00.0`) or virtual-device arguments (`net_tap0,iface=tg0`).
    pub arguments: String,
    /// Receive and transmit queues; `None` for one each worker, or as many as the device has.
    pub queues: Option<u16>,
    /// Whether frames for other stations are received too.
    pub promiscuous: bool,
    /// Who verifies checksums of what comes in.
    pub checksum_offload: ChecksumOffload,
}

impl Device {
    /// Whether the device is named by a PCI address.
    #[must_use]
    pub fn is_pci(&self) -> bool {
        is_pci_address(&self.arguments)
    }

    /// The value of a virtual device's argument: `argument("iface")` of
    /// `net_af_packet0,iface=out0` is `out0`.
    #[must_use]
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .split(',')
            .skip(1)
            .filter_map(|argument| argument.split_once('='))
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Whether it is a packet socket on an interface of the kernel's.
    #[must_use]
    pub fn is_packet_socket(&self) -> bool {
        has_driver(&self.arguments, &PACKET_SOCKETS)
    }

    /// Whether it is an AF_XDP socket on an interface of the kernel's.
    #[must_use]
    pub fn is_xdp_socket(&self) -> bool {
        has_driver(&self.arguments, &XDP_SOCKETS)
    }

    /// The kernel's interface behind a device that is no more than a socket on one.
    #[must_use]
    pub fn kernel_interface(&self) -> Option<&str> {
        let is_socket = is_kernel_socket(&self.arguments);
        self.argument("iface").filter(|_| is_socket)
    }

    /// How many queues to ask of it. Each queue that an AF_PACKET device was given takes its share
    /// of the frames, so all of them must be polled.
    #[must_use]
    pub fn wanted_queues(&self, workers: usize) -> u16 {
        let given = self.number("qpairs");
        let most = workers * MAX_QUEUES_PER_WORKER;
        let wanted = self.queues.or(given).unwrap_or(workers as u16);
        wanted.clamp(1, most.min(u16::MAX.into()) as u16)
    }

    /// The receive queues of the kernel's interface that an AF_XDP socket takes.
    #[must_use]
    pub fn xdp_queues(&self, workers: usize) -> std::ops::Range<u16> {
        let first = self.number("start_queue").unwrap_or(0);
        let most = self.number("queue_count").unwrap_or(1);
        first..first.saturating_add(most.min(self.wanted_queues(workers)))
    }

    fn number(&self, key: &str) -> Option<u16> {
        self.argument(key).and_then(|number| number.parse().ok())
    }
}

/// Whether a device's text is a PCI address, with or without its domain and arguments.
#[must_use]
pub fn is_pci_address(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    let Some((bus, rest)) = address.rsplit_once(':') else {
        return false;
    };
    let Some((slot, function)) = rest.split_once('.') else {
        return false;
    };
    let hexadecimal = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let bus_is_right = match bus.split_once(':') {
        Some((domain, bus)) => hexadecimal(domain, 4) && hexadecimal(bus, 2),
        None => hexadecimal(bus, 2),
    };
    bus_is_right && hexadecimal(slot, 2) && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// Who verifies checksums of what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumOffload {
    /// The device, where it can.
    Auto,
    /// The worker, always.
    Off,
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destinations it serves.
    pub to: Prefix,
    /// The next hop: an address on the port's net, never the appliance's own.
    pub via: IpAddr,
    /// The index of the port that the next hop is on.
    pub port: usize,
}

/// The guard: which connections it proves before a server sees them, and how.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guard {
    /// The index of the port that faces the clients.
    pub outside: usize,
    /// The index of the port that faces the servers.
    pub inside: usize,
    /// When it guards.
    pub mode: GuardMode,
    /// What it protects; no server twice.
    pub protect: Vec<Protected>,
    /// The file of the cookie keys.
    pub keys: PathBuf,
    /// When `on-flood` begins and ends.
    pub on_flood: OnFlood,
    /// How long a session may stay in each of its states.
    pub timers: GuardTimers,
    /// What one source may take.
    pub limits: GuardLimits,
    /// What happens to a TCP packet for a protected server that belongs to no session and
    /// is no SYN.
    pub unknown: Unknown,
    /// What happens where the kernel would carry packets past the guard.
    pub kernel_forwarding: KernelForwarding,
    /// How SYNs reach their servers when the two ports are a transparent wire: whole devices
    /// without addresses and routes.
    pub wire: Option<Echo>,
}

/// What happens where the machine's kernel would carry packets past the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelForwarding {
    /// The daemon does not start.
    Refuse,
    /// The log warns.
    Warn,
}

/// Whether a SYN goes to its server in an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Echo {
    /// As long as the server answers pings.
    Auto,
    /// Always.
    Always,
    /// Never: the guard answers at once.
    Off,
}

/// When the guard guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardMode {
    /// Always.
    Always,
    /// While the rate of SYNs is that of a flood.
    OnFlood,
    /// Never, but what it would do is counted.
    Monitor,
    /// Never.
    Off,
}

/// A protected server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protected {
    /// Its address, reached through the inside port.
    pub server: IpAddr,
    /// Its protected TCP ports: ascending ranges that do not touch.
    pub ports: Vec<PortRange>,
    /// What is set by hand in place of what is learned from the server's SYN-ACKs.
    pub overrides: ServerOverrides,
}

/// What is set by hand in place of what is learned from a server's SYN-ACKs; `None` is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerOverrides {
    /// Maximum segment size, in bytes.
    pub mss_bytes: Option<u16>,
    /// Window scale shift, 0 to 14; `Some(None)` for a server that does not scale.
    pub window_scale: Option<Option<u8>>,
    /// Whether the server uses timestamps.
    pub timestamps: Option<bool>,
    /// Whether the server permits selective acknowledgement.
    pub sack: Option<bool>,
    /// Whether the server takes explicit congestion notification.
    pub ecn: Option<bool>,
}

/// When mode `on-flood` begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OnFlood {
    /// Guarding begins above this measured rate of SYNs to protected servers.
    pub enter_syns_per_second: u32,
    /// Guarding ends below this rate, which is less than the one above.
    pub leave_syns_per_second: u32,
    /// For how long, in seconds, the rate stays below before guarding ends.
    pub hold_s: u32,
}

/// How long a session may stay in each of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuardTimers {
    /// From the proof of the client to the server's SYN-ACK, in seconds.
    pub half_open_s: u32,
    /// From the first SYN to a server to its repetition, in milliseconds; doubled each time.
    pub server_syn_retry_ms: u32,
    /// How often the SYN to a server is sent again within that time.
    pub server_syn_retries: u8,
    /// An open session with no packet, in seconds.
    pub established_idle_s: u32,
    /// From the first FIN to the last acknowledgement, in seconds.
    pub closing_s: u32,
    /// How long an ended session is remembered, in seconds: at least as long as a cookie is good.
    pub linger_s: u32,
    /// How long live sessions are served after SIGTERM, in seconds.
    pub drain_s: u32,
}

/// What one source may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuardLimits {
    /// Server sides that may be opening for one source at a time, over all workers; an IPv6 source
    /// is its /64.
    pub half_open_per_source: u32,
}

/// What happens to a TCP packet of no known session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It is dropped.
    Drop,
    /// It is answered with a RST.
    Reset,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// What it matches.
    pub when: Condition,
    /// What happens to what it matches.
    pub then: Action,
    /// When its sessions are shared, in place of [`Replication::share`]; only with
    /// [`Action::Guard`] and where there are other guards.
    pub share: Option<Share>,
    /// The line of the profile it stands on, for `show`.
    pub line: u32,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Dropped with no answer.
    Deny,
    /// Dropped, and the sender is told: RST for TCP, ICMP prohibited for the rest.
    Reject,
    /// Routed as it is.
    Forward,
    /// Given to the guard; what the guard does not protect is forwarded.
    Guard,
}

/// A tree of AND and OR over a packet's fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every one of these; never empty.
    All(Vec<Condition>),
    /// At least one of these; never empty.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// The source address lies in one of these.
    Source(Vec<Prefix>),
    /// The destination address lies in one of these.
    Destination(Vec<Prefix>),
    /// TCP or UDP, and the source port lies in one of these ascending ranges.
    SourcePort(Vec<PortRange>),
    /// TCP or UDP, and the destination port lies in one of these ascending ranges.
    DestinationPort(Vec<PortRange>),
    /// The protocol (IPv4) or the last next header (IPv6) is one of these numbers.
    Protocol(Vec<u8>),
    /// The packet came in on one of the ports with these indices.
    Port(Vec<usize>),
    /// The frame carries one of these 802.1Q identifiers.
    Vlan(Vec<u16>),
    /// Whether the packet is a fragment, the first one included.
    Fragment(bool),
    /// TCP, and the flags are so.
    TcpFlags(TcpFlags),
}

/// Bits of the TCP header's flags: `fin` 0x01, `syn` 0x02, `rst` 0x04, `psh` 0x08, `ack` 0x10,
/// `urg` 0x20, `ece` 0x40, `cwr` 0x80.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpFlags {
    /// The bits that must be set.
    pub set: u8,
    /// The bits that must be clear.
    pub clear: u8,
}

/// An inclusive range of TCP or UDP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, never less than the first.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` lies in the range.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
