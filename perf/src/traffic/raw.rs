//! Traffic as it is written.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Traffic that `tidegate-perf test --traffic FILE` sends.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Traffic")]
pub(super) struct RawTraffic {
    /// What reports call it; the file's name by default.
    pub(super) name: Option<String>,
    /// What makes two runs draw the same addresses; 1 by default.
    #[serde(default = "one")]
    pub(super) seed: u64,
    /// The streams, by their names.
    pub(super) streams: BTreeMap<String, RawStream>,
}

fn one() -> u64 {
    1
}

/// Frames of one kind.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStream {
    /// Which way it goes; `both` by default, and then the way back has source and destination
    /// exchanged.
    #[serde(default)]
    pub(super) direction: RawDirection,
    /// What a frame is; needed unless `replay` says it.
    pub(super) packet: Option<RawPacket>,
    /// Sends the frames of a capture instead.
    pub(super) replay: Option<RawReplay>,
    /// How large frames are, check sequence included: a number, `imix`, letters of an IMIX genome
    /// (RFC 6985), or a list of parts. 64 by default.
    #[serde(default)]
    #[schemars(schema_with = "size_schema")]
    pub(super) size: Option<serde_yaml::Value>,
    /// How many flows there are; by default as many as the widest range has values.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(super) flows: Option<u32>,
    /// How often it sends, as in `10 kpps`, `50 Mbit/s` or `10 %` (of the line).
    pub(super) rate: Option<String>,
    /// Sends in bursts instead of evenly.
    pub(super) burst: Option<RawBurst>,
    /// Whether the other side is to know the frames again by a signature at their end; `true` by
    /// default. Without it they are sent and not counted as lost: a flood.
    #[serde(default = "yes")]
    pub(super) measured: bool,
}

fn yes() -> bool {
    true
}

fn size_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "integer", "minimum": 64, "maximum": 9018 },
        { "type": "string", "pattern": "^(imix|[a-i]+)$" },
        { "type": "array", "minItems": 1, "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["size", "weight"],
            "properties": {
                "size": { "type": "integer", "minimum": 64, "maximum": 9018 },
                "weight": { "type": "integer", "minimum": 1, "maximum": 1024 },
            },
        } },
    ] })
}

/// One size of a mix.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPart {
    pub(super) size: u16,
    pub(super) weight: u32,
}

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawDirection {
    /// From each device to the other.
    #[default]
    Both,
    /// From the first device to the second.
    TxToRx,
    /// From the second device to the first.
    RxToTx,
}

/// What a frame carries.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPacket {
    /// What it is.
    pub(super) kind: RawKind,
    /// The octets behind the station addresses, in hexadecimal, for `raw`.
    pub(super) octets: Option<String>,
    /// Where it claims to come from: an address, a range `FIRST-LAST`, or a prefix; by default what
    /// lies behind the sending side.
    pub(super) source: Option<RawRange>,
    /// Where it goes, likewise.
    pub(super) destination: Option<RawRange>,
    /// The source port, or a range `FIRST-LAST`; 49184 to 50207 by default.
    pub(super) source_port: Option<RawRange>,
    /// The destination port, or a range; 7 (echo) by default.
    pub(super) destination_port: Option<RawRange>,
    /// Whether it is of IPv6, where no address says it.
    #[serde(default)]
    pub(super) ipv6: bool,
    /// The 802.1Q identifier.
    #[schemars(range(min = 1, max = 4094))]
    pub(super) vlan: Option<u16>,
    /// The time to live, or hop limit; 64 by default.
    #[schemars(range(min = 1))]
    pub(super) ttl: Option<u8>,
    /// The differentiated services code point; 0 by default.
    #[schemars(range(max = 63))]
    #[serde(default)]
    pub(super) dscp: u8,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawKind {
    /// A UDP datagram.
    Udp,
    /// A TCP segment that asks for a connection.
    TcpSyn,
    /// A TCP segment with a forged acknowledgement.
    TcpAck,
    /// Octets as they are given.
    Raw,
}

/// Values that flows go through: a text such as `198.18.0.0/24`, or the same with an order.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a value, a range such as `FIRST-LAST`, or `{ random: RANGE }`"
)]
pub(super) enum RawRange {
    /// A number.
    Number(u32),
    /// One value, or a range that flows count through.
    Counting(String),
    /// A range that flows draw from by the seed.
    Random {
        /// The range.
        random: String,
    },
}

/// Bursts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBurst {
    /// Frames in each, sent at `rate`.
    #[schemars(range(min = 1))]
    pub(super) frames: u32,
    /// From the start of one to the start of the next, as in `10ms`.
    pub(super) every: String,
}

/// A capture that is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReplay {
    /// A pcap or pcapng file of Ethernet frames or IP packets; a path starts from this file's folder.
    pub(super) file: String,
    /// How often it is sent; once by default.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) repeat: Option<u32>,
}
