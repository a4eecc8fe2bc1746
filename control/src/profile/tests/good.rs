//! Profiles that load, and what they then mean.

use std::net::IpAddr;
use std::path::PathBuf;

use super::*;
use crate::profile::{
    Action, Condition, GuardMode, HugePages, Link, Poll, PortRange, Prefix, Severity, TcpFlags,
    Unknown,
};

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_profile_of_one_guard_loads_as_it_stands() {
    let loaded = check(EXAMPLE).unwrap();
    let profile = loaded.profile;
    assert_eq!(profile.name, "bc1");
    assert_eq!(profile.runtime.workers, [1]);
    assert!(!profile.runtime.workers_are_automatic);
    assert_eq!(profile.runtime.control_core, 0);
    assert_eq!(profile.runtime.poll, Poll::Adaptive);
    assert_eq!(profile.runtime.huge_pages, HugePages::Off);
    assert!(!profile.runtime.core_dumps);
    assert_eq!(
        profile.runtime.control_socket,
        PathBuf::from("/run/tidegate/bc1.sock")
    );
    assert_eq!(
        profile.runtime.metrics,
        Some("127.0.0.1:9464".parse().unwrap())
    );
    assert_eq!(profile.runtime.file_prefix, "tidegate-bc1");

    let names: Vec<&str> = profile
        .ports
        .iter()
        .map(|port| port.name.as_str())
        .collect();
    assert_eq!(names, ["outside", "inside"]);
    let Link::Device(device) = &profile.ports[0].link else {
        panic!("not a device")
    };
    assert_eq!(device.argument("iface"), Some("out0"));
    assert!(!device.is_pci());
    assert_eq!(
        profile.ports[0].addresses[1].net(),
        prefix("2001:db8:1::/64")
    );
    assert_eq!(profile.ports[0].mtu_bytes, 1500);
    assert_eq!(profile.routes.len(), 1);
    assert_eq!(profile.routes[0].port, 0);

    let guard = profile.guard.unwrap();
    assert_eq!((guard.outside, guard.inside), (0, 1));
    assert_eq!(guard.mode, GuardMode::Always);
    assert_eq!(guard.unknown, Unknown::Drop);
    assert_eq!(guard.keys, PathBuf::from("/nowhere/keys/cookie.key"));
    assert_eq!(guard.protect[1].server, address("fd00:1::10"));
    let ports = [
        PortRange {
            first: 80,
            last: 80,
        },
        PortRange {
            first: 443,
            last: 443,
        },
    ];
    assert_eq!(guard.protect[0].ports, ports);

    assert_eq!(profile.default_action, Action::Guard);
    let ssh = Condition::DestinationPort(vec![PortRange {
        first: 22,
        last: 22,
    }]);
    let from = Condition::Source(vec![prefix("198.51.100.0/24")]);
    assert_eq!(profile.rules[0].when, Condition::All(vec![from, ssh]));
    assert_eq!(profile.rules[0].then, Action::Deny);
    assert_eq!(profile.rules[0].line, 22);
    let icmp = [Condition::Protocol(vec![1]), Condition::Protocol(vec![58])];
    assert_eq!(profile.rules[1].when, Condition::Any(icmp.to_vec()));
    assert_eq!(profile.rules[1].then, Action::Forward);
}

#[test]
fn missing_keys_and_cores_are_warnings_to_check_and_errors_to_run() {
    let text = with("workers: [1]", "workers: [1, 9]");
    let loaded = check(&text).unwrap();
    let severities: Vec<Severity> = loaded
        .warnings
        .list
        .iter()
        .map(|one| one.severity)
        .collect();
    assert_eq!(severities, [Severity::Warning; 2]);
    assert_eq!(loaded.profile.runtime.workers, [1, 9]);

    let file = Path::new("/nowhere/p.yaml");
    let refused = parse(&text, file, &machine(), Strictness::Run).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/nowhere/p.yaml:3:16: this machine has no core 9 that the process may use; \
         it has 0, 1, 2, 3; write one of them, or `auto`\n\
         /nowhere/p.yaml:20:9: the key file /nowhere/keys/cookie.key does not exist; \
         make it with `tidegate keygen /nowhere/keys/cookie.key`; `run` refuses without it"
    );
}

#[test]
fn what_is_left_out_has_a_default() {
    let loaded = check("ports: { lan: { device: net_null0 } }").unwrap();
    let profile = loaded.profile;
    assert_eq!(profile.name, "tidegate");
    assert_eq!(profile.default_action, Action::Forward);
    assert_eq!(profile.runtime.workers, [1, 2, 3]);
    assert!(profile.runtime.workers_are_automatic);
    assert_eq!(profile.runtime.control_core, 0);
    assert_eq!(profile.runtime.metrics, None);
    assert!(profile.guard.is_none());

    let guard = "guard: { outside: a, inside: b, mode: off }";
    let text =
        format!("ports: {{ a: {{ device: net_null0 }}, b: {{ device: net_null1 }} }}\n{guard}");
    assert_eq!(check(&text).unwrap().profile.default_action, Action::Guard);
}

