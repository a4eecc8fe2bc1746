//! What a datagram to the replication port may say of where its sender is: only an authentic one
//! says anything, and it moves nobody whose MAC address is known to be good.

use dataplane::command::{Command, Report};
use dataplane::hop::{Neighbour, NeighbourState, ReplicationPort};
use dataplane::io::InterfaceId;
use dataplane::limits::DATAGRAM_STOCK;
use dataplane::packet::Buffer;
use dataplane::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use dataplane::replicate::PeerId;
use dataplane::replicate::config::{PeerConfig, ReplicatorConfig};
use dataplane::replicate::desk::{Datagram, WorkerPeers, desk};
use dataplane::replicate::exchange::{Addresses, Exchange};
use dataplane::replicate::frame::BootId;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::replicator::Replicator;
use dataplane::replicate::status::PeerState;
use dataplane::wire::address::{Address, Family};
use dataplane::wire::ethernet::{self, MacAddress};

use crate::rig::packets::{address, udp};
use crate::rig::{INSIDE_MAC, Rig, SECOND_NS, SERVER_MAC, Setup, Side};
use crate::steps::FAMILIES;

const PORT: u16 = 4790;
const MS_NS: u64 = 1_000_000;
const STRANGER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 0x66]);
const OURS: PeerId = PeerId(1);
const THEIRS: PeerId = PeerId(2);

fn ours(family: Family) -> Address {
    match family {
        Family::V4 => address("10.0.0.1"),
        Family::V6 => address("fd00:1::1"),
    }
}

fn peer(family: Family) -> Address {
    match family {
        Family::V4 => address("10.0.0.2"),
        Family::V6 => address("fd00:1::2"),
    }
}

/// A replicator that knows one other, with its addresses.
fn replicator(
    own: PeerId,
    family: Family,
    secret: u8,
    life: u64,
    rig: &Rig,
) -> (Replicator, Addresses) {
    let boot = BootId {
        started_ms: rig.time().unix_ms + life,
        random: life << 8 | u64::from(own.0),
    };
    let (here, there, other) = match own {
        OURS => (ours(family), peer(family), THEIRS),
        _ => (peer(family), ours(family), OURS),
    };
    let mut config = ReplicatorConfig::new(own, boot);
    config.peers = vec![PeerConfig {
        id: other,
        address: Some(there),
    }];
    config.keys = vec![ReplicationKey {
        not_before_s: 0,
        secret: [secret; 32],
    }];
    config.workers = rig.workers.len();
    let addresses = Addresses {
        own: vec![here],
        peers: vec![(other, there)],
        group: None,
        udp_port: PORT,
    };
    (Replicator::new(config, rig.time()), addresses)
}

/// Another guard, without its workers.
struct Far {
    exchange: Exchange,
    desk: WorkerPeers,
    #[expect(clippy::vec_box, reason = "the boxes go through the rings")]
    stock: Vec<Box<Datagram>>,
}

impl Far {
    fn new(family: Family, secret: u8, life: u64, rig: &Rig) -> Self {
        let (replicator, addresses) = replicator(THEIRS, family, secret, life, rig);
        let (control, desk) = desk();
        Self {
            exchange: Exchange::new(replicator, vec![control], addresses),
            desk,
            stock: (0..DATAGRAM_STOCK).map(|_| Datagram::empty()).collect(),
        }
    }

    fn hear(&mut self, packet: &[u8]) {
        let mut datagram = self.stock.pop().expect("few are under way");
        assert!(datagram.set(packet));
        assert!(self.desk.arrived.push(datagram).is_ok());
    }

    /// What it has to say now.
    fn say(&mut self, rig: &Rig) -> Vec<Vec<u8>> {
        self.exchange.turn(rig.time());
        let mut packets = Vec::new();
        while let Ok(mut datagram) = self.desk.departing.pop() {
            if !datagram.bytes().is_empty() {
                packets.push(datagram.bytes().to_vec());
            }
            datagram.set_len(0);
            self.stock.push(datagram);
        }
        packets
    }
}

/// Workers with what talks to their peer, and that peer inside at [`SERVER_MAC`].
struct Site {
    rig: Rig,
    family: Family,
    near: Exchange,
    far: Far,
    /// What the peer has sent.
    recorded: Vec<Vec<u8>>,
}

impl Site {
    fn new(workers: usize, family: Family) -> Self {
        let mut rig = Rig::new(Setup {
            replication: Some(ReplicationPort {
                interface: InterfaceId(1),
                udp_port: PORT,
                group: None,
            }),
            ..Setup::workers(workers)
        });
        let (replicator, addresses) = replicator(OURS, family, 7, 0, &rig);
        let desks = std::mem::take(&mut rig.peers);
        let near = Exchange::new(replicator, desks, addresses);
        let far = Far::new(family, 7, 0, &rig);
        Self {
            rig,
            family,
            near,
            far,
            recorded: Vec::new(),
        }
    }

