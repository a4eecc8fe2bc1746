//! The lab of several guards, with kernels in their places: every packet of both directions takes
//! a path by chance.

use std::time::Duration;

use lab::Forwarder;
use lab::address::{SERVER, client};
use lab::curl::{self, Request};
use lab::server::Site;
use lab::sprayed::Sprayed;

/// Fetches many small bodies and a larger one, and tells how many packets each guard was handed
/// meanwhile: from the clients, from the server.
fn fetch(lab: &Sprayed, family: usize) -> [Vec<u64>; 2] {
    let before = lab.handed().unwrap();
    let request = |body, count| Request {
        body,
        server: SERVER[family],
        port: 80,
        client: client(3)[family],
        count,
        parallel: 20,
        limit: Duration::from_secs(20),
    };
    let site = &lab.server_process.site;
    let folder = lab.scratch.file("bodies");
    let small = curl::fetch(&lab.clients, &request(&site.small, 200), &folder);
    small.unwrap().whole().unwrap();
    let large = curl::fetch_large(&lab.clients, &request(&site.large, 1));
    assert_eq!(large.unwrap().bytes, 4 << 20);
    let after = lab.handed().unwrap();
    [0, 1].map(|direction| {
        let pairs = after.iter().zip(&before);
        pairs.map(|(a, b)| a[direction] - b[direction]).collect()
    })
}

#[test]
fn each_guard_is_handed_its_share_and_a_withdrawn_one_nothing() {
    let _exclusive = lab::exclusive().unwrap();
    let site = Site::write(4 << 20).unwrap();
    let lab = Sprayed::build(3, Forwarder::Kernel, &site).unwrap();
    for family in [0, 1] {
        for counts in fetch(&lab, family) {
            let all: u64 = counts.iter().sum();
            // A third of a thousand and more: a quarter is more than five standard deviations away.
            assert!(all > 1000, "{counts:?}");
            assert!(counts.iter().all(|&count| count > all / 4), "{counts:?}");
        }
    }
    lab.spray_over(&[1, 3]).unwrap();
    for counts in fetch(&lab, 0) {
        // Neighbours may still be looked for.
        assert!(counts[1] < 10, "{counts:?}");
        assert!(counts[0] > 300 && counts[2] > 300, "{counts:?}");
    }
    lab.spray_over(&[2]).unwrap();
    for counts in fetch(&lab, 1) {
        assert!(counts[0] < 10 && counts[2] < 10, "{counts:?}");
    }
    assert!(lab.spray_over(&[]).is_err());
}
