//! What a profile says that cannot be: names, nets, ranges, contradictions. CASES 27.

use super::refused::refused;

#[test]
fn ports_that_cannot_be() {
    refused(&[
        (
            "  inside:  { device: \"net_af_packet1,iface=in0\",",
            "  inside:  { parent: outside,",
            &[
                "10:3: port `inside` has a parent and no VLAN; add `vlan: 100`, or the number that its frames carry",
            ],
        ),
        (
            "  inside:  { device: \"net_af_packet1,iface=in0\",",
            "  inside:  { parent: outside, device: net_null0, vlan: 7,",
            &[
                "10:14: port `inside` has both a device and a parent; keep `device` for a port of its own, or `parent` and `vlan` for a VLAN of another's",
            ],
        ),
        (
            "  inside:  { device: \"net_af_packet1,iface=in0\",",
            "  inside:  { parent: outsid, vlan: 4095, queues: 2,",
            &[
                "10:22: there is no port `outsid`; did you mean `outside`?",
                "10:36: `vlan` cannot be 4095; write a number from 1 to 4094",
                "10:42: `queues` belongs to a device, and port `inside` has its parent's; write it under `outsid`",
            ],
        ),
        (
            "routes:",
            "  a: { parent: inside, vlan: 7 }\n  b: { parent: inside, vlan: 7 }\n  c: { parent: a, vlan: 8 }\nroutes:",
            &[
                "12:30: ports `a` and `b` both have VLAN 7 of one device; give each a VLAN of its own",
                "13:16: port `a` is itself a VLAN of another port; write one of `outside`, `inside`",
            ],
        ),
        (
            "routes:",
            "  a: { parent: inside, vlan: 7, mtu: 9000 }\n  b b: { device: net_null0, mtu: 100 }\n  c: { device: net_null1, mtu: 1000, address: \"fd00::1/64\", queues: 0 }\nroutes:",
            &[
                "11:38: an MTU of 9000 bytes is more than the parent's; write at most 1500, or raise the MTU of `inside`",
                "12:3: `b b` cannot be a port's name; write a letter or digit, then letters, digits, `-` and `_`, at most 63 in all",
                "12:34: `mtu` cannot be 100; write a number from 576 to 9600",
                "13:32: an MTU of 1000 bytes is too small for IPv6; write at least 1280, or take the IPv6 address away",
                "13:69: `queues` cannot be `0`; write a number from 1 to 64, or `auto`",
            ],
        ),
        (
            "routes:",
            "  a: { device: \"3b:00.0\" }\n  b: { device: \"0000:3B:00.0,representor=0\" }\n  c: { device: \"3b:00.9\" }\n  d: { device: \"net_tap0, iface=x\" }\n  e: { device: \"net_tap1,iface\" }\nroutes:",
            &[
                "12:16: ports `a` and `b` have the same device (`0000:3b:00.0`); give each its own, or write `parent: a` and a `vlan`",
                "13:16: `3b:00.9` is neither a PCI address nor virtual-device arguments; write a PCI address like `0000:3b:00.0`",
                "14:16: the device `net_tap0, iface=x` has a space in it; write the arguments with commas and no spaces",
                "15:16: the device argument `iface` has no value; write arguments like `iface=eth1`",
            ],
        ),
        (
            "address: [10.0.0.1/24",
            "address: [10.0.0.255/24, 224.0.0.1/24, 127.0.0.1/8, x/3, 10.0.0.1/24, 10.0.0.1/25",
            &[
                "10:61: `10.0.0.255/24` is the net's broadcast address; write the appliance's own address",
                "10:76: `224.0.0.1/24` is a multicast address; write the appliance's own address",
                "10:90: `127.0.0.1/8` cannot be an address of a port; write the appliance's own address",
                "10:103: `x/3` is not an IP address with a prefix length; write it like `192.0.2.1/24` or `\"2001:db8::1/64\"`",
                "10:121: the address 10.0.0.1 is on port `inside` already; give each port an address of its own",
            ],
        ),
    ]);
}

