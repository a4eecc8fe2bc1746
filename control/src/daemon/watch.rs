//! What the log says of floods and of servers: each begins once and ends once, however it wavers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dataplane::guard::Tally;

/// A flood that comes back sooner than this after its end, as the workers see it (`on_flood.hold_s`), is
/// the same one.
const QUIET: Duration = Duration::from_secs(3);
/// So many connections in a row that a service has refused or not answered say that it is down.
const FAILURES: u64 = 3;

/// What the guard has counted since the start, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// SYNs for protected services.
    pub(super) syns: u64,
    /// SYN-ACKs with a cookie.
    pub(super) cookies: u64,
    /// Clients that proved themselves by one.
    pub(super) proved: u64,
    /// Segments refused because their cookie was not good.
    pub(super) refused: u64,
}

impl Totals {
    fn since(&self, before: &Self) -> Self {
        Self {
            syns: self.syns.saturating_sub(before.syns),
            cookies: self.cookies.saturating_sub(before.cookies),
            proved: self.proved.saturating_sub(before.proved),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

/// What a look at the workers has found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// Whether a flood is on at any of them.
    pub(super) is_flood: bool,
    /// SYNs a second, as they measure them.
    pub(super) syns_per_s: u64,
    pub(super) totals: Totals,
    /// The service that most SYNs of late were for, and their share in percent.
    pub(super) target: Option<(SocketAddr, u64)>,
}

/// A flood's beginning or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FloodNews {
    Begun {
        syns_per_s: u64,
        target: Option<(SocketAddr, u64)>,
    },
    Ended {
        lasted: Duration,
        highest_per_s: u64,
        counted: Totals,
    },
}

impl fmt::Display for FloodNews {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun { syns_per_s, target } => {
                write!(out, "A flood has begun: {syns_per_s} SYNs a second")?;
                match target {
                    Some((service, share)) => write!(out, ", {share} % of them for {service}"),
                    None => Ok(()),
                }
            }
            Self::Ended {
                lasted,
                highest_per_s,
                counted,
            } => write!(
                out,
                "The flood is over: it lasted {:.1} s and reached {highest_per_s} SYNs a second. Of its {} SYNs {} \
                 were answered by cookie; {} clients proved themselves, {} segments without a \
                 good cookie were refused.",
                lasted.as_secs_f64(),
                counted.syns,
                counted.cookies,
                counted.proved,
                counted.refused
            ),
        }
    }
}

/// A flood that is on.
#[derive(Debug)]
struct Flood {
    began: Instant,
    /// When it was last found to be on.
    was_on: Instant,
    before: Totals,
    highest_per_s: u64,
}

/// Follows floods.
#[derive(Debug, Default)]
pub(super) struct FloodWatch {
    last: Option<(Instant, Totals)>,
    flood: Option<Flood>,
}

impl FloodWatch {
    /// Follows a look; what it has found out, if that is news.
    pub(super) fn look(&mut self, now: Instant, look: &Look) -> Option<FloodNews> {
        let (then, before) = self
            .last
            .replace((now, look.totals))
            .unwrap_or((now, look.totals));
        let seconds = now.duration_since(then).as_secs_f64();
        let counted = look.totals.since(&before).syns as f64;
        let mean = if seconds > 0.0 {
            counted / seconds
        } else {
            0.0
        };
        // The meters' spans are short, and the last one may have begun before the flood did.
        let rate = look.syns_per_s.max(mean as u64);
        let Some(flood) = &mut self.flood else {
            if !look.is_flood {
                return None;
            }
            self.flood = Some(Flood {
                began: now,
                was_on: now,
                before,
                highest_per_s: rate,
            });
            return Some(FloodNews::Begun {
                syns_per_s: rate,
                target: look.target,
            });
        };
        flood.highest_per_s = flood.highest_per_s.max(rate);
        if look.is_flood {
            flood.was_on = now;
            return None;
        }
        if now.duration_since(flood.was_on) < QUIET {
            return None;
        }
        let news = FloodNews::Ended {
            lasted: flood.was_on.duration_since(flood.began),
            highest_per_s: flood.highest_per_s,
            counted: look.totals.since(&flood.before),
        };
        self.flood = None;
        Some(news)
    }
}

