//! The kernel between the links: plain forwarding, or nftables with SYNPROXY, as its manual and
//! the nftables project's pages set it up.

use std::fmt::Write as _;
use std::path::Path;

use lab::topology::{address, route};
use lab::{Error, Namespace, Result};

use super::ground::{Ground, ends};
use super::plan::{
    FirstHop, SERVERS, SUBJECT_INSIDE, SUBJECT_OUTSIDE, TESTER_INSIDE, TESTER_OUTSIDE, wiring,
};
use super::proof::Account;
use super::{Kind, Subject, version_line};
use crate::wiring::Wiring;

/// A name space that forwards.
#[derive(Debug)]
pub(super) struct Kernel {
    namespace: Namespace,
    kind: Kind,
    version: String,
    stations: [[u8; 6]; 2],
    wiring: Wiring,
}

/// Sets it up.
pub(super) fn start(ground: &Ground, number: u8, kind: Kind) -> Result<Kernel> {
    let namespace = router(ground, number, kind)?;
    let mut version = version_line(std::process::Command::new("uname").arg("-sr"));
    if kind == Kind::Synproxy {
        // A cookie holds its size and options in the timestamp; a late ACK belongs to nobody.
        namespace.sysctl(&[
            "net.ipv4.tcp_syncookies=1",
            "net.ipv4.tcp_timestamps=1",
            "net.netfilter.nf_conntrack_tcp_loose=0",
        ])?;
        namespace.nft(&synproxy(&ground.settings.service_ports))?;
        let nft = version_line(std::process::Command::new("nft").arg("--version"));
        let _ = write!(version, ", {nft}");
    }
    Ok(Kernel {
        stations: stations(&namespace)?,
        wiring: wiring(ground.devices(number), &FirstHop::Asked, &ground.settings),
        namespace,
        kind,
        version,
    })
}

/// A name space that forwards between clients and servers on the subjects' core.
pub(super) fn router(ground: &Ground, number: u8, kind: Kind) -> Result<Namespace> {
    let namespace = ground.box_for(number, kind)?;
    address(&namespace, "out0", SUBJECT_OUTSIDE)?;
    address(&namespace, "in0", SUBJECT_INSIDE)?;
    namespace.sysctl(&[
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        // The tester owns every address behind it; none of them is told another way.
        "net.ipv4.conf.all.send_redirects=0",
        "net.ipv4.conf.default.send_redirects=0",
    ])?;
    route(&namespace, ["0.0.0.0/0", "::/0"], TESTER_OUTSIDE)?;
    route(&namespace, SERVERS, TESTER_INSIDE)?;
    for interface in ["out0", "in0"] {
        // As a NIC's driver does. It also verifies checksums, which SYNPROXY's rules in nftables
        // need for IPv6: what nobody has verified, they verify as if it were IPv4, and drop it.
        namespace.run("ethtool", &["-K", interface, "gro", "on"])?;
    }
    // A veth's frames are received on the core that sent them, which is the tester's.
    let mask = format!("{:x}", 1_u128 << ground.cores.subject.min(127));
    for interface in ["out0", "in0"] {
        let path = format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus");
        let order = format!("echo {mask} > {path}");
        namespace.run("sh", &["-c", &order])?;
    }
    // And those that go back are received on the tester's own core.
    let mask = format!("{:x}", 1_u128 << ground.cores.tester.min(127));
    for (interface, _) in ends(number) {
        let path = format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus");
        let order = format!("echo {mask} > {path}");
        ground.tester.run("sh", &["-c", &order])?;
    }
    Ok(namespace)
}

/// The rules: a SYN makes no connection known, so what follows of it is invalid until a cookie has
/// come back; what is still invalid behind the proxy ends.
fn synproxy(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = ports.join(", ");
    format!(
        "table inet subject {{
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname \"out0\" tcp dport {{ {ports} }} tcp flags syn / fin,syn,rst,ack notrack
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname \"out0\" tcp dport {{ {ports} }} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
    ct state invalid drop
  }}
}}
"
    )
}

/// The station addresses of a box's two interfaces.
pub(super) fn stations(namespace: &Namespace) -> Result<[[u8; 6]; 2]> {
    let [outside, inside] =
        ["out0", "in0"].map(|name| namespace.within(move || lab::socket::hardware_address(name)));
    Ok([outside??, inside??])
}

