//! Every file of `conf/`: profiles that load, the schema that describes them, the page about them.

use std::fs;
use std::path::{Path, PathBuf};

use control::profile::{self, Machine, Severity, Strictness};
use serde_json::Value;

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf")
}

fn profiles() -> Vec<PathBuf> {
    let entries = fs::read_dir(conf())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_yaml = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    };
    let mut files: Vec<PathBuf> = entries.filter(is_yaml).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(conf().join("profile.schema.json")).unwrap()).unwrap()
}

fn value(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn every_profile_loads_and_lacks_at_most_its_keys() {
    let machine = Machine {
        cores: vec![0, 1, 2, 3],
        isolated_cores: vec![2, 3],
    };
    for file in profiles() {
        let text = fs::read_to_string(&file).unwrap();
        let loaded = profile::parse(&text, &file, &machine, Strictness::Check)
            .unwrap_or_else(|refused| panic!("{refused}"));
        for said in &loaded.warnings.list {
            assert_eq!(said.severity, Severity::Warning);
            assert!(said.what.starts_with("the key file"), "{}", loaded.warnings);
        }
        profile::load(&file, Strictness::Check).unwrap_or_else(|refused| panic!("{refused}"));
    }
}

#[test]
fn the_schema_is_the_one_that_the_code_gives() {
    let committed = fs::read_to_string(conf().join("profile.schema.json")).unwrap();
    assert!(
        committed == profile::json_schema_text(),
        "run: cargo run -p tidegate -- schema > conf/profile.schema.json"
    );
}

#[test]
fn every_profile_agrees_with_the_schema() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for file in profiles() {
        let text = fs::read_to_string(&file).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(&value(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
    }
}

#[test]
fn the_schema_refuses_what_the_loader_refuses() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let example = fs::read_to_string(conf().join("guard.yaml")).unwrap();
    assert!(validator.is_valid(&value(&example)));
    for (from, to) in [
        ("mode: always ", "mode: alwys "),
        ("poll: adaptive", "pol: adaptive"),
        ("ports: [80, 443]", "ports: [80, 70000]"),
        ("ports: [80, 443]", "ports: []"),
        ("device: \"net_af_packet1,iface=in0\"", "vlan: 5000"),
        ("192.0.2.1/24", "192.0.2.1"),
        ("via: 192.0.2.254", "vie: 192.0.2.254"),
        ("{ default: guard }", "{ default: guard, then: deny }"),
        ("{ default: guard }", "{ when: {}, then: deny }"),
        ("{ default: guard }", "{ then: deny }"),
        ("then: forward", "then: allow"),
        ("protocol: icmpv6", "protocol: icmp6"),
        ("workers: [1]", "workers: all"),
        ("metrics: \"127.0.0.1:9464\"", "metrics: on"),
    ] {
        let count = example.matches(from).count();
        assert!(count >= 1, "`{from}` is not in the example");
        let wrong = value(&example.replace(from, to));
        assert!(!validator.is_valid(&wrong), "the schema takes `{to}`");
    }
}

#[test]
fn the_page_names_every_profile_and_every_key() {
    let page = fs::read_to_string(conf().join("README.md")).unwrap();
    for file in profiles() {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(page.contains(&name), "conf/README.md does not name {name}");
    }
    let mut keys = Vec::new();
    property_names(&schema(), &mut keys);
    assert!(keys.len() > 60, "{keys:?}");
    for key in keys {
        assert!(
            page.contains(&format!("`{key}`")),
            "conf/README.md does not name `{key}`"
        );
    }
}

fn property_names(schema: &Value, names: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        names.extend(properties.keys().cloned());
    }
    match schema {
        Value::Object(map) => map.values().for_each(|inner| property_names(inner, names)),
        Value::Array(list) => list.iter().for_each(|inner| property_names(inner, names)),
        _ => {}
    }
}
