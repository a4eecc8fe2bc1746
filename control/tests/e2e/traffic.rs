//! Connections through the guard, in every shape of the lab.

use std::time::Duration;

use lab::address::{GUARD_OUTSIDE, SERVER, client};
use lab::curl::{self, Request};
use lab::filter::Interest;
use lab::observer::Observer;
use lab::profile::Profile;
use lab::{Lab, Options};

use crate::common::{FAMILIES, Guarded, SOON, client_of};

#[test]
fn bodies_come_whole_and_each_side_has_its_own_sequence_numbers() {
    let guarded = Guarded::plain();
    let outside =
        Observer::start(&guarded.lab.clients, "wan0", Interest::SynAcksOfClients).unwrap();
    let inside = Observer::start(&guarded.lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 100, 20);
        guarded.fetch_large(family, SOON);
    }
    let comparison = inside.stop().unwrap().compare(&outside.stop().unwrap());
    assert_eq!((comparison.differ, comparison.same), (202, 0));
    guarded.wait_for("/sessions/opened", 202);
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

#[test]
fn the_server_sees_the_clients_own_addresses() {
    let guarded = Guarded::plain();
    for family in FAMILIES {
        guarded.fetch_small(family, 1, 1);
    }
    let log = std::fs::read_to_string(guarded.lab.scratch.file("nginx.access.log")).unwrap();
    for family in FAMILIES {
        let address = client_of(family).to_string();
        assert!(
            log.lines().any(|line| line.starts_with(&address)),
            "{address}: {log}"
        );
    }
}

fn two_workers(queues: u16) {
    let profile = Profile {
        workers: vec![0, 1],
        queues,
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    for family in FAMILIES {
        guarded.fetch_small(family, 200, 20);
        guarded.fetch_large(family, SOON);
    }
    let workers = guarded.daemon.show("workers").unwrap();
    let received = |worker: usize| {
        workers["workers"][worker]["audit"]["received"]
            .as_u64()
            .unwrap()
    };
    if queues == 1 {
        let handed_off = &workers["workers"][0]["handed_off"];
        assert!(handed_off.as_u64().unwrap() > 0, "{workers}");
    } else {
        assert!(received(0) > 0 && received(1) > 0, "{workers}");
    }
    guarded.wait_for("/sessions/opened", 402);
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

#[test]
fn two_workers_share_a_port_of_one_queue() {
    two_workers(1);
}

#[test]
fn two_workers_share_a_port_of_two_queues() {
    two_workers(2);
}

#[test]
fn tagged_links_on_both_sides() {
    let options = Options {
        outside_vlan: Some(100),
        inside_vlan: Some(200),
        ..Options::default()
    };
    let guarded = Guarded::start(options, &Profile::default());
    for family in FAMILIES {
        guarded.fetch_small(family, 40, 10);
        guarded.fetch_large(family, SOON);
    }
    guarded.audit();
}

#[test]
fn clients_behind_two_routers_are_answered_through_their_own() {
    let options = Options {
        second_router: true,
        ..Options::default()
    };
    let guarded = Guarded::start(options, &Profile::default());
    let second = guarded.lab.second_clients.as_ref().unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 20, 5);
        let request = Request {
            client: client(1)[family],
            count: 20,
            parallel: 5,
            ..guarded.request(&guarded.site.small, family)
        };
        let outcome = curl::fetch(second, &request, &guarded.lab.scratch.file("second")).unwrap();
        outcome.whole().unwrap();
    }
    guarded.audit();
}

fn ping(lab: &Lab, to: std::net::IpAddr) {
    lab.clients
        .run("ping", &["-n", "-c3", "-i0.2", "-W2", &to.to_string()])
        .unwrap();
}

#[test]
fn what_is_not_guarded_is_forwarded_and_the_guard_answers_echoes() {
    let guarded = Guarded::plain();
    for family in FAMILIES {
        ping(&guarded.lab, GUARD_OUTSIDE[family]);
        ping(&guarded.lab, SERVER[family]);
        let request = Request {
            port: 8080,
            count: 10,
            parallel: 5,
            ..guarded.request(&guarded.site.medium, family)
        };
        guarded.fetch(&request).unwrap().whole().unwrap();
    }
    guarded.wait_for("/sessions/opened", 0);
    assert_eq!(guarded.guard("/cookies/sent"), 0);
    guarded.audit();
}

