//! The transparent wire between real clients and a real server: a guard that no ping and no
//! traceroute finds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lab::address::{GUARD_INSIDE, SERVER, client};
use lab::command::wait_until;
use lab::curl::{self, Outcome, Request};
use lab::daemon::Daemon;
use lab::filter::Interest;
use lab::flood::{Flood, Kind, Settings};
use lab::lock::Exclusive;
use lab::observer::Observer;
use lab::profile::Profile;
use lab::server::{Body, Site};
use lab::wires::Wires;
use lab::{Error, Lab, Options};

use crate::common::{FAMILIES, Guarded, SOON, TIDEGATE, assert_names, server};

fn wire(echo: &'static str) -> Options {
    Options {
        wire: Some(echo),
        ..Options::default()
    }
}

fn start(options: Options) -> Guarded {
    Guarded::start(options, &Profile::default())
}

fn ping(lab: &Lab, more: &[&str], to: usize) {
    let address = SERVER[to].to_string();
    let arguments = [&["-n", "-c3", "-i0.2", "-W2"], more, &[&address]].concat();
    lab.clients.run("ping", &arguments).unwrap();
}

#[test]
fn clients_are_proved_by_echo_and_served_through_an_invisible_guard() {
    let guarded = start(wire("auto"));
    let outside =
        Observer::start(&guarded.lab.clients, "wan0", Interest::SynAcksOfClients).unwrap();
    let inside = Observer::start(&guarded.lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 100, 20);
        guarded.fetch_large(family, SOON);
        ping(&guarded.lab, &["-t1"], family);
    }
    let inside = inside.stop().unwrap();
    let comparison = inside.compare(&outside.stop().unwrap());
    assert_eq!((comparison.differ, comparison.same), (202, 0));
    assert_eq!(inside.syns, 202, "the server saw each client's SYN once");
    guarded.wait_for("/sessions/opened", 202);
    assert!(guarded.guard("/wire/carried") >= 202);
    assert!(guarded.guard("/wire/returned") >= 202);
    assert_eq!(guarded.guard("/wire/refused"), 0);
    assert!(guarded.guard("/wire/bridged") > 0, "ARP passed");
    // The server's neighbour is the clients' router: nobody stands between.
    let stations = |lab: &Lab| {
        let table = lab
            .server
            .run("ip", &["neigh", "show", "dev", "lan0"])
            .unwrap();
        let router = lab
            .clients
            .within(|| lab::socket::hardware_address("wan0"))
            .unwrap()
            .unwrap();
        let router = router.map(|octet| format!("{octet:02x}")).join(":");
        assert_names(&table, &[&GUARD_INSIDE[0].to_string(), &router]);
    };
    stations(&guarded.lab);
    let shown = guarded.daemon.control(&["show", "guard"]).unwrap();
    assert_names(&shown, &["outside to inside", "carried a SYN", "answers"]);
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

