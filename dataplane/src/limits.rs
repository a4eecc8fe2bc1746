//! Every capacity, in one place.

/// Packets taken or sent at once. 32 to 64 is what NICs and caches like; 128 measures slower.
pub const BURST: usize = 32;
/// DPDK ports of one appliance.
pub const MAX_PORTS: usize = 16;
/// Logical interfaces: a port, or a VLAN on a port.
pub const MAX_INTERFACES: usize = 32;
/// Addresses of one interface.
pub const MAX_ADDRESSES: usize = 16;
/// Receive queues of one port that one worker polls.
pub const MAX_QUEUES_PER_WORKER: usize = 16;
/// Workers of one appliance.
pub const MAX_WORKERS: usize = 64;
/// IPv6 extension headers that are followed before a packet is refused.
pub const MAX_EXTENSION_HEADERS: usize = 8;
/// Packets that one handled packet or timer may cause to be sent besides itself.
pub const MAX_OUTBOX: usize = 64;
/// Slots of the ring from one worker to another.
pub const HAND_OFF_RING: usize = 1024;
/// Frames that wait for the end of a loop to be passed on to the worker that sends them.
pub const MAX_PASSED_ON: usize = 256;
/// Routes of one appliance.
pub const MAX_ROUTES: usize = 1 << 20;
/// Neighbours that a worker knows, besides those below.
pub const MAX_NEIGHBOURS: usize = 4096;
/// Neighbours that a worker asks for at once, besides reserved ones.
pub const MAX_NEIGHBOURS_ASKED: usize = 512;
/// Neighbours that only said that they are there, and that a worker has never asked.
pub const MAX_NEIGHBOURS_CLAIMED: usize = 1024;
/// Neighbours that the configuration names: protected servers, routers, peers.
pub const MAX_NEIGHBOURS_RESERVED: usize = 2048;
/// All neighbours of a worker.
pub const NEIGHBOUR_PLACES: usize =
    MAX_NEIGHBOURS + MAX_NEIGHBOURS_ASKED + MAX_NEIGHBOURS_CLAIMED + MAX_NEIGHBOURS_RESERVED;
