//! What the tests of verdicts and refusals share.

use dataplane::drop_reason::DropReason;
use dataplane::parse::flags;
use dataplane::wire::address::{Address, Family};

use crate::rig::conversation::Conversation;
use crate::rig::packets::address;
use crate::rig::{Rig, Setup, Side};

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(crate) fn setups() -> impl Iterator<Item = Setup> {
    let vlans = [[None, None], [Some(100), Some(200)], [None, Some(200)]];
    (1..=3).flat_map(move |workers| {
        vlans.map(|vlans| Setup {
            workers,
            vlans,
            ..Setup::default()
        })
    })
}

/// Some address outside that is nobody's client.
pub(crate) fn stranger(family: Family) -> Address {
    match family {
        Family::V4 => address("203.0.113.9"),
        Family::V6 => address("2001:db8:7::9"),
    }
}

pub(crate) fn server(family: Family) -> Address {
    Conversation::new(family, 1).server
}

/// The drop that one packet from `side` ends in.
pub(crate) fn dropped(rig: &mut Rig, side: Side, packet: &[u8]) -> DropReason {
    let frame = rig.framed(side, packet);
    dropped_frame(rig, side, &frame)
}

pub(crate) fn dropped_frame(rig: &mut Rig, side: Side, frame: &[u8]) -> DropReason {
    let before = rig.counters();
    rig.arrive(side, frame);
    let sent = rig.settle();
    let after = rig.counters();
    let reasons = DropReason::ALL.iter().copied();
    let counted: Vec<_> = reasons
        .filter(|&reason| after.drops(reason) != before.drops(reason))
        .collect();
    assert_eq!(counted.len(), 1, "{counted:?}, sent {sent:02x?}");
    counted[0]
}

/// A client that has answered its cookie; the server has its SYN.
pub(crate) fn proved(rig: &mut Rig, family: Family, number: u16) -> Conversation {
    let mut talk = Conversation::new(family, number);
    rig.send(Side::Outside, &talk.syn());
    let cookie = rig.settle_one(Side::Outside);
    talk.take_cookie(&cookie);
    let ack = talk.client_sends(flags::ACK, b"");
    rig.send(Side::Outside, &ack);
    rig.settle_one(Side::Inside);
    talk
}
