//! The `guard` section.

use std::net::IpAddr;

use dataplane::guard::cookie::MAX_AGE_S;
use dataplane::limits::{MAX_PORT_RANGES, MAX_SERVERS};

use super::Checker;
use super::routes::port_towards;
use super::wire;
use super::words::{address, joined, port_ranges};
use crate::profile::keys::{self, KeyFileError};
use crate::profile::model::{
    Guard, GuardLimits, GuardMode, GuardTimers, KernelForwarding, OnFlood, Port, PortRange,
    Protected, Route, ServerOverrides, Unknown,
};
use crate::profile::raw::{
    RawGuard, RawGuardLimits, RawGuardMode, RawGuardTimers, RawKernelForwarding, RawOnFlood,
    RawProtected, RawUnknown,
};
use crate::profile::raw_words::Word;
use crate::profile::raw_words::truth_of;
use yaml::{Mark, Node};

const COOKIE_LIFETIME_S: u32 = MAX_AGE_S as u32;
/// Headers of IP and TCP with no options (RFC 9293 §3.7.1).
const HEADER_BYTES_IPV4: u16 = 40;
const HEADER_BYTES_IPV6: u16 = 60;

/// What the guard stands in.
pub(super) struct Scene<'a> {
    pub(super) ports: &'a [Port],
    pub(super) routes: &'a [Route],
    /// Whether ports and routes are free of errors, so that reachability can be judged.
    pub(super) whole: bool,
}

pub(super) fn resolve(
    raw: &RawGuard,
    scene: &Scene<'_>,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<Guard> {
    let outside = checker.port(scene.ports, node.get("outside"), &raw.outside);
    let inside = checker.port(scene.ports, node.get("inside"), &raw.inside);
    let same = outside.is_some() && outside == inside;
    if same {
        checker.error(
            node.get("inside").mark,
            format!("`{}` is both the outside and the inside port", raw.inside),
            "write the port that faces the servers",
        );
    }
    // Nothing can be said of what is reached through a wrong port.
    let inside = inside.filter(|_| !same);
    let mode = match raw.mode {
        RawGuardMode::Always => GuardMode::Always,
        RawGuardMode::OnFlood => GuardMode::OnFlood,
        RawGuardMode::Monitor => GuardMode::Monitor,
        RawGuardMode::Off => GuardMode::Off,
    };
    let wire = raw.wire.as_ref().map(|raw| wire::echo(raw.echo));
    let protect = protect(raw, inside, scene, node, checker);
    if raw.protect.is_empty() && mode != GuardMode::Off {
        checker.warning(
            node.key_mark(),
            "the guard protects no server",
            "add `protect: [ { server: …, ports: [80, 443] } ]`, or `mode: off`",
        );
    }
    let keys_path = checker.path(&raw.keys);
    if mode != GuardMode::Off {
        check_keys(&keys_path, node.get("keys").mark, checker);
    }
    Some(Guard {
        outside: outside?,
        inside: inside?,
        mode,
        protect,
        keys: keys_path,
        on_flood: on_flood(&raw.on_flood, node.get("on_flood"), checker),
        timers: timers(&raw.timers, node.get("timers"), checker),
        limits: limits(&raw.limits, node.get("limits"), checker),
        unknown: match raw.unknown {
            RawUnknown::Drop => Unknown::Drop,
            RawUnknown::Reset => Unknown::Reset,
        },
        kernel_forwarding: match raw.kernel_forwarding {
            RawKernelForwarding::Refuse => KernelForwarding::Refuse,
            RawKernelForwarding::Warn => KernelForwarding::Warn,
        },
        wire,
    })
}

fn check_keys(path: &std::path::Path, mark: Mark, checker: &mut Checker<'_>) {
    say_of_keys(keys::load(path).err(), mark, checker);
}

/// A file that is not there yet only keeps the profile from running; one that is wrong is an error.
pub(super) fn say_of_keys(wrong: Option<KeyFileError>, mark: Mark, checker: &mut Checker<'_>) {
    match wrong {
        None => {}
        Some(wrong @ KeyFileError::Missing { .. }) => {
            checker.unfit(mark, wrong.to_string(), wrong.remedy());
        }
        Some(wrong) => checker.error(mark, wrong.to_string(), wrong.remedy()),
    }
}

