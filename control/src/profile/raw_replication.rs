//! The raw form of the `replication` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw_words::{Truth, words};
use super::schema;

/// The other guards, and how sessions are shared with them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Replication")]
pub(super) struct RawReplication {
    /// The port that the others are reached through; it may serve other traffic too.
    pub(super) port: String,
    /// This guard's number, which no other one has.
    #[schemars(range(min = 1, max = 254))]
    pub(super) own: u32,
    /// The other guards.
    #[schemars(length(min = 1, max = 31))]
    pub(super) peers: Vec<RawPeer>,
    /// The multicast group that all of them hear, in place of an address for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub(super) group: Option<String>,
    /// Whether the port's whole segment is sent to (255.255.255.255), in place of an address for
    /// each.
    #[serde(default)]
    pub(super) broadcast: Truth,
    /// The UDP port, the same on all of them.
    #[serde(default = "udp_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub(super) udp_port: u32,
    /// The file of the replication keys, from the profile's folder; `tidegate keygen
    /// --replication` makes it.
    #[serde(default = "keys")]
    pub(super) keys: String,
    /// When sessions are shared, unless a rule says otherwise.
    #[serde(default = "established")]
    pub(super) share: RawShare,
    /// When a session that is shared `deferred` is told to all.
    #[serde(default)]
    pub(super) deferred: RawDeferred,
    /// How often the others are told that this guard lives, in milliseconds.
    #[serde(default = "hello_ms")]
    #[schemars(range(min = 10, max = 10_000))]
    pub(super) hello_ms: u32,
    /// After how long a silence another guard counts as dead, in milliseconds: at least three times
    /// `hello_ms`.
    #[serde(default = "dead_ms")]
    #[schemars(range(min = 30, max = 60_000))]
    pub(super) dead_ms: u32,
    /// How long a packet of an unknown flow waits for another guard's word, in milliseconds.
    #[serde(default = "hold_ms")]
    #[schemars(range(min = 1, max = 1_000))]
    pub(super) hold_ms: u32,
}

/// Of the dynamic ports, which no service is registered for (RFC 6335 §6).
fn udp_port() -> u32 {
    49_790
}

fn keys() -> String {
    "keys/replication.key".into()
}

fn established() -> RawShare {
    RawShare::Established
}

fn hello_ms() -> u32 {
    50
}

fn dead_ms() -> u32 {
    300
}

fn hold_ms() -> u32 {
    20
}

words! {
    RawShare as "Share" {
        /// Already when a SYN is answered.
        Begun = "begun",
        /// When the client has proved to exist, and when the server has answered.
        Established = "established",
        /// At first with one other guard, and with all when the session lasts or one of them asks.
        Deferred = "deferred",
        /// Not at all.
        Never = "never",
    }
}

/// Another guard.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Peer")]
pub(super) struct RawPeer {
    /// Its number: its own profile's `own`.
    #[schemars(range(min = 1, max = 254))]
    pub(super) number: u32,
    /// Its address; none with `group` or `broadcast`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub(super) address: Option<String>,
}

/// When a session that is shared `deferred` is told to all.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of keys")]
#[schemars(rename = "Deferred")]
pub(super) struct RawDeferred {
    /// After so many milliseconds,
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(super) after_ms: u32,
    /// or so many bytes.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) after_bytes: u32,
}

impl Default for RawDeferred {
    fn default() -> Self {
        Self {
            after_ms: 2_000,
            after_bytes: 100_000,
        }
    }
}
