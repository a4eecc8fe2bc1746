//! Which settings and routes of the kernel make a way past the guard.

use std::fs;

use super::routes::Route;
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
    let found = find(&Kernel::below(machine.path()), &profile(PROFILE));
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
    let refusal = |text: &str| refuse(&Kernel::below(machine.path()), &profile(text)).err();
    let told = refusal(PROFILE).unwrap().to_string();
    assert!(
        told.contains("from out0") && told.contains("kernel_forwarding: warn"),
        "{told}"
    );
    let with = |line: &str| format!("{PROFILE}  {line}\n");
    assert_eq!(refusal(&with("kernel_forwarding: warn")), None);
    assert_eq!(refusal(&with("mode: monitor")), None);
    let found = |text: &str| find(&Kernel::below(machine.path()), &profile(text)).len();
    assert_eq!(found(&with("mode: monitor")), 1);
    assert_eq!(found(&with("mode: off")), 0);
    assert_eq!(found(PROFILE.split("guard:").next().unwrap()), 0);
}

/// A route, as `ip route show table all` would have it.
fn route(table: u32, to: &str, is_unicast: bool, interfaces: &[u32]) -> Route {
    let (destination, length) = to.split_once('/').unwrap();
    Route {
        table,
        destination: destination.parse().unwrap(),
        length: length.parse().unwrap(),
        is_unicast,
        interfaces: interfaces.to_vec(),
    }
}

/// The families in which a kernel with these routes carries packets of `out0` (2) on; `in0` is 3.
fn with_routes(rp_filter: &str, routes: &[Route]) -> Vec<Way> {
    let machine = machine(&[
        ("sys/class/net/out0/ifindex", "2\n"),
        ("proc/sys/net/ipv4/conf/out0/forwarding", "1\n"),
        ("proc/sys/net/ipv4/conf/all/rp_filter", rp_filter),
        ("proc/sys/net/ipv6/conf/all/forwarding", "1\n"),
        ("proc/sys/net/ipv6/conf/third0/disable_ipv6", "1\n"),
    ]);
    let routes = routes.to_vec();
    let kernel = Kernel {
        root: machine.path().to_owned(),
        routes: Box::new(move || Routes::All(routes.clone())),
    };
    let found = find(&kernel, &profile(PROFILE));
    found.into_iter().map(|bypass| bypass.way).collect()
}

#[test]
fn c3_a_kernel_without_a_route_to_the_server_by_another_interface_is_no_way() {
    let none: [Way; 0] = [];
    assert_eq!(with_routes("0", &[]), none);
    // Docker's, and one back to where the packet came from.
    let elsewhere = [
        route(254, "172.17.0.0/16", true, &[4]),
        route(254, "0.0.0.0/0", true, &[2]),
        route(254, "fe80::/64", true, &[3]),
    ];
    assert_eq!(with_routes("0", &elsewhere), none);
    // A router of the machine's own may know the server.
    assert_eq!(
        with_routes("0", &[route(254, "0.0.0.0/0", true, &[4])]),
        [Way::Ipv4]
    );
    assert_eq!(
        with_routes("0", &[route(254, "fd00::/64", true, &[3])]),
        [Way::Ipv6]
    );
    // Of several next hops one is enough, and so is one that is not said.
    assert_eq!(
        with_routes("0", &[route(254, "10.0.0.0/24", true, &[2, 3])]),
        [Way::Ipv4]
    );
    assert_eq!(
        with_routes("0", &[route(254, "10.0.0.0/24", true, &[])]),
        [Way::Ipv4]
    );
}

#[test]
fn c3_the_longest_route_of_each_table_counts() {
    let default = route(254, "0.0.0.0/0", true, &[4]);
    let refused = route(254, "10.0.0.10/32", false, &[]);
    assert_eq!(with_routes("0", &[default.clone(), refused.clone()]), []);
    // In another table, which some packets are looked up in, it is no hindrance.
    let in_vrf = route(10, "0.0.0.0/0", true, &[4]);
    assert_eq!(with_routes("0", &[in_vrf, refused]), [Way::Ipv4]);
    let other = route(254, "10.0.0.11/32", false, &[]);
    assert_eq!(with_routes("0", &[default, other]), [Way::Ipv4]);
}

#[test]
fn c3_a_source_filter_keeps_ipv4_out_where_the_interface_has_no_address_and_no_route() {
    let to_server = route(254, "10.0.0.0/24", true, &[3]);
    let v6 = route(254, "fd00::/64", true, &[3]);
    let both = [to_server.clone(), v6];
    for rp_filter in ["1", "2"] {
        assert_eq!(with_routes(rp_filter, &both), [Way::Ipv6]);
    }
    assert_eq!(with_routes("0", &both), [Way::Ipv4, Way::Ipv6]);
    let own = route(255, "192.0.2.1/32", false, &[2]);
    let back = route(254, "198.51.100.0/24", true, &[2]);
    for one in [own, back] {
        assert_eq!(with_routes("2", &[to_server.clone(), one]), [Way::Ipv4]);
    }
}

#[test]
fn c3_af_xdp_leaves_the_kernel_no_frame_of_the_queues_that_it_takes() {
    let forwards = ("proc/sys/net/ipv4/conf/out0/forwarding", "1\n");
    let first = ("sys/class/net/out0/queues/rx-0/x", "");
    let second = ("sys/class/net/out0/queues/rx-1/x", "");
    let look = |device: &str, files: &[(&str, &str)]| {
        let machine = machine(files);
        let kernel = Kernel::below(machine.path());
        let text = PROFILE.replace("net_af_packet0,iface=out0", device);
        let profile = profile(&text);
        (
            find(&kernel, &profile).len(),
            find_without_daemon(&kernel, &profile).len(),
        )
    };
    let one = "net_af_xdp0,iface=out0";
    assert_eq!(look(one, &[forwards, first]), (0, 1));
    assert_eq!(look(one, &[first]), (0, 0));
    assert_eq!(look(one, &[forwards, first, second]), (1, 0));
    // One worker takes one queue, whatever the device was given.
    let two = "net_af_xdp0,iface=out0,queue_count=2";
    assert_eq!(look(two, &[forwards, first, second]), (1, 0));
    let two = "net_af_xdp0,iface=out0,queue_count=2\", queues: \"2";
    assert_eq!(look(two, &[forwards, first, second]), (0, 1));
    let other = "net_af_xdp0,iface=out0,start_queue=1";
    assert_eq!(look(other, &[forwards, first, second]), (1, 0));
    let foreign = "net_af_xdp0,iface=out0,xdp_prog=/x.o";
    assert_eq!(look(foreign, &[forwards, first]), (1, 0));
    assert_eq!(
        look("net_af_packet0,iface=out0", &[forwards, first]),
        (1, 0)
    );
    // Where its queues are not to be seen nothing is taken for granted.
    assert_eq!(look(one, &[forwards]), (1, 0));
}
