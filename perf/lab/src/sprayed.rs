//! A lab in which any packet may take any path: two routers spray the packets of both directions
//! over several guards, each packet by chance.
//!
//! ```text
//!                                 ┌── out0  guard 1  in0 ──┐
//!   clients ─ wan0 … host0 west ──┼── out0  guard 2  in0 ──┼── east host0 … lan0 ─ server
//!                                 └── out0  guard 3  in0 ──┘
//!                                         sync0 of each on a switch
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use simulator::LinkSettings;

use crate::address::{GUARD_INSIDE, GuardNet, ROUTER_NUMBER, SPOOFED, of_guard};
use crate::command::run;
use crate::daemon::{Daemon, Files};
use crate::emulator::{self, Emulator};
use crate::profile::{Among, Profile};
use crate::scratch::Scratch;
use crate::server::{Server, Site};
use crate::topology::{
    EVEN_CLIENTS, EVERYWHERE, Forwarder, ODD_CLIENTS, Options, address, connect_server, join,
    own_clients, prepare, route, silence, switch_between,
};
use crate::{Error, Namespace, Result};

/// The most guards of a lab.
pub const MAXIMUM_GUARDS: u8 = 8;
const MTU_BYTES: u16 = 1500;
/// The router's end of the link to the clients.
const UPLINK_OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(172, 16, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc, 0, 0, 0, 0, 0, 1)),
];
/// The clients' end.
const UPLINK_THEIRS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(172, 16, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc, 0, 0, 0, 0, 0, 2)),
];
pub(crate) const SERVER_NET: [&str; 2] = ["10.0.0.0/24", "fd00:1::/64"];
/// The routing table of guard 1 is the one after this.
const TABLES: u32 = 100;

/// One of the two routers: what comes from its hosts goes to one of the guards by chance.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    guards: u8,
}

/// The lab. Fields are dropped in their order: what runs first, what it runs in last.
#[derive(Debug)]
pub struct Sprayed {
    /// What is served, and by whom.
    pub server_process: Server,
    /// Where clients are: `wan0`, and their addresses on `lo`.
    pub clients: Namespace,
    /// The router before the clients.
    pub west: Router,
    /// The router before the server.
    pub east: Router,
    /// Where daemons belong: `out0`, `in0` and `sync0`, guard 1 first.
    pub guards: Vec<Namespace>,
    /// Where nginx is: `lan0`.
    pub server: Namespace,
    /// What joins the guards' `sync0`.
    pub switch: Namespace,
    /// For profiles, logs and bodies.
    pub scratch: Scratch,
}

impl Sprayed {
    /// Makes the name spaces and links, and starts the server. Packets are sprayed over all guards.
    ///
    /// # Errors
    /// When a step fails, as it does without root, `nft`, or nftables in the kernel.
    pub fn build(guards: u8, forwarder: Forwarder, site: &Arc<Site>) -> Result<Self> {
        if !(1..=MAXIMUM_GUARDS).contains(&guards) {
            return Err(Error::new(format!("1 to {MAXIMUM_GUARDS} guards")));
        }
        let scratch = Scratch::new()?;
        let clients = Namespace::create("clients")?;
        let server = Namespace::create("server")?;
        prepare(&clients)?;
        prepare(&server)?;
        let guards: Vec<Namespace> = (1..=guards)
            .map(|number| Namespace::create(&format!("guard{number}")))
            .collect::<Result<_>>()?;
        for guard in &guards {
            prepare(guard)?;
            if forwarder == Forwarder::Daemon {
                silence(guard)?;
            }
        }
        let west = Router::build("west", (&clients, "wan0"), &guards, GuardNet::Outside)?;
        let east = Router::build("east", (&server, "lan0"), &guards, GuardNet::Inside)?;
        let ends: Vec<_> = guards.iter().map(|guard| (guard, "sync0")).collect();
        let switch = switch_between(&ends, MTU_BYTES)?;
        connect_west(&west, &clients)?;
        connect_east(&east, &server)?;
        if forwarder == Forwarder::Kernel {
            for (number, guard) in (1..).zip(&guards) {
                forward(guard, number)?;
            }
        }
        let all: Vec<u8> = (1..=west.guards).collect();
        west.spray_over(&all)?;
        east.spray_over(&all)?;
        let server_process = Server::start(&server, site, &scratch)?;
        Ok(Self {
            server_process,
            clients,
            west,
            east,
            guards,
            server,
            switch,
            scratch,
        })
    }