#[test]
fn routes_that_lead_nowhere() {
    refused(&[
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: \"::/0\", via: 192.0.2.254",
            &[
                "12:24: the next hop 192.0.2.254 is of another family than ::/0; write an IPv6 address",
            ],
        ),
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: 10.0.0.0/24, via: 192.0.2.254",
            &[
                "12:11: 10.0.0.0/24 is the net of port `inside` itself; take the route away: neighbours on a port's net need none",
                "18:17: the server 10.0.0.10 is reached through port `outside`, not through the inside port `inside`; give `inside` an address in the server's net, or add a route with a next hop there",
            ],
        ),
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: default, via: \"fe80::1\"",
            &[
                "12:25: the next hop fe80::1 is link-local, so the route must name its port; add `port: outside`",
            ],
        ),
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: default, via: 203.0.113.1",
            &[
                "12:25: the next hop 203.0.113.1 is on no port's net; the ports' nets are 192.0.2.0/24 (`outside`), 10.0.0.0/24 (`inside`)",
            ],
        ),
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: default, via: 192.0.2.254, port: inside",
            &[
                "12:25: the next hop 192.0.2.254 is not on the net of port `inside`; the ports' nets are 10.0.0.0/24 (`inside`)",
            ],
        ),
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: default, via: 192.0.2.254/24",
            &[
                "12:25: `192.0.2.254/24` is not an IP address; write the address alone: `192.0.2.254`",
            ],
        ),
        (
            "  - { to: 0.0.0.0/0, via: 192.0.2.254 }",
            "  - { to: 0.0.0.0/0, via: 192.0.2.254 }\n  - { to: default, via: 192.0.2.253 }",
            &[
                "13:11: there are two routes to 0.0.0.0/0; the first is on line 12; keep one of them",
            ],
        ),
    ]);
}

#[test]
fn a_guard_that_cannot_be() {
    refused(&[
        (
            "  inside: inside",
            "  inside: outside",
            &[
                "15:11: `outside` is both the outside and the inside port; write the port that faces the servers",
            ],
        ),
        (
            "  mode: always",
            "  mode: on-flood\n  on_flood: { enter_syns_per_second: 100 }",
            &[
                "17:38: guarding would end at 250 SYNs a second and begin at 100; write a `leave_syns_per_second` below `enter_syns_per_second`, such as a quarter of it",
            ],
        ),
        (
            "  mode: always",
            "  mode: on-flood\n  on_flood: { leave_syns_per_second: 1000, hold_s: 0 }",
            &[
                "17:38: guarding would end at 1000 SYNs a second and begin at 1000; write a `leave_syns_per_second` below `enter_syns_per_second`, such as a quarter of it",
                "17:52: `hold_s` cannot be 0; write a number from 1 to 3600",
            ],
        ),
        (
            "server: 10.0.0.10, ports: [80, 443]",
            "server: 10.0.0.10, ports: [80], mss: 1461, window_scale: 15, sack: maybe",
            &["18:76: the text `maybe` cannot be the value of `sack`; write `true` or `false`"],
        ),
        (
            "server: 10.0.0.10, ports: [80, 443]",
            "server: 10.0.0.10, ports: [80], mss: 1461, window_scale: 15",
            &[
                "18:46: an MSS of 1461 bytes does not fit the inside port's MTU of 1500; write at most 1460",
                "18:66: `window_scale` cannot be `15`; write a shift from 0 to 14 (RFC 7323 §2.3), or `off`",
            ],
        ),
        (
            "server: \"fd00:1::10\", ports: [80]",
            "server: 10.0.0.10, ports: [81], mss: 1000",
            &[
                "19:7: the server 10.0.0.10 stands here again, with other options; write the same options each time: they are the server's, not the port's",
            ],
        ),
        (
            "server: \"fd00:1::10\", ports: [80]",
            "server: 10.0.0.10, ports: [443]",
            &["19:36: port 443 of 10.0.0.10 is protected twice; write each server and port once"],
        ),
        (
            "server: \"fd00:1::10\", ports: [80]",
            "server: 10.0.0.11, ports: [1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33]",
            &[
                "19:35: 17 ranges of ports of one server are too many; write at most 16; a range is one, however wide",
            ],
        ),
        (
            "server: \"fd00:1::10\"",
            "server: \"ff02::1\"",
            &["19:17: ff02::1 cannot be a server; write the server's address"],
        ),
        (
            "server: \"fd00:1::10\"",
            "server: \"2001:db8:2::1\"",
            &[
                "19:17: the server 2001:db8:2::1 is on no port's net, and no route leads to it; give `inside` an address in the server's net, or add a route with a next hop there",
            ],
        ),
        (
            "keys: keys/cookie.key",
            "keys: /etc",
            &[
                "20:9: the key file /etc is not a regular file; name another file, or make one with `tidegate keygen /etc`",
            ],
        ),
    ]);
}

#[test]
fn times_of_a_guard_that_cannot_be() {
    refused(&[
        (
            "  mode: always",
            "  timers: { linger_s: 1, half_open_s: 0, drain_s: 100000 }\n  limits: { half_open_per_source: 0 }",
            &[
                "16:23: `linger_s` cannot be 1; write a number from 64 to 3600",
                "16:39: `half_open_s` cannot be 0; write a number from 1 to 120",
                "16:51: `drain_s` cannot be 100000; write a number from 0 to 86400",
                "17:35: `half_open_per_source` cannot be 0; write a number from 1 to 65535",
            ],
        ),
        (
            "  mode: always",
            "  timers: { established_idle_s: 63, closing_s: 1 }",
            &[
                "16:33: `established_idle_s` cannot be 63; write a number from 64 to 604800",
                "16:48: `closing_s` cannot be 1; write a number from 64 to 3600",
            ],
        ),
    ]);
}

