//! What runs of guards that share are drawn from.

use std::net::IpAddr;

use dataplane::guard::config::{Share, Sharing};

use super::{MS, QUIET_NS, SECOND_NS, Shared, Trouble, guard_settings};
use crate::appliance::ApplianceSettings;
use crate::host::{Close, HostSettings, Pace, Pause, Plan, Way};
use crate::internet::{Attack, Campaign};
use crate::link::LinkSettings;
use crate::random::Random;
use crate::scenario::manner;
use crate::site::{self, Family};

/// The port of a client's connections that follow each other, counted from its first one.
const CHAIN_PORT: u16 = 50;

/// Connections of a crowd, and the port of the first, counted from its client's first one.
const CROWD: u16 = 20;
const CROWD_PORT: u16 = 60;

/// A worker's room for sessions with which every connection of a run succeeds.
const ROOM_FOR_ALL: u32 = 64;

/// How long a cut is that a client's patience may not outlast.
const LONG_CUT_NS: u64 = 10 * SECOND_NS;

const CLOSES: [Close; 5] = [
    Close::ClientFirst,
    Close::ServerFirst,
    Close::Both,
    Close::ClientHalf,
    Close::ServerHalf,
];

fn pick<T: Copy>(random: &mut Random, list: &[T]) -> T {
    list[random.below(list.len() as u64) as usize]
}

/// Draws a run.
pub(super) fn shared(seed: u64) -> Shared {
    let mut random = Random::new(seed);
    let guards = 2 + random.below(2) as usize;
    let share = match random.below(4) {
        0 => Share::Begun,
        1 => Share::Deferred,
        _ => Share::Established,
    };
    let sharing = Sharing {
        share,
        ..Sharing::default()
    };
    let is_harsh = random.chance(0.5);
    let sync = sync_link(&mut random, is_harsh);
    let is_chained = share == Share::Established && !is_harsh && random.chance(0.6);
    let link = LinkSettings {
        delay_ns: match is_chained {
            true => pick(&mut random, &[20_000, 200_000, 5 * MS]),
            false => random.below(20 * MS),
        },
        ..LinkSettings::default()
    };
    // Guards that hear of each other so late need some time to know what there is, and who does
    // not know of an end cannot know of what follows.
    let is_calm = sync.delay_ns > 100 * MS || is_chained;
    let mut troubles = match is_calm {
        true => Vec::new(),
        false => draw_troubles(&mut random, guards),
    };
    let is_deferred = share == Share::Deferred
        || troubles
            .iter()
            .any(|(_, trouble)| matches!(trouble, Trouble::Shares(Share::Deferred, _)));
    if is_deferred && sync.loss > 0.0 {
        // A word to one keeper alone is lost with who said it.
        troubles.retain(|(_, trouble)| !trouble.is_death());
    }
    // Clocks that agree, or nearly.
    let behind_s: Vec<u64> = (0..guards)
        .map(|_| pick(&mut random, &[0, 0, 1, 5]))
        .collect();
    let sizes = sizes(seed, guards);
    let settings = |guard: usize| ApplianceSettings {
        workers: 1 + (seed as usize + guard) % 2,
        capacity: sizes[guard],
        unix_s: site::UNIX_S - behind_s[guard],
        ..guard_settings(guard, guards, 1, sharing)
    };
    Shared {
        seed,
        guards: (0..guards).map(settings).collect(),
        sync: LinkSettings {
            reorder: if is_chained { 0.0 } else { sync.reorder },
            ..sync
        },
        servers: vec![host(&mut random, 0, true)],
        clients: (0..1 + random.below(3) as u8)
            .map(|number| client(&mut random, number, is_chained, &troubles))
            .map(|(host, plans)| (host, excuse(&sizes, &troubles, plans)))
            .collect(),
        link,
        troubles,
        campaigns: vec![Campaign {
            attack: Attack::Blind,
            start_ns: SECOND_NS,
            end_ns: QUIET_NS + 5 * SECOND_NS,
            every_ns: pick(&mut random, &[50 * MS, 200 * MS, 500 * MS]),
        }],
        intrusion_every_ns: pick(&mut random, &[200 * MS, SECOND_NS]),
    }
}

/// How many sessions each worker of each guard has room for: in some runs one guard has much less
/// room than its peers, and few sessions of a crowd fit.
fn sizes(seed: u64, guards: usize) -> Vec<u32> {
    let mut random = Random::new(seed ^ 0x517e);
    let mut sizes = vec![site::CAPACITY; guards];
    if random.chance(0.2) {
        sizes[random.below(guards as u64) as usize] = pick(&mut random, &[4, 8, 16, ROOM_FOR_ALL]);
    }
    sizes
}

