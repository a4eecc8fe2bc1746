//! How much packet memory an appliance needs, and of which pages it is made.

use std::fs;
use std::path::Path;

use dataplane::limits::{packets_between_workers, packets_that_move, packets_that_wait};

use crate::failure::Failure;
use crate::profile::{HugePages, Profile};

/// Packet buffers that each worker's thread may keep to itself.
pub(super) const CACHE: u32 = 256;
/// Descriptors of each queue, in either direction.
pub(super) const DESCRIPTORS: u16 = 1024;
/// Data in a buffer that holds an ordinary frame.
const DATA_ROOM_BYTES: u16 = 2048;
/// Ethernet header, two VLAN tags and frame check sequence.
const FRAME_OVERHEAD_BYTES: u16 = 26;
/// A buffer's header, its headroom, and what the pool adds.
const BUFFER_OVERHEAD_BYTES: u64 = 128 + 128 + 64;
/// An ordinary page; a buffer never reaches from one into the next, unless it is larger.
const PAGE_BYTES: u64 = 4096;
/// What EAL and the drivers take besides the pool.
const EAL_MIB: u64 = 48;

/// How many packet buffers there are, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    /// Buffers.
    pub(super) buffers: u32,
    /// Room for data in each, in octets.
    pub(super) data_room_bytes: u16,
    /// Memory for EAL to reserve, in MiB.
    pub(super) memory_mib: u32,
}

/// The queues that are asked of all ports together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueCount {
    /// Receive queues.
    pub(super) receive: u32,
    /// Transmit queues.
    pub(super) transmit: u32,
}

/// Room for everything that can hold a packet at once: descriptors, caches, bursts, rings, and
/// whatever waits.
pub(super) fn plan(
    profile: &Profile,
    queues: QueueCount,
    huge_pages: bool,
) -> Result<MemoryPlan, Failure> {
    let workers = profile.runtime.workers.len();
    let of_worker = 2 * u64::from(CACHE) + packets_that_move(profile.ports.len()) as u64;
    let moving = u64::from(DESCRIPTORS) * u64::from(queues.receive + queues.transmit)
        + workers as u64 * of_worker;
    let waiting = workers * packets_that_wait(profile.replication.is_some());
    let waiting = (waiting + packets_between_workers(workers)) as u64;
    let mtu = profile.ports.iter().map(|port| port.mtu_bytes).max();
    let frame = mtu.unwrap_or(1500).saturating_add(FRAME_OVERHEAD_BYTES);
    let data_room_bytes = frame.next_multiple_of(64).max(DATA_ROOM_BYTES);
    let bytes = buffer_bytes(data_room_bytes, huge_pages);
    let mib = |buffers: u64| (buffers * bytes).div_ceil(1 << 20) + EAL_MIB;
    let most = match profile.runtime.memory_mib {
        None => moving + waiting,
        Some(memory_mib) => {
            let room = u64::from(memory_mib).saturating_sub(EAL_MIB) << 20;
            (room / bytes).min(moving + waiting)
        }
    };
    if most < moving {
        return Err(Failure::new(
            format!(
                "{} MiB do not hold the packets of {} queues and {workers} workers",
                profile.runtime.memory_mib.unwrap_or(0),
                queues.receive + queues.transmit
            ),
            format!(
                "set `runtime.memory_mib` to {} or more, or leave it out",
                mib(moving)
            ),
        ));
    }
    Ok(MemoryPlan {
        buffers: u32::try_from(most).unwrap_or(u32::MAX),
        data_room_bytes,
        memory_mib: profile
            .runtime
            .memory_mib
            .unwrap_or(u32::try_from(mib(most)).unwrap_or(u32::MAX)),
    })
}

/// The memory that one buffer takes, with what is lost beside it.
fn buffer_bytes(data_room_bytes: u16, huge_pages: bool) -> u64 {
    let bytes = u64::from(data_room_bytes) + BUFFER_OVERHEAD_BYTES;
    match PAGE_BYTES / bytes {
        _ if huge_pages => bytes,
        0 => bytes.next_multiple_of(PAGE_BYTES),
        in_page => PAGE_BYTES / in_page,
    }
}

/// Whether to take huge pages.
///
/// # Errors
/// When the profile insists on them and there are too few.
pub(super) fn huge_pages(root: &Path, wanted: HugePages, memory_mib: u32) -> Result<bool, Failure> {
    let free_mib = free_huge_mib(root);
    let enough = free_mib >= u64::from(memory_mib);
    match wanted {
        HugePages::Off => Ok(false),
        HugePages::Auto => Ok(enough),
        HugePages::On if enough => Ok(true),
        HugePages::On => {
            let pages = u64::from(memory_mib).div_ceil(2);
            Err(Failure::new(
                format!("{memory_mib} MiB of huge pages are needed, and {free_mib} MiB are free"),
                format!(
                    "run `sysctl -w vm.nr_hugepages={pages}`, or set `runtime.huge_pages: off`"
                ),
            ))
        }
    }
}

