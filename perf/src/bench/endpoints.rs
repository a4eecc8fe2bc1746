//! What the tester's own TCP ends can do on one core, clients and servers both, with nobody
//! between them: what no subject can be measured beyond.

use std::error::Error;
use std::time::Duration;

use dataplane::wire::address::Address;
use dataplane::wire::ethernet::MacAddress;

use super::Bench;
use crate::endpoints::load::Load;
use crate::endpoints::memory::MemoryPort;
use crate::endpoints::scenario::{ConcurrentConfig, concurrent};
use crate::endpoints::{
    Arena, ClientConfig, Clients, Close, Link, Offer, Pool, ServerConfig, Servers, Talk,
};
use crate::report::Measured;

const SETUPS: &str = "endpoints.setups";
const VERIFIED: &str = "endpoints.verified";
const CONCURRENT: &str = "endpoints.concurrent.10m";
/// Every scenario of this file.
pub(super) const ALL: [&str; 3] = [SETUPS, VERIFIED, CONCURRENT];

/// How long one round of set-ups, or of transfers, begins connections.
const ROUND: Duration = Duration::from_millis(500);
const CONNECTIONS: u32 = 10_000_000;
/// What a host of the field may ask for; nobody is between, so that it is the most there is.
const OPENED_PER_S: f64 = 5e6;
/// Octets for each connection at either of its ends: ten million in a gigabyte.
const BYTES_GOAL: f64 = 100.0;

fn link(number: u8) -> Link {
    let station = |number| MacAddress([2, 0, 0, 0, 3, number]);
    Link::between(station(number), station(1 - number))
}

/// Clients and servers for so many connections at once.
fn arena(
    connections: u32,
    body_bytes: u32,
    close: Close,
) -> Result<Arena<MemoryPort>, Box<dyn Error>> {
    let server = Address::from_v4([10, 0, 0, 10]);
    let pool = Pool {
        first: Address::from_v4([198, 18, 0, 1]),
        addresses: connections.div_ceil(50_000),
        first_port: 1024,
        ports: 50_000,
        servers: vec![(server, 80)],
    };
    let listens = pool.servers.clone();
    let config = ClientConfig {
        connections,
        close,
        talk: Talk::Verified {
            request_bytes: 128,
            body_bytes,
        },
        ..ClientConfig::new(link(0), pool)
    };
    let clients = Clients::new(config, 0)?;
    let servers = Servers::new(ServerConfig::new(link(1), listens, connections), 0)?;
    Ok(Arena::new(MemoryPort::pair(), clients, servers, || false))
}

impl Bench<'_> {
    /// Whichever of this file's scenarios are wanted.
    pub(super) fn endpoints(&self) -> Result<Vec<Measured>, Box<dyn Error>> {
        let mut measured = Vec::new();
        if self.wants(SETUPS) {
            let mut rounds = Vec::new();
            for _ in 0..self.arguments.rounds {
                let mut arena = arena(50_000, 64, Close::Client)?;
                let came = closed_loop(&mut arena, 1000)?;
                rounds.push(came.ends.ended() as f64 / came.until_ended.as_secs_f64());
            }
            measured.push(Measured::alone(SETUPS, "connections_per_s", &rounds));
        }
        if self.wants(VERIFIED) {
            let mut rounds = Vec::new();
            for _ in 0..self.arguments.rounds {
                let mut arena = arena(1000, 1_000_000, Close::Client)?;
                let came = closed_loop(&mut arena, 8)?;
                let bits = came.verified_bytes as f64 * 8.0;
                rounds.push(bits / came.until_ended.as_secs_f64());
            }
            measured.push(Measured::alone(VERIFIED, "bits_per_s", &rounds));
        }
        if self.wants(CONCURRENT) {
            measured.extend(many()?);
        }
        Ok(measured)
    }
}

fn closed_loop(
    arena: &mut Arena<MemoryPort>,
    connections: u64,
) -> Result<crate::endpoints::Came, Box<dyn Error>> {
    let came = arena.run(&Offer {
        load: Load::Parallel { connections },
        ..Offer::rate(0.0, ROUND)
    })?;
    if came.success() < 1.0 {
        return Err(format!("connections in memory failed: {}", came.ends.failures()).into());
    }
    Ok(came)
}

fn many() -> Result<Vec<Measured>, Box<dyn Error>> {
    let mut arena = arena(CONNECTIONS, 64, Close::Hold)?;
    let config = ConcurrentConfig {
        connections: CONNECTIONS.into(),
        per_s: OPENED_PER_S,
        hold: Duration::from_secs(1),
    };
    let became = concurrent(&mut arena, &config)?;
    let servers = arena.servers.as_ref().map_or(0, Servers::memory_bytes);
    let each = |bytes: usize| bytes as f64 / f64::from(CONNECTIONS);
    let wanted = u64::from(CONNECTIONS);
    if [became.opened.held, became.alive, became.closed] != [wanted; 3] {
        return Err(format!(
            "of {wanted} connections in memory, {} opened, {} lived and {} closed: {}",
            became.opened.held,
            became.alive,
            became.closed,
            arena.clients.ends().failures()
        )
        .into());
    }
    let per_s = wanted as f64 / became.opened.until_ended.as_secs_f64();
    Ok(vec![
        Measured::alone(CONCURRENT, "connections", &[wanted as f64]),
        Measured::alone(CONCURRENT, "opened_per_s", &[per_s]),
        Measured::alone(
            CONCURRENT,
            "client_bytes",
            &[each(arena.clients.memory_bytes())],
        )
        .at_most(BYTES_GOAL),
        Measured::alone(CONCURRENT, "server_bytes", &[each(servers)]).at_most(BYTES_GOAL),
    ])
}
