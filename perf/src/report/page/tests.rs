use hdrhistogram::Histogram;

use super::*;
use crate::report::history::Figure;
use crate::report::{Cost, FRAMES_PER_S, NS_PER_PACKET, Series, axis};
use crate::trial::Disturbance;

/// A report with something in each section.
fn full() -> (Report, Vec<Run>) {
    let mut report = Report::new(1, false);
    report.devices(["net_memif0,role=client", "net_memif1,role=client"], false);
    report.subject("tidegate", "0.1.0");
    report.subject("testpmd-mac", "DPDK 22.11.11");
    report.parameter(
        "search of ndr",
        crate::search::goal::Goal::ndr().parameters(),
    );
    report.parameter("seed", 1);
    let stolen = Disturbance {
        steal: 0.002,
        stalls: 3,
        longest_stall_us: 412.0,
    };
    for (scenario, cost, goal) in [
        ("loop", 11.2, 1.15),
        ("guard.syn", 96.6, 2.0),
        ("guard.splice.1m", 18.4, 2.6),
    ] {
        let rounds = [cost * 0.97, cost, cost * 1.04];
        let measured = Measured::new(scenario, NS_PER_PACKET, &rounds, 8.1, goal);
        report.add(measured.disturbed(stolen));
        report.cost(Cost::new(
            scenario,
            [
                ("receive", cost * 0.2),
                ("parse", cost * 0.25),
                ("look up", cost * 0.3),
                ("send", cost * 0.25),
            ],
        ));
    }
    report.add(Measured::new(
        "guard.session_bytes",
        "bytes",
        &[96.9],
        1.0,
        128.0,
    ));
    report.add(Measured::alone(
        "guard.setups",
        "sessions_per_second",
        &[1.5e6, 1.69e6, 1.7e6],
    ));
    plots(&mut report);
    let earlier = earlier(&report);
    (report, earlier)
}

fn plots(report: &mut Report) {
    let sizes = [60.0, 124.0, 252.0, 508.0, 1020.0, 1276.0, 1514.0];
    for (subject, rate) in [
        ("tidegate", 4.1e6),
        ("testpmd-mac", 9.2e6),
        ("synproxy", 0.45e6),
    ] {
        let at = |size: f64| rate / (1.0 + size / 900.0);
        let points = sizes.iter().map(|&size| [size, at(size)]).collect();
        report.plot(Series::new(
            "ndr",
            subject,
            axis::FRAME_BYTES,
            FRAMES_PER_S,
            points,
        ));
        report.add(
            Measured::alone("ndr", FRAMES_PER_S, &[at(60.0)])
                .of(subject)
                .of_frames(60.0),
        );
        let mut latency = Histogram::<u64>::new(3).unwrap();
        for n in 1..=200_000_u64 {
            let tail = 1e9 / (200_001 - n) as f64 / rate.sqrt();
            latency.record((1e10 / rate + tail * 100.0) as u64).unwrap();
        }
        report.plot(Series::latency("latency at 50 % of ndr", subject, &latency));
        let floods = [0.0, 1e5, 5e5, 1e6, 2e6, 4e6];
        let success = floods.map(|flood| [flood, 1.0 / (1.0 + (flood / rate).powi(3))]);
        let (x, y) = (axis::FLOOD_PACKETS_PER_S, axis::SUCCESS_RATIO);
        report.plot(Series::new("guard-flood", subject, x, y, success.to_vec()));
        let times = floods.map(|flood| [flood, 0.4 + flood / rate]);
        report.plot(Series::new(
            "guard-flood",
            subject,
            x,
            "ttfb_ms",
            times.to_vec(),
        ));
    }
    let soak = (0..60)
        .map(|n| [f64::from(n) * 10.0, 84.0 + f64::from(n * 7 % 11)])
        .collect();
    report.plot(Series::new(
        "soak",
        "tidegate",
        axis::TIME_S,
        "latency_p99_us",
        soak,
    ));
}

/// A dozen runs, each a little better than the one before.
fn earlier(report: &Report) -> Vec<Run> {
    let run = |n: u32| {
        let worse = 1.5 - f64::from(n) * 0.03;
        let figure = |measured: &Measured| Figure {
            scenario: measured.scenario.clone(),
            subject: measured.subject.clone(),
            metric: measured.metric.clone(),
            frame_bytes: measured.frame_bytes,
            value: measured.value * worse,
            ratio: measured.ratio.map(|ratio| ratio * worse),
        };
        Run {
            machine: report.machine.id.clone(),
            started_unix_s: 1_790_000_000 + u64::from(n) * 90_000,
            commit: "0123456789ab".to_owned(),
            figures: report.results.iter().map(figure).collect(),
        }
    };
    (0..12).map(run).collect()
}