/// Which connections need not succeed. Where a guard has no room for all sessions, some are refused for
/// so long that their cookies age; and one that begins in a long cut may meet, each time, the guard
/// that cannot hear of it, until its client's or its opener's patience ends.
fn excuse(sizes: &[u32], troubles: &[(u64, Trouble)], mut plans: Vec<Plan>) -> Vec<Plan> {
    let have_room = sizes.iter().all(|&size| size >= ROOM_FOR_ALL);
    let begins_in_cut = |plan: &Plan| {
        troubles.iter().any(|&(at_ns, trouble)| {
            let cut_ns = trouble.cut_ns();
            cut_ns > LONG_CUT_NS && (at_ns..at_ns + cut_ns).contains(&plan.start_ns)
        })
    };
    for plan in &mut plans {
        plan.must_succeed &= have_room && !begins_in_cut(plan);
    }
    plans
}

fn sync_link(random: &mut Random, is_harsh: bool) -> LinkSettings {
    let delay_ms = pick(random, &[0, 2, 40, 1000]);
    LinkSettings {
        delay_ns: if is_harsh {
            delay_ms * MS
        } else {
            random.below(MS)
        },
        jitter_ns: random.below(MS),
        loss: if is_harsh {
            pick(random, &[0.0, 0.05, 0.3])
        } else {
            0.0
        },
        reorder: pick(random, &[0.0, 0.1]),
        reorder_delay_ns: 5 * MS,
        duplicate: pick(random, &[0.0, 0.1]),
        ..LinkSettings::default()
    }
}

fn client(
    random: &mut Random,
    number: u8,
    is_chained: bool,
    troubles: &[(u64, Trouble)],
) -> (HostSettings, Vec<Plan>) {
    let mut settings = host(random, number, false);
    let mut plans: Vec<Plan> = (0..1 + random.below(5) as u16)
        .map(|plan| draw_plan(random, number, plan))
        .collect();
    // While a guard drains, others come.
    for &(at_ns, trouble) in troubles {
        if let Trouble::Drain(_, drain_ns, _) = trouble {
            for _ in 0..4 {
                let plan = draw_plan(random, number, plans.len() as u16);
                plans.push(Plan {
                    start_ns: at_ns + random.below(drain_ns),
                    up_bytes: 4 + random.below(1000),
                    down_bytes: random.below(1000),
                    pause: None,
                    ..plan
                });
            }
        }
    }
    if random.chance(0.4) {
        plans.extend(crowd(random, number, troubles));
    }
    if is_chained {
        // Its last acknowledgement must be out when the next connection begins.
        settings.ack_delay_ns = None;
        plans.extend(chain(random, number));
    }
    (settings, plans)
}

/// Many short connections, most of them about the time when something happens to the guards.
fn crowd(random: &mut Random, client: u8, troubles: &[(u64, Trouble)]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for number in 0..CROWD {
        let plan = draw_plan(random, client, CROWD_PORT + number);
        let at_ns = match troubles.len() {
            0 => plan.start_ns,
            count => {
                let (at_ns, _) = troubles[random.below(count as u64) as usize];
                at_ns.saturating_sub(SECOND_NS / 2) + random.below(4 * SECOND_NS)
            }
        };
        plans.push(Plan {
            start_ns: at_ns.min(QUIET_NS - 4 * SECOND_NS - random.below(2 * SECOND_NS)),
            up_bytes: 4 + random.below(500),
            down_bytes: random.below(500),
            client_pace: Pace::EAGER,
            server_pace: Pace::EAGER,
            pause: None,
            ..plan
        });
    }
    plans
}

/// Connections of the very same ports, each begun as soon as the client's end of the one before it
/// is over.
fn chain(random: &mut Random, client: u8) -> Vec<Plan> {
    let first = draw_plan(random, client, CHAIN_PORT);
    let link = |place: u64, random: &mut Random| Plan {
        after_ns: (place > 0).then(|| random.below(2) * random.below(5 * MS)),
        up_bytes: 4 + pick(random, &[0, 100, 3000]),
        down_bytes: pick(random, &[0, 100, 3000]),
        close: pick(random, &CLOSES),
        client_pace: Pace::EAGER,
        server_pace: Pace::EAGER,
        pause: None,
        ..first.clone()
    };
    (0..2 + random.below(5))
        .map(|place| link(place, random))
        .collect()
}

fn host(random: &mut Random, number: u8, is_server: bool) -> HostSettings {
    let (host, side) = if is_server {
        (
            site::SERVER_HOST + number,
            site::inside_address as fn(_, _) -> _,
        )
    } else {
        (
            site::CLIENT_HOST + number,
            site::outside_address as fn(_, _) -> _,
        )
    };
    let families = [(Family::V4, 24), (Family::V6, 64)];
    let manner = manner(random);
    HostSettings {
        mac: [2, 0, 0, 0, 9 + u8::from(is_server), host],
        // Guards ask for neighbours from their link-local addresses.
        addresses: families
            .map(|(family, length)| (side(family, host), length))
            .into_iter()
            .chain([(link_local(is_server, host), 64)])
            .collect(),
        gateways: families
            .map(|(family, _)| side(family, site::APPLIANCE_HOST))
            .to_vec(),
        mtu_bytes: 1500,
        timestamps: is_server || random.chance(0.7),
        receive_bytes: pick(random, &[20_000, 64_000]).max(manner.smallest_buffer()),
        send_bytes: 64_000,
        ack_delay_ns: pick(random, &[None, Some(10 * MS)]),
        nagle: random.chance(0.5),
        manner,
        listens: if is_server {
            vec![site::SERVICE_PORT]
        } else {
            Vec::new()
        },
        seed: random.next_u64(),
    }
}

