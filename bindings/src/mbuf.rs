//! The packet buffer: an owned value of one pointer's width.

use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

/// What a NIC says of a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumStatus {
    /// Nothing: compute it.
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
    /// It is not there, but the data is known to be whole, as between virtual machines.
    None,
}

/// A packet, owned: dropped, its memory goes back to the pool.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an Mbuf is the only owner of its buffer, and giving one back is safe on any thread.
unsafe impl Send for Mbuf {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// It is a valid mbuf of a pool of ours, and nobody else uses or frees it.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// A field of the header.
    ///
    /// # Safety
    /// `OFFSET` is that of a field of type `T` in struct rte_mbuf.
    #[inline]
    unsafe fn get<const OFFSET: usize, T: Copy>(&self) -> T {
        // SAFETY: the header is valid while `self` is, and the caller names a field of it.
        unsafe { self.0.cast::<u8>().add(OFFSET).cast::<T>().read() }
    }

    /// Sets a field of the header.
    ///
    /// # Safety
    /// As for [`Self::get`], and the value keeps the mbuf valid.
    #[inline]
    unsafe fn set<const OFFSET: usize, T: Copy>(&mut self, value: T) {
        // SAFETY: as above, and `self` is borrowed for us alone.
        unsafe { self.0.cast::<u8>().add(OFFSET).cast::<T>().write(value) }
    }

