//! Every way to a protected server without a cookie, with real packets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lab::address::{SERVER, client};
use lab::command::wait_until;
use lab::filter::Interest;
use lab::frame::{Tcp, flag, read};
use lab::observer::Observer;
use lab::profile::Profile;
use lab::socket::PacketSocket;
use lab::{Error, Options};

use crate::common::{FAMILIES, Guarded, SOON, TIDEGATE, assert_names};

/// Waits until the daemon's log has a line with all of these words.
fn wait_for_line(guarded: &Guarded, words: &[&str]) {
    wait_until(&format!("a line with {words:?}"), SOON, || {
        let log = guarded.daemon.log_text();
        if log
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
        {
            return Ok(());
        }
        Err(Error::new(log))
    })
    .unwrap();
}

#[test]
fn c3_a_kernel_that_forwards_beside_the_guard_is_refused_and_told() {
    let profile = Profile {
        guard: "  kernel_forwarding: warn\n".into(),
        ..Profile::default()
    };
    let guarded = Guarded::start(Options::default(), &profile);
    let guard = &guarded.lab.guard;
    guard.ip("route add 10.0.0.0/24 dev in0").unwrap();
    guard.sysctl(&["net.ipv4.conf.out0.forwarding=1"]).unwrap();
    wait_for_line(&guarded, &["WARN", "forwards IPv4 from out0", "sysctl -w"]);
    let ways = guarded.daemon.show("guard").unwrap()["bypasses"].clone();
    assert_eq!(ways.as_array().map(Vec::len), Some(1), "{ways}");
    // The same machine, for a profile that does not allow it.
    let text = guarded.daemon.read_profile().unwrap();
    let strict = guarded.lab.scratch.file("strict.yaml");
    std::fs::write(
        &strict,
        text.replace("kernel_forwarding: warn", "kernel_forwarding: refuse"),
    )
    .unwrap();
    let strict = strict.to_str().unwrap();
    let refused = guard.run(TIDEGATE, &["run", strict]).unwrap_err();
    assert_names(&refused.to_string(), &["IPv4 from out0", "forwarding=0"]);
    let doctor = guard.run(TIDEGATE, &["doctor", strict]).unwrap_err();
    assert_names(&doctor.to_string(), &["fail", "IPv4 from out0"]);
    guard.sysctl(&["net.ipv4.conf.out0.forwarding=0"]).unwrap();
    wait_for_line(&guarded, &["no longer so", "out0"]);
    wait_until(
        "no way past the guard",
        Duration::from_secs(5),
        || match guarded.daemon.show("guard")?["bypasses"].as_array() {
            Some(ways) if ways.is_empty() => Ok(()),
            ways => Err(Error::new(format!("{ways:?}"))),
        },
    )
    .unwrap();
}

/// Has a connection opened from the server's name space to a listener in the clients', and bytes both ways.
fn server_calls(guarded: &Guarded, family: usize) {
    let at = SocketAddr::from((client(1)[family], 7000));
    let listener = guarded
        .lab
        .clients
        .within(move || TcpListener::bind(at))
        .unwrap()
        .unwrap();
    let accepted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"220")?;
        let mut said = [0; 4];
        stream.read_exact(&mut said).map(|()| said)
    });
    let call = move || {
        let mut stream = TcpStream::connect_timeout(&at, SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut said = [0; 3];
        stream.read_exact(&mut said)?;
        stream.write_all(b"QUIT")?;
        Ok::<_, std::io::Error>(said)
    };
    let said = guarded.lab.server.within(call).unwrap().unwrap();
    assert_eq!(&said, b"220");
    assert_eq!(&accepted.join().unwrap().unwrap(), b"QUIT");
}

