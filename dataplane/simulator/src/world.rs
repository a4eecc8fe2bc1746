//! Nodes, the links between them and the one clock of them all.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::frame;
use crate::invariant::Invariant;
use crate::link::{Link, LinkSettings};
use crate::node::Node;
use crate::random::Random;
use crate::trace::{Passage, Place, Trace};

/// A node's place in its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A node's port.
pub type PortOf = (NodeId, usize);

/// How many steps may follow each other without the clock moving on.
const MAX_STEPS_AT_ONCE: u64 = 200_000;

/// How many frames may pass the ports of a world: many times what the longest schedule takes. A
/// conversation without an end fails here before it takes all memory.
const MAX_FRAMES: u64 = 5_000_000;

/// How many steps a run may take: many times what the longest schedule does. A node that is busy
/// without end, a moment at a time, fails here.
const MAX_STEPS: u64 = 5_000_000;

/// Something that changes the world at its time.
type Act = Box<dyn FnOnce(&mut World)>;

enum Event {
    Arrive(NodeId, usize, Vec<u8>),
    Wake(NodeId),
    Act(Act),
}

/// An event in the queue: of those at one time, the one that was put in first comes first.
struct Scheduled {
    at_ns: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ns, self.order) == (other.at_ns, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.order).cmp(&(other.at_ns, other.order))
    }
}

struct Slot {
    name: String,
    node: Box<dyn Node>,
    wake_ns: Option<u64>,
}

/// Why a run failed, with all that is needed to see it again.
#[derive(Debug)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// When it failed.
    pub now_ns: u64,
    /// What should have held.
    pub invariant: String,
    /// What did not.
    pub what: String,
    /// The last frames.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.now_ns as f64 / 1e9;
        writeln!(f, "the last frames:\n{}", self.trace)?;
        writeln!(
            f,
            "seed {} at {seconds:.9} s: {}: {}",
            self.seed, self.invariant, self.what
        )?;
        write!(
            f,
            "again: TIDEGATE_SEED={} cargo test -p tidegate-simulator",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}

/// A virtual network.
///
/// Build it with [`World::add`], [`World::connect`] and [`World::require`], plan with
/// [`World::at`], then [`World::run_until`]; the same calls with the same seed give the same run.
/// Between runs, [`World::get`] and [`World::get_mut`] reach into nodes.
pub struct World {
    seed: u64,
    random: Random,
    now_ns: u64,
    order: u64,
    steps: u64,
    steps_at_once: u64,
    max_frames: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    slots: Vec<Slot>,
    links: BTreeMap<PortOf, (PortOf, Link)>,
    invariants: Vec<Box<dyn Invariant>>,
    trace: Trace,
}

impl World {
    /// An empty world. `seed` decides everything in it that is random.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            now_ns: 0,
            order: 0,
            steps: 0,
            steps_at_once: 0,
            max_frames: MAX_FRAMES,
            queue: BinaryHeap::new(),
            slots: Vec::new(),
            links: BTreeMap::new(),
            invariants: Vec::new(),
            trace: Trace::default(),
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The world's random numbers.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// What went over the links.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What went over the links.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// Puts a node into the world.
    pub fn add(&mut self, name: impl Into<String>, node: impl Node) -> NodeId {
        let id = NodeId(self.slots.len());
        self.slots.push(Slot {
            name: name.into(),
            node: Box::new(node),
            wake_ns: None,
        });
        self.wake(id, self.now_ns);
        id
    }

    /// Joins two ports by a link whose two directions do the same to packets.
    pub fn connect(&mut self, one: PortOf, other: PortOf, settings: LinkSettings) {
        for (from, to) in [(one, other), (other, one)] {
            let link = Link::new(settings, self.random.next_u64());
            let earlier = self.links.insert(from, (to, link));
            assert!(
                earlier.is_none(),
                "port {} of {} is taken",
                from.1,
                self.name_of(from.0)
            );
        }
    }

    /// Changes what a link does, in the direction that leaves `from`.
    pub fn set_link(&mut self, from: PortOf, settings: LinkSettings) {
        if let Some((_, link)) = self.links.get_mut(&from) {
            link.set(settings);
        }
    }

    /// Lets no more frames than this pass all ports together.
    pub fn limit_frames(&mut self, frames: u64) {
        self.max_frames = frames;
    }

