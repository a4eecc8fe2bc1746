//! The TCP header (RFC 9293 §3.1).

use crate::drop_reason::DropReason;
use crate::wire::bytes::{put_u16, put_u32, u16_at, u32_at};
use crate::wire::checksum::Update;

/// Octets of a TCP header without options.
pub const HEADER_BYTES: usize = 20;
/// The most octets of options that a header can hold.
pub const MAX_OPTION_BYTES: usize = 40;

/// Where each field stands, in octets from the header's first.
pub mod field {
    /// Source port.
    pub const SOURCE_PORT: usize = 0;
    /// Destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Sequence number.
    pub const SEQUENCE: usize = 4;
    /// Acknowledgement number.
    pub const ACKNOWLEDGEMENT: usize = 8;
    /// Data offset and the flags.
    pub const OFFSET_AND_FLAGS: usize = 12;
    /// Window.
    pub const WINDOW: usize = 14;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer.
    pub const URGENT: usize = 18;
}

/// A TCP segment in place, from its header to its end.
///
/// [`Tcp::new`] proves that the header lies within the bytes; after that no getter or setter
/// panics, and no setter can move the payload. The setters leave the checksum alone: gather the
/// changes in an [`Update`] and apply it with [`Tcp::update_checksum`].
#[derive(Clone, Copy, Debug)]
pub struct Tcp<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Tcp<T> {
    /// Takes the segment that begins with `bytes`.
    ///
    /// # Errors
    /// [`DropReason::MalformedTransport`] when the header is truncated or its length impossible.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, DropReason> {
        let segment = bytes.as_ref();
        let Some(header) = segment.first_chunk::<HEADER_BYTES>() else {
            return Err(DropReason::MalformedTransport);
        };
        let header_bytes = usize::from(header[field::OFFSET_AND_FLAGS] >> 4) * 4;
        if header_bytes < HEADER_BYTES || segment.len() < header_bytes {
            return Err(DropReason::MalformedTransport);
        }
        Ok(Self { bytes })
    }

    /// The segment's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16_at(self.bytes(), field::SOURCE_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16_at(self.bytes(), field::DESTINATION_PORT)
    }

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32_at(self.bytes(), field::SEQUENCE)
    }

    /// Acknowledgement number.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        u32_at(self.bytes(), field::ACKNOWLEDGEMENT)
    }

    /// Octets of the header with its options (20 to 60).
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.bytes()[field::OFFSET_AND_FLAGS] >> 4) * 4
    }

    /// The flags, as [`crate::parse::flags`] names them.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.bytes()[field::OFFSET_AND_FLAGS + 1]
    }

    /// The window as it stands, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16_at(self.bytes(), field::WINDOW)
    }

    /// The checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes(), field::CHECKSUM)
    }

    /// The urgent pointer.
    #[inline]
    pub fn urgent(&self) -> u16 {
        u16_at(self.bytes(), field::URGENT)
    }

    /// The options, padding included.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes()[HEADER_BYTES..self.header_bytes()]
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[self.header_bytes()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Tcp<T> {
    /// The options, padding included.
    #[inline]
    pub fn options_mut(&mut self) -> &mut [u8] {
        let header_bytes = self.header_bytes();
        &mut self.bytes.as_mut()[HEADER_BYTES..header_bytes]
    }

    /// Sets the source port.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        put_u16(self.bytes.as_mut(), field::SOURCE_PORT, port);
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        put_u16(self.bytes.as_mut(), field::DESTINATION_PORT, port);
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u32) {
        put_u32(self.bytes.as_mut(), field::SEQUENCE, sequence);
    }

    /// Sets the acknowledgement number.
    #[inline]
    pub fn set_acknowledgement(&mut self, acknowledgement: u32) {
        put_u32(self.bytes.as_mut(), field::ACKNOWLEDGEMENT, acknowledgement);
    }

    /// Sets the flags, as [`crate::parse::flags`] names them.
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        self.bytes.as_mut()[field::OFFSET_AND_FLAGS + 1] = flags;
    }

    /// Sets the window field.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        put_u16(self.bytes.as_mut(), field::WINDOW, window);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) {
        put_u16(self.bytes.as_mut(), field::URGENT, urgent);
    }

    /// Sets a 32-bit field of the header or its options by its offset, and records the change.
    /// Nothing happens where the field does not lie within the header, or holds its length.
    #[inline]
    pub fn set_long(&mut self, offset: usize, value: u32, update: Update) -> Update {
        let within = offset.saturating_add(4) <= self.header_bytes();
        let holds_length = (9..=12).contains(&offset);
        if within && !holds_length {
            update.set_long(self.bytes.as_mut(), offset, value)
        } else {
            update
        }
    }

    /// Brings the checksum up to date with the gathered changes.
    #[inline]
    pub fn update_checksum(&mut self, update: Update) {
        self.set_checksum(update.apply(self.checksum()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::internet_checksum;
    use proptest::prelude::*;

    #[test]
    fn a_header_that_does_not_fit_is_refused() {
        let mut bytes = [0u8; 60];
        bytes[field::OFFSET_AND_FLAGS] = 0xf0;
        assert_eq!(Tcp::new(&bytes[..]).unwrap().options().len(), 40);
        for (length, offset) in [(0, 5), (19, 5), (20, 4), (20, 0), (20, 6), (59, 15)] {
            bytes[field::OFFSET_AND_FLAGS] = offset << 4;
            let refused = Tcp::new(&bytes[..length]).unwrap_err();
            assert_eq!(refused, DropReason::MalformedTransport, "{length} {offset}");
        }
    }

    #[test]
    fn no_setter_reaches_the_header_length_or_the_payload() {
        let mut bytes = [0u8; 30];
        bytes[field::OFFSET_AND_FLAGS] = 0x50;
        let before = bytes;
        let mut tcp = Tcp::new(&mut bytes[..]).unwrap();
        for offset in [9, 10, 11, 12, 17, 20, 26, usize::MAX] {
            let update = tcp.set_long(offset, u32::MAX, Update::new());
            assert_eq!(update, Update::new(), "{offset}");
        }
        assert_eq!(bytes, before);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_view_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..90),
            offset in any::<usize>(),
        ) {
            let length = bytes.len();
            if let Ok(mut tcp) = Tcp::new(&mut bytes[..]) {
                prop_assert_eq!(20 + tcp.options().len() + tcp.payload().len(), length);
                prop_assert_eq!(tcp.options_mut().len() + 20, tcp.header_bytes());
                let _ = tcp.set_long(offset % 70, 0, Update::new());
            }
        }

        // CASES 10
        #[test]
        fn what_is_set_is_read_and_the_checksum_follows(
            sequence in any::<u32>(),
            acknowledgement in any::<u32>(),
            window in any::<u16>(),
            ports in any::<(u16, u16)>(),
            flags in any::<u8>(),
            stamp in any::<u32>(),
        ) {
            let mut bytes = [0x5au8; 33];
            bytes[field::OFFSET_AND_FLAGS] = 0x70;
            bytes[field::CHECKSUM..field::CHECKSUM + 2].fill(0);
            let checksum = internet_checksum(&bytes);
            let mut tcp = Tcp::new(&mut bytes[..]).unwrap();
            tcp.set_checksum(checksum);
            let update = Update::new()
                .long(tcp.sequence(), sequence)
                .long(tcp.acknowledgement(), acknowledgement)
                .word(tcp.window(), window)
                .word(tcp.source_port(), ports.0)
                .word(tcp.destination_port(), ports.1)
                .word(0x7000 | u16::from(tcp.flags()), 0x7000 | u16::from(flags))
                .word(tcp.urgent(), 3);
            tcp.set_sequence(sequence);
            tcp.set_acknowledgement(acknowledgement);
            tcp.set_window(window);
            tcp.set_source_port(ports.0);
            tcp.set_destination_port(ports.1);
            tcp.set_flags(flags);
            tcp.set_urgent(3);
            let update = tcp.set_long(23, stamp, update);
            tcp.update_checksum(update);
            prop_assert_eq!((tcp.sequence(), tcp.acknowledgement()), (sequence, acknowledgement));
            prop_assert_eq!((tcp.window(), tcp.flags(), tcp.urgent()), (window, flags, 3));
            prop_assert_eq!((tcp.source_port(), tcp.destination_port()), ports);
            prop_assert_eq!(tcp.options()[3..7].to_vec(), stamp.to_be_bytes().to_vec());
            prop_assert_eq!((tcp.payload(), tcp.header_bytes()), (&[0x5au8; 5][..], 28));
            prop_assert_eq!(internet_checksum(tcp.bytes()), 0);
        }
    }
}
