//! The link-layer header: put before a packet, exchanged for another one, or taken off.

use super::config::Link;
use crate::context::Context;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::packet::Buffer;
use crate::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use crate::wire::ethernet::{MacAddress, link_header_bytes, write_ethernet};

/// Makes the octets before the IP header or ARP message at `network` exactly a link-layer header
/// of `link`, to `destination`. `false` when there is no room.
#[must_use]
#[inline(always)]
pub(super) fn encapsulate<B: Buffer>(
    link: &Link,
    buffer: &mut B,
    network: usize,
    destination: MacAddress,
    ether_type: u16,
) -> bool {
    let wanted = link_header_bytes(link.vlan);
    let fits = if wanted > network {
        buffer.prepend(wanted - network)
    } else {
        wanted == network || buffer.trim_front(network - wanted)
    };
    if fits {
        write_ethernet(
            buffer.bytes_mut(),
            destination,
            link.mac,
            link.vlan,
            ether_type,
        );
    }
    fits
}

/// Sends the packet whose header is at `network` to a station.
#[inline(always)]
pub(super) fn emit<I: Io>(
    link: &Link,
    interface: InterfaceId,
    mut buffer: I::Buffer,
    network: usize,
    destination: MacAddress,
    ctx: &mut Context<'_, I>,
) {
    let ether_type = match buffer.bytes().get(network).map(|first| first >> 4) {
        Some(6) => ETHER_TYPE_IPV6,
        _ => ETHER_TYPE_IPV4,
    };
    if encapsulate(link, &mut buffer, network, destination, ether_type) {
        ctx.transmit(link.port, interface, buffer);
    } else {
        ctx.discard(buffer, DropReason::NoBuffer);
    }
}
