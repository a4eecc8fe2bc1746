//! A frame's lengths and checksums, made right.

use dataplane::parse::{Fragment, Kind, parse, protocol};
use dataplane::wire::address::Family;
use dataplane::wire::checksum::{internet_checksum, pseudo_header, transport};

/// Makes a frame's checksums right where it can be parsed, and its IP length too if asked.
pub(crate) fn repair(frame: &mut [u8], fix_length: bool) {
    let network = match frame.get(12..14) {
        Some([0x81, 0x00]) => 18,
        Some(_) => 14,
        None => return,
    };
    if fix_length {
        repair_length(&mut frame[..], network);
    }
    let Ok(parsed) = parse(frame) else { return };
    if parsed.kind != Kind::Ip {
        return;
    }
    let (network, transport_at) = (usize::from(parsed.network), usize::from(parsed.transport));
    if parsed.family == Family::V4 {
        let end = network + usize::from(frame[network] & 0x0f) * 4;
        put_checksum(&mut frame[network..end], 10, internet_checksum);
    }
    if parsed.fragment != Fragment::Whole {
        return;
    }
    let message = &mut frame[transport_at..usize::from(parsed.end)];
    let pseudo = pseudo_header(
        parsed.source,
        parsed.destination,
        parsed.protocol,
        message.len(),
    );
    match parsed.protocol {
        protocol::TCP => put_checksum(message, 16, |message| transport(message, pseudo)),
        protocol::UDP => put_checksum(message, 6, |message| transport(message, pseudo)),
        protocol::ICMP => put_checksum(message, 2, internet_checksum),
        protocol::ICMPV6 => put_checksum(message, 2, |message| transport(message, pseudo)),
        _ => {}
    }
}

fn repair_length(frame: &mut [u8], network: usize) {
    let Some(packet) = frame.get_mut(network..) else {
        return;
    };
    let total = packet.len();
    match packet.first().map(|octet| octet >> 4) {
        Some(4) if total >= 20 => packet[2..4].copy_from_slice(&(total as u16).to_be_bytes()),
        Some(6) if total >= 40 => {
            packet[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        }
        _ => {}
    }
}

fn put_checksum(bytes: &mut [u8], at: usize, compute: impl Fn(&[u8]) -> u16) {
    bytes[at..at + 2].fill(0);
    let checksum = compute(bytes);
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
