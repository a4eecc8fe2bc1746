//! The `routes` section, and which port a destination is reached through.

use std::net::IpAddr;

use super::Checker;
use super::words::{address, prefix};
use crate::profile::address::Prefix;
use crate::profile::model::{Port, Route};
use crate::profile::raw::RawRoute;
use yaml::{Mark, Node};

pub(super) fn resolve(
    raw: &[RawRoute],
    ports: &[Port],
    ports_are_whole: bool,
    root: &Node,
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    let node = root.get("routes");
    let mut routes = Vec::new();
    let mut lines = std::collections::HashMap::new();
    for (index, raw) in raw.iter().enumerate() {
        let node = node.item(index);
        let Some(route) = route(raw, ports, ports_are_whole, node, checker) else {
            continue;
        };
        let mark = node.get("to").mark;
        if let Some(first) = lines.insert(route.to, mark.line) {
            checker.error(
                mark,
                format!("there are two routes to {}", route.to),
                format!("the first is on line {first}; keep one of them"),
            );
        }
        connected(&route, ports, mark, checker);
        routes.push(route);
    }
    routes
}

fn route(
    raw: &RawRoute,
    ports: &[Port],
    ports_are_whole: bool,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<Route> {
    let named = raw
        .port
        .as_ref()
        .map(|name| checker.port(ports, node.get("port"), name));
    let via = address(checker, node.get("via").mark, &raw.via);
    let to = destination(raw, via, node, checker);
    let (via, to) = (via?, to?);
    if via.is_ipv4() != to.is_ipv4() {
        checker.error(
            node.get("via").mark,
            format!("the next hop {via} is of another family than {to}"),
            format!(
                "write an {} address",
                if to.is_ipv4() { "IPv4" } else { "IPv6" }
            ),
        );
        return None;
    }
    if let Some(own) = ports.iter().find(|port| has_address(port, via)) {
        checker.error(
            node.get("via").mark,
            format!(
                "the next hop {via} is the appliance's own address on port `{}`",
                own.name
            ),
            "write the address of the router",
        );
        return None;
    }
    let port = match named {
        Some(named) => {
            let port = named?;
            on_named_port(via, &ports[port], ports_are_whole, node, checker).then_some(port)
        }
        None => any_port(via, ports, ports_are_whole, node, checker),
    }?;
    Some(Route { to, via, port })
}

fn destination(
    raw: &RawRoute,
    via: Option<IpAddr>,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<Prefix> {
    if raw.to == "default" {
        return via.map(|via| {
            let all: IpAddr = if via.is_ipv4() {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            };
            Prefix::covering(all, 0)
        });
    }
    prefix(checker, node.get("to").mark, &raw.to)
}

fn has_address(port: &Port, address: IpAddr) -> bool {
    port.addresses.iter().any(|own| own.address == address)
}

fn is_on(port: &Port, address: IpAddr) -> bool {
    port.addresses.iter().any(|own| own.net().contains(address))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn nets(ports: &[Port], family_of: IpAddr) -> String {
    let nets: Vec<String> = ports
        .iter()
        .flat_map(|port| {
            port.addresses
                .iter()
                .map(move |own| (own.net(), &port.name))
        })
        .filter(|(net, _)| net.is_ipv4() == family_of.is_ipv4())
        .map(|(net, name)| format!("{net} (`{name}`)"))
        .collect();
    if nets.is_empty() {
        format!(
            "no port has an {} address",
            if family_of.is_ipv4() { "IPv4" } else { "IPv6" }
        )
    } else {
        format!("the ports' nets are {}", nets.join(", "))
    }
}

fn on_named_port(
    via: IpAddr,
    port: &Port,
    ports_are_whole: bool,
    node: &Node,
    checker: &mut Checker<'_>,
) -> bool {
    let on = is_link_local(via) || is_on(port, via);
    if !on && ports_are_whole {
        checker.error(
            node.get("via").mark,
            format!(
                "the next hop {via} is not on the net of port `{}`",
                port.name
            ),
            nets(std::slice::from_ref(port), via),
        );
    }
    on
}

fn any_port(
    via: IpAddr,
    ports: &[Port],
    ports_are_whole: bool,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<usize> {
    let mark = node.get("via").mark;
    if is_link_local(via) {
        checker.error(
            mark,
            format!("the next hop {via} is link-local, so the route must name its port"),
            format!(
                "add `port: {}`",
                ports.first().map_or("…", |port| port.name.as_str())
            ),
        );
        return None;
    }
    let found = ports.iter().position(|port| is_on(port, via));
    if found.is_none() && ports_are_whole {
        checker.error(
            mark,
            format!("the next hop {via} is on no port's net"),
            nets(ports, via),
        );
    }
    found
}

/// A route to a port's own net would hide its neighbours.
fn connected(route: &Route, ports: &[Port], mark: Mark, checker: &mut Checker<'_>) {
    let own = ports
        .iter()
        .find(|port| port.addresses.iter().any(|own| own.net() == route.to));
    if let Some(port) = own {
        checker.error(
            mark,
            format!("{} is the net of port `{}` itself", route.to, port.name),
            "take the route away: neighbours on a port's net need none",
        );
    }
}

/// The port that `destination` is reached through: the longest prefix decides.
pub(super) fn port_towards(destination: IpAddr, ports: &[Port], routes: &[Route]) -> Option<usize> {
    let nets = ports
        .iter()
        .enumerate()
        .flat_map(|(index, port)| port.addresses.iter().map(move |own| (own.net(), index)));
    nets.chain(routes.iter().map(|route| (route.to, route.port)))
        .filter(|(net, _)| net.contains(destination))
        .max_by_key(|(net, _)| net.length())
        .map(|(_, port)| port)
}