/// The same guard with a third port, and with all ports of its servers protected, which took connections
/// that servers open themselves for strangers' segments.
#[test]
fn c2_c5_third_ports_and_servers_own_connections() {
    let mut guarded = Guarded::plain();
    let lab = &guarded.lab;
    lab.guard
        .ip(&format!(
            "link add third0 type veth peer name office0 netns {}\nlink set third0 up",
            lab.clients.name()
        ))
        .unwrap();
    lab.clients
        .ip("addr add 10.3.0.2/24 dev office0\nlink set office0 up\nrule add from 10.3.0.2 table 3\n\
             route add default via 10.3.0.1 dev office0 table 3")
        .unwrap();
    let offloads = [
        "-K", "office0", "tx", "off", "tso", "off", "gso", "off", "gro", "off",
    ];
    lab.clients.run("ethtool", &offloads).unwrap();
    let text = guarded.daemon.read_profile().unwrap();
    let third = "  third: { device: \"net_af_packet2,iface=third0,framecnt=2048\", address: \
                 10.3.0.1/24 }\nroutes:\n";
    let text = text
        .replace("routes:\n", third)
        .replace("ports: [80, 443]", "ports: [\"1-65535\"]");
    guarded.daemon.write_profile(&text).unwrap();
    let profile = lab.scratch.file("profile.yaml");
    let socket = guarded.daemon.socket().to_owned();
    guarded.daemon.crash();
    guarded.daemon =
        lab::daemon::Daemon::start_with(&guarded.lab, TIDEGATE.as_ref(), &profile, &socket)
            .unwrap();
    for family in FAMILIES {
        server_calls(&guarded, family);
        guarded.fetch_small(family, 10, 5);
    }
    let before = guarded.guard("/cookies/accepted");
    let to = SocketAddr::from((SERVER[0], 80));
    let fetch = move || {
        let socket = std::process::Command::new("curl")
            .args([
                "-q",
                "-sS",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                "-o",
                "/dev/null",
            ])
            .args(["--interface", "10.3.0.2", &format!("http://{to}/small")])
            .output();
        socket.map(|output| (output.status.success(), output.stderr))
    };
    let (is_served, said) = guarded.lab.clients.within(fetch).unwrap().unwrap();
    assert!(is_served, "{}", String::from_utf8_lossy(&said));
    assert_eq!(guarded.guard("/cookies/accepted"), before + 1);
    let check = guarded
        .lab
        .guard
        .run(TIDEGATE, &["check", profile.to_str().unwrap()])
        .unwrap();
    assert_names(&check, &["from clients by third as well"]);
    guarded.audit();
}

/// A SYN for `to` from a socket of `from`'s side.
fn syn(from: SocketAddr, to: SocketAddr, hardware: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::new();
    let syn = Tcp {
        source: from,
        destination: to,
        sequence: 1,
        acknowledgement: 0,
        flags: flag::SYN,
        options: &[],
        payload: &[],
    };
    syn.write(([2, 0, 0, 0, 0, 7], hardware), &mut frame);
    frame
}

/// A kernel without a daemon, and what is sent by it.
struct Router<'a> {
    guarded: &'a Guarded,
    profile: String,
    clients: PacketSocket,
    inside: PacketSocket,
    server: PacketSocket,
    /// The MAC addresses of the guard's outside port and of the server.
    hardware: [[u8; 6]; 2],
    sent: std::cell::Cell<u16>,
}

