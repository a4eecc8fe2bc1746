//! From a wiring to clients, servers and a flood at its two devices.

use std::net::{IpAddr, SocketAddr};

use dataplane::wire::address::{Address, Family, Prefix};
use ipnetwork::IpNetwork;

use super::arena::Arena;
use super::client::{ClientConfig, Clients, Close, Pool, Talk};
use super::device::DevicePort;
use super::flood::FloodConfig;
use super::server::{ServerConfig, Servers};
use crate::tester::{Engine, Joints, Patience, Refusal, Stop};
use crate::wiring::{Side, Wiring};

/// Clients of one net, at most: more ports than any number of connections needs.
const MOST_ADDRESSES: u32 = 4096;

/// What is to be at a wiring's ends.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteSettings {
    /// Who is asked; empty for port 80 of each single address behind the inside.
    pub servers: Vec<SocketAddr>,
    /// The most connections at once.
    pub connections: u32,
    /// Octets of each request.
    pub request_bytes: u32,
    /// Octets of each response behind its head.
    pub body_bytes: u32,
    /// How connections end.
    pub close: Close,
    /// Where a flood's packets claim to come from.
    pub spoofed: Vec<IpNetwork>,
    /// Forged ACKs among a flood's packets, from 0 to 1.
    pub flood_acks: f64,
    /// What makes two runs alike.
    pub seed: u64,
}

impl Default for SiteSettings {
    /// A hundred thousand connections with small requests and responses, and a flood of SYNs and
    /// as many forged ACKs.
    fn default() -> Self {
        let (ipv4, ipv6) = lab::flood::spoofed_nets();
        Self {
            servers: Vec::new(),
            connections: 100_000,
            request_bytes: 128,
            body_bytes: 1024,
            close: Close::Client,
            spoofed: vec![ipv4.into(), ipv6.into()],
            flood_acks: 0.5,
            seed: 1,
        }
    }
}