    #[inline]
    fn data_offset(&self) -> u16 {
        // SAFETY: data_off is a uint16_t.
        unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_DATA_OFF }, u16>() }
    }

    #[inline]
    fn segment_len(&self) -> u16 {
        // SAFETY: data_len is a uint16_t.
        unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_DATA_LEN }, u16>() }
    }

    #[inline]
    fn buffer_len(&self) -> u16 {
        // SAFETY: buf_len is a uint16_t.
        unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_BUF_LEN }, u16>() }
    }

    #[inline]
    fn flags(&self) -> u64 {
        // SAFETY: ol_flags is a uint64_t.
        unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_OL_FLAGS }, u64>() }
    }

    /// Where the data begins.
    #[inline]
    fn data_pointer(&self) -> *mut u8 {
        // SAFETY: buf_addr is a pointer to buf_len bytes, and data_off lies within them.
        unsafe {
            self.get::<{ dpdk_sys::SHIM_MBUF_BUF_ADDR }, *mut u8>()
                .add(self.data_offset().into())
        }
    }

    /// Sets where the data begins and how long it is, in this segment and so in the packet.
    ///
    /// # Safety
    /// The data lies within the buffer.
    #[inline]
    unsafe fn set_extent(&mut self, offset: u16, len: u16) {
        let total = self.len() as u32 - u32::from(self.segment_len()) + u32::from(len);
        // SAFETY: the fields have these types, and the caller keeps them within the buffer.
        unsafe {
            self.set::<{ dpdk_sys::SHIM_MBUF_DATA_OFF }, u16>(offset);
            self.set::<{ dpdk_sys::SHIM_MBUF_DATA_LEN }, u16>(len);
            self.set::<{ dpdk_sys::SHIM_MBUF_PKT_LEN }, u32>(total);
        }
    }

    /// The packet's bytes; of one that is not contiguous, its first segment's.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: data_len bytes from there lie in the buffer, mapped and written at least once
        // by the kernel that gave the memory; nobody else writes them while we own the mbuf.
        unsafe { std::slice::from_raw_parts(self.data_pointer(), self.segment_len().into()) }
    }

    /// The same, to write.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`, and `self` is borrowed for us alone.
        unsafe { std::slice::from_raw_parts_mut(self.data_pointer(), self.segment_len().into()) }
    }

    /// Asks the processor to bring the packet's headers: its first two cache lines, since TCP's
    /// timestamps reach into the second one.
    #[inline]
    pub fn prefetch_data(&self) {
        let first = self.data_pointer();
        crate::memory::prefetch_address(first);
        crate::memory::prefetch_address(first.wrapping_add(64));
    }

    /// The packet's length in bytes, over all its segments.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // An empty packet is nothing that anybody asks for.
    pub fn len(&self) -> usize {
        // SAFETY: pkt_len is a uint32_t.
        unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_PKT_LEN }, u32>() as usize }
    }

    /// Whether the packet is in one piece.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        // SAFETY: nb_segs is a uint16_t.
        unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_NB_SEGS }, u16>() == 1 }
    }

    /// Bytes free before the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.data_offset().into()
    }

    /// Bytes free after the data of the first segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        usize::from(self.buffer_len()) - self.headroom() - usize::from(self.segment_len())
    }

    /// Makes the packet `len` bytes long by growing or shrinking at its end. Bytes that come in
    /// hold whatever was there: write them. False, and no change, where there is no room or the
    /// packet is not contiguous.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> bool {
        let room = usize::from(self.buffer_len()) - self.headroom();
        if len > room || !self.is_contiguous() {
            return false;
        }
        // SAFETY: the data ends within the buffer, and `len` is below its 16-bit length.
        unsafe { self.set_extent(self.data_offset(), len as u16) };
        true
    }

    /// Makes room for `count` bytes before the data; write them. False, and no change, where the
    /// headroom does not suffice.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> bool {
        let room = usize::from(u16::MAX - self.segment_len());
        if count > self.headroom() || count > room {
            return false;
        }
        let count = count as u16;
        // SAFETY: the data begins `count` bytes earlier, within the buffer, and ends where it did.
        unsafe { self.set_extent(self.data_offset() - count, self.segment_len() + count) };
        true
    }

    /// Takes `count` bytes off the beginning. False, and no change, where the first segment has
    /// fewer.
    #[inline]
    pub fn trim_front(&mut self, count: usize) -> bool {
        if count > usize::from(self.segment_len()) {
            return false;
        }
        let count = count as u16;
        // SAFETY: the data begins `count` bytes later, at most at its end.
        unsafe { self.set_extent(self.data_offset() + count, self.segment_len() - count) };
        true
    }

    /// Makes `bytes` the packet. False, and no change, where they do not fit.
    #[inline]
    pub fn set_data(&mut self, bytes: &[u8]) -> bool {
        let fits = self.set_len(bytes.len());
        if fits {
            self.data_mut().copy_from_slice(bytes);
        }
        fits
    }

    /// What the NIC says of the IPv4 header's checksum.
    #[inline]
    pub fn ip_checksum(&self) -> ChecksumStatus {
        let said = self.flags() & dpdk_sys::SHIM_RX_IP_CKSUM_MASK;
        // Most say the one or the other; a table to jump by would be slower.
        if said == 0 {
            return ChecksumStatus::Unknown;
        }
        match said {
            dpdk_sys::SHIM_RX_IP_CKSUM_GOOD => ChecksumStatus::Good,
            dpdk_sys::SHIM_RX_IP_CKSUM_BAD => ChecksumStatus::Bad,
            dpdk_sys::SHIM_RX_IP_CKSUM_NONE => ChecksumStatus::None,
            _ => ChecksumStatus::Unknown,
        }
    }

    /// What the NIC says of the transport checksum.
    #[inline]
    pub fn l4_checksum(&self) -> ChecksumStatus {
        let said = self.flags() & dpdk_sys::SHIM_RX_L4_CKSUM_MASK;
        if said == 0 {
            return ChecksumStatus::Unknown;
        }
        match said {
            dpdk_sys::SHIM_RX_L4_CKSUM_GOOD => ChecksumStatus::Good,
            dpdk_sys::SHIM_RX_L4_CKSUM_BAD => ChecksumStatus::Bad,
            dpdk_sys::SHIM_RX_L4_CKSUM_NONE => ChecksumStatus::None,
            _ => ChecksumStatus::Unknown,
        }
    }

    /// The hash by which the NIC chose the queue, where it tells.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        (self.flags() & dpdk_sys::SHIM_RX_RSS_HASH != 0)
            // SAFETY: hash.rss is a uint32_t.
            .then(|| unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_RSS_HASH }, u32>() })
    }

    /// The VLAN tag control information that the NIC took out of the frame, if it did.
    #[inline]
    pub fn stripped_vlan(&self) -> Option<u16> {
        (self.flags() & dpdk_sys::SHIM_RX_VLAN_STRIPPED != 0)
            // SAFETY: vlan_tci is a uint16_t.
            .then(|| unsafe { self.get::<{ dpdk_sys::SHIM_MBUF_VLAN_TCI }, u16>() })
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we are the only owner, and this is the end of it.
        unsafe { dpdk_sys::shim_mbuf_free(self.0.as_ptr()) };
    }
}

impl std::fmt::Debug for Mbuf {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Mbuf")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Drops a whole burst at once, which is cheaper than one by one.
#[inline]
pub fn free_burst<const N: usize>(burst: &mut ArrayVec<Mbuf, N>) {
    let count = burst.len();
    // SAFETY: the burst's elements are `count` owned mbufs, each one pointer; with its length set
    // to zero first, nobody else will drop them.
    unsafe {
        burst.set_len(0);
        dpdk_sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), count as u32);
    }
}
