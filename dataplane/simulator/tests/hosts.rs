//! Hosts on a switch, without and with an appliance between them.

use dataplane::counters::Event;
use simulator::appliance::Appliance;
use simulator::frame::{Ends, Frame, Segment, flag};
use simulator::host::{Book, Close, Host, HostSettings, Manner, Pace, Plan, SharedBook};
use simulator::invariant::{Accounting, Bounds, Checksums, Streams};
use simulator::site::{self, Family, Site};
use simulator::{LinkSettings, Node, NodeId, Switch, World};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn settings(last: u8, addresses: Vec<(std::net::IpAddr, u8)>) -> HostSettings {
    HostSettings {
        mac: [2, 0, 0, 1, 0, last],
        addresses,
        gateways: Vec::new(),
        mtu_bytes: 1500,
        timestamps: last.is_multiple_of(2),
        receive_bytes: 100_000,
        send_bytes: 20_000,
        ack_delay_ns: Some(10 * MS),
        nagle: true,
        manner: Manner::default(),
        listens: Vec::new(),
        seed: last.into(),
    }
}

fn plan(family: Family, number: u16, close: Close, server: std::net::IpAddr) -> Plan {
    Plan {
        start_ns: u64::from(number) * MS,
        client: site::outside_address(family, site::CLIENT_HOST),
        client_port: 40_000 + number,
        server,
        server_port: site::SERVICE_PORT,
        up_bytes: 5000,
        down_bytes: 50_000,
        close,
        client_pace: Pace::EAGER,
        server_pace: Pace::EAGER,
        after_ns: None,
        pause: None,
        must_succeed: true,
        must_close: true,
    }
}

const CLOSES: [Close; 7] = [
    Close::ClientFirst,
    Close::ServerFirst,
    Close::Both,
    Close::ClientHalf,
    Close::ServerHalf,
    Close::ClientAborts(9000),
    Close::ServerAborts(9000),
];

fn plan_all(book: &SharedBook, server: impl Fn(Family) -> std::net::IpAddr) -> Vec<usize> {
    let mut book = book.borrow_mut();
    let mut number = 0;
    let mut plans = Vec::new();
    for family in [Family::V4, Family::V6] {
        for close in CLOSES {
            number += 1;
            plans.push(book.plan(plan(family, number, close, server(family))));
        }
    }
    plans
}

fn direct(seed: u64) -> World {
    let mut world = World::new(seed);
    let book = Book::shared();
    world.require(Streams::new(book.clone()));
    let switch = world.add("switch", Switch::new(2));
    let client = Host::new(
        settings(1, site::outside_addresses(site::CLIENT_HOST)),
        book.clone(),
    );
    let server = HostSettings {
        listens: vec![site::SERVICE_PORT],
        ..settings(2, site::outside_addresses(99))
    };
    let server = world.add("server", Host::new(server, book.clone()));
    let client = world.add("client", client);
    let link = LinkSettings {
        delay_ns: 5 * MS,
        loss: 0.02,
        reorder: 0.02,
        ..LinkSettings::default()
    };
    world.connect((client, 0), (switch, 0), link);
    world.connect((server, 0), (switch, 1), link);
    let plans = plan_all(&book, |family| site::outside_address(family, 99));
    world.get_mut::<Host>(client).begin(plans);
    world
}

#[test]
fn hosts_talk_to_each_other_in_every_manner() {
    let mut world = direct(1);
    let ended = world.run_until(120 * S).and_then(|()| world.finish());
    ended.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| {
        let mut world = direct(seed);
        world
            .run_until(60 * S)
            .unwrap_or_else(|failure| panic!("{failure}"));
        (world.trace().passages(), world.trace().hash())
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

fn guarded(seed: u64) -> (World, NodeId) {
    let mut world = World::new(seed);
    let book = Book::shared();
    let mut site = Site::new(&mut world, site::appliance_settings(1, seed));
    world.require(Streams::new(book.clone()));
    world.require(Accounting::new(site.appliance));
    world.require(Bounds::new(site.appliance));
    world.require(Checksums::new(site.appliance));
    let link = LinkSettings {
        delay_ns: 5 * MS,
        ..LinkSettings::default()
    };
    let client = HostSettings {
        gateways: vec![
            site::outside_address(Family::V4, site::APPLIANCE_HOST),
            site::outside_address(Family::V6, site::APPLIANCE_HOST),
        ],
        ..settings(1, site::outside_addresses(site::CLIENT_HOST))
    };
    let server = HostSettings {
        listens: vec![site::SERVICE_PORT],
        gateways: vec![
            site::inside_address(Family::V4, site::APPLIANCE_HOST),
            site::inside_address(Family::V6, site::APPLIANCE_HOST),
        ],
        ..settings(2, site::inside_addresses(site::SERVER_HOST))
    };
    let (client, _) = site.add_outside(&mut world, "client", Host::new(client, book.clone()), link);
    site.add_inside(&mut world, "server", Host::new(server, book.clone()), link);
    let plans = plan_all(&book, |family| {
        site::inside_address(family, site::SERVER_HOST)
    });
    world.get_mut::<Host>(client).begin(plans);
    (world, site.appliance)
}

#[test]
fn hosts_talk_through_the_appliance_in_every_manner() {
    let (mut world, appliance) = guarded(1);
    let ended = world.run_until(120 * S).and_then(|()| world.finish());
    ended.unwrap_or_else(|failure| panic!("{failure}"));
    let counters = world.get::<Appliance>(appliance).counters();
    let expected = 2 * CLOSES.len() as u64;
    assert_eq!(counters.event(Event::SessionOpened), expected);
    assert_eq!(counters.event(Event::SessionReset), 4);
    assert_eq!(counters.event(Event::SessionClosed), expected - 4);
}

#[test]
fn a_host_forgets_what_nobody_confirms() {
    let own = site::outside_address(Family::V4, 10);
    let mut settings = settings(10, vec![(own, 24)]);
    settings.listens = vec![80];
    let mac = settings.mac;
    let mut host = Host::new(settings, SharedBook::default());
    for source_port in 1..=300 {
        let ends = Ends {
            source: site::outside_address(Family::V4, 20),
            source_port,
            destination: own,
            destination_port: 80,
        };
        let syn = Segment {
            source_port,
            destination_port: 80,
            flags: flag::SYN,
            window: 1000,
            ..Segment::default()
        };
        host.receive(0, Frame::between([2; 6], mac, ends).tcp(&syn), S);
        host.poll(S, &mut Vec::new());
    }
    host.poll(S, &mut Vec::new());
    assert_eq!(host.open_connections(), 256);
    host.poll(63 * S, &mut Vec::new());
    assert_eq!(host.open_connections(), 256);
    host.poll(64 * S, &mut Vec::new());
    assert_eq!(host.open_connections(), 0);
}
