//! The second act: three guards that share a server's connections, while two routers spray every
//! packet of both directions over them, one of them is killed in the midst and comes back, and the
//! flood goes on. Then the replication link of one is cut, and it stalls.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::address::SERVER;
use lab::daemon::Daemon;
use lab::filter::Interest;
use lab::flood::{self, Flood, Kind};
use lab::numbered;
use lab::observer::Observer;
use lab::profile::Profile;
use lab::server::Site;
use lab::sprayed::Sprayed;
use lab::{Error, Forwarder, Result};
use nix::sys::signal::Signal;

use crate::clients::{self, Place, Settings};
use crate::report::Attack;
use crate::share_report::{Died, Guard, Report};
use crate::trouble::{self, Stage};
use crate::{Arguments, HEAD_START, say, show};

/// How many guards there are.
pub(crate) const GUARDS: u8 = 3;
/// The one that is killed.
const VICTIM: u8 = 2;
/// How long the routers go on using a dead guard, as a routing protocol would.
const NOTICED_AFTER: Duration = Duration::from_millis(450);

/// Builds the lab, shows everything and prints the table. When something was not as it should be,
/// the logs are kept.
pub(crate) fn demonstrate(
    arguments: &Arguments,
    binary: &Path,
    site: &Arc<Site>,
) -> Result<Report> {
    let started = Instant::now();
    say("Three guards between two routers that send every packet, of both directions, through one");
    say("of them by chance. The guards share their sessions over a link of their own.");
    let lab = Sprayed::build(GUARDS, Forwarder::Daemon, site)?;
    let report = show_all(arguments, &lab, binary);
    if !report.as_ref().is_ok_and(|report| report.verdict().is_ok()) {
        lab.scratch.keep();
    }
    let report = Report {
        took: started.elapsed(),
        ..report?
    };
    say(&report.table());
    Ok(report)
}

/// The daemons, and how each is started anew.
struct Guards<'a> {
    lab: &'a Sprayed,
    binary: &'a Path,
    daemons: Vec<Daemon>,
    /// What a guard had counted when it was killed.
    before_death: BTreeMap<u8, BTreeMap<String, u64>>,
}

impl<'a> Guards<'a> {
    fn start(lab: &'a Sprayed, binary: &'a Path) -> Result<Self> {
        let daemons = (1..=GUARDS).map(|number| start(lab, binary, number));
        Ok(Self {
            lab,
            binary,
            daemons: daemons.collect::<Result<_>>()?,
            before_death: BTreeMap::new(),
        })
    }

    /// Kills one, withdraws it and brings it back, at these times after `started`.
    fn die_and_return(&mut self, started: Instant, at: [Duration; 2]) -> Result<Died> {
        let victim = &mut self.daemons[usize::from(VICTIM - 1)];
        sleep_until(started + at[0]);
        self.before_death.insert(VICTIM, show::events(victim)?);
        let killed = started.elapsed();
        victim.crash();
        sleep_until(started + killed + NOTICED_AFTER);
        let others: Vec<u8> = (1..=GUARDS).filter(|&number| number != VICTIM).collect();
        self.lab.spray_over(&others)?;
        let withdrawn = started.elapsed();
        say(&format!(
            "  guard {VICTIM} was killed; the routers have noticed"
        ));
        sleep_until(started + at[1]);
        *victim = start(self.lab, self.binary, VICTIM)?;
        let handed_before = self.lab.handed()?[usize::from(VICTIM - 1)];
        let all: Vec<u8> = (1..=GUARDS).collect();
        self.lab.spray_over(&all)?;
        say(&format!("  guard {VICTIM} is back"));
        Ok(Died {
            guard: VICTIM,
            killed,
            withdrawn,
            back: started.elapsed(),
            handed_before_return: handed_before,
        })
    }

    /// What each has done, and whether it ends well when it is told to.
    fn stop(mut self) -> Result<Vec<Guard>> {
        let handed = self.lab.handed()?;
        let mut guards = Vec::new();
        for (number, handed) in (1..=GUARDS).zip(handed) {
            let daemon = &mut self.daemons[usize::from(number - 1)];
            let mut events = show::events(daemon)?;
            for (name, count) in self.before_death.remove(&number).into_iter().flatten() {
                *events.entry(name).or_default() += count;
            }
            let drops = show::read(daemon)?.drops;
            daemon.signal(Signal::SIGTERM)?;
            let status = daemon.wait(Duration::from_secs(20))?;
            guards.push(Guard {
                handed,
                events,
                drops,
                ended_well: status.success(),
            });
        }
        Ok(guards)
    }
}

fn start(lab: &Sprayed, binary: &Path, number: u8) -> Result<Daemon> {
    lab.start(number, binary, &profile(number), "")
}

/// Guards take the two cores in turn. They stop at once: the others would carry on what is left.
fn profile(number: u8) -> Profile {
    Profile {
        workers: vec![u32::from(number % 2)],
        ports: vec![80, 443, numbered::PORT],
        guard: "  timers: { drain_s: 0 }\n".to_owned(),
        ..Profile::default()
    }
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

fn show_all(arguments: &Arguments, lab: &Sprayed, binary: &Path) -> Result<Report> {
    let mut guards = Guards::start(lab, binary)?;
    let outside = Observer::start(&lab.clients, "wan0", Interest::SynAcksOfClients)?;
    let inside = Observer::start(&lab.server, "lan0", Interest::SynsAndSpoofed)?;
    let destinations = SERVER.map(|address| (address, 80).into()).to_vec();
    let gateway = lab.west.hardware_address()?;
    let rate = arguments.rate;
    let flooded = flood::Settings::of_lab("wan0", gateway, destinations, Kind::Mixed, rate, 400);
    let flood = Flood::start(&lab.clients, flooded)?;
    std::thread::sleep(HEAD_START);

    let duration = Duration::from_secs(arguments.share);
    let settings = Settings {
        duration,
        patience: Duration::from_secs(40),
        with_large: true,
    };
    let place = Place::of(&lab.clients, &lab.scratch, &lab.server_process.site);
    let started = Instant::now();
    let at = [duration / 3, duration * 3 / 5];
    let (served, died) = std::thread::scope(|scope| {
        let script = scope.spawn(|| guards.die_and_return(started, at));
        let served = clients::run(&place, settings, |second, progress| {
            let (syns, acks) = flood.so_far();
            let came = inside.spoofed_syns();
            say(&format!(
                "  {second:2} s  {progress}  flood: {syns:7} SYNs, {acks:7} ACKs; at the server: {came:6} SYNs"
            ));
        });
        let died = script.join();
        let died = died.map_err(|_| Error::new("the thread that kills a guard panicked"));
        Ok::<_, Error>((served?, died??))
    })?;
    let sent = flood.stop()?;
    // What is on its way still arrives.
    std::thread::sleep(Duration::from_millis(300));
    let inside = inside.stop()?;
    let outside = outside.stop()?;
    say("  the flood is over; now the replication link of one guard is cut, and then it stalls");
    let troubles = trouble::play(&Stage {
        lab,
        daemons: &guards.daemons,
        victim: VICTIM,
    })?;
    Ok(Report {
        attack: Attack {
            served,
            sent,
            sequence_numbers: inside.compare(&outside),
            inside,
        },
        died,
        troubles,
        guards: guards.stop()?,
        took: Duration::ZERO,
    })
}
