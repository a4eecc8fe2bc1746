//! What a reload may change, and what it may not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use dataplane::command::WorkerStatus;
use dataplane::guard::cookie::CookieKey;
use dataplane::limits::MAX_PLACES;
use dataplane::replicate::keys::ReplicationKey;

use super::replication;
use crate::configuration;
use crate::profile::{self, Link, Machine, Profile, Runtime, Strictness};
use crate::protection::Change;

/// A profile that can take the place of the one that is in force.
pub(super) struct Fresh {
    pub(super) profile: Profile,
    pub(super) keys: Vec<CookieKey>,
    pub(super) replication_keys: Vec<ReplicationKey>,
}

/// Reads the profile and its keys, and checks that they can be taken over while packets flow.
///
/// # Errors
/// Everything that is wrong, or cannot change without a restart.
pub(super) fn read(file: &Path, machine: &Machine, running: &Profile) -> Result<Fresh, String> {
    let loaded = profile::load_for(file, machine, Strictness::Run);
    let loaded = loaded.map_err(|errors| errors.to_string())?;
    let fixed = fixed_keys(running, &loaded.profile);
    if !fixed.is_empty() {
        return Err(format!(
            "{}: {} cannot change while the daemon runs; put {} back, or restart the daemon",
            file.display(),
            fixed.join(", "),
            if fixed.len() == 1 { "it" } else { "them" },
        ));
    }
    for line in loaded.warnings.list {
        tracing::warn!("{}:{line}", file.display());
    }
    let keys = configuration::cookie_keys(&loaded.profile).map_err(|error| error.to_string())?;
    let replication_keys = replication::keys(&loaded.profile).map_err(|error| error.to_string())?;
    Ok(Fresh {
        profile: loaded.profile,
        keys,
        replication_keys,
    })
}

/// The keys whose values differ and cannot change without a restart.
fn fixed_keys(running: &Profile, fresh: &Profile) -> Vec<String> {
    let mut keys = runtime_keys(&running.runtime, &fresh.runtime);
    if running.name != fresh.name {
        // Names that follow from it need no mention.
        keys.retain(|key| {
            !["runtime.file_prefix", "runtime.control_socket"].contains(&key.as_str())
        });
        keys.insert(0, "appliance.name".into());
    }
    let names = |profile: &Profile| -> Vec<String> {
        profile.ports.iter().map(|port| port.name.clone()).collect()
    };
    if names(running) != names(fresh) {
        keys.push("the names and order of `ports`".into());
        return keys;
    }
    if wire_ends(running) != wire_ends(fresh) {
        keys.push("guard.wire".into());
    }
    for (before, after) in running.ports.iter().zip(&fresh.ports) {
        let name = &before.name;
        if before.link != after.link {
            let key = match (&before.link, &after.link) {
                (Link::Device(_), Link::Device(_)) => "device",
                _ => "parent",
            };
            keys.push(format!("ports.{name}.{key}"));
        }
        if before.vlan != after.vlan {
            keys.push(format!("ports.{name}.vlan"));
        }
        if before.mtu_bytes < after.mtu_bytes {
            keys.push(format!("ports.{name}.mtu (to a larger one)"));
        }
    }
    keys.extend(replication_fixed(running, fresh));
    keys
}

/// Who the other guards are and how they are reached: all but keys, and when sessions are shared.
fn replication_fixed(running: &Profile, fresh: &Profile) -> Vec<String> {
    let (before, after) = match (&running.replication, &fresh.replication) {
        (None, None) => return Vec::new(),
        (Some(before), Some(after)) => (before, after),
        _ => return vec!["`replication` as a whole".into()],
    };
    [
        ("port", before.port != after.port),
        ("port's address", before.address != after.address),
        ("own", before.own != after.own),
        ("peers", before.peers != after.peers),
        ("group", before.group != after.group),
        ("udp_port", before.udp_port != after.udp_port),
        ("hello_ms", before.hello_ms != after.hello_ms),
        ("dead_ms", before.dead_ms != after.dead_ms),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(key, _)| format!("replication.{key}"))
    .collect()
}

/// Between which ports there is a transparent wire.
fn wire_ends(profile: &Profile) -> Option<(usize, usize)> {
    let guard = profile
        .guard
        .as_ref()
        .filter(|guard| guard.wire.is_some())?;
    Some((guard.outside, guard.inside))
}