impl SiteSettings {
    /// Opens the wiring's devices and puts clients at the outside, servers at the inside.
    ///
    /// # Errors
    /// When the devices cannot be opened, or nobody is there to ask or to be asked.
    pub fn open(
        &self,
        engine: &Engine,
        wiring: &Wiring,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Arena<DevicePort>, Refusal> {
        let listens = self.listens(&wiring.inside)?;
        let pools = self.pools(&wiring.outside, &listens)?;
        let joints = Joints::open(engine, wiring, patience, stop)?;
        let [outside, inside] = joints.links;
        let first = pools[0].clone();
        let clients = ClientConfig {
            pools,
            connections: self.connections,
            talk: Talk::Verified {
                request_bytes: self.request_bytes,
                body_bytes: self.body_bytes,
            },
            close: self.close,
            seed: self.seed,
            ..ClientConfig::new(outside, first)
        };
        let spoofed: Vec<Prefix> = self
            .spoofed
            .iter()
            .filter_map(|net| Prefix::new(net.ip().into(), net.prefix()))
            .collect();
        let flood = FloodConfig {
            sources: spoofed.clone(),
            destinations: listens.clone(),
            neighbours: neighbours(&wiring.inside),
            acks: self.flood_acks,
            seed: self.seed,
        };
        let servers = ServerConfig {
            spoofed,
            seed: self.seed,
            ..ServerConfig::new(inside, listens, self.connections.saturating_mul(2))
        };
        let unfit = |what: String| Refusal::new(what, "correct addresses, sizes and numbers");
        let clients = Clients::new(clients, 0).map_err(|error| unfit(error.to_string()))?;
        let servers = Servers::new(servers, 0).map_err(|error| unfit(error.to_string()))?;
        let stop = stop.clone();
        let arena = Arena::new(joints.ports, clients, servers, move || stop.is_raised());
        Ok(arena.with_flood(flood, outside))
    }

    /// Addresses and ports that are served.
    fn listens(&self, inside: &Side) -> Result<Vec<(Address, u16)>, Refusal> {
        let behind = |address: IpAddr| {
            let own = inside.addresses.iter().any(|own| own.ip() == address);
            own || inside.networks.iter().any(|net| net.contains(address))
        };
        if let Some(server) = self.servers.iter().find(|server| !behind(server.ip())) {
            return Err(Refusal::new(
                format!("the server {server} is not behind the tester's inside device"),
                "give it by `--rx-network` or `--rx-address`",
            ));
        }
        let mut listens: Vec<(Address, u16)> = self
            .servers
            .iter()
            .map(|server| (server.ip().into(), server.port()))
            .collect();
        if listens.is_empty() {
            let is_single = |net: &&IpNetwork| match net {
                IpNetwork::V4(net) => net.prefix() == 32,
                IpNetwork::V6(net) => net.prefix() == 128,
            };
            let single = inside.networks.iter().filter(is_single);
            listens.extend(single.map(|net| (Address::from(net.ip()), 80)));
        }
        if listens.is_empty() {
            return Err(Refusal::new(
                "there are no servers to ask",
                "name them by `--server ADDRESS:PORT`, behind the inside device",
            ));
        }
        Ok(listens)
    }

    /// The clients of each net that has a server of its family.
    fn pools(&self, outside: &Side, listens: &[(Address, u16)]) -> Result<Vec<Pool>, Refusal> {
        let mut pools = Vec::new();
        for net in &outside.networks {
            let family = match net {
                IpNetwork::V4(_) => Family::V4,
                IpNetwork::V6(_) => Family::V6,
            };
            let servers: Vec<_> = listens
                .iter()
                .filter(|listen| listen.0.family() == family)
                .copied()
                .collect();
            if servers.is_empty() {
                continue;
            }
            let (skipped, addresses) = clients_of(net);
            let first = Address::from(net.network()).to_bits() + u128::from(skipped);
            pools.push(Pool {
                first: Address::from_bits(first),
                addresses,
                first_port: 1024,
                ports: 0,
                servers,
            });
        }
        if pools.is_empty() {
            return Err(Refusal::new(
                "there are no clients of the servers' family",
                "give the net that they ask from by `--tx-network`",
            ));
        }
        // As few ports as hold the connections, so that places of all pools are used alike.
        let each = self.connections.div_ceil(pools.len() as u32);
        for pool in &mut pools {
            let ports = each.div_ceil(pool.addresses);
            pool.ports = ports.clamp(1, Pool::MOST_PORTS.into()) as u16;
        }
        let room: u64 = pools.iter().map(Pool::connections).sum();
        if room < u64::from(self.connections) {
            return Err(Refusal::new(
                format!("the clients' nets have room for {room} connections"),
                "give larger nets by `--tx-network`, or ask for fewer connections",
            ));
        }
        Ok(pools)
    }
}

/// The networks that the tester shares with the subject on a side.
fn neighbours(side: &Side) -> Vec<Prefix> {
    let prefix = |net: &IpNetwork| Prefix::new(net.network().into(), net.prefix());
    side.addresses.iter().filter_map(prefix).collect()
}

/// How many addresses of a net are passed over before the first client, and how many clients it
/// has: without the net's own address and its broadcast.
fn clients_of(net: &IpNetwork) -> (u32, u32) {
    let host_bits = match net {
        IpNetwork::V4(net) => 32 - net.prefix(),
        IpNetwork::V6(net) => 128 - net.prefix(),
    };
    match host_bits {
        0 => (0, 1),
        1 => (0, 2),
        bits => (
            1,
            ((1_u64 << bits.min(32)) - 2).min(MOST_ADDRESSES.into()) as u32,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(networks: &[&str]) -> Side {
        Side {
            device: "net_null0".to_owned(),
            addresses: vec!["10.0.0.254/24".parse().unwrap()],
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
            gateways: Vec::new(),
            station: None,
        }
    }

    #[test]
    fn each_family_asks_its_own_servers_and_has_its_share_of_ports() {
        let settings = SiteSettings {
            connections: 100_000,
            ..SiteSettings::default()
        };
        let listens = settings
            .listens(&side(&[
                "198.19.0.1/32",
                "198.19.0.2/32",
                "2001:2:0:8000::1/128",
            ]))
            .unwrap();
        assert_eq!(listens.len(), 3);
        let pools = settings
            .pools(&side(&["198.18.0.0/24", "2001:2::/49"]), &listens)
            .unwrap();
        assert_eq!(pools[0].first, Address::from_v4([198, 18, 0, 1]));
        assert_eq!((pools[0].addresses, pools[0].ports), (254, 197));
        assert_eq!((pools[0].servers.len(), pools[1].servers.len()), (2, 1));
        assert_eq!((pools[1].addresses, pools[1].ports), (4096, 13));
    }

    #[test]
    fn who_is_missing_is_said() {
        let settings = SiteSettings::default();
        let refused = settings.listens(&side(&["198.19.0.0/24"])).unwrap_err();
        assert!(refused.to_string().contains("--server"), "{refused}");
        let named = SiteSettings {
            servers: vec!["192.0.2.1:80".parse().unwrap()],
            ..settings.clone()
        };
        let refused = named.listens(&side(&[])).unwrap_err();
        assert!(refused.to_string().contains("192.0.2.1:80"), "{refused}");
        let listens = [(Address::from_v4([198, 19, 0, 1]), 80)];
        let refused = settings
            .pools(&side(&["2001:2::/49"]), &listens)
            .unwrap_err();
        assert!(refused.to_string().contains("--tx-network"), "{refused}");
        let many = SiteSettings {
            connections: 70_000,
            ..settings
        };
        let refused = many.pools(&side(&["198.18.0.1/32"]), &listens).unwrap_err();
        assert!(refused.to_string().contains("64512"), "{refused}");
    }
}
