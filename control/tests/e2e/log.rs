//! What the log says while something happens.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use lab::address::SERVER;
use lab::command::wait_until;
use lab::flood::{Flood, Kind, Settings};
use lab::profile::Profile;
use lab::{Error, Options};

use crate::common::{FAMILIES, Guarded, SOON, server};

fn lines(guarded: &Guarded, words: &[&str]) -> usize {
    let log = guarded.daemon.log_text();
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has).count()
}

fn wait_for_line(guarded: &Guarded, words: &[&str]) {
    wait_until(&format!("a line with {words:?}"), SOON, || {
        match lines(guarded, words) {
            0 => Err(Error::new(guarded.daemon.log_text())),
            _ => Ok(()),
        }
    })
    .unwrap();
}

// I1, I6: a port where nothing listens, and a flood meanwhile.
#[test]
fn i1_a_flood_and_a_server_that_was_down_are_told_once_each() {
    let profile = Profile {
        ports: vec![80, 81],
        guard:
            "  on_flood: { enter_syns_per_second: 1000, leave_syns_per_second: 500, hold_s: 1 }\n"
                .to_owned(),
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let destinations = FAMILIES.map(|family| server(family, 80)).to_vec();
    let gateway = guarded.lab.guard_hardware_address().unwrap();
    let settings = Settings::of_lab("wan0", gateway, destinations, Kind::Syn, 5_000, 60);
    let flood = Flood::start(&guarded.lab.clients, settings).unwrap();

    let dead = (SERVER[0], 81).into();
    let knock = || {
        let stream = move || TcpStream::connect_timeout(&dead, SOON);
        guarded.lab.clients.within(stream).unwrap()
    };
    let knocks: Vec<_> = (0..4).map(|_| knock()).collect();
    wait_for_line(&guarded, &["WARN", "The service 10.", ":81 is down"]);
    let shown = guarded.daemon.show("guard").unwrap();
    let services = shown["services"].as_array().unwrap();
    let of = |port: u64| {
        let is_it = |row: &&serde_json::Value| {
            row["port"] == port && row["server"] == SERVER[0].to_string().as_str()
        };
        services.iter().find(is_it).unwrap()
    };
    assert_eq!(of(81)["health"], "down");
    assert!(of(80)["syns"].as_u64() > Some(0), "{shown}");
    drop(knocks);

    let listener = guarded.lab.server.within(move || TcpListener::bind(dead));
    let listener = listener.unwrap().unwrap();
    let answered = knock().unwrap();
    wait_for_line(&guarded, &["INFO", ":81 takes connections again"]);
    wait_for_line(&guarded, &["WARN", "A flood has begun: ", ":80; SYNs are"]);
    drop((answered, listener));

    flood.stop().unwrap();
    wait_for_line(&guarded, &["INFO", "The flood is over: it lasted "]);
    std::thread::sleep(Duration::from_millis(600));
    for once in [
        "A flood has begun",
        "flood is over",
        "is down",
        "connections again",
    ] {
        assert_eq!(lines(&guarded, &[once]), 1, "{}", guarded.daemon.log_text());
    }
    guarded.audit();
}
