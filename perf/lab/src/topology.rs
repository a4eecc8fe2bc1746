//! The name spaces and the links between them.
//!
//! ```text
//!   clients                       guard                     server
//!   client addresses on lo
//!   wan0 192.0.2.254 ─────────── out0   in0 ─────────────── lan0 10.0.0.10
//! ```
//!
//! With [`Options::link`] a name space with the link emulator stands between clients and guard,
//! and so it does where the guard's frames are tagged, since not every kernel knows 802.1Q; with [`Options::second_router`] a switch, and a second name space of clients behind it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use simulator::LinkSettings;

use crate::address::{CLIENTS, GUARD_INSIDE, GUARD_OUTSIDE, ROUTER, SECOND_ROUTER, SERVER, client};
use crate::emulator::{self, Emulator};
use crate::scratch::Scratch;
use crate::server::{Server, Site};
use crate::{Namespace, Result};

/// What the lab looks like.
#[derive(Clone, Debug)]
pub struct Options {
    /// The 802.1Q identifier of frames at the guard's outside port. Not with a second router.
    pub outside_vlan: Option<u16>,
    /// The 802.1Q identifier of frames at the guard's inside port.
    pub inside_vlan: Option<u16>,
    /// A link to emulate between clients and guard, alike in both directions. Not with a second
    /// router.
    pub link: Option<LinkSettings>,
    /// Whether odd clients are behind a second router.
    pub second_router: bool,
    /// Whether the guard is a transparent wire, and its `echo`: clients and server are then on one
    /// net, whose frames bear the same tag on both sides. Not with a second router.
    pub wire: Option<&'static str>,
    /// The largest IP packet on the outside link, in bytes.
    pub outside_mtu_bytes: u16,
    /// The largest IP packet on the inside link, in bytes.
    pub inside_mtu_bytes: u16,
    /// How many connections the server's kernel keeps half open, and waiting for `accept`.
    pub server_backlog: u32,
    /// Whether the server's kernel defends itself by SYN cookies.
    pub server_syn_cookies: bool,
}

impl Default for Options {
    /// Plain links, and a server without SYN cookies.
    fn default() -> Self {
        Self {
            outside_vlan: None,
            inside_vlan: None,
            link: None,
            second_router: false,
            wire: None,
            outside_mtu_bytes: 1500,
            inside_mtu_bytes: 1500,
            server_backlog: 256,
            server_syn_cookies: false,
        }
    }
}

/// What stands between clients and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// The kernel of the guard's name space forwards: the way it is without the guard.
    Kernel,
    /// Nothing yet: the guard's ports are up, and its kernel keeps silent on them.
    Daemon,
}

/// An emulated link and the name space it lives in.
#[derive(Debug)]
pub struct Carrier {
    emulator: Emulator,
    _namespace: Namespace,
}

impl Carrier {
    /// Cuts the link and tells what it has done: forward is towards the guard.
    ///
    /// # Errors
    /// When it could not carry frames.
    pub fn stop(self) -> Result<emulator::Report> {
        self.emulator.stop()
    }
}

/// The lab. Fields are dropped in their order: what runs first, what it runs in last.
#[derive(Debug)]
pub struct Lab {
    /// What is served, and by whom.
    pub server_process: Server,
    /// The emulated link between clients and guard, if there is one.
    pub outside_link: Option<Carrier>,
    /// The emulated link between guard and server, if there is one.
    pub inside_link: Option<Carrier>,
    /// Where clients are: `wan0`, and their addresses on `lo`.
    pub clients: Namespace,
    /// Where odd clients are when there is a second router.
    pub second_clients: Option<Namespace>,
    /// Where the daemon belongs: `out0` and `in0`.
    pub guard: Namespace,
    /// Where nginx is: `lan0`.
    pub server: Namespace,
    /// What joins two routers with the guard.
    _switch: Option<Namespace>,
    /// For profiles, logs and bodies.
    pub scratch: Scratch,
    /// How it was built.
    pub options: Options,
}

