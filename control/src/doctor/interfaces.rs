//! The kernel's interfaces that virtual devices stand on.

use super::Report;
use crate::bypass::{self, Kernel};
use crate::profile::{Link, Port, Profile};

const NET: &str = "sys/class/net";
/// IFF_UP of netdevice(7).
const UP: u32 = 1;
/// What joins packets on the way in, so that they are larger than the MTU.
const JOINING: [&str; 2] = ["generic-receive-offload", "large-receive-offload"];
/// What a veth peer leaves undone on the way out.
const UNFINISHED: [&str; 3] = [
    "tx-checksumming",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
];

/// All that `ethtool` is asked for.
#[cfg(test)]
pub(super) const ALL_FEATURES: [&str; 5] = [
    JOINING[0],
    JOINING[1],
    UNFINISHED[0],
    UNFINISHED[1],
    UNFINISHED[2],
];

pub(super) fn examine(report: &mut Report<'_>) {
    let Some(profile) = report.profile else {
        return;
    };
    for port in &profile.ports {
        let Link::Device(device) = &port.link else {
            continue;
        };
        let Some(name) = device.kernel_interface() else {
            continue;
        };
        interface(report, port, name);
        let is_end = profile.guard.as_ref().is_some_and(|guard| {
            let ends = [guard.outside, guard.inside].map(|end| &profile.ports[end].name);
            guard.wire.is_some() && ends.contains(&&port.name)
        });
        if is_end && device.is_packet_socket() {
            first_tag(report, port, name);
        }
    }
    kernel(report, profile);
}

/// What the kernel carries past the guard is no fault of one interface.
fn kernel(report: &mut Report<'_>, profile: &Profile) {
    let kernel = Kernel::below(&report.host.root);
    let found = bypass::find(&kernel, profile);
    if found.is_empty() && profile.guard.is_some() {
        report.ok("kernel", "it forwards nothing past the guard");
    }
    let is_refused = bypass::is_refused(profile);
    for way in found {
        report.lack(is_refused, "kernel", way.to_string(), way.cure());
    }
    for way in bypass::find_without_daemon(&kernel, profile) {
        report.warn("kernel", format!("while no daemon runs, {way}"), way.cure());
    }
}

/// The kernel takes the first tag off a frame before a packet socket sees it, and DPDK's driver does
/// not say of which kind it was.
fn first_tag(report: &mut Report<'_>, port: &Port, name: &str) {
    report.warn(
        "interfaces",
        format!(
            "port `{}` is an end of a wire on packet sockets: a frame whose first tag is one of \
             802.1ad leaves with one of 802.1Q in its place",
            port.name
        ),
        format!("if the link bears 802.1ad tags, `device: \"net_af_xdp0,iface={name}\"`, or a NIC"),
    );
}

fn interface(report: &mut Report<'_>, port: &Port, name: &str) {
    let folder = format!("{NET}/{name}");
    if !report.host.exists(&folder) {
        report.fail(
            "interfaces",
            format!(
                "port `{}` stands on {name}, which is not in this name space",
                port.name
            ),
            "see `ip -brief link`; correct the profile, or start in the right name space \
             (`ip netns exec NAME tidegate run …`)",
        );
        return;
    }
    let flags = report
        .host
        .text(&format!("{folder}/flags"))
        .unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(UP);
    if flags & UP == 0 {
        report.fail(
            "interfaces",
            format!("{name} is down"),
            format!("ip link set {name} up"),
        );
    }
    let mtu_bytes: u32 = report
        .host
        .number(&format!("{folder}/mtu"))
        .unwrap_or(u32::MAX);
    if mtu_bytes < u32::from(port.mtu_bytes) {
        report.fail(
            "interfaces",
            format!(
                "{name} has an MTU of {mtu_bytes}, and port `{}` {}",
                port.name, port.mtu_bytes
            ),
            format!("ip link set {name} mtu {}", port.mtu_bytes),
        );
    }
    socket(report, port, name);
    let joining = switched_on(report, name, &JOINING);
    if joining.is_some_and(|joining| !joining.is_empty()) {
        report.warn(
            "interfaces",
            format!(
                "{name} joins packets before port `{}` sees them: they outgrow the MTU",
                port.name
            ),
            format!("ethtool -K {name} gro off lro off"),
        );
    }
    peer(report, port, name);
}

