//! The fuzzer: no instrumentation, but guided all the same. A target gives back a hash of what
//! became of its input; an input that leads to something new is kept and mutated further.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::drop_reason::DropReason;

use crate::corpus::{self, Entry};
use crate::mutate::{Random, Shape, mutant};

/// Takes any input; panics when something is wrong. `Ok` holds a hash of what became of the input
/// (see [`shape_of`]): coarse, as it stands for the code that was reached.
pub(crate) type Target = fn(&[u8]) -> Result<u64, DropReason>;

const DEFAULT_SECONDS: u64 = 3;
/// Without a wish, the same inputs come in each run: whether a commit passes is not left to luck.
const DEFAULT_SEED: u64 = 1;
/// Inputs that are kept beside the corpus.
const MAX_POOL: usize = 4096;
/// No input may take longer, on however busy a machine: work on one packet is bounded.
const MAX_EXECUTION: Duration = Duration::from_secs(5);
const MAX_REDUCTIONS: usize = 2000;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A hash of whatever tells two outcomes apart.
pub(crate) fn shape_of(outcome: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}

/// An input at which the target panicked.
pub(crate) struct Failure {
    pub(crate) input: Vec<u8>,
    pub(crate) message: String,
}

/// A search that goes on from one input to the next.
pub(crate) struct Campaign {
    target: Target,
    shape: Shape,
    random: Random,
    pool: Vec<Vec<u8>>,
    seen: BTreeSet<u64>,
}

impl Campaign {
    /// Begins with `inputs`, of which there is at least one.
    pub(crate) fn new(target: Target, shape: Shape, seed: u64, inputs: Vec<Vec<u8>>) -> Self {
        silence_expected_panics();
        let random = Random(seed);
        let mut campaign = Self {
            target,
            shape,
            random,
            pool: inputs,
            seen: BTreeSet::new(),
        };
        for index in 0..campaign.pool.len() {
            if let Ok(outcome) = execute(target, &campaign.pool[index]) {
                campaign.seen.insert(shape_of(outcome));
            }
        }
        campaign
    }

    /// Tries one mutant.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        let base = self.random.below(self.pool.len());
        let other = self.random.below(self.pool.len());
        let input = mutant(
            &mut self.random,
            self.shape,
            &self.pool[base],
            &self.pool[other],
        );
        match execute(self.target, &input) {
            Ok(outcome) => {
                let is_new = self.seen.insert(shape_of(outcome));
                if is_new && self.pool.len() < MAX_POOL {
                    self.pool.push(input);
                }
                Ok(())
            }
            Err(message) => Err(Failure {
                input: reduce(self.target, input),
                message,
            }),
        }
    }
}

/// The replay, then the search. The corpus folder bears the target's name.
#[expect(
    clippy::disallowed_methods,
    reason = "the run has a thread of its own, so that an endless loop can be named"
)]
pub(crate) fn test(name: &str, shape: Shape, target: Target) {
    let seconds = setting("TIDEGATE_FUZZ_SECONDS").unwrap_or(DEFAULT_SECONDS);
    let seed = setting("TIDEGATE_FUZZ_SEED").unwrap_or(DEFAULT_SEED);
    let entries = corpus::read(name);
    let executions = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&executions);
    let run = std::thread::spawn(move || {
        replay(&entries, target, &counter);
        let inputs = entries.into_iter().map(|entry| entry.bytes).collect();
        let campaign = Campaign::new(target, shape, seed, inputs);
        search(campaign, Duration::from_secs(seconds), &counter)
    });
    watch(&run, &executions, seed);
    let found = run.join().unwrap_or_else(|panic| resume_unwind(panic));
    let executions = executions.load(Ordering::Relaxed);
    match found {
        Ok(outcomes) => report(name, executions, outcomes),
        Err(failure) => {
            let path = keep(name, &failure).display().to_string();
            panic!(
                "{}\nexecution {executions} of seed {seed}; the input stands in {path}: \
                 move it to fuzz/corpus/{name}/ when it is mended",
                failure.message
            );
        }
    }
}

