//! The network that scenarios and scripts play in: clients and strangers outside, the appliance,
//! servers inside.
//!
//! ```text
//!   clients ─┐                                            ┌─ servers
//!            switch ── outside [appliance] inside ── switch
//!   internet ┘
//! ```
//!
//! Where the appliance is a hop, the two are networks of their own. Where it is a transparent wire,
//! they are one: every host is everybody's neighbour, and the Internet is the router of all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::guard::config::{EchoMode, FloodThresholds, Mode, Timers, Unknown};
use dataplane::guard::cookie::CookieKey;

use crate::appliance::{Appliance, ApplianceSettings, INSIDE, OUTSIDE, Queues, Side};
use crate::frame::Mac;
use crate::link::LinkSettings;
use crate::node::{Node, Switch};
use crate::world::{NodeId, PortOf, World};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// An address's.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Octets of its header without options.
    #[must_use]
    pub fn header_bytes(self) -> u16 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

/// The appliance's outside station.
pub const OUTSIDE_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The appliance's inside station.
pub const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// Sessions that each worker has room for, unless a run says otherwise.
pub const CAPACITY: u32 = 4096;
/// The port that servers of a site serve.
pub const SERVICE_PORT: u16 = 80;

/// The wall clock when a world begins: in the middle of a cookie's tick.
pub const UNIX_S: u64 = 1_800_000_016;

const SECOND_NS: u64 = 1_000_000_000;

/// An address of a site: `host` on the outside network.
#[must_use]
pub fn outside_address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()).into(),
    }
}

/// An address of a site: `host` on the inside network.
#[must_use]
pub fn inside_address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// How the two networks of a site hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The appliance routes between them.
    Hop,
    /// The appliance is a wire, and they are one network.
    Wire,
}

impl Layout {
    /// The address of `host` among the servers.
    #[must_use]
    pub fn server_address(self, family: Family, host: u8) -> IpAddr {
        match self {
            Self::Hop => inside_address(family, host),
            Self::Wire => outside_address(family, host),
        }
    }

    /// The router of the servers.
    #[must_use]
    pub fn router_of_servers(self, family: Family) -> IpAddr {
        match self {
            Self::Hop => inside_address(family, APPLIANCE_HOST),
            Self::Wire => outside_address(family, INTERNET_HOST),
        }
    }

    /// The router of the clients.
    #[must_use]
    pub fn router_of_clients(self, family: Family) -> IpAddr {
        match self {
            Self::Hop => outside_address(family, APPLIANCE_HOST),
            Self::Wire => outside_address(family, INTERNET_HOST),
        }
    }
}

fn both(address: fn(Family, u8) -> IpAddr, host: u8) -> Vec<(IpAddr, u8)> {
    vec![
        (address(Family::V4, host), 24),
        (address(Family::V6, host), 64),
    ]
}

/// The outside addresses of `host`, one of each family, with their prefix lengths.
#[must_use]
pub fn outside_addresses(host: u8) -> Vec<(IpAddr, u8)> {
    both(outside_address, host)
}

/// The inside addresses of `host`, likewise.
#[must_use]
pub fn inside_addresses(host: u8) -> Vec<(IpAddr, u8)> {
    both(inside_address, host)
}

/// The appliance's own place on both networks.
pub const APPLIANCE_HOST: u8 = 1;
/// The Internet's place on the outside network: the router to everywhere.
pub const INTERNET_HOST: u8 = 254;
/// The first server's place on the inside network.
pub const SERVER_HOST: u8 = 10;
/// The first client's place on the outside network.
pub const CLIENT_HOST: u8 = 20;

