//! Rings between threads: in order, bounded, and freed with what is in them.

mod common;

use arrayvec::ArrayVec;
use bindings::Mbuf;
use bindings::ring::MbufRing;
use common::{eal, pool};

fn numbered(pool: &bindings::Mempool, first: u32, count: usize) -> ArrayVec<Mbuf, 32> {
    let mut burst = ArrayVec::new();
    assert!(pool.allocate_burst(&mut burst, count));
    for (number, mbuf) in (first..).zip(&mut burst) {
        assert!(mbuf.set_data(&number.to_be_bytes()));
    }
    burst
}

fn number(mbuf: &Mbuf) -> u32 {
    u32::from_be_bytes(mbuf.data().try_into().expect("four bytes"))
}

#[test]
fn a_full_ring_leaves_the_rest_in_order() {
    let pool = pool("full", 255);
    let (mut sender, mut receiver) = MbufRing::new(eal(), "full", 16, None).expect("memory");
    let mut burst = numbered(&pool, 0, 24);
    assert_eq!(sender.send_burst(&mut burst), 16, "exactly its capacity");
    assert_eq!(
        burst.iter().map(number).collect::<Vec<_>>(),
        (16..24).collect::<Vec<_>>()
    );
    assert_eq!(sender.send_burst(&mut burst), 0);
    assert_eq!((sender.count(), receiver.count(), burst.len()), (16, 16, 8));

    let mut received = ArrayVec::<Mbuf, 10>::new();
    assert_eq!(receiver.receive_burst(&mut received), 10);
    assert_eq!(
        receiver.receive_burst(&mut received),
        0,
        "no room in the burst"
    );
    assert_eq!(
        received.iter().map(number).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!(sender.send_burst(&mut burst), 8);
    drop(received);

    // Fourteen are in the ring, and the pool has them back when both ends are gone.
    assert_eq!(pool.in_use(), 14);
    drop(sender);
    assert_eq!(pool.in_use(), 14);
    drop(receiver);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn two_threads_see_one_order() {
    const COUNT: u32 = 100_000;
    let pool = pool("threads", 1023);
    let (mut sender, mut receiver) = MbufRing::new(eal(), "threads", 128, None).expect("memory");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while next < COUNT {
                let mut burst = numbered(&pool, next, 32.min((COUNT - next) as usize));
                next += burst.len() as u32;
                while !burst.is_empty() {
                    if sender.send_burst(&mut burst) == 0 {
                        std::thread::yield_now();
                    }
                }
            }
        });
        let mut expected = 0;
        let mut burst = ArrayVec::<Mbuf, 20>::new();
        while expected < COUNT {
            if receiver.receive_burst(&mut burst) == 0 {
                std::thread::yield_now();
            }
            for mbuf in burst.drain(..) {
                assert_eq!(number(&mbuf), expected);
                expected += 1;
            }
        }
    });
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    let error = MbufRing::new(eal(), "odd", 100, None)
        .err()
        .expect("refused");
    assert!(
        error.to_string().contains("making ring odd of 100 mbufs"),
        "{error}"
    );
}
