//! What a host asks about its neighbours beside what its stack asks.

use std::net::IpAddr;

use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpCidr;

use super::Host;
use crate::frame::Station;
use crate::node::Departure;

/// How long a neighbour may take to answer.
const QUESTION_INTERVAL_NS: u64 = 1_000_000_000;
/// How often the gateways of open connections are asked for: the stack forgets them after a minute, and
/// loses the answer to a segment that comes just then. A peer that repeats it once a minute would never
/// have one.
const GATEWAY_INTERVAL_NS: u64 = 30_000_000_000;

impl Host {
    /// Asks for the neighbours to whom connections are begun. The stack asks one question a second,
    /// so that one who is gone would keep it from finding all others.
    pub(super) fn ask_neighbours(&mut self, now_ns: u64, out: &mut Vec<Departure>) {
        let addresses = self.settings.addresses.iter();
        let station = Station {
            mac: self.settings.mac,
            addresses: addresses.map(|&(address, _)| address).collect(),
        };
        for connection in &self.connections {
            let socket = self.sockets.get::<Socket<'_>>(connection.handle);
            let Some(remote) = socket.remote_endpoint().map(|end| IpAddr::from(end.addr)) else {
                continue;
            };
            let is_due = self
                .asked
                .get(&remote)
                .is_none_or(|asked_ns| now_ns - asked_ns >= QUESTION_INTERVAL_NS);
            if socket.state() != State::SynSent || !is_due || !self.is_neighbour(remote) {
                continue;
            }
            self.asked.insert(remote, now_ns);
            out.extend(station.ask(remote).map(|question| (0, question)));
        }
        if self.connections.is_empty() {
            return;
        }
        for &gateway in &self.settings.gateways {
            // The first question is the stack's own.
            let asked_ns = self.asked.entry(gateway).or_insert(now_ns);
            if now_ns - *asked_ns >= GATEWAY_INTERVAL_NS {
                *asked_ns = now_ns;
                out.extend(station.ask(gateway).map(|question| (0, question)));
            }
        }
    }

    /// When the next gateway is to be asked for.
    pub(super) fn next_question_ns(&self) -> Option<u64> {
        let gateways = self.settings.gateways.iter();
        let asked = gateways.filter_map(|gateway| self.asked.get(gateway));
        let next = asked.min().map(|asked_ns| asked_ns + GATEWAY_INTERVAL_NS);
        next.filter(|_| !self.connections.is_empty())
    }

    fn is_neighbour(&self, address: IpAddr) -> bool {
        let own = self.settings.addresses.iter();
        let mut networks = own.map(|&(own, length)| IpCidr::new(own.into(), length));
        networks.any(|network| network.contains_addr(&address.into()))
    }
}
