//! What the hop is built from, and the tables made of it off the worker.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::replication::ReplicationPort;
use super::routes::{RecentRoutes, RouteIndex, RouteTable};
use super::usual::Leading;
use crate::io::{InterfaceId, PortId};
use crate::keyed::Spread;
use crate::limits::{MAX_ADDRESSES, MAX_INTERFACES, MAX_PORTS, MAX_ROUTES};
use crate::wire::address::{Address, Family, Prefix};
use crate::wire::ethernet::MacAddress;
use crate::wire::ipv4::MINIMUM_REASSEMBLY_BYTES;
use crate::wire::ipv6::MINIMUM_MTU_BYTES;

/// A logical interface: a port, or one VLAN of a port. Its place in [`HopConfig::interfaces`] is
/// its [`InterfaceId`].
#[derive(Clone, Debug)]
pub struct Interface {
    /// The port.
    pub port: PortId,
    /// The VLAN; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// Our own station address.
    pub mac: MacAddress,
    /// Octets of the largest IP packet that fits.
    pub mtu_bytes: u16,
    /// Our own addresses, each with the network that it connects.
    pub addresses: Vec<(Address, Prefix)>,
    /// Whether a source that is routed out of this interface is refused from every other one.
    /// Sources in connected networks always are.
    pub protected: bool,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Where it leads.
    pub prefix: Prefix,
    /// The router on the way; `None` when the destinations are neighbours themselves.
    pub via: Option<Address>,
    /// The interface on the way.
    pub interface: InterfaceId,
}

/// Interfaces and routes. The networks that the interfaces' addresses connect need no routes.
#[derive(Clone, Debug, Default)]
pub struct HopConfig {
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// The routes.
    pub routes: Vec<Route>,
    /// Where peers' datagrams come in, if there are peers.
    pub replication: Option<ReplicationPort>,
    /// Protected servers and peers. Where they are neighbours, they keep a place in the table of
    /// neighbours whoever else is asked for, as the routers of `routes` do.
    pub reserved: Vec<Address>,
}

/// Why a [`HopConfig`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopConfigError {
    /// More than [`MAX_INTERFACES`].
    #[error("more than {MAX_INTERFACES} interfaces")]
    TooManyInterfaces,
    /// More than [`MAX_ROUTES`].
    #[error("more than {MAX_ROUTES} routes")]
    TooManyRoutes,
    /// More than [`MAX_ADDRESSES`].
    #[error("interface {0} has more than {MAX_ADDRESSES} addresses")]
    TooManyAddresses(usize),
    /// The port's number exceeds [`MAX_PORTS`].
    #[error("interface {0} is on a port beyond the {MAX_PORTS} that there may be")]
    UnknownPort(usize),
    /// VLAN 0 or above 4094.
    #[error("interface {0} has a VLAN outside 1 to 4094")]
    BadVlan(usize),
    /// Two interfaces for the same frames.
    #[error("interface {0} takes the same port and VLAN as an earlier one")]
    DuplicateInterface(usize),
    /// No station address of one station.
    #[error("interface {0} has no unicast MAC address")]
    BadMac(usize),
    /// Below what the address families need (RFC 791 §3.1, RFC 8200 §5).
    #[error("interface {0} has an MTU below {1}")]
    MtuTooSmall(usize, usize),
    /// An address that no station can have, or outside its network.
    #[error("interface {0}: {1} cannot be a station's own address there")]
    BadAddress(usize, Address),
    /// An address is ours twice.
    #[error("address {0} is given twice")]
    DuplicateAddress(Address),
    /// A route names an interface that does not exist.
    #[error("the route to {0} names an unknown interface")]
    UnknownInterface(Prefix),
    /// A route's router is not a neighbour on its interface.
    #[error("the route to {0} goes via {1}, which is no neighbour on its interface")]
    ViaUnreachable(Prefix, Address),
    /// The replication port's interface does not exist, or its group cannot be one there.
    #[error("the replication port has no such interface, or its group cannot be one there")]
    BadReplicationPort,
}

/// What a prefix leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// One of our own addresses.
    Own,
    /// A network's broadcast address, or its all-zero one.
    Broadcast,
    /// Neighbours on an interface.
    Connected(InterfaceId),
    /// A router.
    Via(InterfaceId, Address),
}

