//! From a profile to what the workers are built from.

use std::collections::BTreeMap;
use std::time::Duration;

use arrayvec::ArrayVec;
use dataplane::bridge::{Bridge, WirePort};
use dataplane::classify::{Condition, Rules};
use dataplane::echo::EchoJar;
use dataplane::guard::config::{
    Action, EchoMode, FloodThresholds, GuardConfig, InterfaceSet, Mode, ProtectedServer,
    ServerOverrides, Share, Sharing, Timers, Transparent, Unknown,
};
use dataplane::guard::cookie::{CookieJar, CookieKey, MAX_AGE_S};
use dataplane::hop::{HopConfig, Interface, ReplicationPort, Route};
use dataplane::io::{InterfaceId, PortId};
use dataplane::wire::address::{Address, Prefix};
use dataplane::wire::ethernet::MacAddress;

use crate::failure::Failure;
use crate::profile::{self, Echo, GuardMode, Link, PortRange, Profile};

const SECOND_NS: u64 = Duration::from_secs(1).as_nanos() as u64;

/// Which of a profile's ports have a device of their own, and so are ports for a worker too. All
/// of them are interfaces, in the profile's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The profile's ports with a device, in the order of [`PortId`].
    pub devices: Vec<usize>,
    /// For each of the profile's ports, the [`PortId`] of its device.
    pub ports: Vec<PortId>,
}

impl Layout {
    /// The layout of a profile.
    pub fn of(profile: &Profile) -> Self {
        let mut devices = Vec::new();
        let mut numbers = BTreeMap::new();
        for (index, port) in profile.ports.iter().enumerate() {
            if let Link::Device(_) = port.link {
                numbers.insert(index, PortId(devices.len() as u8));
                devices.push(index);
            }
        }
        let ports = profile.ports.iter().enumerate().map(|(index, port)| {
            let device = match port.link {
                Link::Device(_) => index,
                Link::Parent(parent) => parent,
            };
            numbers.get(&device).copied().unwrap_or(PortId(0))
        });
        Self {
            ports: ports.collect(),
            devices,
        }
    }
}

/// What a started device adds to what the profile says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its station address.
    pub mac: [u8; 6],
    /// The largest IP packet that it takes, in octets.
    pub mtu_bytes: u16,
}

/// The hop's configuration. `devices` is in the order of [`Layout::devices`].
pub fn hop_config(profile: &Profile, layout: &Layout, devices: &[DeviceFacts]) -> HopConfig {
    let inside = profile.guard.as_ref().map(|guard| guard.inside);
    let interfaces = profile.ports.iter().zip(&layout.ports).enumerate();
    let interfaces = interfaces.map(|(index, (port, &id))| {
        let device = devices[usize::from(id.0)];
        let addresses = port.addresses.iter();
        Interface {
            port: id,
            vlan: port.vlan,
            mac: MacAddress(device.mac),
            mtu_bytes: port.mtu_bytes.min(device.mtu_bytes),
            addresses: addresses
                .map(|own| (Address::from(own.address), prefix(own.net())))
                .collect(),
            // What is routed to the servers' side comes from there and from nowhere else.
            protected: inside == Some(index),
        }
    });
    let routes = profile.routes.iter().map(|route| Route {
        prefix: prefix(route.to),
        via: Some(Address::from(route.via)),
        interface: InterfaceId(route.port as u8),
    });
    HopConfig {
        interfaces: interfaces.collect(),
        routes: routes.collect(),
        replication: profile.replication.as_ref().map(|with| ReplicationPort {
            interface: InterfaceId(with.port as u8),
            udp_port: with.udp_port,
            group: with.group.map(Address::from),
        }),
        reserved: reserved(profile),
    }
}

/// Who keeps a place among the neighbours, if it is one: the protected servers and the peers.
fn reserved(profile: &Profile) -> Vec<Address> {
    let servers = profile.guard.iter().flat_map(|guard| &guard.protect);
    let peers = profile.replication.iter().flat_map(|with| &with.peers);
    let servers = servers.map(|server| server.server);
    let peers = peers.filter_map(|peer| peer.address);
    servers.chain(peers).map(Address::from).collect()
}

fn prefix(prefix: profile::Prefix) -> Prefix {
    Prefix::new(Address::from(prefix.address()), prefix.length())
        .expect("a profile's prefix has at most its family's bits")
}

/// The cookie keys of a profile's guard; none without a guard.
///
/// # Errors
/// When the key file cannot be used.
pub fn cookie_keys(profile: &Profile) -> Result<Vec<CookieKey>, Failure> {
    let Some(guard) = &profile.guard else {
        return Ok(Vec::new());
    };
    let epochs = profile::keys::load(&guard.keys)
        .map_err(|error| Failure::new(error.to_string(), error.remedy()))?;
    let key = |epoch: &profile::keys::KeyEpoch| CookieKey {
        not_before_s: epoch.not_before_s,
        secret: epoch.secret,
    };
    Ok(epochs.iter().map(key).collect())
}