/// An appliance that guards [`SERVICE_PORT`] of the first `servers` servers at all times.
#[must_use]
pub fn appliance_settings(servers: u8, seed: u64) -> ApplianceSettings {
    let side = |mac, addresses| Side {
        mac,
        addresses,
        mtu_bytes: 1500,
    };
    let protected = |host| {
        inside_addresses(host)
            .into_iter()
            .map(|(address, _)| (address, vec![SERVICE_PORT]))
    };
    ApplianceSettings {
        workers: 1,
        queues: Queues::Steered,
        outside: side(OUTSIDE_MAC, outside_addresses(APPLIANCE_HOST)),
        inside: side(INSIDE_MAC, inside_addresses(APPLIANCE_HOST)),
        gateways: outside_addresses(INTERNET_HOST)
            .into_iter()
            .map(|(address, _)| address)
            .collect(),
        protect: (SERVER_HOST..SERVER_HOST + servers)
            .flat_map(protected)
            .collect(),
        probe: false,
        mode: Mode::Always,
        flood: FloodThresholds {
            enter_syns_per_s: 1000,
            leave_syns_per_s: 500,
            hold_ns: SECOND_NS,
        },
        timers: Timers::default(),
        keys: vec![CookieKey {
            not_before_s: 0,
            secret: [7; 16],
        }],
        rules: Vec::new(),
        unknown: Unknown::Drop,
        half_open_per_source: 256,
        capacity: CAPACITY,
        unix_s: UNIX_S,
        wire: None,
        replication: None,
        seed,
    }
}

/// The same as a transparent wire, which has no addresses, before servers of [`Layout::Wire`].
#[must_use]
pub fn wire_settings(servers: u8, seed: u64, echo: EchoMode) -> ApplianceSettings {
    let mut settings = appliance_settings(servers, seed);
    settings.outside.addresses.clear();
    settings.inside.addresses.clear();
    settings.gateways.clear();
    settings.protect = (SERVER_HOST..SERVER_HOST + servers)
        .flat_map(outside_addresses)
        .map(|(address, _)| (address, vec![SERVICE_PORT]))
        .collect();
    settings.wire = Some(echo);
    settings
}

/// The places of a site in its world.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The appliance.
    pub appliance: NodeId,
    outside: NodeId,
    inside: NodeId,
    next_outside: usize,
    next_inside: usize,
}

/// Ports of each switch.
const SWITCH_PORTS: usize = 64;

impl Site {
    /// Builds the appliance and the two networks.
    pub fn new(world: &mut World, settings: ApplianceSettings) -> Self {
        let appliance = world.add("appliance", Appliance::new(settings));
        let outside = world.add("outside", Switch::new(SWITCH_PORTS));
        let inside = world.add("inside", Switch::new(SWITCH_PORTS));
        [outside, inside]
            .into_iter()
            .for_each(|switch| world.trace_mut().hide(switch));
        world.connect((appliance, OUTSIDE), (outside, 0), LinkSettings::default());
        world.connect((appliance, INSIDE), (inside, 0), LinkSettings::default());
        Self {
            appliance,
            outside,
            inside,
            next_outside: 1,
            next_inside: 1,
        }
    }

    /// Puts another appliance on both networks, next to the first.
    pub fn add_appliance(
        &mut self,
        world: &mut World,
        name: impl Into<String>,
        settings: ApplianceSettings,
    ) -> NodeId {
        let link = LinkSettings::default();
        let (id, _) = self.add_outside(world, name, Appliance::new(settings), link);
        world.connect((id, INSIDE), (self.inside, self.next_inside), link);
        self.next_inside += 1;
        id
    }

    /// Puts a node on the outside network by a link of its own. Gives the node and the port of
    /// the switch that leads to it.
    pub fn add_outside(
        &mut self,
        world: &mut World,
        name: impl Into<String>,
        node: impl Node,
        link: LinkSettings,
    ) -> (NodeId, PortOf) {
        let id = world.add(name, node);
        let port = (self.outside, self.next_outside);
        self.next_outside += 1;
        world.connect((id, 0), port, link);
        (id, port)
    }

    /// Puts a node on the inside network, likewise.
    pub fn add_inside(
        &mut self,
        world: &mut World,
        name: impl Into<String>,
        node: impl Node,
        link: LinkSettings,
    ) -> (NodeId, PortOf) {
        let id = world.add(name, node);
        let port = (self.inside, self.next_inside);
        self.next_inside += 1;
        world.connect((id, 0), port, link);
        (id, port)
    }
}