impl<'a> Router<'a> {
    fn new(guarded: &'a Guarded) -> Self {
        let lab = &guarded.lab;
        let open = |space: &lab::Namespace, interface: &'static str, receives: bool| {
            let nets = lab::flood::spoofed_nets();
            let mut filter = Vec::new();
            if receives {
                filter = lab::filter::program(Interest::SynsAndSpoofed, nets);
            }
            let open = move || PacketSocket::open(interface, &filter);
            space.within(open).unwrap().unwrap()
        };
        let profile = lab.scratch.file("profile.yaml");
        Self {
            guarded,
            profile: profile.to_str().unwrap().to_owned(),
            clients: open(&lab.clients, "wan0", false),
            inside: open(&lab.guard, "in0", false),
            server: open(&lab.server, "lan0", true),
            hardware: [
                lab.guard_hardware_address().unwrap(),
                lab.server_hardware_address().unwrap(),
            ],
            sent: std::cell::Cell::new(10_000),
        }
    }

    fn set(&self, settings: &[&str], ip: &str) {
        if !settings.is_empty() {
            self.guarded.lab.guard.sysctl(settings).unwrap();
        }
        self.guarded.lab.guard.ip(ip).unwrap();
    }

    /// Whether the server gets a client's SYN. One that is sent after it, by the guard's inside link, tells
    /// that it would have been there.
    fn carries(&self, family: usize, hardware: [u8; 6]) -> bool {
        let [ours, marker] = [1, 2].map(|more| self.sent.get() + more);
        self.sent.set(marker);
        let sources: [IpAddr; 2] =
            ["192.0.2.77", "2001:db8:1::77"].map(|text| text.parse().unwrap());
        let source = sources[family];
        let from = |port: u16| SocketAddr::from((source, port));
        let to = SocketAddr::from((SERVER[family], 80));
        assert!(self.clients.send(&syn(from(ours), to, hardware)).unwrap());
        let mark = syn(from(marker), to, self.hardware[1]);
        assert!(self.inside.send(&mark).unwrap());
        let mut has_come = false;
        let mut buffer = [0; 192];
        for _ in 0..100 {
            while let Some(length) = self.server.receive(&mut buffer).unwrap() {
                let port = read(&buffer[..length]).map_or(0, |seen| seen.source.port());
                has_come |= port == ours;
                if port == marker {
                    return has_come;
                }
            }
            self.server.wait(Duration::from_millis(50)).unwrap();
        }
        panic!("the marker did not come");
    }

    /// What is carried, and what `doctor` says of it, agree with `families`: IPv4, IPv6.
    fn expect(&self, what: &str, families: [bool; 2]) {
        let hardware = self.hardware[0];
        let carried = FAMILIES.map(|family| self.carries(family, hardware));
        assert_eq!(carried, families, "carried with {what}");
        let said = self.doctor();
        let told = ["IPv4", "IPv6"].map(|family| {
            let wanted = format!("the kernel forwards {family} from out0");
            said.contains(&wanted)
        });
        assert_eq!(told, families, "told with {what}: {said}");
    }

    fn doctor(&self) -> String {
        let mut doctor = self.guarded.lab.guard.command(TIDEGATE);
        let output = doctor.args(["doctor", &self.profile]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Which settings and routes of a kernel carry packets past the guard, by packets.
#[test]
fn c3_what_the_kernel_carries_past_is_what_is_told() {
    let mut guarded = Guarded::plain();
    guarded.daemon.crash();
    let router = Router::new(&guarded);
    let server = router.hardware[1]
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    let off = [
        "net.ipv6.conf.all.disable_ipv6=0",
        "net.ipv4.ip_forward=0",
        "net.ipv4.conf.in0.forwarding=1",
        "net.ipv6.conf.out0.forwarding=1",
        "net.ipv6.conf.in0.forwarding=1",
    ];
    let [to4, to6] = [
        "route add 10.0.0.0/24 dev in0",
        "route add fd00:1::/64 dev in0",
    ];
    let neighbour = |address: IpAddr| format!("neigh add {address} lladdr {server} dev in0\n");
    let neighbours = SERVER.map(neighbour).concat();
    router.set(&off, &format!("{to4}\n{to6}\n{neighbours}"));
    router.expect("another interface's, and IPv6's own, switches", [false; 2]);
    router.set(&["net.ipv4.conf.out0.forwarding=1"], "");
    router.expect("IPv4's of the interface", [true, false]);
    router.set(&["net.ipv4.conf.all.rp_filter=2"], "");
    router.expect("a source filter", [false; 2]);
    router.set(&[], "addr add 192.0.2.1/24 dev out0");
    router.expect("a source filter and an address", [true, false]);
    router.set(&["net.ipv4.conf.out0.forwarding=0"], "");
    router.expect("an address", [false; 2]);
    let all = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    router.set(&all, "");
    router.expect("the switches of all", [true; 2]);
    // With IPv6 off on the interface, and on again.
    router.set(&["net.ipv6.conf.out0.disable_ipv6=1"], "");
    router.expect("no IPv6", [true, false]);
    let back = ["net.ipv6.conf.out0.disable_ipv6=0"];
    router.set(
        &back,
        "route del 10.0.0.0/24 dev in0\nroute add 10.0.0.0/24 dev out0",
    );
    router.expect("no route of IPv4 by another interface", [false, true]);
    let table = "route del fd00:1::/64 dev in0\nroute add 10.0.0.0/24 dev in0 table 77\n\
                 rule add iif out0 table 77 priority 7";
    router.set(&[], table);
    router.expect(
        "a route of IPv4 in a table of its own, none of IPv6",
        [true, false],
    );
    // A bridge asks no route and no sysctl.
    let none = ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"];
    let bridge = "link add br0 type bridge\nlink set out0 master br0\nlink set br0 up";
    router.set(&none, bridge);
    let carried =
        |router: &Router<'_>| FAMILIES.map(|family| router.carries(family, router.hardware[1]));
    assert_eq!(carried(&router), [false; 2]);
    assert!(!router.doctor().contains("bridge br0"));
    router.set(&[], "link set in0 master br0");
    for is_filtered in ["0", "1"] {
        for family in ["ip", "ip6"] {
            // Where the kernel has no `br_netfilter` it goes as with 0.
            let _ = guarded.lab.guard.sysctl(&[&format!(
                "net.bridge.bridge-nf-call-{family}tables={is_filtered}"
            )]);
        }
        assert_eq!(carried(&router), [true; 2], "bridge, filter {is_filtered}");
    }
    assert_names(&router.doctor(), &["bridge br0 joins out0"]);
}

/// Servers come and go by reloads, more of them than have places. Those that are listed are guarded.
#[test]
fn c1_more_servers_than_places_over_a_life_are_guarded_or_refused() {
    const SERVERS: u32 = 1000;
    let guarded = Guarded::plain();
    let text = guarded.daemon.read_profile().unwrap();
    let (head, rest) = text.split_once("  protect:\n").unwrap();
    let (_, tail) = rest.split_once("  keys:").unwrap();
    // What is not guarded goes to the lab's server.
    let head = head.replace(
        "routes:\n",
        &format!("routes:\n  - {{ to: 10.8.0.0/13, via: {} }}\n", SERVER[0]),
    );
    let address =
        |round: u32, number: u32| Ipv4Addr::from(0x0a08_0000 + (round << 16) + number + 1);
    let lab = &guarded.lab;
    let leaks = Observer::start(&lab.server, "lan0", Interest::SynsAndSpoofed).unwrap();
    let gateway = lab.guard_hardware_address().unwrap();
    let open = || PacketSocket::open("wan0", &[]);
    let clients = lab.clients.within(open).unwrap().unwrap();
    let mut listed = 0;
    let mut refused = String::new();
    for round in 0..4 {
        let line = |number| {
            format!(
                "    - {{ server: {}, ports: 80 }}\n",
                address(round, number)
            )
        };
        let protect: String = (0..SERVERS).map(line).collect();
        let profile = format!("{head}  protect:\n{protect}  keys:{tail}");
        guarded.daemon.write_profile(&profile).unwrap();
        match guarded.daemon.control(&["reload", "--allow-unguarded"]) {
            Ok(_) => listed = round,
            Err(error) => refused = error.to_string(),
        }
        let before = guarded.guard("/cookies/sent");
        for number in 0..SERVERS {
            let source = SocketAddr::from(([100, 64, 0, 1], 1024 + number as u16));
            let to = SocketAddr::from((address(listed, number), 80));
            let frame = syn(source, to, gateway);
            while !clients.send(&frame).unwrap() {
                std::thread::yield_now();
            }
        }
        wait_until("a cookie for each SYN", SOON, || {
            match guarded.guard("/cookies/sent") - before {
                count if count == u64::from(SERVERS) => Ok(()),
                count => Err(Error::new(format!("{count} in round {round}"))),
            }
        })
        .unwrap();
    }
    assert!(listed > 0, "{refused}");
    assert_names(&refused, &["has no place for", "reload again later"]);
    let sight = leaks.stop().unwrap();
    assert_eq!((sight.spoofed_syns, sight.spoofed_others), (0, 0));
}