/// Whether a service takes connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// Nobody has asked it yet.
    #[default]
    Unknown,
    Up,
    /// It has refused the last few, or not answered them.
    Down,
}

impl Health {
    /// Its name in reports.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is known of a service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Service {
    /// Its numbers, over all workers.
    pub(super) tally: Tally,
    /// SYNs a second since the look before.
    pub(super) syns_per_s: u64,
    pub(super) health: Health,
    /// SYNs for it since the look before.
    fresh: u64,
    /// Connections in a row that it has not taken.
    failures: u64,
    down_since: Option<Instant>,
}

/// That a service went down, or answers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceNews {
    Down(SocketAddr, u64),
    Up(SocketAddr, Duration),
}

impl fmt::Display for ServiceNews {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(service, failures) => write!(
                out,
                "The service {service} is down: it refused, or did not answer, the last {failures} \
                 connections; see that it runs and that the guard reaches it"
            ),
            Self::Up(service, lasted) => write!(
                out,
                "The service {service} takes connections again, {:.1} s after it was found to be down",
                lasted.as_secs_f64()
            ),
        }
    }
}

/// Services and their numbers.
pub(super) type Numbers = BTreeMap<(IpAddr, u16), Tally>;

/// Follows the services.
#[derive(Debug, Default)]
pub(super) struct ServiceWatch {
    pub(super) services: BTreeMap<(IpAddr, u16), Service>,
    last: Option<Instant>,
}

impl ServiceWatch {
    /// Follows a look: the services' numbers, over all workers.
    pub(super) fn look(&mut self, now: Instant, tallies: &Numbers) -> Vec<ServiceNews> {
        let before = self.last.replace(now);
        let seconds = before.map_or(0.0, |before| now.duration_since(before).as_secs_f64());
        self.services
            .retain(|service, _| tallies.contains_key(service));
        let mut news = Vec::new();
        for (&(address, port), tally) in tallies {
            let known = self.services.entry((address, port)).or_default();
            let syns = tally.syns.saturating_sub(known.tally.syns);
            known.fresh = syns;
            known.syns_per_s = if seconds > 0.0 {
                (syns as f64 / seconds).round() as u64
            } else {
                0
            };
            let answered = tally.answered.saturating_sub(known.tally.answered);
            let failed = tally.failed.saturating_sub(known.tally.failed);
            known.tally = *tally;
            news.extend(known.judge(now, answered, failed, (address, port).into()));
        }
        news
    }

    /// The service that most SYNs of late were for, and their share in percent.
    pub(super) fn target(&self) -> Option<(SocketAddr, u64)> {
        let all: u64 = self.services.values().map(|one| one.fresh).sum();
        let (&(address, port), most) = self.services.iter().max_by_key(|(_, one)| one.fresh)?;
        (all > 0).then(|| ((address, port).into(), most.fresh * 100 / all))
    }
}