#[test]
fn a_rule_that_denies_is_obeyed_and_counted() {
    let mut profile = Profile::default();
    let rule =
        "{ when: { all: [ { source: 198.51.100.0/24 }, { destination_port: 80 } ] }, then: deny }";
    profile.rules.insert(0, rule.to_owned());
    let guarded = Guarded::start(Options::default(), &profile);
    let refused = Request {
        limit: Duration::from_secs(2),
        ..guarded.request(&guarded.site.small, 0)
    };
    assert_eq!(guarded.fetch(&refused).unwrap().served, 0);
    assert!(guarded.drops("denied_by_rule") > 0);
    // Another client, and another family, are not meant.
    let other = Request {
        client: client(1)[0],
        ..guarded.request(&guarded.site.small, 0)
    };
    guarded.fetch(&other).unwrap().whole().unwrap();
    guarded.fetch_small(1, 1, 1);
}

// CASES 12: the MTU is too small on one side, and the guard's MSS must fit both.
#[test]
fn a_smaller_mtu_on_either_side_stops_nothing() {
    for (outside_mtu_bytes, inside_mtu_bytes) in [(1500, 1400), (1300, 1500)] {
        let options = Options {
            outside_mtu_bytes,
            inside_mtu_bytes,
            ..Options::default()
        };
        let guarded = Guarded::start(options, &Profile::default());
        for family in FAMILIES {
            guarded.fetch_small(family, 10, 5);
            guarded.fetch_large(family, SOON);
        }
        guarded.audit();
    }
}

#[test]
fn every_mode_serves_and_only_a_guarding_one_answers_by_cookie() {
    for (mode, guards) in [
        ("monitor", false),
        ("off", false),
        ("on-flood", false),
        ("always", true),
    ] {
        let profile = Profile {
            mode: mode.to_owned(),
            ..Profile::default()
        };
        let guarded = Guarded::start(Options::default(), &profile);
        for family in FAMILIES {
            guarded.fetch_small(family, 20, 5);
            guarded.fetch_large(family, SOON);
        }
        assert_eq!(guarded.guard("/cookies/sent") > 0, guards, "{mode}");
        guarded.audit();
    }
}

#[test]
fn packets_are_captured_and_metrics_served() {
    let profile = Profile {
        runtime: "  metrics: \"127.0.0.1:9464\"\n".to_owned(),
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let file = guarded.lab.scratch.file("capture.pcapng");
    let mut command = std::process::Command::new(crate::common::TIDEGATE);
    command
        .args([
            "capture",
            "--port",
            "outside",
            "--filter",
            "tcp port 80",
            "-w",
        ])
        .arg(&file)
        .arg("--socket")
        .arg(guarded.daemon.socket());
    let mut capture = lab::command::Running::start(&mut command).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    guarded.fetch_small(0, 5, 1);
    ping(&guarded.lab, GUARD_OUTSIDE[0]);
    std::thread::sleep(Duration::from_millis(500));
    capture.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(capture.wait(Duration::from_secs(5)).unwrap().success());
    let count = |filter: &str| {
        let mut command = std::process::Command::new("tcpdump");
        command.args(["-n", "-r"]).arg(&file).arg(filter);
        lab::command::run(&mut command).unwrap().lines().count()
    };
    // A SYN and a SYN-ACK of each of the five connections.
    assert_eq!(count("tcp[tcpflags] & tcp-syn != 0"), 10);
    assert_eq!(count("icmp"), 0, "the filter lets echoes through");
    let metrics = guarded
        .lab
        .guard
        .run(
            "curl",
            &["-sSf", "--noproxy", "*", "http://127.0.0.1:9464/metrics"],
        )
        .unwrap();
    assert!(
        metrics.lines().any(|line| line.starts_with("tidegate_")),
        "{metrics}"
    );
}
