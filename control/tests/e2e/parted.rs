//! Guards between routers that spray, whose replication link is cut or slow, or one of which
//! stalls: what each says of itself, and what becomes of the connections. // CASES 17

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::address::client;
use lab::command::{tell, wait_until};
use lab::daemon::Daemon;
use lab::lock::Exclusive;
use lab::numbered::{self, Count, End, Held, Load, Server, Settings};
use lab::profile::Profile;
use lab::server::Site;
use lab::sprayed::Sprayed;
use lab::{Error, Forwarder, Namespace, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use simulator::LinkSettings;

use crate::common::{FAMILIES, SOON, TIDEGATE};

const GUARDS: u8 = 3;
/// The one that is cut off, has the slow link, or stalls.
const ODD: u8 = 2;
/// How long guards may take to see that they see each other, on a machine with much to do.
const MEETING: Duration = Duration::from_secs(15);
/// How long a trouble may be felt when it is over.
const RECOVERY: Duration = Duration::from_secs(5);
const MS: u64 = 1_000_000;

/// Three guards, and a server that counts. The daemons go first, the machine's lock last.
struct Site3 {
    daemons: Vec<Daemon>,
    server: Server,
    lab: Sprayed,
    _exclusive: Exclusive,
}

impl Site3 {
    /// Builds the lab, prepares its links, and starts the guards, whose `replication` section has
    /// these lines more.
    fn start(
        replication: &str,
        sync: Option<LinkSettings>,
    ) -> (Self, Option<lab::emulator::Emulator>) {
        let exclusive = lab::exclusive().unwrap();
        let site = Site::write(1 << 20).unwrap();
        let lab = Sprayed::build(GUARDS, Forwarder::Daemon, &site).unwrap();
        let server = Server::start(&lab.server).unwrap();
        let emulator = sync.map(|link| lab.emulate_sync(ODD, link).unwrap());
        let start = |number: u8| {
            let profile = Profile {
                workers: vec![u32::from(number % 2)],
                ports: vec![80, numbered::PORT],
                ..Profile::default()
            };
            lab.start(number, Path::new(TIDEGATE), &profile, replication)
        };
        let daemons = (1..=GUARDS).map(|number| start(number).unwrap());
        let shared = Self {
            daemons: daemons.collect(),
            server,
            lab,
            _exclusive: exclusive,
        };
        shared.wait_in_step();
        (shared, emulator)
    }

    fn daemon(&self, guard: u8) -> &Daemon {
        &self.daemons[usize::from(guard - 1)]
    }

    /// Waits until a guard says of itself that it stands so.
    fn wait_for_standing(&self, guard: u8, standing: &str, limit: Duration) {
        let what = format!("guard {guard} to be {standing}");
        wait_until(&what, limit, || {
            let peers = self.daemon(guard).show("peers")?;
            match peers["standing"].as_str() {
                Some(there) if there == standing => Ok(()),
                _ => Err(Error::new(format!(
                    "{} {}",
                    peers["standing"], peers["peers"]
                ))),
            }
        })
        .unwrap();
    }

    fn wait_in_step(&self) {
        for guard in 1..=GUARDS {
            self.wait_for_standing(guard, "in step", MEETING);
        }
    }

    fn spray_over_all(&self) {
        let all: Vec<u8> = (1..=GUARDS).collect();
        self.lab.spray_over(&all).unwrap();
    }

    /// Exit code and output of `tidegate show peers --check`.
    fn check(&self, guard: u8) -> (Option<i32>, String) {
        let output = Command::new(TIDEGATE)
            .args(["show", "peers", "--check", "--socket"])
            .arg(self.daemon(guard).socket())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    }

    /// So many connections of both families, from addresses of their own.
    fn hold(&self, count: u8) -> Vec<Held> {
        let ends = (0..count).map(|number| client(number / 2)[usize::from(number % 2)]);
        ends.map(|end: IpAddr| Held::open(&self.lab.clients, end, SOON).unwrap())
            .collect()
    }

    /// The sessions that a guard holds for established, by the client's end.
    fn established(&self, guard: u8) -> Result<HashSet<SocketAddr>> {
        let text = self
            .daemon(guard)
            .control(&["show", "sessions", "--json", "--limit", "100000"])?;
        let shown: Value =
            serde_json::from_str(&text).map_err(|e| Error::because("show sessions", e))?;
        let rows = shown["sessions"].as_array().into_iter().flatten();
        let ours = rows.filter(|row| {
            row["state"] == "established" && row["server_port"] == u64::from(numbered::PORT)
        });
        ours.map(|row| {
            let address = row["client"].as_str().and_then(|text| text.parse().ok());
            let port = row["client_port"].as_u64().map(u16::try_from);
            match (address, port) {
                (Some(address), Some(Ok(port))) => Ok(SocketAddr::new(address, port)),
                _ => Err(Error::new(format!("no client in {row}"))),
            }
        })
        .collect()
    }

    /// Established sessions of a guard that neither the client's nor the server's kernel has.
    fn ghosts(&self) -> Result<()> {
        let mut ghosts = Vec::new();
        for guard in 1..=GUARDS {
            let established = self.established(guard)?;
            let clients = sockets(&self.lab.clients)?;
            let servers = sockets(&self.lab.server)?;
            let is_ghost = |end: &&SocketAddr| !clients.has(end) && !servers.has(end);
            let found: Vec<_> = established.iter().filter(is_ghost).collect();
            if let Some(first) = found.first() {
                ghosts.push(format!(
                    "guard {guard} has {} of {}, such as {first}",
                    found.len(),
                    established.len()
                ));
            }
        }
        match ghosts.as_slice() {
            [] => Ok(()),
            _ => Err(Error::new(ghosts.join("; "))),
        }
    }

    /// Where guards get no processor for longer than `hold_ms`, a request may yet be served twice. What
    /// these tests are for repeats some of each hundred.
    fn repeats_hardly_any(&self) {
        let repeated = self.server.repeated();
        assert!(repeated.len() <= 3, "{repeated:?}");
    }

    fn wait_for_no_ghost(&self) {
        wait_until("the end of sessions that nobody has", RECOVERY, || {
            self.ghosts()
        })
        .unwrap();
    }

    /// Waits until every guard has these sessions as established.
    fn wait_until_known(&self, ends: &[SocketAddr]) {
        wait_until("all sessions at every guard", RECOVERY, || {
            for guard in 1..=GUARDS {
                let established = self.established(guard)?;
                let lacking: Vec<_> = ends
                    .iter()
                    .filter(|end| !established.contains(end))
                    .collect();
                if let Some(first) = lacking.first() {
                    return Err(Error::new(format!(
                        "guard {guard} lacks {} of {}, such as {first}",
                        lacking.len(),
                        ends.len()
                    )));
                }
            }
            Ok(())
        })
        .unwrap();
    }

    /// Lets clients ask for a while, and tells what became of it.
    fn load(&self, settings: &Settings, time: Duration) -> (Vec<numbered::Asked>, Count) {
        let began = Instant::now();
        let load = Load::start(&self.lab.clients, settings).unwrap();
        std::thread::sleep(time);
        let asked = load.stop().unwrap();
        let count = Count::of(&asked, began..Instant::now(), &self.server);
        (asked, count)
    }
}

/// The connections that a kernel has, by the client's end.
struct Sockets(HashSet<SocketAddr>);

impl Sockets {
    fn has(&self, end: &SocketAddr) -> bool {
        self.0.contains(end)
    }
}

/// Those with the counting server, in any state but TIME-WAIT.
fn sockets(namespace: &Namespace) -> Result<Sockets> {
    let text = namespace.run("ss", &["-Htan"])?;
    let mut ends = HashSet::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[state, _, _, local, other, ..] = fields.as_slice() else {
            continue;
        };
        if ["LISTEN", "TIME-WAIT"].contains(&state) {
            continue;
        }
        let read = |text: &str| {
            let end = text.parse::<SocketAddr>();
            let end = end.map_err(|e| Error::because(format!("ss said {line:?}"), e))?;
            Ok::<_, Error>(SocketAddr::new(end.ip().to_canonical(), end.port()))
        };
        let (local, other) = (read(local)?, read(other)?);
        if other.port() == numbered::PORT {
            ends.insert(local);
        } else if local.port() == numbered::PORT {
            ends.insert(other);
        }
    }
    Ok(Sockets(ends))
}

