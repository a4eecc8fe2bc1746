use std::net::IpAddr;
use std::path::Path;

use dataplane::classify::Filter;
use dataplane::hop::HopTables;
use dataplane::parse::{Fragment, Kind, Parsed, protocol};

use super::*;
use crate::profile::{Machine, Strictness};

const PROFILE: &str = r#"
runtime: { workers: [1, 2, 3] }
ports:
  outside: { device: net_null0, address: [192.0.2.1/24, "2001:db8:1::1/64"] }
  office:  { parent: outside, vlan: 7, address: [198.18.0.1/24] }
  inside:  { device: net_null1, address: [10.0.0.1/24], mtu: 1400 }
routes:
  - { to: 0.0.0.0/0, via: 192.0.2.254 }
  - { to: 203.0.113.0/24, via: 198.18.0.2 }
guard:
  outside: outside
  inside: inside
  mode: on-flood
  protect:
    - { server: 10.0.0.10, ports: [80, 443, 8000-8100], mss: 1300, window_scale: 3 }
  on_flood: { enter_syns_per_second: 1000, leave_syns_per_second: 100, hold_s: 7 }
  keys: keys/cookie.key
rules:
  - { when: { all: [ { source: [198.51.100.0/24, "2001:db8:2::/48"] }, { not: { destination_port: [22, 8000-8100] } } ] }, then: deny }
  - { when: { tcp_flags: [syn, "!ack"] }, then: reject }
  - { when: { port: office }, then: forward }
  - { default: guard }
"#;

fn profile(text: &str) -> Profile {
    let machine = Machine {
        cores: vec![0, 1, 2, 3],
        isolated_cores: Vec::new(),
    };
    profile::parse(text, Path::new("p.yaml"), &machine, Strictness::Check)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .profile
}

fn key() -> CookieKey {
    CookieKey {
        not_before_s: 0,
        secret: [7; 16],
    }
}

fn facts() -> [DeviceFacts; 2] {
    [
        DeviceFacts {
            mac: [2, 0, 0, 0, 0, 1],
            mtu_bytes: 1450,
        },
        DeviceFacts {
            mac: [2, 0, 0, 0, 0, 2],
            mtu_bytes: 9000,
        },
    ]
}

fn packet(source: &str, destination_port: u16) -> Parsed {
    let source = Address::from(source.parse::<IpAddr>().unwrap());
    Parsed {
        kind: Kind::Ip,
        family: source.family(),
        source,
        destination: source,
        protocol: protocol::TCP,
        destination_port,
        fragment: Fragment::Whole,
        tcp_flags: 0x10,
        ..Parsed::default()
    }
}

#[test]
fn ports_become_interfaces_on_devices() {
    let profile = profile(PROFILE);
    let layout = Layout::of(&profile);
    assert_eq!(layout.devices, [0, 2]);
    assert_eq!(layout.ports, [PortId(0), PortId(0), PortId(1)]);
    let hop = hop_config(&profile, &layout, &facts());
    let [outside, office, inside] = &hop.interfaces[..] else {
        panic!("three interfaces");
    };
    assert_eq!((office.port, office.vlan), (PortId(0), Some(7)));
    assert_eq!(outside.mac, office.mac);
    assert_eq!((outside.mtu_bytes, inside.mtu_bytes), (1450, 1400));
    assert_eq!(outside.addresses.len(), 2);
    let protected: Vec<bool> = hop.interfaces.iter().map(|link| link.protected).collect();
    assert_eq!(protected, [false, false, true]);
    assert_eq!(hop.routes[1].interface, InterfaceId(1));
    let guard = profile.guard.as_ref().unwrap();
    let servers = guard.protect.iter().map(|it| Address::from(it.server));
    assert_eq!(hop.reserved, servers.collect::<Vec<_>>());
    assert!(!hop.reserved.is_empty());
    assert!(HopTables::new(&hop).is_ok());
}

#[test]
fn workers_share_thresholds_and_limits() {
    let profile = profile(PROFILE);
    let config = guard_config(&profile, &[key()], &[1450, 1450, 1400], 3).unwrap();
    assert_eq!(config.mode, Mode::OnFlood);
    assert!(config.outside.contains(InterfaceId(0)) && !config.outside.contains(InterfaceId(2)));
    // C2: clients of the office are guarded, too.
    assert!(config.outside.contains(InterfaceId(1)));
    assert!(config.inside.contains(InterfaceId(2)));
    assert_eq!(config.flood.enter_syns_per_s, 334);
    assert_eq!(config.flood.leave_syns_per_s, 34);
    assert_eq!(config.flood.hold_ns, 7 * SECOND_NS);
    assert_eq!((config.outside_mtu, config.inside_mtu), (1450, 1400));
    let server = &config.servers[0];
    assert_eq!(server.ports.as_slice(), [80..=80, 443..=443, 8000..=8100]);
    assert_eq!(server.overrides.mss, Some(1300));
    assert_eq!(server.overrides.window_scale, Some(Some(3)));
    assert_eq!(server.overrides.sack, None);
}

#[test]
fn syns_are_repeated_as_written_and_within_the_half_open_time() {
    let profile = profile(PROFILE);
    let mut timers = profile.guard.as_ref().unwrap().timers;
    (timers.half_open_s, timers.server_syn_retries) = (15, 3);
    timers.server_syn_retry_ms = 500;
    assert_eq!(super::timers(&timers).server_syn_ns, SECOND_NS / 2);
    timers.server_syn_retry_ms = 5000;
    assert_eq!(super::timers(&timers).server_syn_ns, SECOND_NS);
    timers.server_syn_retries = 255;
    assert_eq!(super::timers(&timers).server_syn_ns, SECOND_NS / 20);
    timers.linger_s = 1;
    assert_eq!(super::timers(&timers).linger_ns, MAX_AGE_S * SECOND_NS);
}

