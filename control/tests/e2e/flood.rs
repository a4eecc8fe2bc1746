//! Floods of spoofed SYNs and forged ACKs.

use std::time::Duration;

use lab::Options;
use lab::filter::Interest;
use lab::flood::{Flood, Kind, Sent, Settings};
use lab::observer::{Observer, Sight};
use lab::profile::Profile;

use crate::common::{FAMILIES, Guarded, SOON, server};

fn flood(guarded: &Guarded, kind: Kind, rate: u64, seconds: u64) -> Flood {
    let destinations = FAMILIES.map(|family| server(family, 80)).to_vec();
    let gateway = guarded.lab.guard_hardware_address().unwrap();
    let settings = Settings::of_lab("wan0", gateway, destinations, kind, rate, seconds);
    Flood::start(&guarded.lab.clients, settings).unwrap()
}

/// Clients are served while the flood goes on; tells what was sent and what the server saw.
fn serve_under(guarded: &Guarded, kind: Kind, rate: u64) -> (Sent, Sight) {
    let inside = Observer::start(&guarded.lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    let flood = flood(guarded, kind, rate, 60);
    std::thread::sleep(Duration::from_secs(1));
    for family in FAMILIES {
        guarded.fetch_small(family, 100, 20);
        guarded.fetch_large(family, SOON);
    }
    let sent = flood.stop().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    (sent, inside.stop().unwrap())
}

// CASES 1
#[test]
fn no_spoofed_syn_reaches_the_server_and_none_leaves_state() {
    let guarded = Guarded::plain();
    let (sent, sight) = serve_under(&guarded, Kind::Syn, 15_000);
    assert!(sent.syns > 10_000, "{sent:?}");
    assert_eq!((sight.spoofed_syns, sight.spoofed_others), (0, 0));
    assert_eq!(sight.syns, 202);
    guarded.wait_for("/sessions/opened", 202);
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

// CASES 2
#[test]
fn forged_acks_are_counted_and_go_nowhere() {
    let guarded = Guarded::plain();
    let (sent, sight) = serve_under(&guarded, Kind::Ack, 15_000);
    assert!(sent.acks > 10_000, "{sent:?}");
    assert_eq!((sight.spoofed_syns, sight.spoofed_others), (0, 0));
    let refused = guarded.drops("cookie_invalid") + guarded.drops("cookie_expired");
    // What the kernel's ring lost on the way to the daemon is not the guard's to count.
    assert!(
        refused > sent.acks / 2 && refused <= sent.acks,
        "{refused} of {sent:?}"
    );
    guarded.wait_for("/sessions/opened", 202);
    guarded.audit();
}

// CASES 1, 7: the guard wakes with the flood, and sleeps after it.
#[test]
fn on_flood_guards_while_the_flood_lasts() {
    let profile = Profile {
        mode: "on-flood".to_owned(),
        guard:
            "  on_flood: { enter_syns_per_second: 1000, leave_syns_per_second: 500, hold_s: 1 }\n"
                .to_owned(),
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let active = || guarded.daemon.show("guard").unwrap()["active"] == true;
    guarded.fetch_small(0, 10, 5);
    assert!(!active());
    assert_eq!(guarded.guard("/cookies/sent"), 0);
    let flood = flood(&guarded, Kind::Syn, 10_000, 30);
    lab::command::wait_until(
        "the guard's waking",
        Duration::from_secs(5),
        || match active() {
            true => Ok(()),
            false => Err(lab::Error::new("it sleeps")),
        },
    )
    .unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 50, 10);
    }
    flood.stop().unwrap();
    lab::command::wait_until(
        "the guard's rest",
        Duration::from_secs(10),
        || match active() {
            false => Ok(()),
            true => Err(lab::Error::new("it still guards")),
        },
    )
    .unwrap();
    guarded.fetch_small(1, 10, 5);
    guarded.audit();
}
