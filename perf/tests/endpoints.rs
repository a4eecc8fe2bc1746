//! The tester's TCP ends on real packets: against the kernel's TCP and nginx, and against each
//! other through the daemon as it is deployed.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bindings::Port;
use dataplane::wire::address::Address;
use dataplane::wire::ethernet::MacAddress;
use lab::Namespace;
use lab::scratch::Scratch;
use lab::server::{Server, Site};
use lab::topology::{join, prepare};
use perf::endpoints::device::DevicePort;
use perf::endpoints::scenario::{
    ConcurrentConfig, Findings, UnderFlood, concurrent, ttfb, under_flood,
};
use perf::endpoints::site::SiteSettings;
use perf::endpoints::stream::fill;
use perf::endpoints::{
    Arena, ClientConfig, Clients, Close, End, Link, Offer, Pool, Port as _, ServerConfig, Servers,
    Talk,
};
use perf::subjects::{Cores, Ground, Job, Kind, Over, Settings, StartError, Subject};
use perf::tester::{Engine, EngineSettings, Patience, Stop};

const LIMIT: Duration = Duration::from_secs(5);
const TESTER: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const KERNEL: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];
/// The kernel's own address, in both families, and the tester's router before it.
const OWN: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const ROUTER: [&str; 2] = ["192.0.2.254", "2001:db8::fe"];
/// Where the tester's clients are.
const CLIENTS: [&str; 2] = ["198.18.0.0/16", "2001:2::/49"];

/// One for the process, as EAL is.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let settings = EngineSettings {
            pairs: 2,
            ..EngineSettings::default()
        };
        Engine::start(&settings).unwrap()
    })
}

/// A kernel with addresses, and a device of the tester's on its link.
struct Neighbours {
    tester: Namespace,
    kernel: Namespace,
    interface: &'static str,
}

fn neighbours(interface: &'static str) -> Neighbours {
    let (tester, kernel) = (
        Namespace::create("tester").unwrap(),
        Namespace::create("kernel").unwrap(),
    );
    prepare(&tester).unwrap();
    prepare(&kernel).unwrap();
    tester
        .sysctl(&["net.ipv6.conf.all.disable_ipv6=1"])
        .unwrap();
    join((&tester, interface), (&kernel, "lan0"), 1500).unwrap();
    let station = |octets: [u8; 6]| octets.map(|octet| format!("{octet:02x}")).join(":");
    tester
        .ip(&format!("link set {interface} address {}", station(TESTER)))
        .unwrap();
    let mut lines = format!("link set lan0 address {}\n", station(KERNEL));
    for ((own, router), (clients, length)) in
        OWN.iter().zip(ROUTER).zip(CLIENTS.iter().zip([24, 64]))
    {
        let nodad = if length == 64 { " nodad" } else { "" };
        lines += &format!(
            "addr add {own}/{length} dev lan0{nodad}\n\
             neigh add {router} lladdr {} dev lan0 nud permanent\n\
             route add {clients} via {router}\n",
            station(TESTER)
        );
    }
    kernel.ip(&lines).unwrap();
    Neighbours {
        tester,
        kernel,
        interface,
    }
}

/// The tester's end of the link: to be opened where the interface is.
fn open(interface: &str) -> DevicePort {
    // Each of a process has a name of its own.
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let device = format!("net_af_packet_{interface}n{number},iface={interface},framecnt=2048");
    let mut port: Port = engine().open_port(&device, 1).unwrap();
    let (receive, transmit) = (port.take_rx_queue(0), port.take_tx_queue(0));
    let pool = engine().pool().clone();
    // Every neighbour is known already.
    DevicePort::new(
        receive.unwrap(),
        transmit.unwrap(),
        pool,
        Box::new(|_| None),
    )
}