impl Lab {
    /// Makes the name spaces and links, and starts the server.
    ///
    /// # Errors
    /// When a step fails, as it does without root.
    pub fn build(options: Options, forwarder: Forwarder, site: &Arc<Site>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let clients = Namespace::create("clients")?;
        let guard = Namespace::create("guard")?;
        let server = Namespace::create("server")?;
        for namespace in [&clients, &guard, &server] {
            prepare(namespace)?;
        }
        let inside_link = connect(
            (&guard, "in0"),
            (&server, "lan0"),
            options.inside_mtu_bytes,
            options.inside_vlan,
            None,
        )?;
        let mtu = options.outside_mtu_bytes;
        let mut second_clients = None;
        let mut outside_link = None;
        let mut switch = None;
        if options.second_router {
            let second = Namespace::create("clients2")?;
            prepare(&second)?;
            let ends = [(&guard, "out0"), (&clients, "wan0"), (&second, "wan0")];
            switch = Some(switch_between(&ends, mtu)?);
            connect_clients(&clients, ROUTER, &[0])?;
            connect_clients(&second, SECOND_ROUTER, &[1])?;
            second_clients = Some(second);
        } else {
            let (vlan, link) = (options.outside_vlan, options.link);
            outside_link = connect((&guard, "out0"), (&clients, "wan0"), mtu, vlan, link)?;
            match options.wire {
                Some(_) => connect_clients_by_wire(&clients)?,
                None => connect_clients(&clients, ROUTER, &[0, 1])?,
            }
        }
        connect_server(&server, &options)?;
        match forwarder {
            Forwarder::Kernel => forward(&guard, &options)?,
            Forwarder::Daemon => silence(&guard)?,
        }
        let server_process = Server::start(&server, site, &scratch)?;
        Ok(Self {
            server_process,
            outside_link,
            inside_link,
            clients,
            second_clients,
            guard,
            server,
            _switch: switch,
            scratch,
            options,
        })
    }

    /// Makes the plain outside link again, whose end at the guard has been deleted.
    ///
    /// # Errors
    /// When it is still there.
    pub fn renew_outside(&self) -> Result<()> {
        let mtu = self.options.outside_mtu_bytes;
        join((&self.guard, "out0"), (&self.clients, "wan0"), mtu)?;
        address(&self.clients, "wan0", ROUTER)?;
        route(&self.clients, EVERYWHERE, GUARD_OUTSIDE)
    }

    /// The lab's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The hardware address of the server: where a flood goes first that passes a wire.
    ///
    /// # Errors
    /// When the server's interface is gone.
    pub fn server_hardware_address(&self) -> Result<[u8; 6]> {
        self.server
            .within(|| crate::socket::hardware_address("lan0"))?
    }

    /// The hardware address of the guard's outside port: where a flood goes first.
    ///
    /// # Errors
    /// When the port is gone.
    pub fn guard_hardware_address(&self) -> Result<[u8; 6]> {
        self.guard
            .within(|| crate::socket::hardware_address("out0"))?
    }
}

/// Kernel variables that every name space has alike, whatever the machine's own are: no waiting for
/// duplicate addresses, no autoconfiguration, no filter that is not the guard's, no memory of
/// earlier connections, Linux's own buffers, and Reno, the one congestion control that every kernel
/// allows every name space.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn prepare(namespace: &Namespace) -> Result<()> {
    namespace.sysctl(&[
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
        "net.ipv4.tcp_no_metrics_save=1",
        "net.ipv4.tcp_congestion_control=reno",
        "net.ipv4.tcp_rmem=4096 131072 6291456",
        "net.ipv4.tcp_wmem=4096 16384 4194304",
        "net.ipv6.conf.all.accept_dad=0",
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.default.dad_transmits=0",
        "net.ipv6.conf.all.accept_ra=0",
        "net.ipv6.conf.default.accept_ra=0",
    ])
}

/// Makes a link between two name spaces and switches off what would let a kernel leave
/// checksums and segments unfinished.
///
/// # Errors
/// When `ip` or `ethtool` fails, or a name is taken.
pub fn join(one: (&Namespace, &str), other: (&Namespace, &str), mtu_bytes: u16) -> Result<()> {
    one.0.ip(&format!(
        "link add {} mtu {mtu_bytes} type veth peer name {} mtu {mtu_bytes} netns {}",
        one.1,
        other.1,
        other.0.name()
    ))?;
    for (namespace, interface) in [one, other] {
        finish_in_software(namespace, interface)?;
        namespace.ip(&format!("link set {interface} txqueuelen 1000 up"))?;
    }
    Ok(())
}

fn finish_in_software(namespace: &Namespace, interface: &str) -> Result<()> {
    let offloads = ["rx", "tx", "sg", "tso", "gso", "gro"];
    let switches = offloads.iter().flat_map(|&name| [name, "off"]);
    let arguments: Vec<&str> = ["-K", interface].into_iter().chain(switches).collect();
    namespace.run("ethtool", &arguments).map(drop)
}

/// A switch that joins the given interfaces.
pub(crate) fn switch_between(ends: &[(&Namespace, &str)], mtu_bytes: u16) -> Result<Namespace> {
    let switch = Namespace::create("switch")?;
    prepare(&switch)?;
    switch.sysctl(&["net.ipv6.conf.all.disable_ipv6=1"])?;
    switch.ip("link add switch type bridge mcast_snooping 0\nlink set switch up")?;
    for (number, end) in ends.iter().enumerate() {
        let port = format!("port{number}");
        join((&switch, &port), *end, mtu_bytes)?;
        switch.ip(&format!("link set {port} master switch"))?;
    }
    Ok(switch)
}

