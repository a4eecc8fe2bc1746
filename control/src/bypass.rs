//! Ways past the guard through the machine's kernel.
//!
//! A port on a kernel interface (`net_af_packet`, `net_af_xdp`) shares its frames with the kernel. One
//! that forwards carries a copy of each of them to the servers, with no cookie asked for.
//!
//! What decides (tried with packets by the end-to-end tests):
//! - IPv4: `forwarding` of the interface that the packet comes by; neither that of `all` nor of the interface
//!   that it leaves by.
//! - IPv6: `forwarding` of `all`, or `force_forwarding` of the interface; not the interface's `forwarding`.
//! - A route to the server by another interface, in any table.
//! - For IPv4 with `rp_filter`, that an address or a route stands on the interface: else no source is taken.
//! - A bridge forwards what its ports get, whatever the sysctls say, with and without `br_netfilter`.
//!
//! Everything is read below a root folder, so that a test hands in a fixture tree in place of `/`.

mod routes;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use self::routes::Routes;
use crate::failure::Failure;
use crate::profile::{Device, GuardMode, KernelForwarding, Link, Profile};

/// How the kernel carries packets on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// It forwards IPv4 that comes in by the interface.
    Ipv4,
    /// It forwards IPv6 that comes in by the interface.
    Ipv6,
    /// A bridge joins the interface and that of the inside port.
    Bridge(String),
}

/// One way past the guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bypass {
    /// The profile's port that clients' frames come by.
    port: String,
    /// The kernel's interface that takes a copy of them: the port's own, or one that stands on it.
    interface: String,
    way: Way,
}

impl Bypass {
    /// The command that closes it.
    #[must_use]
    pub fn cure(&self) -> String {
        // With slashes a name may have dots, as those of VLANs do.
        match &self.way {
            Way::Ipv4 => format!("sysctl -w net/ipv4/conf/{}/forwarding=0", self.interface),
            Way::Ipv6 => format!("sysctl -w net/ipv6/conf/{}/disable_ipv6=1", self.interface),
            Way::Bridge(_) => format!("ip link set {} nomaster", self.interface),
        }
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            port, interface, ..
        } = self;
        match &self.way {
            Way::Ipv4 => write!(
                out,
                "the kernel forwards IPv4 from {interface}, where port {port} stands, past the guard"
            ),
            Way::Ipv6 => write!(
                out,
                "the kernel forwards IPv6 from {interface}, where port {port} stands, past the guard"
            ),
            Way::Bridge(bridge) => write!(
                out,
                "the kernel's bridge {bridge} joins {interface}, where port {port} stands, to the \
                 inside port, past the guard"
            ),
        }
    }
}

/// Whether the profile's guard keeps unproved clients from any server.
fn protects(profile: &Profile) -> bool {
    let guard = profile.guard.as_ref();
    guard.is_some_and(|guard| {
        matches!(guard.mode, GuardMode::Always | GuardMode::OnFlood) && !guard.protect.is_empty()
    })
}

/// Whether a way past the guard keeps the profile from running.
#[must_use]
pub fn is_refused(profile: &Profile) -> bool {
    let guard = profile.guard.as_ref();
    protects(profile)
        && guard.is_some_and(|guard| guard.kernel_forwarding == KernelForwarding::Refuse)
}

/// What is read of the kernel.
pub struct Kernel {
    /// Its files stand below.
    root: PathBuf,
    routes: Box<dyn Fn() -> Routes>,
}

impl Kernel {
    /// The kernel whose files stand below `root`. Its routes are known where that is this machine's own.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let is_own = root == Path::new("/");
        Self {
            root: root.to_owned(),
            routes: Box::new(move || match is_own {
                true => Routes::read(),
                false => Routes::Unknown,
            }),
        }
    }
}

/// The ways past the guard that the kernel has while the daemon runs, for a profile whose guard is on.
#[must_use]
pub fn find(kernel: &Kernel, profile: &Profile) -> Vec<Bypass> {
    ways(kernel, profile, |port| {
        !is_taken_whole(kernel, profile, port)
    })
}

/// Those that are shut while the daemon runs only: all that comes by the port goes to its AF_XDP
/// sockets then, and to the kernel at any other time.
#[must_use]
pub fn find_without_daemon(kernel: &Kernel, profile: &Profile) -> Vec<Bypass> {
    ways(kernel, profile, |port| {
        is_taken_whole(kernel, profile, port)
    })
}

/// The ways by those ports of clients that are to be looked at.
fn ways(kernel: &Kernel, profile: &Profile, is_of_interest: impl Fn(usize) -> bool) -> Vec<Bypass> {
    let root = &kernel.root;
    let Some(guard) = profile
        .guard
        .as_ref()
        .filter(|one| one.mode != GuardMode::Off)
    else {
        return Vec::new();
    };
    let servers = guard.protect.iter().map(|one| one.server);
    let (ipv4, ipv6): (Vec<_>, Vec<_>) = servers.partition(IpAddr::is_ipv4);
    // Reading them costs, and where nothing forwards they do not matter.
    let routes = OnceCell::new();
    let routes = || routes.get_or_init(|| (kernel.routes)());
    let inside = interface_of(profile, guard.inside);
    let inside = inside.map_or_else(BTreeSet::new, |inside| stacked_on(root, inside));
    let mut found = BTreeSet::new();
    let clients = (0..profile.ports.len()).filter(|&port| port != guard.inside);
    for port in clients.filter(|&port| is_of_interest(port)) {
        let Some(own) = interface_of(profile, port) else {
            continue;
        };
        let all = stacked_on(root, own);
        let mut add = |interface: &str, way: Way| {
            found.insert(Bypass {
                port: profile.ports[port].name.clone(),
                interface: interface.to_owned(),
                way,
            });
        };
        for interface in &all {
            let index = index_of(root, interface);
            let leads_to = |servers: &[IpAddr]| {
                let mut servers = servers.iter();
                servers.any(|&server| routes().lead_past(index, server))
            };
            let takes_any_source = || {
                let indices: Vec<_> = all.iter().map(|one| index_of(root, one)).collect();
                !filters_sources(root, interface) || routes().name_for_ipv4(&indices)
            };
            if forwards_ipv4(root, interface) && leads_to(&ipv4) && takes_any_source() {
                add(interface, Way::Ipv4);
            }
            if forwards_ipv6(root, interface) && leads_to(&ipv6) {
                add(interface, Way::Ipv6);
            }
        }
        let shared = all.intersection(&inside);
        if let Some(bridge) = shared.clone().find(|one| is_bridge(root, one))
            && !guard.protect.is_empty()
        {
            add(own, Way::Bridge(bridge.clone()));
        }
    }
    found.into_iter().collect()
}

