//! TCP frames written from nothing, and the few fields of a frame that an observer reads.

use std::net::{IpAddr, SocketAddr};

/// TCP flag bits.
pub mod flag {
    /// Synchronize.
    pub const SYN: u8 = 0x02;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
}

/// A TCP packet to be written. Source and destination are of one family.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// Who seems to send it.
    pub source: SocketAddr,
    /// Who gets it.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flag bits.
    pub flags: u8,
    /// Options, a multiple of four bytes and at most forty.
    pub options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
}

impl Tcp<'_> {
    /// Writes the whole Ethernet frame, with right checksums, over what `frame` holds.
    pub fn write(&self, hardware: ([u8; 6], [u8; 6]), frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend(hardware.1);
        frame.extend(hardware.0);
        let segment_bytes = 20 + self.options.len() + self.payload.len();
        let length = u16::try_from(segment_bytes).unwrap_or(u16::MAX);
        let mut sum = u32::from(length) + 6;
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let begin = frame.len();
                frame.extend([0x45, 0]);
                frame.extend((length + 20).to_be_bytes());
                // Don't fragment, so the identification may stay 0 (RFC 6864).
                frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                let header = fold(add(0, &frame[begin..]));
                frame[begin + 10..begin + 12].copy_from_slice(&header.to_be_bytes());
                sum = add(add(sum, &source.octets()), &destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([6, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                sum = add(add(sum, &source.octets()), &destination.octets());
            }
            _ => return,
        }
        let begin = frame.len();
        frame.extend(self.source.port().to_be_bytes());
        frame.extend(self.destination.port().to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledgement.to_be_bytes());
        let words = u8::try_from(5 + self.options.len() / 4).unwrap_or(15);
        frame.extend([words << 4, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        frame.extend(self.options);
        frame.extend(self.payload);
        let checksum = fold(add(sum, &frame[begin..]));
        frame[begin + 16..begin + 18].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum + u32::from(u16::from_be_bytes([pair[0], low]))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// What an observer reads from a TCP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who sent it.
    pub source: SocketAddr,
    /// Who gets it.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Flag bits.
    pub flags: u8,
}

/// Reads a TCP frame without tags or extension headers; `None` for any other.
#[must_use]
pub fn read(frame: &[u8]) -> Option<Seen> {
    let (source, destination, segment): (IpAddr, IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] if *frame.get(23)? == 6 => {
            let header_bytes = usize::from(frame.get(14)? & 0xf) * 4;
            (
                <[u8; 4]>::try_from(frame.get(26..30)?).ok()?.into(),
                <[u8; 4]>::try_from(frame.get(30..34)?).ok()?.into(),
                frame.get(14 + header_bytes..)?,
            )
        }
        [0x86, 0xdd] if *frame.get(20)? == 6 => (
            <[u8; 16]>::try_from(frame.get(22..38)?).ok()?.into(),
            <[u8; 16]>::try_from(frame.get(38..54)?).ok()?.into(),
            frame.get(54..)?,
        ),
        _ => return None,
    };
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            segment.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    Some(Seen {
        source: (source, port(0)?).into(),
        destination: (destination, port(2)?).into(),
        sequence: u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?),
        flags: *segment.get(13)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_with_right_checksums() {
        for (source, destination) in [
            ("198.51.100.7:4000", "10.0.0.10:80"),
            ("[2001:db8:2::1]:4000", "[fd00:1::10]:80"),
        ] {
            let tcp = Tcp {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                sequence: 0xdead_beef,
                acknowledgement: 7,
                flags: flag::SYN,
                options: &[2, 4, 5, 0xb4],
                payload: b"odd",
            };
            let mut frame = Vec::new();
            tcp.write(([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]), &mut frame);
            let seen = read(&frame).unwrap();
            assert_eq!(seen.source, tcp.source);
            assert_eq!(seen.destination, tcp.destination);
            assert_eq!((seen.sequence, seen.flags), (tcp.sequence, tcp.flags));
            let segment = 20 + 4 + 3;
            let start = frame.len() - segment;
            // Over a right checksum the sum of everything is all ones.
            let addresses = if tcp.source.is_ipv4() { 8 } else { 32 };
            let pseudo = u32::try_from(segment).unwrap() + 6;
            assert_eq!(fold(add(pseudo, &frame[start - addresses..])), 0);
            if tcp.source.is_ipv4() {
                assert_eq!(fold(add(0, &frame[14..34])), 0);
            }
        }
    }

    #[test]
    fn a_short_or_foreign_frame_is_not_read() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0; 60]), None);
        let mut frame = vec![0; 40];
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[23] = 6;
        assert_eq!(read(&frame), None);
    }
}
