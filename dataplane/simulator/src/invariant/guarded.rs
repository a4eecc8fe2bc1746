//! What the guard promises to servers and to bystanders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Invariant;
use crate::appliance::{INSIDE, OUTSIDE};
use crate::frame::{Body, Ends, Mac, Packet, Segment, flag};
use crate::site::{self, Layout};
use crate::trace::{Passage, Place};
use crate::world::NodeId;

/// Only clients that have proved themselves reach a protected server, each handshake opens one
/// connection there, and nobody else is sent more than it sent (CASES 1, 2, 9).
///
/// It is a model of its own: a client is proved when it acknowledges the number of a SYN-ACK that
/// was sent to it.
pub struct Proof {
    appliance: NodeId,
    /// The appliance's own addresses inside, from which it asks servers what they do. A wire has
    /// none.
    own: BTreeSet<IpAddr>,
    /// The appliance's own addresses outside. A wire has none.
    own_outside: BTreeSet<IpAddr>,
    services: BTreeSet<(IpAddr, u16)>,
    /// The numbers of the SYN-ACKs that each client was sent.
    offered: BTreeMap<Ends, BTreeSet<u32>>,
    proved: BTreeSet<Ends>,
    proved_sources: BTreeSet<IpAddr>,
    /// The client's first number in the last SYN that its server was sent.
    opened: BTreeMap<Ends, u32>,
    /// Handshakes that have opened a connection.
    spent: BTreeSet<(Ends, u32)>,
    /// Servers that spoke to a client, who may be reset for it.
    spoken: BTreeSet<Ends>,
    balance: BTreeMap<IpAddr, Balance>,
    /// Echoes that a wire sent to a server, less those that came back, by client and content.
    echoes: BTreeMap<(IpAddr, Vec<u8>), i64>,
}

/// What an echo that carries a SYN begins with (docs/wire/echo.md).
const ECHO_MARK: &[u8] = b"TGEC";
/// By how many bytes it is longer than that SYN.
const ECHO_GROWTH_BYTES: i64 = 40;

/// What a source sent, less what it was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    packets: i64,
    octets: i64,
}

impl Proof {
    /// For these services behind this appliance.
    #[must_use]
    pub fn new(
        appliance: NodeId,
        services: impl IntoIterator<Item = (IpAddr, u16)>,
        layout: Layout,
    ) -> Self {
        let only = |addresses: Vec<(IpAddr, u8)>| match layout {
            Layout::Hop => addresses.into_iter().map(|(address, _)| address).collect(),
            Layout::Wire => BTreeSet::new(),
        };
        Self {
            appliance,
            own: only(site::inside_addresses(site::APPLIANCE_HOST)),
            own_outside: only(site::outside_addresses(site::APPLIANCE_HOST)),
            services: services.into_iter().collect(),
            offered: BTreeMap::new(),
            proved: BTreeSet::new(),
            proved_sources: BTreeSet::new(),
            opened: BTreeMap::new(),
            spent: BTreeSet::new(),
            spoken: BTreeSet::new(),
            balance: BTreeMap::new(),
            echoes: BTreeMap::new(),
        }
    }

    /// Whether packets from this source are the appliance's, or those of whom it guards.
    fn is_ours(&self, source: IpAddr) -> bool {
        self.services.iter().any(|(server, _)| *server == source)
            || self.own_outside.contains(&source)
    }

    fn is_service(&self, address: IpAddr, port: u16) -> bool {
        self.services.contains(&(address, port))
    }

    fn arrives_outside(&mut self, packet: &Packet) {
        // Across a wire hosts ask for each other; that is no credit.
        if packet.is_neighbour_discovery() {
            return;
        }
        let balance = self.balance.entry(packet.source).or_default();
        balance.packets += 1;
        balance.octets += packet.length as i64;
        if let (Some(ends), Some(segment)) = (packet.ends(), packet.segment())
            && segment.has(flag::ACK)
        {
            let cookie = segment.acknowledgement.wrapping_sub(1);
            if self
                .offered
                .get(&ends)
                .is_some_and(|offered| offered.contains(&cookie))
            {
                self.proved.insert(ends);
                self.proved_sources.insert(ends.source);
            }
        }
    }

    fn leaves_outside(&mut self, packet: &Packet) -> Result<(), String> {
        if packet.is_neighbour_discovery() {
            return Ok(());
        }
        if let (Some(ends), Some(segment)) = (packet.ends(), packet.segment())
            && segment.has(flag::SYN | flag::ACK)
        {
            self.offered
                .entry(ends.reversed())
                .or_default()
                .insert(segment.sequence);
        }
        if let (true, Body::Icmp(message)) = (packet.is_pong(), &packet.body)
            && message.quote.starts_with(ECHO_MARK)
            && self.is_ours(packet.source)
        {
            return Err(format!(
                "an echo between guard and server gets out: {packet}"
            ));
        }
        // What strangers send each other is only passed on.
        let is_made_here = self.is_ours(packet.source);
        if !is_made_here || self.proved_sources.contains(&packet.destination) {
            return Ok(());
        }
        let balance = self.balance.entry(packet.destination).or_default();
        balance.packets -= 1;
        balance.octets -= packet.length as i64;
        if balance.packets < 0 || balance.octets < 0 {
            let what = "was sent more than it sent, without proof";
            return Err(format!(
                "{} {what}: {balance:?}, last {packet}",
                packet.destination
            ));
        }
        Ok(())
    }

