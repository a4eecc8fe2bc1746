//! What a cut of the replication link and a stall of one guard cost new connections: the end of the
//! second act.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lab::command::wait_until;
use lab::daemon::Daemon;
use lab::numbered::{Asked, Count, Load, Server, Settings};
use lab::sprayed::Sprayed;
use lab::{Error, Result};
use nix::sys::signal::Signal;

use crate::say;

/// How long each trouble lasts.
const CUT: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(3);
/// How long clients ask before the first trouble, and after the last one.
const CALM: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(3);
/// How soon the guards must be in step again.
const RECOVERY: Duration = Duration::from_secs(10);
/// How often the routers ask whether a guard may carry.
const CHECK: Duration = Duration::from_millis(100);

/// What became of the connections that began in one span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: &'static str,
    pub(crate) count: Count,
}

/// The guards, by their number from 1, and the one that is in trouble.
pub(crate) struct Stage<'a> {
    pub(crate) lab: &'a Sprayed,
    pub(crate) daemons: &'a [Daemon],
    pub(crate) victim: u8,
}

/// Plays all troubles under sprayed load.
pub(crate) fn play(stage: &Stage<'_>) -> Result<Vec<Span>> {
    stage.wait_in_step()?;
    let server = Server::start(&stage.lab.server)?;
    let settings = Settings {
        threads: 96,
        pause: Duration::from_millis(300),
        limit: Duration::from_secs(6),
        client_closes: true,
        ports: None,
    };
    let load = Load::start(&stage.lab.clients, &settings)?;
    let mut marks = vec![("nothing wrong", Instant::now())];
    let mut mark = |name| marks.push((name, Instant::now()));
    std::thread::sleep(CALM);

    mark("cut, and the routers spray on");
    stage.lab.set_sync(stage.victim, false)?;
    std::thread::sleep(CUT);
    stage.tell()?;
    mark("after it");
    stage.lab.set_sync(stage.victim, true)?;
    stage.wait_in_step()?;
    std::thread::sleep(CALM);

    mark("cut, and the routers prefer who may carry");
    stage.lab.set_sync(stage.victim, false)?;
    let mut carrying = stage.all();
    stage.follow(&mut carrying, CUT)?;
    mark("after it");
    stage.lab.set_sync(stage.victim, true)?;
    stage.wait_in_step()?;
    stage.lab.spray_over(&stage.all())?;
    std::thread::sleep(CALM);

    mark("stall, and the routers spray on");
    stage.daemon()?.signal(Signal::SIGSTOP)?;
    std::thread::sleep(STALL);
    stage.daemon()?.signal(Signal::SIGCONT)?;
    mark("after it");
    std::thread::sleep(AFTER);
    mark("the end");
    let asked = load.stop()?;
    Ok(spans(&marks, &asked, &server))
}

fn spans(marks: &[(&'static str, Instant)], asked: &[Asked], server: &Server) -> Vec<Span> {
    let pairs = marks.iter().zip(marks.iter().skip(1));
    pairs
        .map(|(&(name, from), &(_, to))| Span {
            name,
            count: Count::of(asked, from..to, server),
        })
        .collect()
}

impl Stage<'_> {
    fn all(&self) -> Vec<u8> {
        (1..=self.lab.count()).collect()
    }

    fn daemon(&self) -> Result<&Daemon> {
        self.daemons
            .get(usize::from(self.victim.wrapping_sub(1)))
            .ok_or_else(|| Error::new(format!("there is no guard {}", self.victim)))
    }

    fn wait_in_step(&self) -> Result<()> {
        wait_until("all guards to be in step", RECOVERY, || {
            for daemon in self.daemons {
                let peers = daemon.show("peers")?;
                if peers["in_step"] != true {
                    return Err(Error::new(peers["standing"].to_string()));
                }
            }
            Ok(())
        })
    }

    /// Has every guard say how it stands.
    fn tell(&self) -> Result<()> {
        for daemon in self.daemons {
            let peers = daemon.show("peers")?;
            say(&format!(
                "  guard {} is {}",
                peers["own"],
                peers["standing"].as_str().unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// Has the routers spray over the guards that may carry, as health checks would.
    fn follow(&self, carrying: &mut Vec<u8>, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let mut may = Vec::new();
            for (number, daemon) in (1..).zip(self.daemons) {
                if daemon.show("peers")?["may_carry"] == true {
                    may.push(number);
                }
            }
            // Where none may, the routers have nothing better than what they had.
            if !may.is_empty() && may != *carrying {
                self.lab.spray_over(&may)?;
                *carrying = may;
            }
            std::thread::sleep(CHECK);
        }
        Ok(())
    }
}

/// The spans as lines of the act's table.
pub(crate) fn table(spans: &[Span]) -> String {
    let mut table = format!(
        "{:43}{:>8}{:>8}{:>9}{:>8}{:>7}{:>8}\n",
        "new connections, sprayed", "asked", "served", "slowly", "failed", "hung", "twice"
    );
    for Span { name, count } in spans {
        let _ = writeln!(
            table,
            "  {name:41}{:>8}{:>8}{:>9}{:>8}{:>7}{:>8}",
            count.asked, count.served, count.slow, count.failed, count.hung, count.twice
        );
    }
    table + "  (slowly: after more than 200 ms; hung: nothing came for six seconds)\n"
}

/// What must hold whatever a trouble costs.
pub(crate) fn wrong(spans: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Span { name, count } in spans {
        if count.served == 0 {
            wrong.push(format!("{name}: no connection was served"));
        }
    }
    if let Some(Span { name, count }) = spans.first()
        && count.served != count.asked
    {
        wrong.push(format!("{name}: {count}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &'static str, served: u64) -> Span {
        let count = Count {
            asked: 9,
            served,
            ..Count::default()
        };
        Span { name, count }
    }

    #[test]
    fn a_trouble_may_cost_something_and_calm_nothing() {
        assert!(wrong(&[span("calm", 9), span("cut", 3)]).is_empty());
        assert_eq!(wrong(&[span("calm", 8), span("cut", 3)]).len(), 1);
        assert_eq!(wrong(&[span("calm", 9), span("cut", 0)]).len(), 1);
        assert!(table(&[span("calm", 9)]).contains("calm"));
    }
}
