//! Profiles that are refused, and the words they are refused in. CASES 27.

use super::*;

/// What is replaced, by what, and every error that must follow.
pub(super) type Case = (&'static str, &'static str, &'static [&'static str]);

pub(super) fn refused(cases: &[Case]) {
    for (from, to, expected) in cases {
        assert_eq!(errors(&with(from, to)), *expected, "with `{to}`");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn of_runtime() {
    refused(&[
        (
            "workers: [1]",
            "wrokers: [1]",
            &["3:3: unknown key `wrokers`; did you mean `workers`?"],
        ),
        (
            "poll: adaptive",
            "poll: adaptve",
            &["4:9: `adaptve` is not a value of `poll`; did you mean `adaptive`?"],
        ),
        (
            "poll: adaptive",
            "poll: true",
            &["4:9: `true` cannot be the value of `poll`; write one of `adaptive`, `busy`"],
        ),
        (
            "poll: adaptive",
            "poll: [1]",
            &["4:9: a list cannot be the value of `poll`; write one of `adaptive`, `busy`"],
        ),
        (
            "poll: adaptive",
            "poll:",
            &["4:7: nothing cannot be the value of `poll`; write one of `adaptive`, `busy`"],
        ),
        (
            "workers: [1]",
            "workers: [1, 1]",
            &["3:16: core 1 has two workers; give each worker a core of its own"],
        ),
        (
            "workers: [1]",
            "workers: 1\n  control_core: 1",
            &[
                "4:17: core 1 is a worker's, so it cannot be the control core; write another core, such as 0, or leave the key out",
            ],
        ),
        (
            "workers: [1]",
            "workers: [x, -1, 1.5]",
            &["3:20: `1.5` cannot be the value of `workers`; write a number or a word"],
        ),
        (
            "workers: [1]",
            "workers: [x, -1]\n  sessions: many\n  sesions: 1",
            &[
                "4:13: the text `many` cannot be the value of `sessions`; write a whole number from 1024 to 67108864",
                "5:3: unknown key `sesions`; did you mean `sessions`?",
            ],
        ),
        (
            "workers: [1]",
            "workers: [1]\n  workers: [2]",
            &[
                "4:3: the key `workers` stands here a second time; the first is on line 3; keep one of them",
            ],
        ),
        (
            "workers: [1]",
            "workers: [1",
            &["4:7: this is not YAML: illegal placement of ':' indicator; close the `[` of line 3"],
        ),
        (
            "workers: [1]",
            "\tworkers: [1]",
            &[
                "4:3: this is not YAML: while parsing a block mapping, did not find expected key; write `key: value`, and quote a text that contains `: ` or begins with a sign",
            ],
        ),
        (
            "workers: [1]",
            "workers: \"1",
            &[
                "3:12: this is not YAML: invalid indentation in quoted scalar; close the quotation mark",
            ],
        ),
        (
            "  workers: [1]",
            "workers: [1]",
            &[
                "4:3: this is not YAML: while parsing a block mapping, did not find expected key; write `key: value`, and quote a text that contains `: ` or begins with a sign",
            ],
        ),
        (
            "metrics: \"127.0.0.1:9464\"",
            "metrics: 9464",
            &[
                "7:12: `9464` cannot be the value of `metrics`; write a text (in quotation marks if it looks like a number)",
            ],
        ),
        (
            "metrics: \"127.0.0.1:9464\"",
            "metrics: localhost",
            &[
                "7:12: `localhost` is not an address and port; write one like `\"127.0.0.1:9464\"` or `\"[::1]:9464\"`, or `off`",
            ],
        ),
        (
            "metrics: \"127.0.0.1:9464\"",
            "metrics: off\n  memory_mib: 70000000000",
            &[
                "8:15: `70000000000` cannot be the value of `memory_mib`; write a whole number from 64 to 1048576",
            ],
        ),
        (
            "metrics: \"127.0.0.1:9464\"",
            "metrics: off\n  memory_mib: -1",
            &[
                "8:15: `-1` cannot be the value of `memory_mib`; write a whole number from 64 to 1048576",
            ],
        ),
    ]);
}

#[test]
fn of_ports_and_routes() {
    refused(&[
        (
            "ports:\n",
            "prots:\n",
            &["8:1: unknown key `prots`; did you mean `ports`?"],
        ),
        (
            "address: [10.0.0.1/24",
            "adress: [10.0.0.1/24",
            &["10:51: unknown key `adress`; did you mean `address`?"],
        ),
        (
            "address: [10.0.0.1/24",
            "address: [10.0.0.1",
            &["10:61: `10.0.0.1` has no prefix length; write it like `10.0.0.1/24`"],
        ),
        (
            "address: [10.0.0.1/24",
            "address: [192.0.2.1/25",
            &[
                "10:61: the address 192.0.2.1 is on port `outside` already; give each port an address of its own",
            ],
        ),
        (
            "address: [10.0.0.1/24",
            "address: [10.0.0.0/24",
            &["10:61: `10.0.0.0/24` is the net itself, and no address in it; give it a host part"],
        ),
        (
            "address: [10.0.0.1/24",
            "address: [10.0.0.1/64",
            &[
                "10:61: the prefix length of `10.0.0.1/64` is wrong; write a number from 0 to 32 after the slash",
            ],
        ),
        (
            "net_af_packet1,iface=in0",
            "net_af_packet1,iface=out0",
            &[
                "10:22: ports `outside` and `inside` have the same device (`iface=out0`); give each its own, or write `parent: outside` and a `vlan`",
            ],
        ),
        (
            "net_af_packet1,iface=in0",
            "eth0",
            &[
                "10:22: `eth0` is neither a PCI address nor virtual-device arguments; for the kernel's interface `eth0` write `net_af_packet0,iface=eth0`",
            ],
        ),
        (
            "net_af_packet1,iface=in0",
            "net_af_packet1",
            &[
                "10:22: the device `net_af_packet1` does not say which interface it uses; write `net_af_packet1,iface=eth1`, or your interface's name",
            ],
        ),
        (
            "  outside: {",
            "  outside:\n  dmz: {",
            &[
                "9:3: port `outside` has no device; add `device: …` (a PCI address or virtual-device arguments), or `parent` and `vlan`",
            ],
        ),
        (
            "to: 0.0.0.0/0, via",
            "too: 0.0.0.0/0, via",
            &["12:7: unknown key `too`; did you mean `to`?"],
        ),
        (
            "to: 0.0.0.0/0, via: 192.0.2.254",
            "to: 10.1.2.3/8, via: 203.0.113.1",
            &[
                "12:11: `10.1.2.3/8` has bits set after its prefix; did you mean `10.0.0.0/8`, or `10.1.2.3`?",
            ],
        ),
        (
            "{ to: 0.0.0.0/0, via: 192.0.2.254 }",
            "to: 0.0.0.0/0\n    via: 192.0.2.1\n    port: otside",
            &[
                "13:10: the next hop 192.0.2.1 is the appliance's own address on port `outside`; write the address of the router",
                "14:11: there is no port `otside`; did you mean `outside`?",
            ],
        ),
    ]);
}

#[test]
fn of_guard() {
    refused(&[
        (
            "  inside: inside",
            "  inside: insied",
            &["15:11: there is no port `insied`; did you mean `inside`?"],
        ),
        (
            "  mode: always",
            "  mode: allways",
            &["16:9: `allways` is not a value of `mode`; did you mean `always`?"],
        ),
        (
            "server: 10.0.0.10",
            "server: 192.0.2.10",
            &[
                "18:17: the server 192.0.2.10 is reached through port `outside`, not through the inside port `inside`; give `inside` an address in the server's net, or add a route with a next hop there",
            ],
        ),
        (
            "server: 10.0.0.10",
            "server: 10.0.0.1",
            &[
                "18:17: the server 10.0.0.1 is the appliance's own address on port `inside`; write the server's address",
            ],
        ),
        (
            "ports: [80, 443]",
            "ports: [80, 0, 70000, 9-8, x, 443, 80-90]",
            &[
                "18:40: `0` is not a port; write a number from 1 to 65535, or a range like `\"8000-8099\"`",
                "18:43: `70000` is not a port; write a number from 1 to 65535, or a range like `\"8000-8099\"`",
                "18:50: the range `9-8` ends before it begins; did you mean `8-9`?",
                "18:55: `x` is not a port; write a number from 1 to 65535, or a range like `\"8000-8099\"`",
                "18:63: port 80 of 10.0.0.10 is protected twice; write each server and port once",
            ],
        ),
        (
            "ports: [80, 443]",
            "ports: []",
            &["18:35: this list is empty; write at least one value, or leave the key out"],
        ),
    ]);
}

#[test]
fn of_rules() {
    refused(&[
        (
            "then: deny",
            "then: denny",
            &["22:87: `denny` is not a value of `then`; did you mean `deny`?"],
        ),
        (
            "then: deny",
            "hten: deny",
            &["22:81: unknown key `hten`; did you mean `then`?"],
        ),
        (
            "destination_port: 22",
            "destination_port: 22, protocol: icmp",
            &[
                "22:53: only TCP and UDP have ports, so this never matches; write `protocol: tcp` or `udp`, or take the ports away",
            ],
        ),
        (
            "protocol: icmpv6",
            "protocol: icmp6, port: [outside, dmz], tcp_flags: [syn, \"!syn\", x]",
            &[
                "23:54: there is no protocol `icmp6`; did you mean `icmpv6`?",
                "23:77: there is no port `dmz`; write one of `outside`, `inside`",
                "23:100: the flag `syn` cannot be both set and clear; keep one of the two",
                "23:108: there is no TCP flag `x`; write one of `fin`, `syn`, `rst`, `psh`, `ack`, `urg`, `ece`, `cwr`",
            ],
        ),
        (
            "  - { default: guard }\n",
            "",
            &[
                "21:1: the rules have no default; add `- { default: guard }`, or another action, at the end",
            ],
        ),
        (
            "  - { default: guard }\n",
            "  - { default: guard }\n  - { default: deny }\n",
            &[
                "25:5: this rule stands after the default of line 24, so it never matches; move the default to the end, and keep one of it",
            ],
        ),
        (
            "{ default: guard }",
            "{ default: guard, then: deny }",
            &[
                "24:7: a rule has either a default, or `when` and `then`; write the default as an item of its own at the end",
            ],
        ),
    ]);
}

#[test]
fn what_is_no_yaml_or_more_than_a_profile_may_use() {
    refused(&[
        (
            "{ default: guard }",
            "{ }\n  - { when: {}, then: deny }\n  - { default: guard }",
            &[
                "24:5: the rule does not say what it matches; add `when: { … }`, or write `default: …` if it is the last",
                "25:13: this condition says nothing; add a key such as `source`, `destination_port` or `protocol`",
            ],
        ),
        (
            "{ name: bc1 }",
            "&a { name: *a }",
            &["1:23: this alias stands within its own anchor; write the value out"],
        ),
        (
            "{ name: bc1 }",
            "!x { name: bc1 }",
            &["1:12: the tag `!x` is not used here; leave it out"],
        ),
        (
            "{ name: bc1 }",
            "{ name: b c }\n<<: {}",
            &["2:1: merge keys (`<<`) are not used here; write the keys out"],
        ),
        (
            "{ name: bc1 }",
            "{ name: 17 }\n17: 3\n? [a]\n: 3",
            &["2:1: the key `17` is not a word; write it in quotation marks: `\"17\"`"],
        ),
        (
            "{ name: bc1 }",
            "{ name: 17 }\n17: 3",
            &["2:1: the key `17` is not a word; write it in quotation marks: `\"17\"`"],
        ),
        (
            "appliance: { name: bc1 }",
            "{ name: bc1",
            &[
                "12:3: this is not YAML: \"-\" is only valid inside a block; close the `{` of line 1",
            ],
        ),
        (
            "appliance: { name: bc1 }",
            "- a",
            &[
                "2:1: this is not YAML: while parsing a block collection, did not find expected '-' indicator; close every `[` with `]` and every `{` with `}`",
            ],
        ),
        (
            "  - { default: guard }\n",
            "  - { default: guard }\n---\na: 1\n",
            &["26:1: a second document begins here; write each to a file of its own"],
        ),
    ]);
}
