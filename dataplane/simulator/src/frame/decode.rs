//! Reading frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Body, Icmp, Packet, Segment, options};

/// Where things stand in a frame that carries an IP packet.
pub(super) struct Layout {
    pub(super) is_ipv4: bool,
    pub(super) network: usize,
    pub(super) network_header_bytes: usize,
    pub(super) transport: usize,
    pub(super) end: usize,
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Offset in octets and whether more follow.
    pub(super) fragment: Option<(usize, bool)>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(word(bytes, at)?) << 16 | u32::from(word(bytes, at + 2)?))
}

impl Layout {
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (kind, network) = match word(frame, 12)? {
            0x8100 => (word(frame, 16)?, 18),
            kind => (kind, 14),
        };
        match kind {
            0x0800 => Self::of_ipv4(frame, network),
            0x86dd => Self::of_ipv6(frame, network),
            _ => None,
        }
    }

    fn of_ipv4(frame: &[u8], network: usize) -> Option<Self> {
        let header = frame.get(network..network + 20)?;
        let header_bytes = usize::from(header[0] & 15) * 4;
        let end = network + usize::from(word(header, 2)?);
        let fragment = word(header, 6)?;
        let offset = usize::from(fragment & 0x1fff) * 8;
        let more = fragment & 0x2000 != 0;
        let address = |at: usize| Ipv4Addr::from_bits(long(header, at).unwrap_or(0)).into();
        let fits = header[0] >> 4 == 4 && header_bytes >= 20 && network + header_bytes <= end;
        (fits && end <= frame.len()).then(|| Self {
            is_ipv4: true,
            network,
            network_header_bytes: header_bytes,
            transport: network + header_bytes,
            end,
            protocol: header[9],
            source: address(12),
            destination: address(16),
            fragment: (offset > 0 || more).then_some((offset, more)),
        })
    }

    fn of_ipv6(frame: &[u8], network: usize) -> Option<Self> {
        let header = frame.get(network..network + 40)?;
        let end = network + 40 + usize::from(word(header, 4)?);
        let address = |at: usize| {
            let octets: [u8; 16] = header[at..at + 16].try_into().unwrap_or([0; 16]);
            Ipv6Addr::from(octets).into()
        };
        let mut layout = Self {
            is_ipv4: false,
            network,
            network_header_bytes: 40,
            transport: network + 40,
            end,
            protocol: header[6],
            source: address(8),
            destination: address(24),
            fragment: None,
        };
        if header[0] >> 4 != 6 || end > frame.len() {
            return None;
        }
        // Hop-by-hop, routing and destination options, and fragments.
        while matches!(layout.protocol, 0 | 43 | 44 | 60) && layout.fragment.is_none() {
            let next = *frame.get(layout.transport)?;
            if layout.protocol == 44 {
                let field = word(frame, layout.transport + 2)?;
                let place = (usize::from(field & !7), field & 1 != 0);
                layout.fragment = (place != (0, false)).then_some(place);
                layout.transport += 8;
            } else {
                layout.transport += 8 + 8 * usize::from(*frame.get(layout.transport + 1)?);
            }
            layout.protocol = next;
        }
        (layout.transport <= end).then_some(layout)
    }
}

/// The addresses where an IP header has them, whatever else is wrong with the packet.
#[must_use]
pub fn addresses_of(frame: &[u8]) -> Option<[IpAddr; 2]> {
    let (kind, network) = match word(frame, 12)? {
        0x8100 => (word(frame, 16)?, 18),
        kind => (kind, 14),
    };
    match kind {
        0x0800 => {
            let header = frame.get(network..network + 20)?;
            let address = |at| Some(Ipv4Addr::from_bits(long(header, at)?).into());
            Some([address(12)?, address(16)?])
        }
        0x86dd => {
            let header = frame.get(network..network + 40)?;
            let address = |at: usize| {
                let octets: [u8; 16] = header[at..at + 16].try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            Some([address(8)?, address(24)?])
        }
        _ => None,
    }
}

/// Reads the IP packet of a frame; `None` when there is none, or it contradicts itself.
#[must_use]
pub fn decode(frame: &[u8]) -> Option<Packet> {
    let layout = Layout::of(frame)?;
    let header = &frame[layout.network..];
    let (ttl, traffic_class) = if layout.is_ipv4 {
        (header[8], header[1])
    } else {
        (header[7], header[0] << 4 | header[1] >> 4)
    };
    let transport = &frame[layout.transport..layout.end];
    let body = match (layout.fragment, layout.protocol) {
        (Some((offset, more)), _) => Body::Fragment { offset, more },
        (None, 6) => Body::Tcp(segment(transport)?),
        (None, 1 | 58) => Body::Icmp(Icmp {
            kind: *transport.first()?,
            code: *transport.get(1)?,
            rest: long(transport, 4)?,
            quote: transport.get(8..)?.to_vec(),
        }),
        (None, protocol) => Body::Other(protocol),
    };
    Some(Packet {
        to_station: frame[..6].try_into().ok()?,
        from_station: frame[6..12].try_into().ok()?,
        source: layout.source,
        destination: layout.destination,
        ttl,
        traffic_class,
        length: layout.end - layout.network,
        body,
    })
}

pub(super) fn segment(bytes: &[u8]) -> Option<Segment> {
    let data = usize::from(*bytes.get(12)? >> 4) * 4;
    Some(Segment {
        source_port: word(bytes, 0)?,
        destination_port: word(bytes, 2)?,
        sequence: long(bytes, 4)?,
        acknowledgement: long(bytes, 8)?,
        flags: *bytes.get(13)?,
        window: word(bytes, 14)?,
        options: options::read(bytes.get(20..data)?),
        payload: bytes.get(data..)?.to_vec(),
    })
}