/// Every committed input becomes what its file says.
fn replay(entries: &[Entry], target: Target, executions: &AtomicU64) {
    for entry in entries {
        executions.fetch_add(1, Ordering::Relaxed);
        let became = match target(&entry.bytes) {
            Ok(_) => "ok",
            Err(reason) => reason.label(),
        };
        let expected = entry.expected.as_deref().unwrap_or(became);
        assert_eq!(became, expected, "{}", entry.path.display());
    }
}

/// Steps until the time is over, and gives back how many outcomes were told apart.
fn search(
    mut campaign: Campaign,
    duration: Duration,
    executions: &AtomicU64,
) -> Result<usize, Failure> {
    let end = now() + duration;
    while now() < end {
        for _ in 0..64 {
            executions.fetch_add(1, Ordering::Relaxed);
            campaign.step()?;
        }
    }
    Ok(campaign.seen.len())
}

/// Waits for the run, and panics when one input takes too long. The seed leads to it again; the
/// first executions are the corpus's, in the order of the files' names.
#[expect(clippy::disallowed_methods, reason = "it watches from beside the run")]
fn watch<T>(run: &JoinHandle<T>, executions: &AtomicU64, seed: u64) {
    let (mut last, mut since) = (0, now());
    while !run.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        let count = executions.load(Ordering::Relaxed);
        if count != last {
            (last, since) = (count, now());
        }
        let stalled = now() - since > MAX_EXECUTION;
        assert!(!stalled, "execution {count} of seed {seed} does not end");
    }
}

#[expect(clippy::print_stdout, reason = "shown by --nocapture only")]
fn report(name: &str, executions: u64, outcomes: usize) {
    println!("{name}: {executions} inputs, {outcomes} outcomes told apart");
}

/// The outcome, or what the panic said.
fn execute(target: Target, input: &[u8]) -> Result<Result<u64, DropReason>, String> {
    QUIET.set(true);
    let outcome = catch_unwind(|| target(input));
    QUIET.set(false);
    outcome.map_err(|panic| {
        let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = panic.downcast_ref::<String>().cloned().or(literal);
        text.unwrap_or_else(|| "a panic without a message".to_owned())
    })
}

/// Cuts pieces out of a failing input as long as it fails.
fn reduce(target: Target, mut input: Vec<u8>) -> Vec<u8> {
    let (mut piece, mut reductions) = (input.len() / 2, 0);
    while piece > 0 && reductions < MAX_REDUCTIONS {
        let mut at = 0;
        while at + piece <= input.len() && reductions < MAX_REDUCTIONS {
            let mut shorter = input.clone();
            shorter.drain(at..at + piece);
            reductions += 1;
            if execute(target, &shorter).is_err() {
                input = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    input
}

fn keep(name: &str, failure: &Failure) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("fuzz")
        .join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{:016x}.hex", shape_of(&failure.input)));
    let comment = failure.message.replace('\n', " ");
    std::fs::write(&path, corpus::to_text(&failure.input, &comment)).unwrap();
    path
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// The search is bounded in time, and only the search: targets are handed theirs.
#[expect(
    clippy::disallowed_methods,
    reason = "bounds the run; no packet path sees it"
)]
fn now() -> Instant {
    Instant::now()
}

/// A failing input panics once for every attempt to make it smaller; only the last one is told.
fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
}

#[test]
fn a_planted_fault_is_found_and_reduced() {
    fn faulty(input: &[u8]) -> Result<u64, DropReason> {
        let marks: Vec<_> = [0x80, 0xff, 0x0a].map(|mark| input.contains(&mark)).into();
        assert!(!marks.iter().all(|found| *found), "planted");
        Ok(shape_of(marks))
    }
    let mut campaign = Campaign::new(faulty, Shape::Bytes, 1, vec![vec![0x55; 64]]);
    let failure = (0..200_000)
        .find_map(|_| campaign.step().err())
        .expect("a failure");
    assert_eq!(
        (failure.message.as_str(), failure.input.len()),
        ("planted", 3)
    );
}
