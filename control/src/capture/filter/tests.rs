use dataplane::classify::Filter;
use dataplane::io::InterfaceId;
use dataplane::parse::{Fragment, Kind, Parsed};

use super::*;

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().unwrap())
}

fn tcp(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Parsed {
    let source = address(source);
    Parsed {
        kind: Kind::Ip,
        family: source.family(),
        protocol: protocol::TCP,
        source,
        destination: address(destination),
        source_port,
        destination_port,
        fragment: Fragment::Whole,
        ..Parsed::default()
    }
}

fn matches(filter: &str, parsed: &Parsed) -> bool {
    let condition = parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    Filter::new(&condition)
        .unwrap()
        .matches(InterfaceId(0), parsed)
}

#[test]
fn packets_match_as_tcpdump_would_have_it() {
    let web = tcp("198.51.100.7", 40_000, "10.0.0.10", 80);
    let web6 = tcp("2001:db8::7", 40_000, "fd00:1::10", 443);
    let arp = Parsed {
        kind: Kind::Arp,
        ..Parsed::default()
    };
    let tagged = Parsed { vlan: 7, ..web };
    let icmp = Parsed {
        protocol: protocol::ICMP,
        ..web
    };
    let cases: [(&str, [bool; 5]); 26] = [
        ("", [true, true, true, true, true]),
        ("tcp", [true, true, false, true, false]),
        ("ip", [true, false, false, true, true]),
        ("ip6", [false, true, false, false, false]),
        ("arp", [false, false, true, false, false]),
        ("icmp", [false, false, false, false, true]),
        ("icmp6", [false, false, false, false, false]),
        ("tcp port 80", [true, false, false, true, false]),
        ("port 443", [false, true, false, false, false]),
        ("src port 80", [false, false, false, false, false]),
        ("dst port 80", [true, false, false, true, false]),
        ("udp port 80", [false, false, false, false, false]),
        ("portrange 400-500", [false, true, false, false, false]),
        ("host 10.0.0.10", [true, false, false, true, true]),
        ("10.0.0.10", [true, false, false, true, true]),
        ("src 10.0.0.10", [false, false, false, false, false]),
        ("dst host fd00:1::10", [false, true, false, false, false]),
        ("net 10.0.0.0/8", [true, false, false, true, true]),
        ("src net 2001:db8::/32", [false, true, false, false, false]),
        ("vlan", [false, false, false, true, false]),
        ("vlan 7 and tcp", [false, false, false, true, false]),
        ("not vlan 7", [true, true, true, false, true]),
        ("not (tcp or arp)", [false, false, false, false, true]),
        ("! tcp && !arp", [false, false, false, false, true]),
        ("arp or tcp and port 443", [false, true, true, false, false]),
        (
            "(arp or tcp) and not port 443",
            [true, false, true, true, false],
        ),
    ];
    for (filter, expected) in cases {
        let packets = [&web, &web6, &arp, &tagged, &icmp];
        let found = packets.map(|packet| matches(filter, packet));
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn wrong_filters_say_where_and_what() {
    let cases = [
        (
            "tcp prot 80",
            "column 5: `prot` stands where `and` or `or` should",
        ),
        ("tcp port", "column 9: a port, from 0 to 65535, is missing"),
        ("port 65536", "column 6: a port"),
        ("portrange 90-80", "column 11: two ports"),
        (
            "src",
            "column 4: `host`, `net`, `port` or `portrange` is missing",
        ),
        ("tcp src and", "column 9: `host`"),
        ("(tcp", "column 5: a closing `)` is missing"),
        ("tcp)", "column 4: `)` stands where"),
        ("net 10.0.0.0", "column 5: a net such as"),
        ("net 10.0.0.0/33", "column 5: the prefix is longer"),
        ("host moon", "column 6: an IP address is missing"),
        ("vlan 4095", "column 6: a VLAN is"),
        ("tcp and", "column 8: something is missing"),
        ("tcp & udp", "column 5: `&` stands where"),
        ("quic", "column 1: `quic` is not known"),
    ];
    for (filter, expected) in cases {
        let error = parse(filter).unwrap_err();
        assert!(error.contains(expected), "{filter}: {error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn filters_are_bounded() {
    let deep = format!("{}tcp{}", "(".repeat(100), ")".repeat(100));
    assert!(parse(&deep).unwrap_err().contains("nested too deeply"));
    let not = format!("{}tcp", "not ".repeat(100));
    assert!(parse(&not).unwrap_err().contains("nested too deeply"));
    assert!(
        parse(&"a".repeat(5000))
            .unwrap_err()
            .contains("more than 4096")
    );
    let widest = format!("{}tcp{}", "(vlan or not ".repeat(6), ")".repeat(6));
    assert!(Filter::new(&parse(&widest).unwrap()).is_ok());
}

/// Whatever is typed, the answer is a condition that compiles, or one line.
#[test]
fn any_words_in_any_order_are_survived() {
    let words = [
        "tcp", "not", "(", ")", "and", "or", "port", "80", "src", "host", "::1", "vlan", "&", "é",
    ];
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(words[(state >> 33) as usize % words.len()]);
            text.push(' ');
        }
        if let Ok(condition) = parse(&text) {
            assert!(Filter::new(&condition).is_ok(), "{text}");
        }
    }
}
