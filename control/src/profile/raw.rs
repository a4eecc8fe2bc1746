//! A profile as it is written: what `serde` reads and what the JSON Schema is made from.
//!
//! The comments on the fields are what an editor shows; the defaults here are the only ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw_replication::{RawReplication, RawShare};
use super::raw_words::{Named, OneOrMany, TextOrOff, Truth, Word, words};
use super::schema;

/// A Tidegate profile: what one appliance is and does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(title = "Tidegate profile")]
#[schemars(rename = "Profile")]
pub(super) struct RawProfile {
    /// The appliance itself.
    #[serde(default)]
    pub(super) appliance: RawAppliance,
    /// How the process runs: cores, memory, sockets, logs.
    #[serde(default)]
    pub(super) runtime: RawRuntime,
    /// The ports, by name.
    pub(super) ports: Named<RawPort>,
    /// Static routes; the longest prefix that contains the destination decides.
    #[serde(default)]
    pub(super) routes: Vec<RawRoute>,
    /// The guard, which lets no connection reach a server before its client has proved to exist.
    pub(super) guard: Option<RawGuard>,
    /// The other guards, and how sessions are shared with them.
    pub(super) replication: Option<RawReplication>,
    /// Ordered rules, of which the first that matches decides; the default stands at the end.
    #[serde(default)]
    pub(super) rules: Vec<RawRule>,
}

/// The appliance itself.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Appliance")]
pub(super) struct RawAppliance {
    /// Its name: letters, digits, `-` and `_`.
    #[schemars(regex(pattern = super::NAME_PATTERN))]
    pub(super) name: String,
}

impl Default for RawAppliance {
    fn default() -> Self {
        Self {
            name: "tidegate".into(),
        }
    }
}

/// How the process runs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Runtime")]
pub(super) struct RawRuntime {
    /// The cores of the workers, one worker each (`[2, 3]`, `["2-5"]`), or `auto`: the isolated
    /// cores if there are any, else every core but the control core.
    #[schemars(schema_with = "schema::workers")]
    pub(super) workers: OneOrMany<Word>,
    /// The core of everything that is not a worker; the lowest that no worker has, if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control_core: Option<u32>,
    /// Whether an idle worker backs off (`adaptive`) or polls on (`busy`).
    pub(super) poll: RawPoll,
    /// Whether packet memory is taken from huge pages.
    pub(super) huge_pages: RawHugePages,
    /// Packet memory in MiB; computed from ports and queues if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    pub(super) memory_mib: Option<u32>,
    /// EAL's `--file-prefix`; made from the appliance's name if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = super::NAME_PATTERN))]
    pub(super) file_prefix: Option<String>,
    /// The daemon's UNIX socket; `/run/tidegate/NAME.sock` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control_socket: Option<String>,
    /// Where Prometheus metrics are served (`127.0.0.1:9464`), or `off`.
    #[schemars(schema_with = "schema::metrics")]
    pub(super) metrics: TextOrOff,
    /// How the log is written.
    pub(super) log: RawLog,
    /// How many sessions the appliance can hold, over all workers.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub(super) sessions: u32,
    /// Whether the kernel may write an image of the process, keys included, when it crashes.
    pub(super) core_dumps: RawCoreDumps,
}

impl Default for RawRuntime {
    fn default() -> Self {
        Self {
            workers: OneOrMany(vec![Word("auto".into())]),
            control_core: None,
            poll: RawPoll::Adaptive,
            huge_pages: RawHugePages::Auto,
            memory_mib: None,
            file_prefix: None,
            control_socket: None,
            metrics: TextOrOff("off".into()),
            log: RawLog::default(),
            sessions: 262_144,
            core_dumps: RawCoreDumps::Off,
        }
    }
}

words! {
    RawCoreDumps as "CoreDumps" {
        /// Never.
        Off = "off",
        /// As the machine is set up.
        On = "on",
    }
}

words! {
    RawPoll as "Poll" {
        /// Backs off after a while, so that other processes get the core.
        Adaptive = "adaptive",
        /// Polls on, always.
        Busy = "busy",
    }
}

