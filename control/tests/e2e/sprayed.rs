//! Several guards between routers that send any packet through any of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lab::address::{SERVER, client};
use lab::command::wait_until;
use lab::curl::{self, Request};
use lab::daemon::Daemon;
use lab::filter::Interest;
use lab::flood::{self, Flood, Kind};
use lab::lock::Exclusive;
use lab::observer::Observer;
use lab::profile::Profile;
use lab::server::{Body, Site};
use lab::sprayed::Sprayed;
use lab::{Error, Forwarder, Result};

use crate::common::{FAMILIES, SOON, SlowFetch, TIDEGATE};

/// Guards that share. The daemons go first, the machine's lock last.
struct Shared {
    daemons: Vec<Daemon>,
    lab: Sprayed,
    site: Arc<Site>,
    _exclusive: Exclusive,
}

impl Shared {
    /// So many guards, whose `replication` section has these lines more.
    fn start(guards: u8, replication: &str) -> Self {
        let exclusive = lab::exclusive().unwrap();
        let site = Site::write(8 << 20).unwrap();
        let lab = Sprayed::build(guards, Forwarder::Daemon, &site).unwrap();
        let daemons = (1..=guards)
            .map(|number| start(&lab, number, replication))
            .collect();
        Self {
            daemons,
            lab,
            site,
            _exclusive: exclusive,
        }
    }

    fn request<'a>(&self, body: &'a Body, family: usize) -> Request<'a> {
        Request {
            body,
            server: SERVER[family],
            port: 80,
            client: client(0)[family],
            count: 1,
            parallel: 1,
            // Where guards get little of the processor, packets overtake each other and TCP is slow.
            limit: SOON * 3,
        }
    }

    /// Many small bodies over connections of their own; all must come.
    fn fetch_small(&self, family: usize, count: u32, parallel: u32) {
        let request = Request {
            count,
            parallel,
            ..self.request(&self.site.small, family)
        };
        let outcome = curl::fetch(
            &self.lab.clients,
            &request,
            &self.lab.scratch.file("bodies"),
        );
        outcome.unwrap().whole().unwrap();
    }

    /// The large body; it must come.
    fn fetch_large(&self, family: usize) {
        let request = self.request(&self.site.large, family);
        curl::fetch_large(&self.lab.clients, &request).unwrap();
    }

    fn slow_fetch(&self, family: usize) -> SlowFetch {
        let Sprayed {
            clients,
            server,
            scratch,
            ..
        } = &self.lab;
        SlowFetch::begin(clients, server, scratch, family)
    }

    /// How often a guard has counted an event.
    fn event(&self, guard: u8, name: &str) -> u64 {
        event(&self.daemons[usize::from(guard - 1)], name).unwrap()
    }
}

fn start(lab: &Sprayed, number: u8, replication: &str) -> Daemon {
    let profile = Profile {
        workers: vec![u32::from(number % 2)],
        ..Profile::default()
    };
    lab.start(number, Path::new(TIDEGATE), &profile, replication)
        .unwrap()
}

fn event(daemon: &Daemon, name: &str) -> Result<u64> {
    let workers = daemon.show("workers")?;
    let rows = workers["workers"].as_array().into_iter().flatten();
    rows.map(|row| {
        row["events"][name]
            .as_u64()
            .ok_or_else(|| Error::new(format!("no event {name}")))
    })
    .sum()
}

/// How many sessions a guard that has just joined has been told of.
fn wait_until_learned(shared: &Shared, guard: u8, sessions: u64) {
    wait_until("the resync", SOON, || {
        match shared.event(guard, "session_learned") {
            learned if learned >= sessions => Ok(()),
            learned => Err(Error::new(format!("{learned} sessions were learned"))),
        }
    })
    .unwrap();
}

/// Fetches in both families, and holds each guard to have carried what others had opened.
fn any_packet_takes_any_path(guards: u8, replication: &str) {
    let shared = Shared::start(guards, replication);
    for family in FAMILIES {
        shared.fetch_small(family, 200, 20);
        shared.fetch_large(family);
    }
    for guard in 1..=guards {
        for name in ["session_opened", "session_learned", "never_met"] {
            assert!(shared.event(guard, name) > 0, "guard {guard}: {name}");
        }
    }
}

// CASES 16
#[test]
fn any_packet_takes_any_path_through_two_guards() {
    any_packet_takes_any_path(2, "");
}

// CASES 16
#[test]
fn any_packet_takes_any_path_through_three_guards() {
    any_packet_takes_any_path(3, "");
}

// CASES 16
#[test]
fn so_it_does_when_short_connections_are_told_to_their_director_alone() {
    any_packet_takes_any_path(3, "  share: deferred\n");
}

// CASES 16
#[test]
fn so_it_does_when_sessions_are_told_before_they_are_open() {
    any_packet_takes_any_path(2, "  share: begun\n");
}

// CASES 1
#[test]
fn no_packet_of_a_flood_passes_any_of_them() {
    let shared = Shared::start(3, "");
    let inside = Observer::start(&shared.lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    let destinations = SERVER.map(|address| (address, 80).into()).to_vec();
    let router = shared.lab.west.hardware_address().unwrap();
    let settings = flood::Settings::of_lab("wan0", router, destinations, Kind::Mixed, 5_000, 60);
    let flood = Flood::start(&shared.lab.clients, settings).unwrap();
    for family in FAMILIES {
        shared.fetch_small(family, 100, 20);
        shared.fetch_large(family);
    }
    let sent = flood.stop().unwrap();
    assert!(sent.syns > 100 && sent.acks > 100, "{sent:?}");
    let seen = inside.stop().unwrap();
    assert_eq!((seen.spoofed_syns, seen.spoofed_others), (0, 0));
    assert!(seen.syns >= 200, "{}", seen.syns);
}

// CASES 17
#[test]
fn transfers_outlive_a_guard_and_its_return() {
    let mut shared = Shared::start(3, "");
    let mut slow = FAMILIES.map(|family| shared.slow_fetch(family));
    shared.daemons[1].crash();
    // As long as a routing protocol takes to notice.
    std::thread::sleep(Duration::from_millis(400));
    shared.lab.spray_over(&[1, 3]).unwrap();
    for family in FAMILIES {
        shared.fetch_small(family, 100, 20);
    }
    shared.daemons[1] = start(&shared.lab, 2, "");
    shared.lab.spray_over(&[1, 2, 3]).unwrap();
    for slow in &mut slow {
        assert!(slow.is_on_its_way(), "the fetch ended too soon to tell");
    }
    for slow in slow {
        slow.assert_whole(&shared.site);
    }
    for family in FAMILIES {
        shared.fetch_small(family, 100, 20);
    }
    assert!(shared.event(2, "never_met") > 0);
}

// CASES 17
#[test]
fn a_guard_that_returns_learns_what_it_missed_and_carries_it_alone() {
    let mut shared = Shared::start(2, "");
    let mut slow = vec![shared.slow_fetch(0)];
    shared.daemons[1].crash();
    shared.lab.spray_over(&[1]).unwrap();
    slow.push(shared.slow_fetch(1));
    shared.daemons[1] = start(&shared.lab, 2, "");
    wait_until_learned(&shared, 2, 2);
    shared.lab.spray_over(&[2]).unwrap();
    shared.daemons[0].crash();
    for slow in &mut slow {
        assert!(slow.is_on_its_way(), "the fetch ended too soon to tell");
    }
    for slow in slow {
        slow.assert_whole(&shared.site);
    }
    shared.fetch_small(0, 50, 10);
}