/// Requests that give up soon, so that a test does.
fn hasty() -> Settings {
    Settings {
        limit: Duration::from_secs(8),
        ..Settings::default()
    }
}

/// Lets clients ask for so long, and holds the guards to have lost nothing and to hold nothing that
/// nobody has. `TIDEGATE_LOAD_S` says for how many seconds instead.
fn loses_nothing_and_keeps_nothing(shared: &Site3, settings: &Settings, seconds: u64) {
    let seconds = match std::env::var("TIDEGATE_LOAD_S") {
        Ok(text) => text
            .parse()
            .expect("TIDEGATE_LOAD_S is a number of seconds"),
        Err(_) => seconds,
    };
    let (_, count) = shared.load(settings, Duration::from_secs(seconds));
    tell(&format!("{count}"));
    assert!(count.asked > 200, "{count}");
    assert_eq!(count.served, count.asked, "{count}");
    shared.wait_for_no_ghost();
    shared.repeats_hardly_any();
}

#[test]
fn nothing_remains_of_connections_when_nothing_is_wrong() {
    let (shared, _) = Site3::start("", None);
    for client_closes in [false, true] {
        let settings = Settings {
            client_closes,
            ..hasty()
        };
        loses_nothing_and_keeps_nothing(&shared, &settings, 3);
    }
}