    /// Another life of what talks to the peer; the workers keep what they know of neighbours.
    fn begin_anew(&mut self) {
        let (replicator, _) = replicator(OURS, self.family, 7, 60_000, &self.rig);
        *self.near.replicator_mut() = replicator;
    }

    /// A packet inside, from a station.
    fn arrive_from(&mut self, mac: MacAddress, packet: &[u8]) {
        let ether_type = match self.family {
            Family::V4 => ETHER_TYPE_IPV4,
            Family::V6 => ETHER_TYPE_IPV6,
        };
        let frame = self
            .rig
            .frame(Side::Inside, INSIDE_MAC, mac, ether_type, packet);
        self.rig.arrive(Side::Inside, &frame);
    }

    /// What talks to the peer works, and then the workers. What they have sent comes back.
    fn turn(&mut self) -> usize {
        self.near.turn(self.rig.time());
        let sent = self.rig.settle();
        for (_, packet) in &sent {
            self.far.hear(packet);
        }
        sent.len()
    }

    /// A millisecond in which the peer's datagrams come from `mac`, if they come at all.
    fn live(&mut self, mac: Option<MacAddress>) -> usize {
        self.rig.advance_ms(1);
        let said = self.far.say(&self.rig);
        if let Some(mac) = mac {
            for packet in &said {
                self.arrive_from(mac, packet);
            }
        }
        self.recorded.extend(said);
        self.rig.settle();
        self.turn() + self.turn()
    }

    fn live_ms(&mut self, ms: usize, mac: Option<MacAddress>) {
        (0..ms).for_each(|_| _ = self.live(mac));
    }

    /// Nobody says anything for so long, and nobody is asked that answers.
    fn rest_s(&mut self, seconds: u64) {
        for _ in 0..10 * seconds {
            self.rig.advance_ms(100);
            self.rig.settle();
        }
    }

    /// What the workers know of the peer.
    fn known(&mut self) -> Vec<Option<Neighbour>> {
        (0..self.rig.workers.len())
            .map(|worker| {
                let command = Command::Neighbours(Box::default());
                let Report::Neighbours(page) = self.rig.command(worker, command) else {
                    panic!("another report");
                };
                let mut rows = page.rows.into_iter();
                rows.find(|row| row.address == peer(self.family))
            })
            .collect()
    }

    fn believes_the_peer(&self) -> bool {
        self.near.replicator().status()[0].state != PeerState::Joining
    }
}

/// What is known of the peer before an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Reachable,
    Stale,
    AskedAgain,
    AskedFor,
    Absent,
}

/// Two guards that believe each other, and then so much known of the peer.
fn site(workers: usize, family: Family, before: Before) -> Site {
    let mut site = Site::new(workers, family);
    site.live_ms(1_000, Some(SERVER_MAC));
    assert!(site.believes_the_peer());
    let states = |site: &mut Site| -> Vec<_> {
        let known = site.known();
        known
            .iter()
            .map(|known| known.map(|known| known.state))
            .collect()
    };
    let expected = match before {
        Before::Reachable => Some(NeighbourState::Reachable),
        Before::Stale => {
            // Used until now, it is asked for once more.
            site.rest_s(62);
            Some(NeighbourState::Stale)
        }
        Before::AskedAgain => {
            site.rig.neighbours_answer = false;
            site.rest_s(30);
            Some(NeighbourState::Probe)
        }
        Before::AskedFor => {
            site.rig.neighbours_answer = false;
            site.rest_s(40);
            // Each worker sends in its turn; one that has nothing to send gives it up.
            for _ in 0..10 {
                site.rig.advance_ms(60);
                site.turn();
                site.turn();
            }
            Some(NeighbourState::Incomplete)
        }
        Before::Absent => {
            site.rig.neighbours_answer = false;
            site.rest_s(40);
            None
        }
    };
    assert_eq!(states(&mut site), vec![expected; workers], "{before:?}");
    site
}

const BEFORE: [Before; 5] = [
    Before::Reachable,
    Before::Stale,
    Before::AskedAgain,
    Before::AskedFor,
    Before::Absent,
];

/// What comes in the peer's name without being the peer's, or not for the first time.
fn forgeries(site: &mut Site) -> Vec<Vec<u8>> {
    let family = site.family;
    let mut malformed = udp(peer(family), ours(family), (PORT, PORT), b"sealed");
    let mut all = vec![malformed.clone()];
    *malformed.last_mut().expect("a payload") ^= 1;
    all.push(malformed);
    let mut other = Far::new(family, 9, 5, &site.rig);
    all.extend(other.say(&site.rig));
    let last = site.recorded.last().expect("it has spoken").clone();
    let mut changed = last.clone();
    changed.truncate(changed.len() - 1);
    all.extend([last, changed]);
    all.push(site.recorded[0].clone());
    assert!(all.len() >= 6, "a greeting under another key is among them");
    all
}