/// A file of the kernel's about the network, as the name space has it.
pub(super) fn network_file(namespace: &Namespace, name: &'static str) -> Result<String> {
    namespace.within(move || {
        let path = Path::new("/proc/thread-self/net").join(name);
        std::fs::read_to_string(&path).map_err(|e| Error::because(path.display(), e))
    })?
}

/// Frames received and sent by the given interfaces, of the text of `/proc/net/dev`.
pub(super) fn frames(text: &str, interfaces: &[&str]) -> (u64, u64) {
    let rows = text.lines().filter_map(|line| line.trim().split_once(':'));
    let rows = rows.filter(|(name, _)| interfaces.contains(name));
    rows.fold((0, 0), |(received, sent), (_, row)| {
        let numbers: Vec<u64> = row
            .split_whitespace()
            .map(|n| n.parse().unwrap_or(0))
            .collect();
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
        (received + number(1), sent + number(9))
    })
}

/// A value of the text of `/proc/net/snmp`, by the names of its row and column.
fn snmp(text: &str, row: &str, column: &str) -> Option<u64> {
    let mut rows = text.lines().filter_map(|line| line.split_once(": "));
    let names = rows.by_ref().find(|(name, _)| *name == row)?.1;
    let values = rows.next().filter(|(name, _)| *name == row)?.1;
    let place = names.split_whitespace().position(|name| name == column)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// A value of the text of `/proc/net/snmp6`.
fn snmp6(text: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().map(str::split_whitespace);
    rows.find_map(|mut row| (row.next() == Some(name)).then(|| row.next()?.parse().ok())?)
}

/// A column's sum over the cores, of the text of `/proc/net/stat/synproxy`.
fn synproxy_sum(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let place = lines
        .next()?
        .split_whitespace()
        .position(|name| name == column)?;
    let values =
        lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(place)?, 16).ok());
    values.sum()
}

/// What an account lacks when the kernel does not tell a counter.
fn told(value: Option<u64>, what: &str) -> Result<u64> {
    value.ok_or_else(|| Error::new(format!("the kernel does not tell {what}")))
}

impl Subject for Kernel {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    fn stations(&self) -> Option<[[u8; 6]; 2]> {
        Some(self.stations)
    }

    fn account(&mut self) -> Result<Account> {
        let (received_frames, sent_frames) =
            frames(&network_file(&self.namespace, "dev")?, &["out0", "in0"]);
        let ipv4 = snmp(
            &network_file(&self.namespace, "snmp")?,
            "Ip",
            "ForwDatagrams",
        );
        let ipv6 = snmp6(
            &network_file(&self.namespace, "snmp6")?,
            "Ip6OutForwDatagrams",
        );
        let connections = if self.kind == Kind::Synproxy {
            let text = network_file(&self.namespace, "stat/synproxy")?;
            Some(told(synproxy_sum(&text, "cookie_valid"), "valid cookies")?)
        } else {
            None
        };
        Ok(Account {
            received_frames,
            sent_frames,
            forwarded_packets: Some(
                told(ipv4, "forwarded IPv4 packets")? + told(ipv6, "forwarded IPv6 packets")?,
            ),
            connections,
            busy: None,
        })
    }

    /// It works only when frames come.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_kernels_tables() {
        let dev = "Inter-|   Receive                  |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:       9       9    0    0    0     0          0         0        9       9    0    0    0     0       0          0
  out0:     100       5    0    0    0     0          0         0      200       7    0    0    0     0       0          0
   in0:     100      10    0    0    0     0          0         0      200      20    0    0    0     0       0          0
";
        assert_eq!(frames(dev, &["out0", "in0"]), (15, 27));
        let text = "Ip: Forwarding DefaultTTL ForwDatagrams\nIp: 1 64 42\nTcp: A B\nTcp: 1 2\n";
        assert_eq!(snmp(text, "Ip", "ForwDatagrams"), Some(42));
        assert_eq!(snmp(text, "Ip", "Nothing"), None);
        let text = "Ip6InReceives \t 7\nIp6OutForwDatagrams  \t 11\n";
        assert_eq!(snmp6(text, "Ip6OutForwDatagrams"), Some(11));
        let text = "entries  syn_received cookie_invalid cookie_valid\n\
                    00000000 0000001a 00000000 0000000f\n00000000 00000000 00000000 00000010\n";
        assert_eq!(synproxy_sum(text, "cookie_valid"), Some(31));
        assert_eq!(synproxy_sum(text, "nothing"), None);
    }
}