#[test]
fn nothing_remains_of_connections_that_are_told_before_they_are_open() {
    let (shared, _) = Site3::start("  share: begun\n", None);
    loses_nothing_and_keeps_nothing(&shared, &hasty(), 3);
}

#[test]
fn nothing_remains_where_a_third_of_the_records_is_lost() {
    let link = LinkSettings {
        loss: 0.3,
        ..LinkSettings::default()
    };
    let (shared, _emulator) = Site3::start("", Some(link));
    loses_nothing_and_keeps_nothing(&shared, &hasty(), 4);
}

#[test]
fn k5_a_guard_that_is_cut_off_says_so() {
    let (shared, _) = Site3::start("", None);
    for guard in 1..=GUARDS {
        let (code, said) = shared.check(guard);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("in step"), "{said}");
    }
    shared.lab.set_sync(ODD, false).unwrap();
    shared.wait_for_standing(ODD, "cut off", RECOVERY);
    let (code, said) = shared.check(ODD);
    assert_eq!((code, said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.contains("cut off"), "{said}");
    let peers = shared.daemon(ODD).show("peers").unwrap();
    assert_eq!(peers["in_step"], false);
    assert_eq!(peers["may_carry"], false);
    for guard in [1, 3] {
        shared.wait_for_standing(guard, "degraded", RECOVERY);
        assert_eq!(shared.check(guard).0, Some(0));
        assert_eq!(
            shared.daemon(guard).show("peers").unwrap()["in_step"],
            false
        );
    }
    shared.lab.set_sync(ODD, true).unwrap();
    shared.wait_in_step();
    for guard in 1..=GUARDS {
        assert_eq!(shared.check(guard).0, Some(0));
    }
    let log = shared.daemon(ODD).log_text();
    for line in ["WARN", "This guard is cut off", "This guard is in step"] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}

#[test]
fn a_guard_that_stalls_is_found_by_its_check_and_by_the_others() {
    let (shared, _) = Site3::start("", None);
    shared.daemon(ODD).signal(Signal::SIGSTOP).unwrap();
    for guard in [1, 3] {
        shared.wait_for_standing(guard, "degraded", RECOVERY);
    }
    assert_eq!(shared.check(ODD), (Some(1), String::new()));
    shared.daemon(ODD).signal(Signal::SIGCONT).unwrap();
    shared.wait_in_step();
    assert_eq!(shared.check(ODD).0, Some(0));
}

#[test]
fn k1_what_opens_and_ends_in_a_cut_is_known_after_it() {
    let (shared, _) = Site3::start("", None);
    let mut open = shared.hold(24);
    let ends = |open: &[Held]| open.iter().map(|held| held.client).collect::<Vec<_>>();
    shared.wait_until_known(&ends(&open));
    let (_, before) = shared.load(&hasty(), Duration::from_secs(2));
    assert_eq!(before.served, before.asked, "{before}");

    shared.lab.set_sync(ODD, false).unwrap();
    shared.wait_for_standing(ODD, "cut off", RECOVERY);
    // Routers that prefer one part lose nothing; some connections end and some begin there.
    for part in [&[1, 3][..], &[ODD]] {
        shared.lab.spray_over(part).unwrap();
        let closed: Vec<Held> = open.drain(..8).collect();
        let gone = ends(&closed);
        drop(closed);
        wait_until("the kernels to be done with them", RECOVERY, || {
            let clients = sockets(&shared.lab.clients)?;
            let servers = sockets(&shared.lab.server)?;
            let left = gone
                .iter()
                .filter(|end| clients.has(end) || servers.has(end));
            match left.count() {
                0 => Ok(()),
                left => Err(Error::new(format!("{left} are left"))),
            }
        })
        .unwrap();
        open.extend(shared.hold(8));
    }
    // Routers that spray over both parts lose connections.
    shared.spray_over_all();
    let (_, during) = shared.load(&hasty(), Duration::from_secs(2));
    // What all knew before goes on.
    for held in &mut open[..8] {
        held.ask(RECOVERY).unwrap();
    }
    shared.lab.set_sync(ODD, true).unwrap();
    shared.wait_in_step();
    tell(&format!(
        "k1: before the cut: {before}; sprayed over both parts: {during}"
    ));

    shared.wait_until_known(&ends(&open));
    shared.wait_for_no_ghost();
    for guard in 1..=GUARDS {
        shared.lab.spray_over(&[guard]).unwrap();
        for held in &mut open {
            held.ask(RECOVERY).unwrap();
        }
    }
    shared.spray_over_all();
    let (_, after) = shared.load(&hasty(), Duration::from_secs(2));
    assert_eq!((after.served, after.twice), (after.asked, 0), "{after}");
}

