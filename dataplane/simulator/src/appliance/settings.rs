//! What an appliance is built from, and what that means to its hop, its guard and its exchange.

use std::net::IpAddr;

use dataplane::bridge::{Bridge, WirePort};
use dataplane::classify::{Condition, Rules};
use dataplane::echo::EchoJar;
use dataplane::guard::config::{
    Action, EchoMode, FloodThresholds, GuardConfig, InterfaceSet, Mode, ProtectedServer,
    ServerOverrides, Sharing, Timers, Transparent, Unknown,
};
use dataplane::guard::cookie::{CookieJar, CookieKey};
use dataplane::hop::{HopConfig, HopTables, Interface, ReplicationPort, Route};
use dataplane::io::{InterfaceId, PortId};
use dataplane::replicate::PeerId;
use dataplane::replicate::config::{PeerConfig, ReplicatorConfig, Transport};
use dataplane::replicate::desk::ControlPeers;
use dataplane::replicate::exchange::{Addresses, Exchange};
use dataplane::replicate::frame::BootId;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::replicator::Replicator;
use dataplane::wire::address::{Address, Prefix};
use dataplane::wire::ethernet::MacAddress;
use dataplane::worker::Time;

use super::{INSIDE, OUTSIDE, SYNC};
use crate::frame::Mac;
use crate::random::Random;
use crate::site::Layout;

/// Which worker a port gives a frame to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// A queue for each worker, and a NIC that knows whose flow a frame is of.
    Steered,
    /// One queue, the first worker's, for receiving and sending.
    Single,
    /// A queue for each worker, and a NIC that knows the packets of a direction by another hash
    /// than ours.
    Scattered,
}

/// An interface's addresses.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its station address.
    pub mac: Mac,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Octets of the largest IP packet that fits.
    pub mtu_bytes: u16,
}

/// What an appliance is built from.
#[derive(Clone, Debug)]
pub struct ApplianceSettings {
    /// How many workers it has.
    pub workers: usize,
    /// How frames reach them.
    pub queues: Queues,
    /// Towards the clients.
    pub outside: Side,
    /// Towards the servers.
    pub inside: Side,
    /// The routers on the outside, for what is not connected.
    pub gateways: Vec<IpAddr>,
    /// The protected servers, each with its ports.
    pub protect: Vec<(IpAddr, Vec<u16>)>,
    /// Whether it asks the servers what they do before the first client comes.
    pub probe: bool,
    /// When the guard is active.
    pub mode: Mode,
    /// When a flood begins and ends.
    pub flood: FloodThresholds,
    /// How long things last.
    pub timers: Timers,
    /// The cookie keys.
    pub keys: Vec<CookieKey>,
    /// The ordered rules; what matches none is guarded.
    pub rules: Vec<(Condition, Action)>,
    /// What happens to strangers.
    pub unknown: Unknown,
    /// Server sides that may be opening at once for one source.
    pub half_open_per_source: u16,
    /// Sessions of each worker.
    pub capacity: u32,
    /// Whether both ports are the ends of a transparent wire, which have no addresses, and how its
    /// SYNs reach their servers.
    pub wire: Option<EchoMode>,
    /// The other guards that sessions are shared with.
    pub replication: Option<Replication>,
    /// The wall clock when the world begins, in seconds since 1970.
    pub unix_s: u64,
    /// Of its own randomness: table keys, and the order in which workers run.
    pub seed: u64,
}

impl ApplianceSettings {
    /// How the networks around it hang together.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self.wire {
            Some(_) => Layout::Wire,
            None => Layout::Hop,
        }
    }
}

/// How sessions are shared with other guards.
#[derive(Clone, Debug)]
pub struct Replication {
    /// Its number among them.
    pub id: PeerId,
    /// The port [`SYNC`].
    pub side: Side,
    /// The others and their addresses there.
    pub peers: Vec<(PeerId, IpAddr)>,
    /// The group that they are spoken to by, instead of each alone.
    pub group: Option<IpAddr>,
    /// The keys that they have in common.
    pub keys: Vec<ReplicationKey>,
    /// When and how sessions are shared.
    pub sharing: Sharing,
}

/// The UDP port of the replication.
pub const REPLICATION_UDP_PORT: u16 = 4790;

fn prefix_of(address: IpAddr, length: u8) -> Prefix {
    Prefix::new(address.into(), length).expect("a prefix no longer than its address")
}

fn interface(port: usize, side: &Side) -> Interface {
    let addresses = side.addresses.iter();
    Interface {
        port: PortId(port as u8),
        vlan: None,
        mac: MacAddress(side.mac),
        mtu_bytes: side.mtu_bytes,
        addresses: addresses
            .map(|&(address, length)| (Address::from(address), prefix_of(address, length)))
            .collect(),
        protected: port == INSIDE,
    }
}