fn link() -> Link {
    Link::between(MacAddress(TESTER), MacAddress(KERNEL))
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// Clients of both families.
fn pools(ports: u16) -> Vec<Pool> {
    [("198.18.0.1", OWN[0]), ("2001:2::1", OWN[1])]
        .map(|(first, server)| Pool {
            first: address(first),
            addresses: 20,
            first_port: 1024,
            ports,
            servers: vec![(address(server), 80), (address(server), 8080)],
        })
        .into()
}

/// What the kernel's own client gets of a path: the body behind the head.
fn fetch(namespace: &Namespace, server: &'static str, path: &str) -> Vec<u8> {
    let request = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let got = namespace.within(move || {
        let server = SocketAddr::new(server.parse().unwrap(), 80);
        let mut stream = TcpStream::connect_timeout(&server, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let head = all.windows(4).position(|four| four == b"\r\n\r\n");
        all.split_off(head.expect("a head") + 4)
    });
    got.unwrap()
}

#[test]
fn clients_complete_against_the_kernel_and_nginx_and_verify_every_octet() {
    let _exclusive = lab::exclusive().unwrap();
    engine();
    let place = neighbours("web0");
    let scratch = Scratch::new().unwrap();
    let site = Site::write(1 << 20).unwrap();
    let nginx = Server::start(&place.kernel, &site, &scratch).unwrap();
    for (path, bytes, close, per_s) in [
        ("small", 4096, Close::Server, 1000.0),
        ("small", 4096, Close::Reset, 1000.0),
        ("small", 4096, Close::Client, 1000.0),
        ("medium", 256 << 10, Close::Server, 50.0),
    ] {
        let body = fetch(&place.kernel, "127.0.0.1", path);
        assert_eq!(body.len() as u64, bytes);
        let keep = match close {
            Close::Server => "close",
            _ => "keep-alive",
        };
        let request = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: {keep}\r\n\r\n");
        let config = ClientConfig {
            pools: pools(50),
            connections: 2000,
            talk: Talk::Web {
                request: request.into_bytes(),
                body: Some(body),
            },
            close,
            ..ClientConfig::new(link(), pools(50)[0].clone())
        };
        let interface = place.interface;
        let work = move || {
            let clients = Clients::new(config, 0).unwrap();
            let mut arena = Arena::of_clients(open(interface), clients, || false);
            arena.run(&Offer::rate(per_s, Duration::from_millis(400)))
        };
        let came = place.tester.within(move || engine().polling(work).unwrap());
        let came = came.unwrap().unwrap();
        let failures = came.ends.failures();
        assert_eq!(came.success(), 1.0, "{path} {close:?}: {failures}");
        assert!(came.ends.started > 10);
        assert_eq!(came.verified_bytes, came.ends.started * bytes);
    }
    drop(nginx);
}

#[test]
fn servers_complete_against_the_kernels_clients() {
    let _exclusive = lab::exclusive().unwrap();
    engine();
    let place = neighbours("serve0");
    let listens = ["198.18.0.9", "2001:2::9"].map(|server| (address(server), 80));
    let config = ServerConfig::new(link(), listens.to_vec(), 100);
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, interface) = (Arc::clone(&stop), place.interface);
    let serve = move || {
        let mut port = open(interface);
        let mut servers = Servers::new(config, 0).unwrap();
        let began = Instant::now();
        while !stopped.load(Ordering::Relaxed) {
            let now_ns = began.elapsed().as_nanos() as u64;
            port.receive(|frame, out| servers.receive(frame, now_ns, out));
            servers.flush(now_ns, port.out());
            servers.poll(now_ns, port.out());
            port.flush();
        }
        (*servers.counters(), servers.open())
    };
    let serving = place
        .tester
        .thread(move || engine().polling(serve).unwrap());
    for server in ["198.18.0.9", "2001:2::9"] {
        for octets in [0, 1, 1448, 1_000_000] {
            let mut expected = vec![0; octets];
            fill(0, 0, &mut expected);
            let body = fetch(&place.kernel, server, &octets.to_string());
            assert!(body == expected, "{server} {octets}: {} octets", body.len());
        }
    }
    // The last connection's close is still on its way.
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let (counters, open) = serving.unwrap().join().unwrap().unwrap();
    assert_eq!(
        (counters.accepted, counters.responses, open),
        (8, 8, 0),
        "{counters:?}"
    );
}

/// Starts a subject; one that is not installed is told of, and the test says so.
fn start(ground: &Ground, kind: Kind) -> Option<Box<dyn Subject>> {
    match ground.start(kind) {
        Ok(subject) => Some(subject),
        Err(StartError::Absent(absent)) => {
            lab::command::tell(&absent.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn ground(over: Over) -> Ground {
    let settings = Settings {
        over,
        job: Job::Guard,
        ..Settings::default()
    };
    Ground::new(settings, Cores::choose()).unwrap()
}

/// Has `work` done with clients and servers on both sides of a subject.
fn beside<T: Send + 'static>(
    ground: &Ground,
    subject: &dyn Subject,
    settings: SiteSettings,
    work: impl FnOnce(&mut Arena<DevicePort>) -> T + Send + 'static,
) -> T {
    let wiring = subject.wiring().clone();
    let polled = move || {
        let stop = Stop::default();
        let arena = settings.open(engine(), &wiring, Patience::default(), &stop);
        work(&mut arena.unwrap_or_else(|refusal| panic!("{refusal}")))
    };
    let all = move || engine().polling(polled).unwrap();
    ground.tester().within(all).unwrap()
}

fn completes_through(kind: Kind, over: Over) {
    let _exclusive = lab::exclusive().unwrap();
    engine();
    let ground = ground(over);
    let Some(subject) = start(&ground, kind) else {
        return;
    };
    let settings = SiteSettings {
        connections: 4000,
        body_bytes: 20_000,
        ..SiteSettings::default()
    };
    let (findings, ends, counters) = beside(&ground, subject.as_ref(), settings, |arena| {
        let mut findings = Findings::default();
        let load = (300.0, Duration::from_secs(1));
        ttfb(arena, "it", load, &mut findings).unwrap();
        let servers = arena.servers.as_ref().unwrap();
        (findings, *arena.clients.ends(), *servers.counters())
    });
    assert!(ends.started > 200, "{kind}: {}", ends.started);
    assert_eq!(
        ends.of(End::Completed),
        ends.started,
        "{kind}: {}",
        ends.failures()
    );
    assert_eq!(counters.requests, ends.started, "{kind}: {counters:?}");
    let first_byte = |row: &&perf::report::Measured| row.metric == "first_byte_p50_us";
    let first_byte = findings.measured.iter().find(first_byte).unwrap();
    assert!((1.0..1e6).contains(&first_byte.value), "{first_byte:?}");
}

#[test]
fn connections_complete_through_tidegate_over_memif() {
    completes_through(Kind::Tidegate, Over::Memif);
}

#[test]
fn connections_complete_through_tidegate_over_veth() {
    completes_through(Kind::Tidegate, Over::Veth);
}

#[test]
fn connections_complete_through_the_kernels_synproxy() {
    completes_through(Kind::Synproxy, Over::Veth);
}

#[test]
fn concurrent_connections_live_through_tidegate() {
    let _exclusive = lab::exclusive().unwrap();
    engine();
    let ground = ground(Over::Memif);
    let Some(subject) = start(&ground, Kind::Tidegate) else {
        return;
    };
    let settings = SiteSettings {
        connections: 20_000,
        close: Close::Hold,
        ..SiteSettings::default()
    };
    let config = ConcurrentConfig {
        connections: 20_000,
        per_s: 10_000.0,
        hold: Duration::from_millis(200),
    };
    let became = beside(&ground, subject.as_ref(), settings, move |arena| {
        concurrent(arena, &config).unwrap()
    });
    let failures = became.opened.ends.failures();
    assert_eq!(became.opened.held, 20_000, "{failures}");
    let after = (became.after_hold, became.alive, became.closed);
    assert_eq!(after, (20_000, 20_000, 20_000));
}

#[test]
fn tidegate_keeps_a_flood_from_the_servers_and_serves_clients_meanwhile() {
    let _exclusive = lab::exclusive().unwrap();
    engine();
    let ground = ground(Over::Memif);
    let config = UnderFlood {
        per_s: 200.0,
        step: Duration::from_secs(1),
        floods_per_s: vec![0.0, 10_000.0],
    };
    let Some(subject) = start(&ground, Kind::Tidegate) else {
        return;
    };
    let findings = beside(
        &ground,
        subject.as_ref(),
        SiteSettings::default(),
        move |arena| {
            let mut findings = Findings::default();
            under_flood(arena, "it", &config, &mut findings).unwrap();
            findings
        },
    );
    let value = |metric: &str| {
        let row = findings.measured.iter().find(|row| row.metric == metric);
        row.unwrap_or_else(|| panic!("{metric}")).value
    };
    assert_eq!(value("success_ratio_at_0_per_s"), 1.0, "{findings:?}");
    assert!(
        value("success_ratio_at_10000_per_s") >= 0.99,
        "{findings:?}"
    );
    assert!(
        value("flood_sent_per_s_at_10000_per_s") > 1_000.0,
        "{findings:?}"
    );
    assert_eq!(value("flood_syns_arrived_at_10000_per_s"), 0.0);
}
