//! A port's queues: the two calls that every packet goes through.
//!
//! `rte_eth_rx_burst` and `rte_eth_tx_burst` are inline functions over the table
//! `rte_eth_fp_ops`; here the table is called directly, so that a burst costs one indirect call.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::{rte_eth_fp_ops, rte_mbuf};

use crate::mbuf::Mbuf;
use crate::port::PortState;

/// A receive queue, for one thread at a time.
pub struct RxQueue {
    port: Arc<PortState>,
    queue: u16,
    _not_sync: PhantomData<Cell<()>>,
}

/// A transmit queue, for one thread at a time.
pub struct TxQueue {
    port: Arc<PortState>,
    queue: u16,
    _not_sync: PhantomData<Cell<()>>,
}

/// The table's entry for a port.
#[inline]
fn operations(port: &PortState) -> *const rte_eth_fp_ops {
    // SAFETY: the port's number is below the table's length, as DPDK gave it out.
    unsafe {
        (&raw const rte_eth_fp_ops)
            .cast::<rte_eth_fp_ops>()
            .add(port.id.into())
    }
}

impl RxQueue {
    /// Only [`crate::Port`] makes one, once for each queue, of a port that is started.
    pub(crate) fn new(port: Arc<PortState>, queue: u16) -> Self {
        Self {
            port,
            queue,
            _not_sync: PhantomData,
        }
    }

    /// The queue's number on its port.
    pub fn number(&self) -> u16 {
        self.queue
    }

    /// Appends what has come in to `burst`, as much as it has room for, and returns how many.
    ///
    /// Some drivers hand out packets only by fours or more: leave room for a whole burst.
    #[inline]
    pub fn receive<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let length = burst.len();
        let room = burst.remaining_capacity().min(u16::MAX.into()) as u16;
        let operations = operations(&self.port);
        // SAFETY: the port is started and stays so while a queue of it lives, so its entry holds
        // a driver's function and its queues' data; this queue was set up, and only this thread
        // polls it, for it is not Sync and not Clone. The driver writes at most `room` mbufs past
        // the end of the burst, each of them now ours.
        unsafe {
            let data = *(*operations).rxq.data.add(self.queue.into());
            let receive = (*operations).rx_pkt_burst.unwrap_unchecked();
            let end = burst.as_mut_ptr().add(length).cast::<*mut rte_mbuf>();
            let count = usize::from(receive(data, end, room));
            burst.set_len(length + count);
            count
        }
    }
}

impl TxQueue {
    /// Only [`crate::Port`] makes one, once for each queue, of a port that is started.
    pub(crate) fn new(port: Arc<PortState>, queue: u16) -> Self {
        Self {
            port,
            queue,
            _not_sync: PhantomData,
        }
    }

    /// The queue's number on its port.
    pub fn number(&self) -> u16 {
        self.queue
    }

    /// Sends from the front of `burst` and returns how many are gone. What the device has no
    /// room for stays in the burst, in order.
    #[inline]
    pub fn transmit<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        let count = burst.len().min(u16::MAX.into()) as u16;
        if count == 0 {
            return 0;
        }
        let operations = operations(&self.port);
        // SAFETY: as in `receive`. The driver takes ownership of the first `sent` mbufs, and
        // `forget_front` takes just those out of the burst without dropping them.
        unsafe {
            let data = *(*operations).txq.data.add(self.queue.into());
            let transmit = (*operations).tx_pkt_burst.unwrap_unchecked();
            let sent = transmit(data, burst.as_mut_ptr().cast::<*mut rte_mbuf>(), count);
            forget_front(burst, sent.into());
            sent.into()
        }
    }
}

/// Takes the first `count` mbufs out of the burst without dropping them.
///
/// # Safety
/// `count` is at most the burst's length, and somebody else owns those mbufs now.
#[inline]
pub(crate) unsafe fn forget_front<const N: usize>(burst: &mut ArrayVec<Mbuf, N>, count: usize) {
    let rest = burst.len() - count;
    // SAFETY: `rest` elements lie behind the first `count`; moved to the front they are the
    // whole burst.
    unsafe {
        burst.set_len(0);
        if count > 0 && rest > 0 {
            let front = burst.as_mut_ptr();
            std::ptr::copy(front.add(count), front, rest);
        }
        burst.set_len(rest);
    }
}
