//! The two devices of a tester, and what stands behind them, from the command line.

use std::net::IpAddr;

use clap::Args;
use ipnetwork::IpNetwork;

use crate::device::dpdk_name;
use crate::tester::{EngineSettings, Refusal, queues};
use crate::wiring::{Side, Wiring};

/// The two sides.
#[derive(Clone, Debug, Args)]
pub(super) struct Devices {
    /// The first device: a network interface, a PCI address, or a virtual device such as
    /// net_memif0,role=client,id=0,socket=/run/a.sock. Clients are on this side.
    #[arg(long, value_name = "DEVICE", required_unless_present = "subject")]
    tx: Option<String>,
    /// The second device. Servers are on this side.
    #[arg(long, value_name = "DEVICE", required_unless_present = "subject")]
    rx: Option<String>,
    /// An address of the tester on the first link, which it answers for.
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    tx_address: Vec<IpNetwork>,
    /// The same on the second link.
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    rx_address: Vec<IpNetwork>,
    /// What lies behind the tester on the first side; it sends from there.
    #[arg(long, value_name = "PREFIX")]
    tx_network: Vec<IpNetwork>,
    /// The same on the second side.
    #[arg(long, value_name = "PREFIX")]
    rx_network: Vec<IpNetwork>,
    /// The subject's address on the first link, whose station frames are sent to; once for each
    /// family. Without any, frames are sent to the station of the second device.
    #[arg(long, value_name = "ADDRESS")]
    tx_gateway: Vec<IpAddr>,
    /// The same on the second link.
    #[arg(long, value_name = "ADDRESS")]
    rx_gateway: Vec<IpAddr>,
    /// The subject's station address on the first link, where it is not to be asked for.
    #[arg(long, value_parser = station, value_name = "MAC")]
    tx_station: Option<[u8; 6]>,
    /// The same on the second link.
    #[arg(long, value_parser = station, value_name = "MAC")]
    rx_station: Option<[u8; 6]>,
    /// Cores that send and receive: one for both directions, or several; by default the last one.
    #[arg(long, value_delimiter = ',', value_name = "CORE")]
    cores: Vec<usize>,
}

/// A station address, as in `02:00:00:00:00:01`.
fn station(text: &str) -> Result<[u8; 6], String> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    octets
        .and_then(|octets| octets.try_into().ok())
        .filter(|station: &[u8; 6]| station[0] & 1 == 0)
        .ok_or_else(|| format!("{text:?} is no station address, such as 02:00:00:00:00:01"))
}

impl Devices {
    /// The devices as DPDK names them; clap sees that both are given.
    fn names(&self, largest_frame: usize) -> [String; 2] {
        let queues = queues(&self.cores);
        let name = |place, device: &Option<String>| {
            dpdk_name(
                place,
                device.as_deref().unwrap_or_default(),
                largest_frame,
                queues,
            )
        };
        [name(0, &self.tx), name(1, &self.rx)]
    }

    /// How tester and subject are joined, for frames of so many bytes.
    pub(super) fn wiring(&self, largest_frame: usize) -> Result<Wiring, Refusal> {
        let [tx, rx] = self.names(largest_frame);
        let wiring = Wiring {
            is_physical: ![&tx, &rx].iter().any(|device| is_virtual(device)),
            outside: Side {
                device: tx,
                addresses: self.tx_address.clone(),
                networks: self.tx_network.clone(),
                gateways: self.tx_gateway.clone(),
                station: self.tx_station,
            },
            inside: Side {
                device: rx,
                addresses: self.rx_address.clone(),
                networks: self.rx_network.clone(),
                gateways: self.rx_gateway.clone(),
                station: self.rx_station,
            },
        };
        for (side, name) in [(&wiring.outside, "tx"), (&wiring.inside, "rx")] {
            for gateway in &side.gateways {
                let is_near = side.addresses.iter().any(|own| own.contains(*gateway));
                if !is_near && side.station.is_none() {
                    return Err(Refusal::new(
                        format!("the gateway {gateway} is on no link of the {name} side"),
                        format!("give the tester an address beside it by `--{name}-address`"),
                    ));
                }
            }
        }
        Ok(wiring)
    }

    /// What the engine is started with.
    pub(super) fn engine(&self, largest_frame: usize) -> EngineSettings {
        EngineSettings {
            devices: self.names(largest_frame).to_vec(),
            cores: self.cores.clone(),
            largest_frame,
            pairs: 1,
            extra_buffers: 0,
        }
    }
}

/// Whether DPDK makes the device itself.
fn is_virtual(device: &str) -> bool {
    device.trim_start().starts_with("net_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_are_read_and_groups_refused() {
        assert_eq!(station("02:00:00:00:0a:ff"), Ok([2, 0, 0, 0, 10, 255]));
        for wrong in ["", "02:00", "01:00:5e:00:00:01", "02:00:00:00:00:0g"] {
            assert!(station(wrong).is_err(), "{wrong}");
        }
    }
}
