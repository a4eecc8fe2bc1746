//! What is counted between peers.

macro_rules! tallies {
    ($($name:ident $label:literal $sentence:literal,)*) => {
        /// Something that happened between peers and is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Tally {
            $(#[doc = $sentence] $name,)*
        }

        impl Tally {
            /// Every one, in the order of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name shown by `tidegate show peers` and in the metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What it means, in a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

tallies! {
    FrameReceived "frame_received" "Frames of peers that were opened and read.",
    FrameSent "frame_sent" "Frames sent, each counted once for every peer that it went to.",
    FrameUnsent "frame_unsent" "Frames that did not fit into what they were to be written to.",
    FrameForOther "frame_for_other" "Frames of peers for another one, which were not opened.",
    OwnFrame "own_frame" "Our own frames, which the group brought back.",
    // Refused frames.
    RefusedTruncated "refused_truncated" "Frames shorter than a header and a tag.",
    RefusedOversized "refused_oversized" "Frames longer than any that a peer sends.",
    RefusedVersion "refused_version" "Frames of another major version.",
    RefusedSender "refused_sender" "Frames of a number that no peer has.",
    RefusedOwnNumber "refused_own_number" "Frames of another appliance that has our number.",
    RefusedSource "refused_source" "Frames of a peer's number from an address that is not the peer's.",
    RefusedEpoch "refused_epoch" "Frames under a key that is unknown, over, or not yet begun.",
    RefusedCheck "refused_check" "Frames whose header check is wrong: of a stranger, or another key.",
    RefusedOldBoot "refused_old_boot" "Frames of an earlier life of a peer.",
    RefusedBudget "refused_budget" "Frames of unknown lives beyond what is worth the keys' derivation.",
    RefusedTag "refused_tag" "Frames that are not what was sealed.",
    RefusedReplayed "refused_replayed" "Frames that came before, or so late that nobody knows.",
    RefusedItems "refused_items" "Frames whose items contradict their lengths or counts.",
    RefusedNotFresh "refused_not_fresh" "Frames of peers that have not yet shown to know this life of ours.",
    // Records.
    RecordSent "record_sent" "Records given to every peer.",
    RecordTold "record_told" "Records given to one peer: directors, who asked, who was away.",
    RecordToSelf "record_to_self" "Records for the director that we are ourselves.",
    RecordReceived "record_received" "Records of peers given to a worker.",
    RecordVersion "record_version" "Records of a version that is not known here, passed over.",
    RecordInvalid "record_invalid" "Records that no guard writes, passed over.",
    RecordUnsent "record_unsent" "Records for one peer that found its queue full or the peer gone.",
    BatchReceived "batch_received" "Batches of records that came for the first time.",
    BatchDuplicate "batch_duplicate" "Batches that had come before.",
    BatchUnread "batch_unread" "Batches and page parts put off because the workers have much to read; they are asked for again.",
    // Repair.
    GapAsked "gap_asked" "Times that a peer was asked for missing batches.",
    BatchRepaired "batch_repaired" "Batches sent again because a peer asked.",
    BatchGone "batch_gone" "Times that missing batches were no longer held by their sender.",
    // Resync.
    ResyncStarted "resync_started" "Times that a peer's tables were asked for.",
    ResyncFinished "resync_finished" "Times that a peer's tables came whole.",
    ResyncAborted "resync_aborted" "Times that a peer's tables ceased to come.",
    PageAsked "page_asked" "Parts of tables asked for, retries included.",
    PageRetried "page_retried" "Parts of tables asked for again, in smaller ones.",
    PageServed "page_served" "Parts of our tables given to peers.",
    PageRefused "page_refused" "Peers' requests for parts of our tables that were not served.",
    // Directors.
    QuerySent "query_sent" "Flows that another guard was asked for.",
    QueryUnsent "query_unsent" "Flows that no guard was asked for: nobody is there, or the queue was full.",
    QueryLimited "query_limited" "Flows that no guard was asked for because of the limit on questions.",
    QueryReceived "query_received" "Flows that peers asked for.",
    QueryUnread "query_unread" "Flows that peers asked for while the workers had too much to read.",
    UnknownSent "unknown_sent" "Peers told that a flow is unknown.",
    UnknownReceived "unknown_received" "Flows that their director does not know.",
    UnknownIgnored "unknown_ignored" "Answers that a flow is unknown, from others than its director.",
    EventLost "event_lost" "Events for the log that nobody fetched in time.",
}

/// The counters.
#[derive(Clone, Debug)]
pub struct Tallies([u64; Tally::COUNT]);

impl Default for Tallies {
    fn default() -> Self {
        Self([0; Tally::COUNT])
    }
}

impl Tallies {
    /// How often it happened.
    pub fn get(&self, what: Tally) -> u64 {
        self.0[what as usize]
    }

    /// All of them with their names.
    pub fn iter(&self) -> impl Iterator<Item = (Tally, u64)> + '_ {
        Tally::ALL.iter().map(|&what| (what, self.get(what)))
    }

    pub(super) fn count(&mut self, what: Tally) {
        self.add(what, 1);
    }

    pub(super) fn add(&mut self, what: Tally, amount: u64) {
        self.0[what as usize] += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut labels: Vec<_> = Tally::ALL.iter().map(|what| what.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Tally::COUNT);
        assert!(Tally::ALL.iter().all(|what| what.sentence().ends_with('.')));
    }
}
