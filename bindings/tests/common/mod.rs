//! What the tests share: one EAL for a test process, without huge pages or PCI.

#![allow(dead_code)] // Each test file uses its own part of it.

use std::sync::OnceLock;

use bindings::mempool::MempoolConfig;
use bindings::port::PortConfig;
use bindings::{Eal, EalConfig, Mempool, Port};

/// A name that no other process running these tests uses.
pub(crate) fn unique(name: &str) -> String {
    format!("tidegate-test-{name}-{}", std::process::id())
}

pub(crate) fn config(name: &str) -> EalConfig {
    EalConfig {
        file_prefix: unique(name),
        memory_mib: 128,
        ..EalConfig::default()
    }
}

/// The process's EAL. The tests of one file run as threads of one process, which can start it
/// only once.
pub(crate) fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| Eal::init(&config("shared")).expect("EAL starts without huge pages"))
}

pub(crate) fn pool(name: &str, count: u32) -> Mempool {
    pool_of(eal(), name, count)
}

pub(crate) fn pool_of(eal: &Eal, name: &str, count: u32) -> Mempool {
    let config = MempoolConfig {
        name: name.into(),
        count,
        ..MempoolConfig::default()
    };
    Mempool::new(eal, &config).expect("memory for a pool")
}

pub(crate) fn started(eal: &Eal, device: &str, config: &PortConfig, pool: &Mempool) -> Port {
    let id = Port::attach(eal, device).expect("the device is there");
    let mut port = Port::configure(eal, id, config, pool).expect("configured");
    port.start().expect("started");
    port
}
