//! The daemon's profile for a lab.

use std::fmt::Write as _;
use std::path::Path;

use crate::Lab;
use crate::address::{
    GUARD_INSIDE, GUARD_OUTSIDE, GuardNet, ROUTER, ROUTER_NUMBER, SECOND_ROUTER, SERVER, of_guard,
};
use crate::sprayed::SERVER_NET;
use crate::topology::EVERYWHERE;

/// What of the profile a test chooses; the rest follows from the lab.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The cores of the workers.
    pub workers: Vec<u32>,
    /// Queues of each port; with fewer queues than workers, workers hand packets to each other.
    pub queues: u16,
    /// `always`, `on-flood`, `monitor` or `off`.
    pub mode: String,
    /// The protected TCP ports of the server, in both families.
    pub ports: Vec<u16>,
    /// More lines of the `guard` section, each indented by two spaces.
    pub guard: String,
    /// The `rules` section's items, a line each.
    pub rules: Vec<String>,
    /// More lines of the `runtime` section, each indented by two spaces.
    pub runtime: String,
    /// Whether the ports take their interfaces by AF_XDP, not by packet sockets.
    pub xdp: bool,
}

impl Default for Profile {
    /// One worker on core 1, which guards ports 80 and 443 always.
    fn default() -> Self {
        Self {
            workers: vec![1],
            queues: 1,
            mode: "always".to_owned(),
            ports: vec![80, 443],
            guard: String::new(),
            rules: vec![
                "{ when: { any: [ { protocol: icmp }, { protocol: icmpv6 } ] }, then: forward }"
                    .to_owned(),
                "{ default: guard }".to_owned(),
            ],
            runtime: String::new(),
            xdp: false,
        }
    }
}

/// A guard among several, of which each is sent any packet.
#[derive(Clone, Copy, Debug)]
pub struct Among<'a> {
    /// Its number.
    pub own: u8,
    /// How many there are, numbered from 1.
    pub count: u8,
    /// Its control socket.
    pub socket: &'a Path,
    /// The key file of cookies, the same for all.
    pub cookie_keys: &'a Path,
    /// The key file of replication, the same for all.
    pub replication_keys: &'a Path,
    /// More lines of the `replication` section, each indented by two spaces.
    pub more: &'a str,
}

impl Profile {
    /// The text for a guard of a [`crate::sprayed::Sprayed`] lab.
    #[must_use]
    pub fn text_among(&self, among: &Among<'_>) -> String {
        let Among { own, count, .. } = *among;
        let mut text = self.head(&format!("guard{own}"), among.socket);
        let nets = [
            ("outside", "out0", GuardNet::Outside),
            ("inside", "in0", GuardNet::Inside),
            ("sync", "sync0", GuardNet::Sync),
        ];
        for (number, (name, interface, net)) in (0..).zip(nets) {
            let device = self.device(number, interface, 1500);
            let [ipv4, ipv6] = of_guard(net, own);
            let _ = writeln!(
                text,
                "  {name}: {{ device: {device}, address: [{ipv4}/24, \"{ipv6}/64\"] }}"
            );
        }
        text.push_str("routes:\n");
        for (to, net) in [
            (EVERYWHERE, GuardNet::Outside),
            (SERVER_NET, GuardNet::Inside),
        ] {
            for (to, via) in to.iter().zip(of_guard(net, ROUTER_NUMBER)) {
                let _ = writeln!(text, "  - {{ to: \"{to}\", via: \"{via}\" }}");
            }
        }
        let _ = write!(
            text,
            "replication:\n  port: sync\n  own: {own}\n  keys: {}\n{}  peers:\n",
            among.replication_keys.display(),
            among.more
        );
        for number in (1..=count).filter(|&number| number != own) {
            let [address, _] = of_guard(GuardNet::Sync, number);
            let _ = writeln!(text, "    - {{ number: {number}, address: {address} }}");
        }
        text + &self.tail(among.cookie_keys, None)
    }