#[test]
fn two_workers_share_a_wire() {
    let profile = Profile {
        workers: vec![0, 1],
        ..Profile::default()
    };
    let guarded = Guarded::start(wire("auto"), &profile);
    for family in FAMILIES {
        guarded.fetch_small(family, 100, 20);
        guarded.fetch_large(family, SOON);
    }
    guarded.wait_for("/sessions/opened", 202);
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

#[test]
fn tagged_frames_keep_their_tag_on_a_wire() {
    let options = Options {
        outside_vlan: Some(100),
        inside_vlan: Some(100),
        ..wire("auto")
    };
    let guarded = start(options);
    for family in FAMILIES {
        guarded.fetch_small(family, 40, 10);
        guarded.fetch_large(family, SOON);
        ping(&guarded.lab, &[], family);
    }
    assert!(guarded.guard("/wire/returned") >= 82);
    guarded.audit();
}

#[test]
fn jumbo_frames_pass_up_to_the_mtu() {
    let options = Options {
        outside_mtu_bytes: 9000,
        inside_mtu_bytes: 9000,
        ..wire("auto")
    };
    let guarded = start(options);
    for family in FAMILIES {
        // Headers of IP and ICMP: 28 octets, 48 for IPv6.
        let size = (9000 - [28, 48][family]).to_string();
        ping(&guarded.lab, &["-M", "do", "-s", &size], family);
        guarded.fetch_small(family, 20, 5);
        guarded.fetch_large(family, SOON);
    }
    guarded.audit();
}

#[test]
fn a_server_that_drops_pings_is_noticed() {
    let guarded = start(wire("auto"));
    guarded
        .lab
        .server
        .sysctl(&[
            "net.ipv4.icmp_echo_ignore_all=1",
            "net.ipv6.icmp.echo_ignore_all=1",
        ])
        .unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 1, 1);
        // From now on nobody waits for an echo.
        let began = std::time::Instant::now();
        guarded.fetch_small(family, 50, 10);
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        guarded.fetch_large(family, SOON);
    }
    let shown = guarded.daemon.control(&["show", "guard"]).unwrap();
    assert_eq!(shown.matches("silent").count(), 2, "{shown}");
    guarded
        .lab
        .server
        .sysctl(&[
            "net.ipv4.icmp_echo_ignore_all=0",
            "net.ipv6.icmp.echo_ignore_all=0",
        ])
        .unwrap();
    // It is asked again every five seconds, and then by each SYN of a second.
    wait_until("echoes that come back", SOON, || {
        for family in FAMILIES {
            guarded.fetch_small(family, 4, 1);
        }
        match guarded.daemon.control(&["show", "guard"])? {
            shown if shown.matches("answers").count() == 2 => Ok(()),
            shown => Err(Error::new(shown)),
        }
    })
    .unwrap();
    guarded.audit();
}

/// SYNs that the clients' kernel had to repeat.
fn repeated_syns(lab: &Lab) -> u64 {
    let text = lab.clients.run("cat", &["/proc/net/netstat"]).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let mut fields = || lines.next().unwrap().split_whitespace();
    let (mut names, mut values) = (fields(), fields());
    let place = names.position(|name| name == "TCPSynRetrans").unwrap();
    values.nth(place).unwrap().parse().unwrap()
}

// G3
#[test]
fn what_limits_pings_behind_the_wire_costs_clients_nothing_flood_or_not() {
    let guarded = start(wire("auto"));
    let limit = "table inet behind {
        chain pings {
            type filter hook input priority 0;
            icmp type echo-request limit rate over 5/second burst 5 packets drop
            icmpv6 type echo-request limit rate over 5/second burst 5 packets drop
        }
    }";
    guarded.lab.server.nft(limit).unwrap();
    let destinations = FAMILIES.map(|family| server(family, 80)).to_vec();
    let gateway = guarded.lab.server_hardware_address().unwrap();
    let settings = Settings::of_lab("wan0", gateway, destinations, Kind::Syn, 5_800, 60);
    let flood = Flood::start(&guarded.lab.clients, settings).unwrap();
    wait_until("the limit's notice", SOON, || {
        match guarded.daemon.control(&["show", "guard"])? {
            shown if shown.matches("limited").count() == 2 => Ok(()),
            shown => Err(Error::new(shown)),
        }
    })
    .unwrap();
    let before = repeated_syns(&guarded.lab);
    for family in FAMILIES {
        guarded.fetch_small(family, 200, 10);
    }
    flood.stop().unwrap();
    for family in FAMILIES {
        guarded.fetch_small(family, 200, 10);
    }
    // A busy machine may lose a SYN. Were the limit not noticed, nearly every client would repeat one.
    let repeated = repeated_syns(&guarded.lab) - before;
    assert!(repeated < 40, "{repeated} of 800 repeated");
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

