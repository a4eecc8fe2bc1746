//! Profiles of a transparent wire. CASES 27.

use super::*;
use crate::profile::{Echo, Link};

const WIRE: &str = r#"ports:
  north: { device: "net_af_packet0,iface=out0", mtu: 9000 }
  south: { device: "net_af_packet1,iface=in0", mtu: 9000 }
  third: { device: "net_af_packet2,iface=rep0", address: 192.0.2.1/24 }
guard:
  outside: north
  inside: south
  wire: {}
  protect:
    - { server: 198.51.100.10, ports: [80, 443] }
    - { server: "2001:db8:1::10", ports: 80 }
"#;

fn changed(from: &str, to: &str) -> String {
    assert_eq!(WIRE.matches(from).count(), 1, "`{from}`");
    WIRE.replace(from, to)
}

fn errors_of(text: &str) -> Vec<String> {
    errors(text)
}

#[test]
fn a_wire_needs_no_address_and_hears_every_frame() {
    let profile = check(WIRE).unwrap().profile;
    assert_eq!(profile.guard.unwrap().wire, Some(Echo::Auto));
    let hears = |index: usize| match &profile.ports[index].link {
        Link::Device(device) => device.promiscuous,
        Link::Parent(_) => false,
    };
    assert_eq!([hears(0), hears(1), hears(2)], [true, true, false]);
    for (word, echo) in [("always", Echo::Always), ("off", Echo::Off)] {
        let text = changed("wire: {}", &format!("wire: {{ echo: {word} }}"));
        assert_eq!(
            check(&text).unwrap().profile.guard.unwrap().wire,
            Some(echo)
        );
    }
    let routed = check(EXAMPLE).unwrap().profile;
    assert_eq!(routed.guard.unwrap().wire, None);
}

#[test]
fn what_a_wire_cannot_have_is_refused_with_its_remedy() {
    for (from, to, expected) in [
        (
            "iface=out0\", mtu: 9000",
            "iface=out0\", mtu: 9000, address: 192.0.9.1/24",
            "2:60: port `north` is an end of the wire and has an address; take `address` away, or take `guard.wire` away to have a guard that routes",
        ),
        (
            "iface=out0\", mtu: 9000",
            "iface=out0\", mtu: 9000, promiscuous: false",
            "2:73: port `north` is an end of the wire and would hear only frames for itself; take `promiscuous` away: the ends of a wire hear all frames",
        ),
        (
            "iface=in0\", mtu: 9000",
            "iface=in0\", mtu: 9000, vlan: 7",
            "3:59: port `south` is an end of the wire and has a VLAN; take `vlan` away: a wire passes all VLANs, each with its tag",
        ),
        (
            "device: \"net_af_packet1,iface=in0\", mtu: 9000",
            "parent: third, vlan: 7",
            "3:12: port `south` is an end of the wire and only a VLAN of a device; write its `device`: a wire passes all VLANs, each with its tag",
        ),
        (
            "guard:",
            "  web: { parent: south, vlan: 7 }\nguard:",
            "3:3: port `south` is an end of the wire, and port `web` is a VLAN of it; give `web` a device of its own",
        ),
        (
            "guard:",
            "routes:\n  - { to: \"2001:db8::/32\", via: \"fe80::1\", port: south }\nguard:",
            "6:5: a route leads through an end of the wire, which routes nothing; take the route away: what passes the wire keeps its own next hop",
        ),
        (
            "wire: {}",
            "wire: { echo: sometimes }",
            "8:17: `sometimes` is not a value of `echo`; write one of `auto`, `always`, `off`",
        ),
        (
            "wire: {}",
            "wire: { ecoh: off }",
            "8:11: unknown key `ecoh`; did you mean `echo`?",
        ),
        (
            "server: 198.51.100.10",
            "server: 192.0.2.1",
            "10:17: the server 192.0.2.1 is the appliance's own address on port `third`; write the server's address",
        ),
        (
            "server: 198.51.100.10",
            "server: 224.0.0.1",
            "10:17: 224.0.0.1 cannot be a server; write the server's address",
        ),
    ] {
        assert_eq!(errors_of(&changed(from, to)), [expected], "with `{to}`");
    }
}

#[test]
fn ends_of_different_size_are_warned_of() {
    let loaded = check(&changed("iface=in0\", mtu: 9000", "iface=in0\", mtu: 1500")).unwrap();
    let said: Vec<String> = loaded
        .warnings
        .list
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected =
        "packets of more than 1500 bytes that come by `north` are dropped before `south`";
    assert!(said.iter().any(|line| line.contains(expected)), "{said:?}");
}
