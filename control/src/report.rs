//! What `tidegate show` is told, and in which words: the same for a person's table and for JSON.
//!
//! The names of the fields are promised to scripts: one may be added, none renamed.

mod runtime;

use serde::{Deserialize, Serialize};

pub use runtime::{Runtime, RuntimeRow, StageRow};

/// `show ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The profile's ports, in its order.
    pub ports: Vec<PortRow>,
}

/// A port of the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// Its name in the profile.
    pub name: String,
    /// The device's name in DPDK.
    pub device: String,
    /// The port of the profile that the device belongs to, where this one is a VLAN of it.
    pub parent: Option<String>,
    /// The 802.1Q identifier.
    pub vlan: Option<u16>,
    /// The driver.
    pub driver: String,
    /// Our station address.
    pub mac: String,
    /// Whether the link is up; `None` where the driver does not tell.
    pub link_up: Option<bool>,
    /// Whether the interface behind the port is gone and the port carries nothing.
    #[serde(default)]
    pub lost: bool,
    /// How often that was so.
    #[serde(default)]
    pub losses: u64,
    /// How often the link went up or down.
    #[serde(default)]
    pub link_changes: u64,
    /// Its speed, where the driver knows.
    pub link_mbps: Option<u32>,
    /// The largest IP packet, in octets.
    pub mtu: u16,
    /// Our addresses.
    pub addresses: Vec<String>,
    /// Receive queues of the device.
    pub receive_queues: u16,
    /// Transmit queues of the device.
    pub transmit_queues: u16,
    /// Whether the device spreads flows over its queues.
    pub rss: bool,
    /// Offloads in use.
    pub offloads: Vec<String>,
    /// The device's NUMA node.
    pub numa_node: Option<u32>,
    /// Frames that workers received on this interface.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
    /// Frames that workers sent.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_bytes: u64,
    /// The device's own counters; of a VLAN, those of the device that it is on.
    pub device_counters: DeviceCounters,
}

/// What a device counts itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounters {
    /// Frames received.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_bytes: u64,
    /// Frames that nobody fetched in time.
    pub missed: u64,
    /// Frames received with an error.
    pub receive_errors: u64,
    /// Frames that could not be sent.
    pub transmit_errors: u64,
    /// Frames lost because no buffer was free.
    pub no_buffer: u64,
}

/// `show workers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// The workers, in the profile's order.
    pub workers: Vec<WorkerRow>,
    /// Packet buffers in all.
    pub buffers: usize,
    /// Packet buffers in hands, queues and devices.
    pub buffers_in_use: usize,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its number.
    pub worker: usize,
    /// Its core.
    pub core: u32,
    /// Turns of its loop.
    pub loops: u64,
    /// Turns that found something to do.
    pub busy_loops: u64,
    /// Times that it slept.
    pub sleeps: u64,
    /// The share of time that it was busy since the last request, from 0 to 1.
    pub busy_share: f64,
    /// Packets given to the worker that owns their flow.
    pub handed_off: u64,
    /// Where every packet went.
    pub audit: Audit,
    /// All its events, by name.
    pub events: std::collections::BTreeMap<String, u64>,
}

/// Where every packet went. Over all workers, and while no packet is between two of them,
/// `received + created = sent + held + dropped + consumed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Frames taken from ports.
    pub received: u64,
    /// Frames made here.
    pub created: u64,
    /// Frames handed to ports.
    pub sent: u64,
    /// Packets that wait: for neighbours, servers, or the rest of their datagram.
    pub held: u64,
    /// Packets dropped, for whatever reason.
    pub dropped: u64,
    /// Frames for the appliance itself that were read and used up.
    pub consumed: u64,
}

impl Audit {
    /// How many packets are unaccounted for; negative where there are more than came.
    pub fn missing(&self) -> i128 {
        i128::from(self.received) + i128::from(self.created)
            - i128::from(self.sent)
            - i128::from(self.held)
            - i128::from(self.dropped)
            - i128::from(self.consumed)
    }
}

/// `show guard`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// `always`, `on-flood`, `monitor`, `off`; or `none` without a guard in the profile.
    pub mode: String,
    /// Whether SYNs are answered by cookie now, by any worker.
    pub active: bool,
    /// Whether any worker measures a flood.
    pub flood: bool,
    /// Whether no new session is opened, because the daemon is about to stop.
    pub draining: bool,
    /// SYNs for protected services a second.
    pub syns_per_second: u64,
    /// Sessions.
    pub sessions: SessionCounts,
    /// Cookies.
    pub cookies: CookieCounts,
    /// Client segments that wait for servers' answers.
    pub held: u64,
    /// The ways by which the machine's kernel carries packets past the guard now.
    #[serde(default)]
    pub bypasses: Vec<String>,
    /// The transparent wire, if the guard stands in one.
    pub wire: Option<WireCounts>,
    /// The protected servers.
    pub servers: Vec<ServerRow>,
    /// The protected services: those that were asked for, and the others of small ranges.
    #[serde(default)]
    pub services: Vec<ServiceRow>,
}

/// A protected service: a port of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Its server's address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// What becomes of its SYNs now: `guarded` (answered by cookie), `watched` (let through and
    /// followed), or `open`.
    pub state: String,
    /// Whether its server takes connections: `up`, `down`, or `unknown` as long as nobody has asked.
    pub health: String,
    /// SYNs for it since the start.
    pub syns: u64,
    /// SYNs for it a second, of late.
    pub syns_per_second: u64,
    /// Its sessions that are not ended, opening ones included.
    pub live: u64,
    /// Those of them whose server has not answered yet.
    pub opening: u64,
    /// SYN-ACKs of its server since the start.
    pub answered: u64,
    /// Connections that its server has refused or not answered since the start.
    pub failed: u64,
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Those that are not ended, opening ones included.
    pub live: u64,
    /// Those whose server has not answered yet.
    pub opening: u64,
    /// All in the tables, ended ones included.
    pub in_table: u64,
    /// How many fit.
    pub capacity: u64,
    /// The tables' memory, in octets.
    pub memory_bytes: u64,
    /// Sessions opened since the start.
    pub opened: u64,
}