fn link_local(is_server: bool, host: u8) -> IpAddr {
    let side = 9 + u16::from(is_server);
    IpAddr::from([0xfe80, 0, 0, 0, 0, 0, side, u16::from(host)])
}

/// A connection that must succeed, whatever befalls the guards.
fn draw_plan(random: &mut Random, client: u8, number: u16) -> Plan {
    let family = pick(random, &[Family::V4, Family::V6]);
    // Two ends of the hosts' stack that both repeat much ignore each other, and packets that wait
    // for a peer's word are packets out of order.
    let (up_bytes, down_bytes) = match random.below(3) {
        0 => (4 + random.below(3000), random.below(3000)),
        1 => (4, 100_000),
        _ => (60_000, 0),
    };
    let slow = Pace {
        chunk_bytes: 2000,
        every_ns: 100 * MS,
    };
    // Some are silent for so long that they are there when all is well again.
    let span_ns = match random.chance(0.3) {
        true => 30 * SECOND_NS,
        false => 2 * SECOND_NS + random.below(6 * SECOND_NS),
    };
    let pause = random.chance(0.3).then(|| Pause {
        by: pick(random, &[Way::Up, Way::Down]),
        after_bytes: pick(random, &[0, 4, 1000]),
        span_ns,
    });
    Plan {
        start_ns: SECOND_NS + random.below(QUIET_NS - 5 * SECOND_NS),
        after_ns: None,
        client: site::outside_address(family, site::CLIENT_HOST + client),
        client_port: 40_000 + 100 * u16::from(client) + number,
        server: site::inside_address(family, site::SERVER_HOST),
        server_port: site::SERVICE_PORT,
        up_bytes,
        down_bytes,
        close: pick(random, &CLOSES),
        client_pace: pick(random, &[Pace::EAGER, slow]),
        server_pace: pick(random, &[Pace::EAGER, slow]),
        pause,
        must_succeed: true,
        must_close: false,
    }
}

/// The hosts know the first guard's address: it never goes.
fn draw_troubles(random: &mut Random, guards: usize) -> Vec<(u64, Trouble)> {
    let count = random.below(4);
    let mut troubles = Vec::new();
    // One after the other, so that one guard at least knows everything.
    let mut at_ns = SECOND_NS;
    for _ in 0..count {
        at_ns += random.below(8 * SECOND_NS);
        let (trouble, span_ns) = draw_trouble(random, guards);
        // All is well again in time for the guards to agree.
        if at_ns + span_ns > QUIET_NS - SECOND_NS {
            break;
        }
        troubles.push((at_ns, trouble));
        at_ns += span_ns + 3 * SECOND_NS;
    }
    troubles
}

/// What happens, and how long it lasts.
fn draw_trouble(random: &mut Random, guards: usize) -> (Trouble, u64) {
    let span_ns = MS + random.below(3 * SECOND_NS);
    let mortal = 1 + random.below(guards as u64 - 1) as usize;
    let any = random.below(guards as u64) as usize;
    let other = (any + 1 + random.below(guards as u64 - 1) as usize) % guards;
    let long_ns = pick(random, &[span_ns, span_ns, span_ns + 12 * SECOND_NS]);
    let apart_ns = random.below(2 * SECOND_NS);
    match random.below(11) {
        0 => (Trouble::Crash(mortal, span_ns), span_ns),
        1 => (Trouble::Leave(mortal, span_ns), span_ns + SECOND_NS),
        2 | 3 => (Trouble::CutOff(any, long_ns), long_ns),
        4 => {
            let drain_ns = 200 * MS + random.below(700 * MS);
            let all_ns = drain_ns + span_ns + SECOND_NS;
            (Trouble::Drain(mortal, drain_ns, span_ns), all_ns)
        }
        5 => (Trouble::Deaf(any, other, long_ns), long_ns),
        6 => (Trouble::Parted(any, other, long_ns), long_ns),
        7 => {
            let delay_ns = pick(random, &[15, 50, 250]) * MS;
            (Trouble::Slow(any, long_ns, delay_ns), long_ns)
        }
        8 => (Trouble::Stall(any, span_ns), span_ns),
        9 => (Trouble::NewKeys(apart_ns), 4 * apart_ns + SECOND_NS),
        _ => {
            let share = pick(random, &[Share::Begun, Share::Deferred, Share::Established]);
            (Trouble::Shares(share, apart_ns), 4 * apart_ns)
        }
    }
}