/// What becomes of packets to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WayKind {
    /// No route leads there.
    None,
    /// See [`Target::Own`].
    Own,
    /// See [`Target::Broadcast`].
    Broadcast,
    /// The destination is a neighbour.
    Connected,
    /// A router is.
    Via,
}

/// A [`Target`] laid out for the worker, with what it needs to know of the interface there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The router, if there is one on the way.
    pub(crate) via: Address,
    pub(crate) mtu_bytes: u16,
    pub(crate) interface: InterfaceId,
    pub(crate) kind: WayKind,
    /// See [`Interface::protected`].
    pub(crate) protected: bool,
}

impl Way {
    const NONE: Self = Self {
        via: Address::UNSPECIFIED,
        mtu_bytes: 0,
        interface: InterfaceId(NO_INTERFACE),
        kind: WayKind::None,
        protected: false,
    };

    fn of(target: Target, links: &[Link]) -> Self {
        let (kind, interface, via) = match target {
            Target::Own => (WayKind::Own, None, None),
            Target::Broadcast => (WayKind::Broadcast, None, None),
            Target::Connected(interface) => (WayKind::Connected, Some(interface), None),
            Target::Via(interface, via) => (WayKind::Via, Some(interface), Some(via)),
        };
        let link = interface.and_then(|interface| links.get(usize::from(interface.0)));
        Self {
            via: via.unwrap_or(Address::UNSPECIFIED),
            mtu_bytes: link.map_or(0, |link| link.mtu_bytes),
            interface: interface.unwrap_or(InterfaceId(NO_INTERFACE)),
            kind,
            protected: link.is_some_and(|link| link.protected),
        }
    }

    /// Whether packets leave this way.
    #[inline]
    pub(crate) fn leads_out(&self) -> bool {
        matches!(self.kind, WayKind::Connected | WayKind::Via)
    }

    /// The neighbour that takes a packet to `destination` next.
    #[inline]
    pub(crate) fn next_hop(&self, destination: Address) -> Address {
        if self.kind == WayKind::Via {
            self.via
        } else {
            destination
        }
    }
}

/// An interface as the worker uses it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) port: PortId,
    pub(crate) vlan: Option<u16>,
    pub(crate) mac: MacAddress,
    pub(crate) mtu_bytes: u16,
    pub(crate) addresses: Vec<(Address, Prefix)>,
    pub(crate) protected: bool,
    /// Made from the station address (RFC 4291 Appendix A); the source of neighbour discovery.
    pub(crate) link_local: Address,
    /// Whether it takes part in IPv6.
    pub(crate) ipv6: bool,
}

impl Link {
    /// Our first address of `family` here.
    pub(crate) fn address(&self, family: Family) -> Option<Address> {
        let mut addresses = self.addresses.iter().map(|(address, _)| *address);
        addresses.find(|address| address.family() == family)
    }

    /// Our address here in the network that holds `neighbour`, else the first of its family.
    pub(crate) fn address_towards(&self, neighbour: Address) -> Option<Address> {
        self.addresses
            .iter()
            .find(|(_, network)| network.contains(neighbour))
            .map(|(address, _)| *address)
            .or_else(|| self.address(neighbour.family()))
    }

    /// Whether `address` is ours on this interface.
    pub(crate) fn owns(&self, address: Address) -> bool {
        (self.ipv6 && address == self.link_local)
            || self.addresses.iter().any(|(own, _)| *own == address)
    }

    /// Whether `address` is a neighbour's here.
    pub(crate) fn connects(&self, address: Address) -> bool {
        (self.ipv6 && address.is_link_local())
            || self
                .addresses
                .iter()
                .any(|(_, network)| network.contains(address))
    }
}

/// The hop's tables: made by the control thread, shared by the workers, never changed.
#[derive(Debug)]
pub struct HopTables {
    pub(crate) links: Vec<Link>,
    /// By the number that [`RouteTable::look_up`] gives.
    ways: Vec<Way>,
    routes: RouteTable,
    /// The same, for usual frames.
    pub(super) leading: Leading,
    /// One identifier for each VLAN of each port; `NO_INTERFACE` where there is none.
    ingress: Box<[u8]>,
    pub(super) replication: Option<ReplicationPort>,
    /// The neighbours that have reserved places, in order.
    pub(super) reserved: Arc<[(InterfaceId, Address)]>,
}

