//! The IPv4 header (RFC 791).

use crate::drop_reason::DropReason;
use crate::wire::address::Address;
use crate::wire::bytes::{put_u16, u16_at};
use crate::wire::checksum::{Update, internet_checksum};

/// Octets of an IPv4 header without options.
pub const HEADER_BYTES: usize = 20;
/// The datagram size that every host takes (RFC 791 §3.1).
pub const MINIMUM_REASSEMBLY_BYTES: usize = 576;

const CHECKSUM: usize = 10;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

/// What a header that is made here says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The protocol's number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Octets of the packet, header included.
    pub total_bytes: u16,
    /// Identification.
    pub identification: u16,
    /// Whether routers may not fragment it.
    pub dont_fragment: bool,
    /// The former type of service: DSCP in the upper six bits, ECN in the lower two.
    pub dscp_ecn: u8,
}

/// Writes a header of 20 octets with its checksum at the start of `into`.
///
/// # Panics
/// When `into` is shorter.
#[inline]
pub fn write_ipv4(into: &mut [u8], header: &Ipv4Header) {
    let into = &mut into[..HEADER_BYTES];
    into[0] = 0x45;
    into[1] = header.dscp_ecn;
    put_u16(into, 2, header.total_bytes);
    put_u16(into, 4, header.identification);
    put_u16(
        into,
        6,
        if header.dont_fragment {
            DONT_FRAGMENT
        } else {
            0
        },
    );
    into[8] = header.ttl;
    into[9] = header.protocol;
    put_u16(into, CHECKSUM, 0);
    into[12..16].copy_from_slice(&header.source.v4_octets());
    into[16..20].copy_from_slice(&header.destination.v4_octets());
    put_u16(into, CHECKSUM, internet_checksum(into));
}

