//! The first act: a server under a flood of spoofed SYNs and forged ACKs, first without the guard,
//! then with it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::address::SERVER;
use lab::daemon::Daemon;
use lab::filter::Interest;
use lab::flood::{self, Flood, Kind};
use lab::observer::Observer;
use lab::profile::Profile;
use lab::server::Site;
use lab::{Forwarder, Lab, Options, Result};
use nix::sys::signal::Signal;

use crate::clients::Place;
use crate::report::{Attack, Report};
use crate::{Arguments, HEAD_START, clients, latency, say, show};

/// Builds the labs, shows everything and prints the table. When something was not as it should be,
/// the logs of the guarded lab are kept.
pub(crate) fn demonstrate(
    arguments: &Arguments,
    binary: &Path,
    site: &Arc<Site>,
) -> Result<Report> {
    let started = Instant::now();
    say("Two labs of name spaces, clients – guard – server, alike but for what forwards:");
    say(
        "  in one the kernel, in the other Tidegate. The server's SYN cookies are off in both; before",
    );
    say("  the kernel they are then turned on, as they are by default.");
    let direct = Lab::build(Options::default(), Forwarder::Kernel, site)?;
    let guarded = Lab::build(Options::default(), Forwarder::Daemon, site)?;
    let report = show_all(arguments, direct, &guarded, binary);
    if !report.as_ref().is_ok_and(|report| report.verdict().is_ok()) {
        guarded.scratch.keep();
    }
    let report = Report {
        took: started.elapsed(),
        ..report?
    };
    say(&report.table());
    Ok(report)
}

fn show_all(arguments: &Arguments, direct: Lab, guarded: &Lab, binary: &Path) -> Result<Report> {
    let mut daemon = Daemon::start(guarded, binary, &Profile::default())?;
    say("\nWithout a flood: the time to the first byte, by turns through both.");
    let latency = latency::measure(&direct, guarded)?;
    say(&format!("  {latency}"));

    say(&format!(
        "\nWithout the guard, SYN cookies off: {} spoofed SYNs and forged ACKs a second.",
        arguments.rate
    ));
    let settings = clients::Settings {
        duration: Duration::from_secs(arguments.without),
        patience: Duration::from_secs(3),
        with_large: false,
    };
    let bare = attack(&direct, arguments.rate, settings)?;
    say("\nWithout the guard, SYN cookies on: the same.");
    direct.server.sysctl(&["net.ipv4.tcp_syncookies=1"])?;
    let cookies = attack(&direct, arguments.rate, settings)?;
    drop(direct);

    say(&format!(
        "\nWith the guard: the same, and bodies of {} MB too.",
        arguments.large
    ));
    let settings = clients::Settings {
        duration: Duration::from_secs(arguments.with),
        patience: Duration::from_secs(40),
        with_large: true,
    };
    let with = attack(guarded, arguments.rate, settings)?;
    let shown = show::read(&daemon)?;
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait(Duration::from_secs(20))?;
    Ok(Report {
        latency,
        without: [bare, cookies],
        with,
        shown,
        daemon_ended_well: status.success(),
        took: Duration::ZERO,
    })
}

/// Floods the lab's server while clients ask, and prints a line each second.
fn attack(lab: &Lab, rate: u64, settings: clients::Settings) -> Result<Attack> {
    let outside = Observer::start(&lab.clients, "wan0", Interest::SynAcksOfClients)?;
    let inside = Observer::start(&lab.server, "lan0", Interest::SynsAndSpoofed)?;
    let destinations = SERVER.map(|address| (address, 80).into()).to_vec();
    let gateway = lab.guard_hardware_address()?;
    let flooded = flood::Settings::of_lab("wan0", gateway, destinations, Kind::Mixed, rate, 120);
    let flood = Flood::start(&lab.clients, flooded)?;
    std::thread::sleep(HEAD_START);
    let place = Place::of(&lab.clients, &lab.scratch, &lab.server_process.site);
    let served = clients::run(&place, settings, |second, progress| {
        let (syns, acks) = flood.so_far();
        let came = inside.spoofed_syns();
        say(&format!(
            "  {second:2} s  {progress}  flood: {syns:7} SYNs, {acks:7} ACKs; at the server: {came:6} SYNs"
        ));
    })?;
    let sent = flood.stop()?;
    // What is on its way still arrives.
    std::thread::sleep(Duration::from_millis(300));
    let inside = inside.stop()?;
    let outside = outside.stop()?;
    Ok(Attack {
        served,
        sent,
        sequence_numbers: inside.compare(&outside),
        inside,
    })
}
