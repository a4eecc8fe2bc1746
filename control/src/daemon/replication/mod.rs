//! The replication thread: it stands between the workers and the other guards.
//!
//! It runs on the control core, apart from the control thread, which may be slow. Towards the
//! workers it has rings ([`ControlPeers`]); to the control thread it makes visible how it stands
//! ([`Visible`]), and takes orders from it.

mod carrier;
mod told;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bindings::system::set_timer_slack_ns;
use crossbeam::channel::{self, Receiver, Sender, TryRecvError};
use dataplane::replicate::PeerId;
use dataplane::replicate::config::{PeerConfig, ReplicatorConfig, Transport};
use dataplane::replicate::desk::{ControlPeers, WorkerPeers, desk};
use dataplane::replicate::envelope::header_bytes;
use dataplane::replicate::exchange::{Addresses, Exchange};
use dataplane::replicate::frame::BootId;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::replicator::Replicator;
use dataplane::shard::Shard;
use dataplane::wire::address::Address;
use ring::rand::{SecureRandom, SystemRandom};

use self::carrier::Carrier;
use super::worker_thread::WallClock;
use crate::failure::Failure;
use crate::profile::{self, Replication};

pub(super) use self::told::{Visible, peers as report};

/// Orders that may wait.
const ORDERS: usize = 4;
/// Empty turns before the thread begins to give its core away, and before it begins to sleep.
const SPINS: u32 = 64;
const YIELDS: u32 = SPINS + 16;
/// How long it sleeps. What a worker says waits no longer.
const SLEEP: Duration = Duration::from_micros(50);
/// It sleeps at least so long: where a worker takes no news, something is due all the time.
const SHORTEST: Duration = Duration::from_micros(5);
/// How long the workers may take to send the last words.
const LEAVE_LIMIT: Duration = Duration::from_millis(800);

/// What the control thread wants.
enum Order {
    /// Other keys from now on.
    Keys(Vec<ReplicationKey>),
    /// To say good-bye and end.
    Leave,
}

/// What the replication of an appliance is made of.
pub(super) struct Plan {
    config: ReplicatorConfig,
    addresses: Addresses,
    desks: Vec<ControlPeers>,
}

/// The thread, seen from the control thread.
pub(super) struct Thread {
    /// How it stands.
    pub(super) visible: Arc<Visible>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

/// The replication keys of a profile; none where nothing is shared.
///
/// # Errors
/// When the key file cannot be used.
pub(super) fn keys(profile: &profile::Profile) -> Result<Vec<ReplicationKey>, Failure> {
    let Some(with) = &profile.replication else {
        return Ok(Vec::new());
    };
    let epochs = profile::keys::load_replication(&with.keys)
        .map_err(|error| Failure::new(error.to_string(), error.remedy()))?;
    let key = |epoch: &profile::keys::ReplicationEpoch| ReplicationKey {
        not_before_s: epoch.not_before_s,
        secret: epoch.secret,
    };
    Ok(epochs.iter().map(key).collect())
}

impl Plan {
    /// The plan, and the workers' ends of its rings. `mtu_bytes` is that of the replication port,
    /// `places` the size of each worker's session table.
    pub(super) fn new(
        with: &Replication,
        keys: Vec<ReplicationKey>,
        mtu_bytes: u16,
        workers: usize,
        shard: Shard,
        places: u32,
        wall: &WallClock,
    ) -> Result<(Self, Vec<WorkerPeers>), Failure> {
        let mut random = [0; 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Failure::new("the system gives no random numbers", ""))?;
        let boot = BootId {
            started_ms: wall.now().unix_ms,
            random: u64::from_ne_bytes(random),
        };
        let address = Address::from(with.address);
        let peers = with.peers.iter().map(|peer| PeerConfig {
            id: PeerId(peer.number),
            address: peer.address.map(Address::from),
        });
        let mut config = ReplicatorConfig::new(PeerId(with.own), boot);
        config.peers = peers.collect();
        config.transport = match with.group {
            Some(_) => Transport::Group,
            None => Transport::PointToPoint,
        };
        config.keys = keys;
        config.workers = workers;
        config.shard = Some(shard);
        config.table_places = places;
        config.payload_bytes =
            usize::from(mtu_bytes).saturating_sub(header_bytes(address.family()));
        config.hello_ns = u64::from(with.hello_ms) * 1_000_000;
        config.dead_ns = u64::from(with.dead_ms) * 1_000_000;
        let known = config.peers.iter();
        let addresses = Addresses {
            own: vec![address],
            peers: known
                .filter_map(|peer| Some((peer.id, peer.address?)))
                .collect(),
            group: with.group.map(Address::from),
            udp_port: with.udp_port,
        };
        let (desks, ends) = (0..workers).map(|_| desk()).unzip();
        let plan = Self {
            config,
            addresses,
            desks,
        };
        Ok((plan, ends))
    }

