//! What a worker counts, and how the control thread reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::drop_reason::DropReason;
use crate::limits::MAX_INTERFACES;

macro_rules! events {
    ($($name:ident $label:literal $sentence:literal,)*) => {
        /// Something that happened and is counted, beside the drops.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Event {
            $(#[doc = $sentence] $name,)*
        }

        impl Event {
            /// Every event, in the order of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many events there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name shown in the metrics.
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

events! {
    Received "received" "Frames taken from the ports.",
    Created "created" "Frames made here: handshakes, errors, neighbour messages.",
    Sent "sent" "Frames handed to the ports.",
    Forwarded "forwarded" "Packets sent on by rule, outside any session.",
    Spliced "spliced" "Segments translated and sent on.",
    SynReceived "syn_received" "SYNs for protected services.",
    CookieSent "cookie_sent" "SYN-ACKs answered with a cookie.",
    CookieAccepted "cookie_accepted" "ACKs with a good cookie, each of which opens a server side.",
    ServerSynSent "server_syn_sent" "SYNs sent to servers, retries included.",
    ServerSynRetried "server_syn_retried" "SYNs sent to servers again.",
    ProbeSent "probe_sent" "SYNs sent to servers from our own address to learn what they do.",
    ServiceUnkept "service_unkept" "SYN-ACKs of servers that could not be remembered by port: the table of services was full, and the address's last one counts.",
    SessionOpened "session_opened" "Sessions spliced.",
    SessionTracked "session_tracked" "Sessions let through unspliced while no flood was on.",
    SessionClosed "session_closed" "Sessions closed by both sides' FIN.",
    SessionReset "session_reset" "Sessions ended by a RST.",
    SessionEndedByOrder "session_ended_by_order" "Sessions that the operator has ended.",
    SessionIdled "session_idled" "Sessions ended by the idle timer.",
    SessionRefused "session_refused" "Sessions that the server refused or never answered.",
    SessionEvicted "session_evicted" "Ended sessions that left the table early to make room.",
    SessionReplaced "session_replaced" "Open sessions that gave way to the next one of the same ports.",
    SplicedLate "spliced_late" "Segments translated and sent on after their session's end.",
    SpentFull "spent_full" "Times that a used handshake found no room in the memory against replays.",
    ServerAsked "server_asked" "Keepalives that asked a server whether it believed a client's RST.",
    ChallengeSent "challenge_sent" "Challenge ACKs sent (RFC 5961).",
    ChallengeSuppressed "challenge_suppressed" "Challenge ACKs not sent because of their limit.",
    ServerOpened "server_opened" "SYNs of protected servers that opened connections of their own.",
    SegmentHeld "segment_held" "Client segments that waited for the server's answer.",
    ResetSent "reset_sent" "RSTs made here.",
    FloodEntered "flood_entered" "Times that protection was switched on by a flood.",
    FloodLeft "flood_left" "Times that protection was switched off again.",
    WouldGuard "would_guard" "SYNs that would have been answered with a cookie (monitor mode).",
    WouldRefuse "would_refuse" "Segments that would have been refused (monitor mode).",
    HandedOff "handed_off" "Frames given to another worker, which owns their flow or their way out.",
    TakenOver "taken_over" "Frames taken from another worker.",
    IcmpTranslated "icmp_translated" "ICMP errors mapped through a session.",
    IcmpErrorSent "icmp_error_sent" "ICMP errors made here.",
    IcmpErrorSuppressed "icmp_error_suppressed" "ICMP errors not sent: over their limit, or larger than the packet they are about.",
    Bridged "bridged" "Frames that crossed the transparent wire as they came, outside any rule.",
    EchoCarried "echo_carried" "SYNs carried to their server in an echo request.",
    EchoReturned "echo_returned" "Echoes that came back good from a server, each answered by a cookie.",
    EchoProbed "echo_probed" "Echo requests that only asked whether a silent server answers pings again.",
    EchoProbeReturned "echo_probe_returned" "Such echoes that came back.",
    EchoRepeated "echo_repeated" "Repeated SYNs that were answered at once, their echo having been sent before.",
    EchoSilent "echo_silent" "Times that a server was found to drop pings.",
    EchoLimited "echo_limited" "Times that too few of a server's echoes came back, so that its SYNs are answered at once.",
    EchoHeard "echo_heard" "Times that such a server was found to answer again.",
    EchoAnswered "echo_answered" "Pings to our own addresses answered.",
    NeighbourLearned "neighbour_learned" "Neighbours resolved.",
    NeighbourAsked "neighbour_asked" "ARP requests and neighbour solicitations sent.",
    AddressContested "address_contested" "Claims of another station to one of our addresses.",
    Consumed "consumed" "Frames for the appliance itself that were read and used up.",
    Reassembled "reassembled" "Fragmented datagrams found whole.",
    BufferUnavailable "buffer_unavailable" "Times that no packet buffer was free for a packet to be made here.",
    PeersHeard "peers_heard" "Datagrams that came to the replication port and were passed to whoever talks to the peers.",
    PeersTold "peers_told" "Datagrams to the peers that were made into packets.",
    PeersUntold "peers_untold" "Datagrams to the peers that found no packet buffer.",
    SessionLearned "session_learned" "Sessions taken over from a peer's record.",
    SessionEndedByPeer "session_ended_by_peer" "Sessions that ended because a peer said so.",
    RecordTold "record_told" "Records of sessions given to the peers.",
    RecordLost "record_lost" "Records of begun handshakes and answers that found no room on their way to the peers.",
    RecordPutOff "record_put_off" "Changes of sessions that found no room on their way to the peers and are told later.",
    StallNoticed "stall_noticed" "Times that a worker did nothing for long, and decided nothing new before it had heard its peers.",
    RecordApplied "record_applied" "Peers' records taken over.",
    RecordStale "record_stale" "Peers' records that said nothing new, or were about an earlier session of the same ports.",
    RecordRefused "record_refused" "Peers' records for which there was no room.",
    RecordForeign "record_foreign" "Peers' records of servers that are not protected here.",
    PeersAwaited "peers_awaited" "Packets of unknown flows that waited for a peer's word.",
    PeersAnswered "peers_answered" "Packets that had waited and whose flow a peer explained.",
    PeersSilent "peers_silent" "Packets that had waited in vain and were decided on without it.",
    DirectorAsked "director_asked" "Questions for a flow's director.",
    DirectorUnaware "director_unaware" "Answers of directors that do not know the flow either.",
    NeverMet "never_met" "Segments translated here whose session another guard opened.",
    BeyondView "beyond_view" "Segments of shared sessions beyond what was seen here, left to their receiver to judge.",
    CapturesLost "captures_lost" "Packets missing from a capture because its ring was full.",
}

/// Frames and octets through one interface of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames in.
    pub received_packets: u64,
    /// Octets in, without the frame check sequence.
    pub received_bytes: u64,
    /// Frames out.
    pub sent_packets: u64,
    /// Octets out, without the frame check sequence.
    pub sent_bytes: u64,
}

/// One worker's own counters: plain numbers, touched by that worker alone.
#[derive(Clone, Debug)]
pub struct Counters {
    events: [u64; Event::COUNT],
    drops: [u64; DropReason::COUNT],
    traffic: [Traffic; MAX_INTERFACES],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            events: [0; Event::COUNT],
            drops: [0; DropReason::COUNT],
            traffic: [Traffic::default(); MAX_INTERFACES],
        }
    }
}

