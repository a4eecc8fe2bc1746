//! DPDK's ports and packet buffers, as a worker sees them.

use arrayvec::ArrayVec;
use bindings::mbuf;
use bindings::{Mbuf, Mempool, RxQueue, TxQueue};

use crate::drop_reason::DropReason;
use crate::io::{Io, PortId};
use crate::limits::{MAX_PORTS, MAX_QUEUES_PER_WORKER};
use crate::packet::{Buffer, Burst, ChecksumStatus};
use crate::parse::{ETHER_TYPE_VLAN, VLAN_TAG_BYTES};

/// Octets of the two station addresses, behind which a VLAN tag stands.
const STATIONS_BYTES: usize = 12;

impl From<mbuf::ChecksumStatus> for ChecksumStatus {
    fn from(status: mbuf::ChecksumStatus) -> Self {
        match status {
            mbuf::ChecksumStatus::Good => Self::Good,
            mbuf::ChecksumStatus::Bad => Self::Bad,
            // A checksum that is not there is found wrong, as it must be before it is passed on.
            mbuf::ChecksumStatus::Unknown | mbuf::ChecksumStatus::None => Self::Unknown,
        }
    }
}

impl Buffer for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.data()
    }

    #[inline]
    fn free_all(burst: &mut Burst<Self>) {
        mbuf::free_burst(burst);
    }

    #[inline]
    fn prefetch(&self) {
        self.prefetch_data();
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.data_mut()
    }

    #[inline]
    fn set_len(&mut self, length: usize) -> bool {
        Mbuf::set_len(self, length)
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        Mbuf::prepend(self, count)
    }

    #[inline]
    fn trim_front(&mut self, count: usize) -> bool {
        Mbuf::trim_front(self, count)
    }

    #[inline]
    fn network_checksum(&self) -> ChecksumStatus {
        self.ip_checksum().into()
    }

    #[inline]
    fn transport_checksum(&self) -> ChecksumStatus {
        self.l4_checksum().into()
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        Mbuf::is_contiguous(self)
    }
}

/// One worker's queues on one port.
#[derive(Default)]
pub struct PortQueues {
    /// The receive queues that are this worker's; none where the port has fewer than there are
    /// workers.
    pub receive: ArrayVec<RxQueue, MAX_QUEUES_PER_WORKER>,
    /// The transmit queue, likewise.
    pub transmit: Option<TxQueue>,
    /// Whether frames may come without their VLAN tag, which then stands beside them.
    pub restores_vlan_tags: bool,
}

/// One worker's DPDK queues and the pool that its packets come from.
pub struct DpdkIo {
    ports: ArrayVec<PortQueues, MAX_PORTS>,
    /// Where each port's next poll begins.
    next: [u8; MAX_PORTS],
    pool: Mempool,
}

impl DpdkIo {
    /// Queues of every port, in the order of the ports' identifiers.
    pub fn new(ports: ArrayVec<PortQueues, MAX_PORTS>, pool: Mempool) -> Self {
        Self {
            ports,
            next: [0; MAX_PORTS],
            pool,
        }
    }
}

impl Io for DpdkIo {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, port: PortId, burst: &mut Burst<Mbuf>) -> usize {
        let place = usize::from(port.0);
        let Some(queues) = self.ports.get_mut(place) else {
            return 0;
        };
        let before = burst.len();
        match &mut queues.receive[..] {
            [] => return 0,
            [queue] => {
                queue.receive(burst);
            }
            several => {
                // Each queue comes first in its turn, so that a full one starves no other.
                let first = usize::from(self.next[place]) % several.len();
                self.next[place] = (first + 1) as u8;
                let (later, sooner) = several.split_at_mut(first);
                for queue in sooner.iter_mut().chain(later) {
                    if burst.is_full() {
                        break;
                    }
                    queue.receive(burst);
                }
            }
        }
        if queues.restores_vlan_tags {
            burst[before..].iter_mut().for_each(restore_vlan_tag);
        }
        burst.len() - before
    }

    #[inline]
    fn transmit(&mut self, port: PortId, burst: &mut Burst<Mbuf>) -> usize {
        let queues = self.ports.get_mut(usize::from(port.0));
        match queues.and_then(|queues| queues.transmit.as_mut()) {
            Some(queue) => queue.transmit(burst),
            None => 0,
        }
    }

    fn refusal(&self, port: PortId) -> DropReason {
        let queues = self.ports.get(usize::from(port.0));
        match queues.and_then(|queues| queues.transmit.as_ref()) {
            Some(_) => DropReason::TransmitFull,
            None => DropReason::PortLost,
        }
    }

    fn exchange(&mut self, port: PortId, queues: &mut PortQueues) {
        if let Some(own) = self.ports.get_mut(usize::from(port.0)) {
            std::mem::swap(own, queues);
        }
    }

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }

    #[inline]
    fn cycles(&self) -> u64 {
        bindings::clock::cycles()
    }
}

/// Puts the VLAN tag that the kernel took out of a frame back in. A frame that has no room for it
/// stays as it is, and with no tag finds no interface that is not its own.
#[inline]
fn restore_vlan_tag(frame: &mut Mbuf) {
    let Some(tag) = frame.stripped_vlan() else {
        return;
    };
    if frame.data().len() < STATIONS_BYTES || !Mbuf::prepend(frame, VLAN_TAG_BYTES) {
        return;
    }
    let bytes = frame.data_mut();
    bytes.copy_within(VLAN_TAG_BYTES..VLAN_TAG_BYTES + STATIONS_BYTES, 0);
    let [high, low] = ETHER_TYPE_VLAN.to_be_bytes();
    let [tag_high, tag_low] = tag.to_be_bytes();
    bytes[STATIONS_BYTES..STATIONS_BYTES + VLAN_TAG_BYTES]
        .copy_from_slice(&[high, low, tag_high, tag_low]);
}