/// One worker's configuration of the guard, of `workers` that share its bounds. `mtus` are the
/// interfaces' own, as the hop has them.
///
/// # Errors
/// When the rules or the servers are beyond a bound.
pub fn guard_config(
    profile: &Profile,
    keys: &[CookieKey],
    mtus: &[u16],
    workers: usize,
) -> Result<GuardConfig, Failure> {
    let rules = profile.rules.iter();
    let rules: Vec<_> = rules
        .map(|rule| (condition(&rule.when), action_of(rule)))
        .collect();
    let rules = Rules::new(&rules, action(profile.default_action))
        .map_err(|error| Failure::new(error.to_string(), "write fewer or simpler rules"))?;
    let config = match &profile.guard {
        Some(guard) => GuardConfig {
            probe_from: probe_from(profile, guard),
            sharing: profile.replication.as_ref().map(sharing),
            transparent: transparent(profile, guard, keys, mtus),
            outside: outside(profile, guard),
            ..with_guard(guard, rules, keys, mtus, workers)?
        },
        None => without_guard(rules),
    };
    config
        .validate()
        .map_err(|sentence| Failure::new(format!("the guard cannot be set up: {sentence}"), ""))?;
    Ok(config)
}

fn with_guard(
    guard: &profile::Guard,
    rules: Rules<Action>,
    keys: &[CookieKey],
    mtus: &[u16],
    workers: usize,
) -> Result<GuardConfig, Failure> {
    if keys.is_empty() {
        let cause = format!("the key file {} has no key", guard.keys.display());
        return Err(Failure::new(
            cause,
            format!("make one with `tidegate keygen {}`", guard.keys.display()),
        ));
    }
    let part = |number: u32| u64::from(number).div_ceil(workers as u64);
    let mtu = |port: usize| mtus.get(port).copied().unwrap_or(1500);
    Ok(GuardConfig {
        outside: InterfaceSet::default().with(InterfaceId(guard.outside as u8)),
        inside: InterfaceSet::default().with(InterfaceId(guard.inside as u8)),
        mode: match guard.mode {
            GuardMode::Always => Mode::Always,
            GuardMode::OnFlood => Mode::OnFlood,
            GuardMode::Monitor => Mode::Monitor,
            GuardMode::Off => Mode::Off,
        },
        servers: guard
            .protect
            .iter()
            .map(protected)
            .collect::<Result<_, _>>()?,
        rules,
        jar: CookieJar::new(keys),
        flood: FloodThresholds {
            enter_syns_per_s: part(guard.on_flood.enter_syns_per_second),
            leave_syns_per_s: part(guard.on_flood.leave_syns_per_second),
            hold_ns: u64::from(guard.on_flood.hold_s) * SECOND_NS,
        },
        timers: timers(&guard.timers),
        half_open_per_source: part(guard.limits.half_open_per_source).min(u16::MAX.into()) as u16,
        unknown: match guard.unknown {
            profile::Unknown::Drop => Unknown::Drop,
            profile::Unknown::Reset => Unknown::Reset,
        },
        probe_from: Vec::new(),
        outside_mtu: mtu(guard.outside),
        inside_mtu: mtu(guard.inside),
        sharing: None,
        transparent: None,
    })
}

/// Where clients may come from: every port but the inside one, whichever the profile calls the outside.
/// To a wire's servers no other port leads.
fn outside(profile: &Profile, guard: &profile::Guard) -> InterfaceSet {
    let ports = (0..profile.ports.len()).filter(|&port| match guard.wire {
        Some(_) => port == guard.outside,
        None => port != guard.inside,
    });
    ports.fold(InterfaceSet::default(), |all, port| {
        all.with(InterfaceId(port as u8))
    })
}

/// What the guard has that stands in a transparent wire.
fn transparent(
    profile: &Profile,
    guard: &profile::Guard,
    keys: &[CookieKey],
    mtus: &[u16],
) -> Option<Transparent> {
    let echo = match guard.wire? {
        Echo::Auto => EchoMode::Auto,
        Echo::Always => EchoMode::Always,
        Echo::Off => EchoMode::Off,
    };
    let layout = Layout::of(profile);
    let end = |port: usize| WirePort {
        port: layout.ports[port],
        interface: InterfaceId(port as u8),
        mtu_bytes: mtus.get(port).copied().unwrap_or(1500),
    };
    Some(Transparent {
        bridge: Bridge {
            outside: end(guard.outside),
            inside: end(guard.inside),
        },
        echo,
        jar: EchoJar::new(keys),
    })
}

/// Our addresses among the servers, from which they are asked what they do. A guard that only
/// watches sends nothing of its own.
fn probe_from(profile: &Profile, guard: &profile::Guard) -> Vec<Address> {
    if matches!(guard.mode, GuardMode::Monitor | GuardMode::Off) {
        return Vec::new();
    }
    let addresses = profile.ports[guard.inside].addresses.iter();
    addresses.map(|own| Address::from(own.address)).collect()
}

