//! Each subject stands between two devices, carries what it should, is proved to have done so, and
//! is gone without a trace.

mod memif;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::Namespace;
use perf::subjects::{Cores, Ground, Job, Kind, Over, Seen, Settings, StartError, Subject, prove};
use perf::wiring::{Side, Wiring};

/// How often each exchange is made.
const TIMES: u64 = 20;
const LIMIT: Duration = Duration::from_secs(3);

fn ground(over: Over, job: Job) -> Ground {
    let settings = Settings {
        over,
        job,
        ..Settings::default()
    };
    Ground::new(settings, Cores::choose()).unwrap()
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

/// Kernels in the tester's place: clients where the outside device is, servers with the inside one
/// in a name space of their own.
struct Kernels {
    clients: [IpAddr; 2],
    servers: [IpAddr; 2],
    namespace: Namespace,
}

/// The name of the interface behind a device.
fn interface(side: &Side) -> String {
    let (_, rest) = side.device.split_once("iface=").unwrap();
    rest.split(',').next().unwrap().to_owned()
}

fn kernels(ground: &Ground, wiring: &Wiring) -> Kernels {
    let tester = ground.tester();
    let namespace = Namespace::create("servers").unwrap();
    lab::topology::prepare(&namespace).unwrap();
    let (outside, inside) = (interface(&wiring.outside), interface(&wiring.inside));
    tester
        .ip(&format!("link set {inside} netns {}", namespace.name()))
        .unwrap();
    tester
        .sysctl(&[&format!("net.ipv6.conf.{outside}.disable_ipv6=0")])
        .unwrap();
    // An interface that changes its name space is down there.
    namespace.ip(&format!("link set {inside} up")).unwrap();
    let own = |network: &ipnetwork::IpNetwork| network.iter().nth(1).unwrap();
    let clients: Vec<IpAddr> = wiring.outside.networks.iter().map(own).collect();
    let servers: Vec<IpAddr> = wiring
        .inside
        .networks
        .iter()
        .map(ipnetwork::IpNetwork::ip)
        .collect();
    let ends = [
        (tester, &outside, &wiring.outside, &clients),
        (&namespace, &inside, &wiring.inside, &servers),
    ];
    for (namespace, interface, side, addresses) in ends {
        for address in &side.addresses {
            let nodad = if address.is_ipv6() { " nodad" } else { "" };
            namespace
                .ip(&format!("addr add {address} dev {interface}{nodad}"))
                .unwrap();
        }
        for address in addresses.iter() {
            let nodad = if address.is_ipv6() { " nodad" } else { "" };
            namespace
                .ip(&format!("addr add {address} dev {interface}{nodad}"))
                .unwrap();
        }
        for (family, everywhere) in [(0, "0.0.0.0/0"), (1, "::/0")] {
            // Without a subject that has addresses, everything is on the link.
            let way = side.gateways.get(family);
            let way = way.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let route = format!("route add {everywhere}{way} dev {interface}");
            namespace.ip(&route).unwrap();
        }
    }
    let of =
        |addresses: &[IpAddr], is_ipv6| *addresses.iter().find(|a| a.is_ipv6() == is_ipv6).unwrap();
    Kernels {
        clients: [false, true].map(|is_ipv6| of(&clients, is_ipv6)),
        servers: [false, true].map(|is_ipv6| of(&servers, is_ipv6)),
        namespace,
    }
}

/// Answers datagrams with themselves, in both families, until it is told to stop.
fn echo(kernels: &Kernels, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<lab::Result<()>>> {
    let answer = |address: IpAddr| {
        let stop = Arc::clone(stop);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let work = move || {
            let socket = UdpSocket::bind((address, 7)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            ready.send(()).unwrap();
            let mut buffer = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).unwrap();
                }
            }
        };
        let thread = kernels.namespace.thread(work).unwrap();
        is_ready.recv().unwrap();
        thread
    };
    kernels.servers.map(answer).into()
}

/// Sends datagrams and waits for each to come back; how many did.
fn exchange(ground: &Ground, kernels: &Kernels) -> u64 {
    let pairs = [0, 1].map(|family| (kernels.clients[family], kernels.servers[family]));
    let work = move || {
        let mut back = 0;
        for (client, server) in pairs {
            let socket = UdpSocket::bind((client, 0)).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket.connect((server, 7)).unwrap();
            for number in 0..TIMES {
                socket.send(&number.to_be_bytes()).unwrap();
                let mut buffer = [0; 8];
                let length = socket
                    .recv(&mut buffer)
                    .unwrap_or_else(|error| panic!("{server}: {error}"));
                back += u64::from(buffer[..length] == number.to_be_bytes());
            }
        }
        back
    };
    ground.tester().within(work).unwrap()
}

/// Serves TCP in both families: a name is answered with a greeting.
fn serve(kernels: &Kernels, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<lab::Result<()>>> {
    let answer = |address: IpAddr| {
        let stop = Arc::clone(stop);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let work = move || {
            let listener = TcpListener::bind((address, 80)).unwrap();
            listener.set_nonblocking(true).unwrap();
            ready.send(()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let mut name = [0; 4];
                if stream.read_exact(&mut name).is_ok() {
                    let _ = stream.write_all(&[b"hello ", &name[..]].concat());
                }
            }
        };
        let thread = kernels.namespace.thread(work).unwrap();
        is_ready.recv().unwrap();
        thread
    };
    kernels.servers.map(answer).into()
}

/// Connects, and is greeted; how often.
fn greet(ground: &Ground, kernels: &Kernels) -> u64 {
    let servers = kernels.servers;
    let work = move || {
        let mut greeted = 0;
        for server in servers {
            for _ in 0..TIMES {
                let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, 80), LIMIT)
                    .unwrap_or_else(|error| panic!("{server}: {error}"));
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream.write_all(b"fred").unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("a greeting");
                greeted += u64::from(text == "hello fred");
            }
        }
        greeted
    };
    ground.tester().within(work).unwrap()
}

