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