    /// Makes the world hold this at every step.
    pub fn require(&mut self, invariant: impl Invariant + 'static) {
        self.invariants.push(Box::new(invariant));
    }

    /// Does `act` at `at_ns`.
    pub fn at(&mut self, at_ns: u64, act: impl FnOnce(&mut Self) + 'static) {
        self.schedule(at_ns, Event::Act(Box::new(act)));
    }

    /// The node `id`.
    ///
    /// # Panics
    /// When it is no `T`.
    #[must_use]
    pub fn get<T: Node>(&self, id: NodeId) -> &T {
        let node: &dyn Any = &*self.slots[id.0].node;
        node.downcast_ref().expect("the node is of another type")
    }

    /// The node `id`; it is polled soon, as it may have been given something to do.
    ///
    /// # Panics
    /// When it is no `T`.
    pub fn get_mut<T: Node>(&mut self, id: NodeId) -> &mut T {
        self.wake(id, self.now_ns);
        let node: &mut dyn Any = &mut *self.slots[id.0].node;
        node.downcast_mut().expect("the node is of another type")
    }

    /// The name of a node.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        self.slots[id.0].name.clone()
    }

    /// Runs until `end_ns`, or until something that must hold does not.
    ///
    /// # Errors
    /// What did not hold. A panic counts as such.
    pub fn run_until(&mut self, end_ns: u64) -> Result<(), Box<Failure>> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at_ns > end_ns {
                break;
            }
            let stepped = catch_unwind(AssertUnwindSafe(|| self.step()));
            match stepped {
                Ok(Ok(())) => {}
                Ok(Err((invariant, what))) => return Err(self.failure(invariant, what)),
                Err(panic) => return Err(self.failure("no panic", sentence_of(&*panic))),
            }
        }
        self.now_ns = self.now_ns.max(end_ns);
        Ok(())
    }

    /// Runs for so long from now.
    ///
    /// # Errors
    /// As [`Self::run_until`].
    pub fn run_for(&mut self, span_ns: u64) -> Result<(), Box<Failure>> {
        self.run_until(self.now_ns + span_ns)
    }

    /// Asks every invariant whether the run may end like this.
    ///
    /// # Errors
    /// What does not hold.
    pub fn finish(&mut self) -> Result<(), Box<Failure>> {
        let ended = self.ask(|invariant, world| invariant.at_end(world));
        ended.map_err(|(invariant, what)| self.failure(invariant, what))
    }

    /// A failure at this point of the run, for what is no invariant's to say.
    #[must_use]
    pub fn fail(&self, invariant: &str, what: String) -> Box<Failure> {
        self.failure(invariant, what)
    }

    fn failure(&self, invariant: &str, what: String) -> Box<Failure> {
        Box::new(Failure {
            seed: self.seed,
            now_ns: self.now_ns,
            invariant: invariant.to_owned(),
            what,
            trace: self.trace.describe(|id| self.name_of(id)),
        })
    }

    fn schedule(&mut self, at_ns: u64, event: Event) {
        self.order += 1;
        let at_ns = at_ns.max(self.now_ns);
        self.queue.push(Reverse(Scheduled {
            at_ns,
            order: self.order,
            event,
        }));
    }

    fn wake(&mut self, id: NodeId, at_ns: u64) {
        let at_ns = at_ns.max(self.now_ns);
        let slot = &mut self.slots[id.0];
        if slot.wake_ns.is_none_or(|earlier_ns| at_ns < earlier_ns) {
            slot.wake_ns = Some(at_ns);
            self.schedule(at_ns, Event::Wake(id));
        }
    }

    /// Serves one event and checks what must hold.
    fn step(&mut self) -> Result<(), (&'static str, String)> {
        let Some(Reverse(next)) = self.queue.pop() else {
            return Ok(());
        };
        self.steps_at_once = if next.at_ns > self.now_ns {
            0
        } else {
            self.steps_at_once + 1
        };
        if self.steps_at_once > MAX_STEPS_AT_ONCE {
            return Err((
                "time goes on",
                "the nodes keep each other busy without end".into(),
            ));
        }
        self.steps += 1;
        if self.steps > MAX_STEPS {
            let what = format!("more than {MAX_STEPS} steps have been taken");
            return Err(("a run ends", what));
        }
        self.now_ns = next.at_ns;
        match next.event {
            Event::Arrive(id, port, frame) => {
                self.observe(Place::Arrived, id, port, &frame)?;
                self.with_node(id, |node, now_ns| node.receive(port, frame, now_ns));
                self.wake(id, self.now_ns);
            }
            Event::Wake(id) => {
                // A wake that an earlier one has replaced is stale.
                if self.slots[id.0].wake_ns != Some(self.now_ns) {
                    return Ok(());
                }
                self.slots[id.0].wake_ns = None;
                self.poll(id)?;
            }
            Event::Act(act) => act(self),
        }
        self.ask(|invariant, world| invariant.check(world))
    }

    fn poll(&mut self, id: NodeId) -> Result<(), (&'static str, String)> {
        let mut out = Vec::new();
        self.with_node(id, |node, now_ns| node.poll(now_ns, &mut out));
        for (port, frame) in out {
            self.observe(Place::Departed, id, port, &frame)?;
            self.carry((id, port), frame);
        }
        let now_ns = self.now_ns;
        let next_ns = self.with_node(id, |node, now_ns| node.next_wake_ns(now_ns));
        if let Some(at_ns) = next_ns {
            self.wake(id, at_ns.max(now_ns));
        }
        Ok(())
    }

    /// A frame leaves by a port; without a link it is gone.
    fn carry(&mut self, from: PortOf, frame: Vec<u8>) {
        let Some((to, link)) = self.links.get_mut(&from) else {
            return;
        };
        let (to, port) = *to;
        for at_ns in link.offer(frame.len(), self.now_ns) {
            self.schedule(at_ns, Event::Arrive(to, port, frame.clone()));
        }
    }

    fn with_node<T>(&mut self, id: NodeId, act: impl FnOnce(&mut dyn Node, u64) -> T) -> T {
        let now_ns = self.now_ns;
        let node = &mut *self.slots[id.0].node;
        act(node, now_ns)
    }

    fn observe(
        &mut self,
        place: Place,
        node: NodeId,
        port: usize,
        frame: &[u8],
    ) -> Result<(), (&'static str, String)> {
        let packet = frame::decode(frame);
        let frame = frame.to_vec();
        let passage = Passage {
            now_ns: self.now_ns,
            place,
            node,
            port,
            frame,
            packet,
        };
        let mut outcome = Ok(());
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.observe(&passage) {
                outcome = Err((invariant.name(), what));
            }
        }
        self.trace.push(passage);
        if outcome.is_ok() && self.trace.passages() > self.max_frames {
            let what = format!("more than {} frames have passed", self.max_frames);
            outcome = Err(("a run ends", what));
        }
        outcome
    }

    fn ask(
        &mut self,
        question: impl Fn(&mut dyn Invariant, &Self) -> Result<(), String>,
    ) -> Result<(), (&'static str, String)> {
        let mut invariants = std::mem::take(&mut self.invariants);
        let answers = invariants.iter_mut().map(|invariant| {
            question(invariant.as_mut(), self).map_err(|what| (invariant.name(), what))
        });
        let outcome = answers.collect();
        // What an act has required meanwhile stays required.
        invariants.append(&mut self.invariants);
        self.invariants = invariants;
        outcome
    }
}

fn sentence_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Departure;

    /// Sends back what comes, a while later.
    struct Wall(Vec<Departure>);

    impl Node for Wall {
        fn receive(&mut self, port: usize, frame: Vec<u8>, _now_ns: u64) {
            self.0.push((port, frame));
        }

        fn poll(&mut self, _now_ns: u64, out: &mut Vec<Departure>) {
            out.append(&mut self.0);
        }

        fn next_wake_ns(&self, _now_ns: u64) -> Option<u64> {
            None
        }
    }

    #[test]
    fn a_conversation_without_an_end_is_a_failure() {
        let mut world = World::new(1);
        let one = world.add("one", Wall(vec![(0, vec![0; 60])]));
        let other = world.add("other", Wall(Vec::new()));
        world.connect((one, 0), (other, 0), LinkSettings::default());
        world.limit_frames(1000);
        world.get_mut::<Wall>(one);
        let failure = world.run_until(u64::MAX).unwrap_err();
        assert_eq!(failure.invariant, "a run ends");
        assert_eq!(failure.what, "more than 1000 frames have passed");
    }
}