#[test]
fn k2_a_slow_replication_link_leaves_no_session_that_nobody_has() {
    let link = LinkSettings {
        delay_ns: 50 * MS,
        ..LinkSettings::default()
    };
    let (shared, _emulator) = Site3::start("", Some(link));
    let settings = Settings {
        ports: Some(20_000..20_004),
        ..hasty()
    };
    let (asked, count) = shared.load(&settings, Duration::from_secs(5));
    let failures = asked.iter().filter_map(|it| match &it.end {
        End::Failed(reason) => Some(format!("{} {reason}", it.client)),
        End::Served | End::Hung => None,
    });
    let failures: Vec<_> = failures.collect();
    tell(&format!(
        "k2: ports used again and again: {count} {failures:?}"
    ));
    shared.wait_for_no_ghost();
    shared.repeats_hardly_any();

    // Once nothing is left of them, all ports are as good as new.
    let clients = sockets(&shared.lab.clients).unwrap();
    let servers = sockets(&shared.lab.server).unwrap();
    let used: HashSet<SocketAddr> = asked.iter().map(|it| it.client).collect();
    let free: Vec<_> = used
        .iter()
        .copied()
        .filter(|end| !clients.has(end) && !servers.has(end))
        .collect();
    assert!(free.len() * 2 > used.len(), "{free:?} of {used:?}");
    let again = numbered::ask_from(&shared.lab.clients, &free, SOON).unwrap();
    let bad: Vec<_> = again.iter().filter(|it| it.end != End::Served).collect();
    assert!(bad.is_empty(), "{} of {}: {bad:?}", bad.len(), free.len());
}

#[test]
fn k3_deferred_sessions_leave_none_that_nobody_has() {
    let (shared, _) = Site3::start("  share: deferred\n", None);
    loses_nothing_and_keeps_nothing(&shared, &hasty(), 4);
}

#[test]
fn k4_a_stall_repeats_hardly_a_request_and_holds_none_up_for_long() {
    let (shared, _) = Site3::start("", None);
    let began = Instant::now();
    // A server that closes first remembers the connection, and takes no copy of its SYN.
    let settings = Settings {
        threads: 120,
        pause: Duration::from_millis(400),
        client_closes: true,
        ..Settings::default()
    };
    let load = Load::start(&shared.lab.clients, &settings).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    shared.daemon(ODD).signal(Signal::SIGSTOP).unwrap();
    let stalled = Instant::now();
    std::thread::sleep(Duration::from_millis(2_500));
    shared.daemon(ODD).signal(Signal::SIGCONT).unwrap();
    let resumed = Instant::now();
    std::thread::sleep(RECOVERY);
    let asked = load.stop().unwrap();
    let count = |span| Count::of(&asked, span, &shared.server);
    tell(&format!(
        "k4: before the stall: {}; in it: {}; after it: {}",
        count(began..stalled),
        count(stalled..resumed),
        count(resumed..Instant::now())
    ));
    shared.repeats_hardly_any();
    let is_late = |it: &&numbered::Asked| {
        it.end == End::Hung || (it.began < resumed && it.ended > resumed + RECOVERY)
    };
    // A client whose segments all went to the stalled guard waits for its kernel's next try.
    let late = asked.iter().filter(is_late).count() as u64;
    let stalled = count(stalled..resumed);
    assert!(late * 20 <= stalled.asked, "{late} hang: {stalled}");
    shared.wait_in_step();
    shared.wait_for_no_ghost();
    for family in FAMILIES {
        let end = SocketAddr::new(client(0)[family], 0);
        let again = numbered::ask_from(&shared.lab.clients, &[end], SOON).unwrap();
        assert_eq!(again[0].end, End::Served);
    }
}
