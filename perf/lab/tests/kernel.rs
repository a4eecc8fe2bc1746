//! The lab itself, with the kernel as forwarder: what the end-to-end tests of the daemon rely on.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lab::address::{SERVER, client};
use lab::curl::{self, Outcome, Request};
use lab::filter::{Interest, tagged};
use lab::flood::{Flood, Kind, Settings};
use lab::observer::Observer;
use lab::server::Site;
use lab::socket::PacketSocket;
use lab::{Forwarder, Lab, Options, Result};
use simulator::LinkSettings;

fn site() -> Arc<Site> {
    Site::write(8 << 20).unwrap()
}

fn request(site: &Site, number: u8, family: usize, count: u32, parallel: u32) -> Request<'_> {
    Request {
        body: &site.small,
        server: SERVER[family],
        port: 80,
        client: client(number)[family],
        count,
        parallel,
        limit: Duration::from_secs(10),
    }
}

fn fetch(lab: &Lab, request: &Request<'_>) -> Result<Outcome> {
    curl::fetch(&lab.clients, request, &lab.scratch.file("bodies"))
}

#[test]
fn small_and_large_bodies_arrive_in_both_families() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let lab = Lab::build(Options::default(), Forwarder::Kernel, &site).unwrap();
    for family in [0, 1] {
        let outcome = fetch(&lab, &request(&site, 3, family, 40, 20)).unwrap();
        outcome.whole().unwrap();
        assert_eq!(outcome.first_byte_us.len(), 40);
        let large = Request {
            body: &site.large,
            ..request(&site, 0, family, 1, 1)
        };
        assert_eq!(
            curl::fetch_large(&lab.clients, &large).unwrap().bytes,
            8 << 20
        );
    }
}

#[test]
fn a_wrong_body_and_a_closed_port_are_told_apart_from_a_served_connection() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let lab = Lab::build(Options::default(), Forwarder::Kernel, &site).unwrap();
    let mut wrong = site.small.clone();
    wrong.digest[0] ^= 1;
    let outcome = fetch(
        &lab,
        &Request {
            body: &wrong,
            ..request(&site, 0, 0, 3, 1)
        },
    )
    .unwrap();
    assert_eq!((outcome.asked, outcome.served), (3, 0));
    assert!(outcome.failures[0].contains("wrong bytes"), "{outcome:?}");
    let outcome = fetch(
        &lab,
        &Request {
            port: 81,
            ..request(&site, 0, 0, 3, 3)
        },
    )
    .unwrap();
    assert_eq!((outcome.asked, outcome.served), (3, 0));
    assert!(outcome.whole().is_err());
}

#[test]
fn a_tagged_link_tags_what_goes_to_the_guard() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let options = Options {
        outside_vlan: Some(100),
        inside_vlan: Some(200),
        ..Options::default()
    };
    let lab = Lab::build(options, Forwarder::Daemon, &site).unwrap();
    let watched = [("out0", 100), ("out0", 101), ("in0", 200)];
    let sockets = watched.map(|(interface, vlan)| {
        lab.guard
            .within(move || PacketSocket::open(interface, &tagged(vlan)))
            .unwrap()
            .unwrap()
    });
    // Nobody answers; that they ask for the guard's hardware address is enough.
    assert!(
        lab.clients
            .run("ping", &["-c1", "-W1", "192.0.2.1"])
            .is_err()
    );
    assert!(lab.server.run("ping", &["-c1", "-W1", "10.0.0.1"]).is_err());
    let mut frame = [0; 2000];
    let came = sockets.map(|socket| socket.receive(&mut frame).unwrap().is_some());
    assert_eq!(came, [true, false, true]);
}

#[test]
fn clients_behind_a_second_router_are_served() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let options = Options {
        second_router: true,
        ..Options::default()
    };
    let lab = Lab::build(options, Forwarder::Kernel, &site).unwrap();
    for family in [0, 1] {
        fetch(&lab, &request(&site, 0, family, 5, 5))
            .unwrap()
            .whole()
            .unwrap();
        let second = lab.second_clients.as_ref().unwrap();
        let request = request(&site, 1, family, 5, 5);
        let outcome = curl::fetch(second, &request, &lab.scratch.file("second")).unwrap();
        outcome.whole().unwrap();
    }
}