    /// The profile's text for `lab`.
    #[must_use]
    pub fn text(&self, lab: &Lab, socket: &Path, keys: &Path) -> String {
        let mut text = self.head(&format!("lab{}", std::process::id()), socket);
        text.push_str(&self.port("outside", 0, "out0", lab));
        text.push_str(&self.port("inside", 1, "in0", lab));
        if lab.options.wire.is_none() {
            text.push_str("routes:\n");
            text.push_str(&routes(lab));
        }
        text + &self.tail(keys, lab.options.wire)
    }

    /// Up to the first port.
    fn head(&self, name: &str, socket: &Path) -> String {
        format!(
            "appliance: {{ name: {name} }}
runtime:
  workers: {:?}
  poll: adaptive
  huge_pages: off
  control_socket: {}
{}ports:
",
            self.workers,
            socket.display(),
            self.runtime,
        )
    }

    /// The guard and the rules.
    fn tail(&self, keys: &Path, wire: Option<&str>) -> String {
        let mut text = format!(
            "guard:
  outside: outside
  inside: inside
  mode: {}
{}  protect:
    - {{ server: {}, ports: {ports:?} }}
    - {{ server: \"{}\", ports: {ports:?} }}
  keys: {}
{}rules:
",
            self.mode,
            wire.map_or_else(String::new, |echo| format!("  wire: {{ echo: {echo} }}\n")),
            SERVER[0],
            SERVER[1],
            keys.display(),
            self.guard,
            ports = self.ports,
        );
        for rule in &self.rules {
            let _ = writeln!(text, "  - {rule}");
        }
        text
    }

    fn device(&self, number: u8, interface: &str, mtu: u16) -> String {
        if self.xdp {
            return format!("\"net_af_xdp{number},iface={interface}\"");
        }
        // A frame of the kernel's ring holds a packet and what the kernel says of it, and a block
        // holds frames without a rest.
        let frames = match mtu {
            0..=1500 => "framecnt=2048",
            _ => "blocksz=290816,framesz=9088,framecnt=512",
        };
        let queues = match self.queues {
            1 => String::new(),
            queues => format!(",qpairs={queues}"),
        };
        format!("\"net_af_packet{number},iface={interface},{frames}{queues}\"")
    }

    fn port(&self, name: &str, number: u8, interface: &str, lab: &Lab) -> String {
        let (addresses, vlan, mtu) = if name == "outside" {
            (
                GUARD_OUTSIDE,
                lab.options.outside_vlan,
                lab.options.outside_mtu_bytes,
            )
        } else {
            (
                GUARD_INSIDE,
                lab.options.inside_vlan,
                lab.options.inside_mtu_bytes,
            )
        };
        let [ipv4, ipv6] = addresses;
        let device = self.device(number, interface, mtu);
        let (addresses, vlan) = match lab.options.wire {
            // Its tags, if any, pass as they are.
            Some(_) => (String::new(), None),
            None => (format!(", address: [{ipv4}/24, \"{ipv6}/64\"]"), vlan),
        };
        let vlan = vlan.map_or_else(String::new, |vlan| format!(", vlan: {vlan}"));
        let mtu = if mtu == 1500 {
            String::new()
        } else {
            format!(", mtu: {mtu}")
        };
        format!("  {name}: {{ device: {device}{addresses}{vlan}{mtu} }}\n")
    }
}

fn routes(lab: &Lab) -> String {
    let mut routes = format!(
        "  - {{ to: 0.0.0.0/0, via: {} }}\n  - {{ to: \"::/0\", via: \"{}\" }}\n",
        ROUTER[0], ROUTER[1]
    );
    if lab.options.second_router {
        let _ = write!(
            routes,
            "  - {{ to: 203.0.113.0/24, via: {} }}\n  - {{ to: \"2001:db8:3::/64\", via: \"{}\" }}\n",
            SECOND_ROUTER[0], SECOND_ROUTER[1]
        );
    }
    routes
}