    /// Starts the thread.
    pub(super) fn start(self, wall: &Arc<WallClock>) -> Result<Thread, Failure> {
        let (orders, received) = channel::bounded(ORDERS);
        let visible = Arc::new(Visible::default());
        let (wall, shown) = (Arc::clone(wall), Arc::clone(&visible));
        let body = move || {
            // Without it a sleep takes twice as long, and nothing else is lost.
            if let Err(error) = set_timer_slack_ns(1) {
                tracing::warn!("the replication thread sleeps longer than it should: {error}");
            }
            let replicator = Replicator::new(self.config, wall.now());
            let exchange = Exchange::new(replicator, self.desks, self.addresses);
            run(Carrier::new(exchange, shown), &wall, &received);
        };
        let thread = thread::Builder::new()
            .name("replication".into())
            .spawn(body)
            .map_err(|error| {
                Failure::new(
                    format!("the replication thread cannot be started: {error}"),
                    "",
                )
            })?;
        Ok(Thread {
            visible,
            orders,
            thread,
        })
    }
}

impl Thread {
    /// Puts other keys in force.
    pub(super) fn set_keys(&self, keys: Vec<ReplicationKey>) {
        if self.orders.try_send(Order::Keys(keys)).is_err() {
            tracing::error!("the replication thread takes no keys; restart the daemon");
        }
    }

    /// Tells the other guards that this one leaves, while the workers still run.
    pub(super) fn leave(self) {
        let Self { orders, thread, .. } = self;
        // A thread that has ended has nothing left to say.
        let _ = orders.try_send(Order::Leave);
        drop(orders);
        if thread.join().is_err() {
            tracing::error!("the replication thread panicked");
        }
    }
}

/// Turns until it is told to leave, and then until the last words are sent.
fn run(mut carrier: Carrier, wall: &WallClock, orders: &Receiver<Order>) {
    let mut empty = 0_u32;
    loop {
        let time = wall.now();
        match orders.try_recv() {
            Ok(Order::Keys(keys)) => carrier.set_keys(time, &keys),
            Ok(Order::Leave) | Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {}
        }
        empty = match carrier.turn(time) {
            0 => empty.saturating_add(1),
            _ => 0,
        };
        rest(&carrier, empty, time.now_ns);
    }
    carrier.leave();
    let began_ns = wall.now().now_ns;
    loop {
        let time = wall.now();
        let served = carrier.turn(time);
        let waited = Duration::from_nanos(time.now_ns.saturating_sub(began_ns));
        if (served == 0 && carrier.has_left()) || waited > LEAVE_LIMIT {
            break;
        }
        thread::sleep(SLEEP);
    }
}

fn rest(carrier: &Carrier, empty: u32, now_ns: u64) {
    if empty < SPINS {
        std::hint::spin_loop();
    } else if empty < YIELDS {
        thread::yield_now();
    } else {
        let due = Duration::from_nanos(carrier.deadline_ns().saturating_sub(now_ns));
        thread::sleep(due.clamp(SHORTEST, SLEEP));
    }
}
