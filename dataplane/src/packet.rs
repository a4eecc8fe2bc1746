//! An owned packet, whatever memory it stands in.

use arrayvec::ArrayVec;

use crate::limits::BURST;

/// Up to [`BURST`] packets.
pub type Burst<B> = ArrayVec<B, BURST>;

/// What the NIC said of a checksum it looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ChecksumStatus {
    /// Nothing: it must be computed where it matters.
    #[default]
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

/// A packet buffer that is owned: dropped, it is freed; sent, it is gone.
///
/// The bytes are contiguous. Room before and after them is bounded and may be used without a copy.
pub trait Buffer: Sized + Send {
    /// The packet's bytes.
    fn bytes(&self) -> &[u8];
    /// Asks for the packet's first bytes before they are read.
    #[inline]
    fn prefetch(&self) {
        if let Some(first) = self.bytes().first() {
            bindings::prefetch(first);
        }
    }
    /// Frees all of them.
    #[inline]
    fn free_all(burst: &mut Burst<Self>) {
        burst.clear();
    }
    /// The packet's bytes.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Sets the length by growing or cutting the end; new bytes are unspecified. `false`, and
    /// nothing done, when there is no room.
    #[must_use]
    fn set_len(&mut self, length: usize) -> bool;
    /// Grows the front by `count` bytes of unspecified content. `false`, and nothing done, when
    /// there is no room.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;
    /// Cuts `count` bytes off the front. `false`, and nothing done, when there are not so many.
    #[must_use]
    fn trim_front(&mut self, count: usize) -> bool;
    /// What the NIC said of the IPv4 header checksum.
    fn network_checksum(&self) -> ChecksumStatus;
    /// What the NIC said of the TCP or UDP checksum.
    fn transport_checksum(&self) -> ChecksumStatus;
    /// Whether the whole packet stands in this one buffer.
    fn is_contiguous(&self) -> bool;
}
