//! The JSON Schema of profiles, for editors.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::raw::RawProfile;
use super::raw_words::{FALSE_PATTERN, TRUTH_PATTERN};

const PORT_RANGE: &str = "^[0-9]{1,5}(-[0-9]{1,5})?$";
const PREFIX: &str = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$";

/// The JSON Schema (2020-12) of a profile, as text that ends in a new line.
#[must_use]
pub fn json_schema_text() -> String {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<RawProfile>();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The ranges of the numbers of each key, where it is the same wherever the key stands.
pub(super) fn ranges() -> &'static BTreeMap<String, Option<(u64, u64)>> {
    static RANGES: LazyLock<BTreeMap<String, Option<(u64, u64)>>> = LazyLock::new(|| {
        let mut ranges = BTreeMap::new();
        let schema = serde_json::from_str(&json_schema_text()).unwrap_or_default();
        gather_ranges(&schema, &mut ranges);
        ranges
    });
    &RANGES
}

fn gather_ranges(schema: &Value, ranges: &mut BTreeMap<String, Option<(u64, u64)>>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        if let Some(range) = range_of(property) {
            let known = ranges.entry(key.clone()).or_insert(Some(range));
            if *known != Some(range) {
                *known = None;
            }
        }
    }
    match schema {
        Value::Object(map) => map.values().for_each(|inner| gather_ranges(inner, ranges)),
        Value::Array(list) => list.iter().for_each(|inner| gather_ranges(inner, ranges)),
        _ => {}
    }
}

/// A number's range, or that of one of a list.
fn range_of(property: &Value) -> Option<(u64, u64)> {
    let number = |key: &str| property.get(key).and_then(Value::as_u64);
    if let (Some(first), Some(last)) = (number("minimum"), number("maximum")) {
        return Some((first, last));
    }
    property.get("anyOf")?.as_array()?.iter().find_map(range_of)
}

fn one_or_many(one: &Value) -> Schema {
    json_schema!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] })
}

pub(super) fn workers(_: &mut SchemaGenerator) -> Schema {
    let cores = json!({ "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?$" },
    ] });
    json_schema!({ "anyOf": [
        { "const": "auto" },
        cores,
        { "type": "array", "minItems": 1, "items": cores },
    ] })
}

pub(super) fn queues(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "const": "auto" },
        { "type": "integer", "minimum": 1, "maximum": super::MAXIMUM_QUEUES },
    ] })
}

/// `off` as the tools of YAML 1.1 and 1.2 hand it on.
fn off() -> Value {
    json!({ "anyOf": [{ "const": false }, { "type": "string", "pattern": FALSE_PATTERN }] })
}

/// Words of which one is `on` or `off` may be given as truths: tools of YAML 1.1 make them so.
pub(super) fn switches(schema: &mut Schema) {
    let text = serde_json::to_string(schema).unwrap_or_default();
    let (has_on, has_off) = (text.contains(r#""on""#), text.contains(r#""off""#));
    let other = match (has_on, has_off) {
        (false, false) => return,
        (true, _) => {
            json!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": TRUTH_PATTERN }] })
        }
        (false, true) => off(),
    };
    let mut words = serde_json::Map::new();
    for key in ["oneOf", "enum", "type"] {
        if let Some(value) = schema.remove(key) {
            words.insert(key.into(), value);
        }
    }
    schema.insert("anyOf".into(), json!([words, other]));
}

pub(super) fn metrics(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string", "pattern": "^.+:[0-9]{1,5}$" }, off()] })
}

pub(super) fn interface_addresses(_: &mut SchemaGenerator) -> Schema {
    one_or_many(&json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$" }))
}

pub(super) fn route_destination(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "const": "default" }, { "type": "string", "pattern": PREFIX }] })
}

pub(super) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+$" })
}

pub(super) fn prefixes(_: &mut SchemaGenerator) -> Schema {
    one_or_many(&json!({ "type": "string", "pattern": PREFIX }))
}

pub(super) fn port_ranges(_: &mut SchemaGenerator) -> Schema {
    one_or_many(&json!({ "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 65535 },
        { "type": "string", "pattern": PORT_RANGE },
    ] }))
}

pub(super) fn window_scale(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        off(),
        { "type": "integer", "minimum": 0, "maximum": 14 },
    ] })
}

pub(super) fn protocols(_: &mut SchemaGenerator) -> Schema {
    one_or_many(&json!({ "anyOf": [
        { "enum": super::resolve::protocol_names() },
        { "type": "integer", "minimum": 0, "maximum": 255 },
    ] }))
}

pub(super) fn vlans(_: &mut SchemaGenerator) -> Schema {
    one_or_many(&json!({ "type": "integer", "minimum": 1, "maximum": 4094 }))
}

pub(super) fn tcp_flags(_: &mut SchemaGenerator) -> Schema {
    one_or_many(&json!({ "type": "string", "pattern": "^!?(fin|syn|rst|psh|ack|urg|ece|cwr)$" }))
}

/// A rule has `when` and `then`, or `default` alone.
pub(super) fn rule_is_one_of_two(schema: &mut Schema) {
    schema.insert(
        "oneOf".into(),
        json!([
            { "required": ["when", "then"] },
            { "required": ["default"], "maxProperties": 1 },
        ]),
    );
}
