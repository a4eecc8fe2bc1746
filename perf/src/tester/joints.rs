//! A tester's two sides as ports for TCP ends.

use bindings::system::Affinity;

use super::devices::{Engine, Refusal};
use super::station::Said;
use super::{Patience, Sides, Stop};
use crate::endpoints::Link;
use crate::endpoints::device::DevicePort;
use crate::wiring::Wiring;

/// Ports and links of both sides, the outer first.
pub struct Joints {
    /// The ports. They answer what is asked of the stations and networks of their side.
    pub ports: [DevicePort; 2],
    /// From whom to whom frames are sent there.
    pub links: [Link; 2],
}

impl Joints {
    /// Opens both devices, waits for their links, and asks for the gateways' stations. The engine
    /// polls on one core.
    ///
    /// # Errors
    /// When the engine has several cores, a device is missing, in use, has no link, or a gateway
    /// does not answer.
    pub fn open(
        engine: &Engine,
        wiring: &Wiring,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Self, Refusal> {
        if engine.cores.len() > 1 {
            return Err(Refusal::new(
                "connections are made by one core",
                "name one by `--cores`",
            ));
        }
        let Sides {
            pair: _,
            queues,
            stations,
        } = Sides::open(engine, wiring, patience, stop)?;
        let links = stations.map(|stations| Link {
            own: stations.own,
            ipv4: stations.ipv4,
            ipv6: stations.ipv6,
        });
        let mut ports = queues.into_iter().map(|queues| {
            let station = queues.station;
            let answer = move |frame: &[u8]| match station.hear(frame) {
                Said::Asked(answer) => Some(answer.to_vec()),
                Said::Known(..) | Said::Chatter | Said::Foreign => None,
            };
            let pool = engine.pool().clone();
            DevicePort::new(queues.receive, queues.transmit, pool, Box::new(answer))
        });
        let (Some(outside), Some(inside)) = (ports.next(), ports.next()) else {
            return Err(Refusal::new(
                "a device has no queues",
                "give it one in each direction",
            ));
        };
        Ok(Self {
            ports: [outside, inside],
            links,
        })
    }
}

impl Engine {
    /// Keeps the calling thread on the core that sends and receives, and makes it known to DPDK,
    /// while `work` is done.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn polling<T>(&self, work: impl FnOnce() -> T) -> Result<T, Refusal> {
        let refused = |error: bindings::Error| Refusal::new(error.to_string(), "see `lscpu`");
        Affinity::of(&self.cores[..1])
            .and_then(|core| core.apply())
            .map_err(refused)?;
        let _registered = bindings::eal::register_thread().map_err(refused)?;
        Ok(work())
    }
}