// CASES 1
#[test]
fn no_spoofed_syn_crosses_the_wire_and_none_leaves_state() {
    for echo in ["auto", "off"] {
        let guarded = start(wire(echo));
        let inside =
            Observer::start(&guarded.lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
        let destinations = FAMILIES.map(|family| server(family, 80)).to_vec();
        let gateway = guarded.lab.server_hardware_address().unwrap();
        let settings = Settings::of_lab("wan0", gateway, destinations, Kind::Syn, 10_000, 60);
        let flood = Flood::start(&guarded.lab.clients, settings).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        for family in FAMILIES {
            guarded.fetch_small(family, 100, 20);
        }
        let sent = flood.stop().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let sight = inside.stop().unwrap();
        assert!(sent.syns > 5_000, "{sent:?}");
        assert_eq!(sight.spoofed_syns, 0, "{echo}");
        assert_eq!(sight.syns, 200, "{echo}");
        assert_eq!(sight.spoofed_others, 0, "{echo}");
        let carried = guarded.guard("/wire/carried");
        assert_eq!(carried > 5_000, echo == "auto", "{carried} carried");
        guarded.wait_for("/sessions/opened", 200);
        guarded.wait_for_no_session(Duration::from_secs(5));
        guarded.audit();
    }
}

#[test]
fn what_is_not_guarded_passes_and_the_guard_itself_answers_nothing() {
    let guarded = start(wire("always"));
    for family in FAMILIES {
        let request = Request {
            port: 8080,
            count: 10,
            parallel: 5,
            client: client(1)[family],
            ..guarded.request(&guarded.site.medium, family)
        };
        guarded.fetch(&request).unwrap().whole().unwrap();
    }
    guarded.wait_for("/sessions/opened", 0);
    let ports = guarded.daemon.control(&["show", "ports"]).unwrap();
    assert_names(&ports, &["outside", "inside"]);
    guarded.audit();
}

/// Two guards in links of their own, and what each says of itself.
struct TwoWires {
    daemons: [Daemon; 2],
    lab: Wires,
    site: Arc<Site>,
    _exclusive: Exclusive,
}

impl TwoWires {
    fn start(shares: bool) -> Self {
        let exclusive = lab::exclusive().unwrap();
        let site = Site::write(8 << 20).unwrap();
        let lab = Wires::build(&site).unwrap();
        let daemons = [1, 2].map(|number| lab.start(number, Path::new(TIDEGATE), shares).unwrap());
        Self {
            daemons,
            lab,
            site,
            _exclusive: exclusive,
        }
    }

    fn guard(&self, number: usize, pointer: &str) -> u64 {
        let guard = self.daemons[number - 1].show("guard").unwrap();
        let value = guard.pointer(pointer).and_then(serde_json::Value::as_u64);
        value.unwrap_or_else(|| panic!("no {pointer} in {guard}"))
    }

    fn request<'a>(&self, body: &'a Body, family: usize) -> Request<'a> {
        let (client, server) = Wires::ends(family);
        Request {
            body,
            server,
            port: 80,
            client,
            count: 1,
            parallel: 1,
            limit: SOON,
        }
    }

    fn fetch(&self, request: &Request<'_>) -> Outcome {
        curl::fetch(&self.lab.clients, request, &self.lab.scratch.file("bodies")).unwrap()
    }
}

// CASES 16: the reply, and all of the server's, returns through another guard than the SYN took.
#[test]
fn two_wires_with_the_same_keys_answer_for_each_other() {
    let wires = TwoWires::start(false);
    for family in FAMILIES {
        let request = Request {
            limit: Duration::from_secs(1),
            ..wires.request(&wires.site.small, family)
        };
        // Without shared sessions nobody can translate what comes back; but the client is proved.
        wires.fetch(&request);
    }
    assert!(wires.guard(1, "/wire/carried") >= 2);
    assert_eq!(wires.guard(1, "/wire/returned"), 0);
    assert!(wires.guard(2, "/wire/returned") >= 2);
    assert_eq!(wires.guard(2, "/wire/carried"), 0);
    assert!(wires.guard(1, "/cookies/accepted") >= 2);
    let shown = wires.daemons[0].control(&["show", "guard"]).unwrap();
    assert_eq!(shown.matches("answers").count(), 2, "{shown}");
}

// CASES 16
#[test]
fn two_wires_that_share_serve_connections_of_which_each_sees_one_direction() {
    let wires = TwoWires::start(true);
    for family in FAMILIES {
        let request = Request {
            count: 100,
            parallel: 10,
            ..wires.request(&wires.site.small, family)
        };
        wires.fetch(&request).whole().unwrap();
        let request = wires.request(&wires.site.large, family);
        curl::fetch_large(&wires.lab.clients, &request).unwrap();
    }
    assert_eq!(wires.guard(2, "/wire/carried"), 0);
    assert_eq!(wires.guard(1, "/wire/returned"), 0);
    assert!(wires.guard(2, "/wire/returned") >= 202);
    assert!(wires.guard(1, "/cookies/accepted") >= 202);
}
