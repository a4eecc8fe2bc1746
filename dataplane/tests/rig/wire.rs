//! Workers between the two ports of a transparent wire.

use dataplane::bridge::{Bridge, WirePort};
use dataplane::echo::EchoJar;
use dataplane::guard::config::Transparent;
use dataplane::io::InterfaceId;
use dataplane::packet::Buffer;

use super::{ROUTER_MAC, Rig, SERVER_MAC, Setup, Side, cookie_keys};

impl Setup {
    /// A wire that does so with SYNs.
    pub(crate) fn wire(echo: dataplane::guard::config::EchoMode) -> Self {
        Self {
            wire: Some(echo),
            ..Self::default()
        }
    }

    pub(super) fn transparent(&self) -> Option<Transparent> {
        let end = |side: Side| WirePort {
            port: side.port(),
            interface: InterfaceId(side as u8),
            mtu_bytes: self.mtu_bytes[side as usize],
        };
        self.wire.map(|echo| Transparent {
            bridge: Bridge {
                outside: end(Side::Outside),
                inside: end(Side::Inside),
            },
            echo,
            jar: EchoJar::new(&cookie_keys()),
        })
    }
}

impl Side {
    /// The stations that a frame is for and from, on a wire whose ends are the clients' router and
    /// the server.
    pub(crate) fn stations_across(
        self,
    ) -> (
        dataplane::wire::ethernet::MacAddress,
        dataplane::wire::ethernet::MacAddress,
    ) {
        match self {
            Self::Outside => (SERVER_MAC, ROUTER_MAC),
            Self::Inside => (ROUTER_MAC, SERVER_MAC),
        }
    }
}

impl Rig {
    /// Polls until nothing moves any more; every frame that left, as it is.
    pub(crate) fn settle_frames(&mut self) -> Vec<(Side, Vec<u8>)> {
        let mut frames = Vec::new();
        for _ in 0..1000 {
            let served = self.poll();
            for side in Side::BOTH {
                while let Some((_, frame)) = self.departed(side) {
                    frames.push((side, frame.bytes().to_vec()));
                }
            }
            let waiting = self.workers.iter_mut().any(|w| w.io_mut().waiting() > 0);
            if served == 0 && !waiting {
                return frames;
            }
        }
        panic!("the workers never rest");
    }

    /// Has a frame come in, and gives back the only one that leaves.
    pub(crate) fn pass(&mut self, side: Side, frame: &[u8]) -> (Side, Vec<u8>) {
        self.arrive(side, frame);
        let mut frames = self.settle_frames();
        assert_eq!(frames.len(), 1, "{frames:02x?}");
        frames.remove(0)
    }

    /// Has a frame come in of which nothing comes out.
    pub(crate) fn swallow(&mut self, side: Side, frame: &[u8]) {
        self.arrive(side, frame);
        assert_eq!(self.settle_frames(), []);
    }
}