fn protect(
    raw: &RawGuard,
    inside: Option<usize>,
    scene: &Scene<'_>,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Vec<Protected> {
    let node = node.get("protect");
    let is_wire = raw.wire.is_some();
    if raw.protect.len() > MAX_SERVERS {
        checker.error(
            node.mark,
            format!("{} protected servers are too many", raw.protect.len()),
            format!("write at most {MAX_SERVERS}"),
        );
        return Vec::new();
    }
    let mut all: Vec<Protected> = Vec::new();
    for (index, raw) in raw.protect.iter().enumerate() {
        let node = node.item(index);
        let server = address(checker, node.get("server").mark, &raw.server);
        let ranges = port_ranges(checker, node.get("ports"), &raw.ports);
        let Some(server) = server else { continue };
        let mark = node.get("server").mark;
        if is_a_server(server, inside, scene, mark, checker) && !is_wire {
            reachable(server, inside, scene, mark, checker);
        }
        let ports = distinct_ports(server, &ranges, &all, checker);
        let mtu_bytes = inside.map(|inside| scene.ports[inside].mtu_bytes);
        let overrides = overrides(raw, server, mtu_bytes, node, checker);
        add(
            Protected {
                server,
                ports,
                overrides,
            },
            &mut all,
            node,
            checker,
        );
    }
    all
}

/// Adds a server, or more ports of one that is there.
fn add(one: Protected, all: &mut Vec<Protected>, node: &Node, checker: &mut Checker<'_>) {
    let ranges = match all.iter_mut().find(|other| other.server == one.server) {
        None => {
            let ranges = one.ports.len();
            all.push(one);
            ranges
        }
        Some(first) => {
            if first.overrides != one.overrides {
                checker.error(
                    node.mark,
                    format!(
                        "the server {} stands here again, with other options",
                        one.server
                    ),
                    "write the same options each time: they are the server's, not the port's",
                );
            }
            first.ports = joined(first.ports.iter().copied().chain(one.ports).collect());
            first.ports.len()
        }
    };
    if ranges > MAX_PORT_RANGES {
        checker.error(
            node.get("ports").mark,
            format!("{ranges} ranges of ports of one server are too many"),
            format!("write at most {MAX_PORT_RANGES}; a range is one, however wide"),
        );
    }
}

/// Whether an address can be that of a server; says so if it cannot.
fn is_a_server(
    server: IpAddr,
    inside: Option<usize>,
    scene: &Scene<'_>,
    mark: Mark,
    checker: &mut Checker<'_>,
) -> bool {
    if inside.is_none() || !scene.whole {
        return false;
    }
    let own = scene.ports.iter().find(|port| {
        port.addresses
            .iter()
            .any(|address| address.address == server)
    });
    if let Some(own) = own {
        checker.error(
            mark,
            format!(
                "the server {server} is the appliance's own address on port `{}`",
                own.name
            ),
            "write the server's address",
        );
        return false;
    }
    if server.is_multicast() || server.is_unspecified() || server.is_loopback() {
        checker.error(
            mark,
            format!("{server} cannot be a server"),
            "write the server's address",
        );
        return false;
    }
    true
}

fn reachable(
    server: IpAddr,
    inside: Option<usize>,
    scene: &Scene<'_>,
    mark: Mark,
    checker: &mut Checker<'_>,
) {
    let Some(inside) = inside else {
        return;
    };
    let name = &scene.ports[inside].name;
    let towards = port_towards(server, scene.ports, scene.routes);
    if towards == Some(inside) {
        return;
    }
    let what = match towards {
        Some(port) => format!(
            "the server {server} is reached through port `{}`, not through the inside port `{name}`",
            scene.ports[port].name
        ),
        None => format!("the server {server} is on no port's net, and no route leads to it"),
    };
    checker.error(
        mark,
        what,
        format!(
            "give `{name}` an address in the server's net, or add a route with a next hop there"
        ),
    );
}

fn distinct_ports(
    server: IpAddr,
    ranges: &[(PortRange, Mark)],
    all: &[Protected],
    checker: &mut Checker<'_>,
) -> Vec<PortRange> {
    let mut seen: Vec<PortRange> = all
        .iter()
        .filter(|other| other.server == server)
        .flat_map(|other| other.ports.iter().copied())
        .collect();
    let mut ports = Vec::new();
    for (range, mark) in ranges {
        let twice = seen
            .iter()
            .find(|other| other.first <= range.last && range.first <= other.last);
        if let Some(other) = twice {
            let first = other.first.max(range.first);
            checker.error(
                *mark,
                format!("port {first} of {server} is protected twice"),
                "write each server and port once",
            );
        }
        seen.push(*range);
        ports.push(*range);
    }
    joined(ports)
}