/// Joins the guard's interface with its peer through an emulated link whose side towards the
/// guard is tagged, or by a plain link when neither is asked for.
fn connect(
    guard: (&Namespace, &str),
    peer: (&Namespace, &str),
    mtu_bytes: u16,
    vlan: Option<u16>,
    link: Option<LinkSettings>,
) -> Result<Option<Carrier>> {
    if vlan.is_none() && link.is_none() {
        return join(guard, peer, mtu_bytes).map(|()| None);
    }
    let namespace = Namespace::create("link")?;
    prepare(&namespace)?;
    namespace.sysctl(&["net.ipv6.conf.all.disable_ipv6=1"])?;
    join((&namespace, "far0"), peer, mtu_bytes)?;
    join((&namespace, "near0"), guard, mtu_bytes)?;
    let settings = link.unwrap_or_default();
    let emulator = Emulator::start(
        &namespace,
        emulator::Settings {
            a: "far0".to_owned(),
            b: "near0".to_owned(),
            b_vlan: vlan,
            forward: settings,
            backward: settings,
            seed: 1,
            seconds: 600,
        },
    )?;
    Ok(Some(Carrier {
        emulator,
        _namespace: namespace,
    }))
}

/// Gives an interface its addresses, /24 and /64.
///
/// # Errors
/// When it has one of them, or there is no such interface.
pub fn address(namespace: &Namespace, interface: &str, addresses: [IpAddr; 2]) -> Result<()> {
    let [ipv4, ipv6] = addresses;
    namespace.ip(&format!(
        "addr add {ipv4}/24 dev {interface}\naddr add {ipv6}/64 dev {interface} nodad"
    ))
}

/// Routes both families.
///
/// # Errors
/// When there is such a route, or the gateway cannot be reached.
pub fn route(namespace: &Namespace, to: [&str; 2], via: [IpAddr; 2]) -> Result<()> {
    namespace.ip(&format!(
        "route add {} via {}\nroute add {} via {}",
        to[0], via[0], to[1], via[1]
    ))
}

pub(crate) const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
pub(crate) const EVEN_CLIENTS: [&str; 2] = ["198.51.100.0/24", "2001:db8:2::/64"];
pub(crate) const ODD_CLIENTS: [&str; 2] = ["203.0.113.0/24", "2001:db8:3::/64"];

/// The clients whose number leaves `rest` when divided by two, of both families.
fn connect_clients(clients: &Namespace, router: [IpAddr; 2], rests: &[u8]) -> Result<()> {
    address(clients, "wan0", router)?;
    route(clients, EVERYWHERE, GUARD_OUTSIDE)?;
    own_clients(clients, rests)
}

/// The clients' router stands on the server's own net, as its default route.
fn connect_clients_by_wire(clients: &Namespace) -> Result<()> {
    address(clients, "wan0", GUARD_INSIDE)?;
    own_clients(clients, &[0, 1])
}

/// Gives the name space the addresses of those clients.
pub(crate) fn own_clients(clients: &Namespace, rests: &[u8]) -> Result<()> {
    for number in (0..CLIENTS).filter(|number| rests.contains(&(number % 2))) {
        let [ipv4, ipv6] = client(number);
        clients.ip(&format!(
            "addr add {ipv4}/32 dev lo\naddr add {ipv6}/128 dev lo nodad"
        ))?;
    }
    Ok(())
}

pub(crate) fn connect_server(server: &Namespace, options: &Options) -> Result<()> {
    server.sysctl(&[
        &format!(
            "net.ipv4.tcp_syncookies={}",
            u8::from(options.server_syn_cookies)
        ),
        &format!("net.ipv4.tcp_max_syn_backlog={}", options.server_backlog),
        &format!("net.core.somaxconn={}", options.server_backlog),
    ])?;
    address(server, "lan0", SERVER)?;
    route(server, EVERYWHERE, GUARD_INSIDE)
}

/// The guard's kernel forwards between its ports.
fn forward(guard: &Namespace, options: &Options) -> Result<()> {
    guard.sysctl(&["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
    address(guard, "out0", GUARD_OUTSIDE)?;
    address(guard, "in0", GUARD_INSIDE)?;
    route(guard, EVERYWHERE, ROUTER)?;
    if options.second_router {
        route(guard, ODD_CLIENTS, SECOND_ROUTER)?;
    }
    Ok(())
}

/// The guard's kernel says nothing on its ports: it has no address, forwards nothing, and with
/// IPv6 off it does not even look for neighbours.
///
/// # Errors
/// When the kernel refuses a setting.
pub fn silence(guard: &Namespace) -> Result<()> {
    guard.sysctl(&[
        "net.ipv4.ip_forward=0",
        "net.ipv6.conf.all.disable_ipv6=1",
        "net.ipv6.conf.default.disable_ipv6=1",
    ])
}
