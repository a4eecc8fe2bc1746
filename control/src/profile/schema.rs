//! The JSON Schema of profiles, for editors.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::raw::RawProfile;

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

pub(super) fn metrics(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^(off|.+:[0-9]{1,5})$" })
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
        { "const": "off" },
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
