//! Reload, drain, crash and restart. // CASES 27, 28, 29

use std::path::Path;
use std::time::{Duration, Instant};

use lab::address::SERVER;
use lab::curl::{self, Request};
use lab::daemon::Daemon;
use lab::profile::Profile;
use lab::{Lab, Options};
use nix::sys::signal::Signal;

use crate::common::{FAMILIES, Guarded, SOON, SlowFetch, TIDEGATE, assert_names};

fn slow_fetch(guarded: &Guarded, family: usize) -> SlowFetch {
    let Lab {
        clients,
        server,
        scratch,
        ..
    } = &guarded.lab;
    SlowFetch::begin(clients, server, scratch, family)
}

// CASES 28
#[test]
fn reload_under_load_loses_nothing_and_changes_the_rules() {
    let guarded = Guarded::plain();
    let text = guarded.daemon.read_profile().unwrap();
    let deny = "rules:\n  - { when: { destination_port: 443 }, then: deny }\n";
    let changed = text.replace("rules:\n", deny);
    let slow = FAMILIES.map(|family| slow_fetch(&guarded, family));
    let port_443 = |limit| Request {
        port: 443,
        limit,
        ..guarded.request(&guarded.site.small, 0)
    };
    guarded.fetch(&port_443(SOON)).unwrap().whole().unwrap();
    for profile in [&changed, &text, &changed] {
        guarded.daemon.write_profile(profile).unwrap();
        guarded.daemon.control(&["reload"]).unwrap();
        for family in FAMILIES {
            guarded.fetch_small(family, 40, 20);
        }
    }
    let outcome = guarded.fetch(&port_443(Duration::from_secs(2))).unwrap();
    assert_eq!(outcome.served, 0, "the reloaded rule has no effect");
    assert!(guarded.drops("denied_by_rule") > 0);
    for slow in slow {
        slow.assert_whole(&guarded.site);
    }
    guarded.audit();
}

// CASES 27, 28
#[test]
fn a_bad_profile_changes_nothing_on_reload() {
    let guarded = Guarded::plain();
    let text = guarded.daemon.read_profile().unwrap();
    let bad = text.replace("  mode: always", "  moed: always");
    guarded.daemon.write_profile(&bad).unwrap();
    let error = guarded.daemon.control(&["reload"]).unwrap_err().to_string();
    assert_names(&error, &["profile.yaml:", "moed", "mode"]);
    for family in FAMILIES {
        guarded.fetch_small(family, 20, 10);
    }
    guarded.wait_for("/sessions/opened", 40);
}

#[test]
fn new_keys_are_taken_on_reload_and_old_cookies_stay_good() {
    let guarded = Guarded::plain();
    let keys = guarded.lab.scratch.file("cookie.key");
    let slow = slow_fetch(&guarded, 0);
    let mut rotate = std::process::Command::new(TIDEGATE);
    rotate.args(["keygen", "--rotate"]).arg(&keys);
    lab::command::run(&mut rotate).unwrap();
    guarded.daemon.control(&["reload"]).unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 40, 20);
    }
    slow.assert_whole(&guarded.site);
    assert_eq!(
        guarded.guard("/cookies/expired") + guarded.guard("/cookies/invalid"),
        0
    );
}

// CASES 29
#[test]
fn sigterm_serves_what_is_open_opens_nothing_new_and_ends() {
    let mut guarded = Guarded::plain();
    let slow = slow_fetch(&guarded, 0);
    guarded.daemon.signal(Signal::SIGTERM).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    let late = Request {
        limit: Duration::from_secs(1),
        ..guarded.request(&guarded.site.small, 1)
    };
    assert_eq!(guarded.fetch(&late).unwrap().served, 0);
    assert!(
        guarded.daemon.ended().unwrap().is_none(),
        "it did not wait for the open session"
    );
    slow.assert_whole(&guarded.site);
    let status = guarded.daemon.wait(Duration::from_secs(10)).unwrap();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(!guarded.daemon.socket().exists());
}

// CASES 29
#[test]
fn sigterm_does_not_wait_longer_than_its_limit() {
    let profile = Profile {
        guard: "  timers: { drain_s: 2 }\n".to_owned(),
        ..Profile::default()
    };
    let mut guarded = Guarded::start(Options::default(), &profile);
    let server = (SERVER[0], 80).into();
    let idle = guarded
        .lab
        .clients
        .within(move || std::net::TcpStream::connect_timeout(&server, SOON))
        .unwrap()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    guarded.daemon.signal(Signal::SIGTERM).unwrap();
    guarded.daemon.wait(Duration::from_secs(10)).unwrap();
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(1500)..Duration::from_secs(8)).contains(&took),
        "{took:?}"
    );
    drop(idle);
}

// CASES 29
#[test]
fn sigkill_leaves_nothing_that_stops_the_next_start() {
    let mut guarded = Guarded::plain();
    guarded.fetch_small(0, 5, 5);
    for _ in 0..2 {
        guarded.daemon.crash();
        guarded.daemon =
            Daemon::start(&guarded.lab, Path::new(TIDEGATE), &Profile::default()).unwrap();
        for family in FAMILIES {
            guarded.fetch_small(family, 20, 10);
        }
    }
    guarded.audit();
}

// CASES 28: a port that goes away while the daemon runs.
#[test]
fn a_port_that_vanishes_is_told_and_the_daemon_lives() {
    let mut guarded = Guarded::plain();
    guarded.fetch_small(0, 5, 5);
    guarded.lab.guard.ip("link set out0 down").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        guarded.daemon.ended().unwrap().is_none(),
        "{}",
        guarded.daemon.log_text()
    );
    guarded.lab.guard.ip("link set out0 up").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for family in FAMILIES {
        let request = Request {
            count: 10,
            parallel: 5,
            ..guarded.request(&guarded.site.small, family)
        };
        let folder = guarded.lab.scratch.file("again");
        let outcome = curl::fetch(&guarded.lab.clients, &request, &folder).unwrap();
        outcome.whole().unwrap();
    }
}
