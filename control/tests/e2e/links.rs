//! Kernel TCP across the guard and a bad link.

use std::time::Duration;

use lab::Options;
use lab::profile::Profile;
use simulator::LinkSettings;

use crate::common::{FAMILIES, Guarded};

const MS: u64 = 1_000_000;

fn over(link: LinkSettings) -> Guarded {
    let options = Options {
        link: Some(link),
        ..Options::default()
    };
    Guarded::start(options, &Profile::default())
}

#[test]
fn bodies_come_whole_over_a_link_that_loses_reorders_and_repeats() {
    let mut guarded = over(LinkSettings {
        rate_bits_per_second: 100_000_000,
        delay_ns: 10 * MS,
        jitter_ns: 2 * MS,
        loss: 0.005,
        reorder: 0.005,
        duplicate: 0.005,
        ..LinkSettings::default()
    });
    for family in FAMILIES {
        guarded.fetch_small(family, 60, 20);
        guarded.fetch_large(family, Duration::from_secs(90));
    }
    let report = guarded.lab.outside_link.take().unwrap().stop().unwrap();
    for direction in [report.forward, report.backward] {
        assert!(
            direction.lost > 0 && direction.duplicated > 0 && direction.reordered > 0,
            "{report:?}"
        );
    }
    guarded.audit();
}

#[test]
fn a_long_link_is_filled_which_takes_a_scaled_window() {
    let guarded = over(LinkSettings {
        rate_bits_per_second: 100_000_000,
        delay_ns: 50 * MS,
        queue_bytes: 2_000_000,
        ..LinkSettings::default()
    });
    for family in FAMILIES {
        let large = guarded.fetch_large(family, Duration::from_secs(60));
        // With 64 kB a round trip of 100 ms, eight megabytes would take 13 s.
        assert!(large.took < Duration::from_secs(6), "{large:?}");
    }
    guarded.audit();
}