#[test]
fn automatic_workers_take_the_isolated_cores_first() {
    let file = Path::new("p.yaml");
    let workers = |cores: &[u32], isolated: &[u32], runtime: &str| {
        let machine = Machine {
            cores: cores.to_vec(),
            isolated_cores: isolated.to_vec(),
        };
        let text = format!("runtime: {{ {runtime} }}\nports: {{ lan: {{ device: net_null0 }} }}");
        let runtime = parse(&text, file, &machine, Strictness::Run)
            .unwrap()
            .profile
            .runtime;
        (runtime.workers, runtime.control_core)
    };
    assert_eq!(workers(&[0, 1, 2, 3], &[2, 3], ""), (vec![2, 3], 0));
    assert_eq!(
        workers(&[0, 1, 2, 3], &[2, 3], "control_core: 3"),
        (vec![2], 3)
    );
    assert_eq!(workers(&[0, 1, 2], &[], "control_core: 2"), (vec![0, 1], 2));
    assert_eq!(workers(&[4], &[], ""), (vec![4], 4));
    assert_eq!(
        workers(&[0, 1, 2, 3], &[], "workers: [\"1-2\", 0]"),
        (vec![1, 2, 0], 3)
    );
}

#[test]
fn a_vlan_port_takes_its_parents_device_and_mtu() {
    let text = "
ports:
  web:   { parent: trunk, vlan: 20, address: 10.0.20.1/24 }
  trunk: { device: \"0000:3b:00.0\", mtu: 9000, queues: 4, promiscuous: true, checksum_offload: off }
  edge:  { device: \"3b:00.1\", vlan: 100, address: [\"fe80::1/64\", \"2001:db8::1/64\"] }
routes:
  - { to: default, via: fe80::fffe, port: edge }
  - { to: 172.16.0.0/12, via: 10.0.20.254 }
";
    let profile = check(text).unwrap().profile;
    assert_eq!(profile.ports[0].link, Link::Parent(1));
    assert_eq!(profile.ports[0].vlan, Some(20));
    assert_eq!(profile.ports[0].mtu_bytes, 9000);
    let Link::Device(trunk) = &profile.ports[1].link else {
        panic!("not a device")
    };
    assert!(trunk.is_pci() && trunk.promiscuous);
    assert_eq!(trunk.queues, Some(4));
    assert_eq!(profile.ports[2].vlan, Some(100));
    assert_eq!(profile.routes[0].to, prefix("::/0"));
    assert_eq!((profile.routes[0].port, profile.routes[1].port), (2, 0));
}

#[test]
fn conditions_are_trees() {
    let when = "{ protocol: tcp, not: { source: [10.0.0.0/8, \"fd00::/8\"] }, \
                destination_port: [443, \"8000-8009\", \"8005-8020\"], tcp_flags: [syn, \"!ack\"], \
                port: outside, vlan: [7, 8], fragment: false }";
    let profile = check(&with(
        "{ any: [ { protocol: icmp }, { protocol: icmpv6 } ] }",
        when,
    ));
    let ports = [
        PortRange {
            first: 443,
            last: 443,
        },
        PortRange {
            first: 8000,
            last: 8020,
        },
    ];
    let inner = Condition::Source(vec![prefix("10.0.0.0/8"), prefix("fd00::/8")]);
    assert_eq!(
        profile.unwrap().profile.rules[1].when,
        Condition::All(vec![
            Condition::Not(Box::new(inner)),
            Condition::DestinationPort(ports.to_vec()),
            Condition::TcpFlags(TcpFlags {
                set: 0x02,
                clear: 0x10
            }),
            Condition::Protocol(vec![6]),
            Condition::Port(vec![0]),
            Condition::Vlan(vec![7, 8]),
            Condition::Fragment(false),
        ])
    );
}

#[test]
fn a_server_behind_an_inside_router_is_reachable() {
    let text = with("server: 10.0.0.10", "server: 172.16.1.1").replace(
        "routes:\n",
        "routes:\n  - { to: 172.16.0.0/12, via: 10.0.0.254 }\n",
    );
    assert_eq!(check(&text).unwrap().profile.routes[0].port, 1);
}

#[test]
fn anchors_save_writing() {
    let text = with("ports: [80, 443] }", "ports: &web [80, 443] }")
        .replace("ports: [80] }", "ports: *web }");
    let guard = check(&text).unwrap().profile.guard.unwrap();
    assert_eq!(guard.protect[0].ports, guard.protect[1].ports);
}