fn finish(stop: &AtomicBool, threads: Vec<JoinHandle<lab::Result<()>>>) {
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
}

fn forwards_over_veth(kind: Kind) {
    let _exclusive = lab::exclusive().unwrap();
    let ground = ground(Over::Veth, Job::Forward);
    let Some(mut subject) = start(&ground, kind) else {
        return;
    };
    let kernels = kernels(&ground, subject.wiring());
    let stop = Arc::default();
    let threads = echo(&kernels, &stop);
    let back = if kind == Kind::Bare {
        // Half of the link has gone to the servers: its counters are not where they are looked for.
        exchange(&ground, &kernels)
    } else {
        let before = subject.account().unwrap();
        let back = exchange(&ground, &kernels);
        let after = subject.account().unwrap();
        let seen = Seen {
            sent_frames: 2 * back,
            carried_frames: Some(2 * back),
            connections: 0,
        };
        prove(kind, &before, &after, &seen).unwrap();
        // Nobody can claim ten times that.
        let seen = Seen {
            carried_frames: Some(20 * back),
            ..seen
        };
        prove(kind, &before, &after, &seen).unwrap_err();
        back
    };
    assert_eq!(back, 2 * TIMES);
    assert!(
        subject.version().contains(|c: char| c.is_ascii_digit()),
        "{subject:?}"
    );
    finish(&stop, threads);
}

#[test]
fn tidegate_forwards_over_veth() {
    forwards_over_veth(Kind::Tidegate);
}

#[test]
fn the_kernel_forwards_over_veth() {
    forwards_over_veth(Kind::Kernel);
}

#[test]
fn the_bare_link_carries_over_veth() {
    forwards_over_veth(Kind::Bare);
}

fn guards_over_veth(kind: Kind) {
    let _exclusive = lab::exclusive().unwrap();
    let ground = ground(Over::Veth, Job::Guard);
    let Some(mut subject) = start(&ground, kind) else {
        return;
    };
    let kernels = kernels(&ground, subject.wiring());
    let stop = Arc::default();
    let threads = serve(&kernels, &stop);
    let before = subject.account().unwrap();
    let greeted = greet(&ground, &kernels);
    assert_eq!(greeted, 2 * TIMES);
    let after = subject.account().unwrap();
    let seen = Seen {
        sent_frames: 8 * greeted,
        carried_frames: None,
        connections: greeted,
    };
    prove(kind, &before, &after, &seen).unwrap();
    let seen = Seen {
        connections: greeted + 1,
        ..seen
    };
    let error = prove(kind, &before, &after, &seen).unwrap_err();
    assert!(error.to_string().contains(kind.name()), "{error}");
    finish(&stop, threads);
}

#[test]
fn tidegate_guards_over_veth() {
    guards_over_veth(Kind::Tidegate);
}

#[test]
fn synproxy_guards_over_veth() {
    guards_over_veth(Kind::Synproxy);
}

#[test]
fn haproxy_guards_over_veth() {
    guards_over_veth(Kind::Haproxy);
}

#[test]
fn a_subject_that_is_not_in_the_path_is_found_out() {
    let _exclusive = lab::exclusive().unwrap();
    let ground = ground(Over::Veth, Job::Forward);
    let mut idle = ground.start(Kind::Tidegate).unwrap();
    let mut subject = ground.start(Kind::Kernel).unwrap();
    let kernels = kernels(&ground, subject.wiring());
    let stop = Arc::default();
    let threads = echo(&kernels, &stop);
    let before = [idle.account().unwrap(), subject.account().unwrap()];
    let back = exchange(&ground, &kernels);
    let seen = Seen {
        sent_frames: 2 * back,
        carried_frames: Some(2 * back),
        connections: 0,
    };
    let after = [idle.account().unwrap(), subject.account().unwrap()];
    prove(Kind::Kernel, &before[1], &after[1], &seen).unwrap();
    let error = prove(Kind::Tidegate, &before[0], &after[0], &seen).unwrap_err();
    assert!(
        error.to_string().contains("not proved to be in the path"),
        "{error}"
    );
    finish(&stop, threads);
}

#[test]
fn nothing_of_a_subject_stays_behind() {
    let _exclusive = lab::exclusive().unwrap();
    for (over, job, kinds) in [
        (
            Over::Memif,
            Job::Forward,
            vec![Kind::Tidegate, Kind::TestpmdMac],
        ),
        (
            Over::Veth,
            Job::Guard,
            vec![Kind::Tidegate, Kind::Haproxy, Kind::Synproxy, Kind::Bare],
        ),
    ] {
        let ground = ground(over, job);
        let mut absent = Vec::new();
        // They are at rest: who is stopped must end, too.
        let subjects = ground
            .start_all(&kinds, |who| absent.push(who.subject))
            .unwrap();
        assert_eq!(subjects.len() + absent.len(), kinds.len());
        assert!(!lab::namespace::left_behind().is_empty());
        let own = std::process::id().to_string();
        assert!(!children(&own).is_empty());
        drop(subjects);
        drop(ground);
        assert_eq!(lab::namespace::left_behind(), Vec::<String>::new());
        assert_eq!(children(&own), Vec::<String>::new());
    }
}

/// The processes that a process has started and that still are.
fn children(of: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let is_child = |stat: &String| {
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(1) == Some(of)
    };
    stats.filter(is_child).collect()
}
