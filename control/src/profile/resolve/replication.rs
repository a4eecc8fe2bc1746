//! The `replication` section.

use std::net::{IpAddr, Ipv4Addr};

use dataplane::limits::MAX_PEERS;

use super::Checker;
use super::guard::{Scene, say_of_keys};
use super::routes::port_towards;
use super::words::address;
use crate::profile::keys;
use crate::profile::model::Port;
use crate::profile::model_replication::{Peer, Replication, Share};
use crate::profile::raw_replication::{RawPeer, RawReplication, RawShare};
use yaml::{Mark, Node};

/// The last number of an appliance; the one after it means all of them.
const LAST_NUMBER: u32 = 254;
/// How many signs of life may be lost before an appliance counts as dead.
const HELLOS_UNTIL_DEAD: u32 = 3;

pub(super) fn share(raw: RawShare) -> Share {
    match raw {
        RawShare::Begun => Share::Begun,
        RawShare::Established => Share::Established,
        RawShare::Deferred => Share::Deferred,
        RawShare::Never => Share::Never,
    }
}

pub(super) fn resolve(
    raw: &RawReplication,
    scene: &Scene<'_>,
    has_guard: bool,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<Replication> {
    if !has_guard {
        checker.error(
            node.key_mark(),
            "there is nothing to share: the profile has no guard",
            "add a `guard:` section, or take `replication` away",
        );
    }
    let port = checker.port(scene.ports, node.get("port"), &raw.port);
    let own = number(raw.own, "own", node, checker);
    let group = group(raw, node, checker);
    let peers = peers(raw, own, group.is_some(), node, checker);
    let keys_path = checker.path(&raw.keys);
    say_of_keys(
        keys::load_replication(&keys_path).err(),
        node.get("keys").mark,
        checker,
    );
    times(raw, node, checker);
    let udp_port = checker
        .in_range(node, "udp_port", raw.udp_port, 1..=65_535)
        .then(|| u16::try_from(raw.udp_port).ok())
        .flatten();
    let port = port?;
    check_ways(&peers, port, scene, node.get("peers"), checker);
    let address = own_address(&scene.ports[port], &peers, group, node, scene, checker);
    Some(Replication {
        port,
        address: address?,
        own: own?,
        peers,
        group,
        udp_port: udp_port?,
        keys: keys_path,
        share: share(raw.share),
        deferred_after_ms: raw.deferred.after_ms,
        deferred_after_bytes: raw.deferred.after_bytes,
        hello_ms: raw.hello_ms,
        dead_ms: raw.dead_ms,
        hold_ms: raw.hold_ms,
    })
}

fn number(value: u32, key: &str, node: &Node, checker: &mut Checker<'_>) -> Option<u8> {
    checker
        .in_range(node, key, value, 1..=LAST_NUMBER)
        .then(|| u8::try_from(value).ok())
        .flatten()
}

fn times(raw: &RawReplication, node: &Node, checker: &mut Checker<'_>) {
    let deferred = node.get("deferred");
    checker.in_range(deferred, "after_ms", raw.deferred.after_ms, 1..=3_600_000);
    checker.in_range(
        deferred,
        "after_bytes",
        raw.deferred.after_bytes,
        1..=1_000_000_000,
    );
    checker.in_range(node, "hold_ms", raw.hold_ms, 1..=1_000);
    let fits = checker.in_range(node, "hello_ms", raw.hello_ms, 10..=10_000);
    let fits = checker.in_range(node, "dead_ms", raw.dead_ms, 30..=60_000) && fits;
    let least_ms = HELLOS_UNTIL_DEAD * raw.hello_ms.min(10_000);
    if fits && raw.dead_ms < least_ms {
        let key = if node.has("dead_ms") {
            "dead_ms"
        } else {
            "hello_ms"
        };
        checker.error(
            node.get(key).mark,
            format!(
                "a guard that says every {} ms that it lives would count as dead after {} ms",
                raw.hello_ms, raw.dead_ms
            ),
            format!("write a `dead_ms` of at least {least_ms}"),
        );
    }
}

/// Where all peers are reached at once.
fn group(raw: &RawReplication, node: &Node, checker: &mut Checker<'_>) -> Option<IpAddr> {
    let Some(text) = &raw.group else {
        return raw.broadcast.0.then_some(Ipv4Addr::BROADCAST.into());
    };
    let mark = node.get("group").mark;
    if raw.broadcast.0 {
        checker.error(
            node.get("broadcast").key_mark(),
            "the guards have both a group and broadcast",
            "keep one of the two",
        );
    }
    let group = address(checker, mark, text)?;
    if !group.is_multicast() {
        checker.error(
            mark,
            format!("{group} is no multicast group"),
            "write one such as `239.1.2.3` or `\"ff02::4790\"`",
        );
        return None;
    }
    Some(group)
}

fn peers(
    raw: &RawReplication,
    own: Option<u8>,
    has_group: bool,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Vec<Peer> {
    let node = node.get("peers");
    if raw.peers.is_empty() || raw.peers.len() >= MAX_PEERS {
        checker.error(
            node.mark,
            format!("there cannot be {} other guards", raw.peers.len()),
            format!("write 1 to {}", MAX_PEERS - 1),
        );
    }
    let mut peers: Vec<Peer> = Vec::new();
    for (index, raw) in raw.peers.iter().enumerate() {
        let node = node.item(index);
        let number = number(raw.number, "number", node, checker);
        if number.is_some() && number == own {
            checker.error(
                node.get("number").mark,
                format!("{} is this guard's own number", raw.number),
                "write the other guard's number: its profile's `own`",
            );
        }
        let address = peer_address(raw, has_group, node, checker);
        let Some(number) = number else { continue };
        if peers.iter().any(|other| other.number == number) {
            checker.error(
                node.get("number").mark,
                format!("two guards have the number {number}"),
                "give each guard a number of its own",
            );
        }
        if address.is_some() && peers.iter().any(|other| other.address == address) {
            checker.error(
                node.get("address").mark,
                "two guards have this address",
                "write each guard once, with its own address",
            );
        }
        peers.push(Peer { number, address });
    }
    one_family(&peers, node, checker);
    peers
}

fn peer_address(
    raw: &RawPeer,
    has_group: bool,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<IpAddr> {
    match &raw.address {
        Some(_) if has_group => {
            checker.error(
                node.get("address").key_mark(),
                "the guards are reached as a group, so none has an address here",
                "take the address away, or `group` and `broadcast`",
            );
            None
        }
        Some(text) => address(checker, node.get("address").mark, text),
        None if has_group => None,
        None => {
            checker.error(
                node.mark,
                format!("guard {} has no address", raw.number),
                "add `address: …`, or `group: …` for all guards",
            );
            None
        }
    }
}

fn one_family(peers: &[Peer], node: &Node, checker: &mut Checker<'_>) {
    let mut addresses = peers.iter().filter_map(|peer| peer.address);
    if let Some(first) = addresses.next()
        && let Some(other) = addresses.find(|other| other.is_ipv4() != first.is_ipv4())
    {
        checker.error(
            node.mark,
            format!("{first} and {other} are of different families"),
            "reach all guards by IPv4, or all by IPv6",
        );
    }
}

/// Each peer must be reached through the port that it is heard on.
fn check_ways(
    peers: &[Peer],
    port: usize,
    scene: &Scene<'_>,
    node: &Node,
    checker: &mut Checker<'_>,
) {
    let name = &scene.ports[port].name;
    for (index, peer) in peers.iter().enumerate() {
        let Some(address) = peer.address.filter(|_| scene.whole) else {
            continue;
        };
        let mark = node.item(index).get("address").mark;
        check_way(address, port, name, mark, scene, checker);
    }
}

fn check_way(
    address: IpAddr,
    port: usize,
    name: &str,
    mark: Mark,
    scene: &Scene<'_>,
    checker: &mut Checker<'_>,
) {
    let mut owns = scene.ports.iter().flat_map(|port| &port.addresses);
    if owns.any(|own| own.address == address) {
        checker.error(
            mark,
            format!("{address} is this guard's own address"),
            "write the other guard's address",
        );
        return;
    }
    let what = match port_towards(address, scene.ports, scene.routes) {
        Some(towards) if towards == port => return,
        Some(towards) => format!(
            "the guard {address} is reached through port `{}`, not through `{name}`",
            scene.ports[towards].name
        ),
        None => format!("the guard {address} is on no port's net, and no route leads to it"),
    };
    checker.error(
        mark,
        what,
        format!("write its address in a net of `{name}`, or add a route"),
    );
}

/// The address of ours that the others hear us from.
fn own_address(
    port: &Port,
    peers: &[Peer],
    group: Option<IpAddr>,
    node: &Node,
    scene: &Scene<'_>,
    checker: &mut Checker<'_>,
) -> Option<IpAddr> {
    let first = peers.iter().find_map(|peer| peer.address);
    let of_family = group.or(first)?;
    let on_net = port
        .addresses
        .iter()
        .find(|own| first.is_some_and(|first| own.net().contains(first)));
    let mut of_it = port.addresses.iter();
    let own = on_net.or_else(|| of_it.find(|own| own.address.is_ipv4() == of_family.is_ipv4()));
    if own.is_none() && scene.whole {
        checker.error(
            node.get("port").mark,
            format!(
                "port `{}` has no {} address, so the other guards cannot be reached through it",
                port.name,
                if of_family.is_ipv4() { "IPv4" } else { "IPv6" },
            ),
            format!("give `{}` an address", port.name),
        );
    }
    own.map(|own| own.address)
}