#[test]
fn an_emulated_link_delays_loses_and_still_lets_a_body_through() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let options = Options {
        link: Some(LinkSettings {
            rate_bits_per_second: 100_000_000,
            delay_ns: 20_000_000,
            jitter_ns: 2_000_000,
            loss: 0.001,
            reorder: 0.001,
            duplicate: 0.001,
            ..LinkSettings::default()
        }),
        ..Options::default()
    };
    let mut lab = Lab::build(options, Forwarder::Kernel, &site).unwrap();
    let outcome = fetch(&lab, &request(&site, 0, 0, 10, 1)).unwrap();
    outcome.whole().unwrap();
    // Two round trips of 40 ms each until the first byte.
    let fastest_us = outcome.first_byte_us.iter().min().copied().unwrap();
    assert!((80_000..200_000).contains(&fastest_us), "{fastest_us} µs");
    let large = Request {
        body: &site.large,
        limit: Duration::from_secs(60),
        ..request(&site, 0, 1, 1, 1)
    };
    curl::fetch_large(&lab.clients, &large).unwrap();
    let report = lab.outside_link.take().unwrap().stop().unwrap();
    let down = report.backward;
    assert!(
        report.forward.offered > 100 && down.offered > 5_000,
        "{report:?}"
    );
    assert!(
        down.lost > 0 || down.duplicated > 0 || down.reordered > 0,
        "{report:?}"
    );
}

#[test]
fn a_flood_reaches_an_unguarded_server_and_both_sides_see_the_same_numbers() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let lab = Lab::build(Options::default(), Forwarder::Kernel, &site).unwrap();
    let outside = Observer::start(&lab.clients, "wan0", Interest::SynAcksOfClients).unwrap();
    let inside = Observer::start(&lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    for family in [0, 1] {
        fetch(&lab, &request(&site, 0, family, 20, 5))
            .unwrap()
            .whole()
            .unwrap();
    }
    let destinations = SERVER.map(|address| (address, 80).into()).to_vec();
    let gateway = lab.guard_hardware_address().unwrap();
    let settings = Settings::of_lab("wan0", gateway, destinations, Kind::Mixed, 5000, 2);
    let sent = Flood::start(&lab.clients, settings)
        .unwrap()
        .wait()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let inside = inside.stop().unwrap();
    let outside = outside.stop().unwrap();
    assert!((8_000..=10_000).contains(&sent.total()), "{sent:?}");
    assert!(sent.syns > 3_000 && sent.acks > 3_000, "{sent:?}");
    assert_eq!(
        (inside.spoofed_syns, inside.spoofed_others),
        (sent.syns, sent.acks)
    );
    assert_eq!(inside.syns, 40);
    let comparison = inside.compare(&outside);
    assert_eq!((comparison.same, comparison.differ), (40, 0));
}

#[test]
fn what_a_killed_process_left_is_swept_away() {
    let _exclusive = lab::exclusive().unwrap();
    // Process ids end far below this number.
    let left = "tidegate-99999999-0-clients";
    let status = Command::new("ip").args(["netns", "add", left]).status();
    assert!(status.unwrap().success());
    let mut inside = Command::new("ip")
        .args(["netns", "exec", left, "sleep", "600"])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let folder = std::env::temp_dir().join("tidegate-lab-99999999-0");
    std::fs::create_dir_all(&folder).unwrap();
    lab::namespace::sweep();
    assert!(!inside.wait().unwrap().success());
    assert!(!std::path::Path::new("/run/netns").join(left).exists());
    assert!(!folder.exists());
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let _exclusive = lab::exclusive().unwrap();
    let site = site();
    let lab = Lab::build(Options::default(), Forwarder::Kernel, &site).unwrap();
    let name = lab.clients.name().to_owned();
    let folder = lab.folder().to_owned();
    assert!(std::path::Path::new("/run/netns").join(&name).exists());
    drop(lab);
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    assert!(!folder.exists());
    let processes = Command::new("pgrep")
        .args(["-f", &folder.to_string_lossy()])
        .output();
    assert_eq!(String::from_utf8_lossy(&processes.unwrap().stdout), "");
}
