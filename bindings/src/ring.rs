//! A ring of mbufs between two threads: one sends, one receives.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys::{rte_mbuf, rte_ring};

use crate::eal::{Eal, State};
use crate::error::{Call, Error, c_string};
use crate::mbuf::{Mbuf, free_burst};
use crate::queue::forget_front;

/// How a ring is made: by [`MbufRing::new`].
pub struct MbufRing;

struct Ring {
    ring: NonNull<rte_ring>,
    _state: Arc<State>,
}

// SAFETY: one Sender and one Receiver share it, each on one thread at a time, which is what a
// single-producer single-consumer ring allows.
unsafe impl Send for Ring {}
// SAFETY: as above; counting is safe from anywhere.
unsafe impl Sync for Ring {}

/// The end that mbufs go in at.
pub struct Sender {
    ring: Arc<Ring>,
    _not_sync: PhantomData<Cell<()>>,
}

/// The end that they come out of.
pub struct Receiver {
    ring: Arc<Ring>,
    _not_sync: PhantomData<Cell<()>>,
}

impl MbufRing {
    /// Makes a ring with room for `capacity` mbufs, a power of two, in the memory of NUMA node
    /// `socket`.
    #[allow(clippy::new_ret_no_self)] // A ring is nothing but its two ends.
    pub fn new(
        eal: &Eal,
        name: &str,
        capacity: u32,
        socket: Option<u32>,
    ) -> Result<(Sender, Receiver), Error> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let doing = || format!("making ring {name} of {capacity} mbufs");
        if !capacity.is_power_of_two() {
            return Err(Error::new("rte_ring_create", libc::EINVAL, doing()));
        }
        let short: String = name
            .chars()
            .filter(char::is_ascii_graphic)
            .take(12)
            .collect();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = c_string(&format!("{short}.{number}"), "rte_ring_create", doing)?;
        let flags = dpdk_sys::SHIM_RING_ONE_TO_ONE;
        let socket = socket.map_or(-1, u32::cast_signed);
        let call = Call::to("rte_ring_create");
        // SAFETY: EAL runs; the name is a string for the time of the call, and is copied.
        let ring = unsafe { dpdk_sys::rte_ring_create(unique.as_ptr(), capacity, socket, flags) };
        let Some(ring) = NonNull::new(ring) else {
            return Err(call.failed(doing()));
        };
        let ring = Arc::new(Ring {
            ring,
            _state: eal.state(),
        });
        let receiver = Receiver {
            ring: Arc::clone(&ring),
            _not_sync: PhantomData,
        };
        Ok((
            Sender {
                ring,
                _not_sync: PhantomData,
            },
            receiver,
        ))
    }
}

impl Sender {
    /// Puts in from the front of `burst` and returns how many went. What the ring has no room
    /// for stays in the burst, in order.
    #[inline]
    pub fn send_burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let mbufs = burst.as_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: we are the only producer. The burst's elements are pointers to mbufs; the ring
        // copies the first `sent`, and they leave the burst without being dropped.
        unsafe {
            let sent = dpdk_sys::shim_ring_send(self.ring.ring.as_ptr(), mbufs, burst.len() as u32);
            forget_front(burst, sent as usize);
            sent as usize
        }
    }

    /// How many mbufs are in the ring.
    pub fn count(&self) -> usize {
        self.ring.count()
    }
}

impl Receiver {
    /// Appends what is in the ring to `burst`, as much as it has room for; returns how many.
    #[inline]
    pub fn receive_burst<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        self.ring.receive(burst)
    }

    /// How many mbufs are in the ring.
    pub fn count(&self) -> usize {
        self.ring.count()
    }
}

impl Ring {
    /// Only the one consumer calls this.
    #[inline]
    fn receive<const N: usize>(&self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let (length, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: the ring holds mbufs that were sent, thus owned by nobody else; at most `room`
        // of them are written past the end of the burst.
        unsafe {
            let end = burst.as_mut_ptr().add(length).cast::<*mut rte_mbuf>();
            let count = dpdk_sys::shim_ring_receive(self.ring.as_ptr(), end, room as u32) as usize;
            burst.set_len(length + count);
            count
        }
    }

    fn count(&self) -> usize {
        // SAFETY: the ring lives; counting is safe at any time.
        unsafe { dpdk_sys::shim_ring_count(self.ring.as_ptr()) as usize }
    }
}

impl Drop for Ring {
    /// Frees what is still in the ring, then the ring. Both ends are gone by now.
    fn drop(&mut self) {
        let mut burst = ArrayVec::<Mbuf, 32>::new();
        while self.receive(&mut burst) > 0 {
            free_burst(&mut burst);
        }
        // SAFETY: we made it, and nobody else holds it.
        unsafe { dpdk_sys::rte_ring_free(self.ring.as_ptr()) };
    }
}
