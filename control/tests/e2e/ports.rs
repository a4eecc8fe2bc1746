//! Ports that change under the daemon.

use std::path::Path;
use std::time::Duration;

use lab::address::SERVER;
use lab::command::wait_until;
use lab::daemon::Daemon;
use lab::profile::Profile;
use lab::{Error, Options};
use serde_json::Value;

use crate::common::{FAMILIES, Guarded, SOON, SlowFetch, TIDEGATE, assert_names};

/// What `show ports` says of the outside port.
fn outside(guarded: &Guarded) -> Value {
    let ports = guarded.daemon.show("ports").unwrap();
    ports["ports"][0].clone()
}

fn wait_for(guarded: &Guarded, what: &str, holds: impl Fn(&Value) -> bool) {
    wait_until(what, SOON, || match outside(guarded) {
        port if holds(&port) => Ok(()),
        port => Err(Error::new(port.to_string())),
    })
    .unwrap();
}

fn slow_fetch(guarded: &Guarded) -> SlowFetch {
    let lab = &guarded.lab;
    SlowFetch::begin(&lab.clients, &lab.server, &lab.scratch, 0)
}

// H1: link state is asked by name, and traffic goes by the interface's number.
#[test]
fn an_interface_that_is_deleted_and_made_again_carries_again() {
    let profile = Profile {
        workers: vec![0, 1],
        queues: 2,
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let slow = slow_fetch(&guarded);
    guarded.lab.guard.ip("link del out0").unwrap();
    wait_for(&guarded, "the loss", |port| {
        port["lost"] == true && port["link_up"] == false
    });
    guarded.lab.renew_outside().unwrap();
    wait_for(&guarded, "the port", |port| port["lost"] == false);
    for family in FAMILIES {
        guarded.fetch_small(family, 20, 10);
    }
    // Within one look, so that an interface of that name is there all the time.
    guarded.lab.guard.ip("link del out0").unwrap();
    guarded.lab.renew_outside().unwrap();
    wait_for(&guarded, "the second loss", |port| {
        port["losses"] == 2 && port["lost"] == false && port["link_up"] == true
    });
    for family in FAMILIES {
        guarded.fetch_small(family, 20, 10);
    }
    // Moved away and back within one look it has the same number, and nothing stands on it any more.
    let away = guarded.lab.server.name();
    let guard = &guarded.lab.guard;
    let index = guard.run("cat", &["/sys/class/net/out0/ifindex"]).unwrap();
    guard.ip(&format!("link set out0 netns {away}")).unwrap();
    let back = format!("link set out0 netns {}\n", guard.name());
    guarded.lab.server.ip(&back).unwrap();
    guard.ip("link set out0 up").unwrap();
    let again = guard.run("cat", &["/sys/class/net/out0/ifindex"]).unwrap();
    assert_eq!(index, again);
    wait_for(&guarded, "the third loss", |port| {
        port["losses"] == 3 && port["lost"] == false && port["link_up"] == true
    });
    for family in FAMILIES {
        guarded.fetch_small(family, 20, 10);
    }
    // What was open all the time goes on.
    slow.assert_whole(&guarded.site);
    let log = guarded.daemon.log_text();
    for said in ["port outside is lost: its interface out0", "works again"] {
        assert_eq!(log.matches(said).count(), 3, "{said:?} in\n{log}");
    }
    guarded.audit();
}

// H3: both would answer, and streams would break in silence.
#[test]
fn a_second_daemon_on_the_same_interfaces_is_refused() {
    let mut guarded = Guarded::plain();
    let text = guarded.daemon.read_profile().unwrap();
    let first = guarded.lab.scratch.file("control.sock");
    let second = guarded.lab.scratch.file("second.sock");
    let text = text.replace(first.to_str().unwrap(), second.to_str().unwrap());
    let text = text.replace("appliance: { name: lab", "appliance: { name: second");
    let profile = guarded.lab.scratch.file("second.yaml");
    std::fs::write(&profile, text).unwrap();
    let mut command = guarded.lab.guard.command(TIDEGATE);
    let output = command.arg("run").arg(&profile).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert_names(
        last,
        &[
            "port outside",
            "interface out0",
            "process",
            "profile.yaml",
            "stop it",
        ],
    );
    guarded.fetch_small(0, 5, 5);
    // Whatever way its holder ends, the interface is free.
    guarded.daemon.crash();
    guarded.daemon = Daemon::start(&guarded.lab, Path::new(TIDEGATE), &Profile::default()).unwrap();
    guarded.fetch_small(0, 5, 5);
}

// H2
#[test]
fn a_kernels_lower_mtu_is_followed() {
    let guarded = Guarded::plain();
    let slow = slow_fetch(&guarded);
    guarded.lab.guard.ip("link set out0 mtu 1300").unwrap();
    wait_for(&guarded, "the lower MTU", |port| port["mtu"] == 1300);
    for family in FAMILIES {
        guarded.fetch_large(family, Duration::from_secs(20));
    }
    slow.assert_whole(&guarded.site);
    // The server is told, as by any router.
    assert!(guarded.drops("packet_too_big") > 0);
    let log = guarded.daemon.log_text();
    assert!(
        log.contains("takes packets of 1300 bytes now, not of 1500"),
        "{log}"
    );
    guarded.lab.guard.ip("link set out0 mtu 1500").unwrap();
    wait_for(&guarded, "the former MTU", |port| port["mtu"] == 1500);
    guarded.fetch_small(0, 5, 5);
    guarded.audit();
}

// H1: a kernel interface may be given another address.
#[test]
fn an_interface_with_another_address_is_reached_by_it() {
    let guarded = Guarded::plain();
    guarded.fetch_small(0, 5, 5);
    let address = "02:00:00:00:77:01";
    let change = format!("link set out0 address {address}");
    guarded.lab.guard.ip(&change).unwrap();
    wait_for(&guarded, "the address", |port| port["mac"] == address);
    for family in FAMILIES {
        guarded.fetch_small(family, 20, 10);
    }
    guarded.audit();
}

// H7: a packet socket's driver has the kernel join fragments, unless it is kept from that.
#[test]
fn ipv4_datagrams_in_fragments_pass() {
    let profile = Profile {
        workers: vec![0, 1],
        queues: 2,
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let ping = |octets: &str, count: &str| {
        let server = SERVER[0].to_string();
        let arguments = [
            "-q", "-c", count, "-i", "0.2", "-W", "5", "-s", octets, &server,
        ];
        guarded.lab.clients.run("ping", &arguments).unwrap()
    };
    for octets in ["1400", "4000", "60000"] {
        let said = ping(octets, "3");
        assert!(said.contains(" 0% packet loss"), "{octets} bytes: {said}");
    }
    assert_eq!(guarded.drops("malformed_ipv4"), 0);
    guarded.audit();
}