/// No server is protected, so no cookie is ever made and the key does not matter.
fn without_guard(rules: Rules<Action>) -> GuardConfig {
    let key = CookieKey {
        not_before_s: 0,
        secret: [0; 16],
    };
    GuardConfig {
        outside: InterfaceSet::default(),
        inside: InterfaceSet::default(),
        mode: Mode::Off,
        servers: Vec::new(),
        rules,
        jar: CookieJar::new(&[key]),
        flood: FloodThresholds {
            enter_syns_per_s: u64::MAX,
            leave_syns_per_s: 0,
            hold_ns: 0,
        },
        timers: Timers::default(),
        half_open_per_source: 0,
        unknown: Unknown::Drop,
        probe_from: Vec::new(),
        outside_mtu: 1500,
        inside_mtu: 1500,
        sharing: None,
        transparent: None,
    }
}

fn protected(server: &profile::Protected) -> Result<ProtectedServer, Failure> {
    let mut ports = ArrayVec::new();
    for range in &server.ports {
        ports.try_push(range.first..=range.last).map_err(|_| {
            let most = ports.capacity();
            let cause = format!(
                "server {} has more than {most} ranges of ports",
                server.server
            );
            Failure::new(cause, "join ranges that lie close together")
        })?;
    }
    let overrides = server.overrides;
    Ok(ProtectedServer {
        address: Address::from(server.server),
        ports,
        overrides: ServerOverrides {
            mss: overrides.mss_bytes,
            window_scale: overrides.window_scale,
            sack: overrides.sack,
            timestamps: overrides.timestamps,
            ecn: overrides.ecn,
        },
    })
}

fn timers(timers: &profile::GuardTimers) -> Timers {
    let seconds = |seconds: u32| u64::from(seconds) * SECOND_NS;
    let half_open_ns = seconds(timers.half_open_s);
    // The interval doubles with each repetition; all of them together fit into the half-open time.
    let intervals = (1_u64 << (u32::from(timers.server_syn_retries) + 1).min(32)) - 1;
    let retry_ns = u64::from(timers.server_syn_retry_ms) * 1_000_000;
    Timers {
        server_syn_ns: retry_ns.min(half_open_ns / intervals).max(SECOND_NS / 20),
        server_syn_retries: timers.server_syn_retries,
        half_open_ns,
        established_idle_ns: seconds(timers.established_idle_s),
        closing_idle_ns: seconds(timers.closing_s),
        // A session that is forgotten while its cookie is good could be opened by it again.
        linger_ns: seconds(timers.linger_s).max(MAX_AGE_S * SECOND_NS),
    }
}

/// How sessions are shared, as the workers are told.
fn sharing(with: &profile::Replication) -> Sharing {
    Sharing {
        share: share(with.share),
        deferred_after_ns: u64::from(with.deferred_after_ms) * 1_000_000,
        deferred_after_bytes: with.deferred_after_bytes,
        hold_ns: u64::from(with.hold_ms) * 1_000_000,
    }
}

fn share(share: profile::Share) -> Share {
    match share {
        profile::Share::Begun => Share::Begun,
        profile::Share::Established => Share::Established,
        profile::Share::Deferred => Share::Deferred,
        profile::Share::Never => Share::Never,
    }
}

fn action_of(rule: &profile::Rule) -> Action {
    match (rule.then, rule.share) {
        (profile::Action::Guard, Some(when)) => Action::GuardShared(share(when)),
        (then, _) => action(then),
    }
}

fn action(action: profile::Action) -> Action {
    match action {
        profile::Action::Deny => Action::Deny,
        profile::Action::Reject => Action::Reject,
        profile::Action::Forward => Action::Forward,
        profile::Action::Guard => Action::Guard,
    }
}

/// The classifier's form of a condition.
fn condition(when: &profile::Condition) -> Condition {
    fn any<T>(list: &[T], make: impl Fn(&T) -> Condition) -> Condition {
        match list {
            [one] => make(one),
            several => Condition::Any(several.iter().map(make).collect()),
        }
    }
    let ports = |ranges: &[PortRange], make: fn(std::ops::RangeInclusive<u16>) -> Condition| {
        any(ranges, |range| make(range.first..=range.last))
    };
    match when {
        profile::Condition::All(inner) => Condition::All(inner.iter().map(condition).collect()),
        profile::Condition::Any(inner) => Condition::Any(inner.iter().map(condition).collect()),
        profile::Condition::Not(inner) => Condition::Not(Box::new(condition(inner))),
        profile::Condition::Source(list) => any(list, |net| Condition::Source(prefix(*net))),
        profile::Condition::Destination(list) => {
            any(list, |net| Condition::Destination(prefix(*net)))
        }
        profile::Condition::SourcePort(list) => ports(list, Condition::SourcePort),
        profile::Condition::DestinationPort(list) => ports(list, Condition::DestinationPort),
        profile::Condition::Protocol(list) => any(list, |number| Condition::Protocol(*number)),
        profile::Condition::Port(list) => {
            any(list, |port| Condition::Interface(InterfaceId(*port as u8)))
        }
        profile::Condition::Vlan(list) => any(list, |vlan| Condition::Vlan(*vlan)),
        profile::Condition::Fragment(expected) => Condition::Fragment(*expected),
        profile::Condition::TcpFlags(flags) => Condition::TcpFlags {
            mask: flags.set | flags.clear,
            value: flags.set,
        },
    }
}

#[cfg(test)]
mod tests;
