//! Traffic from a file: what is written becomes streams, and what is wrong is told with its place.

use std::path::Path;

use dataplane::wire::address::{Address, Family};
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use yaml::{Diagnostic, Diagnostics, Node, Severity};

use super::raw::{
    RawBurst, RawDirection, RawKind, RawPacket, RawPart, RawRange, RawReplay, RawStream, RawTraffic,
};
use super::replay;
use super::words;
use super::{
    AddressRange, Direction, Kind, MAXIMUM_FLOWS, MAXIMUM_STREAMS, NumberRange, Order, Packet,
    Rate, Shape, Sizes, Stream, TTL, Traffic, Transport,
};

/// Where who has no description begins.
const EXAMPLE: &str = "conf/traffic/imix.yaml";

/// Reads a description of traffic.
///
/// # Errors
/// Everything that is wrong with it, each with line, column and remedy.
pub fn load(file: &Path) -> Result<Traffic, Diagnostics> {
    let (raw, root): (RawTraffic, Node) = yaml::load(file, EXAMPLE)?;
    let mut checker = Checker {
        folder: file.parent().unwrap_or(Path::new("")),
        errors: Vec::new(),
    };
    let streams = checker.streams(&raw, &root);
    if !checker.errors.is_empty() {
        return Err(Diagnostics::new(file, checker.errors));
    }
    let stem = file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    Ok(Traffic {
        name: raw.name.or(stem).unwrap_or_default(),
        seed: raw.seed,
        streams,
    })
}

