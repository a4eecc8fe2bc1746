//! The `wire` of the `guard` section: two whole devices without addresses, between which all
//! passes that the guard has no part in.

use super::Checker;
use crate::profile::model::{Echo, Guard, Link, Port, Route};
use crate::profile::raw::{RawEcho, RawProfile};
use yaml::Node;

pub(super) fn echo(raw: RawEcho) -> Echo {
    match raw {
        RawEcho::Auto => Echo::Auto,
        RawEcho::Always => Echo::Always,
        RawEcho::Off => Echo::Off,
    }
}

/// Says what of the ports and routes cannot be with a wire.
pub(super) fn check(
    guard: &Guard,
    ports: &[Port],
    routes: &[Route],
    raw: &RawProfile,
    root: &Node,
    checker: &mut Checker<'_>,
) {
    let ends = [guard.outside, guard.inside];
    for end in ends {
        port(&ports[end], end, ports, raw, root.get("ports"), checker);
    }
    for (index, _) in routes
        .iter()
        .enumerate()
        .filter(|(_, route)| ends.contains(&route.port))
    {
        checker.error(
            root.get("routes").item(index).mark,
            "a route leads through an end of the wire, which routes nothing",
            "take the route away: what passes the wire keeps its own next hop",
        );
    }
    let [outside, inside] = ends.map(|end| &ports[end]);
    if outside.mtu_bytes != inside.mtu_bytes {
        let (smaller, larger) = if outside.mtu_bytes < inside.mtu_bytes {
            (outside, inside)
        } else {
            (inside, outside)
        };
        checker.warning(
            root.get("guard").get("wire").key_mark(),
            format!(
                "packets of more than {} bytes that come by `{}` are dropped before `{}`, and nobody is told",
                smaller.mtu_bytes, larger.name, smaller.name
            ),
            format!("give both ports the same `mtu`, such as {}", larger.mtu_bytes),
        );
    }
}

fn port(
    end: &Port,
    index: usize,
    ports: &[Port],
    raw: &RawProfile,
    node: &Node,
    checker: &mut Checker<'_>,
) {
    let name = &end.name;
    let node = node.get(name);
    if !end.addresses.is_empty() {
        checker.error(
            node.get("address").key_mark(),
            format!("port `{name}` is an end of the wire and has an address"),
            "take `address` away, or take `guard.wire` away to have a guard that routes",
        );
    }
    if let Link::Parent(_) = end.link {
        checker.error(
            node.get("parent").key_mark(),
            format!("port `{name}` is an end of the wire and only a VLAN of a device"),
            "write its `device`: a wire passes all VLANs, each with its tag",
        );
    } else if end.vlan.is_some() {
        checker.error(
            node.get("vlan").key_mark(),
            format!("port `{name}` is an end of the wire and has a VLAN"),
            "take `vlan` away: a wire passes all VLANs, each with its tag",
        );
    }
    let child = ports.iter().find(|port| port.link == Link::Parent(index));
    if let Some(child) = child {
        checker.error(
            node.key_mark(),
            format!(
                "port `{name}` is an end of the wire, and port `{}` is a VLAN of it",
                child.name
            ),
            format!("give `{}` a device of its own", child.name),
        );
    }
    let written = raw.ports.0.iter().find(|(other, _)| other == name);
    if written.is_some_and(|(_, port)| port.promiscuous.is_some_and(|truth| !truth.0)) {
        checker.error(
            node.get("promiscuous").mark,
            format!("port `{name}` is an end of the wire and would hear only frames for itself"),
            "take `promiscuous` away: the ends of a wire hear all frames",
        );
    }
}

/// The ends of a wire take frames for every station.
pub(super) fn hear_everything(guard: &Guard, ports: &mut [Port]) {
    for end in [guard.outside, guard.inside] {
        if let Link::Device(device) = &mut ports[end].link {
            device.promiscuous = true;
        }
    }
}