fn runtime_keys(running: &Runtime, fresh: &Runtime) -> Vec<String> {
    let workers_differ = running.workers != fresh.workers
        && !(running.workers_are_automatic && fresh.workers_are_automatic);
    [
        ("workers", workers_differ),
        ("control_core", running.control_core != fresh.control_core),
        ("poll", running.poll != fresh.poll),
        ("huge_pages", running.huge_pages != fresh.huge_pages),
        ("memory_mib", running.memory_mib != fresh.memory_mib),
        ("file_prefix", running.file_prefix != fresh.file_prefix),
        (
            "control_socket",
            running.control_socket != fresh.control_socket,
        ),
        ("metrics", running.metrics != fresh.metrics),
        ("log.format", running.log.format != fresh.log.format),
        ("sessions", running.sessions != fresh.sessions),
        ("core_dumps", running.core_dumps != fresh.core_dumps),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(key, _)| format!("runtime.{key}"))
    .collect()
}

/// What changes in what is protected.
///
/// # Errors
/// When something is protected less, and nobody has allowed that.
pub(super) fn protection(
    file: &Path,
    running: &Profile,
    fresh: &Profile,
    allow_unguarded: bool,
) -> Result<Change, String> {
    let change = Change::between(running, fresh);
    if change.less.is_empty() || allow_unguarded {
        return Ok(change);
    }
    Err(format!(
        "{}: it protects less than the profile in force: {}; correct it, or, where that is meant, \
         run `tidegate reload --allow-unguarded`",
        file.display(),
        change.less.join(", "),
    ))
}

/// Whether every worker has a place for each protected server of the new profile, beside those that
/// keep theirs for sessions of before.
///
/// # Errors
/// When one has not.
pub(super) fn places(file: &Path, fresh: &Profile, workers: &[WorkerStatus]) -> Result<(), String> {
    let guard = fresh.guard.iter().flat_map(|guard| &guard.protect);
    let wanted: BTreeSet<IpAddr> = guard.map(|one| one.server).collect();
    for (number, status) in workers.iter().enumerate() {
        let rows = status.servers.iter().filter(|row| row.keeps_place);
        let kept = rows.map(|row| IpAddr::from(row.address));
        let kept = kept.filter(|address| !wanted.contains(address)).count();
        if wanted.len() + kept > MAX_PLACES {
            return Err(format!(
                "{}: worker {number} has no place for {} of the {} protected servers: {kept} that have \
                 left `protect` keep theirs until their last session has ended and their last \
                 cookie is void; reload again later, in steps, or restart the daemon",
                file.display(),
                wanted.len() + kept - MAX_PLACES,
                wanted.len(),
            ));
        }
    }
    Ok(())
}

/// Whether the neighbours must be told of addresses.
pub(super) fn addresses_changed(running: &Profile, fresh: &Profile) -> bool {
    let mut ports = running.ports.iter().zip(&fresh.ports);
    ports.any(|(before, after)| before.addresses != after.addresses)
}

/// What is in force, in a few words.
pub(super) fn summary(profile: &Profile) -> String {
    let servers = profile
        .guard
        .as_ref()
        .map_or(0, |guard| guard.protect.len());
    format!(
        "{} rules, {} routes, {servers} protected servers",
        profile.rules.len(),
        profile.routes.len()
    )
}

