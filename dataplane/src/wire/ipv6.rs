//! The IPv6 header (RFC 8200 §3).

use crate::drop_reason::DropReason;
use crate::wire::address::Address;
use crate::wire::bytes::{octets16_at, put_u16, put_u32, u16_at, u32_at};

/// Octets of an IPv6 header without extensions.
pub const HEADER_BYTES: usize = 40;
/// The packet size that every link carries (RFC 8200 §5).
pub const MINIMUM_MTU_BYTES: usize = 1280;

/// What a header that is made here says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The next header's number.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Octets after this header.
    pub payload_bytes: u16,
    /// The traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub dscp_ecn: u8,
    /// The flow label's twenty bits.
    pub flow_label: u32,
}

/// Writes a header of 40 octets at the start of `into`.
///
/// # Panics
/// When `into` is shorter.
#[inline]
pub fn write_ipv6(into: &mut [u8], header: &Ipv6Header) {
    let into = &mut into[..HEADER_BYTES];
    let class = u32::from(header.dscp_ecn) << 20;
    put_u32(into, 0, 6 << 28 | class | (header.flow_label & 0x000f_ffff));
    put_u16(into, 4, header.payload_bytes);
    into[6] = header.protocol;
    into[7] = header.hop_limit;
    into[8..24].copy_from_slice(&header.source.octets());
    into[24..40].copy_from_slice(&header.destination.octets());
}

/// An IPv6 packet in place, from its header on.
///
/// [`Ipv6::new`] proves that the header lies within the bytes; after that no getter or setter
/// panics. The payload may be cut short, as in an ICMPv6 error's quotation.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ipv6<T> {
    /// Takes the packet that begins with `bytes`.
    ///
    /// # Errors
    /// [`DropReason::MalformedIpv6`] when the header is truncated or of another version.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, DropReason> {
        match bytes.as_ref().first_chunk::<HEADER_BYTES>() {
            Some(header) if header[0] >> 4 == 6 => Ok(Self { bytes }),
            _ => Err(DropReason::MalformedIpv6),
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// DSCP in the upper six bits, ECN in the lower two.
    #[inline]
    pub fn dscp_ecn(&self) -> u8 {
        (u16_at(self.bytes(), 0) >> 4) as u8
    }

    /// DSCP.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.dscp_ecn() >> 2
    }

    /// ECN (RFC 3168): 0 not capable, 1 or 2 capable, 3 congestion experienced.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.dscp_ecn() & 3
    }

    /// The flow label.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32_at(self.bytes(), 0) & 0x000f_ffff
    }

    /// Octets after this header, as it says.
    #[inline]
    pub fn payload_bytes(&self) -> u16 {
        u16_at(self.bytes(), 4)
    }

    /// The next header's number.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.bytes()[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.bytes()[7]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        Address::from_v6(octets16_at(self.bytes(), 8))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        Address::from_v6(octets16_at(self.bytes(), 24))
    }

    /// What follows the header, cut at the packet's end.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let end = HEADER_BYTES + usize::from(self.payload_bytes());
        &self.bytes()[HEADER_BYTES..end.min(self.bytes().len())]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6<T> {
    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.bytes.as_mut()[7] = hop_limit;
    }

    /// Takes one hop off the hop limit, which stays at 0 when it is there.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        let hop_limit = self.hop_limit();
        self.set_hop_limit(hop_limit.saturating_sub(1));
    }

    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_dscp_ecn(&mut self, dscp_ecn: u8) {
        let word = u32_at(self.bytes(), 0) & !(0xff << 20);
        put_u32(self.bytes.as_mut(), 0, word | u32::from(dscp_ecn) << 20);
    }

    /// Sets the octets after this header.
    #[inline]
    pub fn set_payload_bytes(&mut self, payload_bytes: u16) {
        put_u16(self.bytes.as_mut(), 4, payload_bytes);
    }

    /// Exchanges source and destination, which leaves every checksum as it is.
    #[inline]
    pub fn swap_addresses(&mut self) {
        let (source, destination) = self.bytes.as_mut()[8..40].split_at_mut(16);
        source.swap_with_slice(destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(view: &Ipv6<&mut [u8]>) -> Ipv6Header {
        Ipv6Header {
            source: view.source(),
            destination: view.destination(),
            protocol: view.next_header(),
            hop_limit: view.hop_limit(),
            payload_bytes: view.payload_bytes(),
            dscp_ecn: view.dscp() << 2 | view.ecn(),
            flow_label: view.flow_label(),
        }
    }

    #[test]
    fn a_short_header_or_another_version_is_refused() {
        let mut bytes = [0u8; 40];
        bytes[0] = 0x60;
        assert_eq!(Ipv6::new(&bytes[..]).unwrap().payload(), &[]);
        assert_eq!(
            Ipv6::new(&bytes[..39]).unwrap_err(),
            DropReason::MalformedIpv6
        );
        bytes[0] = 0x45;
        assert_eq!(
            Ipv6::new(&bytes[..]).unwrap_err(),
            DropReason::MalformedIpv6
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_every_setter_changes_its_field_alone(
            addresses in any::<(u128, u128)>(),
            fields in any::<(u8, u8, u16, u8)>(),
            flow_label in 0u32..1 << 20,
            dscp_ecn in any::<u8>(),
            payload_bytes in any::<u16>(),
        ) {
            let header = Ipv6Header {
                source: Address::from_bits(addresses.0),
                destination: Address::from_bits(addresses.1),
                protocol: fields.0,
                hop_limit: fields.1,
                payload_bytes: fields.2,
                dscp_ecn: fields.3,
                flow_label,
            };
            let mut bytes = [0xee; 64];
            write_ipv6(&mut bytes, &header);
            let mut view = Ipv6::new(&mut bytes[..]).unwrap();
            prop_assert_eq!(read(&view), header);
            prop_assert_eq!(view.payload().len(), usize::from(header.payload_bytes).min(24));
            view.decrement_hop_limit();
            view.set_dscp_ecn(dscp_ecn);
            view.set_payload_bytes(payload_bytes);
            view.swap_addresses();
            let expected = Ipv6Header {
                source: header.destination,
                destination: header.source,
                hop_limit: header.hop_limit.saturating_sub(1),
                dscp_ecn,
                payload_bytes,
                ..header
            };
            prop_assert_eq!(read(&view), expected);
        }
    }
}
