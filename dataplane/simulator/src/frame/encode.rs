//! Writing frames.

use std::net::IpAddr;

use super::{Ends, Mac, Segment, checksum, options};

/// The link and network layers of a frame to be written.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The frame's destination station.
    pub to_station: Mac,
    /// The frame's source station.
    pub from_station: Mac,
    /// The IP source.
    pub source: IpAddr,
    /// The IP destination, of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The traffic class octet: DSCP and ECN.
    pub traffic_class: u8,
    /// The IPv4 identification.
    pub identification: u16,
}

impl Frame {
    /// A frame between these stations and ends, with a TTL of 64.
    #[must_use]
    pub fn between(from_station: Mac, to_station: Mac, ends: Ends) -> Self {
        Self {
            to_station,
            from_station,
            source: ends.source,
            destination: ends.destination,
            ttl: 64,
            traffic_class: 0,
            identification: 0,
        }
    }

    /// The frame that carries `segment`.
    #[must_use]
    pub fn tcp(&self, segment: &Segment) -> Vec<u8> {
        let options = options::write(&segment.options);
        let mut bytes = Vec::with_capacity(20 + options.len() + segment.payload.len());
        bytes.extend(segment.source_port.to_be_bytes());
        bytes.extend(segment.destination_port.to_be_bytes());
        bytes.extend(segment.sequence.to_be_bytes());
        bytes.extend(segment.acknowledgement.to_be_bytes());
        bytes.push(((20 + options.len()) / 4) as u8 * 16);
        bytes.push(segment.flags);
        bytes.extend(segment.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&segment.payload);
        self.transport(6, bytes, 16)
    }

    /// The frame that carries an ICMP or ICMPv6 message.
    #[must_use]
    pub fn icmp(&self, kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, code, 0, 0];
        bytes.extend(rest.to_be_bytes());
        bytes.extend(data);
        let protocol = if self.source.is_ipv4() { 1 } else { 58 };
        self.transport(protocol, bytes, 2)
    }

    fn transport(&self, protocol: u8, mut bytes: Vec<u8>, checksum_at: usize) -> Vec<u8> {
        let pseudo = match protocol {
            1 => 0,
            _ => checksum::pseudo_header(self.source, self.destination, protocol, bytes.len()),
        };
        let total = checksum::checksum(&bytes, pseudo);
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&total.to_be_bytes());
        self.ip(protocol, &bytes)
    }

    /// The frame that carries `payload` under an IP header, its checksum filled in.
    #[must_use]
    pub fn ip(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(54 + payload.len());
        frame.extend(self.to_station);
        frame.extend(self.from_station);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let mut header = vec![0x45, self.traffic_class];
                header.extend((20 + payload.len() as u16).to_be_bytes());
                header.extend(self.identification.to_be_bytes());
                header.extend([0x40, 0, self.ttl, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let total = checksum::checksum(&header, 0);
                header[10..12].copy_from_slice(&total.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend((6 << 28 | u32::from(self.traffic_class) << 20).to_be_bytes());
                frame.extend((payload.len() as u16).to_be_bytes());
                frame.extend([protocol, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (source, destination) => {
                panic!("{source} and {destination} are of different families")
            }
        }
        frame.extend(payload);
        frame
    }

    /// Two fragments of the frame that `whole` is, cut after `at` octets of its IP payload.
    /// IPv4 only.
    ///
    /// # Panics
    /// When `whole` is no IPv4 frame, or `at` is no multiple of 8 within it.
    #[must_use]
    pub fn fragments(whole: &[u8], at: usize) -> [Vec<u8>; 2] {
        assert!(at.is_multiple_of(8) && whole.len() > 34 + at && whole[14] == 0x45);
        let piece = |payload: &[u8], field: u16| {
            let mut frame = whole[..34].to_vec();
            frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
            frame[20..22].copy_from_slice(&field.to_be_bytes());
            frame[24..26].fill(0);
            let total = checksum::checksum(&frame[14..34], 0);
            frame[24..26].copy_from_slice(&total.to_be_bytes());
            frame.extend(payload);
            frame
        };
        [
            piece(&whole[34..34 + at], 0x2000),
            piece(&whole[34 + at..], (at / 8) as u16),
        ]
    }
}

/// An ICMP error from `frame.source` about `packet`, an IP packet, of which at most `quote_bytes`
/// are quoted. The type and code are given for IPv4 and for IPv6.
#[must_use]
pub fn icmp_error(
    frame: &Frame,
    kinds: [(u8, u8); 2],
    rest: u32,
    packet: &[u8],
    quote_bytes: usize,
) -> Vec<u8> {
    let (kind, code) = kinds[usize::from(frame.source.is_ipv6())];
    frame.icmp(kind, code, rest, &packet[..packet.len().min(quote_bytes)])
}
