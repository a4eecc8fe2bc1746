//! Clients of both families that ask all the time, many at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab::address::{SERVER, client};
use lab::curl::{Outcome, Request, fetch, fetch_large};
use lab::scratch::Scratch;
use lab::server::{Body, Site};
use lab::{Error, Namespace, Result};

/// Connections that one curl has open at a time.
const PARALLEL: u32 = 25;
/// Fetches of one curl.
const BATCH: u32 = 2 * PARALLEL;

/// Where clients are, and what they ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    namespace: &'a Namespace,
    scratch: &'a Scratch,
    site: &'a Site,
}

impl<'a> Place<'a> {
    pub(crate) fn of(namespace: &'a Namespace, scratch: &'a Scratch, site: &'a Site) -> Self {
        Self {
            namespace,
            scratch,
            site,
        }
    }
}

/// How the clients ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// For how long they begin new fetches.
    pub(crate) duration: Duration,
    /// How long a fetch may take.
    pub(crate) patience: Duration,
    /// Whether some of them ask for large bodies.
    pub(crate) with_large: bool,
}

/// Large bodies that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Large {
    pub(crate) outcome: Outcome,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// When each began and ended, from the moment on that the clients began to ask.
    pub(crate) spans: Vec<(Duration, Duration)>,
}

/// What came of all fetches, by family: IPv4, IPv6.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    pub(crate) small: [Outcome; 2],
    pub(crate) large: [Large; 2],
}

impl Served {
    /// All fetches together.
    pub(crate) fn all(&self) -> Outcome {
        let mut all = Outcome::default();
        for outcome in &self.small {
            all.add(outcome.clone());
        }
        for large in &self.large {
            all.add(large.outcome.clone());
        }
        all
    }
}

/// How far the clients are, for the live line.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    asked: AtomicU64,
    served: AtomicU64,
    large: AtomicU64,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [asked, served, large] =
            [&self.asked, &self.served, &self.large].map(|count| count.load(Ordering::Relaxed));
        write!(formatter, "connections: {asked:5} asked, {served:5} served")?;
        if large > 0 {
            write!(formatter, " ({large} large)")?;
        }
        Ok(())
    }
}

/// Lets clients of both families ask, and calls `live` each second until the last has its answer.
pub(crate) fn run(
    place: &Place<'_>,
    settings: Settings,
    mut live: impl FnMut(u64, &Progress),
) -> Result<Served> {
    let progress = &Progress::default();
    let started = Instant::now();
    let until = started + settings.duration;
    std::thread::scope(|scope| {
        let small = [0, 1].map(|family| {
            scope.spawn(move || ask_for_small(place, family, until, settings.patience, progress))
        });
        let large = [0, 1].map(|family| {
            let until = if settings.with_large { until } else { started };
            scope.spawn(move || {
                ask_for_large(place, family, (started, until), settings.patience, progress)
            })
        });
        for second in 1.. {
            let next = started + Duration::from_secs(second);
            let is_done = || {
                small.iter().all(|thread| thread.is_finished())
                    && large.iter().all(|thread| thread.is_finished())
            };
            while Instant::now() < next && !is_done() {
                std::thread::sleep(Duration::from_millis(20));
            }
            live(second, progress);
            if is_done() {
                break;
            }
        }
        let panicked = |_| Error::new("a client's thread panicked");
        let [small_ipv4, small_ipv6] = small.map(|thread| thread.join().map_err(panicked));
        let [large_ipv4, large_ipv6] = large.map(|thread| thread.join().map_err(panicked));
        Ok(Served {
            small: [small_ipv4??, small_ipv6??],
            large: [large_ipv4?, large_ipv6?],
        })
    })
}

fn request<'a>(
    body: &'a Body,
    family: usize,
    number: u8,
    count: u32,
    limit: Duration,
) -> Request<'a> {
    Request {
        body,
        server: SERVER[family],
        port: 80,
        client: client(number)[family],
        count,
        parallel: count.min(PARALLEL),
        limit,
    }
}

fn ask_for_small(
    place: &Place<'_>,
    family: usize,
    until: Instant,
    patience: Duration,
    progress: &Progress,
) -> Result<Outcome> {
    let folder = place.scratch.file(&format!("small-{family}"));
    let mut all = Outcome::default();
    for number in (0..=u8::MAX).cycle() {
        if Instant::now() >= until {
            break;
        }
        let request = request(&place.site.small, family, number, BATCH, patience);
        progress.asked.fetch_add(BATCH.into(), Ordering::Relaxed);
        let outcome = fetch(place.namespace, &request, &folder)?;
        progress.served.fetch_add(outcome.served, Ordering::Relaxed);
        all.add(outcome);
    }
    Ok(all)
}

fn ask_for_large(
    place: &Place<'_>,
    family: usize,
    (started, until): (Instant, Instant),
    patience: Duration,
    progress: &Progress,
) -> Large {
    let mut large = Large::default();
    for number in (0..=u8::MAX).cycle() {
        if Instant::now() >= until {
            break;
        }
        let request = request(&place.site.large, family, number, 1, patience);
        progress.asked.fetch_add(1, Ordering::Relaxed);
        let mut outcome = Outcome {
            asked: 1,
            ..Outcome::default()
        };
        let begun = started.elapsed();
        match fetch_large(place.namespace, &request) {
            Ok(came) => {
                outcome.served = 1;
                large.bytes += came.bytes;
                large.took += came.took;
                large.spans.push((begun, started.elapsed()));
                progress.served.fetch_add(1, Ordering::Relaxed);
                progress.large.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => outcome.failures.push(error.to_string()),
        }
        large.outcome.add(outcome);
    }
    large
}