/// The sections whose values differ. Files of keys are read anew each time.
pub(super) fn changed(before: &Profile, after: &Profile) -> String {
    let sections = [
        ("runtime.log", before.runtime.log != after.runtime.log),
        ("ports", before.ports != after.ports),
        ("routes", before.routes != after.routes),
        ("guard", before.guard != after.guard),
        ("replication", before.replication != after.replication),
        (
            "rules",
            before.rules != after.rules || before.default_action != after.default_action,
        ),
    ];
    let names = sections.iter().filter(|(_, differs)| *differs);
    let names: Vec<_> = names.map(|(name, _)| *name).collect();
    if names.is_empty() {
        "nothing else differs from the profile before".into()
    } else {
        format!("changed sections: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use dataplane::command::ServerRow;
    use dataplane::guard::server::ServerTraits;
    use dataplane::wire::address::{Address, Family};

    use super::*;

    fn profile(text: &str) -> Profile {
        let machine = Machine {
            cores: vec![0, 1, 2, 3],
            isolated_cores: Vec::new(),
        };
        profile::parse(text, Path::new("p.yaml"), &machine, Strictness::Check)
            .expect("a good profile")
            .profile
    }

    // CASES 28
    #[test]
    fn what_cannot_change_is_named() {
        let running = profile(
            "appliance: { name: a }\nruntime: { workers: [1], poll: busy }\n\
             ports: { x: { device: net_null0, mtu: 1400 }, y: { device: net_null1 } }",
        );
        assert!(fixed_keys(&running, &running).is_empty());
        let fresh = profile(
            "appliance: { name: b }\nruntime: { workers: [1, 2], poll: adaptive }\n\
             ports: { x: { device: net_null7, mtu: 1500 }, y: { parent: x, vlan: 7 } }",
        );
        assert_eq!(
            fixed_keys(&running, &fresh),
            [
                "appliance.name",
                "runtime.workers",
                "runtime.poll",
                "ports.x.device",
                "ports.x.mtu (to a larger one)",
                "ports.y.parent",
                "ports.y.vlan",
            ]
        );
        let renamed = profile(
            "appliance: { name: a }\nruntime: { workers: [1], poll: busy }\n\
             ports: { z: { device: net_null0, mtu: 1400 }, y: { device: net_null1 } }",
        );
        assert_eq!(
            fixed_keys(&running, &renamed),
            ["the names and order of `ports`"]
        );
    }

    #[test]
    fn rules_addresses_and_a_smaller_mtu_can_change() {
        let running = profile(
            "runtime: { workers: [1] }\nports: { x: { device: net_null0, address: [10.0.0.1/24] } }",
        );
        let fresh = profile(
            "runtime: { workers: [1], log: { level: debug } }\n\
             ports: { x: { device: net_null0, mtu: 1400, address: [10.0.0.2/24] } }\n\
             rules: [ { default: deny } ]",
        );
        assert!(fixed_keys(&running, &fresh).is_empty());
        assert!(addresses_changed(&running, &fresh));
        assert!(!addresses_changed(&running, &running));
    }

    #[test]
    fn i3_a_reload_tells_the_sections_that_changed() {
        let text = "runtime: { workers: [1] }\nports: { x: { device: net_null0, address: [10.0.0.1/24] } }";
        let running = profile(text);
        assert!(changed(&running, &running).starts_with("nothing"));
        let fresh = profile(&format!("{text}\nrules: [ {{ default: deny }} ]"));
        assert_eq!(changed(&running, &fresh), "changed sections: rules");
        let other = profile(
            &text
                .replace("10.0.0.1", "10.0.0.2")
                .replace("[1] }", "[1], log: { level: debug } }"),
        );
        assert_eq!(
            changed(&running, &other),
            "changed sections: runtime.log, ports"
        );
    }

    // C1
    #[test]
    fn c1_servers_that_find_no_place_are_a_reason_to_refuse() {
        let row = |n: u32| ServerRow {
            address: Address::from_v4((0x0a01_0000 + n).to_be_bytes()),
            port: None,
            is_learned: false,
            traits: ServerTraits::assumed(Family::V4),
            echo: None,
            keeps_place: true,
        };
        let worker = |kept: usize| WorkerStatus {
            servers: (0..kept as u32).map(row).collect(),
            ..WorkerStatus::default()
        };
        let fresh = profile(
            "runtime: { workers: [1] }\n\
             ports: { x: { device: net_null0, address: 10.0.0.1/8 }, y: { device: net_null1 } }\n\
             guard: { outside: y, inside: x, protect: [ { server: 10.1.0.0, ports: 80 }, \
             { server: 10.2.0.0, ports: 80 } ] }",
        );
        let fits = |kept: usize| places(Path::new("p.yaml"), &fresh, &[worker(1), worker(kept)]);
        // One of the two is among those that are there.
        assert_eq!(fits(MAX_PLACES - 1), Ok(()));
        let refusal = fits(MAX_PLACES).unwrap_err();
        assert!(
            refusal.starts_with(
                "p.yaml: worker 1 has no place for 1 of the 2 protected servers: 2047"
            ),
            "{refusal}"
        );
    }
}