    /// What comes back more often than it was sent was doubled between guard and server, where
    /// no attacker is. A wire keeps nothing of an echo and answers it each time.
    fn arrives_inside(&mut self, packet: &Packet) {
        self.spoken.extend(packet.ends().map(Ends::reversed));
        let Body::Icmp(message) = &packet.body else {
            return;
        };
        let key = (packet.destination, message.quote.clone());
        if packet.is_pong()
            && let Some(count) = self.echoes.get_mut(&key)
        {
            *count -= 1;
            if *count < 0 {
                let balance = self.balance.entry(packet.destination).or_default();
                balance.packets += 1;
                balance.octets += packet.length as i64 - ECHO_GROWTH_BYTES;
            }
        }
    }

    fn leaves_inside(&mut self, packet: &Packet) -> Result<(), String> {
        if let (true, Body::Icmp(message)) = (packet.is_ping(), &packet.body) {
            let key = (packet.source, message.quote.clone());
            *self.echoes.entry(key).or_default() += 1;
        }
        let is_server = |address| self.services.iter().any(|(server, _)| *server == address);
        if matches!(packet.body, Body::Fragment { .. }) && is_server(packet.destination) {
            return Err(format!("a fragment reaches a server: {packet}"));
        }
        let (Some(ends), Some(segment)) = (packet.ends(), packet.segment()) else {
            return Ok(());
        };
        let is_own = self.own.contains(&ends.source);
        if is_own || !self.is_service(ends.destination, ends.destination_port) {
            return Ok(());
        }
        if segment.has(flag::RST) && self.spoken.remove(&ends) {
            return Ok(());
        }
        if !self.proved.contains(&ends) {
            return Err(format!("an unproved client reaches a server: {packet}"));
        }
        if segment.has(flag::SYN) {
            if self.spent.contains(&(ends, segment.sequence)) {
                return Err(format!("one handshake opens a second connection: {packet}"));
            }
            self.opened.insert(ends, segment.sequence);
        } else if segment.has(flag::ACK)
            && !segment.has(flag::RST)
            && let Some(&first) = self.opened.get(&ends)
        {
            // A server's answer that is not accepted leaves the client free to try again.
            self.spent.insert((ends, first));
        }
        Ok(())
    }
}

impl Invariant for Proof {
    fn name(&self) -> &'static str {
        "only proved clients reach a server"
    }

    fn observe(&mut self, passage: &Passage) -> Result<(), String> {
        let Some(packet) = passage
            .packet
            .as_ref()
            .filter(|_| passage.node == self.appliance)
        else {
            return Ok(());
        };
        match (passage.place, passage.port) {
            (Place::Arrived, OUTSIDE) => self.arrives_outside(packet),
            (Place::Departed, OUTSIDE) => self.leaves_outside(packet)?,
            (Place::Departed, INSIDE) => self.leaves_inside(packet)?,
            (Place::Arrived, INSIDE) => self.arrives_inside(packet),
            _ => {}
        }
        Ok(())
    }
}

