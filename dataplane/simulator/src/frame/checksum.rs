//! The Internet checksum, the slow and obvious way (RFC 1071).

use std::net::IpAddr;

/// The ones' complement sum of 16-bit words, not yet complemented.
pub(super) fn sum(bytes: &[u8], start: u32) -> u32 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    fold(words.fold(start, |total, word| fold(total + word)))
}

fn fold(total: u32) -> u32 {
    (total & 0xffff) + (total >> 16)
}

/// The checksum of these bytes on top of `start`.
pub(super) fn checksum(bytes: &[u8], start: u32) -> u16 {
    !(fold(sum(bytes, start)) as u16)
}

/// The sum over the pseudo header of RFC 9293 §3.1 and RFC 8200 §8.1.
pub(super) fn pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> u32 {
    let start = u32::from(protocol) + fold(length as u32);
    [source, destination]
        .iter()
        .fold(start, |total, address| match address {
            IpAddr::V4(address) => sum(&address.octets(), total),
            IpAddr::V6(address) => sum(&address.octets(), total),
        })
}

/// Whether every checksum of a frame is right: the IPv4 header's, and TCP's, UDP's or ICMP's
/// unless the packet is a fragment. Right is only what its sender would have computed afresh: of
/// the two forms of zero, 0xffff is wrong where 0x0000 is due (RFC 1624 §3).
///
/// # Errors
/// Which one is wrong.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let Some(layout) = super::decode::Layout::of(frame) else {
        return Ok(());
    };
    if layout.is_ipv4 {
        let header = &frame[layout.network..layout.network + layout.network_header_bytes];
        compare("IPv4 header", header, 10, 0)?;
    }
    if layout.fragment.is_some() {
        return Ok(());
    }
    let transport = &frame[layout.transport..layout.end];
    let pseudo =
        |protocol| pseudo_header(layout.source, layout.destination, protocol, transport.len());
    match layout.protocol {
        6 => compare("TCP", transport, 16, pseudo(6)),
        // A UDP checksum of 0 over IPv4 is none.
        17 if layout.is_ipv4 && transport.get(6..8) == Some(&[0, 0]) => Ok(()),
        17 => compare("UDP", transport, 6, pseudo(17)),
        1 => compare("ICMP", transport, 2, 0),
        58 => compare("ICMPv6", transport, 2, pseudo(58)),
        _ => Ok(()),
    }
}

fn compare(name: &str, bytes: &[u8], at: usize, start: u32) -> Result<(), String> {
    let Some(field) = bytes.get(at..at + 2) else {
        return Err(format!("the {name} header is cut off"));
    };
    let found = u16::from_be_bytes([field[0], field[1]]);
    let mut cleared = bytes.to_vec();
    cleared[at..at + 2].fill(0);
    let due = checksum(&cleared, start);
    // UDP writes a sum of zero as its other zero (RFC 768).
    if found == due || (name == "UDP" && due == 0 && found == 0xffff) {
        Ok(())
    } else {
        Err(format!(
            "the {name} checksum is {found:#06x}, not {due:#06x}"
        ))
    }
}
