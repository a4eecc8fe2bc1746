use std::path::Path;

use super::*;
use crate::profile::{Machine, Strictness, parse};

const BASE: &str = r#"
runtime: { workers: [0] }
ports:
  outside: { device: net_null0, address: 192.0.2.1/24 }
  inside:  { device: net_null1, address: 10.0.0.1/24 }
guard:
  outside: outside
  inside: inside
  mode: always
  protect: [ { server: 10.0.0.10, ports: [80, 443, "8000-8099"] }, { server: 10.0.0.11, ports: 25 } ]
rules:
  - { when: { protocol: icmp }, then: forward }
  - { when: { source: 203.0.113.0/24 }, then: deny }
  - { when: { source: 198.51.100.0/24, destination: 10.0.0.10 }, then: forward }
  - { default: guard }
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

/// What changes when these parts of the text are replaced.
fn change(replaced: &[(&str, &str)]) -> Change {
    let text = replaced.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    Change::between(&profile(BASE), &profile(&text))
}

fn back(replaced: &[(&str, &str)]) -> Change {
    let text = replaced
        .iter()
        .fold(BASE.to_owned(), |text, (from, to)| text.replace(from, to));
    Change::between(&profile(&text), &profile(BASE))
}

#[test]
fn c4_what_protects_the_same_is_as_before() {
    for same in [
        &[][..],
        &[("ports: 25", "ports: [25]")],
        &[("{ protocol: icmp }", "{ protocol: udp }")],
        &[(
            "- { default: guard }",
            "- { when: { destination: 10.0.0.9 }, then: forward }\n  - { default: guard }",
        )],
        &[(
            "- { default: guard }",
            "- { when: { port: inside }, then: forward }\n  - { default: guard }",
        )],
        &[(
            "- { default: guard }",
            "- { when: { source: 192.0.2.7 }, then: deny }\n  - { default: guard }",
        )],
    ] {
        let change = change(same);
        assert_eq!(change, Change::default(), "{same:?}");
        assert_eq!(change.to_string(), "protection as before");
    }
}

#[test]
fn c4_a_section_that_vanished_a_weaker_mode_and_servers_that_left_are_named() {
    let whole = BASE.split("guard:").next().unwrap();
    let gone = Change::between(&profile(BASE), &profile(whole));
    assert_eq!(
        gone.to_string(),
        "protection less: no `guard` any more (it was `always`)"
    );
    assert_eq!(
        change(&[("mode: always", "mode: monitor")]).less,
        ["mode `always` → `monitor`"]
    );
    assert_eq!(
        change(&[("mode: always", "mode: on-flood")]).less,
        ["mode `always` → `on-flood`"]
    );
    assert_eq!(
        change(&[(", { server: 10.0.0.11, ports: 25 }", "")]).less,
        ["10.0.0.11 not protected"]
    );
    let narrower = &[("[80, 443, \"8000-8099\"]", "[80, \"8000-8049\"]")];
    assert_eq!(
        change(narrower).less,
        ["10.0.0.10 port 443,8050-8099 not protected"]
    );
    assert_eq!(
        back(narrower).to_string(),
        "protection more: 10.0.0.10 port 443,8050-8099 protected"
    );
    assert_eq!(
        change(&[("server: 10.0.0.11", "server: 10.0.0.12")]).to_string(),
        "protection less: 10.0.0.11 not protected; more: 10.0.0.12 port 25 protected"
    );
}

#[test]
fn c4_who_only_watched_has_nothing_to_lose() {
    let watching = BASE.replace("mode: always", "mode: monitor");
    let whole = BASE.split("guard:").next().unwrap();
    let change = Change::between(&profile(&watching), &profile(whole));
    assert_eq!(change.less, [] as [&str; 0]);
    assert_eq!(
        change.to_string(),
        "protection as before, but no `guard` any more (it was `monitor`)"
    );
}

#[test]
fn c4_a_rule_that_lets_more_past_the_guard_is_less_protection() {
    let less = |replaced: &[(&str, &str)]| change(replaced).less;
    assert_eq!(
        less(&[("default: guard", "default: forward")])[0],
        "the default rule forwards 10.0.0.10 port 80 unguarded"
    );
    let one_port = &[(
        "- { default: guard }",
        "- { when: { destination_port: 25 }, then: forward }\n  - { default: guard }",
    )];
    assert_eq!(
        less(one_port),
        ["the rule of line 15 forwards 10.0.0.11 port 25 unguarded"]
    );
    assert_eq!(
        back(one_port).more,
        ["rules forward less of 10.0.0.11 port 25 unguarded"]
    );
    // What was denied before.
    let no_deny = &[("  - { when: { source: 203.0.113.0/24 }, then: deny }\n", "")];
    assert_eq!(less(no_deny).len(), 3, "{:?}", less(no_deny));
    assert_eq!(less(&[("then: deny", "then: guard")]), [] as [&str; 0]);
    let wider = &[("source: 198.51.100.0/24", "source: 198.51.0.0/16")];
    assert_eq!(less(wider).len(), 3);
}

#[test]
fn c4_a_higher_threshold_is_told_and_needs_no_leave() {
    let change = change(&[(
        "mode: always",
        "mode: always\n  on_flood: { enter_syns_per_second: 5000 }",
    )]);
    assert_eq!(
        change.to_string(),
        "protection as before, but a flood begins at 5000 SYNs/s, not 1000"
    );
}
