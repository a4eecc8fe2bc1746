//! The floor: a forwarder that does nothing but rewrite the link-layer addresses. Every ratio is
//! against it.

use dataplane::io::{Io, PortId};
use dataplane::packet::{Buffer, Burst};

use super::rings::RingIo;

const STATIONS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// Receives from each port, rewrites both addresses, sends by the other port.
pub(super) struct Floor {
    io: RingIo,
}

impl Floor {
    pub(super) fn new(io: RingIo) -> Self {
        Self { io }
    }

    /// One turn of the loop; how many frames it carried.
    #[inline(never)]
    pub(super) fn poll(&mut self) -> usize {
        let mut carried = 0;
        for (from, to) in [(PortId(0), PortId(1)), (PortId(1), PortId(0))] {
            let mut burst = Burst::new();
            carried += self.io.receive(from, &mut burst);
            for frame in &mut burst {
                frame.bytes_mut()[..STATIONS.len()].copy_from_slice(&STATIONS);
            }
            self.io.transmit(to, &mut burst);
        }
        carried
    }
}
