//! What went over the links: the last of it in full, all of it as a hash, or all of it in full for
//! a capture.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;

use crate::frame::{self, Packet};
use crate::world::{NodeId, PortOf};

/// How many passages are kept for a failure's report, unless `TIDEGATE_TRACE` says otherwise.
const KEPT: usize = 60;

/// Where on its way a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A node sent it. The link may still lose it.
    Departed,
    /// It came to a node.
    Arrived,
}

/// A frame seen at a node's port.
#[derive(Clone, Debug)]
pub struct Passage {
    /// When.
    pub now_ns: u64,
    /// Leaving or coming.
    pub place: Place,
    /// At which node.
    pub node: NodeId,
    /// At which of its ports.
    pub port: usize,
    /// Its octets.
    pub frame: Vec<u8>,
    /// Its IP packet, if it carries one that can be read.
    pub packet: Option<Packet>,
}

/// The memory of a run.
#[derive(Debug)]
pub struct Trace {
    last: VecDeque<Passage>,
    kept: usize,
    /// Nodes of which no report is made.
    hidden: BTreeSet<NodeId>,
    /// Likewise ports.
    hidden_ports: BTreeSet<PortOf>,
    hash: u64,
    passages: u64,
    recording: Option<Vec<Passage>>,
}

impl Default for Trace {
    fn default() -> Self {
        let wanted = std::env::var("TIDEGATE_TRACE")
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            last: VecDeque::new(),
            kept: wanted.unwrap_or(KEPT),
            hidden: BTreeSet::new(),
            hidden_ports: BTreeSet::new(),
            hash: 0,
            passages: 0,
            recording: None,
        }
    }
}

impl Trace {
    /// Leaves a node out of failures' reports: what passes it passes others too.
    pub fn hide(&mut self, node: NodeId) {
        self.hidden.insert(node);
    }

    /// Leaves a port out of failures' reports: what is sealed tells nothing.
    pub fn hide_port(&mut self, port: PortOf) {
        self.hidden_ports.insert(port);
    }

    /// Keeps every passage from here on.
    pub fn record(&mut self) {
        self.recording = Some(Vec::new());
    }

    /// What was kept since [`Self::record`].
    #[must_use]
    pub fn recorded(&self) -> &[Passage] {
        self.recording.as_deref().unwrap_or_default()
    }

    /// A number that two runs share only if every frame of both was the same, at the same time,
    /// at the same place.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many frames were seen.
    #[must_use]
    pub fn passages(&self) -> u64 {
        self.passages
    }

    pub(crate) fn push(&mut self, passage: Passage) {
        self.passages += 1;
        let place = [passage.now_ns, passage.node.0 as u64, passage.port as u64];
        place.into_iter().for_each(|word| self.mix(word));
        self.mix(passage.place as u64);
        for chunk in passage.frame.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        if let Some(recording) = &mut self.recording {
            recording.push(passage.clone());
        }
        // Neighbours that ask for each other are hardly ever what went wrong.
        let is_talk = passage
            .packet
            .as_ref()
            .is_some_and(|one| !one.is_neighbour_discovery());
        let is_hidden = self.hidden.contains(&passage.node)
            || self.hidden_ports.contains(&(passage.node, passage.port));
        if is_talk && !is_hidden {
            if self.last.len() == self.kept {
                self.last.pop_front();
            }
            self.last.push_back(passage);
        }
    }

    fn mix(&mut self, word: u64) {
        let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    /// The last passages as text, a line each.
    pub(crate) fn describe(&self, name_of: impl Fn(NodeId) -> String) -> String {
        let mut text = String::new();
        for passage in &self.last {
            let seconds = passage.now_ns as f64 / 1e9;
            let arrow = match passage.place {
                Place::Departed => "->",
                Place::Arrived => "<-",
            };
            let name = name_of(passage.node);
            let line = frame::describe(&passage.frame);
            let _ = writeln!(
                text,
                "{seconds:>14.9} {name}:{} {arrow} {line}",
                passage.port
            );
        }
        text
    }
}