fn text_of(report: &Report) -> String {
    page(report, &[])
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let (report, earlier) = full();
    let page = page(&report, &earlier);
    for outside in [
        "http://", "https://", "src=", "url(", "@import", "<script", "<link",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(
        !page.contains("NaN") && !page.contains("inf "),
        "a value without a place"
    );
    assert!(page.len() < 1 << 20, "{} octets", page.len());
}

#[test]
fn every_section_is_there_and_the_verdict_comes_first() {
    let (report, earlier) = full();
    let page = page(&report, &earlier);
    let titles = [
        "2 of 4 goals met",
        "Read these figures as functional, not line rate. The devices are virtual.",
        "<h2>Goals</h2>",
        "<h2>Cost beside the floor</h2>",
        "<h2>Throughput by frame size</h2>",
        "<h2>Latency by percentile</h2>",
        "<h2>Success under flood</h2>",
        "<h2>Ttfb, under flood</h2>",
        "<h2>Latency p99, over time</h2>",
        "<h2>Where a packet's time goes</h2>",
        "<h2>Beside line rate</h2>",
        "<h2>Other figures</h2>",
        "<h2>Earlier runs of this machine</h2>",
        "<h2>How this was measured</h2>",
    ];
    let places = titles.map(|title| page.find(title).unwrap_or_else(|| panic!("no {title}")));
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn latencies_of_one_subject_at_several_shares_are_one_plot() {
    let mut report = Report::new(0, false);
    let mut latency = Histogram::<u64>::new(3).unwrap();
    latency.record_n(10_000, 1_000).unwrap();
    for share in ["10%", "50%", "90%"] {
        report.plot(Series::latency(
            &format!("latency.64.{share}"),
            TIDEGATE,
            &latency,
        ));
    }
    let page = text_of(&report);
    assert_eq!(page.matches("<h2>Latency by percentile</h2>").count(), 1);
    assert!(page.contains("<b>latency.64</b>") && page.contains("at 50%"));
    report.plot(Series::latency("latency.64.10%", "testpmd-mac", &latency));
    let page = text_of(&report);
    for scenario in ["latency.64.10%", "latency.64"] {
        let title = format!("<h2>Latency by percentile: {scenario}</h2>");
        assert_eq!(page.matches(&title).count(), 1, "{title}");
    }
}

#[test]
fn small_stages_are_drawn_together_and_told_apart() {
    let mut report = Report::new(0, false);
    let stages = [
        ("classify", 50.0),
        ("take_over", 0.1),
        ("handle", 40.0),
        ("timers", 0.2),
    ];
    report.cost(Cost::new("loop", stages));
    report.add(Measured::alone("loop", "ns_per_packet.take_over", &[0.1]));
    let page = text_of(&report);
    assert_eq!(
        page.matches("<div class=\"c").count(),
        3,
        "two stages and the rest"
    );
    assert!(page.contains("title=\"the rest: 0.30 ns\""));
    assert!(page.contains("<td>take over</td>"), "in the numbers");
    assert!(!page.contains("ns_per_packet.take_over"), "not told twice");
}

#[test]
fn figures_that_are_points_of_a_line_are_told_there() {
    let mut report = Report::new(0, false);
    let points = vec![[0.0, 1.0], [1_000.0, 0.5]];
    let (x, y) = (axis::FLOOD_PACKETS_PER_S, axis::SUCCESS_RATIO);
    report.plot(Series::new("guard-flood", TIDEGATE, x, y, points));
    for metric in ["success_ratio_at_1000_per_s", "syns_at_1000_per_s"] {
        report.add(Measured::alone("guard-flood", metric, &[0.5]));
    }
    let page = text_of(&report);
    assert!(page.contains("<h2>Success under flood</h2>"));
    assert!(!page.contains("success_ratio_at_1000") && page.contains("syns_at_1000"));
}

#[test]
fn j3_each_plot_has_a_title_of_its_own_and_labels() {
    let mut report = Report::new(0, false);
    for scenario in ["ndr", "pdr"] {
        let points = vec![[60.0, 1e6], [1514.0, 8e5]];
        report.plot(Series::new(
            scenario,
            TIDEGATE,
            axis::FRAME_BYTES,
            FRAMES_PER_S,
            points,
        ));
    }
    let points = vec![[0.0, 900.0], [1e3, 9e6]];
    report.plot(Series::new(
        "guard-flood",
        TIDEGATE,
        axis::FLOOD_PACKETS_PER_S,
        "first_byte_p99_us",
        points,
    ));
    let page = text_of(&report);
    for title in [
        "<h2>Throughput by frame size: ndr</h2>",
        "<h2>Throughput by frame size: pdr</h2>",
        "<h2>99th percentile of the time to the first byte under flood</h2>",
    ] {
        assert_eq!(page.matches(title).count(), 1, "{title}");
    }
    for label in [
        ">flood, packets/s (logarithmic)<",
        ">time to the first byte (logarithmic)<",
        ">frames/s (logarithmic)<",
        ">bytes of a frame<",
    ] {
        assert!(page.contains(label), "{label}");
    }
}

#[test]
fn j3_a_page_of_a_flood_begins_with_its_conclusion_and_has_its_table() {
    let mut report = Report::new(0, false);
    for (name, value) in [
        ("success_ratio", 1.0),
        ("first_byte_p50_us", 63.0),
        ("first_byte_p99_us", 231.0),
        ("flood_syns_arrived", 0.0),
        ("flood_sent_per_s", 98_700.0),
    ] {
        let metric = format!("{name}_at_100000_per_s");
        report.add(Measured::alone("guard-flood", &metric, &[value]));
    }
    let page = text_of(&report);
    assert!(!page.contains("without goals"), "a conclusion instead");
    assert!(page.contains(
        "tidegate served 100 % of the connections at each flood, up to 98.7 k packets/s, the most \
         that was sent; no spoofed SYN reached the server."
    ));
    assert!(page.contains("<h2>What a flood leaves of legitimate connections</h2>"));
    assert!(page.contains(">98.7 k<") && page.contains(">231 µs<") && page.contains(">100 %<"));
    assert!(!page.contains("_at_100000"), "each figure is told once");
    assert!(
        report
            .table()
            .contains("no spoofed SYN reached the server.")
    );
}

#[test]
fn j3_a_page_of_what_the_tester_limited_says_so_and_counts_no_cores() {
    let mut report = Report::new(0, false);
    let limited = Measured::alone("ndr.64", FRAMES_PER_S, &[8_000.0]).of("kernel");
    report.add(limited.of_frames(60.0).limited_by_tester(true));
    let page = text_of(&report);
    assert!(page.contains("The tester was the limit of ndr.64 of kernel"));
    assert!(!page.contains("GbE") && !page.contains("cores</span>"));
    assert!(page.contains("≥ "), "it could do more");
}

#[test]
fn what_is_missed_is_named_with_its_goal() {
    let (report, _) = full();
    let page = text_of(&report);
    assert!(page.contains("<b>loop</b> 1.38× (goal 1.15×), <b>guard.syn</b> 11.9× (goal 2.00×)"));
    assert!(!page.contains("<b>guard.session_bytes</b>"));
}

#[test]
fn a_report_without_anything_is_still_a_page() {
    let mut report = Report::new(0, false);
    report.partial("interrupted");
    let page = text_of(&report);
    assert!(page.contains("0 figures") && page.contains("Partial: not everything"));
    assert!(page.contains("Not everything was measured: interrupted."));
    assert!(!page.contains("<h2>Goals</h2>"));
}

#[test]
fn names_from_outside_cannot_become_markup() {
    let mut report = Report::new(0, false);
    let hostile = "</style><script>x</script>";
    report.add(
        Measured::alone(hostile, hostile, &[1.0])
            .of(hostile)
            .note(hostile),
    );
    report.parameter(hostile, hostile);
    report.subject(hostile, hostile);
    report.plot(Series::new(
        hostile,
        hostile,
        hostile,
        hostile,
        vec![[1.0, 2.0]],
    ));
    assert!(!text_of(&report).contains("<script"));
}

#[test]
fn a_tester_that_stood_still_makes_the_page_warn() {
    let mut report = Report::new(0, false);
    let stood = |longest_stall_us| Disturbance {
        longest_stall_us,
        ..Disturbance::default()
    };
    report.add(Measured::alone("ndr", FRAMES_PER_S, &[1.0]).disturbed(stood(900.0)));
    assert!(!text_of(&report).contains("stood still"));
    report.add(Measured::alone("ndr", FRAMES_PER_S, &[1.0]).disturbed(stood(44_142.0)));
    assert!(text_of(&report).contains("The tester stood still for up to 44.1 ms."));
}

#[test]
fn steal_makes_the_page_warn() {
    let mut report = Report::new(0, false);
    assert!(!text_of(&report).contains("The machine was disturbed"));
    report.disturbance.steal = 0.25;
    assert!(text_of(&report).contains("others took 25.0 % of its processors' time"));
}
