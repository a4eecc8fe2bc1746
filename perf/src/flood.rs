//! `tidegate-perf flood`: spoofed SYNs and forged ACKs from one interface.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use lab::flood::{self, Kind, Settings, spoofed_nets};
use lab::{Error, Result, route};

/// What `flood` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The Ethernet interface to send by.
    #[arg(long)]
    interface: String,
    /// Whom it is for; may be given several times.
    #[arg(long, required = true, value_name = "ADDRESS:PORT")]
    destination: Vec<SocketAddr>,
    /// Packets a second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=flood::MAXIMUM_RATE))]
    rate: u64,
    /// How long.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=flood::MAXIMUM_SECONDS))]
    seconds: u64,
    /// What is sent.
    #[arg(long, default_value = "mixed")]
    kind: KindName,
    /// Where packets claim to come from, once for each family; by default nets kept for that.
    #[arg(long, value_name = "PREFIX")]
    source: Vec<IpNetwork>,
    /// The first hop's hardware address; `auto` asks the kernel's routes and neighbours.
    #[arg(long, default_value = "auto", value_name = "MAC")]
    gateway_mac: String,
    /// What makes two runs send the same packets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    /// SYNs.
    Syn,
    /// ACKs with a forged cookie.
    Ack,
    /// Both.
    Mixed,
}

/// Sends the flood and returns what was sent, in JSON.
pub fn run(arguments: &Arguments) -> Result<String> {
    let (spoofed_ipv4, spoofed_ipv6) = sources(&arguments.source);
    let gateway = match arguments.gateway_mac.as_str() {
        "auto" => route::first_hop(&arguments.interface, first(&arguments.destination)?)?,
        text => route::hardware_address(text)?,
    };
    let sent = flood::run(&Settings {
        interface: arguments.interface.clone(),
        gateway,
        destinations: arguments.destination.clone(),
        kind: match arguments.kind {
            KindName::Syn => Kind::Syn,
            KindName::Ack => Kind::Ack,
            KindName::Mixed => Kind::Mixed,
        },
        rate: arguments.rate,
        seconds: arguments.seconds,
        spoofed_ipv4,
        spoofed_ipv6,
        seed: arguments.seed,
    })?;
    serde_json::to_string(&sent).map_err(|e| Error::because("report", e))
}

fn first(destinations: &[SocketAddr]) -> Result<IpAddr> {
    destinations
        .first()
        .map(SocketAddr::ip)
        .ok_or_else(|| Error::new("the flood has no destination"))
}

fn sources(given: &[IpNetwork]) -> (Ipv4Network, Ipv6Network) {
    let (mut ipv4, mut ipv6) = spoofed_nets();
    for net in given {
        match *net {
            IpNetwork::V4(net) => ipv4 = net,
            IpNetwork::V6(net) => ipv6 = net,
        }
    }
    (ipv4, ipv6)
}