#[test]
fn rules_decide_as_they_are_written() {
    let profile = profile(PROFILE);
    let config = guard_config(&profile, &[key()], &[1500; 3], 1).unwrap();
    let decide = |interface: u8, parsed: &Parsed| {
        let decision = config.rules.evaluate(InterfaceId(interface), parsed);
        (decision.rule, decision.outcome)
    };
    assert_eq!(decide(0, &packet("198.51.100.7", 80)), (0, Action::Deny));
    assert_eq!(decide(0, &packet("2001:db8:2::7", 23)), (0, Action::Deny));
    assert_eq!(decide(0, &packet("198.51.100.7", 22)), (3, Action::Guard));
    assert_eq!(
        decide(1, &packet("198.51.100.7", 8050)),
        (2, Action::Forward)
    );
    let syn = Parsed {
        tcp_flags: 0x02,
        ..packet("192.0.2.7", 80)
    };
    assert_eq!(decide(0, &syn), (1, Action::Reject));
    let syn_ack = Parsed {
        tcp_flags: 0x12,
        ..syn
    };
    assert_eq!(decide(0, &syn_ack), (3, Action::Guard));
}

/// Every kind of condition that a profile knows has its form in the classifier.
#[test]
fn every_condition_is_translated() {
    use profile::Condition as Written;
    let port = |first, last| PortRange { first, last };
    let parsed = Parsed {
        vlan: 7,
        source_port: 90,
        ..packet("192.0.2.7", 80)
    };
    let net = profile::Prefix::parse("192.0.2.0/24").unwrap();
    let cases = [
        (Written::All(vec![]), true),
        (Written::Any(vec![]), false),
        (Written::Not(Box::new(Written::All(vec![]))), false),
        (Written::Source(vec![net]), true),
        (Written::Destination(vec![net]), true),
        (Written::SourcePort(vec![port(1, 2), port(90, 91)]), true),
        (Written::DestinationPort(vec![port(81, 90)]), false),
        (Written::Protocol(vec![17, 6]), true),
        (Written::Port(vec![1]), false),
        (Written::Port(vec![0, 1]), true),
        (Written::Vlan(vec![7]), true),
        (Written::Fragment(true), false),
        (Written::Fragment(false), true),
        (
            Written::TcpFlags(profile::TcpFlags {
                set: 0x10,
                clear: 0x02,
            }),
            true,
        ),
        (
            Written::TcpFlags(profile::TcpFlags {
                set: 0x12,
                clear: 0,
            }),
            false,
        ),
    ];
    for (written, expected) in cases {
        let filter = Filter::new(&condition(&written)).unwrap();
        assert_eq!(
            filter.matches(InterfaceId(0), &parsed),
            expected,
            "{written:?}"
        );
    }
}

#[test]
fn sharing_reaches_the_hop_the_rules_and_the_guard() {
    let text = PROFILE
        .replace("then: deny }", "then: guard, share: never }")
        .replace(
            "rules:",
            "replication:\n  port: office\n  own: 3\n  peers: [ { number: 4 } ]\n  group: 239.0.0.9\n  \
             share: deferred\n  deferred: { after_ms: 5, after_bytes: 6 }\n  hold_ms: 7\nrules:",
        );
    let profile = profile(&text);
    let hop = hop_config(&profile, &Layout::of(&profile), &facts());
    assert_eq!(
        hop.replication,
        Some(ReplicationPort {
            interface: InterfaceId(1),
            udp_port: 49_790,
            group: Some(Address::from_v4([239, 0, 0, 9])),
        })
    );
    HopTables::new(&hop).expect("usable tables");
    assert!(hop.reserved.len() >= profile.guard.as_ref().unwrap().protect.len());
    let config = guard_config(&profile, &[key()], &[1500; 3], 3).unwrap();
    assert_eq!(
        config.sharing,
        Some(Sharing {
            share: Share::Deferred,
            deferred_after_ns: 5_000_000,
            deferred_after_bytes: 6,
            hold_ns: 7_000_000,
        })
    );
    assert_eq!(
        action_of(&profile.rules[0]),
        Action::GuardShared(Share::Never)
    );
}

#[test]
fn without_a_guard_nothing_is_protected() {
    let profile = profile("ports: { a: { device: net_null0 } }");
    assert!(cookie_keys(&profile).unwrap().is_empty());
    let config = guard_config(&profile, &[], &[1500], 1).unwrap();
    assert_eq!((config.mode, config.servers.len()), (Mode::Off, 0));
}

// CASES 28: an unreadable key.
#[test]
fn a_missing_key_is_told_with_its_cure() {
    let mut profile = profile(PROFILE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cookie.key");
    profile.guard.as_mut().unwrap().keys = file.clone();
    let failure = cookie_keys(&profile).unwrap_err().to_string();
    assert!(
        failure.contains("does not exist; make it with `tidegate keygen"),
        "{failure}"
    );
    std::fs::write(&file, "version 1\n").unwrap();
    let failure = cookie_keys(&profile).unwrap_err().to_string();
    assert!(
        failure.contains("others may read it; run `chmod 600"),
        "{failure}"
    );
}