/// Packets that wait for one neighbour's answer.
pub const MAX_HELD_PER_NEIGHBOUR: usize = 32;
/// Packets that wait for the answer of any neighbour that is not reserved, and so many again for
/// those that are.
pub const MAX_HELD_FOR_NEIGHBOURS: usize = 512;
/// Neighbour updates that wait to be told to the other workers.
pub const MAX_NEIGHBOUR_UPDATES: usize = 64;
/// Neighbour timers that a worker serves in one loop.
pub const MAX_NEIGHBOUR_TIMERS: usize = 16;
/// ICMP errors that a worker sends in a second: so many that say that a packet is too big, and so
/// many others.
pub const ICMP_ERRORS_PER_SECOND: u64 = 1000;
/// ICMP errors that a worker sends at once after a pause, likewise.
pub const ICMP_ERROR_BURST: u64 = 50;
/// Fragments that one packet is cut into on its way out.
pub const MAX_FRAGMENTS_MADE: usize = 32;
/// Rules of one list.
pub const MAX_RULES: usize = 4096;
/// Tests of a packet that one list of rules has in all.
pub const MAX_CONDITIONS: usize = 16_384;
/// How deep a rule's conditions are nested.
pub const MAX_CONDITION_DEPTH: usize = 32;
/// Fragments of one datagram: enough for 65,535 octets over links of 1,100.
pub const MAX_FRAGMENTS_PER_DATAGRAM: usize = 64;
/// Incomplete datagrams of a worker.
pub const MAX_DATAGRAMS: usize = 1024;
/// Incomplete datagrams of one source (for IPv6, of its /64).
pub const MAX_DATAGRAMS_PER_SOURCE: usize = 64;
/// Fragments that a worker holds.
pub const MAX_FRAGMENTS: usize = 4096;
/// Fragments that a worker holds of one source.
pub const MAX_FRAGMENTS_PER_SOURCE: usize = 256;
/// Octets of fragments that a worker holds.
pub const MAX_FRAGMENT_BYTES: usize = 4 << 20;
/// Octets of fragments that a worker holds of one source.
pub const MAX_FRAGMENT_BYTES_PER_SOURCE: usize = 256 << 10;
/// Expired datagrams that a worker frees in one loop.
pub const MAX_FRAGMENT_TIMERS: usize = 16;
/// Protected servers of one guard.
pub const MAX_SERVERS: usize = 1024;
/// Servers that a worker remembers: those that left the profile keep their place while sessions or cookies refer to
/// it, and as many others can take over at once.
pub const MAX_PLACES: usize = 2 * MAX_SERVERS;
/// Services, each an address and a port, of which a worker knows what they do; of more, what their
/// address does counts.
pub const MAX_SERVICES: usize = 4096;
/// Forms of SYNs whose answers a worker has at hand, a power of two; of others they are found out again.
pub const SYN_FORMS: usize = 64;
/// Ports of one server that are asked what they do before clients come.
pub const MAX_PROBED_PORTS: usize = 8;
/// Ranges of protected ports of one server.
pub const MAX_PORT_RANGES: usize = 16;
/// Used handshakes that a worker remembers after their sessions have left the table: at least so
/// many (16 MiB),
pub const MIN_SPENT: usize = 1 << 21;
/// and so many for each session that the table can hold.
pub const SPENT_PER_SESSION: usize = 2;
/// Sessions of half-open handshakes that are only watched may take one in so many places of the table.
pub const TRACKED_HALF_OPEN_SHARE: usize = 4;
/// Segments that wait for one server's answer.
pub const MAX_HELD_PER_SESSION: usize = 16;
/// Segments of all sessions of a worker that wait for servers' answers.
pub const MAX_HELD: usize = 8192;
/// Server sides that a worker opens at once.
pub const MAX_HALF_OPEN: usize = 32_768;
/// Timers that a worker serves in one loop.
pub const MAX_TIMERS_PER_LOOP: u32 = 64;
/// VLAN tags of a frame behind which a transparent wire looks.
pub const MAX_TAGS: usize = 8;
/// Clients whose link-layer header a transparent wire remembers, a multiple of four.
pub const MAX_WIRE_PATHS: usize = 8192;
/// Echoes that one server is sent by a worker in a second; further SYNs are answered at once.
pub const MAX_ECHOES_PER_SECOND: u32 = 20_000;
/// Echoes that one server is sent by a worker before one of them comes back; further SYNs are answered
/// at once.
pub const MAX_ECHOES_IN_FLIGHT: u32 = 128;
/// SYNs carried by a worker that it remembers, a power of two.
pub const MAX_ECHOES_REMEMBERED: usize = 65_536;
/// Slots of the rings between the control thread and a worker.
pub const COMMAND_RING: usize = 64;
/// Rows of one page of a listing.
pub const LISTING_PAGE: usize = 64;
/// Packets that a capture holds until they are written.
pub const CAPTURE_RING: usize = 2048;
/// Appliances that share, this one included.
pub const MAX_PEERS: usize = 32;
/// Slots of the rings of records between a worker and the control thread.
pub const PEER_RING: usize = 65_536;
/// News of peers that wait for a place in a worker's ring.
pub const PEER_NEWS: usize = 65_536;
/// Slots of the rings of packets of the replication port.
pub const DATAGRAM_RING: usize = 1024;
/// Octets of the largest packet of the replication port.
pub const DATAGRAM_BYTES: usize = 2048;
/// Empty packets that a worker keeps for what comes to the replication port.
pub const DATAGRAM_STOCK: usize = 256;
/// Packets that a worker sends to the peers in one loop.
pub const MAX_DATAGRAMS_PER_LOOP: usize = 32;
/// Messages for the peers that a worker keeps until its ring takes them.
pub const MAX_UNTOLD: usize = 8192;
/// What a worker takes from its peers in one loop.
pub const NEWS_PER_LOOP: usize = 64;
/// A worker that did nothing for so long has missed what its peers said: it hears them first.
pub const STALL_NS: u64 = 100_000_000;
/// How long it waits for that at most.
pub const CATCH_UP_NS: u64 = 2_000_000_000;
/// Records of one page of a full resynchronisation.
pub const PAGE_RECORDS: usize = 64;
/// Sessions that are looked at in one loop when the peers have changed.
pub const RETOLD_PER_LOOP: usize = 16;
/// Flows whose packets wait for a peer's word.
pub const MAX_WAITING_FLOWS: usize = 4096;
/// Packets of one flow that wait for a peer's word.
pub const MAX_WAITING_PER_FLOW: usize = 8;
/// Packets of a worker that wait for a peer's word.
pub const MAX_WAITING_FRAMES: usize = 8192;
/// Packets that need wait no longer and are handled in the next loops.
pub const MAX_RELEASED: usize = 1024;
/// Packets that have waited and are handled in one loop.
pub const RELEASED_PER_LOOP: usize = 64;
/// Questions that a worker has for directors in a second.
pub const QUERIES_PER_SECOND: u64 = 100_000;
/// Questions that a worker has at once after a pause.
pub const QUERY_BURST: u64 = 1024;
/// Handshakes of peers that a worker remembers.
pub const MAX_BEGUN: usize = 16_384;
/// Messages that are taken from one worker for its peers at a time.
pub const RECORDS_PER_TURN: usize = 4096;
/// News that are given to the workers at a time.
pub const NEWS_PER_TURN: usize = 4096;

/// Packets that wait in one worker for something to happen, at most: an account of everything that
/// keeps packets from one turn of its loop to the next. `shares` says whether it has peers.
pub const fn packets_that_wait(shares: bool) -> usize {
    let for_servers = MAX_HELD;
    let for_neighbours = 2 * MAX_HELD_FOR_NEIGHBOURS;
    let for_fragments = MAX_FRAGMENTS;
    let for_peers = if shares {
        MAX_WAITING_FRAMES + MAX_RELEASED
    } else {
        0
    };
    for_servers + for_neighbours + for_fragments + for_peers
}

/// Packets that one worker moves in one turn, at most, by so many ports: what it has received and
/// sorts, what it makes meanwhile, and what is gathered on its way out.
pub const fn packets_that_move(ports: usize) -> usize {
    let received = 2 * BURST;
    let dropped = BURST;
    let made = MAX_OUTBOX + MAX_FRAGMENTS_MADE + MAX_FRAGMENTS_PER_DATAGRAM;
    let leaving = ports * BURST + MAX_PASSED_ON;
    received + dropped + made + leaving
}

/// Packets on their way between so many workers, at most.
pub const fn packets_between_workers(workers: usize) -> usize {
    workers * workers.saturating_sub(1) * HAND_OFF_RING
}
