//! The workers' events, a family for each unit.

use dataplane::counters::Event;

use super::{Kind, Text, WorkerFigures};

/// What an event counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Frames, packets, segments.
    Packets,
    Sessions,
    /// What guards tell each other of sessions.
    Records,
    /// Occasions.
    Times,
}

const fn unit_of(event: Event) -> Unit {
    match event {
        Event::SessionOpened
        | Event::SessionTracked
        | Event::SessionClosed
        | Event::SessionReset
        | Event::SessionEndedByOrder
        | Event::SessionIdled
        | Event::SessionRefused
        | Event::SessionEvicted
        | Event::SessionReplaced
        | Event::SessionLearned
        | Event::SessionEndedByPeer => Unit::Sessions,
        Event::RecordTold
        | Event::RecordLost
        | Event::RecordPutOff
        | Event::RecordApplied
        | Event::RecordStale
        | Event::RecordRefused
        | Event::RecordForeign => Unit::Records,
        Event::ServiceUnkept
        | Event::SpentFull
        | Event::FloodEntered
        | Event::FloodLeft
        | Event::EchoSilent
        | Event::EchoLimited
        | Event::EchoHeard
        | Event::NeighbourLearned
        | Event::AddressContested
        | Event::Reassembled
        | Event::BufferUnavailable
        | Event::StallNoticed
        | Event::DirectorAsked
        | Event::DirectorUnaware => Unit::Times,
        Event::Received
        | Event::Created
        | Event::Sent
        | Event::Forwarded
        | Event::Spliced
        | Event::SynReceived
        | Event::CookieSent
        | Event::CookieAccepted
        | Event::ServerSynSent
        | Event::ServerSynRetried
        | Event::ProbeSent
        | Event::SplicedLate
        | Event::ServerAsked
        | Event::ChallengeSent
        | Event::ChallengeSuppressed
        | Event::ServerOpened
        | Event::SegmentHeld
        | Event::ResetSent
        | Event::WouldGuard
        | Event::WouldRefuse
        | Event::HandedOff
        | Event::TakenOver
        | Event::IcmpTranslated
        | Event::IcmpErrorSent
        | Event::IcmpErrorSuppressed
        | Event::Bridged
        | Event::EchoCarried
        | Event::EchoReturned
        | Event::EchoProbed
        | Event::EchoProbeReturned
        | Event::EchoRepeated
        | Event::EchoAnswered
        | Event::NeighbourAsked
        | Event::Consumed
        | Event::PeersHeard
        | Event::PeersTold
        | Event::PeersUntold
        | Event::PeersAwaited
        | Event::PeersAnswered
        | Event::PeersSilent
        | Event::NeverMet
        | Event::BeyondView
        | Event::CapturesLost => Unit::Packets,
    }
}

pub(super) fn text(text: &mut Text, workers: &[WorkerFigures]) {
    let families = [
        (
            Unit::Packets,
            "tidegate_packet_events_total",
            "Packets, by what became of them on their way.",
        ),
        (
            Unit::Sessions,
            "tidegate_session_events_total",
            "Sessions, by what became of them.",
        ),
        (
            Unit::Records,
            "tidegate_record_events_total",
            "Records of sessions, to and from other guards.",
        ),
        (
            Unit::Times,
            "tidegate_occasions_total",
            "Occasions that were noticed.",
        ),
    ];
    for (unit, name, help) in families {
        let events = Event::ALL.iter().filter(|event| unit_of(**event) == unit);
        let sentences = events
            .clone()
            .map(|event| format!("{}: {}", event.label(), event.sentence()));
        let sentences: Vec<_> = sentences.collect();
        text.family(
            name,
            Kind::Counter,
            &format!("{help} {}", sentences.join(" ")),
        );
        for (number, worker) in workers.iter().enumerate() {
            for event in events.clone() {
                let labels = [("worker", &*number.to_string()), ("event", event.label())];
                text.sample(name, &labels, worker.counters.event(*event));
            }
        }
    }
}
