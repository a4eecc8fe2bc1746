//! Looks at the workers' guards: floods and servers for the log, services for whoever asks.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::command::{Command, Report, ServicePage};
use dataplane::counters::{Counters, Event};
use dataplane::drop_reason::DropReason;
use dataplane::guard::Tally;
use tracing::{info, warn};

use super::control_loop::Control;
use super::watch::{FloodNews, FloodWatch, Look, Numbers, ServiceNews, ServiceWatch, Totals};
use crate::profile::{GuardMode, PortRange};
use crate::report::ServiceRow;

/// How long workers are left alone after one did not answer.
const REST: Duration = Duration::from_secs(10);

/// Ranges of fewer ports are shown whole.
const SMALL_RANGE: u16 = 16;

/// What is remembered between two looks.
#[derive(Default)]
pub(super) struct GuardWatch {
    pub(super) floods: FloodWatch,
    pub(super) services: ServiceWatch,
    /// A page for each worker, which travels.
    pages: Vec<Option<Box<ServicePage>>>,
    /// Times that workers have found a flood.
    entered: u64,
    rests_until: Option<Instant>,
}

fn totals(counters: &Counters) -> Totals {
    let refused = [
        DropReason::CookieInvalid,
        DropReason::CookieExpired,
        DropReason::CookieReplayed,
    ];
    Totals {
        syns: counters.event(Event::SynReceived),
        cookies: counters.event(Event::CookieSent),
        proved: counters.event(Event::CookieAccepted),
        refused: refused.map(|reason| counters.drops(reason)).iter().sum(),
    }
}

impl Control {
    /// Tells when a flood begins and ends, and when a server goes down and comes back.
    pub(super) fn look_at_guard(&mut self) {
        let Some(guard) = &self.profile.guard else {
            return;
        };
        let now = Instant::now();
        if self
            .guard_watch
            .rests_until
            .is_some_and(|until| now < until)
        {
            return;
        }
        let mode = guard.mode;
        let mut counters = Counters::default();
        for worker in self.crew.counters() {
            counters.merge(&worker);
        }
        let Some((mut look, tallies)) = self.gather_services() else {
            self.guard_watch.rests_until = Some(now + REST);
            return;
        };
        look.totals = totals(&counters);
        // One that was over before this look was one, too.
        let entered = counters.event(Event::FloodEntered);
        look.is_flood |= std::mem::replace(&mut self.guard_watch.entered, entered) != entered;
        for news in self.guard_watch.services.look(now, &tallies) {
            match news {
                ServiceNews::Down(..) => warn!("{news}"),
                ServiceNews::Up(..) => info!("{news}"),
            }
        }
        look.target = self.guard_watch.services.target();
        match self.guard_watch.floods.look(now, &look) {
            Some(news @ FloodNews::Begun { .. }) => warn!("{news}; {}", measure_of(mode)),
            Some(news @ FloodNews::Ended { .. }) => info!("{news}"),
            None => {}
        }
    }

    fn gather_services(&mut self) -> Option<(Look, Numbers)> {
        let (mut look, mut tallies) = (Look::default(), Numbers::new());
        let workers = self.crew.members.len();
        self.guard_watch.pages.resize_with(workers, || None);
        for worker in 0..workers {
            let page = self.guard_watch.pages[worker].take();
            let page = page.unwrap_or_else(ServicePage::empty);
            let Ok(Report::Services(page)) = self.crew.ask(worker, Command::Services(page)) else {
                return None;
            };
            look.is_flood |= page.is_flood;
            look.syns_per_s += page.syns_per_s;
            for row in &page.rows {
                let all: &mut Tally = tallies
                    .entry((IpAddr::from(row.address), row.port))
                    .or_default();
                all.syns += row.tally.syns;
                all.answered += row.tally.answered;
                all.failed += row.tally.failed;
                all.live += row.tally.live;
                all.opening += row.tally.opening;
            }
            self.guard_watch.pages[worker] = Some(page);
        }
        Some((look, tallies))
    }
}

impl Control {
    /// The services that were asked for, and the others of small ranges.
    pub(super) fn services(&self, is_active: bool) -> Vec<ServiceRow> {
        let Some(guard) = &self.profile.guard else {
            return Vec::new();
        };
        let state = match guard.mode {
            GuardMode::Off => "open",
            _ if is_active => "guarded",
            _ => "watched",
        };
        let mut services = self.guard_watch.services.services.clone();
        for one in &guard.protect {
            let small = |range: &&PortRange| range.last - range.first < SMALL_RANGE;
            let ports = one.ports.iter().filter(small);
            for port in ports.flat_map(|range| range.first..=range.last) {
                services.entry((one.server, port)).or_default();
            }
        }
        let rows = services
            .into_iter()
            .map(|((server, port), known)| ServiceRow {
                server: server.to_string(),
                port,
                state: state.into(),
                health: known.health.label().into(),
                syns: known.tally.syns,
                syns_per_second: known.syns_per_s,
                live: known.tally.live.into(),
                opening: known.tally.opening.into(),
                answered: known.tally.answered,
                failed: known.tally.failed,
            });
        rows.collect()
    }
}

/// What is done about a flood.
fn measure_of(mode: GuardMode) -> &'static str {
    match mode {
        GuardMode::Always => "SYNs are answered by cookie, as always.",
        GuardMode::OnFlood => "SYNs are answered by cookie until it is over.",
        GuardMode::Monitor => {
            "nothing is done about it, since the guard only watches: `guard.mode` is `monitor`."
        }
        GuardMode::Off => "nothing is done about it: `guard.mode` is `off`.",
    }
}