/// Each side of a splice sees one connection: the server's numbers reach the client as numbers
/// that continue from its cookie, timestamps likewise, and the client's reach the server as its
/// own (seed 000).
pub struct Splice {
    appliance: NodeId,
    /// The SYN-ACKs that each client was sent, by their number and the client's own.
    offered: BTreeMap<(Ends, u32, u32), Numbers>,
    /// The one that each client has acknowledged last, by its own number.
    accepted: BTreeMap<(Ends, u32), Numbers>,
    spliced: BTreeMap<Ends, Spliced>,
    /// Where attackers' frames come from.
    attackers: [Mac; 2],
    /// Segments of theirs, by the client's number and what they acknowledge. Whether one that may
    /// be the client's by its numbers is, only the server can tell.
    forged: BTreeSet<(Ends, u32, u32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    sequence: u32,
    timestamp: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Spliced {
    cookie: Numbers,
    server: Numbers,
    /// How far the server's data and clock have come from its SYN-ACK's.
    server_end: u32,
    server_clock: u32,
}

impl Splice {
    /// Of this appliance.
    #[must_use]
    pub fn new(appliance: NodeId, attackers: [Mac; 2]) -> Self {
        Self {
            appliance,
            offered: BTreeMap::new(),
            accepted: BTreeMap::new(),
            spliced: BTreeMap::new(),
            attackers,
            forged: BTreeSet::new(),
        }
    }

    fn arrives_outside(&mut self, from: Mac, ends: Ends, segment: &Segment) {
        if self.attackers.contains(&from) {
            let numbers = (segment.sequence, segment.acknowledgement);
            self.forged.insert((ends, numbers.0, numbers.1));
        }
        let cookie = segment.acknowledgement.wrapping_sub(1);
        let first = segment.sequence.wrapping_sub(1);
        if let Some(&numbers) = self.offered.get(&(ends, cookie, first)) {
            self.accepted.insert((ends, first), numbers);
        }
    }

    fn arrives_inside(&mut self, ends: Ends, segment: &Segment) {
        let client = ends.reversed();
        let stamp = segment.timestamps().map(|(value, _)| value);
        if segment.has(flag::SYN | flag::ACK)
            && let Some(&cookie) =
                (self.accepted).get(&(client, segment.acknowledgement.wrapping_sub(1)))
        {
            let server = Numbers {
                sequence: segment.sequence,
                timestamp: stamp,
            };
            let is_same = |known: &Spliced| known.server.sequence == segment.sequence;
            if !self.spliced.get(&client).is_some_and(is_same) {
                let fresh = Spliced {
                    cookie,
                    server,
                    server_end: 1,
                    server_clock: 0,
                };
                self.spliced.insert(client, fresh);
            }
        }
        let Some(session) = self.spliced.get_mut(&client) else {
            return;
        };
        let end = segment.end().wrapping_sub(session.server.sequence);
        if !segment.has(flag::RST) && end < 1 << 31 {
            session.server_end = session.server_end.max(end);
        }
        if let (Some(stamp), Some(first)) = (stamp, session.server.timestamp) {
            let clock = stamp.wrapping_sub(first);
            if clock < 1 << 31 {
                session.server_clock = session.server_clock.max(clock);
            }
        }
    }

    fn leaves_outside(&mut self, ends: Ends, segment: &Segment) -> Result<(), String> {
        let client = ends.reversed();
        let stamp = segment.timestamps().map(|(value, _)| value);
        if segment.has(flag::SYN | flag::ACK) {
            let cookie = Numbers {
                sequence: segment.sequence,
                timestamp: stamp,
            };
            let first = segment.acknowledgement.wrapping_sub(1);
            self.offered
                .insert((client, segment.sequence, first), cookie);
            return Ok(());
        }
        let Some(session) = self
            .spliced
            .get(&client)
            .filter(|_| !segment.has(flag::RST))
        else {
            return Ok(());
        };
        let offset = segment.sequence.wrapping_sub(session.cookie.sequence);
        if offset > session.server_end {
            return Err(format!(
                "a number towards the client is beyond the server's data: {segment}"
            ));
        }
        if let (Some(stamp), Some(first)) = (stamp, session.cookie.timestamp) {
            let clock = stamp.wrapping_sub(first);
            if clock > session.server_clock {
                return Err(format!(
                    "a timestamp towards the client is not the server's: {segment}"
                ));
            }
        }
        Ok(())
    }

    fn leaves_inside(&mut self, ends: Ends, segment: &Segment) -> Result<(), String> {
        let Some(session) = self.spliced.get(&ends) else {
            return Ok(());
        };
        if segment.has(flag::SYN) || !segment.has(flag::ACK) {
            return Ok(());
        }
        let offset = segment
            .acknowledgement
            .wrapping_sub(session.server.sequence);
        let told = session.cookie.sequence.wrapping_add(offset);
        if self.forged.contains(&(ends, segment.sequence, told)) {
            return Ok(());
        }
        if offset > session.server_end {
            return Err(format!(
                "the server gets an acknowledgement of what it never sent: {segment}"
            ));
        }
        let echo = segment.timestamps().map(|(_, echo)| echo);
        if let (Some(echo), Some(first)) = (echo, session.server.timestamp)
            && echo != 0
            && echo.wrapping_sub(first) > session.server_clock
        {
            return Err(format!(
                "the server gets an echo that was never its own: {segment}"
            ));
        }
        Ok(())
    }
}

impl Invariant for Splice {
    fn name(&self) -> &'static str {
        "each side sees one connection"
    }

    fn observe(&mut self, passage: &Passage) -> Result<(), String> {
        let Some(packet) = passage
            .packet
            .as_ref()
            .filter(|_| passage.node == self.appliance)
        else {
            return Ok(());
        };
        let (Some(ends), Some(segment)) = (packet.ends(), packet.segment()) else {
            return Ok(());
        };
        match (passage.place, passage.port) {
            (Place::Arrived, OUTSIDE) => {
                self.arrives_outside(packet.from_station, ends, segment);
            }
            (Place::Arrived, INSIDE) => self.arrives_inside(ends, segment),
            (Place::Departed, OUTSIDE) => self.leaves_outside(ends, segment)?,
            (Place::Departed, INSIDE) => self.leaves_inside(ends, segment)?,
            _ => {}
        }
        Ok(())
    }
}