/// The JSON Schema (2020-12) of descriptions, as text that ends in a new line.
#[must_use]
pub fn json_schema_text() -> String {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<RawTraffic>();
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

struct Checker<'a> {
    folder: &'a Path,
    errors: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn error(&mut self, node: &Node, what: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(Diagnostic {
            severity: Severity::Error,
            mark: node.mark,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    /// The value, or none and the error told at the node.
    fn told<T>(&mut self, node: &Node, result: Result<T, (String, String)>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err((what, remedy)) => {
                self.error(node, what, remedy);
                None
            }
        }
    }

    fn streams(&mut self, raw: &RawTraffic, root: &Node) -> Vec<Stream> {
        let node = root.get("streams");
        let mut streams = Vec::new();
        for (name, raw) in &raw.streams {
            let node = node.get(name);
            let Some(stream) = self.stream(name, raw, node) else {
                continue;
            };
            match raw.direction {
                RawDirection::TxToRx => streams.push(stream),
                RawDirection::RxToTx => streams.push(Stream {
                    direction: Direction::Outward,
                    ..stream
                }),
                RawDirection::Both => {
                    let back = stream.clone().returned();
                    streams.extend([stream, back]);
                }
            }
        }
        if streams.is_empty() && self.errors.is_empty() {
            self.error(
                node,
                "there is no stream",
                "describe one, as in conf/traffic/imix.yaml",
            );
        }
        if streams.len() > MAXIMUM_STREAMS {
            let what = format!(
                "there are {} streams, both directions counted",
                streams.len()
            );
            self.error(node, what, format!("describe at most {MAXIMUM_STREAMS}"));
        }
        streams
    }

    fn stream(&mut self, name: &str, raw: &RawStream, node: &Node) -> Option<Stream> {
        let rate = raw
            .rate
            .as_deref()
            .map_or(Ok(Rate::FramesPerS(1000.0)), words::rate);
        let rate = self.told(node.get("rate"), rate);
        let burst = raw.burst.as_ref();
        let shape = burst.map_or(Some(Shape::Continuous), |raw| {
            self.burst(raw, node.get("burst"))
        });
        let stream = match (&raw.packet, &raw.replay) {
            (Some(packet), None) => self.described(raw, packet, node),
            (None, Some(replay)) => self.replayed(raw, replay, node),
            _ => {
                self.error(
                    node,
                    "a stream sends either a `packet` or a `replay`",
                    "write one of them, such as `packet: { kind: udp }`",
                );
                None
            }
        }?;
        Some(Stream {
            name: name.to_owned(),
            rate: rate?,
            shape: match stream.shape {
                recorded @ Shape::Recorded(_) if raw.rate.is_none() => recorded,
                Shape::Recorded(_) | Shape::Continuous | Shape::Bursts { .. } => shape?,
            },
            ..stream
        })
    }

    fn burst(&mut self, raw: &RawBurst, node: &Node) -> Option<Shape> {
        if raw.frames == 0 {
            self.error(
                node.get("frames"),
                "a burst has at least one frame",
                "write 1 or more",
            );
            return None;
        }
        let period_ns = self.told(node.get("every"), words::time(&raw.every))?;
        Some(Shape::Bursts {
            frames: raw.frames,
            period_s: period_ns as f64 / 1e9,
        })
    }

    /// A stream of frames that are built here; name, rate and shape are the caller's.
    fn described(&mut self, raw: &RawStream, packet: &RawPacket, node: &Node) -> Option<Stream> {
        let sizes = self.sizes(raw, node);
        let packet_node = node.get("packet");
        let vlan = packet.vlan;
        if vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
            let remedy = "write a number from 1 to 4094";
            self.error(packet_node.get("vlan"), "there is no such VLAN", remedy);
        }
        let kind = match packet.kind {
            RawKind::Raw => {
                let octets = words::octets(packet.octets.as_deref());
                Kind::Raw(self.told(packet_node.get("octets"), octets)?)
            }
            _ => Kind::Ip(self.packet(packet, packet_node)?),
        };
        let widest = match &kind {
            Kind::Ip(packet) => packet.widest(),
            Kind::Raw(_) | Kind::Replay(_) => 1,
        };
        let flows = raw.flows.unwrap_or(widest.min(MAXIMUM_FLOWS));
        if flows == 0 || flows > MAXIMUM_FLOWS {
            let remedy = format!("write a number from 1 to {MAXIMUM_FLOWS}");
            self.error(
                node.get("flows"),
                format!("{flows} flows are not possible"),
                remedy,
            );
        }
        let stream = Stream {
            name: String::new(),
            direction: Direction::Inward,
            kind,
            vlan,
            sizes: sizes?,
            flows,
            rate: Rate::FramesPerS(1.0),
            shape: Shape::Continuous,
            is_signed: raw.measured,
        };
        let smallest = stream.smallest();
        if stream.sizes.smallest() < smallest {
            let what = format!(
                "{} octets have no room for the headers{}",
                stream.sizes.smallest(),
                if raw.measured {
                    " and the signature"
                } else {
                    ""
                }
            );
            let remedy = format!("write at least {smallest}, check sequence included");
            self.error(node.get("size"), what, remedy);
            return None;
        }
        Some(stream)
    }

    fn sizes(&mut self, raw: &RawStream, node: &Node) -> Option<Sizes> {
        use serde_yaml::Value;
        let sizes = match &raw.size {
            None => Sizes::fixed(64),
            Some(Value::String(word)) if word == "imix" => Ok(Sizes::imix()),
            Some(Value::String(letters)) => Sizes::genome(letters),
            Some(Value::Number(number)) => {
                let size = number.as_u64().and_then(|size| u32::try_from(size).ok());
                Sizes::fixed(size.unwrap_or(0))
            }
            Some(list @ Value::Sequence(_)) => match Vec::<RawPart>::deserialize(list) {
                Ok(parts) => {
                    let parts: Vec<_> = parts.iter().map(|part| (part.size, part.weight)).collect();
                    Sizes::mix(&parts)
                }
                Err(error) => {
                    let remedy = "write parts such as `{ size: 64, weight: 7 }`";
                    self.error(node.get("size"), error.to_string(), remedy);
                    return None;
                }
            },
            Some(_) => {
                let remedy = "write a number, `imix`, letters such as `aaag`, or a list of parts";
                self.error(node.get("size"), "this is no size", remedy);
                return None;
            }
        };
        let remedy = "sizes count a frame with its check sequence, as RFC 2544 does".to_owned();
        self.told(
            node.get("size"),
            sizes.map_err(|error| (error.to_string(), remedy)),
        )
    }

    fn packet(&mut self, raw: &RawPacket, node: &Node) -> Option<Packet> {
        let mut addresses = |range: &Option<RawRange>, key: &str| -> Option<Option<AddressRange>> {
            match range {
                None => Some(None),
                Some(range) => self.told(node.get(key), addresses(range)).map(Some),
            }
        };
        let source = addresses(&raw.source, "source");
        let destination = addresses(&raw.destination, "destination");
        let mut ports = |range: &Option<RawRange>, key: &str, usual: NumberRange| match range {
            None => Some(usual),
            Some(range) => self.told(node.get(key), ports(range)),
        };
        let usual = super::usual_ports();
        let source_port = ports(&raw.source_port, "source_port", usual[0]);
        let destination_port = ports(&raw.destination_port, "destination_port", usual[1]);
        let (source, destination) = (source?, destination?);
        let families: Vec<bool> = [source, destination]
            .iter()
            .flatten()
            .map(AddressRange::is_ipv6)
            .collect();
        if families.windows(2).any(|pair| pair[0] != pair[1])
            || (raw.ipv6 && families.contains(&false))
        {
            let remedy = "write both of IPv4, or both of IPv6";
            self.error(node, "source and destination are of two families", remedy);
            return None;
        }
        if raw.dscp > 63 {
            let remedy = "write a number from 0 to 63";
            self.error(node.get("dscp"), "there is no such code point", remedy);
            return None;
        }
        Some(Packet {
            transport: match raw.kind {
                RawKind::TcpSyn => Transport::TcpSyn,
                RawKind::TcpAck => Transport::TcpAck,
                RawKind::Udp | RawKind::Raw => Transport::Udp,
            },
            is_ipv6: raw.ipv6 || families.contains(&true),
            source,
            destination,
            source_port: source_port?,
            destination_port: destination_port?,
            ttl: raw.ttl.unwrap_or(TTL).max(1),
            dscp: raw.dscp,
        })
    }

    fn replayed(&mut self, raw: &RawStream, replay: &RawReplay, node: &Node) -> Option<Stream> {
        let place = node.get("replay");
        if raw.size.is_some() || raw.flows.is_some() || raw.direction == RawDirection::Both {
            self.error(
                node,
                "a replay goes one way, and its frames are as they are",
                "write `direction: tx-to-rx` or `rx-to-tx`, without `size` and `flows`",
            );
            return None;
        }
        let repeat = replay.repeat.unwrap_or(1);
        if !(1..=1_000_000).contains(&repeat) {
            let remedy = "write a number from 1 to 1000000";
            self.error(place.get("repeat"), "it cannot be sent so often", remedy);
            return None;
        }
        let read = replay::read(&self.folder.join(&replay.file), repeat);
        let capture = self.told(place.get("file"), read)?;
        if capture.untimed > 0 && raw.rate.is_none() {
            let what = format!("{} of its packets have no time", capture.untimed);
            let remedy = "give the stream a `rate`, such as `rate: 1 kpps`";
            self.error(place.get("file"), what, remedy);
            return None;
        }
        let sizes = Sizes::of_frames(capture.frames.iter().map(Vec::len));
        Some(Stream {
            name: String::new(),
            direction: Direction::Inward,
            sizes,
            shape: Shape::Recorded(std::sync::Arc::clone(&capture.times_ns)),
            kind: Kind::Replay(std::sync::Arc::new(capture)),
            vlan: None,
            flows: 1,
            rate: Rate::FramesPerS(1.0),
            is_signed: false,
        })
    }
}

/// A range of addresses.
fn addresses(range: &RawRange) -> Result<AddressRange, (String, String)> {
    let (text, order) = match range {
        RawRange::Number(number) => {
            let remedy = "write an address such as 198.18.0.1".to_owned();
            return Err((format!("{number} is no address"), remedy));
        }
        RawRange::Counting(text) => (text, Order::Counting),
        RawRange::Random { random } => (random, Order::Random),
    };
    let (first, count) = words::addresses(text)?;
    Ok(AddressRange {
        first,
        count,
        order,
    })
}

/// A range of ports.
fn ports(range: &RawRange) -> Result<NumberRange, (String, String)> {
    let (text, order) = match range {
        RawRange::Number(number) => (number.to_string(), Order::Counting),
        RawRange::Counting(text) => (text.clone(), Order::Counting),
        RawRange::Random { random } => (random.clone(), Order::Random),
    };
    let (first, count) = words::ports(&text)?;
    Ok(NumberRange {
        first,
        count,
        order,
    })
}

impl Packet {
    /// The number of values of its widest range.
    fn widest(&self) -> u32 {
        let addresses = [self.source, self.destination];
        let addresses = addresses.iter().flatten().map(|range| range.count);
        let ports = [self.source_port.count, self.destination_port.count];
        addresses.chain(ports).max().unwrap_or(1)
    }

    /// Whether an address is of the family that this packet is of.
    pub(crate) const fn family(&self) -> Family {
        if self.is_ipv6 { Family::V6 } else { Family::V4 }
    }
}

impl Stream {
    /// The same stream the other way, source and destination exchanged.
    fn returned(mut self) -> Self {
        self.direction = Direction::Outward;
        if let Kind::Ip(packet) = &mut self.kind {
            std::mem::swap(&mut packet.source, &mut packet.destination);
            std::mem::swap(&mut packet.source_port, &mut packet.destination_port);
        }
        self
    }
}

/// The last address of a range must be one, too.
pub(super) fn last(first: Address, count: u128) -> Option<Address> {
    let bits = first.to_bits().checked_add(count - 1)?;
    Some(Address::from_bits(bits)).filter(|last| last.family() == first.family())
}
