use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::parse::flags;
use crate::wire::address::Address;

const OUTSIDE: InterfaceId = InterfaceId(0);
const INSIDE: InterfaceId = InterfaceId(1);

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

fn block(text: &str, length: u8) -> Prefix {
    Prefix::new(address(text), length).unwrap()
}

fn syn() -> Parsed {
    Parsed {
        source: address("198.51.100.9"),
        destination: address("10.0.0.10"),
        source_port: 40_000,
        destination_port: 443,
        protocol: protocol::TCP,
        tcp_flags: flags::SYN,
        ..Parsed::default()
    }
}

fn matches(condition: &Condition, parsed: &Parsed) -> bool {
    Filter::new(condition).unwrap().matches(OUTSIDE, parsed)
}

/// The conditions read off the tree, one by one, as a person would.
fn naive(condition: &Condition, interface: InterfaceId, parsed: &Parsed) -> bool {
    let again = |inner: &Condition| naive(inner, interface, parsed);
    let is_ip = parsed.kind == Kind::Ip;
    let has_transport = is_ip && parsed.fragment != Fragment::Later;
    let is_tcp = has_transport && parsed.protocol == protocol::TCP;
    let has_ports = is_tcp || has_transport && parsed.protocol == protocol::UDP;
    match condition {
        Condition::All(inner) => inner.iter().all(again),
        Condition::Any(inner) => inner.iter().any(again),
        Condition::Not(inner) => !again(inner),
        Condition::Source(prefix) => is_ip && prefix.contains(parsed.source),
        Condition::Destination(prefix) => is_ip && prefix.contains(parsed.destination),
        Condition::SourcePort(range) => has_ports && range.contains(&parsed.source_port),
        Condition::DestinationPort(range) => has_ports && range.contains(&parsed.destination_port),
        Condition::Protocol(number) => is_ip && parsed.protocol == *number,
        Condition::Interface(expected) => interface == *expected,
        Condition::Vlan(vlan) => parsed.vlan == *vlan,
        Condition::Fragment(expected) => {
            is_ip && *expected == matches!(parsed.fragment, Fragment::First | Fragment::Later)
        }
        Condition::TcpFlags { mask, value } => is_tcp && parsed.tcp_flags & mask == *value,
        Condition::Family(family) => is_ip && parsed.family == *family,
        Condition::Arp => !is_ip,
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_the_default_ends_the_list() {
    let rules = Rules::new(
        &[
            (
                Condition::All(vec![
                    Condition::Source(block("198.51.100.0", 24)),
                    Condition::DestinationPort(22..=22),
                ]),
                "deny",
            ),
            (
                Condition::Any(vec![
                    Condition::Protocol(protocol::ICMP),
                    Condition::Protocol(protocol::ICMPV6),
                ]),
                "forward",
            ),
            (Condition::Source(block("198.51.100.0", 24)), "late"),
            (Condition::All(Vec::new()), "never asked beyond"),
        ],
        "guard",
    )
    .unwrap();
    let ask = |parsed: &Parsed| {
        let decision = rules.evaluate(OUTSIDE, parsed);
        (decision.rule, decision.outcome)
    };
    let ssh = Parsed {
        destination_port: 22,
        ..syn()
    };
    let ping = Parsed {
        protocol: protocol::ICMP,
        ..ssh
    };
    let stranger = Parsed {
        source: address("203.0.113.1"),
        ..ssh
    };
    assert_eq!(ask(&ssh), (0, "deny"));
    assert_eq!(ask(&ping), (1, "forward"));
    assert_eq!(ask(&syn()), (2, "late"));
    assert_eq!(ask(&stranger), (3, "never asked beyond"));
    assert_eq!(rules.counters(), 5);
}

#[test]
fn with_no_rule_the_default_decides() {
    for rules in [Rules::new(&[], 7).unwrap(), Rules::all(7)] {
        let expected = Decision {
            rule: 0,
            outcome: 7,
        };
        assert_eq!(rules.evaluate(INSIDE, &syn()), expected);
        assert_eq!(rules.counters(), 1);
    }
}

#[test]
fn ports_are_those_of_tcp_and_udp_alone() {
    // CASES 13
    let port = Condition::SourcePort(0..=u16::MAX);
    let echo = Parsed {
        protocol: protocol::ICMP,
        ..syn()
    };
    let later = Parsed {
        fragment: Fragment::Later,
        ..syn()
    };
    assert!(matches(&port, &syn()));
    assert!(!matches(&port, &echo), "an echo's identifier is no port");
    assert!(!matches(&port, &later), "a later fragment has no ports");
    let no_flags = Condition::TcpFlags { mask: 0, value: 0 };
    assert!(matches(&no_flags, &syn()));
    assert!(!matches(&no_flags, &later));
    assert!(matches(&Condition::Fragment(true), &later));
    assert!(matches(&Condition::Fragment(false), &syn()));
}

#[test]
fn an_arp_message_matches_nothing_that_is_said_of_ip() {
    let arp = Parsed {
        kind: Kind::Arp,
        vlan: 7,
        ..Parsed::default()
    };
    let of_ip = [
        Condition::Source(block("::", 0)),
        Condition::Source(block("0.0.0.0", 0)),
        Condition::Protocol(0),
        Condition::Fragment(false),
        Condition::Family(Family::V4),
        Condition::DestinationPort(0..=0),
        Condition::TcpFlags { mask: 0, value: 0 },
    ];
    assert!(!matches(&Condition::Any(of_ip.to_vec()), &arp));
    let of_any = [
        Condition::Arp,
        Condition::Vlan(7),
        Condition::Interface(OUTSIDE),
    ];
    assert!(matches(&Condition::All(of_any.to_vec()), &arp));
    assert!(!matches(&Condition::Arp, &syn()));
}

#[test]
fn what_is_beyond_a_bound_is_refused() {
    let one = (Condition::Arp, ());
    let many = vec![one.clone(); MAX_RULES + 1];
    assert!(Rules::new(&many[1..], ()).is_ok());
    assert_eq!(Rules::new(&many, ()).unwrap_err(), RulesError::TooManyRules);

    let wide = |count| Condition::Any(vec![Condition::Arp; count]);
    assert!(Rules::new(&[(wide(MAX_CONDITIONS), ())], ()).is_ok());
    assert_eq!(
        Rules::new(&[one, (wide(MAX_CONDITIONS), ())], ()).unwrap_err(),
        RulesError::TooManyConditions
    );

    let nested = |depth| (0..depth).fold(Condition::Arp, |inner, _| Condition::Not(inner.into()));
    assert!(matches(&nested(MAX_CONDITION_DEPTH), &syn()) == (MAX_CONDITION_DEPTH % 2 == 1));
    let refused = Filter::new(&nested(MAX_CONDITION_DEPTH + 1));
    assert_eq!(refused.unwrap_err(), RulesError::TooDeep);
}

#[test]
fn the_longest_list_decides_by_its_last_rule() {
    let rules: Vec<_> = (0..MAX_RULES)
        .map(|rule| (Condition::DestinationPort(rule as u16..=rule as u16), rule))
        .collect();
    let rules = Rules::new(&rules, usize::MAX).unwrap();
    for port in [0, 1, MAX_RULES - 1] {
        let parsed = Parsed {
            destination_port: port as u16,
            ..syn()
        };
        assert_eq!(rules.evaluate(OUTSIDE, &parsed).outcome, port);
    }
    let beyond = Parsed {
        destination_port: MAX_RULES as u16,
        ..syn()
    };
    let decision = rules.evaluate(OUTSIDE, &beyond);
    assert_eq!((decision.rule, decision.outcome), (MAX_RULES, usize::MAX));
}

/// Few enough addresses, ports and the like for conditions to hold as often as not.
fn addresses() -> impl Strategy<Value = Address> {
    proptest::sample::select(vec![
        address("192.0.2.1"),
        address("192.0.2.200"),
        address("10.0.0.10"),
        address("2001:db8::1"),
        address("2001:db8:1::1"),
        address("::"),
    ])
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    (addresses(), 0u8..=128).prop_map(|(address, length)| {
        Prefix::new(address, length).unwrap_or_else(|| Prefix::new(address, length % 33).unwrap())
    })
}

fn ranges() -> impl Strategy<Value = RangeInclusive<u16>> {
    (0u16..4, 0u16..4).prop_map(|(first, last)| first..=last)
}

fn fragments() -> impl Strategy<Value = Fragment> {
    prop_oneof![
        Just(Fragment::Whole),
        Just(Fragment::First),
        Just(Fragment::Later)
    ]
}

fn protocols() -> impl Strategy<Value = u8> {
    proptest::sample::select(vec![0, 1, 6, 17, 58])
}

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn conditions() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        prefixes().prop_map(Condition::Source),
        prefixes().prop_map(Condition::Destination),
        ranges().prop_map(Condition::SourcePort),
        ranges().prop_map(Condition::DestinationPort),
        protocols().prop_map(Condition::Protocol),
        (0u8..2).prop_map(|number| Condition::Interface(InterfaceId(number))),
        (0u16..2).prop_map(Condition::Vlan),
        any::<bool>().prop_map(Condition::Fragment),
        (0u8..4, 0u8..4).prop_map(|(mask, value)| Condition::TcpFlags { mask, value }),
        families().prop_map(Condition::Family),
        Just(Condition::Arp),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let several = proptest::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            several.clone().prop_map(Condition::All),
            several.prop_map(Condition::Any),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

fn packets() -> impl Strategy<Value = Parsed> {
    let endpoints = (addresses(), addresses(), 0u16..4, 0u16..4);
    let header = (protocols(), 0u8..4, fragments(), families());
    (endpoints, header, 0u16..2, prop::bool::weighted(0.1)).prop_map(
        |((source, destination, from, to), (protocol, tcp_flags, fragment, family), vlan, arp)| {
            Parsed {
                source,
                destination,
                source_port: from,
                destination_port: to,
                protocol,
                tcp_flags,
                fragment,
                family,
                vlan,
                kind: if arp { Kind::Arp } else { Kind::Ip },
                ..Parsed::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_decides_as_one_who_reads_the_tree(
        rules in proptest::collection::vec(conditions(), 0..6),
        packets in proptest::collection::vec((packets(), 0u8..2), 1..20),
    ) {
        let numbered: Vec<_> = rules.iter().cloned().zip(100u32..).collect();
        let compiled = Rules::new(&numbered, 7).unwrap();
        for (parsed, interface) in packets {
            let interface = InterfaceId(interface);
            let first = rules.iter().position(|rule| naive(rule, interface, &parsed));
            let expected = Decision {
                rule: first.unwrap_or(rules.len()),
                outcome: first.map_or(7, |rule| 100 + rule as u32),
            };
            prop_assert_eq!(compiled.evaluate(interface, &parsed), expected);
            for rule in &rules {
                let filter = Filter::new(rule).unwrap();
                prop_assert_eq!(
                    filter.matches(interface, &parsed),
                    naive(rule, interface, &parsed)
                );
            }
        }
    }
}