fn overrides(
    raw: &RawProtected,
    server: IpAddr,
    mtu_bytes: Option<u16>,
    node: &Node,
    checker: &mut Checker<'_>,
) -> ServerOverrides {
    if let Some(mss) = raw.mss
        && checker.in_range(node, "mss", mss, 88..=9560)
        && let Some(mtu_bytes) = mtu_bytes
    {
        let headers = if server.is_ipv4() {
            HEADER_BYTES_IPV4
        } else {
            HEADER_BYTES_IPV6
        };
        let most = mtu_bytes.saturating_sub(headers);
        if mss > u32::from(most) {
            checker.error(
                node.get("mss").mark,
                format!("an MSS of {mss} bytes does not fit the inside port's MTU of {mtu_bytes}"),
                format!("write at most {most}"),
            );
        }
    }
    ServerOverrides {
        mss_bytes: raw.mss.and_then(|mss| u16::try_from(mss).ok()),
        window_scale: raw
            .window_scale
            .as_ref()
            .and_then(|word| window_scale(word, node, checker)),
        timestamps: raw.timestamps.map(|truth| truth.0),
        sack: raw.sack.map(|truth| truth.0),
        ecn: raw.ecn.map(|truth| truth.0),
    }
}

/// A shift, or none at all; `None` if it is neither.
fn window_scale(Word(word): &Word, node: &Node, checker: &mut Checker<'_>) -> Option<Option<u8>> {
    if truth_of(word) == Some(false) {
        return Some(None);
    }
    let shift = word.parse().ok().filter(|shift| (0..=14).contains(shift));
    if shift.is_none() {
        checker.error(
            node.get("window_scale").mark,
            format!("`window_scale` cannot be `{word}`"),
            "write a shift from 0 to 14 (RFC 7323 §2.3), or `off`",
        );
    }
    shift.map(Some)
}

fn on_flood(raw: &RawOnFlood, node: &Node, checker: &mut Checker<'_>) -> OnFlood {
    checker.in_range(node, "hold_s", raw.hold_s, 1..=3600);
    let (enter, leave) = (raw.enter_syns_per_second, raw.leave_syns_per_second);
    if checker.in_range(node, "enter_syns_per_second", enter, 1..=1_000_000_000) && leave >= enter {
        let key = if node.has("leave_syns_per_second") {
            "leave_syns_per_second"
        } else {
            "enter_syns_per_second"
        };
        checker.error(
            node.get(key).mark,
            format!("guarding would end at {leave} SYNs a second and begin at {enter}"),
            "write a `leave_syns_per_second` below `enter_syns_per_second`, such as a quarter of it",
        );
    }
    OnFlood {
        enter_syns_per_second: enter,
        leave_syns_per_second: leave,
        hold_s: raw.hold_s,
    }
}

/// A session that is over before its cookie is dead has to be remembered beyond its end, in a memory
/// that is bounded: no time is shorter than a cookie's life.
fn timers(raw: &RawGuardTimers, node: &Node, checker: &mut Checker<'_>) -> GuardTimers {
    checker.in_range(node, "half_open_s", raw.half_open_s, 1..=120);
    syn_retries(raw, node, checker);
    checker.in_range(
        node,
        "established_idle_s",
        raw.established_idle_s,
        COOKIE_LIFETIME_S..=604_800,
    );
    checker.in_range(node, "closing_s", raw.closing_s, COOKIE_LIFETIME_S..=3600);
    checker.in_range(node, "linger_s", raw.linger_s, COOKIE_LIFETIME_S..=3600);
    checker.in_range(node, "drain_s", raw.drain_s, 0..=86_400);
    GuardTimers {
        half_open_s: raw.half_open_s,
        server_syn_retry_ms: raw.server_syn_retry_ms,
        server_syn_retries: u8::try_from(raw.server_syn_retries).unwrap_or(u8::MAX),
        established_idle_s: raw.established_idle_s,
        closing_s: raw.closing_s,
        linger_s: raw.linger_s,
        drain_s: raw.drain_s,
    }
}

fn syn_retries(raw: &RawGuardTimers, node: &Node, checker: &mut Checker<'_>) {
    let (first_ms, retries) = (raw.server_syn_retry_ms, raw.server_syn_retries);
    let first_fits = checker.in_range(node, "server_syn_retry_ms", first_ms, 50..=10_000);
    let fits = checker.in_range(node, "server_syn_retries", retries, 0..=10) && first_fits;
    // The last of n is sent (2^n - 1) times the first interval after the SYN itself.
    if fits && first_ms * ((1 << retries) - 1) > raw.half_open_s.saturating_mul(1000) {
        checker.warning(
            node.key_mark(),
            format!(
                "{retries} retries take longer than `half_open_s`, {} s",
                raw.half_open_s
            ),
            "write fewer `server_syn_retries`, or a longer `half_open_s`",
        );
    }
}

fn limits(raw: &RawGuardLimits, node: &Node, checker: &mut Checker<'_>) -> GuardLimits {
    checker.in_range(
        node,
        "half_open_per_source",
        raw.half_open_per_source,
        1..=65_535,
    );
    GuardLimits {
        half_open_per_source: raw.half_open_per_source,
    }
}