const NO_INTERFACE: u8 = u8::MAX;
const VLANS: usize = 4096;

impl HopTables {
    /// Checks `config` and builds the tables.
    ///
    /// # Errors
    /// What in `config` cannot be used.
    pub fn new(config: &HopConfig) -> Result<Self, HopConfigError> {
        check_sizes(config)?;
        let mut ingress = vec![NO_INTERFACE; MAX_PORTS * VLANS].into_boxed_slice();
        let mut own = HashSet::new();
        for (index, interface) in config.interfaces.iter().enumerate() {
            check_interface(index, interface, &mut own)?;
            let slot = &mut ingress[ingress_slot(interface.port, interface.vlan.unwrap_or(0))];
            if *slot != NO_INTERFACE {
                return Err(HopConfigError::DuplicateInterface(index));
            }
            *slot = index as u8;
        }
        let links: Vec<Link> = config.interfaces.iter().map(link).collect();
        for route in &config.routes {
            check_route(route, &links)?;
        }
        if let Some(port) = config.replication {
            let link = links.get(usize::from(port.interface.0));
            if !link.is_some_and(|link| port.fits(link)) {
                return Err(HopConfigError::BadReplicationPort);
            }
        }
        let (targets, prefixes) = targets_of(&links, &config.routes);
        let out = targets.iter().map(|&target| Way::of(target, &links));
        let ways: Vec<Way> = [Way::NONE].into_iter().chain(out).collect();
        let routes = RouteTable::new(&prefixes);
        Ok(Self {
            leading: Leading::of(&routes, &ways),
            reserved: reserved(config, |address| &ways[routes.look_up(address) as usize]),
            ways,
            links,
            routes,
            ingress,
            replication: config.replication,
        })
    }

    /// The interface that frames of this port and VLAN (0: untagged) come in by.
    #[inline]
    pub fn interface_of(&self, port: PortId, vlan: u16) -> Option<InterfaceId> {
        match self.ingress.get(ingress_slot(port, vlan)) {
            Some(&id) if id != NO_INTERFACE => Some(InterfaceId(id)),
            _ => None,
        }
    }

    /// What the longest prefix that contains `address` leads to.
    #[inline(always)]
    pub(crate) fn way(&self, address: Address) -> &Way {
        &self.ways[self.routes.look_up(address) as usize]
    }

    /// [`Self::way`] of an address of `family`, by way of what was asked before.
    #[inline(always)]
    pub(crate) fn way_again(
        &self,
        recent: &mut RecentRoutes,
        address: Address,
        family: Family,
    ) -> &Way {
        &self.ways[recent.look_up(&self.routes, address, family) as usize]
    }

    /// Clears answers of other tables.
    pub(crate) fn forget(&self, recent: &mut RecentRoutes) {
        recent.clear(&self.routes);
    }

    /// No answer kept yet.
    pub(crate) fn recent(&self, spread: Spread) -> RecentRoutes {
        RecentRoutes::of(&self.routes, spread)
    }

    #[inline]
    pub(crate) fn link(&self, interface: InterfaceId) -> Option<&Link> {
        self.links.get(usize::from(interface.0))
    }
}

/// The neighbours that have reserved places: routers, and who is named and is a neighbour.
fn reserved<'a>(
    config: &HopConfig,
    way: impl Fn(Address) -> &'a Way,
) -> Arc<[(InterfaceId, Address)]> {
    let routers = config.routes.iter();
    let routers = routers.filter_map(|route| Some((route.interface, route.via?)));
    let named = config.reserved.iter().filter_map(|&address| {
        let way = way(address);
        (way.kind == WayKind::Connected).then_some((way.interface, address))
    });
    let mut all: Vec<_> = routers.chain(named).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}

#[inline]
fn ingress_slot(port: PortId, vlan: u16) -> usize {
    usize::from(port.0) * VLANS + usize::from(vlan)
}

fn check_sizes(config: &HopConfig) -> Result<(), HopConfigError> {
    if config.interfaces.len() > MAX_INTERFACES {
        return Err(HopConfigError::TooManyInterfaces);
    }
    if config.routes.len() > MAX_ROUTES {
        return Err(HopConfigError::TooManyRoutes);
    }
    Ok(())
}

