//! The daemon's profile for a lab.

use std::fmt::Write as _;
use std::path::Path;

use crate::Lab;
use crate::address::{GUARD_INSIDE, GUARD_OUTSIDE, ROUTER, SECOND_ROUTER, SERVER};

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
        }
    }
}

impl Profile {
    /// The profile's text for `lab`.
    #[must_use]
    pub fn text(&self, lab: &Lab, socket: &Path, keys: &Path) -> String {
        let mut text = String::new();
        let _ = write!(
            text,
            "appliance: {{ name: lab{} }}
runtime:
  workers: {:?}
  poll: adaptive
  huge_pages: off
  control_socket: {}
{}ports:
{}{}routes:
{}",
            std::process::id(),
            self.workers,
            socket.display(),
            self.runtime,
            self.port("outside", 0, "out0", lab),
            self.port("inside", 1, "in0", lab),
            routes(lab),
        );
        let _ = write!(
            text,
            "guard:
  outside: outside
  inside: inside
  mode: {}
  protect:
    - {{ server: {}, ports: {ports:?} }}
    - {{ server: \"{}\", ports: {ports:?} }}
  keys: {}
{}rules:
",
            self.mode,
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
        let queues = match self.queues {
            1 => String::new(),
            queues => format!(",qpairs={queues}"),
        };
        let vlan = vlan.map_or_else(String::new, |vlan| format!(", vlan: {vlan}"));
        let mtu = if mtu == 1500 {
            String::new()
        } else {
            format!(", mtu: {mtu}")
        };
        format!(
            "  {name}: {{ device: \"net_af_packet{number},iface={interface},framecnt=2048{queues}\", \
             address: [{ipv4}/24, \"{ipv6}/64\"]{vlan}{mtu} }}\n"
        )
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
