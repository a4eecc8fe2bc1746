//! The `replication` section: what it means, and what of it is refused. CASES 27.

use std::net::IpAddr;
use std::path::PathBuf;

use super::refused::refused;
use super::*;
use crate::profile::{Peer, Replication, Share};

const SECTION: &str = r#"replication:
  port: inside
  own: 1
  peers: [ { number: 2, address: 10.0.0.2 }, { number: 7, address: 10.0.0.7 } ]
"#;

/// The example with a section about replication, of which one part is replaced.
fn shared(from: &str, to: &str) -> String {
    assert_eq!(SECTION.matches(from).count(), 1, "`{from}`");
    format!("{}{EXAMPLE}", SECTION.replace(from, to))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn read(text: &str) -> Replication {
    let loaded = check(text).unwrap_or_else(|refused| panic!("{refused}"));
    loaded.profile.replication.expect("a section")
}

fn section_errors(cases: &[(&str, &str, &[&str])]) {
    for (from, to, expected) in cases {
        assert_eq!(errors(&shared(from, to)), *expected, "with `{to}`");
    }
}

#[test]
fn what_is_not_written_has_its_default() {
    let peer = |number: u8| Peer {
        number,
        address: Some(address(&format!("10.0.0.{number}"))),
    };
    assert_eq!(
        read(&shared("own: 1", "own: 1")),
        Replication {
            port: 1,
            address: address("10.0.0.1"),
            own: 1,
            peers: vec![peer(2), peer(7)],
            group: None,
            udp_port: 49_790,
            keys: PathBuf::from("/nowhere/keys/replication.key"),
            share: Share::Established,
            deferred_after_ms: 2_000,
            deferred_after_bytes: 100_000,
            hello_ms: 50,
            dead_ms: 300,
            hold_ms: 20,
        }
    );
    assert_eq!(check(EXAMPLE).unwrap().profile.replication, None);
}

#[test]
fn groups_take_the_place_of_addresses() {
    let section =
        |with: &str| format!("replication: {{ port: inside, own: 9, {with} }}\n{EXAMPLE}");
    for (with, group, own) in [
        (
            "peers: [{ number: 2 }], group: 239.1.2.3",
            "239.1.2.3",
            "10.0.0.1",
        ),
        (
            "peers: [{ number: 2 }], group: \"ff02::4790\"",
            "ff02::4790",
            "fd00:1::1",
        ),
        (
            "peers: [{ number: 2 }, { number: 3 }], broadcast: true",
            "255.255.255.255",
            "10.0.0.1",
        ),
    ] {
        let read = read(&section(with));
        assert_eq!(read.group, Some(address(group)));
        assert_eq!(read.address, address(own));
        assert!(read.peers.iter().all(|peer| peer.address.is_none()));
    }
    let by_ipv6 = read(&shared(
        "[ { number: 2, address: 10.0.0.2 }, { number: 7, address: 10.0.0.7 } ]",
        "[ { number: 2, address: \"fd00:1::2\" } ]",
    ));
    assert_eq!(by_ipv6.address, address("fd00:1::1"));
}

#[test]
fn rules_say_when_they_share() {
    let text = format!(
        "{SECTION}{}",
        with(
            "then: deny }",
            "then: guard, share: deferred }\n  - { when: { destination_port: 53 }, then: guard, share: never }",
        )
    );
    let rules = check(&text).unwrap().profile.rules;
    let shares: Vec<_> = rules.iter().map(|rule| rule.share).collect();
    assert_eq!(shares, [Some(Share::Deferred), Some(Share::Never), None]);
    refused(&[
        (
            "then: deny }",
            "then: guard, share: begun }",
            &[
                "22:94: there is no other guard to share sessions with; add a `replication:` section, or take `share` away",
            ],
        ),
        (
            "then: deny }",
            "then: deny, share: begun }",
            &[
                "22:93: only sessions that are guarded are shared; write `then: guard`, or take `share` away",
            ],
        ),
        (
            "then: deny }",
            "then: guard, share: defered }",
            &["22:101: `defered` is not a value of `share`; did you mean `deferred`?"],
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_cannot_be_is_refused() {
    section_errors(&[
        (
            "port: inside",
            "port: insid",
            &["2:9: there is no port `insid`; did you mean `inside`?"],
        ),
        (
            "own: 1",
            "own: 2",
            &[
                "4:22: 2 is this guard's own number; write the other guard's number: its profile's `own`",
            ],
        ),
        (
            "own: 1",
            "own: 255",
            &["3:8: `own` cannot be 255; write a number from 1 to 254"],
        ),
        (
            "own: 1",
            "ovn: 1",
            &["3:3: unknown key `ovn`; did you mean `own`?"],
        ),
        (
            "number: 7",
            "number: 2",
            &["4:56: two guards have the number 2; give each guard a number of its own"],
        ),
        (
            "10.0.0.7",
            "10.0.0.2",
            &["4:68: two guards have this address; write each guard once, with its own address"],
        ),
        (
            "10.0.0.7",
            "10.0.0.1",
            &["4:68: 10.0.0.1 is this guard's own address; write the other guard's address"],
        ),
        (
            "10.0.0.7",
            "192.0.2.7",
            &[
                "4:68: the guard 192.0.2.7 is reached through port `outside`, not through `inside`; write its address in a net of `inside`, or add a route",
            ],
        ),
        (
            "10.0.0.7",
            "\"fd00:1::7\"",
            &[
                "4:10: 10.0.0.2 and fd00:1::7 are of different families; reach all guards by IPv4, or all by IPv6",
            ],
        ),
        (
            ", address: 10.0.0.7",
            "",
            &["4:46: guard 7 has no address; add `address: …`, or `group: …` for all guards"],
        ),
        (
            "own: 1",
            "own: 1\n  group: 10.0.0.255",
            &[
                "4:10: 10.0.0.255 is no multicast group; write one such as `239.1.2.3` or `\"ff02::4790\"`",
            ],
        ),
        (
            "own: 1",
            "own: 1\n  broadcast: true",
            &[
                "5:25: the guards are reached as a group, so none has an address here; take the address away, or `group` and `broadcast`",
                "5:59: the guards are reached as a group, so none has an address here; take the address away, or `group` and `broadcast`",
            ],
        ),
        (
            "own: 1",
            "own: 1\n  dead_ms: 149",
            &[
                "4:12: a guard that says every 50 ms that it lives would count as dead after 149 ms; write a `dead_ms` of at least 150",
            ],
        ),
        (
            "own: 1",
            "own: 1\n  udp_port: 0\n  hold_ms: 0\n  deferred: { after_ms: 0, after_bytes: 0 }",
            &[
                "4:13: `udp_port` cannot be 0; write a number from 1 to 65535",
                "5:12: `hold_ms` cannot be 0; write a number from 1 to 1000",
                "6:25: `after_ms` cannot be 0; write a number from 1 to 3600000",
                "6:41: `after_bytes` cannot be 0; write a number from 1 to 1000000000",
            ],
        ),
        (
            "own: 1",
            "own: 1\n  share: sometimes",
            &[
                "4:10: `sometimes` is not a value of `share`; write one of `begun`, `established`, `deferred`, `never`",
            ],
        ),
        (
            "[ { number: 2, address: 10.0.0.2 }, { number: 7, address: 10.0.0.7 } ]",
            "[]",
            &["4:10: there cannot be 0 other guards; write 1 to 31"],
        ),
    ]);
    let lonely = EXAMPLE.split("guard:\n").next().unwrap();
    let errors = errors(&format!("{SECTION}{lonely}"));
    assert_eq!(
        errors,
        [
            "1:1: there is nothing to share: the profile has no guard; add a `guard:` section, or take `replication` away"
        ]
    );
}
