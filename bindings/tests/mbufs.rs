//! Pools and mbufs: every one that is taken comes back, and their lengths keep to their buffers.

mod common;

use std::sync::Barrier;

use arrayvec::ArrayVec;
use bindings::eal;
use bindings::mbuf::{ChecksumStatus, free_burst};
use bindings::{Mbuf, Mempool};
use common::pool;

#[test]
fn a_dropped_mbuf_goes_back() {
    let pool = pool("drop", 255);
    assert_eq!(
        (pool.size(), pool.available(), pool.in_use()),
        (255, 255, 0)
    );
    let (first, second) = (
        pool.allocate().expect("free"),
        pool.allocate().expect("free"),
    );
    assert_eq!(pool.in_use(), 2);
    drop(first);
    assert_eq!(pool.in_use(), 1);
    drop(second);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_burst_is_allocated_whole_or_not_at_all() {
    let pool = pool("burst", 63);
    let mut burst = ArrayVec::<Mbuf, 48>::new();
    assert!(pool.allocate_burst(&mut burst, 40));
    assert!(!pool.allocate_burst(&mut burst, 9), "no room in the burst");
    let mut more = ArrayVec::<Mbuf, 48>::new();
    assert!(
        !pool.allocate_burst(&mut more, 24),
        "one more than the pool still has"
    );
    assert_eq!((burst.len(), more.len(), pool.in_use()), (40, 0, 40));
    assert!(
        pool.allocate_burst(&mut more, 23),
        "all that the pool still has"
    );
    assert!(pool.allocate().is_none(), "empty");
    assert!(pool.allocate_burst(&mut more, 0), "nothing is always there");
    free_burst(&mut burst);
    assert_eq!((burst.len(), pool.in_use()), (0, 23));
    drop(more);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_empty_burst_is_freed_like_any_other() {
    let mut burst = ArrayVec::<Mbuf, 4>::new();
    free_burst(&mut burst);
    assert!(burst.is_empty());
}

#[test]
fn lengths_keep_to_the_buffer() {
    let pool = pool("lengths", 63);
    let mut mbuf = pool.allocate().expect("free");
    let (headroom, tailroom) = (mbuf.headroom(), mbuf.tailroom());
    assert_eq!((mbuf.len(), tailroom), (0, 2048));
    assert!(headroom >= 64, "room for a tunnel's headers");
    assert!(mbuf.is_contiguous());

    assert!(mbuf.set_data(b"payload"));
    assert!(mbuf.prepend(4));
    mbuf.data_mut()[..4].copy_from_slice(b"head");
    assert_eq!(
        (mbuf.data(), mbuf.headroom()),
        (&b"headpayload"[..], headroom - 4)
    );
    assert!(mbuf.trim_front(2) && mbuf.set_len(5));
    assert_eq!((mbuf.data(), mbuf.len()), (&b"adpay"[..], 5));
    assert_eq!(mbuf.tailroom(), tailroom - 3);

    assert!(!mbuf.trim_front(6) && !mbuf.prepend(headroom) && !mbuf.set_len(1 << 16));
    assert_eq!(
        (mbuf.data(), mbuf.len()),
        (&b"adpay"[..], 5),
        "a refusal changes nothing"
    );
    let most = mbuf.len() + mbuf.tailroom();
    assert!(!mbuf.set_len(most + 1) && mbuf.set_len(most));
    assert_eq!(mbuf.tailroom(), 0);
    assert!(mbuf.trim_front(most) && mbuf.data().is_empty());
    assert!(!mbuf.set_data(&[0; 1]), "no room is left behind the data");
    assert!(mbuf.prepend(mbuf.headroom()) && mbuf.headroom() == 0);
    assert_eq!(mbuf.len(), headroom + 2048);
}

#[test]
fn a_recycled_mbuf_is_as_new() {
    let pool = pool("recycled", 1);
    let mut mbuf = pool.allocate().expect("the only one");
    let headroom = mbuf.headroom();
    assert!(mbuf.set_len(100) && mbuf.prepend(14));
    drop(mbuf);
    let mbuf = pool.allocate().expect("the same one");
    assert_eq!(
        (mbuf.len(), mbuf.headroom(), mbuf.is_contiguous()),
        (0, headroom, true)
    );
    assert_eq!(mbuf.ip_checksum(), ChecksumStatus::Unknown);
    assert_eq!(mbuf.l4_checksum(), ChecksumStatus::Unknown);
    assert_eq!((mbuf.rss_hash(), mbuf.stripped_vlan()), (None, None));
}

/// Allocates and frees, some of it by the single mbuf.
fn churn(pool: &Mempool, rounds: usize) {
    for _ in 0..rounds {
        let mut burst = ArrayVec::<Mbuf, 32>::new();
        assert!(pool.allocate_burst(&mut burst, 32));
        burst.truncate(16);
        free_burst(&mut burst);
        drop(pool.allocate().expect("the pool is large enough for all"));
    }
}

#[test]
fn threads_with_and_without_a_cache_share_a_pool() {
    let pool = pool("shared", 4095);
    let begin = Barrier::new(3);
    std::thread::scope(|scope| {
        for registered in [true, true, false] {
            let (pool, begin) = (&pool, &begin);
            scope.spawn(move || {
                let registration = registered.then(|| eal::register_thread().expect("EAL runs"));
                assert_eq!(eal::is_registered(), registered);
                begin.wait();
                churn(pool, 2_000);
                drop(registration);
            });
        }
    });
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_impossible_pool_is_refused_with_its_name() {
    let config = bindings::mempool::MempoolConfig {
        name: "enormous".into(),
        count: 100_000_000,
        ..Default::default()
    };
    let error = Mempool::new(common::eal(), &config).err().expect("200 GB");
    assert_eq!(
        (error.call(), error.errno()),
        ("rte_pktmbuf_pool_create", 12)
    );
    assert!(
        error
            .to_string()
            .contains("pool enormous of 100000000 mbufs"),
        "{error}"
    );
}