    /// How many guards there are room for.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.west.guards
    }

    /// Writes the profile and the keys of guard `number` and starts its daemon.
    ///
    /// # Errors
    /// When it does not answer; the error holds the end of its log.
    pub fn start(
        &self,
        number: u8,
        binary: &Path,
        profile: &Profile,
        more: &str,
    ) -> Result<Daemon> {
        let cookie_keys = self.key(binary, "cookie.key", &[])?;
        let replication_keys = self.key(binary, "replication.key", &["--replication"])?;
        let file = |name: &str| self.scratch.file(&format!("guard{number}.{name}"));
        let files = Files {
            profile: file("yaml"),
            socket: file("sock"),
            log: file("log"),
        };
        let text = profile.text_among(&Among {
            own: number,
            count: self.count(),
            socket: &files.socket,
            cookie_keys: &cookie_keys,
            replication_keys: &replication_keys,
            more,
        });
        let path = &files.profile;
        std::fs::write(path, text).map_err(|e| Error::because(path.display(), e))?;
        Daemon::start_in(self.guard(number)?, binary, files)
    }

    /// Has both routers spray over these guards alone.
    ///
    /// # Errors
    /// When there is none among them, or `nft` fails.
    pub fn spray_over(&self, guards: &[u8]) -> Result<()> {
        self.west.spray_over(guards)?;
        self.east.spray_over(guards)
    }

    /// How many packets each guard was handed by the two routers so far, guard 1 first: from the
    /// clients, from the server.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn handed(&self) -> Result<Vec<[u64; 2]>> {
        let west = self.west.handed()?;
        let east = self.east.handed()?;
        Ok(west.into_iter().zip(east).map(|(w, e)| [w, e]).collect())
    }

    /// Parts a guard's replication link, or joins it again.
    ///
    /// # Errors
    /// When there is no such guard.
    pub fn set_sync(&self, guard: u8, is_up: bool) -> Result<()> {
        let port = sync_port(guard);
        let state = if is_up { "up" } else { "down" };
        self.switch.ip(&format!("link set {port} {state}"))
    }

    /// Puts an emulated link between a guard's `sync0` and the switch, alike in both directions.
    /// Dropping it cuts the guard off.
    ///
    /// # Errors
    /// When there is no such guard, or its link is emulated already.
    pub fn emulate_sync(&self, guard: u8, link: LinkSettings) -> Result<Emulator> {
        let port = sync_port(guard);
        let (near, far) = (format!("near{guard}"), format!("far{guard}"));
        self.switch.ip(&format!("link set {port} nomaster"))?;
        join((&self.switch, &near), (&self.switch, &far), MTU_BYTES)?;
        self.switch.ip(&format!("link set {near} master switch"))?;
        Emulator::start(
            &self.switch,
            emulator::Settings {
                a: far,
                b: port,
                b_vlan: None,
                forward: link,
                backward: link,
                seed: guard.into(),
                seconds: 600,
            },
        )
    }

    fn guard(&self, number: u8) -> Result<&Namespace> {
        usize::from(number)
            .checked_sub(1)
            .and_then(|place| self.guards.get(place))
            .ok_or_else(|| Error::new(format!("there is no guard {number}")))
    }

    fn key(&self, binary: &Path, name: &str, options: &[&str]) -> Result<PathBuf> {
        let path = self.scratch.file(name);
        if !path.exists() {
            run(Command::new(binary).arg("keygen").args(options).arg(&path))?;
        }
        Ok(path)
    }
}

/// The switch's end of a guard's replication link.
fn sync_port(guard: u8) -> String {
    format!("port{}", guard.wrapping_sub(1))
}