/// How many cookies there were since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieCounts {
    /// SYN-ACKs with a cookie.
    pub sent: u64,
    /// Good cookies that came back.
    pub accepted: u64,
    /// Cookies that were not ours, or of another connection.
    pub invalid: u64,
    /// Cookies that were ours once.
    pub expired: u64,
    /// Cookies that had already opened their session.
    pub replayed: u64,
}

/// A protected server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Its address.
    pub address: String,
    /// Its protected ports, as ranges. Where they do different things, a row for each kind that has
    /// answered.
    pub ports: Vec<String>,
    /// Whether one of them has answered, so that the rest is known and not assumed.
    pub learned: bool,
    /// Its maximum segment size.
    pub mss: u16,
    /// Its window scale.
    pub window_scale: Option<u8>,
    /// Whether it takes selective acknowledgements.
    pub sack: bool,
    /// Whether it does timestamps.
    pub timestamps: bool,
    /// Whether it does explicit congestion notification.
    pub ecn: bool,
    /// On a transparent wire, what becomes of its pings: `answers`, `silent` or `off`.
    pub echo: Option<String>,
}

/// What a transparent wire has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCounts {
    /// The names of the outside and the inside port.
    pub ends: [String; 2],
    /// Frames that crossed as they came, outside any rule.
    pub bridged: u64,
    /// SYNs carried to their server in an echo request.
    pub carried: u64,
    /// Echoes that came back and were answered by a cookie.
    pub returned: u64,
    /// Echo replies with our mark that were refused, for whatever reason.
    pub refused: u64,
}

/// `show sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The sessions found, in no particular order.
    pub sessions: Vec<SessionRow>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The client's address.
    pub client: String,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server: String,
    /// The server's port.
    pub server_port: u16,
    /// Where in its life it is.
    pub state: String,
    /// Whether it is translated; else it is only followed.
    pub spliced: bool,
    /// What is added to the numbers that the client sees to get the server's own, modulo 2^32.
    pub sequence_delta: u32,
    /// For how long it has been silent, in milliseconds.
    pub idle_ms: u64,
    /// The worker that has it.
    pub worker: usize,
}

/// `show neighbours`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    /// What each worker knows, each neighbour once with what is known best.
    pub neighbours: Vec<NeighbourRow>,
}

/// A neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// The profile's port that it is on.
    pub port: String,
    /// Its address.
    pub address: String,
    /// Its station, where known.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale`, `probe` or `failed`.
    pub state: String,
}

/// `show drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// All packets dropped.
    pub total: u64,
    /// Every reason, those that never occurred included.
    pub drops: Vec<DropRow>,
}

/// A reason for drops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// Its name.
    pub reason: String,
    /// How many packets were dropped for it.
    pub count: u64,
    /// What it means.
    pub sentence: String,
    /// The count of each worker.
    pub workers: Vec<u64>,
}

/// `show peers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// This guard's number.
    pub own: u8,
    /// Whether this guard lacks nothing and every other one is in step with it, or has left.
    pub in_step: bool,
    /// How this guard stands: `in step`, `degraded`, `cut off`, `catching up`, `leaving`, or
    /// `stalled`.
    pub standing: String,
    /// Whether routers may send this guard packets of any connection now.
    pub may_carry: bool,
    /// What the standing means.
    pub meaning: String,
    /// The other guards, in the profile's order.
    pub peers: Vec<PeerRow>,
    /// Records sent in a second, of late.
    pub sent_per_second: f64,
    /// Packets of unknown flows that waited for another guard's word.
    pub holds: u64,
    /// Those of them whose flow another guard explained.
    pub holds_answered: u64,
    /// Those of them that were decided on without it.
    pub holds_in_vain: u64,
    /// Questions for a flow's director.
    pub director_queries: u64,
    /// Answers of directors that do not know the flow.
    pub director_unaware: u64,
    /// Segments translated here whose session another guard opened.
    pub never_met: u64,
    /// What is counted between guards.
    pub counters: Vec<PeerCounter>,
}

/// Another guard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its number.
    pub number: u8,
    /// Its address; none where all are reached as a group.
    pub address: Option<String>,
    /// `joining`, `resync`, `in step`, `lagging`, `dead` or `left`.
    pub state: String,
    /// For how long, in milliseconds.
    pub state_ms: u64,
    /// How long ago something came of it, in milliseconds; none before anything did.
    pub heard_ms: Option<u64>,
    /// The age of the oldest batch of ours that it has not applied, in microseconds.
    pub lag_us: u64,
    /// Batches of ours that it has not applied.
    pub lag_batches: u64,
    /// Batches of its own that have not come here.
    pub missing_batches: u64,
    /// Times that it was asked to repeat batches.
    pub gaps_asked: u64,
    /// Records of its own that came.
    pub records_received: u64,
    /// Those of them that came in a second, of late.
    pub received_per_second: f64,
    /// Whether its sessions are being fetched.
    pub resyncing: bool,
    /// How often they have been.
    pub resyncs: u64,
}

/// Something that is counted between guards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCounter {
    /// Its name.
    pub name: String,
    /// How often it happened.
    pub count: u64,
    /// What it means.
    pub sentence: String,
}