/// What the kind of socket does to what comes in.
fn socket(report: &mut Report<'_>, port: &Port, name: &str) {
    let Link::Device(device) = &port.link else {
        return;
    };
    if device.is_packet_socket() {
        if !report.host.hands_over_fragments {
            report.warn(
                "interfaces",
                format!(
                    "port `{}` will get IPv4 fragments joined by the kernel, and cut: something was \
                     loaded before this program's own `setsockopt`",
                    port.name
                ),
                "unset LD_PRELOAD",
            );
        }
        return;
    }
    let queues = report.host.names(&format!("{NET}/{name}/queues"));
    let there = queues
        .iter()
        .filter(|queue| queue.starts_with("rx-"))
        .count();
    let workers = report
        .profile
        .map_or(1, |profile| profile.runtime.workers.len());
    let taken = device.xdp_queues(workers).len();
    if there > taken {
        report.fail(
            "interfaces",
            format!(
                "{name} has {there} receive queues, and port `{}` takes {taken}: what comes by the \
                 others stays with the kernel",
                port.name
            ),
            format!(
                "ethtool -L {name} combined {taken}, or the device net_af_packet0,iface={name}"
            ),
        );
    }
}

/// The features of a list that are on; `None` if `ethtool` does not say.
fn switched_on(report: &Report<'_>, interface: &str, features: &[&str]) -> Option<Vec<String>> {
    let text = (report.host.run)("ethtool", &["-k", interface])?;
    let is_on = |feature: &&&str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(**feature)?.strip_prefix(": "));
        line.is_some_and(|value| value.starts_with("on"))
    };
    Some(
        features
            .iter()
            .filter(is_on)
            .map(|feature| (*feature).to_owned())
            .collect(),
    )
}

/// The other end of a veth, if it is in this name space. Numbers of interfaces do not tell: each
/// name space counts for itself.
fn peer_here(report: &Report<'_>, name: &str) -> Option<String> {
    let text = (report.host.run)("ip", &["-json", "link", "show", "dev", name])?;
    let links: serde_json::Value = serde_json::from_str(&text).ok()?;
    links.get(0)?.get("link")?.as_str().map(str::to_owned)
}

/// A veth peer hands over packets whose checksums and segments it left to a device.
fn peer(report: &mut Report<'_>, port: &Port, name: &str) {
    let Some(driver) = (report.host.run)("ethtool", &["-i", name]) else {
        report.warn(
            "interfaces",
            format!("the driver and the offloads of {name} cannot be read"),
            "apt-get install ethtool",
        );
        return;
    };
    if !driver.lines().any(|line| line == "driver: veth") {
        report.ok(
            "interfaces",
            format!("port `{}` stands on {name}", port.name),
        );
        return;
    }
    let cure = |peer: &str| format!("ethtool -K {peer} tx off tso off gso off gro off");
    let Some(peer) = &peer_here(report, name) else {
        report.warn(
            "interfaces",
            format!(
                "the peer of {name} is in another name space: unless its offloads are off, port \
                 `{}` receives packets with unfinished checksums",
                port.name
            ),
            format!("there: {}", cure("PEER")),
        );
        return;
    };
    match switched_on(report, peer, &UNFINISHED) {
        None => report.warn(
            "interfaces",
            format!("the offloads of {peer}, the peer of {name}, cannot be read"),
            "apt-get install ethtool",
        ),
        Some(on) if on.is_empty() => {
            report.ok(
                "interfaces",
                format!(
                    "port `{}` stands on {name}, offloads of its peer {peer} are off",
                    port.name
                ),
            );
        }
        Some(on) => report.warn(
            "interfaces",
            format!(
                "{peer}, the peer of {name}, leaves checksums or segments unfinished ({})",
                on.join(", ")
            ),
            cure(peer),
        ),
    }
}