words! {
    RawHugePages as "HugePages" {
        /// When the machine has enough free ones.
        Auto = "auto",
        /// Always; without them the process does not start.
        On = "on",
        /// Never.
        Off = "off",
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Log")]
pub(super) struct RawLog {
    /// The form of a line.
    pub(super) format: RawLogFormat,
    /// The least severe line that is written.
    pub(super) level: RawLogLevel,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            format: RawLogFormat::Human,
            level: RawLogLevel::Info,
        }
    }
}

words! {
    RawLogFormat as "LogFormat" {
        /// For a person.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    RawLogLevel as "LogLevel" {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

/// A port: a device of its own, or one VLAN of another port's device.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Port")]
pub(super) struct RawPort {
    /// Any DPDK device: a PCI address (`0000:3b:00.0`) or virtual-device arguments
    /// (`net_af_packet0,iface=eth1`).
    pub(super) device: Option<String>,
    /// The port whose device carries this VLAN, in place of a device of its own.
    pub(super) parent: Option<String>,
    /// The 802.1Q identifier that this port's frames carry.
    #[schemars(range(min = 1, max = 4094))]
    pub(super) vlan: Option<u32>,
    /// The appliance's addresses on this port, with their prefix lengths: `192.0.2.1/24`.
    #[serde(default)]
    #[schemars(schema_with = "schema::interface_addresses")]
    pub(super) address: OneOrMany<String>,
    /// The largest IP packet, in bytes; 1500 if not set, or the parent's.
    #[schemars(range(min = 576, max = 9600))]
    pub(super) mtu: Option<u32>,
    /// Receive and transmit queues: a number, or `auto` for one each worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::queues")]
    pub(super) queues: Option<Word>,
    /// Whether frames for other stations are received too; false if not set.
    pub(super) promiscuous: Option<Truth>,
    /// Who verifies checksums of what comes in: the device where it can (`auto`), or the worker (`off`).
    pub(super) checksum_offload: Option<RawChecksumOffload>,
}

words! {
    RawChecksumOffload as "ChecksumOffload" {
        /// The device, where it can.
        Auto = "auto",
        /// The worker, always.
        Off = "off",
    }
}

/// A static route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Route")]
pub(super) struct RawRoute {
    /// The destinations: a prefix (`0.0.0.0/0`) or `default` (of the next hop's family).
    #[schemars(schema_with = "schema::route_destination")]
    pub(super) to: String,
    /// The next hop's address.
    #[schemars(schema_with = "schema::address")]
    pub(super) via: String,
    /// The port that the next hop is on; needed only for a link-local next hop.
    pub(super) port: Option<String>,
}

/// The guard.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Guard")]
pub(super) struct RawGuard {
    /// The port that faces the clients.
    pub(super) outside: String,
    /// The port that faces the servers.
    pub(super) inside: String,
    /// When it guards.
    #[serde(default = "always")]
    pub(super) mode: RawGuardMode,
    /// The servers that are protected.
    #[serde(default)]
    pub(super) protect: Vec<RawProtected>,
    /// The file of the cookie keys, from the profile's folder; `tidegate keygen` makes it.
    #[serde(default = "keys")]
    pub(super) keys: String,
    /// When mode `on-flood` begins and ends.
    #[serde(default)]
    pub(super) on_flood: RawOnFlood,
    /// How long a session may stay in each of its states.
    #[serde(default)]
    pub(super) timers: RawGuardTimers,
    /// What one source may take.
    #[serde(default)]
    pub(super) limits: RawGuardLimits,
    /// What happens to a TCP packet for a protected server that belongs to no session.
    #[serde(default = "drop_unknown")]
    pub(super) unknown: RawUnknown,
    /// What happens where the machine's kernel would carry packets past the guard.
    #[serde(default = "refuse_forwarding")]
    pub(super) kernel_forwarding: RawKernelForwarding,
    /// Makes the two ports a transparent wire: they have no address, and all else passes.
    pub(super) wire: Option<RawWire>,
}

/// The transparent wire between the outside and the inside port.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Wire")]
pub(super) struct RawWire {
    /// Whether a SYN goes to its server in an echo request, whose reply is answered.
    pub(super) echo: RawEcho,
}

impl Default for RawWire {
    fn default() -> Self {
        Self {
            echo: RawEcho::Auto,
        }
    }
}

words! {
    RawEcho as "Echo" {
        /// As long as the server answers pings.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never: the guard answers at once.
        Off = "off",
    }
}

fn always() -> RawGuardMode {
    RawGuardMode::Always
}

fn keys() -> String {
    "keys/cookie.key".into()
}

fn drop_unknown() -> RawUnknown {
    RawUnknown::Drop
}

fn refuse_forwarding() -> RawKernelForwarding {
    RawKernelForwarding::Refuse
}

words! {
    RawKernelForwarding as "KernelForwarding" {
        /// The daemon does not start.
        Refuse = "refuse",
        /// The log warns.
        Warn = "warn",
    }
}

words! {
    RawGuardMode as "GuardMode" {
        /// Always.
        Always = "always",
        /// While the rate of SYNs is that of a flood.
        OnFlood = "on-flood",
        /// Never, but what it would do is counted.
        Monitor = "monitor",
        /// Never.
        Off = "off",
    }
}

words! {
    RawUnknown as "Unknown" {
        /// It is dropped.
        Drop = "drop",
        /// It is answered with a RST.
        Reset = "reset",
    }
}

/// A protected server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Protected")]
pub(super) struct RawProtected {
    /// Its address, which is reached through the inside port.
    #[schemars(schema_with = "schema::address")]
    pub(super) server: String,
    /// Its protected TCP ports: numbers and ranges (`"8000-8099"`).
    #[schemars(schema_with = "schema::port_ranges")]
    pub(super) ports: OneOrMany<Word>,
    /// The server's maximum segment size in bytes, in place of what is learned.
    #[schemars(range(min = 88, max = 9560))]
    pub(super) mss: Option<u32>,
    /// The server's window scale shift, or `off` if it does not scale, in place of what is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window_scale")]
    pub(super) window_scale: Option<Word>,
    /// Whether the server uses timestamps, in place of what is learned.
    pub(super) timestamps: Option<Truth>,
    /// Whether the server permits selective acknowledgement, in place of what is learned.
    pub(super) sack: Option<Truth>,
    /// Whether the server takes explicit congestion notification, in place of what is learned.
    pub(super) ecn: Option<Truth>,
}

/// When mode `on-flood` begins and ends.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "OnFlood")]
pub(super) struct RawOnFlood {
    /// Guarding begins above this rate of SYNs to protected servers.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) enter_syns_per_second: u32,
    /// Guarding ends below this rate, which is less than the one above.
    #[schemars(range(min = 0, max = 999_999_999))]
    pub(super) leave_syns_per_second: u32,
    /// For how long, in seconds, the rate stays below before guarding ends.
    #[schemars(range(min = 1, max = 3600))]
    pub(super) hold_s: u32,
}

impl Default for RawOnFlood {
    fn default() -> Self {
        Self {
            enter_syns_per_second: 1000,
            leave_syns_per_second: 250,
            hold_s: 10,
        }
    }
}

/// How long a session may stay in each of its states.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "GuardTimers")]
pub(super) struct RawGuardTimers {
    /// From the proof of the client to the server's SYN-ACK, in seconds.
    #[schemars(range(min = 1, max = 120))]
    pub(super) half_open_s: u32,
    /// From the first SYN to a server to its repetition, in milliseconds; doubled each time.
    #[schemars(range(min = 50, max = 10_000))]
    pub(super) server_syn_retry_ms: u32,
    /// How often the SYN to a server is sent again within that time.
    #[schemars(range(min = 0, max = 10))]
    pub(super) server_syn_retries: u32,
    /// An open session with no packet, in seconds.
    #[schemars(range(min = 10, max = 604_800))]
    pub(super) established_idle_s: u32,
    /// From the first FIN to the last acknowledgement, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub(super) closing_s: u32,
    /// How long an ended session is remembered, in seconds: at least as long as a cookie is good.
    #[schemars(range(min = 64, max = 3600))]
    pub(super) linger_s: u32,
    /// How long live sessions are served after SIGTERM, in seconds.
    #[schemars(range(min = 0, max = 86_400))]
    pub(super) drain_s: u32,
}

impl Default for RawGuardTimers {
    fn default() -> Self {
        Self {
            half_open_s: 15,
            server_syn_retry_ms: 500,
            server_syn_retries: 3,
            // RFC 5382 §5: not less than 2 hours and 4 minutes.
            established_idle_s: 7440,
            // RFC 5382 §5: not less than 4 minutes.
            closing_s: 240,
            linger_s: 64,
            drain_s: 30,
        }
    }
}

/// What one source may take.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "GuardLimits")]
pub(super) struct RawGuardLimits {
    /// Server sides that may be opening for one source at a time, over all workers; an IPv6 source
    /// is its /64.
    #[schemars(range(min = 1, max = 65_535))]
    pub(super) half_open_per_source: u32,
}

impl Default for RawGuardLimits {
    fn default() -> Self {
        Self {
            half_open_per_source: 256,
        }
    }
}

/// A rule (`when` and `then`), or the default at the end.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(transform = schema::rule_is_one_of_two)]
#[schemars(rename = "Rule")]
pub(super) struct RawRule {
    /// What the rule matches.
    pub(super) when: Option<RawCondition>,
    /// What happens to it.
    pub(super) then: Option<RawAction>,
    /// With `then: guard`: when its sessions are shared with the other guards, in place of what
    /// `replication` says.
    pub(super) share: Option<RawShare>,
    /// What happens to a packet that no rule matches.
    pub(super) default: Option<RawAction>,
}

words! {
    RawAction as "Action" {
        /// Dropped with no answer.
        Deny = "deny",
        /// Dropped, and the sender is told.
        Reject = "reject",
        /// Routed as it is.
        Forward = "forward",
        /// Given to the guard; what the guard does not protect is forwarded.
        Guard = "guard",
    }
}

/// What a rule matches: a tree of `all`, `any` and `not` over a packet's fields. Several keys in
/// one map must all match; a list of values matches if one of them does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(extend("minProperties" = 1))]
#[schemars(rename = "Condition")]
pub(super) struct RawCondition {
    /// Every one of these matches.
    pub(super) all: Option<Vec<RawCondition>>,
    /// At least one of these matches.
    pub(super) any: Option<Vec<RawCondition>>,
    /// This does not match.
    pub(super) not: Option<Box<RawCondition>>,
    /// The source address: a prefix, or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prefixes")]
    pub(super) source: Option<OneOrMany<String>>,
    /// The destination address: a prefix, or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prefixes")]
    pub(super) destination: Option<OneOrMany<String>>,
    /// The TCP or UDP source port: a number, a range (`"1024-65535"`), or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port_ranges")]
    pub(super) source_port: Option<OneOrMany<Word>>,
    /// The TCP or UDP destination port: a number, a range (`"8000-8099"`), or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port_ranges")]
    pub(super) destination_port: Option<OneOrMany<Word>>,
    /// The protocol: `tcp`, `udp`, `icmp`, `icmpv6`, a number, or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::protocols")]
    pub(super) protocol: Option<OneOrMany<Word>>,
    /// The name of the port it came in on, or a list.
    pub(super) port: Option<OneOrMany<String>>,
    /// The frame's 802.1Q identifier, or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::vlans")]
    pub(super) vlan: Option<OneOrMany<u32>>,
    /// Whether the packet is a fragment.
    pub(super) fragment: Option<Truth>,
    /// TCP flags that are set, or with `!` before them are not: `[syn, "!ack"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tcp_flags")]
    pub(super) tcp_flags: Option<OneOrMany<String>>,
}
