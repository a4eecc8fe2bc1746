//! Whether the tester's own devices carry the frames of a description: what they cannot send or
//! receive would be counted as lost by the subject.

use dataplane::parse::ETHERNET_HEADER_BYTES;
use dataplane::wire::ethernet::link_header_bytes;

use super::devices::Refusal;
use crate::traffic::{CHECK_SEQUENCE_BYTES, Kind, Stream, Traffic};

/// EtherTypes of VLAN tags (802.1Q, 802.1ad).
const TAGS: [[u8; 2]; 2] = [[0x81, 0], [0x88, 0xa8]];
const TAG_BYTES: usize = 4;

/// A device of the tester's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room<'a> {
    pub(super) name: &'a str,
    /// The largest packet behind an Ethernet header.
    pub(super) mtu_bytes: usize,
}

/// Refuses a stream whose frames are larger than what its sender sends, or its receiver takes.
pub(super) fn check(traffic: &Traffic, rooms: [Room<'_>; 2]) -> Result<(), Refusal> {
    for stream in &traffic.streams {
        let sender = stream.direction.sender();
        // What is not measured need not come back.
        let sides = [(sender, "send"), (1 - sender, "receive")];
        let sides = &sides[..if stream.is_signed { 2 } else { 1 }];
        let packet = packet_bytes(stream);
        for &(side, does) in sides {
            let Room { name, mtu_bytes } = rooms[side];
            if packet > mtu_bytes {
                return Err(Refusal::new(
                    format!(
                        "{}, stream {}: {name} does not {does} packets of {packet} bytes behind an \
                         Ethernet header, but {mtu_bytes} at the most: that says nothing of the subject",
                        traffic.name, stream.name
                    ),
                    format!(
                        "send smaller frames (`--sizes`), or let the interface carry them, by `ip link \
                         set INTERFACE mtu {packet}`"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The largest packet of a stream behind the Ethernet header and one VLAN tag, in bytes.
fn packet_bytes(stream: &Stream) -> usize {
    match &stream.kind {
        Kind::Replay(capture) => {
            let frames = capture.frames.iter();
            frames.map(|frame| behind_header(frame)).max().unwrap_or(0)
        }
        Kind::Ip(_) | Kind::Raw(_) => {
            let built = stream.sizes.largest().saturating_sub(CHECK_SEQUENCE_BYTES);
            built.saturating_sub(link_header_bytes(stream.vlan))
        }
    }
}

fn behind_header(frame: &[u8]) -> usize {
    let ether_type = &frame[ETHERNET_HEADER_BYTES - 2..ETHERNET_HEADER_BYTES];
    let tag = match TAGS.iter().any(|tag| tag == ether_type) {
        true => TAG_BYTES,
        false => 0,
    };
    frame.len().saturating_sub(ETHERNET_HEADER_BYTES + tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Sizes;

    fn rooms(mtus: [usize; 2]) -> [Room<'static>; 2] {
        let room = |name, mtu_bytes| Room { name, mtu_bytes };
        [room("out0", mtus[0]), room("in0", mtus[1])]
    }

    #[test]
    fn j3_frames_that_the_testers_own_interface_does_not_carry_are_refused() {
        let traffic = |size| Traffic::both_ways("t", &Sizes::fixed(size).unwrap(), false);
        assert_eq!(check(&traffic(1518), rooms([1500, 1500])), Ok(()));
        let refusal = check(&traffic(1518), rooms([1400, 1500])).unwrap_err();
        assert!(
            refusal
                .what
                .contains("out0 does not send packets of 1500 bytes"),
            "{refusal}"
        );
        assert!(refusal.remedy.contains("mtu 1500"), "{refusal}");
        let refusal = check(&traffic(9018), rooms([9000, 1500]).map(|room| room)).unwrap_err();
        assert!(
            refusal
                .what
                .contains("in0 does not receive packets of 9000 bytes"),
            "{refusal}"
        );
        // What need not come back may be larger than what the receiver takes.
        let mut unsigned = traffic(9018).one_way_only();
        unsigned.streams[0].is_signed = false;
        assert_eq!(check(&unsigned, rooms([9000, 1500])), Ok(()));
        // A VLAN tag is no part of the packet.
        let mut tagged = traffic(1522);
        tagged
            .streams
            .iter_mut()
            .for_each(|stream| stream.vlan = Some(7));
        assert_eq!(check(&tagged, rooms([1500, 1500])), Ok(()));
    }

    #[test]
    fn a_tag_of_a_recorded_frame_is_no_part_of_its_packet() {
        let mut frame = vec![0; 118];
        assert_eq!(behind_header(&frame), 104);
        frame[12..14].copy_from_slice(&[0x81, 0]);
        assert_eq!(behind_header(&frame), 100);
    }
}