/// What talks to the peers.
pub(super) fn exchange(
    replication: &Replication,
    settings: &ApplianceSettings,
    desks: Vec<ControlPeers>,
    random: &mut Random,
    now_ns: u64,
) -> Exchange {
    let now = Time {
        now_ns,
        unix_ms: settings.unix_s * 1_000 + now_ns / 1_000_000,
    };
    let boot = BootId {
        started_ms: now.unix_ms,
        random: random.next_u64(),
    };
    let mut config = ReplicatorConfig::new(replication.id, boot);
    config.peers = replication
        .peers
        .iter()
        .map(|&(id, address)| PeerConfig {
            id,
            address: Some(address.into()),
        })
        .collect();
    config.transport = match replication.group {
        Some(_) => Transport::Group,
        None => Transport::PointToPoint,
    };
    config.keys.clone_from(&replication.keys);
    config.workers = settings.workers;
    config.table_places = settings.capacity;
    let addresses = Addresses {
        own: replication
            .side
            .addresses
            .iter()
            .map(|&(address, _)| address.into())
            .collect(),
        peers: replication
            .peers
            .iter()
            .map(|&(id, address)| (id, address.into()))
            .collect(),
        group: replication.group.map(Address::from),
        udp_port: REPLICATION_UDP_PORT,
    };
    Exchange::new(Replicator::new(config, now), desks, addresses)
}

pub(super) fn hop_tables(settings: &ApplianceSettings) -> HopTables {
    let route = |gateway: &IpAddr| {
        let everywhere: IpAddr = match gateway {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Route {
            prefix: prefix_of(everywhere, 0),
            via: Some((*gateway).into()),
            interface: InterfaceId(OUTSIDE as u8),
        }
    };
    let mut interfaces = vec![
        interface(OUTSIDE, &settings.outside),
        interface(INSIDE, &settings.inside),
    ];
    if let Some(replication) = &settings.replication {
        interfaces.push(interface(SYNC, &replication.side));
    }
    let config = HopConfig {
        interfaces,
        routes: settings.gateways.iter().map(route).collect(),
        replication: settings
            .replication
            .as_ref()
            .map(|replication| ReplicationPort {
                interface: InterfaceId(SYNC as u8),
                udp_port: REPLICATION_UDP_PORT,
                group: replication.group.map(Address::from),
            }),
        reserved: settings
            .protect
            .iter()
            .map(|(address, _)| Address::from(*address))
            .collect(),
    };
    HopTables::new(&config).expect("settings that a hop can use")
}

pub(super) fn guard_config(settings: &ApplianceSettings) -> GuardConfig {
    let protect = settings
        .protect
        .iter()
        .map(|(address, ports)| ProtectedServer {
            address: (*address).into(),
            ports: ports.iter().map(|&port| port..=port).collect(),
            overrides: ServerOverrides::default(),
        });
    let config = GuardConfig {
        outside: InterfaceSet::default().with(InterfaceId(OUTSIDE as u8)),
        inside: InterfaceSet::default().with(InterfaceId(INSIDE as u8)),
        mode: settings.mode,
        servers: protect.collect(),
        rules: Rules::new(&settings.rules, Action::Guard).expect("few rules"),
        jar: CookieJar::new(&settings.keys),
        flood: settings.flood,
        timers: settings.timers,
        half_open_per_source: settings.half_open_per_source,
        unknown: settings.unknown,
        probe_from: if settings.probe {
            settings
                .inside
                .addresses
                .iter()
                .map(|&(address, _)| address.into())
                .collect()
        } else {
            Vec::new()
        },
        outside_mtu: settings.outside.mtu_bytes,
        inside_mtu: settings.inside.mtu_bytes,
        sharing: settings
            .replication
            .as_ref()
            .map(|replication| replication.sharing),
        transparent: settings.wire.map(|echo| transparent(settings, echo)),
    };
    config.validate().expect("settings that a guard can use");
    config
}

fn transparent(settings: &ApplianceSettings, echo: EchoMode) -> Transparent {
    let end = |port: usize, side: &Side| WirePort {
        port: PortId(port as u8),
        interface: InterfaceId(port as u8),
        mtu_bytes: side.mtu_bytes,
    };
    Transparent {
        bridge: Bridge {
            outside: end(OUTSIDE, &settings.outside),
            inside: end(INSIDE, &settings.inside),
        },
        echo,
        jar: EchoJar::new(&settings.keys),
    }
}
