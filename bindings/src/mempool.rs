//! Pools of packet buffers.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys::{rte_mbuf, rte_mempool};

use crate::eal::{Eal, Pool, State};
use crate::error::{Call, Error, c_string};
use crate::mbuf::Mbuf;

/// What a pool is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolConfig {
    /// For DPDK's logs.
    pub name: String,
    /// How many mbufs. One less than a power of two wastes least.
    pub count: u32,
    /// How many of them each registered thread may keep to itself.
    pub cache: u32,
    /// Room for data in each, the headroom not counted.
    pub data_room_bytes: u16,
    /// The NUMA node of its memory; `None` for any.
    pub socket: Option<u32>,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            name: "packets".into(),
            count: 8191,
            cache: 256,
            data_room_bytes: 2048,
            socket: None,
        }
    }
}

/// A pool of packet buffers of one size. A clone is another handle on the same pool.
///
/// Its memory is given back when EAL ends, not before, for mbufs may be anywhere.
#[derive(Clone)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    state: Arc<State>,
}

// SAFETY: DPDK's pools are made for many producers and consumers on any thread: a registered
// thread has a cache of its own, the others go to the shared ring.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Makes a pool.
    pub fn new(eal: &Eal, config: &MempoolConfig) -> Result<Self, Error> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let doing = || format!("making pool {} of {} mbufs", config.name, config.count);
        let invalid = || Error::new("rte_pktmbuf_pool_create", libc::EINVAL, doing());
        // DPDK's names are short and must differ, also from those of pools already dropped.
        let short: String = config
            .name
            .chars()
            .filter(char::is_ascii_graphic)
            .take(12)
            .collect();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = c_string(
            &format!("{short}.{number}"),
            "rte_pktmbuf_pool_create",
            doing,
        )?;
        let headroom = dpdk_sys::SHIM_HEADROOM as u16;
        let room = config
            .data_room_bytes
            .checked_add(headroom)
            .ok_or_else(invalid)?;
        // DPDK wants a cache no larger than its limit nor than two thirds of the pool.
        let cache = config
            .cache
            .min(dpdk_sys::SHIM_MEMPOOL_CACHE_MAX)
            .min(config.count / 3 * 2);
        let socket = config.socket.map_or(-1, u32::cast_signed);
        let call = Call::to("rte_pktmbuf_pool_create");
        let state = eal.state();
        // SAFETY: EAL runs; the name is a string for the time of the call, and is copied.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(name.as_ptr(), config.count, cache, 0, room, socket)
        };
        let Some(pool) = NonNull::new(pool) else {
            return Err(call.failed(doing()));
        };
        state.resources().pools.push(Pool(pool));
        Ok(Self { pool, state })
    }

    /// One mbuf, empty, with the usual headroom.
    #[inline]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as EAL, which `state` holds; the mbuf that comes back is
        // ours alone.
        unsafe {
            NonNull::new(dpdk_sys::shim_mbuf_alloc(self.pool.as_ptr()))
                .map(|mbuf| Mbuf::from_raw(mbuf))
        }
    }

    /// Appends `count` mbufs to `burst`: all of them, or, where the pool or the room in the burst
    /// does not suffice, none.
    #[inline]
    pub fn allocate_burst<const N: usize>(
        &self,
        burst: &mut ArrayVec<Mbuf, N>,
        count: usize,
    ) -> bool {
        if count > burst.remaining_capacity() {
            return false;
        }
        if count == 0 {
            return true;
        }
        let length = burst.len();
        // SAFETY: there is room for `count` pointers past the end, an Mbuf is one non-null
        // pointer, and the call fills all of them or none.
        unsafe {
            let end = burst.as_mut_ptr().add(length).cast::<*mut rte_mbuf>();
            let got = dpdk_sys::shim_mbuf_alloc_bulk(self.pool.as_ptr(), end, count as u32) == 0;
            if got {
                burst.set_len(length + count);
            }
            got
        }
    }

    /// How many mbufs the pool has in all.
    pub fn size(&self) -> usize {
        // SAFETY: the pool lives.
        unsafe { dpdk_sys::shim_mempool_size(self.pool.as_ptr()) as usize }
    }

    /// How many are free, the threads' caches counted. Only exact while nobody allocates.
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives; counting is safe at any time.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) as usize }
    }

    /// How many are out: in hands, in queues, in devices.
    pub fn in_use(&self) -> usize {
        // SAFETY: the pool lives; counting is safe at any time.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.pool.as_ptr()) as usize }
    }

    /// Room for data in each mbuf, the headroom not counted.
    pub fn data_room_bytes(&self) -> u32 {
        // SAFETY: the pool lives, and was made for mbufs.
        unsafe { dpdk_sys::shim_mempool_data_room(self.pool.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }

    pub(crate) fn belongs_to(&self, state: &Arc<State>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }
}
