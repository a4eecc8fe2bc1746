//! What other tools make of a profile, and what editors leave in it. I5

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::profile::json_schema_text;

/// What a loader of YAML 1.1 takes for a truth (<https://yaml.org/type/bool.html>).
fn truth_of_1_1(word: &str) -> Option<bool> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// A file as a loader of YAML 1.1 reads it: plain words that are truths there become such. What is in
/// quotation marks in the files of `conf/` is none of these words.
fn as_1_1(value: &mut Value) {
    match value {
        Value::String(word) => {
            if let Some(truth) = truth_of_1_1(word) {
                *value = truth.into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(as_1_1),
        Value::Object(map) => map.values_mut().for_each(as_1_1),
        _ => {}
    }
}

fn profiles() -> Vec<(String, String)> {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let files = fs::read_dir(conf)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let read = |path: std::path::PathBuf| {
        (
            path.display().to_string(),
            fs::read_to_string(path).unwrap(),
        )
    };
    files.map(read).collect()
}

#[test]
fn i5_every_profile_passes_its_schema_and_check_when_a_tool_of_yaml_1_1_has_had_it() {
    let schema: Value = serde_json::from_str(&json_schema_text()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let mut changed = 0;
    for (name, text) in profiles() {
        let plain: Value = serde_yaml::from_str(&text).unwrap();
        assert!(schema.is_valid(&plain), "{name}");
        let mut old = plain.clone();
        as_1_1(&mut old);
        changed += u32::from(old != plain);
        let wrong: Vec<_> = schema
            .iter_errors(&old)
            .map(|error| error.to_string())
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        // As such tools write it again.
        let written = serde_yaml::to_string(&old).unwrap();
        let (first, second) = (check(&text), check(&written));
        let profile = |loaded: Result<Loaded, _>| {
            loaded
                .unwrap_or_else(|refused| panic!("{name}: {refused}"))
                .profile
        };
        // That tool has sorted the keys, so the ports have other numbers.
        let told = |profile: crate::profile::Profile| {
            let guard = profile
                .guard
                .map(|guard| (guard.mode, guard.wire, guard.protect));
            (profile.runtime, guard, profile.ports.len())
        };
        assert_eq!(told(profile(first)), told(profile(second)), "{name}");
    }
    assert!(changed >= 3, "`off` stands in some of them");
}

#[test]
fn i5_truths_are_taken_in_every_way_in_which_they_are_written() {
    let schema: Value = serde_json::from_str(&json_schema_text()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let words =
        "y Y yes Yes YES n N no No NO true True TRUE false False FALSE on On ON off Off OFF";
    for word in words.split(' ') {
        for written in [word.to_owned(), format!("\"{word}\"")] {
            let truth = truth_of_1_1(word).unwrap();
            let text = with("huge_pages: off", &format!("huge_pages: {written}"));
            let text = text.replace(
                "ports: [80, 443] }",
                &format!("ports: [80, 443], sack: {written} }}"),
            );
            let value: Value = serde_yaml::from_str(&text).unwrap();
            assert!(schema.is_valid(&value), "the schema refuses {written}");
            let profile = check(&text)
                .unwrap_or_else(|refused| panic!("{refused}"))
                .profile;
            let expected = if truth {
                crate::profile::HugePages::On
            } else {
                crate::profile::HugePages::Off
            };
            assert_eq!(profile.runtime.huge_pages, expected, "{written}");
            let overrides = profile.guard.unwrap().protect[0].overrides;
            assert_eq!(overrides.sack, Some(truth), "{written}");
            let text = with(
                "metrics: \"127.0.0.1:9464\"",
                &format!("metrics: {written}"),
            );
            let value: Value = serde_yaml::from_str(&text).unwrap();
            assert_eq!(schema.is_valid(&value), !truth, "{written}");
            assert_eq!(check(&text).is_ok(), !truth, "{written}");
        }
    }
    // No word of the profile's.
    assert!(check(&with("huge_pages: off", "huge_pages: oFF")).is_err());
    assert!(check(&with("poll: adaptive", "poll: no")).is_err());
}

#[test]
fn i5_a_byte_order_mark_is_no_error_and_moves_nothing() {
    let marked = |text: &str| format!("\u{feff}{text}");
    assert_eq!(
        check(&marked(EXAMPLE)).unwrap().profile,
        check(EXAMPLE).unwrap().profile
    );
    let wrong = with("appliance: { name: bc1 }", "appliance: { nmae: bc1 }");
    assert_eq!(errors(&marked(&wrong)), errors(&wrong));
    let within = with("poll: adaptive", "poll: \u{feff}adaptive");
    assert!(errors(&within)[0].contains("U+FEFF"));
}

#[test]
fn i5_numbers_out_of_range_tell_the_keys_own_range() {
    for (from, to, range) in [
        (
            "workers: [1]",
            "workers: [1]\n  sessions: 1e9",
            "from 1024 to 67108864",
        ),
        (
            "address: [10.0.0.1/24",
            "mtu: -5, address: [10.0.0.1/24",
            "from 576 to 9600",
        ),
        (
            "address: [10.0.0.1/24",
            "mtu: 99999999999, address: [10.0.0.1/24",
            "from 576 to 9600",
        ),
        ("destination_port: 22", "vlan: many", "from 1 to 4094"),
        (
            "  mode: always",
            "  mode: always\n  timers: { drain_s: x }",
            "from 0 to 86400",
        ),
    ] {
        let said = errors(&with(from, to));
        assert!(said[0].contains(range), "{said:?}");
    }
}

#[test]
fn i5_typographic_signs_are_named_beside_what_they_break() {
    let said = errors(&with(
        "metrics: \"127.0.0.1:9464\"",
        "metrics: \u{201c}127.0.0.1:9464\u{201d}",
    ));
    assert!(
        said.iter()
            .any(|line| line.contains("typographic quotation mark")),
        "{said:?}"
    );
    let said = errors(&with("ports: [80, 443]", "ports: [80\u{2013}90]"));
    assert!(
        said.iter().any(|line| line.contains("typographic dash")),
        "{said:?}"
    );
    let said = errors(&with("  poll: adaptive", "\u{a0} poll: adaptive"));
    assert!(
        said.iter().any(|line| line.contains("space that is none")),
        "{said:?}"
    );
}

#[test]
fn i5_rules_that_never_match_are_warned_of() {
    let warned = |rules: &str| {
        let text = with(
            "  - { default: guard }\n",
            &format!("{rules}  - {{ default: guard }}\n"),
        );
        let loaded = check(&text).unwrap_or_else(|refused| panic!("{refused}"));
        let lines = loaded.warnings.list.iter().map(ToString::to_string);
        lines
            .filter(|line| line.contains("never matches"))
            .collect::<Vec<_>>()
    };
    let taken = |line: u32, by: u32| {
        format!(
            "{line}:5: warning: this rule never matches: the rule of line {by} takes all that it would; move it \
             before that one, or take it away"
        )
    };
    for (rules, expected) in [
        // Those of the example are 22 and 23.
        (
            "  - { when: { protocol: icmp, source: 10.0.0.0/8 }, then: deny }\n",
            vec![taken(24, 23)],
        ),
        (
            "  - { when: { source: 198.51.100.9/32, destination_port: 22 }, then: deny }\n",
            vec![taken(24, 22)],
        ),
        (
            "  - { when: { source: 198.51.100.0/24 }, then: deny }\n",
            vec![],
        ),
        (
            "  - { when: { destination_port: [22, 23], source: 198.51.100.0/24 }, then: deny }\n",
            vec![],
        ),
        (
            "  - { when: { not: { protocol: tcp } }, then: deny }\n  - { when: { protocol: udp }, then: deny }\n",
            vec![taken(25, 24)],
        ),
        (
            "  - { when: { vlan: [7, 9] }, then: deny }\n  - { when: { any: [ { vlan: 7 }, { vlan: 9, fragment: true } ] }, then: reject }\n",
            vec![taken(25, 24)],
        ),
        (
            "  - { when: { tcp_flags: syn }, then: deny }\n  - { when: { tcp_flags: [syn, \"!ack\"] }, then: deny }\n",
            vec![taken(25, 24)],
        ),
        (
            "  - { when: { tcp_flags: [syn, \"!ack\"] }, then: deny }\n  - { when: { tcp_flags: syn }, then: deny }\n",
            vec![],
        ),
    ] {
        assert_eq!(warned(rules), expected, "{rules}");
    }
    let void = warned(
        "  - { when: { all: [ { source: 10.0.0.0/8 }, { source: 192.0.2.0/24 } ] }, then: deny }\n",
    );
    assert!(
        void.len() == 1 && void[0].contains("contradicts itself"),
        "{void:?}"
    );
}

#[test]
fn i5_names_of_other_tools_are_answered_by_ours() {
    let said = errors(&with("destination_port: 22", "dport: 22"));
    assert!(
        said[0].ends_with("did you mean `destination_port`?"),
        "{said:?}"
    );
    let said = errors(&with("then: deny", "then: drop"));
    assert!(said[0].ends_with("did you mean `deny`?"), "{said:?}");
    let said = errors(&with("via: 192.0.2.254", "gateway: 192.0.2.254"));
    assert!(said[0].ends_with("did you mean `via`?"), "{said:?}");
}