impl Router {
    /// A router between its hosts' link and the guards' net.
    fn build(
        role: &str,
        host: (&Namespace, &str),
        guards: &[Namespace],
        net: GuardNet,
    ) -> Result<Self> {
        let namespace = Namespace::create(role)?;
        prepare(&namespace)?;
        namespace.sysctl(&["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
        join((&namespace, "host0"), host, MTU_BYTES)?;
        namespace.ip("link add guards type bridge mcast_snooping 0\nlink set guards up")?;
        address(&namespace, "guards", of_guard(net, ROUTER_NUMBER))?;
        let theirs = if net == GuardNet::Outside {
            "out0"
        } else {
            "in0"
        };
        for (number, guard) in (1_u8..).zip(guards) {
            let port = format!("guard{number}");
            join((&namespace, &port), (guard, theirs), MTU_BYTES)?;
            namespace.ip(&format!("link set {port} master guards"))?;
            route_marked(&namespace, number, of_guard(net, number))?;
        }
        namespace.nft(
            "table inet spray {\n chain choose {\n  type filter hook prerouting priority -150;\n }\n}\n",
        )?;
        let guards = u8::try_from(guards.len()).unwrap_or(MAXIMUM_GUARDS);
        Ok(Self { namespace, guards })
    }

    /// Has what comes from the hosts go to one of these guards by chance, packet by packet.
    ///
    /// # Errors
    /// When there is none, or `nft` fails.
    pub fn spray_over(&self, guards: &[u8]) -> Result<()> {
        let choice = match guards {
            [] => return Err(Error::new("no guard is left to spray over")),
            [only] => only.to_string(),
            several => {
                let map: Vec<String> = (0..)
                    .zip(several)
                    .map(|(place, guard): (u8, _)| format!("{place} : {guard}"))
                    .collect();
                let count = several.len();
                format!("numgen random mod {count} map {{ {} }}", map.join(", "))
            }
        };
        self.namespace.nft(&format!(
            "flush chain inet spray choose\n\
             add rule inet spray choose iifname \"host0\" meta mark set {choice}\n"
        ))
    }

    /// The hardware address of its port towards its hosts.
    ///
    /// # Errors
    /// When the port is gone.
    pub fn hardware_address(&self) -> Result<[u8; 6]> {
        self.namespace
            .within(|| crate::socket::hardware_address("host0"))?
    }

    /// How many frames it has handed to each guard, guard 1 first.
    fn handed(&self) -> Result<Vec<u64>> {
        let text = self.namespace.run("ip", &["-json", "-s", "link", "show"])?;
        let links: Value =
            serde_json::from_str(&text).map_err(|e| Error::because("ip -json -s link", e))?;
        (1..=self.guards)
            .map(|number| {
                let name = format!("guard{number}");
                let links = links.as_array().into_iter().flatten();
                let mut named = links.filter(|link| link["ifname"] == name.as_str());
                named
                    .next()
                    .and_then(|link| link["stats64"]["tx"]["packets"].as_u64())
                    .ok_or_else(|| Error::new(format!("no counter of {name}")))
            })
            .collect()
    }
}

/// What bears a guard's mark goes to that guard.
fn route_marked(router: &Namespace, guard: u8, hops: [IpAddr; 2]) -> Result<()> {
    let (mark, table) = (guard.to_string(), (TABLES + u32::from(guard)).to_string());
    for (family, hop) in ["-4", "-6"].into_iter().zip(hops) {
        let via = hop.to_string();
        router.run(
            "ip",
            &[
                family, "route", "add", "default", "via", &via, "table", &table,
            ],
        )?;
        router.run(
            "ip",
            &[family, "rule", "add", "fwmark", &mark, "table", &table],
        )?;
    }
    Ok(())
}

fn connect_west(west: &Router, clients: &Namespace) -> Result<()> {
    address(&west.namespace, "host0", UPLINK_OURS)?;
    address(clients, "wan0", UPLINK_THEIRS)?;
    own_clients(clients, &[0, 1])?;
    for nets in [EVEN_CLIENTS, ODD_CLIENTS] {
        route(&west.namespace, nets, UPLINK_THEIRS)?;
    }
    // What answers a spoofed source goes nowhere.
    let [ipv4, ipv6] = SPOOFED;
    west.namespace.ip(&format!(
        "route add blackhole {ipv4}\nroute add blackhole {ipv6}"
    ))?;
    route(clients, EVERYWHERE, UPLINK_OURS)
}

fn connect_east(east: &Router, server: &Namespace) -> Result<()> {
    address(&east.namespace, "host0", GUARD_INSIDE)?;
    connect_server(server, &Options::default())
}

/// A guard's kernel forwards in its place.
fn forward(guard: &Namespace, number: u8) -> Result<()> {
    guard.sysctl(&["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
    address(guard, "out0", of_guard(GuardNet::Outside, number))?;
    address(guard, "in0", of_guard(GuardNet::Inside, number))?;
    route(
        guard,
        EVERYWHERE,
        of_guard(GuardNet::Outside, ROUTER_NUMBER),
    )?;
    route(guard, SERVER_NET, of_guard(GuardNet::Inside, ROUTER_NUMBER))
}
