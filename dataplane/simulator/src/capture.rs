//! Captures of a run as pcapng files, with the virtual clock's times.

use crate::trace::{Passage, Place};
use crate::world::NodeId;

/// The capture of a node's ports: what arrived and what departed, one interface for each port.
///
/// The times begin at 0 with the first frame, in nanoseconds.
#[must_use]
pub fn pcapng(passages: &[Passage], node: NodeId, ports: &[&str]) -> Vec<u8> {
    let mut file = Vec::new();
    // Byte-order magic, version 1.0, unknown section length.
    block(
        &mut file,
        0x0a0d_0d0a,
        &[
            &0x1a2b_3c4d_u32.to_le_bytes(),
            &[1, 0, 0, 0],
            &u64::MAX.to_le_bytes(),
        ],
    );
    for name in ports {
        // Ethernet, no limit on length; its name, and times in nanoseconds.
        let name = name.as_bytes();
        let padding = vec![0; name.len().next_multiple_of(4) - name.len()];
        block(
            &mut file,
            1,
            &[
                &[1, 0, 0, 0, 0, 0, 0, 0],
                &[2, 0],
                &(name.len() as u16).to_le_bytes(),
                name,
                &padding,
                &[9, 0, 1, 0, 9, 0, 0, 0],
                &[0; 4],
            ],
        );
    }
    let mine = || passages.iter().filter(|passage| passage.node == node);
    let start_ns = mine().next().map_or(0, |passage| passage.now_ns);
    for passage in mine() {
        let time_ns = passage.now_ns - start_ns;
        let length = passage.frame.len() as u32;
        let padding = vec![0; passage.frame.len().next_multiple_of(4) - passage.frame.len()];
        // Flags: inbound or outbound.
        let direction: u8 = if passage.place == Place::Arrived {
            1
        } else {
            2
        };
        block(
            &mut file,
            6,
            &[
                &(passage.port as u32).to_le_bytes(),
                &((time_ns >> 32) as u32).to_le_bytes(),
                &(time_ns as u32).to_le_bytes(),
                &length.to_le_bytes(),
                &length.to_le_bytes(),
                &passage.frame,
                &padding,
                &[2, 0, 4, 0, direction, 0, 0, 0],
                &[0; 4],
            ],
        );
    }
    file
}

fn block(file: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let length = 12 + parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    file.extend(kind.to_le_bytes());
    file.extend(length.to_le_bytes());
    parts.iter().for_each(|part| file.extend(*part));
    file.extend(length.to_le_bytes());
}