/// What is free in huge pages of all sizes, in MiB.
fn free_huge_mib(root: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(root.join("sys/kernel/mm/hugepages")) else {
        return 0;
    };
    let free_mib = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        Some(free.trim().parse::<u64>().ok()? * kib / 1024)
    };
    sizes.flatten().filter_map(free_mib).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{self, Machine, Strictness};

    fn profile(text: &str) -> Profile {
        let machine = Machine {
            cores: vec![0, 1, 2, 3],
            isolated_cores: Vec::new(),
        };
        let loaded = profile::parse(text, Path::new("p.yaml"), &machine, Strictness::Check);
        loaded.expect("a good profile").profile
    }

    const QUEUES: QueueCount = QueueCount {
        receive: 2,
        transmit: 2,
    };

    /// F3: every limit on packets that are kept, one by one; a new one belongs here and into the account.
    fn kept_by_each_worker(shares: bool) -> usize {
        use dataplane::limits::{
            MAX_FRAGMENTS, MAX_HELD, MAX_HELD_FOR_NEIGHBOURS, MAX_RELEASED, MAX_WAITING_FRAMES,
        };
        let of_peers = [MAX_WAITING_FRAMES, MAX_RELEASED];
        let of_all = [
            MAX_HELD,
            MAX_FRAGMENTS,
            MAX_HELD_FOR_NEIGHBOURS,
            MAX_HELD_FOR_NEIGHBOURS,
        ];
        let of_peers: usize = of_peers.iter().filter(|_| shares).sum();
        of_all.iter().sum::<usize>() + of_peers
    }

    #[test]
    fn f3_there_is_room_for_all_that_can_hold_a_packet() {
        use dataplane::limits::{BURST, HAND_OFF_RING, MAX_OUTBOX, MAX_PASSED_ON};

        let alone = "ports: { a: { device: net_null0 } }\nruntime: { workers: [1] }";
        let pair = include_str!("../../../conf/guard-pair.yaml");
        for (shares, text) in [(false, alone), (true, pair)] {
            for workers in 1..4usize {
                let list: Vec<String> = (0..workers).map(|core| core.to_string()).collect();
                let list = format!("workers: [{}]", list.join(", "));
                let profile = profile(&text.replace("workers: [1]", &list));
                assert_eq!(profile.runtime.workers.len(), workers);
                let plan = plan(&profile, QUEUES, true).unwrap();
                let caches = 3 * CACHE as usize / 2;
                let turn = 3 * BURST + MAX_OUTBOX + BURST + MAX_PASSED_ON;
                let least = 4 * usize::from(DESCRIPTORS)
                    + workers * (kept_by_each_worker(shares) + caches + turn)
                    + workers * (workers - 1) * HAND_OFF_RING;
                assert!(plan.buffers as usize >= least, "{shares} {workers}");
                assert_eq!(plan.data_room_bytes, 2048);
            }
        }
    }

    #[test]
    fn a_buffer_never_reaches_into_the_next_ordinary_page() {
        assert_eq!(buffer_bytes(2048, false), 4096);
        assert_eq!(buffer_bytes(1600, false), 2048);
        assert_eq!(buffer_bytes(9088, false), 12288);
        assert_eq!(buffer_bytes(2048, true), 2368);
    }

    #[test]
    fn jumbo_frames_fit_one_buffer() {
        let jumbo = profile("ports: { a: { device: net_null0, mtu: 9000 } }");
        assert!(
            plan(&jumbo, QUEUES, false).unwrap().data_room_bytes >= 9000 + FRAME_OVERHEAD_BYTES
        );
    }

    #[test]
    fn a_bound_on_memory_is_kept_or_refused() {
        // CASES 28
        let text = |mib: u32| {
            format!(
                "ports: {{ a: {{ device: net_null0 }} }}\nruntime: {{ workers: [1], memory_mib: {mib} }}"
            )
        };
        let bounded = plan(&profile(&text(96)), QUEUES, false).unwrap();
        assert_eq!(bounded.memory_mib, 96);
        assert!(u64::from(bounded.buffers) * 4096 <= (96 - EAL_MIB) << 20);
        let with_huge_pages = plan(&profile(&text(96)), QUEUES, true).unwrap();
        assert!(with_huge_pages.buffers > bounded.buffers);
        let queues = QueueCount {
            receive: 32,
            transmit: 32,
        };
        let refused = plan(&profile(&text(96)), queues, false)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("set `runtime.memory_mib` to "),
            "{refused}"
        );
    }

    #[test]
    fn missing_huge_pages_are_told_with_their_cure() {
        // CASES 28
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("free_hugepages"), "50\n").unwrap();
        assert_eq!(huge_pages(root.path(), HugePages::On, 100), Ok(true));
        assert_eq!(huge_pages(root.path(), HugePages::Auto, 101), Ok(false));
        assert_eq!(huge_pages(root.path(), HugePages::Off, 1), Ok(false));
        let refused = huge_pages(root.path(), HugePages::On, 101).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "101 MiB of huge pages are needed, and 100 MiB are free; run `sysctl -w \
             vm.nr_hugepages=51`, or set `runtime.huge_pages: off`"
        );
    }
}
