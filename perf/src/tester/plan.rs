//! From a description of traffic and a wiring to what each lane sends and expects.

use dataplane::wire::address::Address;
use dataplane::wire::ethernet::MacAddress;
use ipnetwork::IpNetwork;

use super::devices::Refusal;
use super::frames::Template;
use super::generator::{Fields, Line, Range};
use super::receiver::Known;
use super::sequence::Sequences;
use super::signature::SECOND_SIDE;
use crate::traffic::{
    AddressRange, CHECK_SEQUENCE_BYTES, Kind, MAXIMUM_FLOWS, MAXIMUM_STREAMS, NumberRange, Packet,
    Stream, Traffic,
};
use crate::wiring::Side;

/// Where frames of a side go at the link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stations {
    pub(super) own: MacAddress,
    /// The next hop of IPv4, and of all that is not IP.
    pub(super) ipv4: MacAddress,
    pub(super) ipv6: MacAddress,
}

/// A description that fits a tester.
pub(super) struct Plan<'a> {
    traffic: &'a Traffic,
    sides: [&'a Side; 2],
    stations: [Stations; 2],
    /// Lanes of each side, which share the flows.
    lanes: u32,
}

impl<'a> Plan<'a> {
    /// Checks that the description can be sent.
    pub(super) fn new(
        traffic: &'a Traffic,
        sides: [&'a Side; 2],
        stations: [Stations; 2],
        lanes: usize,
    ) -> Result<Self, Refusal> {
        if traffic.streams.is_empty() || traffic.streams.len() > MAXIMUM_STREAMS {
            return Err(Refusal::new(
                format!("{} has {} streams", traffic.name, traffic.streams.len()),
                format!("describe 1 to {MAXIMUM_STREAMS}, both directions counted"),
            ));
        }
        for stream in &traffic.streams {
            fits(stream)?;
        }
        Ok(Self {
            traffic,
            sides,
            stations,
            lanes: lanes as u32,
        })
    }

    fn streams_of(&self, side: usize) -> impl Iterator<Item = (usize, &'a Stream)> {
        let streams = self.traffic.streams.iter().enumerate();
        streams.filter(move |(_, stream)| stream.direction.sender() == side)
    }

    /// What lane `lane` of a side sends: of each stream an equal share of flows and rate.
    pub(super) fn lines(&self, side: usize, lane: usize) -> Vec<Line> {
        let side_bit = if side == 1 { SECOND_SIDE } else { 0 };
        let mut first_flow = 0;
        let mut lines = Vec::new();
        for (place, stream) in self.streams_of(side) {
            let (skipped, flows) = share(stream.flows, self.lanes, lane as u32);
            let mut mine = stream.clone();
            mine.flows = flows;
            mine.rate = mine.rate.times(f64::from(flows) / f64::from(stream.flows));
            let fields = self.fields(stream, place, skipped);
            let (templates, order) = self.templates(stream, side);
            if flows > 0 {
                let first = side_bit | (first_flow + skipped);
                lines.push(Line::new(mine, templates, order, fields, first));
            }
            first_flow += stream.flows;
        }
        lines
    }

    fn templates(&self, stream: &Stream, side: usize) -> (Vec<Template>, Vec<u32>) {
        let stations = &self.stations[side];
        let to = match &stream.kind {
            Kind::Ip(packet) if packet.is_ipv6 => stations.ipv6,
            _ => stations.ipv4,
        };
        if let Kind::Replay(capture) = &stream.kind {
            let template = |frame: &Vec<u8>| Template::recorded(frame, stations.own, to);
            let order = (0..capture.frames.len() as u32).collect();
            return (capture.frames.iter().map(template).collect(), order);
        }
        let mut sizes: Vec<u16> = stream.sizes.sequence().to_vec();
        sizes.sort_unstable();
        sizes.dedup();
        let template = |size: &u16| Template::new(stream, usize::from(*size), stations.own, to);
        let place = |size: &u16| sizes.binary_search(size).unwrap_or(0) as u32;
        let order = stream.sizes.sequence().iter().map(place).collect();
        (sizes.iter().map(template).collect(), order)
    }

    fn fields(&self, stream: &Stream, place: usize, skipped: u32) -> Fields {
        let side = stream.direction.sender();
        let nowhere = AddressRange::one(Address::from_v4([0; 4]));
        let nothing = NumberRange::counting(0, 1);
        let (addresses, ports) = match &stream.kind {
            Kind::Raw(_) | Kind::Replay(_) => ([nowhere; 2], [nothing; 2]),
            Kind::Ip(packet) => (
                [
                    packet.source.unwrap_or_else(|| self.behind(side, packet)),
                    packet
                        .destination
                        .unwrap_or_else(|| self.behind(1 - side, packet)),
                ],
                [packet.source_port, packet.destination_port],
            ),
        };
        let seed = |field: u64| {
            let mut seed = self.traffic.seed ^ (place as u64) << 8 ^ field << 32;
            crate::traffic::mix(&mut seed)
        };
        let address = |range: AddressRange, field| {
            Range::new(range.first, range.count, range.order, seed(field), skipped)
        };
        let port = |range: NumberRange, field| {
            Range::new(range.first, range.count, range.order, seed(field), skipped)
        };
        Fields {
            source: address(addresses[0], 1),
            destination: address(addresses[1], 2),
            source_port: port(ports[0], 3),
            destination_port: port(ports[1], 4),
        }
    }

    /// An address behind a side: of its networks, else its own, else of the block that is kept for
    /// such tests (RFC 2544 appendix C.2.2, RFC 5180 §8).
    fn behind(&self, side: usize, packet: &Packet) -> AddressRange {
        let is_wanted = |network: &&IpNetwork| network.is_ipv6() == packet.is_ipv6;
        let of = self.sides[side];
        if let Some(network) = of.networks.iter().find(is_wanted) {
            let first = Address::from(network.network());
            let is_single = network.prefix() >= if packet.is_ipv6 { 127 } else { 31 };
            let host = if is_single { 0 } else { 1 };
            return AddressRange::one(Address::from_bits(first.to_bits() + host));
        }
        if let Some(own) = of.addresses.iter().find(is_wanted) {
            return AddressRange::one(own.ip().into());
        }
        let number = side as u8;
        AddressRange::one(if packet.is_ipv6 {
            let block = 0x2001_0002_u128 << 96;
            Address::from_bits(block | u128::from(number) << 64 | 1)
        } else {
            Address::from_v4([198, 18 + number, 0, 1])
        })
    }

    /// What a side receives: the flows that the other side sends.
    pub(super) fn known_from(&self, sender: usize) -> (Vec<Known>, u32) {
        let mut end = 0;
        let known = self.streams_of(sender).map(|(_, stream)| {
            end += stream.flows;
            Known {
                end,
                headers: stream.header_bytes(),
            }
        });
        (known.collect(), end)
    }

    /// Octets of the frames that a side sends, without check sequence.
    pub(super) fn sizes_of(&self, side: usize) -> Vec<usize> {
        let mut sizes: Vec<usize> = self
            .streams_of(side)
            .flat_map(|(_, stream)| stream.sizes.sequence())
            .map(|size| usize::from(*size) - CHECK_SEQUENCE_BYTES)
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Room for the numbers of a sender's flows.
    pub(super) fn sequences(flows: u32) -> Result<Sequences, Refusal> {
        Sequences::new(flows as usize).map_err(|error| {
            Refusal::new(
                format!("no memory for {flows} flows: {error}"),
                "describe fewer flows",
            )
        })
    }
}

/// The flows of one lane of several: how many come before, and how many there are.
fn share(flows: u32, lanes: u32, lane: u32) -> (u32, u32) {
    let upto = |lane: u32| (u64::from(flows) * u64::from(lane) / u64::from(lanes)) as u32;
    (upto(lane), upto(lane + 1) - upto(lane))
}

/// Whether a stream can be sent.
fn fits(stream: &Stream) -> Result<(), Refusal> {
    let smallest = stream.smallest();
    let name = &stream.name;
    if stream.sizes.smallest() < smallest {
        return Err(Refusal::new(
            format!(
                "stream {name}: {} octets have no room for the headers{}",
                stream.sizes.smallest(),
                if stream.is_signed {
                    " and the signature by which frames are known again"
                } else {
                    ""
                }
            ),
            format!("make its frames at least {smallest} octets, check sequence included"),
        ));
    }
    if stream.flows == 0 || stream.flows > MAXIMUM_FLOWS {
        return Err(Refusal::new(
            format!("stream {name} has {} flows", stream.flows),
            format!("describe 1 to {MAXIMUM_FLOWS}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn lanes_share_all_flows_and_none_twice() {
        for (flows, lanes) in [(1, 4), (10, 3), (1024, 2)] {
            let mut next = 0;
            for lane in 0..lanes {
                let (first, count) = share(flows, lanes, lane);
                assert_eq!(first, next);
                next += count;
            }
            assert_eq!(next, flows);
        }
    }
}