impl Counters {
    /// Counts one event.
    #[inline]
    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// Counts `amount` events at once.
    #[inline]
    pub fn add(&mut self, event: Event, amount: u64) {
        self.events[event as usize] += amount;
    }

    /// Counts one drop.
    #[inline]
    pub fn dropped(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// How often `event` was counted.
    pub fn event(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// How many packets ended for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// How many packets ended for any reason.
    pub fn all_drops(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// The traffic of one interface.
    #[inline]
    pub fn traffic_mut(&mut self, interface: usize) -> &mut Traffic {
        &mut self.traffic[interface]
    }

    /// The traffic of one interface.
    pub fn traffic(&self, interface: usize) -> Traffic {
        self.traffic[interface]
    }

    /// Adds another worker's counters to these.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.events.iter_mut().zip(&other.events) {
            *mine += theirs;
        }
        for (mine, theirs) in self.drops.iter_mut().zip(&other.drops) {
            *mine += theirs;
        }
        for (mine, theirs) in self.traffic.iter_mut().zip(&other.traffic) {
            mine.received_packets += theirs.received_packets;
            mine.received_bytes += theirs.received_bytes;
            mine.sent_packets += theirs.sent_packets;
            mine.sent_bytes += theirs.sent_bytes;
        }
    }
}

const PUBLISHED: usize = Event::COUNT + DropReason::COUNT + 4 * MAX_INTERFACES;

/// A worker's counters as the control thread sees them: written by the worker now and then, read
/// at any time, without a lock on either side.
#[derive(Debug)]
pub struct Published {
    words: Box<[AtomicU64]>,
}

impl Published {
    /// All zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            words: (0..PUBLISHED).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Makes `counters` visible.
    pub fn store(&self, counters: &Counters) {
        let traffic = counters.traffic.iter().flat_map(|t| {
            [
                t.received_packets,
                t.received_bytes,
                t.sent_packets,
                t.sent_bytes,
            ]
        });
        let values = counters
            .events
            .iter()
            .chain(&counters.drops)
            .copied()
            .chain(traffic);
        for (word, value) in self.words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What was last made visible; each number is whole, but they are not of one instant.
    pub fn load(&self) -> Counters {
        let mut counters = Counters::default();
        let mut words = self.words.iter().map(|word| word.load(Ordering::Relaxed));
        let mut next = || words.next().unwrap_or(0);
        counters.events.iter_mut().for_each(|value| *value = next());
        counters.drops.iter_mut().for_each(|value| *value = next());
        for traffic in &mut counters.traffic {
            traffic.received_packets = next();
            traffic.received_bytes = next();
            traffic.sent_packets = next();
            traffic.sent_bytes = next();
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_was_counted() {
        let mut counters = Counters::default();
        counters.add(Event::Received, 7);
        counters.dropped(DropReason::NoBuffer);
        counters.traffic_mut(3).sent_bytes = 99;
        let published = Published::new();
        published.store(&counters);
        let mut read = published.load();
        assert_eq!(read.event(Event::Received), 7);
        assert_eq!(read.drops(DropReason::NoBuffer), 1);
        assert_eq!(read.traffic(3).sent_bytes, 99);
        read.merge(&counters);
        assert_eq!(read.event(Event::Received), 14);
        assert_eq!(read.all_drops(), 2);
    }
}
