//! Ways past the guard through the machine's kernel.
//!
//! A port on a kernel interface (`net_af_packet`, `net_af_xdp`) shares its frames with the kernel. One
//! that forwards carries a copy of each of them to the servers, with no cookie asked for.
//!
//! Everything is read below a root folder, so that a test hands in a fixture tree in place of `/`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::profile::{GuardMode, KernelForwarding, Link, Profile};

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

/// The ways past the guard that this machine's kernel has now, for a profile whose guard is on.
#[must_use]
pub fn find(root: &Path, profile: &Profile) -> Vec<Bypass> {
    let Some(guard) = &profile.guard else {
        return Vec::new();
    };
    let is_on = guard.mode != GuardMode::Off;
    let has = |is_of_family: fn(&std::net::IpAddr) -> bool| {
        is_on && guard.protect.iter().any(|one| is_of_family(&one.server))
    };
    let (ipv4, ipv6) = (
        has(|server| server.is_ipv4()),
        has(|server| server.is_ipv6()),
    );
    let inside = interface_of(profile, guard.inside);
    let inside = inside.map_or_else(BTreeSet::new, |inside| stacked_on(root, inside));
    let mut found = BTreeSet::new();
    let clients = (0..profile.ports.len()).filter(|&port| port != guard.inside);
    for port in clients {
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
            if ipv4 && forwards_ipv4(root, interface) {
                add(interface, Way::Ipv4);
            }
            if ipv6 && forwards_ipv6(root, interface) {
                add(interface, Way::Ipv6);
            }
        }
        let shared = all.intersection(&inside);
        if let Some(bridge) = shared.clone().find(|one| is_bridge(root, one))
            && (ipv4 || ipv6)
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
pub fn refuse(root: &Path, profile: &Profile) -> Result<(), Failure> {
    if !is_refused(profile) {
        return Ok(());
    }
    match find(root, profile).first() {
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

/// The kernel's interface that shares its frames with a port.
fn interface_of(profile: &Profile, port: usize) -> Option<&str> {
    let device = match &profile.ports[port].link {
        Link::Device(device) => device,
        Link::Parent(parent) => match &profile.ports[*parent].link {
            Link::Device(device) => device,
            Link::Parent(_) => return None,
        },
    };
    let drivers = ["net_af_packet", "eth_af_packet", "net_af_xdp"];
    let is_shared = drivers
        .iter()
        .any(|driver| device.arguments.starts_with(driver));
    device.argument("iface").filter(|_| is_shared)
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

fn is_set(root: &Path, path: &str) -> bool {
    let text = fs::read_to_string(root.join("proc/sys/net").join(path));
    text.is_ok_and(|text| text.trim().parse::<u32>().is_ok_and(|value| value != 0))
}

/// The interface that a packet comes by decides; `ip_forward` sets all of them.
fn forwards_ipv4(root: &Path, interface: &str) -> bool {
    is_set(root, &format!("ipv4/conf/{interface}/forwarding"))
}

/// Of IPv6, the switch for all decides, or `force_forwarding`, which newer kernels have. The
/// interface's own `forwarding` only tells a router from a host.
fn forwards_ipv6(root: &Path, interface: &str) -> bool {
    let own = |key: &str| is_set(root, &format!("ipv6/conf/{interface}/{key}"));
    (is_set(root, "ipv6/conf/all/forwarding") || own("force_forwarding")) && !own("disable_ipv6")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Machine, Strictness, parse};

    const PROFILE: &str = r#"
runtime: { workers: [0] }
ports:
  outside: { device: "net_af_packet0,iface=out0", address: [192.0.2.1/24, "2001:db8::1/64"] }
  inside:  { device: "net_af_xdp1,iface=in0", address: [10.0.0.1/24, "fd00::1/64"] }
  third:   { device: "net_af_packet2,iface=third0", address: 10.3.0.1/24 }
guard:
  outside: outside
  inside: inside
  protect: [ { server: 10.0.0.10, ports: 80 }, { server: "fd00::10", ports: 80 } ]
"#;

    fn profile(text: &str) -> Profile {
        let machine = Machine {
            cores: vec![0, 1],
            isolated_cores: Vec::new(),
        };
        parse(text, Path::new("p.yaml"), &machine, Strictness::Check)
            .unwrap()
            .profile
    }

    /// A machine of these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn ways(files: &[(&str, &str)]) -> Vec<String> {
        let machine = machine(files);
        let found = find(machine.path(), &profile(PROFILE));
        found
            .iter()
            .map(|way| format!("{way}; {}", way.cure()))
            .collect()
    }

    #[test]
    fn c3_the_interface_that_ipv4_comes_by_decides() {
        assert_eq!(ways(&[]), [] as [&str; 0]);
        let off = [
            ("proc/sys/net/ipv4/conf/out0/forwarding", "0\n"),
            // What comes from the servers is no way to them.
            ("proc/sys/net/ipv4/conf/in0/forwarding", "1\n"),
            ("proc/sys/net/ipv4/conf/all/forwarding", "1\n"),
        ];
        assert_eq!(ways(&off), [] as [&str; 0]);
        assert_eq!(
            ways(&[("proc/sys/net/ipv4/conf/out0/forwarding", "1\n")]),
            [
                "the kernel forwards IPv4 from out0, where port outside stands, past the guard; \
                 sysctl -w net/ipv4/conf/out0/forwarding=0"
            ]
        );
        let third = ways(&[("proc/sys/net/ipv4/conf/third0/forwarding", "1\n")]);
        assert!(third[0].contains("third0"), "{third:?}");
    }

    #[test]
    fn c3_for_ipv6_the_switch_for_all_decides_where_ipv6_is_on() {
        let own = ("proc/sys/net/ipv6/conf/out0/forwarding", "1\n");
        let all = ("proc/sys/net/ipv6/conf/all/forwarding", "1\n");
        let quiet = ("proc/sys/net/ipv6/conf/third0/disable_ipv6", "1\n");
        let off = ("proc/sys/net/ipv6/conf/out0/disable_ipv6", "1\n");
        assert_eq!(ways(&[own]), [] as [&str; 0]);
        assert_eq!(
            ways(&[all, quiet]),
            [
                "the kernel forwards IPv6 from out0, where port outside stands, past the guard; \
                 sysctl -w net/ipv6/conf/out0/disable_ipv6=1"
            ]
        );
        assert_eq!(ways(&[all, quiet, off]), [] as [&str; 0]);
        let forced = ("proc/sys/net/ipv6/conf/out0/force_forwarding", "1\n");
        assert_eq!(ways(&[forced]).len(), 1);
    }

    #[test]
    fn c3_what_stands_on_an_interface_takes_its_frames_too() {
        let found = ways(&[
            ("sys/class/net/out0/upper_out0.7/x", ""),
            ("proc/sys/net/ipv4/conf/out0.7/forwarding", "1\n"),
        ]);
        assert!(
            found[0].ends_with("sysctl -w net/ipv4/conf/out0.7/forwarding=0"),
            "{found:?}"
        );
    }

    #[test]
    fn c3_a_bridge_of_both_sides_is_a_way() {
        let outside = ("sys/class/net/out0/upper_br0/x", "");
        let inside = ("sys/class/net/in0/upper_br0/x", "");
        let bridge = ("sys/class/net/br0/bridge/x", "");
        assert_eq!(
            ways(&[outside, inside, bridge]),
            [
                "the kernel's bridge br0 joins out0, where port outside stands, to the inside \
                 port, past the guard; ip link set out0 nomaster"
            ]
        );
        assert_eq!(ways(&[outside, bridge]), [] as [&str; 0]);
        // A VRF holds both and joins nothing.
        assert_eq!(ways(&[outside, inside]), [] as [&str; 0]);
    }

    #[test]
    fn c3_a_start_is_refused_where_the_guard_protects_unless_the_profile_says_warn() {
        let machine = machine(&[("proc/sys/net/ipv4/conf/out0/forwarding", "1\n")]);
        let refusal = |text: &str| refuse(machine.path(), &profile(text)).err();
        let told = refusal(PROFILE).unwrap().to_string();
        assert!(
            told.contains("from out0") && told.contains("kernel_forwarding: warn"),
            "{told}"
        );
        let with = |line: &str| format!("{PROFILE}  {line}\n");
        assert_eq!(refusal(&with("kernel_forwarding: warn")), None);
        assert_eq!(refusal(&with("mode: monitor")), None);
        let found = |text: &str| find(machine.path(), &profile(text)).len();
        assert_eq!(found(&with("mode: monitor")), 1);
        assert_eq!(found(&with("mode: off")), 0);
        assert_eq!(found(PROFILE.split("guard:").next().unwrap()), 0);
    }
}
