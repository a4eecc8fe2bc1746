//! One life of EAL: how it starts, what it leaves alone, how it ends.

mod common;

use std::sync::Mutex;

use bindings::eal::{self, LogLevel};
use bindings::mempool::MempoolConfig;
use bindings::system::Affinity;
use bindings::{Eal, EalConfig, Mempool};
use common::{config, unique};

static LINES: Mutex<Vec<(LogLevel, String)>> = Mutex::new(Vec::new());

fn keep(level: LogLevel, message: &str) {
    LINES
        .lock()
        .expect("no panic in here")
        .push((level, message.to_owned()));
}

/// Which signals this thread blocks and the process ignores and catches.
fn signals() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    let lines = status.lines().filter(|line| {
        ["SigBlk", "SigIgn", "SigCgt"]
            .iter()
            .any(|name| line.starts_with(name))
    });
    lines.map(str::to_owned).collect()
}

fn runtime_folder(config: &EalConfig) -> std::path::PathBuf {
    std::path::Path::new("/var/run/dpdk").join(&config.file_prefix)
}

#[test]
fn starts_once_changes_nothing_of_the_caller_and_ends() {
    let error = eal::register_thread().err().expect("EAL does not run yet");
    assert_eq!(
        (error.call(), error.errno()),
        ("rte_thread_register", libc::ENODEV)
    );

    eal::set_log_sink(keep).expect("a stream");
    let cores = Affinity::current().expect("own cores");
    let signals_before = signals();
    let config = EalConfig {
        log_level: LogLevel::Debug,
        virtual_devices: vec!["net_null_early".into()],
        ..config("life")
    };
    let eal = Eal::init(&config).expect("EAL starts");

    assert_eq!(
        Affinity::current().expect("own cores").cores(),
        cores.cores()
    );
    assert_eq!(signals(), signals_before);
    assert!(
        !runtime_folder(&config).exists(),
        "nothing is left for a killed process to leave"
    );
    {
        let lines = LINES.lock().expect("no panic in the sink");
        assert!(
            lines
                .iter()
                .any(|(_, line)| line.starts_with("EAL: Selected IOVA mode"))
        );
        assert!(
            lines
                .iter()
                .all(|(_, line)| !line.contains('\n') && !line.is_empty())
        );
        assert!(
            lines.iter().all(|(level, _)| *level >= LogLevel::Warning),
            "{lines:?}"
        );
    }
    bindings::Port::find(&eal, "net_null_early").expect("made at the start");

    let second = Eal::init(&config).err().expect("once in a process");
    assert_eq!(
        (second.call(), second.errno()),
        ("rte_eal_init", libc::EALREADY)
    );

    let registered = eal::register_thread().expect("EAL runs");
    assert!(eal::is_registered());
    assert!(eal::register_thread().is_err(), "once on a thread");
    drop(registered);
    assert!(!eal::is_registered());

    // An mbuf that outlives everything else keeps the memory under it.
    let pool = Mempool::new(
        &eal,
        &MempoolConfig {
            count: 63,
            ..Default::default()
        },
    );
    let mut mbuf = pool
        .expect("memory")
        .allocate()
        .expect("a whole pool is free");
    assert!(mbuf.set_data(b"still here"));
    drop(eal);
    assert_eq!(mbuf.data(), b"still here");
    drop(mbuf);
    assert!(eal::register_thread().is_err(), "EAL's last holder is gone");
    assert!(Eal::init(&config).is_err(), "DPDK cannot be started again");
}

#[test]
fn the_arguments_are_told() {
    let config = EalConfig {
        program: "tidegate".into(),
        file_prefix: unique("told"),
        memory_mib: 64,
        main_core: 3,
        pci: true,
        pci_allow: vec!["0000:03:00.0".into()],
        virtual_devices: vec!["net_null0".into()],
        extra: vec!["--iova-mode=va".into()],
        ..EalConfig::default()
    };
    let small = config.arguments().join(" ");
    assert!(small.starts_with("tidegate --lcores=0@3 "), "{small}");
    assert!(small.contains("--no-huge --no-shconf -m 64 -a 0000:03:00.0 --vdev=net_null0"));
    assert!(
        small.ends_with("--iova-mode=va") && !small.contains("--no-pci"),
        "{small}"
    );
    let huge = EalConfig {
        huge_pages: true,
        pci: false,
        memory_mib: 0,
        ..config
    };
    let huge = huge.arguments().join(" ");
    assert!(huge.contains("--in-memory --no-pci --vdev="), "{huge}");
    assert!(!huge.contains("--no-huge") && !huge.contains("-m ") && !huge.contains("-a "));
}