#[test]
fn rules_that_never_match() {
    refused(&[
        (
            "source: 198.51.100.0/24 }",
            "source: [198.51.100.0/24, x], destination: \"::1\" }",
            &[
                "22:50: `x` is not an IP address with a prefix length; write it like `10.0.0.0/8` or `\"2001:db8::/32\"`",
                "22:67: source and destination are of different families, so this never matches; write both as IPv4 or both as IPv6",
            ],
        ),
        (
            "source: 198.51.100.0/24 }",
            "source: 198.51.100.0/24, destination: [\"::1\"] }",
            &[
                "22:62: source and destination are of different families, so this never matches; write both as IPv4 or both as IPv6",
            ],
        ),
        (
            "protocol: icmpv6",
            "protocol: [udp, 256], tcp_flags: syn",
            &[
                "23:60: there is no protocol `256`; write `tcp`, `udp`, `icmp`, `icmpv6`, or a number up to 255",
                "23:66: only TCP has these flags, so this never matches; write `protocol: tcp`, or take the flags away",
            ],
        ),
        (
            "protocol: icmpv6",
            "vlan: [0, 5], fragment: 1",
            &["23:68: `1` cannot be the value of `fragment`; write `true` or `false`"],
        ),
        (
            "protocol: icmpv6",
            "vlan: [0, 5]",
            &["23:51: `vlan` cannot be 0; write a number from 1 to 4094"],
        ),
        (
            "  - { when: { any: [ { protocol: icmp }, { protocol: icmpv6 } ] }, then: forward }",
            "  - { then: deny }\n  - { when: { all: [] } }\n  - x",
            &[
                "25:5: the text `x` cannot be the value of `rules`; write a map of keys: `{ key: value, … }`",
            ],
        ),
        (
            "  - { when: { any: [ { protocol: icmp }, { protocol: icmpv6 } ] }, then: forward }",
            "  - { then: deny }\n  - { when: { all: [] } }\n  - { when: { any: [ { not: {} } ] }, then: guard }",
            &[
                "23:5: the rule does not say what it matches; add `when: { … }`, or write `default: …` if it is the last",
                "24:5: the rule does not say what to do; add `then: deny`, `reject`, `forward` or `guard`",
                "24:20: this list is empty; add a condition",
                "25:29: this condition says nothing; add a key such as `source`, `destination_port` or `protocol`",
            ],
        ),
    ]);
}

#[test]
fn a_process_that_cannot_run() {
    refused(&[
        (
            "control_socket: /run/tidegate/bc1.sock",
            "control_socket: /run/",
            &["6:19: `/run/` is not the path of a socket; write one like `/run/tidegate/bc1.sock`"],
        ),
        (
            "control_socket: /run/tidegate/bc1.sock",
            "control_socket: /run/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sock",
            &[
                "6:19: the path of the control socket has 123 bytes; write one of at most 107 bytes: the kernel takes no more",
            ],
        ),
        (
            "control_socket: /run/tidegate/bc1.sock",
            "sessions: 1\n  memory_mib: 1\n  file_prefix: a/b\n  log: { format: xml, level: verbose }",
            &[
                "9:18: `xml` is not a value of `format`; write one of `human`, `json`",
                "9:30: `verbose` is not a value of `level`; write one of `error`, `warn`, `info`, `debug`, `trace`",
            ],
        ),
        (
            "control_socket: /run/tidegate/bc1.sock",
            "sessions: 1\n  memory_mib: 1\n  file_prefix: a/b",
            &[
                "6:13: `sessions` cannot be 1; write a number from 1024 to 67108864",
                "7:15: `memory_mib` cannot be 1; write a number from 64 to 1048576",
                "8:16: `a/b` cannot be a file prefix; write a letter or digit, then letters, digits, `-` and `_`, at most 63 in all",
            ],
        ),
        (
            "workers: [1]",
            "workers: []",
            &["3:12: there is no worker; write core numbers like `[1]`, or `auto`"],
        ),
        (
            "{ name: bc1 }",
            "{ name: \"bc 1\" }",
            &[
                "1:20: `bc 1` cannot be a name; write a letter or digit, then letters, digits, `-` and `_`, at most 63 in all",
            ],
        ),
    ]);
}
