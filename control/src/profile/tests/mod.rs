//! Profiles that load, and profiles that are refused, with the words they are refused in.

mod contradictions;
mod good;
mod hostile;
mod other_yaml;
mod refused;
mod replication;
mod wire;

use std::path::Path;

use super::{Diagnostics, Loaded, Machine, Strictness, parse};

/// The profile that must load as it stands.
const EXAMPLE: &str = r#"appliance: { name: bc1 }
runtime:
  workers: [1]
  poll: adaptive
  huge_pages: off
  control_socket: /run/tidegate/bc1.sock
  metrics: "127.0.0.1:9464"
ports:
  outside: { device: "net_af_packet0,iface=out0", address: [192.0.2.1/24, "2001:db8:1::1/64"] }
  inside:  { device: "net_af_packet1,iface=in0",  address: [10.0.0.1/24, "fd00:1::1/64"] }
routes:
  - { to: 0.0.0.0/0, via: 192.0.2.254 }
guard:
  outside: outside
  inside: inside
  mode: always
  protect:
    - { server: 10.0.0.10, ports: [80, 443] }
    - { server: "fd00:1::10", ports: [80] }
  keys: keys/cookie.key
rules:
  - { when: { all: [ { source: 198.51.100.0/24 }, { destination_port: 22 } ] }, then: deny }
  - { when: { any: [ { protocol: icmp }, { protocol: icmpv6 } ] }, then: forward }
  - { default: guard }
"#;

fn machine() -> Machine {
    Machine {
        cores: vec![0, 1, 2, 3],
        isolated_cores: vec![],
    }
}

fn check(text: &str) -> Result<Loaded, Diagnostics> {
    parse(
        text,
        Path::new("/nowhere/p.yaml"),
        &machine(),
        Strictness::Check,
    )
}

/// The profile above with one part of it replaced, which must be there exactly once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(
        EXAMPLE.matches(from).count(),
        1,
        "`{from}` is not there exactly once"
    );
    EXAMPLE.replace(from, to)
}

/// The errors of a profile that must be refused, without the file's name.
fn errors(text: &str) -> Vec<String> {
    let said = check(text).expect_err("the profile was taken");
    let errors = said
        .list
        .iter()
        .filter(|one| one.severity == super::Severity::Error);
    errors.map(ToString::to_string).collect()
}
