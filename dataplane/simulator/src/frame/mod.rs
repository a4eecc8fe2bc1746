//! Frames written and read by hand.
//!
//! Nothing here is shared with the packet path under test: where both agree, neither has only
//! agreed with itself.

mod checksum;
mod decode;
mod describe;
mod edit;
mod encode;
mod neighbour;
mod options;

pub use checksum::verify;
pub use decode::{addresses_of, decode};
pub use encode::{Frame, icmp_error};
pub use neighbour::Station;
pub use options::TcpOption;

pub(crate) use describe::describe;
pub(crate) use edit::Edit;

use std::net::IpAddr;

/// A station address.
pub type Mac = [u8; 6];

/// TCP flags.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// The first segment of its sender.
    pub const SYN: u8 = 0x02;
    /// The connection is over.
    pub const RST: u8 = 0x04;
    /// Data to be handed up.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// Congestion was met.
    pub const ECE: u8 = 0x40;
    /// The congestion window was reduced.
    pub const CWR: u8 = 0x80;
}

/// An IP packet as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The frame's destination station.
    pub to_station: Mac,
    /// The frame's source station.
    pub from_station: Mac,
    /// The IP source.
    pub source: IpAddr,
    /// The IP destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The traffic class octet: DSCP and ECN.
    pub traffic_class: u8,
    /// Octets of the IP packet.
    pub length: usize,
    /// What it carries.
    pub body: Body,
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp(Segment),
    /// An ICMP or ICMPv6 message.
    Icmp(Icmp),
    /// A fragment, with its offset in octets and whether more follow.
    Fragment {
        /// Octets before it.
        offset: usize,
        /// Whether it is not the last one.
        more: bool,
    },
    /// Something else, by its protocol number.
    Other(u8),
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// See [`flag`].
    pub flags: u8,
    /// The window field, unscaled.
    pub window: u16,
    /// The options in their order, padding included.
    pub options: Vec<TcpOption>,
    /// The data.
    pub payload: Vec<u8>,
}

impl Segment {
    /// Whether all of `flags` are set.
    #[must_use]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence numbers it takes.
    #[must_use]
    pub fn length(&self) -> u32 {
        let virtual_octets = u32::from(self.has(flag::SYN)) + u32::from(self.has(flag::FIN));
        self.payload.len() as u32 + virtual_octets
    }

    /// One past its last sequence number.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length())
    }

    /// Its timestamps: value and echo.
    #[must_use]
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        self.options.iter().find_map(|option| match option {
            TcpOption::Timestamps { value, echo } => Some((*value, *echo)),
            _ => None,
        })
    }

    /// Its window scale.
    #[must_use]
    pub fn window_scale(&self) -> Option<u8> {
        self.options.iter().find_map(|option| match option {
            TcpOption::WindowScale(shift) => Some(*shift),
            _ => None,
        })
    }
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four octets after the checksum.
    pub rest: u32,
    /// What follows; the quoted packet of an error.
    pub quote: Vec<u8>,
}

/// The two ends of a TCP connection, from the view of a segment's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// Source address.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (source, destination) = (self.source, self.destination);
        let ports = (self.source_port, self.destination_port);
        write!(f, "{source}:{} > {destination}:{}", ports.0, ports.1)
    }
}

impl Ends {
    /// The other side's view.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

impl Packet {
    /// The segment, if it is a TCP one.
    #[must_use]
    pub fn segment(&self) -> Option<&Segment> {
        match &self.body {
            Body::Tcp(segment) => Some(segment),
            _ => None,
        }
    }

    /// The connection's ends, if it is a TCP segment.
    #[must_use]
    pub fn ends(&self) -> Option<Ends> {
        let segment = self.segment()?;
        Some(Ends {
            source: self.source,
            source_port: segment.source_port,
            destination: self.destination,
            destination_port: segment.destination_port,
        })
    }

    /// Whether it is an echo request.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        let request = if self.source.is_ipv4() { 8 } else { 128 };
        matches!(&self.body, Body::Icmp(message) if message.kind == request)
    }

    /// Whether it is an echo reply.
    #[must_use]
    pub fn is_pong(&self) -> bool {
        let reply = if self.source.is_ipv4() { 0 } else { 129 };
        matches!(&self.body, Body::Icmp(message) if message.kind == reply)
    }

    /// Whether it is a neighbour discovery message (RFC 4861).
    #[must_use]
    pub fn is_neighbour_discovery(&self) -> bool {
        self.source.is_ipv6()
            && matches!(&self.body, Body::Icmp(message) if (133..=137).contains(&message.kind))
    }
}
