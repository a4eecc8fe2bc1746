//! Two guards and the link between them: how they find each other, lose each other, and meet
//! strangers. // CASES 14, 17

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::address::{GuardNet, SERVER, client, of_guard};
use lab::command::{run, wait_until};
use lab::curl::{self, Request};
use lab::daemon::{Daemon, Files};
use lab::lock::Exclusive;
use lab::profile::{Among, Profile};
use lab::server::Site;
use lab::sprayed::Sprayed;
use lab::{Error, Forwarder, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{FAMILIES, SOON, TIDEGATE};

const UDP_PORT: u16 = 49_790;
/// How long two guards may take to see that they see each other, on a machine with much to do.
const MEETING: Duration = Duration::from_secs(15);
/// A place on the link without a daemon.
const STRANGER: u8 = 3;

/// How guards reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By addresses of this family.
    Direct(usize),
    /// By a line of the profile.
    Group(&'static str),
}

/// Two guards, and room for a stranger on their link.
struct Pair {
    daemons: Vec<Daemon>,
    way: Way,
    lab: Sprayed,
    site: std::sync::Arc<Site>,
    _exclusive: Exclusive,
}

impl Pair {
    fn start(way: Way) -> Self {
        let exclusive = lab::exclusive().unwrap();
        let site = Site::write(1 << 20).unwrap();
        let lab = Sprayed::build(STRANGER, Forwarder::Daemon, &site).unwrap();
        lab.spray_over(&[1, 2]).unwrap();
        if let Way::Group(_) = way {
            // It delivers a group's frames to its members alone, and asks who they are.
            lab.switch
                .ip("link set switch type bridge mcast_snooping 1 mcast_querier 1")
                .unwrap();
        }
        let mut pair = Self {
            daemons: Vec::new(),
            way,
            lab,
            site,
            _exclusive: exclusive,
        };
        for number in [1, 2] {
            let daemon = pair.daemon(number);
            pair.daemons.push(daemon);
        }
        pair
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.scratch.file(name)
    }

    fn daemon(&self, number: u8) -> Daemon {
        let keys = [
            ("cookie.key", &[][..]),
            ("replication.key", &["--replication"]),
        ];
        for (name, options) in keys {
            if !self.file(name).exists() {
                run(Command::new(TIDEGATE)
                    .arg("keygen")
                    .args(options)
                    .arg(self.file(name)))
                .unwrap();
            }
        }
        let files = Files {
            profile: self.file(&format!("{number}.yaml")),
            socket: self.file(&format!("{number}.sock")),
            log: self.file(&format!("{number}.log")),
        };
        let text = Profile::default().text_among(&Among {
            own: number,
            count: 2,
            socket: &files.socket,
            cookie_keys: &self.file("cookie.key"),
            replication_keys: &self.file("replication.key"),
            more: "",
        });
        fs::write(&files.profile, self.reached(&text, 3 - number)).unwrap();
        let guard = &self.lab.guards[usize::from(number) - 1];
        Daemon::start_in(guard, Path::new(TIDEGATE), files).unwrap()
    }

    /// The profile with the other guard reached in this pair's way.
    fn reached(&self, text: &str, other: u8) -> String {
        let [ipv4, ipv6] = of_guard(GuardNet::Sync, other);
        let written = format!(", address: {ipv4} }}");
        assert_eq!(text.matches(&written).count(), 1, "{text}");
        match self.way {
            Way::Direct(0) => text.to_owned(),
            Way::Direct(_) => text.replace(&written, &format!(", address: \"{ipv6}\" }}")),
            Way::Group(line) => text
                .replace(&written, " }")
                .replace("  own: ", &format!("  {line}\n  own: ")),
        }
    }

    fn peers(&self, number: u8) -> Result<Value> {
        self.daemons[usize::from(number) - 1].show("peers")
    }

    /// Waits until guard `number` sees the other one so.
    fn wait_for(&self, number: u8, state: &str, limit: Duration) {
        let what = format!("{:?}: guard {number} to see the other as {state}", self.way);
        wait_until(&what, limit, || {
            let peers = self.peers(number)?;
            match peers["peers"][0]["state"].as_str() {
                Some(there) if there == state => Ok(()),
                _ => Err(Error::new(peers["peers"].to_string())),
            }
        })
        .unwrap();
    }

    fn wait_in_step(&self) {
        for number in [1, 2] {
            self.wait_for(number, "in step", MEETING);
        }
    }

    /// Each guard's number of times that it fetched the other's sessions.
    fn resyncs(&self) -> [u64; 2] {
        [1, 2].map(|number| {
            let peers = self.peers(number).unwrap();
            peers["peers"][0]["resyncs"].as_u64().unwrap()
        })
    }

    /// What guard `number` has counted under names that begin so.
    fn counted(&self, number: u8, begin: &str) -> u64 {
        let peers = self.peers(number).unwrap();
        let rows = peers["counters"].as_array().unwrap();
        rows.iter()
            .filter(|row| row["name"].as_str().unwrap().starts_with(begin))
            .map(|row| row["count"].as_u64().unwrap())
            .sum()
    }

    fn log(&self, number: u8) -> String {
        self.daemons[usize::from(number) - 1].log_text()
    }

    /// Many small bodies, whose packets take either guard by chance.
    fn fetch_small(&self, family: usize, count: u32) {
        let request = Request {
            body: &self.site.small,
            server: SERVER[family],
            port: 80,
            client: client(0)[family],
            count,
            parallel: 4,
            limit: SOON,
        };
        let folder = self.file("bodies");
        let outcome = curl::fetch(&self.lab.clients, &request, &folder).unwrap();
        outcome.whole().unwrap();
    }
}

/// A pair that meets, is parted by a crash, and meets again.
fn meet_part_and_meet(way: Way) {
    let mut pair = Pair::start(way);
    pair.wait_in_step();
    pair.daemons[1].crash();
    pair.wait_for(1, "dead", Duration::from_secs(2));
    pair.daemons[1] = pair.daemon(2);
    pair.wait_in_step();
    for family in FAMILIES {
        pair.fetch_small(family, 8);
    }
    pair.daemons[1].signal(Signal::SIGTERM).unwrap();
    pair.wait_for(1, "left", Duration::from_secs(5));
    let log = pair.log(1);
    for state in ["in step", "dead", "left"] {
        assert!(log.contains(&format!("to=\"{state}\"")), "{state}: {log}");
    }
}

#[test]
fn guards_meet_by_their_addresses_ipv4() {
    meet_part_and_meet(Way::Direct(0));
}

#[test]
fn guards_meet_by_their_addresses_ipv6() {
    meet_part_and_meet(Way::Direct(1));
}

#[test]
fn guards_meet_in_a_multicast_group_ipv4() {
    meet_part_and_meet(Way::Group("group: 239.192.0.1"));
}

#[test]
fn a_switch_that_snoops_learns_where_the_group_is() {
    let pair = Pair::start(Way::Group("group: 239.192.0.1"));
    pair.wait_in_step();
    wait_until("both members at the switch", SOON, || {
        let members = pair.lab.switch.run("bridge", &["mdb", "show"])?;
        let of_group = members.lines().filter(|line| line.contains("239.192.0.1"));
        match of_group.count() {
            2 => Ok(()),
            _ => Err(Error::new(members)),
        }
    })
    .unwrap();
}

#[test]
fn guards_meet_in_a_multicast_group_ipv6() {
    meet_part_and_meet(Way::Group("group: \"ff02::4790\""));
}

#[test]
fn guards_meet_by_broadcast() {
    meet_part_and_meet(Way::Group("broadcast: true"));
}

// CASES 14
#[test]
fn a_stranger_s_flood_is_counted_and_changes_nothing() {
    const FORGED: u64 = 20_000;
    let pair = Pair::start(Way::Direct(0));
    pair.wait_in_step();
    let before = pair.resyncs();
    let stranger = &pair.lab.guards[usize::from(STRANGER) - 1];
    let [own, _] = of_guard(GuardNet::Sync, STRANGER);
    stranger
        .ip(&format!("addr add {own}/24 dev sync0"))
        .unwrap();
    let [target, _] = of_guard(GuardNet::Sync, 1);
    let sent = stranger.within(move || flood(own, (target, UDP_PORT).into(), FORGED));
    assert_eq!(sent.unwrap().unwrap(), FORGED);
    wait_until("the flood to be counted", SOON, || {
        match pair.counted(1, "refused_") {
            0 => Err(Error::new("nothing is refused")),
            _ => Ok(()),
        }
    })
    .unwrap();
    // Beside what the thread refused, the worker and its port had no room for the rest.
    assert!(pair.counted(1, "refused_") <= FORGED);
    pair.wait_in_step();
    assert_eq!(pair.resyncs(), before);
    pair.fetch_small(0, 8);
    assert!(!pair.log(1).contains("to=\"dead\""), "{}", pair.log(1));
}

/// Sends so many datagrams that claim to be the other guard's, a few at a time.
fn flood(from: IpAddr, to: SocketAddr, count: u64) -> Result<u64> {
    let error = |error: std::io::Error| Error::because("a forged datagram", error);
    let socket = UdpSocket::bind((from, UDP_PORT)).map_err(error)?;
    let mut payload = [0x5a; 400];
    // The version, and the number of guard 2, for guard 1.
    payload[..4].copy_from_slice(&[1, 0, 2, 1]);
    for number in 0..count {
        payload[24..32].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&payload, to).map_err(error)?;
        if number % 32 == 31 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(count)
}

#[test]
fn a_new_key_is_taken_by_one_guard_after_the_other() {
    let pair = Pair::start(Way::Direct(0));
    pair.wait_in_step();
    let before = pair.resyncs();
    run(Command::new(TIDEGATE)
        .args(["keygen", "--replication", "--rotate", "--delay", "2"])
        .arg(pair.file("replication.key")))
    .unwrap();
    for daemon in &pair.daemons {
        daemon.control(&["reload"]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    // The new key begins to seal in the meantime.
    std::thread::sleep(Duration::from_secs(3));
    pair.wait_in_step();
    pair.fetch_small(1, 8);
    assert_eq!(pair.resyncs(), before);
    for number in [1, 2] {
        assert_eq!(pair.counted(number, "refused_epoch"), 0);
        let log = pair.log(number);
        assert!(log.contains("replication keys: 2 in force"), "{log}");
        assert!(!log.contains("to=\"dead\""), "{log}");
    }
    // What the profile fixes for a running daemon is said, and changes nothing.
    let text = pair.daemons[0].read_profile().unwrap();
    let renumbered = text.replace("  own: 1\n", "  own: 9\n");
    pair.daemons[0].write_profile(&renumbered).unwrap();
    let said = pair.daemons[0]
        .control(&["reload"])
        .unwrap_err()
        .to_string();
    assert!(said.contains("replication.own cannot change"), "{said}");
    pair.wait_in_step();
}
