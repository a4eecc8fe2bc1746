//! The floor: a forwarder that does nothing but rewrite the link-layer addresses. Every ratio is
//! against it.

use dataplane::io::{Io, PortId};
use dataplane::packet::{Buffer, Burst};

use super::rings::RingIo;

const STATIONS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// Octets that [`Work::Read`] reads: what the headers of an IPv4 segment take.
const HEADERS: usize = 64;

/// What is done to each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Both addresses are rewritten.
    Write,
    /// The headers are read, too: what touching a packet costs whoever must decide on it.
    Read,
}

/// Receives from each port, rewrites both addresses, sends by the other port.
pub(super) struct Floor {
    io: RingIo,
    work: Work,
}

impl Floor {
    pub(super) fn new(io: RingIo, work: Work) -> Self {
        Self { io, work }
    }

    /// One turn of the loop; how many frames it carried.
    #[inline(never)]
    pub(super) fn poll(&mut self) -> usize {
        let mut carried = 0;
        for (from, to) in [(PortId(0), PortId(1)), (PortId(1), PortId(0))] {
            let mut burst = Burst::new();
            carried += self.io.receive(from, &mut burst);
            if self.work == Work::Read {
                burst.iter().for_each(Buffer::prefetch);
            }
            for frame in &mut burst {
                if self.work == Work::Read {
                    std::hint::black_box(sum(frame.bytes()));
                }
                frame.bytes_mut()[..STATIONS.len()].copy_from_slice(&STATIONS);
            }
            self.io.transmit(to, &mut burst);
        }
        carried
    }
}

/// The headers as 64-bit numbers, added up.
#[inline]
fn sum(frame: &[u8]) -> u64 {
    let words = frame[..HEADERS].as_chunks::<8>().0.iter();
    words.fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}