impl Service {
    /// One answer says that it is up; that it is up *again* is only said once nothing fails beside it.
    fn judge(
        &mut self,
        now: Instant,
        answered: u64,
        failed: u64,
        service: SocketAddr,
    ) -> Option<ServiceNews> {
        let is_down = self.health == Health::Down;
        if answered > 0 && (failed == 0 || !is_down) {
            (self.health, self.failures) = (Health::Up, 0);
            let since = self.down_since.take()?;
            return Some(ServiceNews::Up(service, now.duration_since(since)));
        }
        self.failures += failed;
        if is_down || self.failures < FAILURES {
            return None;
        }
        self.health = Health::Down;
        self.down_since = Some(now);
        Some(ServiceNews::Down(service, self.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, tenths: u64) -> Instant {
        began + Duration::from_millis(100 * tenths)
    }

    fn look(is_flood: bool, syns: u64) -> Look {
        let totals = Totals {
            syns,
            cookies: syns,
            proved: syns / 100,
            refused: syns / 10,
        };
        Look {
            is_flood,
            totals,
            ..Look::default()
        }
    }

    // I1
    #[test]
    fn i1_a_flood_that_wavers_is_one_flood() {
        let (mut watch, began) = (FloodWatch::default(), Instant::now());
        assert_eq!(watch.look(began, &look(false, 100)), None);
        let target = Some(("10.0.0.10:80".parse().unwrap(), 97));
        let first = Look {
            target,
            ..look(true, 5_100)
        };
        let begun = watch.look(at(began, 5), &first).unwrap();
        assert_eq!(
            begun.to_string(),
            "A flood has begun: 10000 SYNs a second, 97 % of them for 10.0.0.10:80"
        );
        let mut syns = 5_100;
        for turn in 1..40 {
            // Off for half of each five seconds.
            let is_on = turn % 10 >= 5;
            syns += if is_on { 10_000 } else { 0 };
            assert_eq!(
                watch.look(at(began, 5 + 5 * turn), &look(is_on, syns)),
                None,
                "{turn}"
            );
        }
        assert!(watch.flood.is_some());
        let quiet =
            (40..60).find_map(|turn| watch.look(at(began, 5 + 5 * turn), &look(false, syns)));
        let Some(FloodNews::Ended {
            lasted,
            highest_per_s,
            counted,
        }) = &quiet
        else {
            panic!("it does not end: {quiet:?}");
        };
        assert_eq!(*lasted, Duration::from_millis(19_500));
        assert_eq!(*highest_per_s, 20_000);
        assert_eq!(counted.syns, syns - 100, "those of its first moment count");
        assert!(quiet.unwrap().to_string().starts_with(
            "The flood is over: it lasted 19.5 s and reached 20000 SYNs a second. Of its "
        ));
        assert_eq!(watch.look(at(began, 900), &look(false, syns)), None);
        assert!(
            watch.look(at(began, 905), &look(true, syns)).is_some(),
            "the next one is told"
        );
    }

    #[test]
    fn i1_a_service_goes_down_once_and_comes_back_once() {
        let (mut watch, began) = (ServiceWatch::default(), Instant::now());
        let service: (IpAddr, u16) = ("10.0.0.10".parse().unwrap(), 80);
        let mut told = Vec::new();
        // Answers and failures so far, look by look.
        let looks = [
            (5, 0),
            (5, 2), // Two that fail are not enough,
            (6, 2), // and an answer makes them forgotten.
            (6, 4),
            (6, 5), // The third in a row.
            (6, 50),
            (7, 60), // It answers one of many.
            (9, 60),
            (10, 61),
        ];
        for (turn, (answered, failed)) in (0..).zip(looks) {
            let tally = Tally {
                syns: 100 * turn,
                answered,
                failed,
                ..Tally::default()
            };
            let news = watch.look(at(began, 5 * turn), &[(service, tally)].into());
            told.extend(news.into_iter().map(|news| (turn, news.to_string())));
        }
        let lines: Vec<_> = told
            .iter()
            .map(|(turn, line)| (*turn, &line[..44]))
            .collect();
        assert_eq!(
            lines,
            [
                (4, "The service 10.0.0.10:80 is down: it refused"),
                (7, "The service 10.0.0.10:80 takes connections a"),
            ]
        );
        assert_eq!(watch.services[&service].syns_per_s, 200);
        assert_eq!(watch.target(), Some((service.into(), 100)));
        watch.look(at(began, 100), &BTreeMap::new());
        assert!(watch.services.is_empty());
        // A flood may be there from the first moment.
        let first = Tally {
            syns: 7,
            ..Tally::default()
        };
        let mut watch = ServiceWatch::default();
        watch.look(began, &[(service, first)].into());
        assert_eq!(watch.target(), Some((service.into(), 100)));
    }
}