/// An IPv4 packet in place, from its header on.
///
/// [`Ipv4::new`] proves that the header lies within the bytes; after that no getter or setter
/// panics. The payload may be cut short, as in an ICMP error's quotation. The setters keep the
/// header checksum right.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ipv4<T> {
    /// Takes the packet that begins with `bytes`.
    ///
    /// # Errors
    /// [`DropReason::MalformedIpv4`] when the header is truncated, of another version, or its
    /// lengths contradict each other.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, DropReason> {
        let packet = bytes.as_ref();
        let Some(header) = packet.first_chunk::<HEADER_BYTES>() else {
            return Err(DropReason::MalformedIpv4);
        };
        let header_bytes = usize::from(header[0] & 0x0f) * 4;
        let total_bytes = usize::from(u16_at(header, 2));
        if header[0] >> 4 != 4
            || header_bytes < HEADER_BYTES
            || packet.len() < header_bytes
            || total_bytes < header_bytes
        {
            return Err(DropReason::MalformedIpv4);
        }
        Ok(Self { bytes })
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Octets of the header with its options (20 to 60).
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.bytes()[0] & 0x0f) * 4
    }

    /// DSCP in the upper six bits, ECN in the lower two.
    #[inline]
    pub fn dscp_ecn(&self) -> u8 {
        self.bytes()[1]
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

    /// Octets of the packet as the header says.
    #[inline]
    pub fn total_bytes(&self) -> u16 {
        u16_at(self.bytes(), 2)
    }

    /// Identification.
    #[inline]
    pub fn identification(&self) -> u16 {
        u16_at(self.bytes(), 4)
    }

    /// Whether routers may not fragment it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        u16_at(self.bytes(), 6) & DONT_FRAGMENT != 0
    }

    /// Whether fragments follow this one.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        u16_at(self.bytes(), 6) & MORE_FRAGMENTS != 0
    }

    /// Where the fragment begins in its datagram's payload, in octets.
    #[inline]
    pub fn fragment_offset_bytes(&self) -> usize {
        usize::from(u16_at(self.bytes(), 6) & 0x1fff) * 8
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.bytes()[8]
    }

    /// The protocol's number.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.bytes()[9]
    }

    /// The header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes(), CHECKSUM)
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn checksum_is_valid(&self) -> bool {
        internet_checksum(&self.bytes()[..self.header_bytes()]) == 0
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        self.address_at(12)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        self.address_at(16)
    }

    #[inline]
    fn address_at(&self, offset: usize) -> Address {
        let mut octets = [0; 4];
        octets.copy_from_slice(&self.bytes()[offset..offset + 4]);
        Address::from_v4(octets)
    }

    /// What follows the header, cut at the packet's end.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let start = self.header_bytes();
        let end = usize::from(self.total_bytes()).min(self.bytes().len());
        &self.bytes()[start..end.max(start)]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4<T> {
    /// Sets the word at an even offset and brings the checksum up to date.
    #[inline]
    fn set_word(&mut self, offset: usize, value: u16) {
        let bytes = self.bytes.as_mut();
        let update = Update::new().set_word(bytes, offset, value);
        put_u16(bytes, CHECKSUM, update.apply(u16_at(bytes, CHECKSUM)));
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        let protocol = self.protocol();
        self.set_word(8, u16::from_be_bytes([ttl, protocol]));
    }

    /// Takes one hop off the time to live, which stays at 0 when it is there.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let ttl = self.ttl();
        if ttl > 0 {
            let bytes = self.bytes.as_mut();
            bytes[8] = ttl - 1;
            // RFC 1624 eqn 3: ~m + m' is the same for every m from which 0x0100 is taken.
            let sum = u32::from(!u16_at(bytes, CHECKSUM)) + u32::from(!0x0100u16);
            put_u16(bytes, CHECKSUM, !((sum & 0xffff) + (sum >> 16)) as u16);
        }
    }

    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_dscp_ecn(&mut self, dscp_ecn: u8) {
        let version = self.bytes()[0];
        self.set_word(0, u16::from_be_bytes([version, dscp_ecn]));
    }

    /// Sets the identification.
    #[inline]
    pub fn set_identification(&mut self, identification: u16) {
        self.set_word(4, identification);
    }

    /// Sets the packet's length, header included.
    #[inline]
    pub fn set_total_bytes(&mut self, total_bytes: u16) {
        self.set_word(2, total_bytes);
    }

    /// Exchanges source and destination, which leaves every checksum as it is.
    #[inline]
    pub fn swap_addresses(&mut self) {
        let (source, destination) = self.bytes.as_mut()[12..20].split_at_mut(4);
        source.swap_with_slice(destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = Ipv4Header> {
        (
            any::<([u8; 4], [u8; 4], u8, u8, u16, u8)>(),
            20..=u16::MAX,
            any::<bool>(),
        )
            .prop_map(|(fields, total_bytes, dont_fragment)| Ipv4Header {
                source: Address::from_v4(fields.0),
                destination: Address::from_v4(fields.1),
                protocol: fields.2,
                ttl: fields.3,
                identification: fields.4,
                dscp_ecn: fields.5,
                total_bytes,
                dont_fragment,
            })
    }

    fn read(view: &Ipv4<&mut [u8]>) -> Ipv4Header {
        Ipv4Header {
            source: view.source(),
            destination: view.destination(),
            protocol: view.protocol(),
            ttl: view.ttl(),
            total_bytes: view.total_bytes(),
            identification: view.identification(),
            dont_fragment: view.dont_fragment(),
            dscp_ecn: view.dscp() << 2 | view.ecn(),
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let mut good = [0u8; 24];
        good[0] = 0x46;
        good[3] = 24;
        assert_eq!(Ipv4::new(&good[..]).unwrap().header_bytes(), 24);
        for (at, value) in [(0, 0x66), (0, 0x44), (0, 0x47), (3, 23), (3, 0)] {
            let mut bytes = good;
            bytes[at] = value;
            let refused = Ipv4::new(&bytes[..]).unwrap_err();
            assert_eq!(refused, DropReason::MalformedIpv4, "octet {at} {value}");
        }
        assert_eq!(
            Ipv4::new(&good[..19]).unwrap_err(),
            DropReason::MalformedIpv4
        );
        assert_eq!(
            Ipv4::new(&good[..23]).unwrap_err(),
            DropReason::MalformedIpv4
        );
    }

    #[test]
    fn fragments_are_read() {
        let mut bytes = [0u8; 20];
        bytes[0] = 0x45;
        bytes[3] = 20;
        bytes[6..8].copy_from_slice(&[0x20, 0x02]);
        let view = Ipv4::new(&bytes[..]).unwrap();
        assert!(view.more_fragments() && !view.dont_fragment());
        assert_eq!(view.fragment_offset_bytes(), 16);
    }

    proptest! {
        // CASES 10
        #[test]
        fn what_is_written_is_read_and_every_setter_keeps_the_checksum(
            header in header(),
            ttl in any::<u8>(),
            dscp_ecn in any::<u8>(),
            identification in any::<u16>(),
            total_bytes in any::<u16>(),
        ) {
            let mut bytes = [0xee; 60];
            write_ipv4(&mut bytes, &header);
            let mut view = Ipv4::new(&mut bytes[..]).unwrap();
            prop_assert_eq!(read(&view), header);
            prop_assert!(view.checksum_is_valid());
            let payload_bytes = usize::from(header.total_bytes).min(60) - HEADER_BYTES;
            prop_assert_eq!(view.payload().len(), payload_bytes);
            view.decrement_ttl();
            prop_assert_eq!(view.ttl(), header.ttl.saturating_sub(1));
            prop_assert!(view.checksum_is_valid());
            view.set_ttl(ttl);
            view.set_dscp_ecn(dscp_ecn);
            view.set_identification(identification);
            view.set_total_bytes(total_bytes);
            view.swap_addresses();
            let expected = Ipv4Header {
                source: header.destination,
                destination: header.source,
                ttl,
                dscp_ecn,
                identification,
                total_bytes,
                ..header
            };
            prop_assert_eq!(read(&view), expected);
            prop_assert!(view.payload().len() <= 40);
            let incremental = view.checksum();
            let mut whole = [0; HEADER_BYTES];
            write_ipv4(&mut whole, &expected);
            prop_assert_eq!(incremental, u16_at(&whole, CHECKSUM));
        }

        #[test]
        fn no_octets_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(first) = bytes.first_mut() {
                *first = 0x40 | *first & 0x0f;
            }
            if let Ok(mut view) = Ipv4::new(&mut bytes[..]) {
                let _ = (read(&view), view.payload().len(), view.checksum_is_valid());
                view.decrement_ttl();
                view.swap_addresses();
            }
        }
    }
}