/// Refuses to start where the kernel forwards past the guard and the profile does not allow it.
///
/// # Errors
/// The first such way and its cure.
pub fn refuse(kernel: &Kernel, profile: &Profile) -> Result<(), Failure> {
    if !is_refused(profile) {
        return Ok(());
    }
    match find(kernel, profile).first() {
        None => Ok(()),
        Some(way) => Err(Failure::new(
            way.to_string(),
            format!(
                "{}, or, where that is meant, set `guard.kernel_forwarding: warn`",
                way.cure()
            ),
        )),
    }
}

/// A port's device: its own, or that of the port whose VLAN it is.
fn device_of(profile: &Profile, port: usize) -> Option<&Device> {
    match &profile.ports[port].link {
        Link::Device(device) => Some(device),
        Link::Parent(parent) => match &profile.ports[*parent].link {
            Link::Device(device) => Some(device),
            Link::Parent(_) => None,
        },
    }
}

/// The kernel's interface that a port stands on.
fn interface_of(profile: &Profile, port: usize) -> Option<&str> {
    device_of(profile, port)?.kernel_interface()
}

/// Whether the kernel sees nothing of what comes by a port while the daemon runs: AF_XDP's program takes
/// it before the kernel looks, but for what comes in queues that no socket stands on. What a program of
/// the operator's own leaves to the kernel nobody knows.
fn is_taken_whole(kernel: &Kernel, profile: &Profile, port: usize) -> bool {
    let Some(device) = device_of(profile, port).filter(|device| device.is_xdp_socket()) else {
        return false;
    };
    let Some(name) = device.kernel_interface() else {
        return false;
    };
    let folder = kernel.root.join("sys/class/net").join(name).join("queues");
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let queues: Vec<Option<u16>> = names
        .filter_map(|name| name.strip_prefix("rx-").map(|number| number.parse().ok()))
        .collect();
    let taken = device.xdp_queues(profile.runtime.workers.len());
    let is_taken = |queue: &Option<u16>| queue.is_some_and(|queue| taken.contains(&queue));
    !queues.is_empty() && queues.iter().all(is_taken) && device.argument("xdp_prog").is_none()
}

/// An interface and all that stand on it: VLANs, bridges, bonds. They take its frames, too.
fn stacked_on(root: &Path, interface: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut next = vec![interface.to_owned()];
    while let Some(name) = next.pop() {
        let folder = fs::read_dir(root.join("sys/class/net").join(&name));
        if !all.insert(name) {
            continue;
        }
        let names = folder.into_iter().flatten().flatten();
        next.extend(names.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("upper_").map(str::to_owned)
        }));
    }
    all
}

/// A bridge of the kernel's own, or Open vSwitch, which is one device for all of its bridges.
fn is_bridge(root: &Path, interface: &str) -> bool {
    let own = root.join("sys/class/net").join(interface).join("bridge");
    interface == "ovs-system" || own.exists()
}

fn number(root: &Path, path: &str) -> Option<u32> {
    let text = fs::read_to_string(root.join(path)).ok()?;
    text.trim().parse().ok()
}

fn is_set(root: &Path, path: &str) -> bool {
    number(root, &format!("proc/sys/net/{path}")).is_some_and(|value| value != 0)
}

/// The kernel's number of an interface; routes name it so.
fn index_of(root: &Path, interface: &str) -> Option<u32> {
    number(root, &format!("sys/class/net/{interface}/ifindex"))
}

/// The interface that a packet comes by decides; `ip_forward` sets all of them.
fn forwards_ipv4(root: &Path, interface: &str) -> bool {
    is_set(root, &format!("ipv4/conf/{interface}/forwarding"))
}

/// Whether IPv4 is dropped whose source is not routed by the interface. Where an interface has neither an
/// address nor a route, that is all of it, even of the loose kind. The stricter of the two settings holds.
fn filters_sources(root: &Path, interface: &str) -> bool {
    let mut places = ["all", interface].into_iter();
    places.any(|place| is_set(root, &format!("ipv4/conf/{place}/rp_filter")))
}

/// Of IPv6, the switch for all decides, or `force_forwarding`, which newer kernels have. The
/// interface's own `forwarding` only tells a router from a host.
fn forwards_ipv6(root: &Path, interface: &str) -> bool {
    let own = |key: &str| is_set(root, &format!("ipv6/conf/{interface}/{key}"));
    (is_set(root, "ipv6/conf/all/forwarding") || own("force_forwarding")) && !own("disable_ipv6")
}

#[cfg(test)]
mod tests;