fn check_interface(
    index: usize,
    interface: &Interface,
    own: &mut HashSet<Address>,
) -> Result<(), HopConfigError> {
    if interface.addresses.len() > MAX_ADDRESSES {
        return Err(HopConfigError::TooManyAddresses(index));
    }
    if usize::from(interface.port.0) >= MAX_PORTS {
        return Err(HopConfigError::UnknownPort(index));
    }
    if interface
        .vlan
        .is_some_and(|vlan| !(1..=4094).contains(&vlan))
    {
        return Err(HopConfigError::BadVlan(index));
    }
    if !interface.mac.is_unicast() {
        return Err(HopConfigError::BadMac(index));
    }
    let minimum = if has_ipv6(interface) {
        MINIMUM_MTU_BYTES
    } else {
        MINIMUM_REASSEMBLY_BYTES
    };
    if usize::from(interface.mtu_bytes) < minimum {
        return Err(HopConfigError::MtuTooSmall(index, minimum));
    }
    for &(address, network) in &interface.addresses {
        let reserved = network
            .broadcast()
            .is_some_and(|broadcast| address == broadcast || address == network.network());
        if address.is_martian_source() || !network.contains(address) || reserved {
            return Err(HopConfigError::BadAddress(index, address));
        }
        if !own.insert(address) {
            return Err(HopConfigError::DuplicateAddress(address));
        }
    }
    Ok(())
}

fn check_route(route: &Route, links: &[Link]) -> Result<(), HopConfigError> {
    let Some(link) = links.get(usize::from(route.interface.0)) else {
        return Err(HopConfigError::UnknownInterface(route.prefix));
    };
    match route.via {
        Some(via) if !link.connects(via) || link.owns(via) => {
            Err(HopConfigError::ViaUnreachable(route.prefix, via))
        }
        Some(via) if via.family() != route.prefix.family() => {
            Err(HopConfigError::ViaUnreachable(route.prefix, via))
        }
        _ => Ok(()),
    }
}

fn has_ipv6(interface: &Interface) -> bool {
    let mut addresses = interface.addresses.iter();
    addresses.any(|(address, _)| address.family() == Family::V6)
}

fn link(interface: &Interface) -> Link {
    Link {
        port: interface.port,
        vlan: interface.vlan,
        mac: interface.mac,
        mtu_bytes: interface.mtu_bytes,
        addresses: interface.addresses.clone(),
        protected: interface.protected,
        link_local: link_local(interface.mac),
        ipv6: has_ipv6(interface),
    }
}

/// The link-local address of a station (RFC 4291 Appendix A, modified EUI-64).
pub fn link_local(mac: MacAddress) -> Address {
    let [a, b, c, d, e, f] = mac.0;
    Address::from_v6([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// Every prefix and what it leads to. Of equal prefixes the last counts: our own addresses last,
/// then connected networks, then routes.
fn targets_of(links: &[Link], routes: &[Route]) -> (Vec<Target>, Vec<(Prefix, RouteIndex)>) {
    let mut all: Vec<(Prefix, Target)> = Vec::new();
    for route in routes {
        let target = match route.via {
            Some(via) => Target::Via(route.interface, via),
            None => Target::Connected(route.interface),
        };
        all.push((route.prefix, target));
    }
    let addresses = || {
        let ids = (0u8..).map(InterfaceId);
        ids.zip(links).flat_map(|(id, link)| {
            let addresses = link.addresses.iter();
            addresses.map(move |&(address, network)| (id, address, network))
        })
    };
    for (id, _, network) in addresses() {
        all.push((network, Target::Connected(id)));
    }
    for (_, _, network) in addresses() {
        // A /31 and a /32 have neither (RFC 3021).
        if let Some(broadcast) = network.broadcast() {
            let ends = [network.network(), broadcast];
            all.extend(ends.map(|end| (host(end), Target::Broadcast)));
        }
    }
    for (_, address, _) in addresses() {
        all.push((host(address), Target::Own));
    }
    let mut targets = Vec::new();
    let mut known = HashMap::new();
    let prefixes = all.into_iter().map(|(prefix, target)| {
        let index = *known.entry(target).or_insert_with(|| {
            targets.push(target);
            targets.len() as RouteIndex - 1
        });
        (prefix, index)
    });
    let prefixes = prefixes.collect();
    (targets, prefixes)
}

fn host(address: Address) -> Prefix {
    let length = match address.family() {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    Prefix::new(address, length).expect("a host prefix has its family's width")
}
