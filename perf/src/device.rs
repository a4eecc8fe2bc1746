//! Names of devices on a command line, the same for every tool: a network interface of the kernel's,
//! a PCI address, or a DPDK device with arguments.

use bindings::Interface;

/// Bytes that the headers of a packet ring's frame take.
pub(crate) const RING_HEADER_BYTES: usize = 32;
/// The packet ring of an interface: room for what comes while the processor is elsewhere.
const BLOCK_BYTES: usize = 1 << 16;
const RING_BYTES: usize = 1 << 24;
/// A ring's frame that has room for ordinary ones.
const LEAST_FRAME_BYTES: usize = 2048;

/// The DPDK device of what is named, in the calling thread's name space: an interface is reached by
/// a packet socket, with room for frames of so many bytes and this many queues. `place` tells the
/// devices of one process apart.
pub(crate) fn dpdk_name(place: usize, text: &str, largest_frame: usize, queues: usize) -> String {
    let text = text.trim();
    let is_interface = !text.contains([',', ':']) && Interface::named(text).is_ok();
    if !is_interface {
        return text.to_owned();
    }
    let frame = (largest_frame + RING_HEADER_BYTES)
        .next_power_of_two()
        .clamp(LEAST_FRAME_BYTES, BLOCK_BYTES);
    let count = RING_BYTES / frame;
    let pairs = match queues {
        0 | 1 => String::new(),
        several => format!(",qpairs={several}"),
    };
    format!(
        "net_af_packet{place},iface={text}{pairs},blocksz={BLOCK_BYTES},framesz={frame},framecnt={count},qdisc_bypass=1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j4_an_interface_is_named_as_such_and_other_devices_are_left_alone() {
        assert_eq!(
            dpdk_name(1, " lo", 1518, 1),
            "net_af_packet1,iface=lo,blocksz=65536,framesz=2048,framecnt=8192,qdisc_bypass=1"
        );
        let jumbo = dpdk_name(0, "lo", 9018, 2);
        assert!(jumbo.contains(",qpairs=2,") && jumbo.contains(",framesz=16384,framecnt=1024,"));
        for other in [
            "net_null0",
            "0000:01:00.0",
            "net_af_packet0,iface=lo",
            "nosuch0",
            "",
        ] {
            assert_eq!(dpdk_name(0, other, 1518, 1), other);
        }
    }
}