#[test]
fn b2_what_is_not_authentic_moves_no_peer() {
    for workers in 1..=2 {
        for family in FAMILIES {
            for before in BEFORE {
                let mut site = site(workers, family, before);
                let was = site.known();
                for forgery in forgeries(&mut site) {
                    site.arrive_from(STRANGER_MAC, &forgery);
                    site.rig.settle();
                    site.turn();
                    for (known, was) in site.known().iter().zip(&was) {
                        let told = known.map(|known| known.mac);
                        assert_ne!(told, Some(STRANGER_MAC), "{family:?} {before:?}");
                        if let Some(was) = was {
                            assert_eq!(told, Some(was.mac), "{family:?} {before:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn b2_a_greeting_of_a_life_that_is_not_believed_moves_no_peer() {
    for family in FAMILIES {
        let mut site = Site::new(2, family);
        // What the peer says to a guard that it does not know: anyone may have recorded it.
        let greetings = site.far.say(&site.rig);
        assert!(!greetings.is_empty());
        site.rig.neighbours_answer = false;
        for greeting in greetings {
            site.arrive_from(STRANGER_MAC, &greeting);
            site.rig.settle();
            site.turn();
        }
        assert!(!site.believes_the_peer());
        for known in site.known().into_iter().flatten() {
            assert_ne!(known.mac, STRANGER_MAC, "{family:?}");
        }
    }
}

#[test]
fn b2_an_authentic_datagram_says_where_its_peer_is_while_answers_are_lost() {
    for workers in 1..=2 {
        for family in FAMILIES {
            for before in [Before::AskedAgain, Before::AskedFor, Before::Absent] {
                let mut site = site(workers, family, before);
                site.rig.neighbours_answer = false;
                site.live_ms(1_500, Some(SERVER_MAC));
                for known in site.known() {
                    let known = known.expect("every worker has heard of it");
                    assert_eq!(known.mac, SERVER_MAC, "{family:?} {before:?}");
                    assert_ne!(known.state, NeighbourState::Incomplete);
                }
                assert_eq!(site.rig.pool.live(), 0, "what waited has left");
            }
        }
    }
}

#[test]
fn b2_a_peer_that_has_moved_is_found_when_its_old_station_is_silent() {
    let moved = MacAddress([2, 0, 0, 0, 9, 3]);
    for family in FAMILIES {
        let mut site = site(2, family, Before::Reachable);
        site.rig.neighbours_answer = false;
        // It is believed to be where it was for as long as that was confirmed.
        site.live_ms(2_000, Some(moved));
        for known in site.known().into_iter().flatten() {
            assert_eq!(known.mac, SERVER_MAC);
        }
        for _ in 0..32 {
            site.rig.now_ns += SECOND_NS - 100 * MS_NS;
            site.live_ms(100, Some(moved));
        }
        for known in site.known() {
            assert_eq!(known.map(|known| known.mac), Some(moved), "{family:?}");
        }
    }
}

#[test]
fn b2_a_guard_that_begins_anew_answers_a_greeting_while_questions_are_lost() {
    for family in FAMILIES {
        let mut site = site(2, family, Before::AskedFor);
        // Its own former life is over; the peer's goes on, and greets it.
        site.begin_anew();
        for known in site.known().into_iter().flatten() {
            assert_eq!(known.state, NeighbourState::Incomplete);
        }
        site.live_ms(500, Some(SERVER_MAC));
        assert!(site.believes_the_peer());
        for known in site.known() {
            assert_eq!(known.map(|known| known.mac), Some(SERVER_MAC), "{family:?}");
        }
    }
}

#[test]
fn b2_an_answer_to_a_greeting_goes_where_its_peer_is_known_to_be() {
    for family in FAMILIES {
        let mut site = site(1, family, Before::Stale);
        let greeting = site.recorded[0].clone();
        site.begin_anew();
        site.arrive_from(STRANGER_MAC, &greeting);
        site.rig.settle();
        site.rig.advance_ms(60);
        site.near.turn(site.rig.time());
        site.rig.poll();
        let mut stations = Vec::new();
        while let Some((_, frame)) = site.rig.departed(Side::Inside) {
            stations.push(ethernet::destination(Buffer::bytes(frame.packet())));
        }
        assert!(!stations.is_empty(), "the greeting has its answer");
        assert_eq!(stations, vec![SERVER_MAC; stations.len()], "{family:?}");
    }
}
